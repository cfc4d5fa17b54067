//! What runs in parts, and that its answer is that of the whole run.

use std::cell::Cell;

use coracle_base::ManualClock;
use coracle_tensor::Values;
use tokio::sync::oneshot;

use super::*;
use crate::batch::tests::{Got, adder, call, call_of, sums};
use crate::batch::{BatchSettings, run_with};

/// Two threads, of which the other one does what it is told to at each offer.
struct Helper<F: Fn(&Arc<RunInParts>)> {
    clock: Arc<dyn Clock>,
    n_threads: usize,
    on_offer: F,
}

impl<F: Fn(&Arc<RunInParts>)> Help for Helper<F> {
    fn n_threads(&self) -> usize {
        self.n_threads
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn offer(&self, run: &Arc<RunInParts>) {
        (self.on_offer)(run);
    }

    fn withdraw(&self, _run: &Arc<RunInParts>) {}
}

fn helper<F: Fn(&Arc<RunInParts>)>(on_offer: F) -> Helper<F> {
    Helper {
        clock: Arc::new(ManualClock::new()),
        n_threads: 2,
        on_offer,
    }
}

/// A model whose runs of a thousand rows take ten milliseconds.
fn costly() -> (Arc<ServedModel>, Arc<Mutex<Vec<usize>>>) {
    let (model, runs) = adder(BatchSettings::opportunistic());
    model.cost().record_run(1_000, Duration::from_millis(10));
    (model, runs)
}

fn thousand() -> Vec<f64> {
    (0..2_000).map(f64::from).map(|x| x / 8_000.0).collect()
}

fn run_one(
    model: &ServedModel,
    (entry, mut answer): (Entry, oneshot::Receiver<Got>),
    help: &dyn Help,
) -> Result<Vec<f64>, String> {
    run_with(model, vec![entry], help);
    sums(&mut answer)
}

/// Gives a call a hundred seconds.
fn patient(
    (mut entry, answer): (Entry, oneshot::Receiver<Got>),
) -> (Entry, oneshot::Receiver<Got>) {
    entry.until = Duration::from_secs(100);
    (entry, answer)
}

const IN_PARTS: [usize; 8] = [128, 128, 128, 128, 128, 128, 128, 104];

#[test]
fn many_rows_run_in_parts_on_several_threads_and_come_back_in_order() {
    let (model, runs) = costly();
    let values = thousand();
    let expected: Vec<f64> = values.chunks(2).map(|row| row[0] + row[1]).collect();
    let alone = run_one(&model, call(&model, &values), &helper(|_| {}));
    assert_eq!(alone.as_ref(), Ok(&expected));
    assert_eq!(*runs.lock().unwrap(), IN_PARTS);
    // Another thread takes the first three parts.
    let help = helper(|run| {
        let run = Arc::clone(run);
        let thread = std::thread::spawn(move || (0..3).all(|_| run.work_on_next()));
        assert!(thread.join().unwrap());
    });
    assert_eq!(run_one(&model, call(&model, &values), &help), Ok(expected));
    assert_eq!(runs.lock().unwrap()[8..], IN_PARTS);
}

#[test]
fn what_is_short_or_has_one_thread_or_rows_that_go_together_runs_as_a_whole() {
    let (model, runs) = costly();
    let values = thousand();
    let few = &values[..200];
    run_one(&model, call(&model, few), &helper(|_| panic!("short"))).unwrap();
    let one_thread = Helper {
        n_threads: 1,
        ..helper(|_| panic!("nobody to help"))
    };
    run_one(&model, call(&model, &values), &one_thread).unwrap();
    // The third output is one number whatever the rows are, and the signature says so.
    let input = Tensor::try_new(vec![1_000, 2], Values::F64(values.clone().into())).unwrap();
    let fixed = helper(|_| panic!("no rows"));
    run_one(&model, call_of(&model, input.clone(), 2), &fixed).unwrap();
    assert_eq!(*runs.lock().unwrap(), [100, 1_000, 1_000]);
    let (model, runs) = costly();
    // The second one is, too, and the signature does not say so: that is found out once.
    for _ in 0..2 {
        let total = run_one(&model, call_of(&model, input.clone(), 1), &helper(|_| {}));
        assert_eq!(total.unwrap().len(), 1);
    }
    assert_eq!(*runs.lock().unwrap(), [128, 1_000, 1_000]);
}

#[test]
fn a_part_that_is_refused_or_panics_fails_the_call_as_the_whole_would() {
    let (model, runs) = costly();
    let mut values = thousand();
    values[1_500] = -1.0;
    let error = run_one(&model, call(&model, &values), &helper(|_| {})).unwrap_err();
    assert_eq!(error, "a negative number, or none");
    // The sixth part was refused; the rest was not begun.
    assert_eq!(*runs.lock().unwrap(), [128, 128, 128, 128, 128, 128, 1_000]);
    values[1_500] = 1_000.0;
    let error = run_one(&model, call(&model, &values), &helper(|_| {})).unwrap_err();
    assert!(error.contains("a defect of the server"), "{error}");
    assert_eq!(runs.lock().unwrap().len(), 13);
}

#[test]
fn a_run_in_parts_ends_with_its_callers_patience() {
    let (model, runs) = costly();
    // The caller leaves while another thread runs the first part; this one is at the second then.
    let (entry, answer) = call(&model, &thousand());
    let answer = Cell::new(Some(answer));
    let leaves = helper(|run| {
        assert!(run.work_on_next());
        drop(answer.take());
    });
    run_with(&model, vec![entry], &leaves);
    assert_eq!(*runs.lock().unwrap(), [128, 128]);
    let clock = Arc::new(Ticking::default());
    let late = Helper {
        clock: clock.clone(),
        n_threads: 2,
        on_offer: |run: &Arc<RunInParts>| {
            assert!(run.work_on_next());
            clock.0.advance(Duration::from_secs(100));
        },
    };
    let error = run_one(&model, patient(call(&model, &thousand())), &late).unwrap_err();
    assert_eq!(error, "the run did not end in the time that the call had");
    assert_eq!(*runs.lock().unwrap(), [128, 128, 128]);
    // What it took until then is known, for the next call.
    assert!(model.cost().is_measured(128));
}

#[test]
fn a_thread_that_comes_late_finds_nothing_to_do() {
    let (model, runs) = costly();
    for values in [thousand(), [vec![-1.0; 2], thousand()].concat()] {
        let kept = Mutex::new(None);
        let help = helper(|run| *kept.lock().unwrap() = Some(Arc::clone(run)));
        let ran = run_one(&model, call(&model, &values), &help);
        assert_eq!(ran.is_ok(), values[0] >= 0.0);
        let n_runs = runs.lock().unwrap().len();
        let run = kept.lock().unwrap().take().unwrap();
        assert_eq!(run.n_left(), 0);
        assert!(!run.work_on_next());
        assert_eq!(runs.lock().unwrap().len(), n_runs);
    }
}

#[test]
fn models_whose_calls_are_to_run_one_by_one_or_so_many_at_a_time_have_no_parts() {
    let rest = helper(|_| panic!("not to be taken apart"));
    let (alone, runs) = adder(BatchSettings {
        rows_max: 1,
        ..BatchSettings::opportunistic()
    });
    alone.cost().record_run(1_000, Duration::from_millis(10));
    run_one(&alone, call(&alone, &thousand()), &rest).unwrap();
    assert_eq!(*runs.lock().unwrap(), [1_000]);
    let (one_instance, runs) = costly();
    let one_instance = Arc::into_inner(one_instance).unwrap();
    let one_instance = one_instance.with_queue_limits(crate::QueueLimits {
        instances: std::num::NonZero::new(1),
        ..crate::QueueLimits::default()
    });
    run_one(&one_instance, call(&one_instance, &thousand()), &rest).unwrap();
    assert_eq!(*runs.lock().unwrap(), [1_000]);
}

#[test]
fn the_time_of_all_threads_is_the_calls_share() {
    let (model, _) = costly();
    let help = Helper {
        clock: Arc::new(Ticking::default()),
        n_threads: 2,
        on_offer: |_: &Arc<RunInParts>| {},
    };
    let (entry, mut answer) = patient(call(&model, &thousand()));
    run_with(&model, vec![entry], &help);
    let (_, ran) = answer.try_recv().unwrap().unwrap();
    // Every look at the clock is a tick: eight parts take one each, while the whole takes as many as there are looks.
    assert_eq!(ran.share, TICK * 8);
    assert!(ran.elapsed > ran.share);
}

const TICK: Duration = Duration::from_millis(3);

/// A clock that goes on by a tick whenever it is looked at.
#[derive(Debug, Default)]
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn monotonic(&self) -> Duration {
        self.0.advance(TICK);
        self.0.monotonic()
    }

