//! The example of an input that MLflow keeps beside a model, as a request that the model answers.

use std::io::Read;
use std::path::Path;

use coracle_base::ByteCount;
use coracle_formats::mlflow_example;
use coracle_model::Model;
use serde_json::{Value, json};

use crate::warm_up;

/// The largest file that is read.
const BYTES_MAX: u64 = 16 << 20;
/// The most rows that are asked.
const ROWS_MAX: usize = 100;

/// Returns the body of a V1 request with the example beside `model_file`, if there is one.
///
/// # Errors
/// Why there is no such request: the file is none that is understood, or the model refuses it.
pub(crate) fn request(model: &dyn Model, model_file: &Path) -> Result<Option<String>, String> {
    let Some(path) = mlflow_example(model_file).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let named = |why: String| format!("{}: {why}", path.display());
    let example = read(&path).map_err(named)?;
    let mut refusal = "neither a data frame nor rows nor inputs by name".to_owned();
    for body in bodies(&example) {
        let body = body.to_string();
        match warm_up::run_one(model, &body) {
            Ok(()) => return Ok(Some(body)),
            Err(why) => refusal = why,
        }
    }
    Err(named(refusal))
}

fn read(path: &Path) -> Result<Value, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    if read.map_err(|error| error.to_string())? as u64 > BYTES_MAX {
        return Err(format!("larger than {}", ByteCount::new(BYTES_MAX)));
    }
    parse(&bytes)
}

/// Reads JSON as Python writes it: `NaN` is a missing value, which requests call null.
fn parse(bytes: &[u8]) -> Result<Value, String> {
    let mut json = Vec::with_capacity(bytes.len());
    let mut is_text = false;
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'N', [b'a', b'N', after @ ..]) if !is_text => {
                json.extend_from_slice(b"null");
                rest = after;
                continue;
            }
            (b'I', [b'n', b'f', b'i', b'n', b'i', b't', b'y', ..]) if !is_text => {
                return Err("holds Infinity, which requests cannot".to_owned());
            }
            (b'\\', [escaped, after @ ..]) if is_text => {
                json.extend_from_slice(&[byte, *escaped]);
                rest = after;
                continue;
            }
            (b'"', _) => is_text = !is_text,
            _ => {}
        }
        json.push(byte);
    }
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

/// Returns the requests that an example may stand for: data frames, rows, tensors by name.
fn bodies(example: &Value) -> Vec<Value> {
    let columns = example.get("columns").and_then(Value::as_array);
    let inputs = example.get("inputs").or_else(|| example.get("instances"));
    let rows = example.get("data").or(inputs).unwrap_or(example);
    let Some(rows) = rows.as_array() else {
        // Tensors by name, or one row of named values, one of which may be called `data`, `inputs` or `instances`.
        let is_row = |row: &Value| {
            let row = row.as_object();
            row.is_some_and(|row| !row.values().any(Value::is_array))
        };
        let mut bodies = match is_row(rows) {
            true => vec![json!({"instances": [rows]})],
            false => vec![json!({"inputs": first_rows(rows)})],
        };
        let whole = json!({"inputs": rows});
        // Some models take so many and no fewer.
        if !is_row(rows) && bodies.first() != Some(&whole) {
            bodies.push(whole);
        }
        if !rows.is_object() && is_row(example) {
            bodies.push(json!({"instances": [example]}));
        }
        return bodies;
    };
    let rows: Vec<&Value> = rows.iter().take(ROWS_MAX).collect();
    let mut bodies = Vec::new();
    if let Some(columns) = columns {
        let by_name = rows.iter().map(|row| {
            let cells = columns.iter().zip(row.as_array().into_iter().flatten());
            let cells = cells.map(|(name, cell)| {
                let name = name
                    .as_str()
                    .map_or_else(|| name.to_string(), str::to_owned);
                (name, cell.clone())
            });
            Value::Object(cells.collect())
        });
        bodies.push(json!({"instances": by_name.collect::<Vec<Value>>()}));
    }
    bodies.push(json!({"instances": rows}));
    let only = |row: &&Value| match row.as_array().map(Vec::as_slice) {
        Some([only]) => Some(only.clone()),
        _ => None,
    };
    let alone: Option<Vec<Value>> = rows.iter().map(only).collect();
    bodies.extend(alone.map(|cells| json!({"instances": cells})));
    bodies
}

/// Returns tensors by name with as many rows as are asked.
fn first_rows(tensors: &Value) -> Value {
    let first = |tensor: &Value| match tensor.as_array() {
        Some(rows) => rows.iter().take(ROWS_MAX).cloned().collect(),
        None => tensor.clone(),
    };
    match tensors.as_object() {
        Some(by_name) => by_name
            .iter()
            .map(|(name, tensor)| (name.clone(), first(tensor)))
            .collect(),
        None => tensors.clone(),
    }
}

#[cfg(test)]
mod tests {
    use coracle_base::SystemClock;
    use coracle_formats::{LoadOptions, load};

    use super::*;

