//! TensorFlow Serving's dialect over REST; over gRPC its published stubs are in the wire exercise.

use coracle_gateway::Limits;

use crate::client::send;
use crate::fixture::{config, start};

#[test]
fn predictions_come_by_row_or_by_column() {
    let server = start(config(Limits::default()));
    let cases = [
        (
            r#"{"inputs": {"X": [[1, 2], [3, 4]]}}"#,
            r#"{"outputs":[3.0,7.0]}"#,
        ),
        (
            r#"{"instances": [[1, 2]], "signature_name": "twice"}"#,
            r#"{"predictions":[3.0]}"#,
        ),
        (
            r#"{"inputs": [[1, 2]]}"#,
            r#"{"predictions":[3.0],"outputs":[3.0]}"#,
        ),
    ];
    for path in [
        "/v1/models/sum:predict",
        "/v1/models/sum/versions/1:predict",
    ] {
        for (body, expected) in cases {
            let answer = send(server.address, "POST", path, &[], body.as_bytes());
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, expected),
                "{path} {body}"
            );
        }
    }
    let body = br#"{"examples": [{"X": [1, 2]}, {"X": [3, 4]}]}"#;
    let answer = send(server.address, "POST", "/v1/models/sum:regress", &[], body);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"results":[3.0,7.0]}"#)
    );
    let answer = send(server.address, "GET", "/v1/models/sum/metadata", &[], b"");
    assert!(
        answer
            .body
            .contains(r#""serving_default":{"inputs":{"X":{"name":"X:0","dtype":"DT_DOUBLE""#),
        "{}",
        answer.body
    );
}

#[test]
fn refusals_say_why() {
    let server = start(config(Limits::default()));
    let one: &str = r#"{"examples": [{"X": [1, 2]}]}"#;
    let cases = [
        (
            "/v1/models/sum:classify",
            one,
            400,
            "the model gives no probabilities of classes",
        ),
        ("/v1/models/sum:regress", "{", 400, "not valid JSON"),
        (
            "/v1/models/sum:regress",
            "{}",
            400,
            "missing field `examples`",
        ),
        (
            "/v1/models/nope:regress",
            one,
            404,
            "Model with name nope does not exist.",
        ),
        (
            "/v1/models/sum/versions/7:regress",
            one,
            404,
            "model 'sum' has no version '7'",
        ),
        (
            "/v1/models/sum/labels/stable:predict",
            one,
            404,
            "model 'sum' has no label 'stable'",
        ),
        (
            "/v1/models/sum:predict",
            r#"{"inputs": {"Y": [[1]], "Z": [1]}}"#,
            400,
            "2 input tensors, the model expects one",
        ),
        (
            "/v1/models/sum:predict",
            r#"{"instances": [[1, 2]], "signature_name": "zzz"}"#,
            400,
            "Serving signature name",
        ),
    ];
    for (path, body, status, message) in cases {
        let answer = send(server.address, "POST", path, &[], body.as_bytes());
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(message), "{path}: {}", answer.body);
    }
}
