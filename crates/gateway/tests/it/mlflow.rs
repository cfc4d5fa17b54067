//! Bodies that MLflow's own server was sent, with its answers: `/invocations` gives the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};
use coracle_gateway::Limits;
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};
use serde_json::Value;

use crate::client::send;
use crate::fixture::{config, start_with};

/// What MLflow's server takes and Coracle refuses: a data frame whose values are lists, an input that a graph of tensors does not have, a list in
/// an object for a graph's column, and what is no truth value, of which MLflow makes one.
const REFUSED: [(&str, &str); 6] = [
    ("catboost_truths", "[[null, 60.5]]"),
    ("catboost_truths", "[[7, 60.5]]"),
    ("catboost_truths", "[[\"yes\", 60.5]]"),
    ("onnx_two_tensors", "{\"dataframe_split\""),
    ("onnx_two_tensors", "\"c\": [[1]]"),
    ("onnx_column_tensors", "{\"instances\": [{\"age\": [30]"),
];

/// What Coracle answers and MLflow's server does not: the models, and the body.
const MORE: [(&[&str], &str); 15] = [
    (&["dated"], "when,age\n2024-01-02,30\n"),
    (
        &["catboost_value"],
        r#"{"instances": [{"income": 100.5, "age": 30}, {"age": 41.5, "income": 7}]}"#,
    ),
    (
        &["catboost_value"],
        r#"{"inputs": {"income": [100.5, 7], "age": [30, 41.5]}}"#,
    ),
    (
        &[
            "onnx_column_tensors",
            "onnx_columns_signed",
            "onnx_columns_unsigned",
        ],
        r#"{"inputs": {"age": [30, 60], "income": [100.5, 90], "city": ["Ulm", "Köln"]}}"#,
    ),
    (
        &[
            "onnx_column_tensors",
            "onnx_columns_signed",
            "onnx_columns_unsigned",
        ],
        r#"{"instances": [{"age": 30, "income": 100.5, "city": "Ulm"}, {"age": 60, "income": 90, "city": "Köln"}]}"#,
    ),
    (
        &[
            "onnx_column_tensors",
            "onnx_columns_signed",
            "onnx_columns_unsigned",
        ],
        "city,age,income\nUlm,30,100.5\nKöln,60,90\n",
    ),
    (
        &["onnx_columns_signed", "onnx_columns_unsigned"],
        r#"{"dataframe_split": {"columns": ["age", "income", "city"], "data": [[30, 100.5, "Ulm"], [60, 90, "Köln"]]}}"#,
    ),
    (
        &["onnx_columns_signed", "onnx_columns_unsigned"],
        r#"{"dataframe_records": [{"city": "Ulm", "income": 100.5, "age": 30}, {"age": 60, "income": 90, "city": "Köln"}]}"#,
    ),
    (
        &["onnx_columns_signed", "onnx_columns_unsigned"],
        r#"{"inputs": {"age": [[30], [60]], "income": [[100.5], [90]], "city": [["Ulm"], ["Köln"]]}}"#,
    ),
    (
        &["onnx_columns_signed"],
        r#"{"dataframe_split": {"columns": ["age", "income", "city", "zip"], "data": [[30, 100.5, "Ulm", 7]]}}"#,
    ),
    (&["onnx_nameless"], r#"{"inputs": {"X": [[30, 100.5]]}}"#),
    (&["onnx_nameless"], r#"{"instances": [{"X": [30, 100.5]}]}"#),
    (
        &["onnx_two_unsigned"],
        r#"{"inputs": {"a": [[1, 2], [3, 4]], "b": [[0.5, 6, 7], [8, 9, 10]]}}"#,
    ),
    (
        &["onnx_two_unsigned"],
        r#"{"inputs": {"b": [[0.5, 6, 7], [8, 9, 10]], "a": [[1, 2], [3, 4]]}}"#,
    ),
    (
        &["onnx_two_unsigned"],
        r#"{"instances": [{"a": [1, 2], "b": [0.5, 6, 7]}, {"b": [8, 9, 10], "a": [3, 4]}]}"#,
    ),
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
    let (mut n_same, mut n_refused, mut more) = (0, 0, Vec::new());
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
                (_, 200) => more.push((name, body)),
                (_, status) => {
                    assert_eq!((status, &found["error_code"]), (400, &"BAD_REQUEST".into()));
                }
            }
        }
    }
    assert_eq!(n_same, 60);
    let expected = MORE.iter().flat_map(|(models, body)| {
        let of_model = |model: &'static str| (model, *body);
        models.iter().copied().map(of_model)
    });
    let expected: BTreeSet<(&str, &str)> = expected.collect();
    assert_eq!(
        (BTreeSet::from_iter(more.iter().copied()), more.len()),
        (expected, 24)
    );
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
