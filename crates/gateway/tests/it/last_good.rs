//! The last good answers of programs, which nobody reads: given again as they came.

use std::time::Duration;

use coracle_gateway::Limits;
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{ModelInferRequest, ModelInferResponse, ParameterChoice};
use coracle_serving::FallbackSettings;
use serde_json::Value;

use crate::client::{Answer, send};
use crate::fixture::Running;
use crate::forward::{backends, nobody};
use crate::grpc;
use crate::guarded::{program, serve};
use crate::routes::JSON;
use crate::upstream::Telling;
use crate::upstream_grpc::GrpcUpstream;

const V1: &str = "/serving/n/sum/v1/models/sum:predict";
const V2: &str = "/serving/n/sum/v2/models/sum/infer";
const ROW: &[u8] = br#"{"instances": [[1, 2]]}"#;

fn by_user() -> FallbackSettings {
    FallbackSettings {
        key: Some("x-user".to_owned()),
        ..FallbackSettings::default()
    }
}

fn start(process: &Telling, settings: &FallbackSettings) -> Running {
    let sum = program("sum", &backends(&[process.address]));
    sum.set_fallback(Some(settings));
    serve(Limits::default(), vec![("sum", sum)])
}

fn ask(server: &Running, user: &str, path: &str, body: &[u8]) -> Answer {
    send(
        server.address,
        "POST",
        path,
        &[JSON, ("x-user", user)],
        body,
    )
}

