//! Merging and splitting calls, and what never mixes.

use std::sync::{Arc, Mutex};

use coracle_base::ManualClock;
use coracle_model::{
    Description, Model, RunErrorKind, RunTime, Signature, TensorSpec, have_all_left,
};
use coracle_tensor::{DType, Values};
use tokio::sync::oneshot;

use super::*;
use crate::LoadPhases;

/// A model of two columns that adds them up and notes how many rows each run had. It refuses negative numbers, panics on a
/// thousand, and needs a second to run.
#[derive(Debug)]
pub(crate) struct Adder {
    signature: Signature,
    description: Description,
    run_time: RunTime,
    runs: Arc<Mutex<Vec<usize>>>,
}

fn spec(name: &str, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape: shape.to_vec(),
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    }
}

impl Model for Adder {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let values = inputs[0].values().to_f64s().unwrap();
        self.runs.lock().unwrap().push(values.len() / 2);
        if values.iter().any(|value| *value < 0.0 || value.is_nan()) {
            let message = "a negative number, or none";
            return Err(RunError::new(RunErrorKind::ValueOutOfRange, message));
        }
        assert!(!values.contains(&1000.0), "told to");
        let sums = || values.chunks_exact(2).map(|row| row[0] + row[1]);
        let answers = outputs.iter().map(|output| match output {
            0 => Values::F64(sums().collect()),
            // Contrary to what the signature says, one number for all rows.
            1 => Values::F64(vec![sums().sum()].into()),
            _ => Values::F32(vec![1.0].into()),
        });
        Ok(answers.map(Tensor::from_values).collect())
    }

    fn run_within(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
    ) -> Result<Vec<Tensor>, RunError> {
        if time < Duration::from_secs(1) {
            return Err(RunError::new(RunErrorKind::OutOfTime, "less than a second"));
        }
        self.run(inputs, outputs)
    }

    fn run_for(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
        calls: &[Wanted],
    ) -> Result<Vec<Tensor>, RunError> {
        if have_all_left(calls) {
            return Err(RunError::new(RunErrorKind::Unwanted, "nobody waits"));
        }
        self.run_within(inputs, outputs, time)
    }

    fn run_time(&self) -> RunTime {
        self.run_time
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

/// A served model, and the rows of its runs.
pub(crate) fn adder(settings: BatchSettings) -> (Arc<ServedModel>, Arc<Mutex<Vec<usize>>>) {
    adder_of(RunTime::Short, settings)
}

/// The same, of which this is known.
pub(crate) fn adder_of(
    run_time: RunTime,
    settings: BatchSettings,
) -> (Arc<ServedModel>, Arc<Mutex<Vec<usize>>>) {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let model = Adder {
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![spec("X", &[None, Some(2)])],
            outputs: vec![
                spec("sum", &[None]),
                spec("total", &[None]),
                spec("one", &[Some(1)]),
            ],
            default_outputs: vec![0],
            columns: None,
        },
        description: Description::default(),
        run_time,
        runs: Arc::clone(&runs),
    };
    let loaded = LoadedModel::new("adder".to_owned(), Box::new(model), LoadPhases::default());
    let served = ServedModel::new(loaded, 1).with_batching(settings);
    (Arc::new(served), runs)
}

/// What a call got.
pub(crate) type Got = Result<(Vec<Tensor>, Ran), String>;

struct ToCaller(oneshot::Sender<Got>);

impl Answer for ToCaller {
    fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }

    fn answer(
        self: Box<Self>,
        _model: &LoadedModel,
        outputs: Result<Vec<Tensor>, RunError>,
        ran: &Ran,
    ) {
        let got = outputs.map(|outputs| (outputs, *ran));
        drop(self.0.send(got.map_err(|error| error.to_string())));
    }

    fn refuse(self: Box<Self>, refusal: Refusal) {
        drop(self.0.send(Err(refusal.message())));
    }
}

fn table(values: Values, n_columns: usize) -> Tensor {
    let n_rows = values.len() / n_columns;
    Tensor::try_new(vec![n_rows, n_columns], values).unwrap()
}

/// A call with these inputs for this output, and where its answer comes.
pub(crate) fn call_of(
    model: &ServedModel,
    input: Tensor,
    output: usize,
) -> (Entry, oneshot::Receiver<Got>) {
    let (sender, receiver) = oneshot::channel();
    let entry = Entry {
        lease: model.try_enter().unwrap(),
        n_rows: input.n_rows(),
        inputs: vec![input],
        outputs: vec![output],
        priority: Priority::DEFAULT,
        until: Duration::from_secs(1),
        wanted: None,
        answer: Box::new(ToCaller(sender)),
    };
    (entry, receiver)
}

pub(crate) fn call(model: &ServedModel, values: &[f64]) -> (Entry, oneshot::Receiver<Got>) {
    call_of(model, table(Values::F64(values.to_vec().into()), 2), 0)
}

