//! Bodies that MLflow's own server was sent, with its answers: `/invocations` gives the same.

use std::collections::BTreeMap;
use std::path::Path;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};
use coracle_gateway::Limits;
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};
use serde_json::Value;

use crate::client::send;
use crate::fixture::{config, start_with};

/// What MLflow's server takes and Coracle refuses: a data frame whose values are lists, an input that a graph of tensors does not have, and a list in
/// an object for a graph's column.
const REFUSED: [(&str, &str); 3] = [
    ("onnx_two_tensors", "{\"dataframe_split\""),
    ("onnx_two_tensors", "\"c\": [[1]]"),
    ("onnx_column_tensors", "{\"instances\": [{\"age\": [30]"),
];

#[test]
fn bodies_are_answered_as_mlflows_server_answers_them() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mlflow/invocations");
    let document = std::fs::read(fixtures.join("bodies.json")).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let mut by_model: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for case in document["cases"].as_array().unwrap() {
        let model = case["model"].as_str().unwrap();
        by_model.entry(model).or_default().push(case);
    }
    let (mut n_same, mut n_refused, mut n_more) = (0, 0, 0);
    for (name, cases) in by_model {
        let path = fixtures.join(name).join("MLmodel");
        let model = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
        let loaded = LoadedModel::new(name.to_owned(), model.model, LoadPhases::default());
        let server = start_with(config(Limits::default()), |_sum| {
            ModelTable::try_new([ServedModel::new(loaded, 2)]).unwrap()
        });
        for case in cases {
            let body = case["body"].as_str().unwrap();
            let content_type = [("content-type", case["type"].as_str().unwrap())];
            let answer = send(
                server.address,
                "POST",
                "/invocations",
                &content_type,
                body.as_bytes(),
            );
            let found: Value = serde_json::from_str(&answer.body).unwrap();
            let is_refused = |(model, part): (&str, &str)| model == name && body.contains(part);
            match (case["status"].as_u64().unwrap(), answer.status) {
                (200, 400) if REFUSED.into_iter().any(is_refused) => n_refused += 1,
                (200, status) => {
                    assert_eq!(status, 200, "{name} {body}: {found}");
                    let expected = &case["answer"];
                    assert!(is_close(&found, expected), "{name} {body}: {found}");
                    n_same += 1;
                }
                // Coracle answers more than MLflow's server does.
                (_, 200) => n_more += 1,
                (_, status) => {
                    assert_eq!((status, &found["error_code"]), (400, &"BAD_REQUEST".into()));
                }
            }
        }
    }
    assert_eq!((n_same, n_more), (59, 24));
    assert_eq!(n_refused, REFUSED.len());
}

/// Tells whether two answers are the same but for a millionth of their numbers: what graphs compute is single precision.
fn is_close(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_close(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, value): (&String, &Value)| {
                other.get(key).is_some_and(|other| is_close(value, other))
            };
            one.len() == other.len() && one.iter().all(same)
        }
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            (one - other).abs() <= 1e-6 * other.abs().max(1.0)
        }
        _ => one == other,
    }
}
