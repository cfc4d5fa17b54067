//! Models of columns must answer as scikit-learn does: numbers, texts and missing values in any mixture.

use coracle_model::{Model, RunError, Signature};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use serde_json::Value;

use crate::fixture::{self, Fixture, number};
use crate::golden::{Tolerance, check_dtype, is_close, tolerance};
use crate::seen;

/// The releases there must be fixtures of.
pub(crate) const RELEASES: [&str; 7] = [
    "1.0.2", "1.1.3", "1.2.2", "1.3.2", "1.4.2", "1.6.1", "1.9.1",
];

/// The releases there must be fixtures of wrapped models of.
pub(crate) const WRAPPED_RELEASES: [&str; 3] = ["1.0.2", "1.4.2", "1.9.1"];

/// The releases there must be fixtures of FeatureHasher of, beside the older ones.
pub(crate) const HASHED_RELEASES: [&str; 6] =
    ["1.0.2", "1.1.3", "1.3.2", "1.5.2", "1.7.2", "1.9.1"];

/// Returns a row's value in a column; a row may be a plain value.
fn cell(row: &Value, column: usize) -> &Value {
    match row {
        Value::Array(cells) => &cells[column],
        value => value,
    }
}

fn texts<'v>(cells: impl Iterator<Item = &'v Value>) -> ByteStrings {
    let mut texts = ByteStrings::new();
    for cell in cells {
        match cell {
            // A category that is an integer.
            Value::Number(number) => texts.push(number.to_string().as_bytes()),
            cell => texts.push_optional(cell.as_str().map(str::as_bytes)),
        }
    }
    texts
}

/// Returns rows as the model's inputs.
pub(crate) fn inputs(signature: &Signature, rows: &[Value]) -> Vec<Tensor> {
    let Some(places) = &signature.columns else {
        if !signature.keyed_inputs.is_empty() {
            let texts = rows.iter().map(ToString::to_string).collect();
            return vec![Tensor::from_values(Values::Bytes(texts))];
        }
        let n_columns = signature.inputs[0].n_columns().unwrap();
        let values = rows
            .iter()
            .flat_map(|row| (0..n_columns).map(|column| number(cell(row, column))))
            .collect();
        let shape = vec![rows.len(), n_columns];
        return vec![Tensor::try_new(shape, Values::F64(values)).unwrap()];
    };
    let read = places.iter().enumerate();
    let read = read.filter_map(|(column, place)| Some((column, place.input?)));
    read.map(|(column, input)| {
        let cells = rows.iter().map(|row| cell(row, column));
        let truths: Option<Vec<bool>> = cells.clone().map(Value::as_bool).collect();
        Tensor::from_values(match (signature.inputs[input].dtype, truths) {
            (DType::Bytes, Some(truths)) => Values::Bool(truths),
            (DType::Bytes, None) => Values::Bytes(texts(cells)),
            _ => Values::F64(cells.map(number).collect()),
        })
    })
    .collect()
}

fn run(model: &dyn Model, rows: &[Value], output: usize) -> Result<Tensor, RunError> {
    let inputs = inputs(model.signature(), rows);
    Ok(model.run(&inputs, &[output])?.remove(0))
}

/// Returns an expected output as rows of values, whichever way it is written.
fn unpacked(expected: &Value) -> Vec<Vec<Value>> {
    let Some(width) = expected["width"].as_u64() else {
        let rows = expected.as_array().unwrap().iter();
        return rows
            .map(|row| match row {
                Value::Array(cells) => cells.clone(),
                value => vec![value.clone()],
            })
            .collect();
    };
    let rows = expected["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        let mut cells = vec![Value::from(0.0); usize::try_from(width).unwrap()];
        let places = row[0].as_array().unwrap().iter();
        for (place, value) in places.zip(row[1].as_array().unwrap()) {
            cells[usize::try_from(place.as_u64().unwrap()).unwrap()] = value.clone();
        }
        cells
    })
    .collect()
}

