//! Models of seven bytes in budgets for a few of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use coracle_base::ManualClock;
use coracle_model::SharedMemory;

use super::choice::RESIDENCE_MIN;
use super::*;
use crate::Protocol;
use crate::served_model::tests::{loaded, sharing};

const SEVEN: SizeEstimate = SizeEstimate {
    file_bytes: 0,
    known_bytes: Some(7),
};

struct Bench {
    clock: Arc<ManualClock>,
    budget: Arc<MemoryBudget>,
}

fn bench(limit: u64) -> Bench {
    let clock = Arc::new(ManualClock::new());
    let budget = MemoryBudget::new(ByteCount::new(limit), clock.clone());
    Bench {
        clock,
        budget: Arc::new(budget),
    }
}

impl Bench {
    /// Loads a model of seven bytes; what is returned beside it is told when it has gone.
    fn load(&self, name: &str) -> (Arc<ServedModel>, Receiver<()>) {
        self.enter(name, loaded(name, false))
    }

    fn enter(&self, name: &str, loaded: LoadedModel) -> (Arc<ServedModel>, Receiver<()>) {
        let room = self.budget.make_room(name, SEVEN, &|| true).unwrap();
        let loaded = room.settle(loaded).unwrap();
        let model = Arc::new(ServedModel::new(loaded, 1));
        let (tell, gone) = channel();
        let evicted = Arc::new(move || tell.send(()).unwrap_or_default());
        self.budget.keep(&model, evicted);
        (model, gone)
    }

    /// A call begins and ends, a second later.
    fn use_now(&self, model: &ServedModel) {
        self.clock.advance(Duration::from_secs(1));
        let call = model
            .statistics()
            .start(0, self.clock.monotonic(), self.clock.as_ref());
        call.finish(Protocol::V1, Ok(()), self.clock.monotonic());
    }
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let bench = bench(21);
    let [a, b, c] = ["a", "b", "c"].map(|name| bench.load(name).0);
    assert_eq!(
        (bench.budget.used_bytes(), bench.budget.n_resident()),
        (21, 3)
    );
    for model in [&b, &a, &c, &b] {
        bench.use_now(model);
    }
    let (d, _) = bench.load("d");
    let are_loaded = [&a, &b, &c, &d].map(|model| model.is_loaded());
    assert_eq!(are_loaded, [false, true, true, true]);
    assert_eq!(bench.budget.used_bytes(), 21);
    // What the plan lets go of leaves room, too.
    c.unload();
    drop(bench.load("e"));
    assert_eq!(bench.budget.counters().evictions(), 1);
    assert_eq!(
        (bench.budget.used_bytes(), bench.budget.n_resident()),
        (14, 2)
    );
}

#[test]
fn what_models_hold_together_counts_once_and_goes_with_the_last() {
    let bench = bench(130);
    let weights = SharedMemory::new(100);
    let load = |name| bench.enter(name, sharing(name, &weights)).0;
    let first = load("m-1");
    assert_eq!(bench.budget.used_bytes(), 107);
    let second = load("m-2");
    // Each alone would take 107 bytes; nothing has to go for the second.
    assert!(first.is_loaded() && second.is_loaded());
    assert_eq!(bench.budget.used_bytes(), 114);
    // What is shown of each adds up to what there is.
    assert_eq!(
        [&first, &second].map(|model| model.memory_bytes()),
        [57, 57]
    );
    assert_eq!(first.known_bytes(), Some(107));
    let (other, _) = bench.load("other");
    assert_eq!(bench.budget.used_bytes(), 121);
    for model in [&other, &second, &first] {
        bench.use_now(model);
    }
    // Seven bytes are wanted beyond what is left: one model gives them.
    drop(bench.load("a"));
    drop(bench.load("b"));
    first.unload();
    assert_eq!(bench.budget.used_bytes(), 114);
    assert_eq!(second.memory_bytes(), 107);
    second.unload();
    assert_eq!(bench.budget.used_bytes(), 7);
}

/// While a model is loaded its file is parsed into copies, which are found to be there already only then: room is made for all of it.
#[test]
fn a_load_takes_room_for_what_it_is_going_to_share() {
    // Both fit into 114 bytes, and while one of them is loaded into 214.
    for (limit, stays) in [(214, true), (213, false)] {
        let bench = bench(limit);
        let weights = SharedMemory::new(100);
        let load = |name| bench.enter(name, sharing(name, &weights)).0;
        let (first, second) = (load("m-1"), load("m-2"));
        second.unload();
        let estimate = SizeEstimate {
            file_bytes: 0,
            known_bytes: second.known_bytes(),
        };
        let room = bench.budget.make_room("m-2", estimate, &|| true).unwrap();
        let loaded = room.settle(sharing("m-2", &weights)).unwrap();
        second.load(loaded);
        assert_eq!(first.is_loaded(), stays);
        assert_eq!(bench.budget.used_bytes(), if stays { 114 } else { 107 });
    }
}

#[test]
fn a_model_larger_than_the_budget_is_refused_with_both_numbers() {
    let bench = bench(6);
    let expected = "model 'a' takes 7 B of memory, more than the whole memory budget of 6 B";
    let known = bench.budget.make_room("a", SEVEN, &|| true).unwrap_err();
    assert_eq!(known.to_string(), expected);
    // Where that comes out only once it is loaded, what was set aside is free again.
    let unknown = SizeEstimate {
        file_bytes: 5,
        known_bytes: None,
    };
    let room = bench.budget.make_room("a", unknown, &|| true).unwrap();
    assert_eq!(bench.budget.used_bytes(), 6);
    let error = room.settle(loaded("a", false)).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(bench.budget.used_bytes(), 0);
}

