//! Who waits for the thread that writes files.

use std::sync::mpsc::channel;

use super::*;

/// Event loops look books up, while whoever opens one waits for the thread that writes.
#[test]
fn books_are_found_while_one_waits_to_be_opened() {
    let fixture = Fixture::new();
    let book = fixture.open(&planned());
    fixture.settle(&book);
    let ledger = book.ledger();
    // The thread writes this one, and waits for the sums: the queue fills up.
    let n_bytes = || fs::metadata(&book.path).unwrap().len();
    let before = n_bytes();
    book.expose(exposure("u1", "a", true));
    while n_bytes() == before {
        std::thread::yield_now();
    }
    while book.n_lost.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        book.expose(exposure("u1", "a", true));
    }
    let experiments = fixture.experiments.clone();
    let opener = std::thread::spawn(move || {
        let other = PlannedExperiment {
            name: "other".to_owned(),
            ..planned()
        };
        experiments.open("ml", &other)
    });
    let (found, is_found) = channel();
    let experiments = fixture.experiments.clone();
    let finder = std::thread::spawn(move || {
        while experiments.find(Some("ml"), "other").is_empty() {
            std::thread::yield_now();
        }
        found.send(()).unwrap();
    });
    let was_found = is_found.recv_timeout(Duration::from_secs(60));
    let was_open = opener.is_finished();
    drop(ledger);
    opener.join().unwrap();
    finder.join().unwrap();
    assert_eq!((was_found, was_open), (Ok(()), false));
    fixture.experiments.stop();
}
