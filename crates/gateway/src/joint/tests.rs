//! What runs together, and what becomes of the others when one leaves.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, ManualClock};
use coracle_model::{Description, Model, RunError, RunErrorKind, Signature, TensorSpec};
use coracle_serving::{LoadPhases, LoadedModel};
use coracle_tensor::{DType, Tensor, Values};

use super::*;
use crate::codec::Codec;
use crate::shadow::tests::calls;

/// Answers every row with its number times ten, and takes ten microseconds, however many there are; one thousand is refused.
#[derive(Debug)]
struct Tenfold {
    signature: Signature,
    description: Description,
    clock: Arc<ManualClock>,
    /// The rows of each run.
    runs: Arc<Mutex<Vec<usize>>>,
}

impl Model for Tenfold {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let Values::F64(numbers) = inputs[0].values() else {
            panic!("{inputs:?}");
        };
        self.runs.lock().unwrap().push(numbers.len());
        if numbers.contains(&1_000.0) {
            return Err(RunError::new(
                RunErrorKind::ValueOutOfRange,
                "one thousand is too many",
            ));
        }
        self.clock.advance(Duration::from_micros(10));
        let tens: Vec<f64> = numbers.iter().map(|number| number * 10.0).collect();
        Ok(vec![Tensor::from_values(Values::F64(tens.into()))])
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

struct Stage {
    clock: Arc<ManualClock>,
    calls: Calls,
    model: Arc<ServedModel>,
    runs: Arc<Mutex<Vec<usize>>>,
}

impl Stage {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let runs = Arc::default();
        let spec = |name: &str, shape| TensorSpec {
            name: name.to_owned(),
            dtype: DType::F64,
            shape,
            columns: None,
            accepts_missing: false,
            accepts_integers: false,
        };
        let model = Tenfold {
            signature: Signature {
                keyed_outputs: Vec::new(),
                keyed_inputs: Vec::new(),
                unranked_inputs: Vec::new(),
                name_rules: Default::default(),
                inputs: vec![spec("X", vec![None, Some(1)])],
                outputs: vec![spec("predict", vec![None])],
                default_outputs: vec![0],
                columns: None,
            },
            description: Description::default(),
            clock: Arc::clone(&clock),
            runs: Arc::clone(&runs),
        };
        let loaded = LoadedModel::new("m".to_owned(), Box::new(model), LoadPhases::default());
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        Self {
            calls: calls(&shared),
            clock,
            model: Arc::new(ServedModel::new(loaded, 1)),
            runs,
        }
    }

    async fn ask(&self, number: u32) -> Result<String, String> {
        let request = Request::plain(
            Codec::V1 { method: None },
            Bytes::from(format!("{{\"instances\": [[{number}]]}}")),
            self.clock.monotonic(),
        );
        let answer = self.calls.answer(&self.model, request).await;
        answer
            .map(|encoded| String::from_utf8(encoded.body).unwrap())
            .map_err(|failure| failure.message)
    }

    /// Returns the rows of the runs since the last look.
    fn runs(&self) -> Vec<usize> {
        std::mem::take(&mut *self.runs.lock().unwrap())
    }
}

fn tens(number: u32) -> Result<String, String> {
    Ok(format!("{{\"predictions\":[{number}.0]}}"))
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_there_together_run_together_once_it_is_known_what_one_costs() {
    let stage = Stage::new();
    // Nobody knows yet what a run costs.
    let answers = tokio::join!(stage.ask(1), stage.ask(2));
    assert_eq!(answers, (tens(10), tens(20)));
    assert_eq!(stage.runs(), [1, 1]);
    let answers = tokio::join!(stage.ask(1), stage.ask(2), stage.ask(3), stage.ask(4));
    assert_eq!(answers, (tens(10), tens(20), tens(30), tens(40)));
    assert_eq!(stage.runs(), [4]);
    assert_eq!(stage.ask(5).await, tens(50));
    assert_eq!(stage.runs(), [1]);
    // Each was counted, and the four runs.
    let counted = stage.model.statistics().inferences().totals();
    assert_eq!((counted.n_rows, counted.n_runs()), (7, 4));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_leaves_the_others_their_answers() {
    let stage = Stage::new();
    assert_eq!(stage.ask(1).await, tens(10));
    let answers = tokio::join!(stage.ask(1), stage.ask(1_000), stage.ask(3));
    assert_eq!((&answers.0, &answers.2), (&tens(10), &tens(30)));
    assert!(answers.1.unwrap_err().contains("one thousand is too many"));
}

#[tokio::test(start_paused = true)]
async fn when_the_caller_goes_who_came_first_the_others_are_answered() {
    let stage = Stage::new();
    assert_eq!(stage.ask(1).await, tens(10));
    stage.runs();
    let mut first = Box::pin(stage.ask(2));
    let mut second = pin!(stage.ask(3));
    let ctx = &mut Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(ctx).is_pending());
    assert!(second.as_mut().poll(ctx).is_pending());
    drop(first);
    assert_eq!(second.await, tens(30));
    // Nobody ran what nobody waits for.
    assert_eq!(stage.runs(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_leaves_its_place() {
    let stage = Stage::new();
    assert_eq!(stage.ask(1).await, tens(10));
    stage.runs();
    let before = Arc::strong_count(&stage.model);
    let mut gone = Box::pin(stage.ask(2));
    let ctx = &mut Context::from_waker(Waker::noop());
    assert!(gone.as_mut().poll(ctx).is_pending());
    assert!(Arc::strong_count(&stage.model) > before);
    drop(gone);
    // Nothing of it is left: neither the call, nor its hold on the model.
    assert_eq!(Arc::strong_count(&stage.model), before);
    assert_eq!(stage.runs(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn no_more_run_together_than_are_over_soon() {
    let stage = Stage::new();
    // 200 us for each: three would keep the event loop for too long.
    stage.model.cost().record_run(1, Duration::from_micros(200));
    let answers = tokio::join!(stage.ask(1), stage.ask(2), stage.ask(3), stage.ask(4));
    assert_eq!(answers, (tens(10), tens(20), tens(30), tens(40)));
    assert_eq!(stage.runs(), [2, 2]);
}
