//! What is answered where a model fails: default predictions in every protocol, retries, breakers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_gateway::{Limits, ServerConfig};
use coracle_model::{Description, Model, RunError, Signature};
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{ModelInferResponse, ParameterChoice};
use coracle_protocol::grpc::tensorflow::PredictResponse;
use coracle_serving::{
    FallbackSettings, LoadPhases, LoadedModel, ModelTable, RevisionId, RevisionLog, Route,
    RouteTarget, ServedModel, ServiceId,
};
use coracle_tensor::{Tensor, Values};

use crate::client::{Answer, connect, read_answer, send, write_request};
use crate::fixture::{Running, config, start_with, sum_model};
use crate::grpc;
use crate::routes::JSON;
use crate::tfs_grpc;

const PREDICT: &str = "/v1/models/sum:predict";
const INFER: &str = "/v2/models/sum/infer";
/// A negative sum, on which the model panics.
const BAD: &[u8] = br#"{"instances": [[-5, 1], [-7, 2]]}"#;
const GOOD: &[u8] = br#"{"instances": [[1, 2]]}"#;

fn settings(value: &str) -> FallbackSettings {
    FallbackSettings {
        value: Some(value.to_owned()),
        ..FallbackSettings::default()
    }
}

fn start(settings: FallbackSettings) -> Running {
    start_with(config(Limits::default()), |sum| {
        sum.set_fallback(Some(&settings));
        let route = Arc::new(Route::single(Arc::new(sum)));
        ModelTable::from_routes(BTreeMap::from([(id("sum"), route)]))
    })
}

fn ask(server: &Running, path: &str, body: &[u8]) -> Answer {
    send(server.address, "POST", path, &[JSON], body)
}

fn metric(server: &Running, name: &str) -> u64 {
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn a_model_that_fails_is_stood_in_for_and_the_answer_says_so() {
    let server = start(settings("7.5"));
    let answer = ask(&server, PREDICT, BAD);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"predictions":[7.5,7.5]}"#)
    );
    assert_eq!(answer.header("x-coracle-fallback"), Some("constant"));
    let answer = ask(&server, PREDICT, GOOD);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"predictions":[3.0]}"#)
    );
    assert_eq!(answer.header("x-coracle-fallback"), None);
    let body = br#"{"id": "x", "inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [-5, 1]}]}"#;
    let answer = ask(&server, INFER, body);
    let found: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(found["parameters"]["fallback"], "constant");
    assert_eq!(
        (&found["outputs"][0]["data"][0], &found["id"]),
        (&7.5.into(), &"x".into())
    );
    assert_eq!(answer.header("x-coracle-fallback"), Some("constant"));
    // Who asks for what cannot be is told so.
    assert_eq!(
        ask(&server, PREDICT, br#"{"instances": [[1]]}"#).status,
        400
    );
    // What the model did is what is counted.
    assert_eq!(metric(&server, "coracle_fallbacks_total"), 2);
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let failed =
        r#"coracle_requests_total{model="sum",version="1",protocol="v1",code="internal"} 1"#;
    assert!(text.lines().any(|line| line == failed), "{text}");
}

/// Gives the magnitudes of sums, and fails at none.
#[derive(Debug)]
struct Magnitude {
    signature: Signature,
    description: Description,
}

