//! What is answered where a model fails: default predictions in every protocol, retries, breakers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_gateway::Limits;
use coracle_protocol::grpc::inference::{ModelInferResponse, ParameterChoice};
use coracle_serving::{FallbackSettings, ModelTable, Route, ServiceId};

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start_with};
use crate::grpc;
use crate::routes::JSON;

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
        let id = ServiceId {
            namespace: "ml".to_owned(),
            name: "sum".to_owned(),
        };
        let route = Arc::new(Route::single(Arc::new(sum)));
        ModelTable::from_routes(BTreeMap::from([(id, route)]))
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

#[test]
fn what_takes_too_long_is_stood_in_for() {
    let server = start(FallbackSettings {
        timeout: Some(Duration::from_millis(50)),
        ..settings("4.0")
    });
    // Until it is known to be costly a call runs on the event loop, where nothing can end it.
    let rows = (0..70).map(|_| "[1, 2]").collect::<Vec<_>>().join(", ");
    let body = format!("{{\"instances\": [{rows}, [999, 1]]}}");
    let answer = ask(&server, PREDICT, body.as_bytes());
    assert_eq!(answer.header("x-coracle-fallback"), Some("constant"));
    assert!(answer.body.starts_with("{\"predictions\":[4.0,4.0"));
    server.gate.send(()).unwrap();
}

#[test]
fn grpc_says_so_in_the_parameters() {
    let server = start(settings("7.5"));
    let request = grpc::row("sum", [-5.0, 1.0]);
    let answer: ModelInferResponse = grpc::ask(&server, "ModelInfer", &request).message();
    let parameter = answer.parameters["fallback"].parameter_choice.clone();
    assert_eq!(
        parameter,
        Some(ParameterChoice::StringParam("constant".to_owned()))
    );
    assert_eq!(answer.raw_output_contents, [7.5_f64.to_le_bytes().to_vec()]);
}
