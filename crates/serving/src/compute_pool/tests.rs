//! Order, fairness and bounds of the compute pool.

mod help;

use std::sync::mpsc::{Receiver, Sender, channel};

use coracle_base::ManualClock;
use coracle_model::RunTime;
use tokio::sync::oneshot;

use super::*;
use crate::Placement;
use crate::batch::BatchSettings;
use crate::batch::tests::{Got, adder, adder_of, call};

/// A call that tells when a thread prepares it, and waits to be let go on.
struct Gated {
    name: &'static str,
    begun: Sender<&'static str>,
    gate: Option<Receiver<()>>,
    entry: Option<Entry>,
    refused: Option<Sender<Refusal>>,
    is_abandoned: bool,
}

impl PoolCall for Gated {
    fn is_abandoned(&self) -> bool {
        self.is_abandoned
    }

    fn prepare(self: Box<Self>) -> Vec<Entry> {
        self.begun.send(self.name).unwrap();
        if let Some(gate) = self.gate {
            // A gate that is gone is open.
            while gate.recv().is_ok() {}
        }
        self.entry.into_iter().collect()
    }

    fn refuse(self: Box<Self>, refusal: Refusal) {
        self.refused.unwrap().send(refusal).unwrap();
    }
}

struct Bench {
    pool: ComputePool,
    clock: Arc<ManualClock>,
    begun: Receiver<&'static str>,
    tell: Sender<&'static str>,
}

const LIMITS: PoolLimits = PoolLimits {
    n_threads: 1,
    calls_max: 100,
    bytes_max: 1_000,
};

fn ticket(level: u64, expected: Duration) -> Ticket {
    Ticket {
        priority: Priority::from_wire(level),
        expected: Some(expected),
        n_bytes: 10,
        time_left: Duration::from_secs(10),
    }
}

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1);

impl Bench {
    fn new(limits: PoolLimits) -> Self {
        let (tell, begun) = channel();
        let clock = Arc::new(ManualClock::new());
        let pool = ComputePool::start(limits, clock.clone()).unwrap();
        Self {
            pool,
            clock,
            begun,
            tell,
        }
    }

    fn call(&self, name: &'static str) -> Gated {
        Gated {
            name,
            begun: self.tell.clone(),
            gate: None,
            entry: None,
            refused: None,
            is_abandoned: false,
        }
    }

    /// Submits a call that holds its thread until the returned gate is dropped.
    fn hold(&self, model: &Arc<ServedModel>, name: &'static str, ticket: Ticket) -> Sender<()> {
        let (gate, open) = channel();
        let call = Gated {
            gate: Some(open),
            ..self.call(name)
        };
        self.pool.submit(model, Box::new(call), ticket);
        gate
    }

    fn submit(&self, model: &Arc<ServedModel>, name: &'static str, ticket: Ticket) {
        self.pool.submit(model, Box::new(self.call(name)), ticket);
    }

    /// Lets a call wait for a thread; returns where its answer comes.
    fn let_wait(
        &self,
        model: &Arc<ServedModel>,
        (entry, answer): (Entry, oneshot::Receiver<Got>),
    ) -> oneshot::Receiver<Got> {
        let waiting = Gated {
            entry: Some(entry),
            ..self.call("waiting")
        };
        self.pool.submit(model, Box::new(waiting), ticket(0, SHORT));
        answer
    }

    fn refused(&self, model: &Arc<ServedModel>, ticket: Ticket) -> Option<Refusal> {
        let (refused, refusal) = channel();
        let call = Gated {
            refused: Some(refused),
            ..self.call("refused?")
        };
        self.pool.submit(model, Box::new(call), ticket);
        refusal.try_recv().ok()
    }

    fn next(&self) -> &'static str {
        self.begun.recv().unwrap()
    }
}

fn model() -> Arc<ServedModel> {
    adder(BatchSettings::opportunistic()).0
}