impl Model for Magnitude {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let values = inputs[0].values().to_f64s().unwrap();
        let sums: Vec<f64> = values
            .chunks_exact(2)
            .map(|row| (row[0] + row[1]).abs())
            .collect();
        Ok(vec![Tensor::from_values(Values::F64(sums.into()))])
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

pub(crate) fn magnitude(name: &str) -> ServedModel {
    magnitude_with(name, |_signature| ())
}

/// The same, with another signature.
pub(crate) fn magnitude_with(name: &str, change: impl FnOnce(&mut Signature)) -> ServedModel {
    let (sum, _entered, _gate) = sum_model();
    let mut signature = sum.signature().clone();
    change(&mut signature);
    let model = Magnitude {
        signature,
        description: Description::default(),
    };
    let loaded = LoadedModel::new(name.to_owned(), Box::new(model), LoadPhases::default());
    ServedModel::new(loaded, 2)
}

/// The service `sum`, for which `other` stands in, and the default prediction `value` where that fails, too; the other one is `next`.
fn start_two(value: Option<&str>, other: &str) -> Running {
    let settings = FallbackSettings {
        value: value.map(str::to_owned),
        service: Some(id(other)),
        ..FallbackSettings::default()
    };
    start_with(config(Limits::default()), move |sum| {
        sum.set_fallback(Some(&settings));
        // What would happen if it had one of its own is that nobody ends.
        let next = magnitude("next");
        next.set_fallback(Some(&FallbackSettings {
            service: Some(id("sum")),
            ..FallbackSettings::default()
        }));
        let routes = [("sum", sum), ("next", next)];
        let routes =
            routes.map(|(name, model)| (id(name), Arc::new(Route::single(Arc::new(model)))));
        ModelTable::from_routes(routes.into())
    })
}

#[test]
fn another_service_stands_in_and_the_answer_says_so() {
    let server = start_two(Some("9.5"), "next");
    let answer = ask(&server, "/serving/ml/sum/v1/models/sum:predict", BAD);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"predictions":[4.0,5.0]}"#)
    );
    assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
    let body = br#"{"id": "x", "inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [-5, 1]}]}"#;
    let answer = ask(&server, "/serving/ml/sum/v2/models/sum/infer", body);
    let found: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(found["parameters"]["fallback"], "service");
    assert_eq!(
        (&found["model_name"], &found["id"]),
        (&"next".into(), &"x".into())
    );
    // What each did is what is counted.
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    for line in [
        r#"coracle_requests_total{model="sum",version="1",protocol="v1",code="internal"} 1"#,
        r#"coracle_requests_total{model="next",version="1",protocol="v1",code="ok"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let is_counted = |line: &str| {
        line.starts_with(r#"coracle_fallbacks_total{model="sum""#) && line.ends_with("} 2")
    };
    assert!(text.lines().any(is_counted), "{text}");
    // Where there is none, the default prediction.
    let server = start_two(Some("9.5"), "gone");
    let answer = ask(&server, "/serving/ml/sum/v1/models/sum:predict", BAD);
    assert_eq!(answer.header("x-coracle-fallback"), Some("constant"));
    let server = start_two(None, "gone");
    let answer = ask(&server, "/serving/ml/sum/v1/models/sum:predict", BAD);
    assert_eq!(answer.status, 500);
}