fn run_all(model: &ServedModel, entries: Vec<Entry>) {
    let clock = ManualClock::new();
    run(model, entries, Placement::ComputePool, &clock);
}

pub(crate) fn sums(receiver: &mut oneshot::Receiver<Got>) -> Result<Vec<f64>, String> {
    let (outputs, _) = receiver.try_recv().expect("an answer is there")?;
    Ok(outputs[0].values().to_f64s().unwrap().into_owned())
}

#[test]
fn calls_that_fit_run_once_and_each_gets_its_own_rows() {
    let (model, runs) = adder(BatchSettings::opportunistic());
    let (first, mut of_first) = call(&model, &[1.0, 2.0]);
    let (second, mut of_second) = call(&model, &[3.0, 4.0, 5.0, 6.0]);
    run_all(&model, vec![first, second]);
    assert_eq!(*runs.lock().unwrap(), [3]);
    let (_, ran) = of_second.try_recv().unwrap().unwrap();
    assert!(ran.joined && ran.n_rows == 3);
    assert_eq!(sums(&mut of_first), Ok(vec![3.0]));
}

#[test]
fn what_differs_never_mixes() {
    let (model, runs) = adder(BatchSettings::opportunistic());
    let wide = table(Values::F64(vec![0.0; 4].into()), 4);
    let single = table(Values::F32(vec![1.0, 1.0].into()), 2);
    let calls = [
        call(&model, &[1.0, 2.0]),
        call_of(&model, wide, 0),
        call_of(&model, single, 0),
        call_of(&model, table(Values::F64(vec![1.0, 1.0].into()), 2), 2),
        call_of(&model, table(Values::F64(vec![1.0, 1.0].into()), 2), 2),
        call(&model, &[]),
        call(&model, &[5.0, 6.0]),
    ];
    let (entries, mut answers): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    run_all(&model, entries);
    // The first and the last together; wide rows, another datatype, outputs that are not by row, no rows: alone.
    assert_eq!(*runs.lock().unwrap(), [2, 2, 1, 1, 1, 0]);
    assert_eq!(sums(&mut answers[6]), Ok(vec![11.0]));
    assert_eq!(sums(&mut answers[5]), Ok(vec![]));
}

#[test]
fn a_bad_call_fails_alone() {
    let (model, runs) = adder(BatchSettings::opportunistic());
    let calls = [
        call(&model, &[1.0, 2.0]),
        call(&model, &[-1.0, 2.0]),
        call(&model, &[1000.0, 2.0]),
        // What any model refuses does not even join.
        call(&model, &[f64::NAN, 2.0]),
        call(&model, &[3.0, 4.0]),
    ];
    let (entries, mut answers): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    run_all(&model, entries);
    assert_eq!(*runs.lock().unwrap(), [4, 1, 1, 1, 1, 1]);
    assert_eq!(sums(&mut answers[0]), Ok(vec![3.0]));
    assert_eq!(sums(&mut answers[4]), Ok(vec![7.0]));
    for index in [1, 3] {
        let error = sums(&mut answers[index]).unwrap_err();
        assert_eq!(error, "a negative number, or none");
    }
    assert!(sums(&mut answers[2]).unwrap_err().contains("failed"));
}

#[test]
fn a_run_goes_on_while_somebody_waits() {
    let (model, runs) = adder(BatchSettings::opportunistic());
    let caller = || {
        let (mut entry, answer) = call(&model, &[1.0, 2.0]);
        let wanted = Wanted::default();
        entry.wanted = Some(wanted.clone());
        (entry, answer, wanted)
    };
    let (first, mut of_first, wanted) = caller();
    let (second, mut of_second, _waits) = caller();
    wanted.leave();
    run_all(&model, vec![first, second]);
    assert_eq!(*runs.lock().unwrap(), [2]);
    assert!(sums(&mut of_first).is_ok() && sums(&mut of_second).is_ok());
    // One of whom nobody says whether somebody waits is waited for.
    let (first, mut of_first, wanted) = caller();
    let (second, mut of_second) = call(&model, &[3.0, 4.0]);
    wanted.leave();
    run_all(&model, vec![first, second]);
    assert_eq!(*runs.lock().unwrap(), [2, 2]);
    assert!(sums(&mut of_first).is_ok() && sums(&mut of_second).is_ok());
    let [(first, mut of_first, one), (second, mut of_second, two)] = [caller(), caller()];
    one.leave();
    two.leave();
    run_all(&model, vec![first, second]);
    assert_eq!(*runs.lock().unwrap(), [2, 2]);
    for answer in [&mut of_first, &mut of_second] {
        assert_eq!(sums(answer).unwrap_err(), "nobody waits");
    }
}