#[test]
fn a_model_does_not_take_the_last_thread() {
    let bench = Bench::new(LIMITS);
    let (slow, other) = (model(), model());
    let gate = bench.hold(&slow, "slow 1", ticket(0, SHORT));
    assert_eq!(bench.next(), "slow 1");
    bench.submit(&slow, "slow 2", ticket(0, SHORT));
    // There is a second thread, but not for the same model.
    bench.submit(&other, "other", ticket(0, SHORT));
    assert_eq!(bench.next(), "other");
    assert_eq!(bench.pool.n_waiting(&slow), 1);
    drop(gate);
    assert_eq!(bench.next(), "slow 2");
}

#[test]
fn a_turn_on_a_thread_of_the_callers_is_a_run_like_others() {
    let bench = Bench::new(LIMITS);
    let (model, other) = (model(), model());
    let turn = bench.pool.turn_if_idle(&model).unwrap();
    // There is one at a time, whichever model it is of.
    assert!(bench.pool.turn_if_idle(&model).is_none());
    assert!(bench.pool.turn_if_idle(&other).is_none());
    // The model's next call waits for it, others do not.
    bench.submit(&model, "next", ticket(0, SHORT));
    let gate = bench.hold(&other, "other", ticket(0, SHORT));
    assert_eq!(bench.next(), "other");
    assert_eq!(bench.pool.n_waiting(&model), 1);
    drop(turn);
    assert_eq!(bench.next(), "next");
    // Nor is there one while something else runs.
    assert!(bench.pool.turn_if_idle(&model).is_none());
    drop(gate);
    while bench.pool.turn_if_idle(&model).is_none() {
        std::thread::yield_now();
    }
}

fn bounded(limits: QueueLimits) -> Arc<ServedModel> {
    let model = Arc::into_inner(model()).unwrap();
    Arc::new(model.with_queue_limits(limits))
}

#[test]
fn a_model_runs_on_as_many_threads_as_it_has_instances() {
    let bench = Bench::new(PoolLimits {
        n_threads: 3,
        ..LIMITS
    });
    let model = bounded(QueueLimits {
        instances: NonZero::new(2),
        ..QueueLimits::default()
    });
    let gates = ["one", "two", "three"].map(|name| {
        let gate = bench.hold(&model, name, ticket(0, SHORT));
        (name != "three").then(|| bench.next());
        gate
    });
    bench.submit(&self::model(), "other", ticket(0, SHORT));
    assert_eq!(bench.next(), "other");
    assert_eq!(bench.pool.n_waiting(&model), 1);
    drop(gates);
    assert_eq!(bench.next(), "three");
}

#[test]
fn a_model_has_no_more_runs_than_answer_soonest_and_its_calls_wait_for_one_another() {
    let bench = Bench::new(PoolLimits {
        n_threads: 3,
        ..LIMITS
    });
    let model = model();
    model.width().hold(1);
    let gate = bench.hold(&model, "one", ticket(0, SHORT));
    assert_eq!(bench.next(), "one");
    bench.submit(&model, "two", ticket(0, SHORT));
    bench.submit(&self::model(), "other", ticket(0, SHORT));
    assert_eq!(bench.next(), "other");
    assert_eq!(bench.pool.n_waiting(&model), 1);
    drop(gate);
    assert_eq!(bench.next(), "two");
}

#[test]
fn calls_of_a_model_that_runs_alone_wait_for_all_those_before_them() {
    let bench = Bench::new(PoolLimits {
        n_threads: 16,
        ..LIMITS
    });
    let model = model();
    model.width().hold(1);
    let asked = Ticket {
        time_left: Duration::from_secs(1),
        ..ticket(0, Duration::from_millis(100))
    };
    let gate = bench.hold(&model, "held", asked);
    assert_eq!(bench.next(), "held");
    // Four before it take 0.4 s and it a tenth more, which is half of its time.
    let refused: Vec<bool> = (0..6)
        .map(|_| bench.refused(&model, asked).is_some())
        .collect();
    assert_eq!(refused, [false, false, false, false, false, true]);
    drop(gate);
}