/// The canary fails; the revision that serves does not, and stands in for it, before another service does.
#[test]
fn another_revision_stands_in_and_the_answer_says_so() {
    let settings = FallbackSettings {
        revision: Some("sum-1".to_owned()),
        service: Some(id("next")),
        ..FallbackSettings::default()
    };
    let server = start_with(config(Limits::default()), |sum| {
        let revision = |model: ServedModel, name: &str| {
            let id = RevisionId {
                namespace: "ml".to_owned(),
                name: name.to_owned(),
            };
            let log = RevisionLog::none(Arc::new(SystemClock::new()));
            let model = Arc::new(model.with_revision(&id, log, Box::new(|| ())));
            model.set_fallback(Some(&settings));
            model
        };
        let (stable, canary) = (revision(magnitude("sum"), "sum-1"), revision(sum, "sum-2"));
        for model in [&stable, &canary] {
            model.fallback().unwrap().set_revision(Some(&stable));
        }
        let target = |model, percent, tag: &str| RouteTarget {
            model,
            percent,
            tags: vec![tag.to_owned()],
        };
        let targets = vec![target(stable, 0, "prev"), target(canary, 100, "latest")];
        let route = Route::try_new(targets, None).unwrap();
        ModelTable::from_routes([(id("sum"), Arc::new(route))].into())
    });
    let answer = ask(&server, "/serving/ml/sum/v1/models/sum:predict", BAD);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"predictions":[4.0,5.0]}"#)
    );
    assert_eq!(answer.header("x-coracle-fallback"), Some("revision"));
    let body =
        br#"{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [-5, 1]}]}"#;
    let answer = ask(&server, "/serving/ml/sum/v2/models/sum/infer", body);
    let found: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(found["parameters"]["fallback"], "revision");
    let answer = grpc::ask(&server, "ModelInfer", &grpc::row("sum", [-5.0, 1.0]));
    let answer = answer.message::<ModelInferResponse>();
    let parameter = answer.parameters["fallback"].parameter_choice.clone();
    let name = ParameterChoice::StringParam("revision".to_owned());
    assert_eq!(parameter, Some(name));
    // It does not stand in for itself.
    let wrong = br#"{"instances": [["a", 1]]}"#;
    let stable = "/serving/ml/prev-sum-predictor/v1/models/sum:predict";
    assert_eq!(ask(&server, stable, wrong).status, 400);
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let of = |name: &str, revision: &str, rest: &str| {
        format!(r#"{name}{{model="sum",namespace="ml",revision="{revision}"{rest}"#)
    };
    for line in [
        of("coracle_fallbacks_total", "sum-2", "} 3"),
        of("coracle_fallbacks_total", "sum-1", "} 0"),
        of(
            "coracle_requests_total",
            "sum-2",
            r#",protocol="v1",code="internal"} 1"#,
        ),
        of(
            "coracle_requests_total",
            "sum-1",
            r#",protocol="v1",code="ok"} 1"#,
        ),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

/// The model is asked with a good row first, and then with one on which it panics: who was answered gets what he was told last.
#[test]
fn the_last_good_answer_of_the_same_key_stands_in() {
    let server = start(FallbackSettings {
        key: Some("x-user".to_owned()),
        ..settings("7.5")
    });
    let ask_as = |user: Option<&str>, path: &str, body: &[u8]| {
        let headers: Vec<(&str, &str)> = [JSON]
            .into_iter()
            .chain(user.map(|user| ("x-user", user)))
            .collect();
        let answer = send(server.address, "POST", path, &headers, body);
        let by = answer.header("x-coracle-fallback").map(str::to_owned);
        (answer.body, by)
    };
    let bad = br#"{"instances": [[-5, 1]]}"#;
    let by = |name: &str| Some(name.to_owned());
    assert_eq!(ask_as(Some("ann"), PREDICT, GOOD).1, None);
    assert_eq!(
        ask_as(Some("bob"), PREDICT, br#"{"instances": [[2, 2]]}"#).1,
        None
    );
    for (user, body, name) in [
        (Some("ann"), r#"{"predictions":[3.0]}"#, "last-good"),
        (Some("bob"), r#"{"predictions":[4.0]}"#, "last-good"),
        (Some("eve"), r#"{"predictions":[7.5]}"#, "constant"),
        (None, r#"{"predictions":[7.5]}"#, "constant"),
    ] {
        assert_eq!(
            ask_as(user, PREDICT, bad),
            (body.to_owned(), by(name)),
            "{user:?}"
        );
    }
    // Of other outputs, or of another number of rows, nothing is known.
    let twice = format!("{PREDICT}?method=twice");
    assert_eq!(ask_as(Some("ann"), PREDICT, BAD).1, by("constant"));
    assert!(ask_as(Some("ann"), &twice, bad).0.contains("error"));
    // In another protocol it is the same answer, with the id of its request.
    let body = br#"{"id": "x", "inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [-5, 1]}]}"#;
    let (body, name) = ask_as(Some("ann"), INFER, body);
    let found: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&found["id"], name), (&"x".into(), by("last-good")));
    assert_eq!(found["parameters"]["fallback"], "last-good");
    assert_eq!(found["outputs"][0]["data"][0], 3.0);
    // What stood in is not kept as if it were the model's.
    assert_eq!(ask_as(Some("eve"), PREDICT, bad).1, by("constant"));
}

#[test]
fn an_output_without_a_value_fails_as_it_did() {
    let server = start(settings(r#"{"twice": 1.0}"#));
    assert_eq!(ask(&server, PREDICT, BAD).status, 500);
    let answer = ask(&server, &format!("{PREDICT}?method=twice"), BAD);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"predictions":[1.0,1.0]}"#)
    );
}

#[test]
fn requests_are_tried_again_as_often_as_is_said() {
    let retries = FallbackSettings {
        retries: 3,
        ..FallbackSettings::default()
    };
    let server = start(retries);
    assert_eq!(ask(&server, PREDICT, BAD).status, 500);
    assert_eq!(metric(&server, "coracle_retries_total"), 3);
    assert_eq!(metric(&server, "coracle_model_panics_total"), 4);
    // What the caller does wrong is not tried again.
    assert_eq!(ask(&server, PREDICT, b"{").status, 400);
    assert_eq!(metric(&server, "coracle_retries_total"), 3);
}

#[test]
fn an_open_breaker_spares_the_model() {
    let server = start(FallbackSettings {
        breaker_failures: Some(2),
        ..settings("0.0")
    });
    for _ in 0..20 {
        let answer = ask(&server, PREDICT, BAD);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"predictions":[0.0,0.0]}"#)
        );
    }
    assert_eq!(metric(&server, "coracle_fallbacks_total"), 20);
    // Two opened it; a probe may have come through since.
    assert!(metric(&server, "coracle_model_panics_total") < 5);
}

/// All calls take longer than a nanosecond, and are answered well.
#[test]
fn a_model_that_is_slow_opens_its_breaker() {
    let slow = FallbackSettings {
        breaker_latency: Some(Duration::from_nanos(1)),
        ..settings("0.0")
    };
    let server = start(slow);
    let by = || {
        let answer = ask(&server, PREDICT, GOOD);
        assert_eq!(answer.status, 200);
        answer.header("x-coracle-fallback").map(str::to_owned)
    };
    // Half of at least 20.
    for n in 1..20 {
        assert_eq!(by(), None, "{n}");
    }
    assert!((0..10).any(|_| by().as_deref() == Some("constant")));
}

#[test]
fn what_takes_too_long_is_stood_in_for() {
    let server = start(FallbackSettings {
        timeout: Some(Duration::from_millis(50)),
        ..settings("4.0")
    });
    // Until it is known to be costly a call runs on the event loop, where nothing can end it.
    let answer = ask(&server, PREDICT, costly().as_bytes());
    assert_eq!(answer.header("x-coracle-fallback"), Some("constant"));
    assert!(answer.body.starts_with("{\"predictions\":[4.0,4.0"));
    server.gate.send(()).unwrap();
}

/// A request that the model sits on until its gate is opened, on the compute pool.
fn costly() -> String {
    let rows = (0..70).map(|_| "[1, 2]").collect::<Vec<_>>().join(", ");
    format!("{{\"instances\": [{rows}, [999, 1]]}}")
}

#[test]
fn a_caller_that_would_not_wait_opens_no_breaker() {
    let breaker = FallbackSettings {
        breaker_failures: Some(1),
        ..FallbackSettings::default()
    };
    let server = start(breaker);
    let headers = [JSON, ("x-request-timeout", "50ms")];
    let body = costly();
    let answer = send(server.address, "POST", PREDICT, &headers, body.as_bytes());
    assert_eq!(answer.status, 504);
    assert_eq!(ask(&server, PREDICT, GOOD).status, 200);
    server.gate.send(()).unwrap();
}

#[test]
fn a_model_that_takes_longer_than_it_may_opens_its_breaker() {
    let server = start(FallbackSettings {
        timeout: Some(Duration::from_millis(50)),
        breaker_failures: Some(1),
        ..settings("4.0")
    });
    let stood_in = |body: &[u8]| {
        let answer = ask(&server, PREDICT, body);
        answer.header("x-coracle-fallback") == Some("constant")
    };
    assert!(stood_in(costly().as_bytes()) && stood_in(GOOD));
    server.gate.send(()).unwrap();
}

#[test]
fn a_full_queue_is_no_failure_of_the_model_and_nothing_to_try_again() {
    let settings = FallbackSettings {
        retries: 3,
        breaker_failures: Some(1),
        ..FallbackSettings::default()
    };
    let server = start_with(config(Limits::default()), |sum| {
        sum.set_concurrency(Some(1));
        sum.set_fallback(Some(&settings));
        ModelTable::try_new([sum]).unwrap()
    });
    let body = costly();
    let ask_on = |body: &[u8]| {
        let mut stream = connect(server.address);
        write_request(&mut stream, "POST", PREDICT, &[JSON], body);
        stream
    };
    let mut running = ask_on(body.as_bytes());
    server.entered.recv().unwrap();
    let mut waiting: Vec<_> = (0..10).map(|_| ask_on(GOOD)).collect();
    while metric(&server, "coracle_requests_waiting") < 10 {
        std::thread::yield_now();
    }
    let answer = ask(&server, PREDICT, GOOD);
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("pending request queue full"));
    assert_eq!(metric(&server, "coracle_retries_total"), 0);
    server.gate.send(()).unwrap();
    for stream in waiting.iter_mut().chain([&mut running]) {
        assert_eq!(read_answer(stream, false).unwrap().status, 200);
    }
    assert_eq!(ask(&server, PREDICT, GOOD).status, 200);
}

#[test]
fn costly_requests_are_stood_in_for_by_the_compute_pool() {
    let breaker = FallbackSettings {
        breaker_failures: Some(1),
        ..settings("7.5")
    };
    let mut gates = Vec::new();
    let one_thread = ServerConfig {
        n_pool_threads: 1,
        ..config(Limits::default())
    };
    let server = start_with(one_thread, |sum| {
        sum.set_fallback(Some(&breaker));
        let mut models = vec![sum];
        for name in ["second", "third"] {
            let (model, entered, gate) = sum_model();
            let phases = LoadPhases::default();
            let loaded = LoadedModel::new(name.to_owned(), Box::new(model), phases);
            models.push(ServedModel::new(loaded, 2));
            gates.push((name, entered, gate));
        }
        ModelTable::try_new(models).unwrap()
    });
    let rows = vec!["[-5, 1]"; 100_000].join(", ");
    let body = format!("{{\"instances\": [{rows}]}}");
    // Both threads are with other models, and no event loop does their work.
    let mut streams = Vec::new();
    for (name, entered, _gate) in &gates {
        let mut stream = connect(server.address);
        let path = format!("/v1/models/{name}:predict");
        write_request(&mut stream, "POST", &path, &[JSON], costly().as_bytes());
        entered.recv().unwrap();
        streams.push(stream);
    }
    assert_eq!(
        ask(&server, PREDICT, BAD).header("x-coracle-fallback"),
        Some("constant")
    );
    let headers = [JSON, ("x-request-timeout", "100ms")];
    let answer = send(server.address, "POST", PREDICT, &headers, body.as_bytes());
    assert!(answer.status >= 500 && answer.header("x-coracle-fallback").is_none());
    for (_name, _entered, gate) in &gates {
        gate.send(()).unwrap();
    }
    for stream in &mut streams {
        assert_eq!(read_answer(stream, false).unwrap().status, 200);
    }
    let answer = ask(&server, PREDICT, body.as_bytes());
    assert_eq!(answer.header("x-coracle-fallback"), Some("constant"));
    assert_eq!(answer.body.matches("7.5").count(), 100_000);
}

#[test]
fn grpc_says_so_in_the_parameters_and_the_metadata() {
    let server = start(settings("7.5"));
    let marked = |row| {
        let answer = grpc::ask(&server, "ModelInfer", &grpc::row("sum", row));
        let mark = answer.headers.get("x-coracle-fallback").cloned();
        (answer.message::<ModelInferResponse>(), mark)
    };
    let (answer, mark) = marked([-5.0, 1.0]);
    let parameter = answer.parameters["fallback"].parameter_choice.clone();
    assert_eq!(
        parameter,
        Some(ParameterChoice::StringParam("constant".to_owned()))
    );
    assert_eq!(answer.raw_output_contents, [7.5_f64.to_le_bytes().to_vec()]);
    assert_eq!(mark.unwrap(), "constant");
    let (answer, mark) = marked([5.0, 1.0]);
    assert!(answer.parameters.is_empty() && mark.is_none());
    // The others that may stand in.
    let server = start(FallbackSettings {
        key: Some("x-user".to_owned()),
        ..FallbackSettings::default()
    });
    let ask = |row| {
        let message = frame(&grpc::row("sum", row));
        let answer = grpc::call(
            &server,
            "/inference.GRPCInferenceService/ModelInfer",
            &[("x-user", "ann")],
            message,
        );
        let message = answer.message::<ModelInferResponse>();
        let by = message.parameters.get("fallback").cloned();
        let by = by.and_then(|parameter| parameter.parameter_choice);
        (message.raw_output_contents, by)
    };
    assert_eq!(ask([5.0, 1.0]).1, None);
    let name = ParameterChoice::StringParam("last-good".to_owned());
    assert_eq!(
        ask([-5.0, 1.0]),
        (vec![6.0_f64.to_le_bytes().to_vec().into()], Some(name))
    );
}

#[test]
fn grpc_of_tensorflow_serving_says_so_in_the_metadata() {
    let server = start(settings("7.5"));
    let ask = |first: f64| {
        let request = tfs_grpc::row_of(Some(tfs_grpc::spec("sum")), [first, 1.0]);
        let path = format!("{}Predict", tfs_grpc::PREDICTION);
        let answer = grpc::call(&server, &path, &[], frame(&request));
        let mark = answer.headers.get("x-coracle-fallback").cloned();
        let outputs = answer.message::<PredictResponse>().outputs;
        (outputs["predict"].double_val.clone(), mark)
    };
    let (values, mark) = ask(-5.0);
    assert_eq!(
        (values, mark.unwrap()),
        (vec![7.5], "constant".parse().unwrap())
    );
    assert_eq!(ask(5.0), (vec![6.0], None));
}
