//! Models whose runs may take long: where they run, how much time they have, and what becomes of those that give up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_gateway::Limits;
use coracle_model::{Description, Model, RunError, RunErrorKind, RunTime, Signature, TensorSpec};
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};
use coracle_tensor::{DType, Tensor};

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start_with};

/// The thread of a run, and the time that it had.
type Seen = Arc<Mutex<Vec<(String, Duration)>>>;

/// Answers what it is asked, unless that is negative: then it gives up.
#[derive(Debug)]
struct Slow {
    signature: Signature,
    description: Description,
    run_time: RunTime,
    seen: Seen,
}

impl Model for Slow {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, _inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        unreachable!("calls have a time")
    }

    fn run_within(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
    ) -> Result<Vec<Tensor>, RunError> {
        let thread = std::thread::current().name().unwrap().to_owned();
        self.seen.lock().unwrap().push((thread, time));
        let values = inputs[0].values().to_f64s().unwrap();
        if values.iter().any(|value| *value < 0.0) {
            return Err(RunError::new(RunErrorKind::OutOfTime, "it did not end"));
        }
        Ok(outputs.iter().map(|_| inputs[0].clone()).collect())
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

fn serve(run_time: RunTime) -> (Running, Seen) {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape: vec![None],
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let seen = Seen::default();
    let model = Slow {
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            default_outputs: vec![0],
            columns: None,
        },
        description: Description::default(),
        run_time,
        seen: Arc::clone(&seen),
    };
    let mut model = Some(model);
    let settings = config(Limits::default());
    let n_workers = settings.n_workers;
    let server = start_with(settings, |_| {
        let model = Box::new(model.take().unwrap());
        let loaded = LoadedModel::new("slow".to_owned(), model, LoadPhases::default());
        ModelTable::try_new([ServedModel::new(loaded, n_workers)]).unwrap()
    });
    (server, seen)
}

fn ask(server: &Running, x: f64, parameters: &str) -> Answer {
    let body = format!(
        r#"{{"inputs": [{{"name": "x", "shape": [1], "datatype": "FP64", "data": [{x}]}}]{parameters}}}"#
    );
    let path = "/v2/models/slow/infer";
    send(server.address, "POST", path, &[], body.as_bytes())
}

#[test]
fn runs_that_may_take_long_leave_the_event_loop() {
    for (run_time, threads) in [
        (RunTime::Short, "coracle-worker"),
        (RunTime::Unknown, "coracle-pool"),
        (RunTime::Any, "coracle-pool"),
        (RunTime::Elsewhere, "coracle-pool"),
    ] {
        let (server, seen) = serve(run_time);
        assert_eq!(ask(&server, 1.0, "").status, 200);
        if matches!(run_time, RunTime::Any | RunTime::Elsewhere) {
            // However short the first was.
            assert_eq!(ask(&server, 1.0, "").status, 200);
        }
        let seen = seen.lock().unwrap();
        let all_there = seen.iter().all(|(thread, _)| thread.starts_with(threads));
        assert!(all_there && !seen.is_empty(), "{run_time:?}: {seen:?}");
    }
}

#[test]
fn runs_have_the_time_of_their_call_and_may_give_up() {
    for run_time in [RunTime::Short, RunTime::Any] {
        let (server, seen) = serve(run_time);
        // In microseconds.
        let answer = ask(&server, -1.0, r#", "parameters": {"timeout": 20000000}"#);
        assert_eq!(answer.status, 504, "{}", answer.body);
        assert!(answer.body.contains("it did not end"), "{}", answer.body);
        let (_, time) = seen.lock().unwrap()[0];
        let most = Duration::from_secs(20);
        assert!(time <= most && time > Duration::ZERO, "{time:?}");
        assert_eq!(ask(&server, 1.0, "").status, 200);
    }
}