#[test]
fn calls_wait_for_a_model_as_long_and_as_many_as_it_allows() {
    let bench = Bench::new(LIMITS);
    let model = bounded(QueueLimits {
        calls_max: NonZero::new(2),
        wait_max: Some(SHORT),
        ..QueueLimits::default()
    });
    let gate = bench.hold(&model, "held", ticket(0, SHORT));
    assert_eq!(bench.next(), "held");
    let (refused, refusal) = channel();
    let waiting = Gated {
        refused: Some(refused),
        ..bench.call("too late")
    };
    bench
        .pool
        .submit(&model, Box::new(waiting), ticket(0, SHORT));
    bench.clock.advance(SHORT);
    bench.submit(&model, "in time", ticket(0, SHORT));
    let full = Some(Refusal::PoolFull);
    assert_eq!(bench.refused(&model, ticket(0, SHORT)), full);
    bench.clock.advance(Duration::from_nanos(1));
    drop(gate);
    assert_eq!(bench.next(), "in time");
    assert_eq!(refusal.recv(), Ok(Refusal::Deadline));
}

#[test]
fn long_runs_of_several_models_leave_a_thread_for_short_ones() {
    let bench = Bench::new(LIMITS);
    let (slow, slower, other) = (model(), model(), model());
    let gate = bench.hold(&slow, "slow", ticket(0, LONG));
    assert_eq!(bench.next(), "slow");
    bench.submit(&slower, "slower", ticket(0, LONG));
    bench.submit(&other, "other", ticket(0, SHORT));
    assert_eq!(bench.next(), "other");
    assert_eq!(bench.pool.n_waiting(&slower), 1);
    drop(gate);
    assert_eq!(bench.next(), "slower");
}

#[test]
fn models_take_turns_and_priorities_hold_within_one() {
    let bench = Bench::new(LIMITS);
    let (held, one, two) = (model(), model(), model());
    // Both threads are taken, by models of which nothing else waits.
    let gates = [
        bench.hold(&held, "held", ticket(0, LONG)),
        bench.hold(&model(), "held", ticket(0, SHORT)),
    ];
    assert_eq!([bench.next(), bench.next()], ["held", "held"]);
    for name in ["one a", "one b", "one c"] {
        bench.submit(&one, name, ticket(0, SHORT));
    }
    bench.submit(&two, "two late", ticket(5, SHORT));
    bench.submit(&two, "two soon", ticket(1, SHORT));
    // One thread goes on; what it begins is told in order.
    let [first, second] = gates;
    drop(second);
    let order: Vec<_> = (0..5).map(|_| bench.next()).collect();
    assert_eq!(order, ["one a", "two soon", "one b", "two late", "one c"]);
    drop(first);
}

#[test]
fn queues_are_bounded_by_calls_bytes_and_time() {
    let bench = Bench::new(PoolLimits {
        calls_max: 3,
        ..LIMITS
    });
    let (slow, other) = (model(), model());
    let gates = [
        bench.hold(&slow, "held", ticket(0, SHORT)),
        bench.hold(&other, "held", ticket(0, SHORT)),
    ];
    assert_eq!([bench.next(), bench.next()], ["held", "held"]);
    let full = Some(Refusal::PoolFull);
    // The time of those that wait is longer than the caller's.
    assert_eq!(bench.refused(&slow, ticket(0, LONG * 11)), None);
    assert_eq!(bench.refused(&slow, ticket(0, SHORT)), full);
    // Another model has a queue of its own; the bytes are bounded for all.
    let large = Ticket {
        n_bytes: 995,
        ..ticket(0, SHORT)
    };
    assert_eq!(bench.refused(&other, large), full);
    assert_eq!(bench.refused(&other, ticket(0, SHORT)), None);
    // Callers that have gone make room.
    for _ in 0..2 {
        let gone = Gated {
            is_abandoned: true,
            ..bench.call("gone")
        };
        bench.pool.submit(&other, Box::new(gone), ticket(0, SHORT));
    }
    assert_eq!(bench.pool.n_waiting(&other), 3);
    // They were looked for a moment ago.
    assert_eq!(bench.refused(&other, ticket(0, SHORT)), full);
    bench.clock.advance(PURGE_EVERY);
    assert_eq!(bench.refused(&other, ticket(0, SHORT)), None);
    assert_eq!(bench.pool.n_waiting(&other), 2);
    drop(gates);
}