/// Compares a result with scikit-learn's and returns the largest error.
fn compare(result: &Tensor, expected: &Value, tolerance: Tolerance) -> Result<f64, String> {
    let rows = unpacked(expected);
    let is_flat = expected["width"].is_null() && !expected[0].is_array();
    let mut shape = vec![rows.len()];
    if !is_flat {
        shape.push(rows[0].len());
    }
    if result.shape() != shape {
        return Err(format!("shape {:?}, expected {shape:?}", result.shape()));
    }
    let width = rows[0].len();
    let mut seen = 0.0_f64;
    for (index, expected) in rows.iter().flatten().enumerate() {
        let (got, same) = match result.values() {
            Values::F64(values) => {
                let (got, expected) = (values[index], number(expected));
                seen = seen.max(seen::error(got, expected));
                (format!("{got:?}"), is_close(got, expected, tolerance))
            }
            Values::I64(values) => (
                values[index].to_string(),
                Some(values[index]) == expected.as_i64(),
            ),
            Values::Bytes(values) => (
                format!(
                    "{:?}",
                    values.get_present(index).map(String::from_utf8_lossy)
                ),
                values.get_present(index) == expected.as_str().map(str::as_bytes),
            ),
            other => return Err(format!("unexpected datatype {}", other.dtype())),
        };
        if !same {
            let (row, column) = (index / width, index % width);
            return Err(format!(
                "row {row}, column {column} is {got}, expected {expected}"
            ));
        }
    }
    Ok(seen)
}

/// Returns the largest error of a model's answers.
pub(crate) fn error_seen(model: &dyn Model, fixture: &Fixture) -> f64 {
    let rows = fixture.document["x"].as_array().unwrap();
    let outputs = fixture.document["outputs"].as_object().unwrap();
    let errors = outputs.iter().map(|(method, expected)| {
        let output = model.signature().output_index(method).unwrap();
        let result = run(model, rows, output).unwrap();
        compare(&result, expected, tolerance(fixture)).unwrap()
    });
    errors.fold(0.0, f64::max)
}

/// Returns the first complaint about a fixture, if there is one.
pub(crate) fn check(fixture: &Fixture) -> Result<(), String> {
    let document = &fixture.document;
    let model = fixture
        .load()
        .map_err(|error| format!("did not load: {error}"))?;
    check_signature(model.signature(), document)?;
    let rows = document["x"].as_array().unwrap();
    for (method, expected) in document["outputs"].as_object().unwrap() {
        let output = model.signature().output_index(method);
        let output = output.ok_or_else(|| format!("has no {method}"))?;
        let result = run(model.as_ref(), rows, output);
        let result = result.map_err(|error| format!("{method}: {error}"))?;
        compare(&result, expected, tolerance(fixture))
            .map_err(|error| format!("{method}: {error}"))?;
        check_dtype(method, &result, &document["predict_dtype"])?;
        for (index, row) in rows.iter().enumerate() {
            let alone = run(model.as_ref(), std::slice::from_ref(row), output);
            let alone = alone.map_err(|error| format!("{method}: row {index}: {error}"))?;
            if !is_row(&alone, &result, index) {
                return Err(format!(
                    "{method}: row {index} alone differs from the batch"
                ));
            }
        }
    }
    for row in document["refused"].as_array().unwrap() {
        for output in 0..model.signature().outputs.len() {
            if run(model.as_ref(), std::slice::from_ref(row), output).is_ok() {
                return Err(format!("accepts {row}"));
            }
        }
    }
    Ok(())
}

fn check_signature(signature: &Signature, document: &Value) -> Result<(), String> {
    let names: Option<Vec<&str>> = match &signature.columns {
        Some(places) => Some(places.iter().map(|place| place.name.as_str()).collect()),
        None => signature.inputs[0]
            .columns
            .as_ref()
            .map(|names| names.iter().map(String::as_str).collect()),
    };
    if let Some(expected) = document["feature_names"].as_array() {
        let expected: Vec<&str> = expected.iter().map(|name| name.as_str().unwrap()).collect();
        if names.as_ref() != Some(&expected) {
            return Err(format!("feature names {names:?}, expected {expected:?}"));
        }
    }
    let kinds = document["kinds"].as_array().unwrap().iter();
    for (column, kind) in kinds.enumerate() {
        let dtype = match &signature.columns {
            Some(places) => places[column]
                .input
                .map(|input| signature.inputs[input].dtype),
            None => Some(signature.inputs[0].dtype),
        };
        let expected = match kind.as_str().unwrap() {
            "text" | "json" => DType::Bytes,
            _ => DType::F64,
        };
        // A column that is dropped has no datatype.
        if dtype.is_some_and(|dtype| dtype != expected) {
            return Err(format!("column {column} is {dtype:?}, expected {expected}"));
        }
    }
    Ok(())
}

