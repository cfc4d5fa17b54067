//! Seldon's paths and messages, of a service whose model has a name of its own.

mod calls;
mod several;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_gateway::Limits;
use coracle_serving::{ModelTable, Route, ServiceId};
use serde_json::{Value, json};

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start_with};
use crate::routes::JSON;

/// The service `iris`, whose graph is the model `sum`.
fn start() -> Running {
    start_with(config(Limits::default()), |sum| {
        let id = ServiceId {
            namespace: "ml".to_owned(),
            name: "iris".to_owned(),
        };
        let route = Arc::new(Route::single(Arc::new(sum)));
        ModelTable::from_routes(BTreeMap::from([(id, route)]))
    })
}

fn post(server: &Running, path: &str, body: &str) -> (u16, Value) {
    let answer = send(server.address, "POST", path, &[JSON], body.as_bytes());
    read(&answer)
}

fn read(answer: &Answer) -> (u16, Value) {
    let body = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, body)
}

#[test]
fn messages_are_answered_where_seldons_ingress_has_them() {
    let server = start();
    for version in ["v1.0", "v0.1"] {
        let path = format!("/seldon/ml/iris/api/{version}/predictions");
        let (status, answer) = post(&server, &path, r#"{"data": {"ndarray": [[1, 2], [3, 4]]}}"#);
        let expected = json!({
            "data": {"names": [], "ndarray": [3.0, 7.0]},
            "meta": {"requestPath": {"sum": "coracle"}}
        });
        assert_eq!((status, answer), (200, expected));
    }
    let path = "/seldon/ml/iris/api/v1.0/predictions";
    let tensor = r#"{"data": {"tensor": {"shape": [1, 2], "values": [1, 2]}}}"#;
    let (_, answer) = post(&server, path, tensor);
    assert_eq!(
        answer["data"]["tensor"],
        json!({"shape": [1], "values": [3.0]})
    );
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let counted =
        r#"coracle_requests_total{model="sum",version="1",protocol="seldon",code="ok"} 3"#;
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    for path in ["/ready", "/live", "/api/v1.0/health/status"] {
        let answer = send(
            server.address,
            "GET",
            &format!("/seldon/ml/iris{path}"),
            &[],
            b"",
        );
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[test]
fn failures_are_told_as_seldons_executor_does() {
    let server = start();
    let path = "/seldon/ml/iris/api/v1.0/predictions";
    for (path, body, status, words) in [
        (path, r#"{"data": {"ndarray": [[1]]}}"#, 400, "data.ndarray"),
        (path, r#"{"strData": "x"}"#, 501, "strData is not read"),
        (path, r#"{"data": {"ndarray": [[-5, 1]]}}"#, 500, "failed"),
        (
            "/seldon/ml/nope/api/v1.0/predictions",
            "{}",
            404,
            "no such service",
        ),
        ("/api/v1.0/predictions", "{}", 404, "/seldon/NAMESPACE/NAME"),
        (
            "/seldon/ml/iris/api/v1.0/feedback",
            r#"{"reward": "x"}"#,
            400,
            "no number",
        ),
        (
            "/seldon/ml/nope/api/v1.0/feedback",
            "{}",
            404,
            "no such service",
        ),
        ("/api/v1.0/feedback", "{}", 404, "/seldon/NAMESPACE/NAME"),
    ] {
        let (found, answer) = post(&server, path, body);
        assert_eq!(found, status, "{path} {body}: {answer}");
        let told = &answer["status"];
        assert_eq!(
            (&told["code"], &told["status"]),
            (&status.into(), &"FAILURE".into())
        );
        let info = told["info"].as_str().unwrap();
        assert!(info.contains(words), "{info}");
    }
}

#[test]
fn paths_without_a_models_name_are_the_services() {
    let server = start();
    let instances = r#"{"instances": [[1, 2], [3, 4]]}"#;
    for path in [
        "/v1/models:predict",
        "/v1/models/:predict",
        "/v1/models/sum/:predict",
        "/v1/models/sum:predict",
    ] {
        let answer = post(&server, &format!("/seldon/ml/iris{path}"), instances);
        assert_eq!(answer, (200, json!({"predictions": [3.0, 7.0]})), "{path}");
        // Without a service there is nothing that it could be.
        if !path.contains("sum") {
            assert_eq!(post(&server, path, instances).0, 404, "{path}");
        }
    }
    // MLflow's path is the service's, too, and that of the only one.
    for path in ["/seldon/ml/iris/invocations", "/invocations"] {
        let answer = post(&server, path, instances);
        assert_eq!(answer, (200, json!({"predictions": [3.0, 7.0]})), "{path}");
    }
    let inputs =
        r#"{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}"#;
    let (status, answer) = post(&server, "/seldon/ml/iris/v2/models/infer", inputs);
    assert_eq!((status, &answer["model_name"]), (200, &"sum".into()));
    assert_eq!(post(&server, "/v2/models/infer", inputs).0, 404);
}

#[test]
fn feedback_on_one_model_is_taken_and_counted() {
    let server = start();
    let path = "/seldon/ml/iris/api/v1.0/feedback";
    // Answered as Seldon's wrapper does; a reward of 0 is one.
    for (body, data) in [
        (
            r#"{"request": {"data": {"ndarray": [[1, 2]]}}, "reward": 1.5}"#,
            json!({"ndarray": []}),
        ),
        (r#"{"reward": 0}"#, json!({"tensor": {"shape": [0]}})),
    ] {
        let expected = json!({"data": data, "meta": {"requestPath": {"sum": "coracle"}}});
        assert_eq!(post(&server, path, body), (200, expected));
    }
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let labels = r#"{namespace="ml",service="iris",node="sum"}"#;
    for line in [
        format!("coracle_feedback_total{labels} 2"),
        format!("coracle_feedback_reward_sum{labels} 1.5"),
    ] {
        assert!(metrics.lines().any(|one| one == line), "{metrics}");
    }
}

#[test]
fn the_graph_is_asked_by_its_own_name_with_v2() {
    let server = start();
    let body =
        r#"{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}"#;
    let (status, answer) = post(&server, "/seldon/ml/iris/v2/models/sum/infer", body);
    assert_eq!((status, &answer["model_name"]), (200, &"sum".into()));
    assert_eq!(
        post(&server, "/seldon/ml/iris/v2/models/other/infer", body).0,
        404
    );
    let answer = send(server.address, "GET", "/seldon/ml/iris/v2/models", &[], b"");
    assert_eq!(read(&answer).1, json!({"models": ["sum"]}));
    let answer = send(
        server.address,
        "GET",
        "/seldon/ml/iris/v2/models/sum/ready",
        &[],
        b"",
    );
    assert_eq!(answer.status, 200);
}