#[test]
fn who_would_be_answered_at_the_last_moment_is_refused_at_once() {
    let bench = Bench::new(LIMITS);
    let (model, other) = (model(), model());
    let gates = [
        bench.hold(&model, "held", ticket(0, SHORT)),
        bench.hold(&other, "held", ticket(0, SHORT)),
    ];
    assert_eq!([bench.next(), bench.next()], ["held", "held"]);
    // Alone a call may take all of its time, which is ten seconds.
    assert_eq!(bench.refused(&other, ticket(0, LONG * 9)), None);
    assert_eq!(bench.refused(&model, ticket(0, LONG * 4)), None);
    // Behind four seconds of others a short one fits, and one of a second does not.
    assert_eq!(bench.refused(&model, ticket(0, SHORT)), None);
    let full = Some(Refusal::PoolFull);
    assert_eq!(bench.refused(&model, ticket(0, LONG)), full);
    drop(gates);
}

#[test]
fn what_is_queued_for_a_model_runs_together() {
    let bench = Bench::new(LIMITS);
    let (model, runs) = adder(BatchSettings::opportunistic());
    let (first, _first) = call(&model, &[1.0, 2.0]);
    let (gate, open) = channel();
    let held = Gated {
        gate: Some(open),
        entry: Some(first),
        ..bench.call("first")
    };
    bench.pool.submit(&model, Box::new(held), ticket(0, SHORT));
    assert_eq!(bench.next(), "first");
    let answers: Vec<oneshot::Receiver<Got>> = (0..4)
        .map(|_| bench.let_wait(&model, call(&model, &[3.0, 4.0])))
        .collect();
    drop(gate);
    for answer in answers {
        let (outputs, ran) = answer.blocking_recv().unwrap().unwrap();
        assert_eq!(outputs[0].values().to_f64s().unwrap()[0], 7.0);
        assert!(ran.joined && ran.n_rows == 5);
    }
    assert_eq!(*runs.lock().unwrap(), [5]);
}

/// However short its runs were, and however many threads are free.
#[test]
fn calls_of_a_model_on_a_device_gather_while_a_run_of_it_is_under_way() {
    let bench = Bench::new(PoolLimits {
        n_threads: 8,
        ..LIMITS
    });
    let (model, runs) = adder_of(RunTime::Elsewhere, BatchSettings::opportunistic());
    model.cost().record_run(1, Duration::from_micros(50));
    assert_eq!(model.cost().run_placement(1), Placement::ComputePool);
    let gate = bench.hold(&model, "under way", ticket(0, SHORT));
    assert_eq!(bench.next(), "under way");
    let answers: Vec<oneshot::Receiver<Got>> = (0..4)
        .map(|_| bench.let_wait(&model, call(&model, &[3.0, 4.0])))
        .collect();
    assert_eq!(bench.pool.n_waiting(&model), 4);
    drop(gate);
    for answer in answers {
        let (_, ran) = answer.blocking_recv().unwrap().unwrap();
        assert_eq!(ran.n_rows, 4);
    }
    assert_eq!(*runs.lock().unwrap(), [4]);
}