#[test]
fn a_load_takes_its_file_into_account_and_gives_it_back() {
    let bench = bench(140);
    let estimate = SizeEstimate {
        file_bytes: 10,
        known_bytes: Some(7),
    };
    assert!(bench.budget.has_room(estimate));
    let room = bench.budget.make_room("a", estimate, &|| true).unwrap();
    assert_eq!(bench.budget.used_bytes(), 7 + 10 * FILE_COPIES);
    let loaded = room.settle(loaded("a", false)).unwrap();
    assert_eq!(bench.budget.used_bytes(), 7);
    drop(loaded);
    assert_eq!(bench.budget.used_bytes(), 0);
    // A load that fails gives all back.
    drop(bench.budget.make_room("a", estimate, &|| true).unwrap());
    assert_eq!(bench.budget.used_bytes(), 0);
}

#[test]
fn memory_counts_until_the_last_call_has_ended() {
    let bench = bench(7);
    let (a, gone) = bench.load("a");
    let lease = a.try_enter().unwrap();
    let budget = Arc::clone(&bench.budget);
    let waiting = std::thread::spawn(move || budget.make_room("b", SEVEN, &|| true).is_ok());
    gone.recv().unwrap();
    assert!(!a.is_loaded() && bench.budget.used_bytes() == 7);
    assert!(lease.run(&[], &[]).is_ok());
    drop(lease);
    assert!(waiting.join().unwrap());
}

#[test]
fn a_busy_model_stays_until_it_has_answered_those_who_waited_for_it() {
    let bench = bench(7);
    let (a, gone) = bench.load("a");
    let call = a
        .statistics()
        .start(0, bench.clock.monotonic(), bench.clock.as_ref());
    let (look, looks) = channel();
    let budget = Arc::clone(&bench.budget);
    let waiting = std::thread::spawn(move || {
        let is_wanted = || look.send(()).is_ok();
        budget.make_room("b", SEVEN, &is_wanted).is_ok()
    });
    for _ in 0..3 {
        looks.recv().unwrap();
    }
    assert!(a.is_loaded());
    bench.clock.advance(RESIDENCE_MIN);
    gone.recv().unwrap();
    assert!(!a.is_loaded() && waiting.join().unwrap());
    drop(call);
}

#[test]
fn loads_get_their_room_in_the_order_in_which_they_ask() {
    let bench = bench(14);
    let (a, _) = bench.load("a");
    let _call = a
        .statistics()
        .start(0, bench.clock.monotonic(), bench.clock.as_ref());
    // Fourteen bytes cannot be had while the call runs, so seven wait behind them though they could.
    let n_asked = Arc::new(AtomicUsize::new(0));
    let (look, looks) = channel();
    let large = {
        let (budget, n_asked) = (Arc::clone(&bench.budget), Arc::clone(&n_asked));
        std::thread::spawn(move || {
            let estimate = SizeEstimate {
                file_bytes: 0,
                known_bytes: Some(14),
            };
            let is_wanted = || {
                look.send(()).unwrap_or_default();
                n_asked.load(Ordering::Relaxed) == 0
            };
            budget.make_room("large", estimate, &is_wanted).is_ok()
        })
    };
    looks.recv().unwrap();
    looks.recv().unwrap();
    assert!(!bench.budget.has_room(SEVEN));
    // Nobody wants it any more: who is next goes on.
    n_asked.store(1, Ordering::Relaxed);
    let room = bench.budget.make_room("small", SEVEN, &|| true);
    assert!(room.is_ok() && !large.join().unwrap());
}

#[test]
fn large_loads_are_under_way_one_at_a_time() {
    let bench = bench(100);
    let estimate = |file_bytes| SizeEstimate {
        file_bytes,
        known_bytes: Some(0),
    };
    let room = |file_bytes| bench.budget.make_room("a", estimate(file_bytes), &|| true);
    // A quarter at a time: two of twelve bytes, not three.
    let rooms = [1, 1].map(room);
    assert!(rooms.iter().all(Result::is_ok));
    let asked = AtomicUsize::new(0);
    let is_wanted = || asked.fetch_add(1, Ordering::Relaxed) < 3;
    let third = bench.budget.make_room("a", estimate(1), &is_wanted);
    assert!(matches!(third, Err(NoRoom::NotWanted { .. })));
    drop(rooms);
    // One that is alone may take all.
    assert!(room(12).is_ok());
}

#[test]
fn freed_memory_is_given_back_now_and_then() {
    let n_times = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n_times);
    let clock = Arc::new(ManualClock::new());
    let budget =
        MemoryBudget::new(ByteCount::new(960), clock).with_give_back(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
    let budget = Arc::new(budget);
    let estimate = |file_bytes| SizeEstimate {
        file_bytes,
        known_bytes: Some(0),
    };
    // A sixty-fourth of it may lie about: fifteen bytes. What is freed after a load is seen at the next one.
    for (file_bytes, n_expected) in [(1, 0), (1, 0), (1, 1), (1, 1), (0, 2)] {
        drop(budget.make_room("a", estimate(file_bytes), &|| true));
        assert_eq!(n_times.load(Ordering::Relaxed), n_expected, "{file_bytes}");
    }
}