/// Tells whether `alone`, of one row, has the bits of row `index` of `batch`.
fn is_row(alone: &Tensor, batch: &Tensor, index: usize) -> bool {
    let width = alone.values().len();
    let mut cells = (0..width).map(|cell| (cell, index * width + cell));
    match (alone.values(), batch.values()) {
        (Values::F64(a), Values::F64(b)) => {
            cells.all(|(at, of)| a[at].to_bits() == b[of].to_bits())
        }
        (Values::I64(a), Values::I64(b)) => cells.all(|(at, of)| a[at] == b[of]),
        (Values::Bytes(a), Values::Bytes(b)) => {
            cells.all(|(at, of)| a.get_present(at) == b.get_present(of))
        }
        _ => false,
    }
}

/// Checks the fixtures of `releases` in `family`.
fn check_all(family: &str, releases: &[&str], n_least: usize) {
    let mut complaints = Vec::new();
    for release in releases {
        let fixtures = fixture::read(&format!("{family}/{release}"));
        assert!(fixtures.len() >= n_least, "{release}: {}", fixtures.len());
        for fixture in fixtures {
            if let Err(complaint) = check(&fixture) {
                complaints.push(format!("{}: {complaint}", fixture.label()));
            }
        }
    }
    assert!(
        complaints.is_empty(),
        "{} fixtures differ:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn every_model_of_columns_answers_as_scikit_learn_does() {
    check_all("columns", &RELEASES, 80);
}

#[test]
fn every_file_of_texts_of_python_2_answers_as_it_does() {
    check_all("python2", &["columns"], 5);
}

#[test]
fn every_fixture_of_columns_of_an_older_release_answers_as_that_does() {
    check_all("columns", &fixture::OLDER_RELEASES, 50);
}

#[test]
fn every_wrapped_model_of_columns_answers_as_scikit_learn_does() {
    check_all("wrapped/columns", &WRAPPED_RELEASES, 19);
}

#[test]
fn every_row_of_any_length_is_hashed_as_scikit_learn_does() {
    check_all("hashed", &HASHED_RELEASES, 11);
    check_all("hashed", &fixture::OLDER_RELEASES, 9);
}

#[test]
fn rows_of_any_length_are_refused_by_what_they_should_be() {
    let run = |case: &str, row: &str| {
        let fixtures = fixture::read("hashed/1.9.1");
        let fixture = fixtures
            .iter()
            .find(|f| f.document["case"] == case)
            .unwrap();
        let model = fixture.load().unwrap();
        assert_eq!(model.signature().keyed_inputs, [0]);
        assert_eq!(model.signature().columns, None);
        let texts = Values::Bytes([row].into_iter().collect());
        model.run(&[Tensor::from_values(texts)], &[0])
    };
    let dict = "row 0: expected an object of numbers and strings by feature name";
    let names = "row 0: expected a list of strings";
    let cases = [
        ("dict", "[1]", dict),
        ("dict", "3", dict),
        ("dict", "{\"a\": 1", dict),
        (
            "dict",
            "{\"a\": [1]}",
            "row 0: feature 'a': expected a number or a string",
        ),
        ("string", "\"abc\"", names),
        ("string", "[\"a\", 1]", names),
        ("pair", "[[\"a\"]]", "row 0: expected a list of pairs"),
        (
            "dict_logistic",
            "[]",
            "step 'featurehasher': row 0: expected an object",
        ),
    ];
    for (case, row, message) in cases {
        let error = run(case, row).unwrap_err().to_string();
        assert!(error.contains(message), "{case} {row}: {error}");
    }
    // Of equal keys the last one counts, as in Python.
    let (twice, once) = (
        run("dict", "{\"a\": 1, \"a\": 2}"),
        run("dict", "{\"a\": 2}"),
    );
    assert_eq!(twice.unwrap(), once.unwrap());
}
