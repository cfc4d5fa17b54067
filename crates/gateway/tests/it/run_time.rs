//! Models whose runs may take long: where they run, how much time they have, and what becomes of those that give up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_gateway::{Limits, ServerConfig};
use coracle_model::{Description, Model, RunError, RunErrorKind, RunTime, Signature, TensorSpec};
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};
use coracle_tensor::{DType, Tensor};

use crate::client::{Answer, connect, send};
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
    serve_as(run_time, 2, |_| {})
}

/// Starts a server with so many event loops, of whose model `prepare` may know something.
fn serve_as(
    run_time: RunTime,
    n_workers: usize,
    prepare: impl Fn(&ServedModel),
) -> (Running, Seen) {
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
    let settings = ServerConfig {
        n_workers,
        ..config(Limits::default())
    };
    let server = start_with(settings, |_| {
        let model = Box::new(model.take().unwrap());
        let loaded = LoadedModel::new("slow".to_owned(), model, LoadPhases::default());
        let served = ServedModel::new(loaded, n_workers);
        prepare(&served);
        ModelTable::try_new([served]).unwrap()
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

/// Its first run is expected to take so long.
fn expecting(elapsed: Duration) -> impl Fn(&ServedModel) {
    move |model| model.cost().record_run(1, elapsed)
}

#[test]
fn runs_of_some_milliseconds_stay_on_an_event_loop_that_has_one_caller() {
    let (some, too_many) = (Duration::from_millis(3), Duration::from_millis(12));
    for (run_time, n_workers, expected, thread) in [
        (RunTime::Short, 2, some, "coracle-worker"),
        (RunTime::Unknown, 2, some, "coracle-worker"),
        (RunTime::Unknown, 2, too_many, "coracle-pool"),
        (RunTime::Any, 2, some, "coracle-pool"),
        (RunTime::Elsewhere, 2, some, "coracle-pool"),
        // There is no other loop for those who come meanwhile.
        (RunTime::Unknown, 1, some, "coracle-pool"),
    ] {
        let (server, seen) = serve_as(run_time, n_workers, expecting(expected));
        assert_eq!(ask(&server, 1.0, "").status, 200);
        let seen = seen.lock().unwrap();
        let has = |name: &str| seen[0].0.starts_with(name);
        assert!(
            has(thread),
            "{run_time:?}, {n_workers}, {expected:?}: {seen:?}"
        );
    }
}

#[test]
fn runs_of_some_milliseconds_leave_an_event_loop_that_has_several_callers() {
    let (server, seen) = serve_as(RunTime::Unknown, 2, expecting(Duration::from_millis(3)));
    // The loops take connections in turn: the third one is on the first one's loop.
    let idle = [(); 2].map(|()| connect(server.address));
    assert_eq!(ask(&server, 1.0, "").status, 200);
    drop(idle);
    let seen = seen.lock().unwrap();
    assert!(seen[0].0.starts_with("coracle-pool"), "{seen:?}");
}

#[test]
fn whoever_connects_while_an_event_loop_runs_is_given_to_another() {
    let server = start_with(config(Limits::default()), |sum| {
        expecting(Duration::from_millis(3))(&sum);
        ModelTable::try_new([sum]).unwrap()
    });
    let infer = |row: &str| {
        let body = format!(r#"{{"instances": [{row}]}}"#);
        let path = "/v1/models/sum:predict";
        send(server.address, "POST", path, &[], body.as_bytes())
    };
    std::thread::scope(|scope| {
        // It takes as long as the gate is closed, whatever was expected.
        let slow = scope.spawn(|| infer("[999, 1]"));
        server.entered.recv().unwrap();
        for _ in 0..5 {
            let answer = infer("[1, 2]");
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, r#"{"predictions":[3.0]}"#)
            );
        }
        server.gate.send(()).unwrap();
        assert_eq!(slow.join().unwrap().status, 200);
    });
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