    fn directory(case: &str) -> std::path::PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mlflow");
        fixtures.join("signatures").join(case)
    }

    fn loaded(case: &str) -> Box<dyn Model> {
        let path = directory(case).join("MLmodel");
        load(&path, &LoadOptions::default(), &SystemClock::new())
            .unwrap()
            .model
    }

    #[test]
    fn saved_examples_are_requests_that_their_models_answer() {
        let row = "17.9,4.4,1.0,-18.6";
        let cases = [
            ("tensor", format!(r#"{{"instances":[[{row}],"#)),
            ("unnamed", format!(r#"{{"instances":[[{row}]]}}"#)),
            (
                "texts",
                r#"{"instances":[{"colour":"red","size":"s"}]}"#.to_owned(),
            ),
            ("columns", r#"{"instances":[{"age of "#.to_owned()),
            ("types", r#"{"instances":[{"count":3,"#.to_owned()),
        ];
        for release in ["1.30.1", "2.9.2", "3.17.2"] {
            for (case, expected) in &cases {
                let case = format!("{release}/{case}");
                let path = directory(&case).join("MLmodel");
                let body = request(loaded(&case).as_ref(), &path).unwrap().unwrap();
                assert!(body.starts_with(expected), "{case}: {body}");
            }
        }
        let without = directory("2.9.2/contradicts_types/MLmodel");
        assert_eq!(request(loaded("2.9.2/types").as_ref(), &without), Ok(None));
    }

    #[test]
    fn missing_values_are_read_as_python_writes_them() {
        // As MLflow 3.17.2 wrote it, with a column's name and a text that are no numbers.
        let written = br#"{"columns": ["age", "NaN \"NaN"], "data": [[NaN, "Infinity"], [65, "\\"], [NaN, NaN]]}"#;
        let read = json!({"columns": ["age", "NaN \"NaN"], "data": [[null, "Infinity"], [65, "\\"], [null, null]]});
        assert_eq!(parse(written), Ok(read));
        let why = parse(br#"{"data": [[1, -Infinity]]}"#).unwrap_err();
        assert_eq!(why, "holds Infinity, which requests cannot");
        for damaged in ["[NaNNaN]", "[-NaN]", "[Na]", "NaN\"", "\"\\", ""] {
            assert!(parse(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn examples_that_the_model_refuses_are_told() {
        let other = directory("2.9.2/texts/MLmodel");
        let why = request(loaded("2.9.2/tensor").as_ref(), &other).unwrap_err();
        assert!(why.contains("input_example.json: "), "{why}");
        assert_eq!(bodies(&json!({"a": 1})), [json!({"instances": [{"a": 1}]})]);
        assert_eq!(
            bodies(&json!({"inputs": {"a": [1]}})),
            [json!({"inputs": {"a": [1]}})]
        );
        let row = json!({"data": "some text", "lang": "en"});
        let as_row = json!({"instances": [row]});
        assert_eq!(bodies(&row).last(), Some(&as_row));
        let many = json!({"a": vec![0; 1_000], "b": 1});
        let few = json!({"inputs": {"a": vec![0; 100], "b": 1}});
        assert_eq!(bodies(&many), [few, json!({"inputs": many})]);
    }

    #[test]
    fn lightgbm_is_asked_by_the_names_of_the_frame_it_was_fitted_on() {
        let file = "../../fixtures/lightgbm/4.7.0/classifier_frame.joblib";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let model = load(&path, &LoadOptions::default(), &SystemClock::new())
            .unwrap()
            .model;
        for name in ["a b", "a_b"] {
            let body = format!(r#"{{"instances":[{{"income":1,"age":2,"{name}":3,"kind":4}}]}}"#);
            assert_eq!(warm_up::run_one(model.as_ref(), &body), Ok(()), "{body}");
        }
    }

    #[test]
    fn columns_of_a_signature_are_asked_by_name_in_every_protocol() {
        let model = loaded("3.17.2/types");
        let ask = |body: &str| warm_up::run_one(model.as_ref(), body);
        let v2 = |name: &str, datatype: &str, value: &str| {
            format!(r#"{{"name":"{name}","shape":[1],"datatype":"{datatype}","data":[{value}]}}"#)
        };
        let whole = [
            v2("rate", "FP32", "0.1"),
            v2("member", "BOOL", "true"),
            v2("share", "FP64", "0.25"),
            v2("count", "INT64", "3"),
        ];
        let answered = [
            r#"{"instances":[{"rate":0.1,"member":true,"share":0.25,"count":3}]}"#.to_owned(),
            r#"{"inputs":{"rate":[0.1],"member":[true],"share":[0.25],"count":[3]}}"#.to_owned(),
            format!(r#"{{"inputs":[{}]}}"#, whole.join(",")),
        ];
        for body in answered {
            assert_eq!(ask(&body), Ok(()), "{body}");
        }
        let refused = [
            (
                r#"{"instances":[{"rate":0.1,"member":true,"share":0.25}]}"#.to_owned(),
                "count",
            ),
            (
                r#"{"instances":[{"rate":0.1,"member":true,"share":0.25,"count":3,"other":1}]}"#
                    .to_owned(),
                "other",
            ),
            (
                format!(r#"{{"inputs":[{}]}}"#, whole[1..].join(",")),
                "rate",
            ),
        ];
        for (body, name) in refused {
            let why = ask(&body).unwrap_err();
            assert!(why.contains(name), "{why} does not name {name}");
        }
    }
}