#[test]
fn runs_have_the_time_of_their_calls() {
    let (model, runs) = adder(BatchSettings::opportunistic());
    let hurried = || {
        let (mut entry, answer) = call(&model, &[1.0, 2.0]);
        entry.until = Duration::from_millis(999);
        (entry, answer)
    };
    let (alone, mut of_alone) = hurried();
    run_all(&model, vec![alone]);
    assert_eq!(sums(&mut of_alone).unwrap_err(), "less than a second");
    // Together, that of the one that has most.
    let (first, mut of_first) = hurried();
    let (second, mut of_second) = call(&model, &[3.0, 4.0]);
    run_all(&model, vec![first, second]);
    assert_eq!(*runs.lock().unwrap(), [2]);
    assert_eq!(sums(&mut of_first), Ok(vec![3.0]));
    assert_eq!(sums(&mut of_second), Ok(vec![7.0]));
}

#[test]
fn outputs_that_are_not_by_row_are_noticed_and_not_tried_again() {
    let (model, runs) = adder(BatchSettings::opportunistic());
    for _ in 0..2 {
        let rows = || table(Values::F64(vec![1.0, 2.0].into()), 2);
        let (first, mut of_first) = call_of(&model, rows(), 1);
        let (second, mut of_second) = call_of(&model, rows(), 1);
        run_all(&model, vec![first, second]);
        assert_eq!(sums(&mut of_first), Ok(vec![3.0]));
        assert_eq!(sums(&mut of_second), Ok(vec![3.0]));
    }
    assert_eq!(*runs.lock().unwrap(), [2, 1, 1, 1, 1]);
}

#[test]
fn callers_that_have_gone_do_not_run() {
    let (model, runs) = adder(BatchSettings::opportunistic());
    let (first, gone) = call(&model, &[1.0, 2.0]);
    drop(gone);
    let (second, mut answer) = call(&model, &[3.0, 4.0]);
    run_all(&model, vec![first, second]);
    assert_eq!(*runs.lock().unwrap(), [1]);
    assert_eq!(sums(&mut answer), Ok(vec![7.0]));
}

#[test]
fn batches_have_at_most_so_many_rows() {
    let (model, runs) = adder(BatchSettings {
        rows_max: 2,
        ..BatchSettings::opportunistic()
    });
    let calls = [1, 1, 1, 3, 1].map(|n_rows| call(&model, &vec![1.0; 2 * n_rows]));
    let (entries, mut answers): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    run_all(&model, entries);
    assert_eq!(*runs.lock().unwrap(), [2, 2, 3]);
    assert!(answers.iter_mut().all(|answer| sums(answer).is_ok()));
}

#[test]
fn more_is_taken_along_only_if_that_saves_something() {
    let cost = CallCost::new();
    assert!(is_worthwhile(&cost, 1, 1));
    let ms = Duration::from_millis;
    // 10 ms a row, however many there are: nothing is saved.
    for n_rows in [1, 2, 4] {
        cost.record_run(n_rows, ms(10) * u32::try_from(n_rows).unwrap());
    }
    assert!(!is_worthwhile(&cost, 1, 1));
    // Nobody has seen eight rows yet.
    assert!(is_worthwhile(&cost, 4, 4));
    // They are tried before any more: what is queued does not all go into one run that nobody knows.
    assert!(!is_worthwhile(&cost, 8, 4) && !is_worthwhile(&cost, 8, 8));
    cost.record_run(8, ms(80));
    assert!(!is_worthwhile(&cost, 4, 4));
    // 10 ms for a run, whatever it holds.
    let fixed = CallCost::new();
    for n_rows in [1, 2] {
        fixed.record_run(n_rows, ms(10));
    }
    assert!(is_worthwhile(&fixed, 1, 1));
    // Short runs are put together in any case.
    let short = CallCost::new();
    short.record_run(1, ms(1));
    assert!(is_worthwhile(&short, 1, 1) && is_worthwhile(&short, 1, 1));
}

#[test]
fn where_no_thread_is_free_as_many_rows_go_together_as_cost_least() {
    let (cost, ms) = (CallCost::new(), Duration::from_millis);
    // Nothing is known, and nothing is put together for that.
    assert_eq!(rows_when_busy(&cost, 1), 1);
    cost.record_run(1, ms(8));
    // One size after another is tried.
    assert_eq!(rows_when_busy(&cost, 0), 2);
    assert_eq!(rows_when_busy(&cost, 1), 2);
    cost.record_run(2, ms(15));
    assert_eq!(rows_when_busy(&cost, 1), 4);
    cost.record_run(4, ms(26));
    // Eight would take 52 ms as far as is known.
    assert_eq!(rows_when_busy(&cost, 1), 4);
    // 26 ms for four are 6.5 for each: less than nine tenths of 8. What saves less is not worth it.
    let flat = CallCost::new();
    for (n_rows, time) in [(1, 10), (2, 19), (4, 37)] {
        flat.record_run(n_rows, ms(time));
    }
    assert_eq!(rows_when_busy(&flat, 1), 1);
    assert_eq!(rows_when_busy(&flat, 2), 2);
    // What was found not to be worth it is tried again now and then, each size in its turn.
    let looks: Vec<usize> = (0..256).map(|_| rows_when_busy(&flat, 1)).collect();
    let trials: Vec<usize> = looks.into_iter().filter(|rows| *rows != 1).collect();
    assert_eq!(trials, [2, 4, 2, 4]);
}