    fn unix_time(&self) -> Duration {
        self.0.unix_time()
    }
}

#[test]
fn parts_are_neither_too_short_nor_too_long() {
    let part = |n_rows: usize, millis: u64| {
        let cost = CallCost::new();
        cost.record_run(n_rows, Duration::from_millis(millis));
        part_rows(&cost, n_rows)
    };
    assert_eq!(part_rows(&CallCost::new(), 1_000_000), None);
    assert_eq!(part(100_000, 1), None);
    assert_eq!(part(100_000, 2), Some(50_048));
    // At most 64 parts of at least a millisecond each,
    assert_eq!(part(100_000, 40), Some(2_560));
    assert_eq!(part(128_000, 200), Some(2_048));
    // and of five at most.
    assert_eq!(part(128_000, 1_000), Some(640));
    // Of costly rows one is a part.
    assert_eq!(part(10, 20), Some(1));
    assert_eq!(part(1, 1_000), None);
    // A run that costs 2 ms whatever its rows: parts of few rows cost too much.
    let cost = CallCost::new();
    cost.record_run(1_000, Duration::from_millis(40));
    assert_eq!(part_rows(&cost, 1_000), Some(25));
    cost.record_run(25, Duration::from_millis(2));
    assert_eq!(part_rows(&cost, 1_000), Some(50));
    cost.record_run(50, Duration::from_millis(3));
    assert_eq!(part_rows(&cost, 1_000), Some(100));
    assert_eq!(part(0, 1_000), None);
}