/// Answers the first requests with their numbers, and then no more.
fn failing_after(n_good: usize) -> Telling {
    Telling::start(move |n, sent| match (n < n_good, sent.contains(" /v1/")) {
        (true, true) => Some((200, format!(r#"{{"predictions": [{n}]}}"#))),
        (true, false) => Some((
            200,
            format!(
                r#"{{"model_name":"sum","id":"{n}","parameters":{{"own":1}},"outputs":[{{"name":"y","datatype":"FP64","shape":[1],"data":[{n}.50]}}]}}"#
            ),
        )),
        (false, _) => Some((500, "{}".to_owned())),
    })
}

#[test]
fn a_program_that_fails_is_stood_in_for_by_what_it_said_last() {
    let process = failing_after(3);
    let server = start(&process, &by_user());
    for (n, user) in ["ann", "ann", "bob"].into_iter().enumerate() {
        let answer = ask(&server, user, V1, ROW);
        assert_eq!(answer.body, format!(r#"{{"predictions": [{n}]}}"#));
        assert_eq!(answer.header("x-coracle-fallback"), None);
    }
    for (user, body) in [
        ("ann", r#"{"predictions": [1]}"#),
        ("bob", r#"{"predictions": [2]}"#),
    ] {
        let answer = ask(&server, user, V1, ROW);
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
        assert_eq!(answer.header("x-coracle-fallback"), Some("last-good"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    // Whom it never answered, and who asks something else, hears of the failure.
    for (user, path, body) in [
        ("eve", V1, ROW),
        ("", V1, ROW),
        ("ann", V1, br#"{"instances": [[1, 2], [3, 4]]}"#),
        ("ann", "/serving/n/sum/v1/models/other:predict", ROW),
        ("ann", "/serving/n/sum/v1/models/sum:predict?x=1", ROW),
        (
            "ann",
            V2,
            br#"{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}"#,
        ),
    ] {
        let answer = ask(&server, user, path, body);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (500, "{}"),
            "{user} {path}"
        );
    }
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let line = r#"coracle_fallbacks_total{model="sum",namespace="n",revision="sum-1"} 2"#;
    assert!(text.lines().any(|found| found == line), "{text}");
}

/// It would not be given, so that it is no reason not to wait for a process.
#[test]
fn an_answer_to_another_question_leaves_time_to_wait_for_a_process() {
    let process = failing_after(1);
    let settings = FallbackSettings {
        timeout: Some(Duration::from_millis(300)),
        ..by_user()
    };
    let reached = backends(&[process.address]);
    let sum = program("sum", &reached);
    sum.set_fallback(Some(&settings));
    let server = serve(Limits::default(), vec![("sum", sum)]);
    assert_eq!(ask(&server, "ann", V1, ROW).status, 200);
    reached.set(&[nobody().into()]);
    let same = ask(&server, "ann", V1, ROW);
    assert_eq!(same.header("x-coracle-fallback"), Some("last-good"));
    // All of the time that the program has is over.
    let other = ask(&server, "ann", V1, br#"{"instances": [[1, 2], [3, 4]]}"#);
    assert_eq!(other.status, 504, "{other:?}");
}

#[test]
fn in_v2_it_says_so_and_has_the_id_of_its_request() {
    let process = failing_after(1);
    let settings = FallbackSettings {
        value: Some("7.5".to_owned()),
        ..by_user()
    };
    let server = start(&process, &settings);
    let tensor = |id: &str| {
        format!(
            r#"{{"id": "{id}", "inputs": [{{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}}]}}"#
        )
    };
    let asked = |user: &str, id: &str| -> Value {
        let answer = ask(&server, user, V2, tensor(id).as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    };
    assert_eq!(asked("ann", "a")["outputs"][0]["data"][0], 0.5);
    let found = asked("ann", "b");
    assert_eq!(
        (&found["id"], &found["model_name"]),
        (&"b".into(), &"sum".into())
    );
    let parameters = serde_json::json!({"own": 1, "fallback": "last-good"});
    assert_eq!(found["parameters"], parameters);
    assert_eq!(found["outputs"][0]["data"][0], 0.5);
    // The default prediction is for those who had no answer.
    assert_eq!(asked("bob", "c")["parameters"]["fallback"], "constant");
}

/// What broke off, failed, or came in a form that cannot be told to others was no good answer.
#[test]
fn what_did_not_end_well_is_not_given_again() {
    let wrong = Telling::start(|n, _| match n {
        0 => Some((404, r#"{"predictions": [1]}"#.to_owned())),
        1 => Some((200, "<html>".to_owned())),
        _ => None,
    });
    let server = start(&wrong, &by_user());
    for status in [404, 200, 502] {
        let answer = ask(&server, "ann", V1, ROW);
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-coracle-fallback"), None);
    }
    let large = "1,".repeat(1 << 20) + "1";
    let large = format!(r#"{{"predictions": [{large}]}}"#);
    let sent = large.clone();
    let process = Telling::start(move |n, _| (n == 0).then(|| (200, sent.clone())));
    let server = start(&process, &by_user());
    assert_eq!(ask(&server, "ann", V1, ROW).body.len(), large.len());
    assert_eq!(ask(&server, "ann", V1, ROW).status, 502);
}

#[test]
fn over_grpc_the_last_message_is_given_again() {
    // It gives back what it is sent, which reads as an answer, too.
    let echo = GrpcUpstream::start();
    let sum = program("sum", &backends(&[echo.address]));
    sum.set_fallback(Some(&FallbackSettings {
        timeout: Some(Duration::from_millis(500)),
        ..by_user()
    }));
    let server = serve(Limits::default(), vec![("sum", sum)]);
    let ask = |user: &'static str, id: &str| {
        let message = ModelInferRequest {
            id: id.to_owned(),
            ..grpc::row("sum", [1.0, 2.0])
        };
        let path = "/inference.GRPCInferenceService/ModelInfer";
        grpc::call(&server, path, &[("x-user", user)], frame(&message))
    };
    let first = ask("ann", "1").messages::<ModelInferResponse>().remove(0);
    assert_eq!((first.id.as_str(), first.outputs.len()), ("1", 1));
    drop(echo);
    let answer = ask("ann", "2");
    assert_eq!(answer.headers["x-coracle-fallback"], "last-good");
    let again = answer.message::<ModelInferResponse>();
    assert_eq!((again.id.as_str(), again.outputs), ("2", first.outputs));
    let name = ParameterChoice::StringParam("last-good".to_owned());
    assert_eq!(again.parameters["fallback"].parameter_choice, Some(name));
    let answer = ask("bob", "3");
    assert_eq!(answer.headers.get("x-coracle-fallback"), None);
    assert_ne!(answer.status, 0);
}