mod waiting {
    use tokio::time::{Instant, advance};

    use super::*;

    fn settings(rows_max: usize, rows_preferred: &[usize]) -> BatchSettings {
        BatchSettings {
            rows_max,
            wait: Duration::from_millis(50),
            rows_preferred: rows_preferred.to_vec(),
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_ready_when_it_is_full_or_its_time_is_over() {
        let (model, _) = adder(settings(3, &[]));
        let batcher = model.batching();
        assert!(batcher.waits());
        let begun = Instant::now();
        let (first, _one) = call(&model, &[1.0, 2.0]);
        let (number, until) = batcher.join(first, LONG).waiting.unwrap();
        assert_eq!(until, begun + Duration::from_millis(50));
        advance(Duration::from_millis(20)).await;
        // The time of a batch counts from its first call on.
        let (second, _two) = call(&model, &[1.0, 2.0]);
        assert_eq!(batcher.join(second, LONG).waiting, Some((number, until)));
        let (third, _three) = call(&model, &[1.0, 2.0]);
        let joined = batcher.join(third, LONG);
        assert_eq!((joined.ready.len(), joined.ready[0].0.len()), (1, 3));
        assert_eq!(joined.waiting, None);
        // Those whose time comes find that it has gone already.
        assert!(batcher.take(number).is_none());
        let (fourth, _four) = call(&model, &[1.0, 2.0]);
        let (number, _) = batcher.join(fourth, LONG).waiting.unwrap();
        assert_eq!(batcher.take(number).unwrap().0.len(), 1);
        assert!(batcher.take(number).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_does_not_fit_lets_those_before_it_go() {
        let (model, _) = adder(settings(3, &[]));
        let batcher = model.batching();
        let (first, _one) = call(&model, &[1.0; 4]);
        batcher.join(first, LONG);
        let (second, _two) = call(&model, &[1.0; 4]);
        let joined = batcher.join(second, LONG);
        assert_eq!((joined.ready.len(), joined.waiting.is_some()), (1, true));
        // One that is too large by itself goes by itself.
        let (third, _three) = call(&model, &[1.0; 20]);
        let joined = batcher.join(third, LONG);
        let sizes: Vec<usize> = joined.ready.iter().map(|batch| batch.0.len()).collect();
        assert_eq!((sizes, joined.waiting), (vec![1, 1], None));
    }

    #[tokio::test(start_paused = true)]
    async fn preferred_sizes_and_callers_in_a_hurry_do_not_wait() {
        let (model, _) = adder(settings(100, &[2, 4]));
        let batcher = model.batching();
        let (first, _one) = call(&model, &[1.0; 2]);
        assert!(batcher.join(first, LONG).ready.is_empty());
        let (second, _two) = call(&model, &[1.0; 2]);
        assert_eq!(batcher.join(second, LONG).ready[0].0.len(), 2);
        let (third, _three) = call(&model, &[1.0; 2]);
        assert!(batcher.join(third, LONG).ready.is_empty());
        let (fourth, _four) = call(&model, &[1.0; 6]);
        let joined = batcher.join(fourth, Duration::from_millis(10));
        assert_eq!((joined.ready[0].0.len(), joined.waiting), (2, None));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_go_leave_their_batch() {
        let (model, _) = adder(settings(2, &[]));
        let batcher = model.batching();
        let (first, gone) = call(&model, &[1.0; 2]);
        batcher.join(first, LONG);
        drop(gone);
        // The batch is not full, as one has left.
        let (second, _two) = call(&model, &[1.0; 2]);
        assert!(batcher.join(second, LONG).waiting.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_gives_its_place_back_and_its_time_is_forgotten() {
        let (model, _) = adder(settings(8, &[]));
        model.set_concurrency(Some(1));
        let batcher = model.batching();
        let (first, gone) = call(&model, &[1.0; 2]);
        batcher.join(first, LONG);
        assert!(model.try_enter().is_none());
        drop(gone);
        advance(Duration::from_millis(40)).await;
        batcher.leave();
        let (second, _two) = call(&model, &[1.0; 2]);
        let (_, until) = batcher.join(second, LONG).waiting.unwrap();
        assert_eq!(until, Instant::now() + Duration::from_millis(50));
    }
}