#[test]
fn where_no_thread_is_free_calls_go_together_that_save_a_little() {
    let bench = Bench::new(LIMITS);
    let (model, runs) = adder(BatchSettings::opportunistic());
    // A row costs 10 ms alone, 8.5 of two, 6 of four, 10 of eight.
    for (n_rows, time_ms) in [(1, 10), (2, 17), (4, 24), (8, 80)] {
        let time = Duration::from_millis(time_ms);
        model.cost().record_run(n_rows, time);
    }
    let gate = bench.hold(&model, "held", ticket(0, SHORT));
    assert_eq!(bench.next(), "held");
    let answers: Vec<oneshot::Receiver<Got>> = (0..5)
        .map(|_| bench.let_wait(&model, call(&model, &[3.0, 4.0])))
        .collect();
    drop(gate);
    for answer in answers {
        answer.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(*runs.lock().unwrap(), [4, 1]);
}

#[test]
fn a_run_takes_no_more_along_than_leaves_half_of_the_time() {
    let bench = Bench::new(LIMITS);
    let (model, runs) = adder(BatchSettings::opportunistic());
    // Two rows cost no more than one: whatever is queued is worth taking along.
    for n_rows in [1, 2, 4] {
        model.cost().record_run(n_rows, Duration::from_secs(1));
    }
    let gate = bench.hold(&model, "held", ticket(0, SHORT));
    assert_eq!(bench.next(), "held");
    let answers = [9, 9, 1, 9].map(|time_s| {
        let (entry, answer) = call(&model, &[3.0, 4.0]);
        let until = Duration::from_secs(time_s);
        bench.let_wait(&model, (Entry { until, ..entry }, answer))
    });
    drop(gate);
    let ran = answers.map(|answer| answer.blocking_recv().unwrap().unwrap().1.n_rows);
    // The third is taken along before it is known how little time it has; then no more.
    assert_eq!(ran, [3, 3, 3, 1]);
    assert_eq!(*runs.lock().unwrap(), [3, 1]);
}

#[test]
fn who_cannot_be_answered_in_time_leaves_the_turn_to_those_who_wait() {
    let bench = Bench::new(LIMITS);
    let (model, runs) = adder(BatchSettings {
        rows_max: 1,
        ..BatchSettings::opportunistic()
    });
    model.cost().record_run(1, Duration::from_secs(2));
    let gate = bench.hold(&model, "held", ticket(0, SHORT));
    assert_eq!(bench.next(), "held");
    let answers = [1, 3, 1].map(|time_s| {
        let (entry, answer) = call(&model, &[3.0, 4.0]);
        let waiting = Gated {
            entry: Some(Entry {
                until: Duration::from_secs(time_s),
                ..entry
            }),
            ..bench.call("waiting")
        };
        let ticket = ticket(0, SHORT);
        bench.pool.submit(&model, Box::new(waiting), ticket);
        answer
    });
    drop(gate);
    let [hopeless, timely, last] = answers.map(|answer| answer.blocking_recv().unwrap());
    assert_eq!(hopeless.unwrap_err(), Refusal::Deadline.message());
    assert_eq!(timely.unwrap().1.n_rows, 1);
    // Nobody waits behind the last one: it may be quicker than is thought.
    assert_eq!(last.unwrap().1.n_rows, 1);
    assert_eq!(*runs.lock().unwrap(), [1, 1]);
}

#[test]
fn what_waits_is_dropped_with_the_pool_and_what_panics_ends_no_thread() {
    struct Panics;
    impl PoolCall for Panics {
        fn is_abandoned(&self) -> bool {
            false
        }
        fn prepare(self: Box<Self>) -> Vec<Entry> {
            panic!("told to");
        }
        fn refuse(self: Box<Self>, _refusal: Refusal) {}
    }
    let bench = Bench::new(LIMITS);
    let model = model();
    for _ in 0..5 {
        bench
            .pool
            .submit(&model, Box::new(Panics), ticket(0, SHORT));
    }
    let gate = bench.hold(&model, "held", ticket(0, SHORT));
    assert_eq!(bench.next(), "held");
    let (entry, answer) = call(&model, &[1.0, 2.0]);
    let waiting = Gated {
        entry: Some(entry),
        ..bench.call("waiting")
    };
    bench
        .pool
        .submit(&model, Box::new(waiting), ticket(0, SHORT));
    drop(bench.pool);
    assert!(answer.blocking_recv().is_err());
    drop(gate);
}
