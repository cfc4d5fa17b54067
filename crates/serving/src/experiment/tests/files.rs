//! Which files stay, and who waits for the thread that writes them.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;

use super::*;

fn ids(planned: &[&PlannedExperiment]) -> BTreeSet<BookId> {
    let ids = planned.iter().map(|planned| BookId::of("ml", planned));
    ids.collect()
}

fn of_uid(uid: &str) -> PlannedExperiment {
    PlannedExperiment {
        uid: uid.to_owned(),
        ..planned()
    }
}

/// Returns the files of a namespace, by name.
fn names(directory: &Path, namespace: &str) -> Vec<String> {
    let entries = fs::read_dir(directory.join(namespace))
        .into_iter()
        .flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits for what another thread does, a minute at most.
fn until(is_done: impl Fn() -> bool) {
    let mut looks = 0..6_000;
    while !is_done() {
        assert!(
            looks.next().is_some(),
            "it did not come to that in a minute"
        );
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

impl Fixture {
    fn names(&self) -> Vec<String> {
        names(self.directory.path(), "ml")
    }

    /// Keeps these; returns when that is done.
    fn keep(&self, planned: &[&PlannedExperiment], any: &Arc<Book>) {
        self.experiments.keep(&ids(planned));
        // Files go after the first answer, and before the second.
        self.settle(any);
        self.settle(any);
    }
}

#[test]
fn files_of_what_is_gone_go_and_no_others() {
    let fixture = Fixture::new();
    let (first, second, third) = (of_uid("u/c-1"), of_uid("u/c-2"), of_uid("u/c-3"));
    for planned in [&first, &second] {
        let book = fixture.open(planned);
        fill(&fixture, &book);
    }
    let open = fixture.open(&third);
    fill(&fixture, &open);
    assert_eq!(fixture.names().len(), 3);
    let of_first = fixture.experiments.open("ml", &first).path.clone();
    // One that was written anew has its old one beside it, and another namespace has files, too.
    let beside = of_first.with_extension("jsonl.1");
    fs::write(&beside, "old").unwrap();
    let elsewhere = fixture.directory.path().join("other");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("x-0123456789abcdef.jsonl"), "").unwrap();
    // These are none of ours.
    let foreign = ["notes.jsonl", "ab-0123.jsonl", "ab-0123456789abcdef.csv"];
    for name in foreign {
        fs::write(of_first.with_file_name(name), "").unwrap();
    }
    let empty = fixture.directory.path().join("lost+found");
    fs::create_dir(&empty).unwrap();
    fixture.keep(&[&second], &open);
    assert!(!of_first.exists() && !beside.exists() && !elsewhere.exists());
    assert!(empty.exists());
    // The second is kept, the third is open.
    assert_eq!(fixture.names().len(), 2 + foreign.len());
    let standing = open.standing();
    assert_eq!(standing.n_outcomes, 4);
    let of_third = open.path.clone();
    drop(open);
    // Nobody says that it is not held any more.
    until(|| !of_third.exists());
    let second = fixture.open(&second);
    fixture.settle(&second);
    assert_eq!(second.standing().n_outcomes, 4);
    fixture.experiments.stop();
}

#[test]
fn files_of_an_earlier_run_go_once_it_is_known_which_are_needed() {
    let fixture = Fixture::new();
    for uid in ["u/c-1", "u/c-2"] {
        let book = fixture.open(&of_uid(uid));
        fill(&fixture, &book);
    }
    let fixture = fixture.again();
    let other = fixture.open(&of_uid("u/c-3"));
    fixture.settle(&other);
    assert_eq!(fixture.names().len(), 3, "nothing is known yet");
    fixture.keep(&[&of_uid("u/c-2")], &other);
    assert_eq!(fixture.names().len(), 2);
    let kept = fixture.open(&of_uid("u/c-2"));
    fixture.settle(&kept);
    assert_eq!(kept.standing().n_outcomes, 4);
    fixture.experiments.stop();
}

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
    until(|| n_bytes() > before);
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
