//! What runs in parts, and that its answer is that of the whole run.

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
    let (mut entry, answer) = call(&model, &thousand());
    let wanted = Wanted::default();
    entry.wanted = Some(wanted.clone());
    let leaves = helper(|run| {
        assert!(run.work_on_next());
        wanted.leave();
    });
    let error = run_one(&model, (entry, answer), &leaves).unwrap_err();
    assert_eq!(error, "nobody waits for the answer any more");
    let clock = Arc::new(ManualClock::new());
    let late = Helper {
        clock: clock.clone(),
        n_threads: 2,
        on_offer: |run: &Arc<RunInParts>| {
            assert!(run.work_on_next());
            clock.advance(Duration::from_secs(1));
        },
    };
    let error = run_one(&model, call(&model, &thousand()), &late).unwrap_err();
    assert_eq!(error, "the run did not end in the time that the call had");
    assert_eq!(*runs.lock().unwrap(), [128, 128]);
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
    assert_eq!(part(0, 1_000), None);
}
