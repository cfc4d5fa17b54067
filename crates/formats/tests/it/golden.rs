//! Every fixture must load and answer as scikit-learn does.

use coracle_model::Model;
use coracle_tensor::{Tensor, Values};
use serde_json::Value;

use crate::fixture::{self, Fixture, OLDER_RELEASES, RELEASES, number};
use crate::seen;

/// The largest relative difference of doubles; the bound for double-precision models.
const RELATIVE_MAX: f64 = 1e-12;
/// Differences below this are none: sums of large terms that cancel leave rounding of this size.
const ABSOLUTE_MAX: f64 = 1e-13;

/// The same where scikit-learn itself computes in single precision: a boosted ensemble fits and evaluates most linear
/// `init=` estimators so, and what follows inherits that error.
const RELATIVE_MAX_SINGLE: f64 = 1e-5;

/// The differences allowed for a fixture; where they are wider than usual, it says why.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) relative_max: f64,
    absolute_max: f64,
}

pub(crate) fn tolerance(fixture: &Fixture) -> Tolerance {
    let document = &fixture.document;
    let usual = match document["computed_in_float32"] == true {
        true => RELATIVE_MAX_SINGLE,
        false => RELATIVE_MAX,
    };
    let stated = |name: &str| {
        document[name]
            .as_f64()
            .filter(|_| document["why"].is_string())
    };
    Tolerance {
        relative_max: stated("relative_max").unwrap_or(usual),
        absolute_max: stated("absolute_max").unwrap_or(ABSOLUTE_MAX),
    }
}

/// Returns the differences allowed for an output: distances may have further ones of their own.
fn tolerance_of(fixture: &Fixture, output: &str) -> Tolerance {
    let usual = tolerance(fixture);
    let own = match output {
        "kneighbors_distances" => fixture.document["distances_absolute_max"].as_f64(),
        _ => None,
    };
    Tolerance {
        absolute_max: own.unwrap_or(usual.absolute_max),
        ..usual
    }
}

/// Returns the first complaint about a fixture, if there is one.
pub(crate) fn check(fixture: &Fixture) -> Result<(), String> {
    let model = fixture
        .load()
        .map_err(|error| format!("did not load: {error}"))?;
    let signature = model.signature();
    let names = signature.inputs[0].columns.as_ref();
    let expected_names = fixture.document["feature_names"].as_array();
    let expected_names = expected_names.map(|names| {
        names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    });
    if names != expected_names.as_ref() {
        return Err(format!(
            "feature names {names:?}, expected {expected_names:?}"
        ));
    }
    let outputs = fixture.document["outputs"].as_object().unwrap();
    let mut expected: Vec<&str> = outputs.keys().map(String::as_str).collect();
    let mut offered: Vec<&str> = signature
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    expected.sort_unstable();
    offered.sort_unstable();
    if expected != offered {
        return Err(format!("offers {offered:?}, expected {expected:?}"));
    }
    let table = fixture.table();
    for (method, result, _) in answers(model.as_ref(), fixture)? {
        check_dtype(&method, &result, &fixture.document["predict_dtype"])?;
        let index = signature.output_index(&method).unwrap();
        check_row_by_row(model.as_ref(), &table, index, &result)
            .map_err(|error| format!("{method}: {error}"))?;
    }
    check_refused(model.as_ref(), fixture)?;
    Ok(())
}

/// Returns a model's answers by method, each with its largest error; one that is too large is a complaint.
fn answers(model: &dyn Model, fixture: &Fixture) -> Result<Vec<(String, Tensor, f64)>, String> {
    let table = fixture.table();
    let outputs = fixture.document["outputs"].as_object().unwrap();
    let answers = outputs.iter().map(|(method, expected)| {
        let complaint = |error: String| format!("{method}: {error}");
        let index = model.signature().output_index(method).unwrap();
        let result = model.run(std::slice::from_ref(&table), &[index]);
        let result = result
            .map_err(|error| complaint(error.to_string()))?
            .remove(0);
        let tolerance = tolerance_of(fixture, method);
        let seen = match method.as_str() {
            "kneighbors_indices" if fixture.document["neighbors_tie"].is_string() => {
                let distances = &outputs["kneighbors_distances"];
                compare_indices(&result, expected, distances, tolerance)
            }
            _ => compare(&result, expected, tolerance),
        };
        let seen = seen.map_err(complaint)?;
        Ok((method.clone(), result, seen))
    });
    answers.collect()
}

/// Compares the numbers of neighbours of a fixture that says so: they may change places where their distances are the same but for rounding.
fn compare_indices(
    result: &Tensor,
    expected: &Value,
    distances: &Value,
    tolerance: Tolerance,
) -> Result<f64, String> {
    let rows = expected.as_array().unwrap();
    let width = rows[0].as_array().unwrap().len();
    let Values::I64(found) = result.values() else {
        return Err(format!("datatype {}", result.dtype()));
    };
    if result.shape() != [rows.len(), width] {
        return Err(format!("shape {:?}", result.shape()));
    }
    let mut found = found.to_vec();
    for (row, found) in found.chunks_exact_mut(width).enumerate() {
        let expected = rows[row].as_array().unwrap().iter();
        let mut expected: Vec<i64> = expected.map(|index| index.as_i64().unwrap()).collect();
        let distance = |at: usize| number(&distances[row][at]);
        let mut start = 0;
        for end in 1..=width {
            if end == width || !is_close(distance(end), distance(end - 1), tolerance) {
                found[start..end].sort_unstable();
                expected[start..end].sort_unstable();
                start = end;
            }
        }
        if found != expected {
            return Err(format!("row {row} is {found:?}, expected {expected:?}"));
        }
    }
    Ok(0.0)
}

/// Returns the largest error of a model's answers.
pub(crate) fn error_seen(model: &dyn Model, fixture: &Fixture) -> f64 {
    let answers = answers(model, fixture).unwrap();
    answers.iter().map(|(_, _, seen)| *seen).fold(0.0, f64::max)
}

/// The rows that scikit-learn refuses must be refused here, for every output.
fn check_refused(model: &dyn Model, fixture: &Fixture) -> Result<(), String> {
    for row in fixture.document["refused"].as_array().unwrap() {
        let values: Vec<f64> = row.as_array().unwrap().iter().map(number).collect();
        let table = Tensor::try_new(vec![1, values.len()], Values::F64(values.into())).unwrap();
        for (index, output) in model.signature().outputs.iter().enumerate() {
            if model.run(std::slice::from_ref(&table), &[index]).is_ok() {
                return Err(format!("{} accepts {row}", output.name));
            }
        }
    }
    Ok(())
}

pub(crate) fn check_dtype(method: &str, result: &Tensor, dtype: &Value) -> Result<(), String> {
    let Some(dtype) = dtype.as_str().filter(|_| method == "predict") else {
        return Ok(());
    };
    let expected = match dtype {
        "int64" => "INT64",
        "int32" => "INT32",
        "float64" => "FP64",
        "float32" => "FP32",
        "bool" => "BOOL",
        text if text.starts_with("<U") || text == "object" || text.starts_with("str") => "BYTES",
        other => return Err(format!("fixture has unknown dtype {other}")),
    };
    if result.dtype().name() == expected {
        return Ok(());
    }
    Err(format!("datatype {}, expected {expected}", result.dtype()))
}

/// Compares a result with scikit-learn's, given as (lists of lists of) values, and returns the largest error.
fn compare(result: &Tensor, expected: &Value, tolerance: Tolerance) -> Result<f64, String> {
    let rows = expected.as_array().unwrap();
    let mut shape = vec![rows.len()];
    let mut first = rows.first();
    while let Some(Value::Array(items)) = first {
        shape.push(items.len());
        first = items.first();
    }
    if result.shape() != shape {
        return Err(format!("shape {:?}, expected {shape:?}", result.shape()));
    }
    let mut flat: Vec<&Value> = rows.iter().collect();
    for _ in 1..shape.len() {
        flat = flat
            .into_iter()
            .flat_map(|row| row.as_array().unwrap())
            .collect();
    }
    let mut seen = 0.0_f64;
    for (index, expected) in flat.into_iter().enumerate() {
        let same = match result.values() {
            Values::Bool(values) => Some(values[index]) == expected.as_bool(),
            Values::I32(values) => Some(i64::from(values[index])) == expected.as_i64(),
            Values::I64(values) => Some(values[index]) == expected.as_i64(),
            Values::F64(values) => {
                let is_truth = expected.is_boolean();
                let expected = number(expected);
                seen = seen.max(seen::error(values[index], expected));
                !is_truth && is_close(values[index], expected, tolerance)
            }
            Values::Bytes(values) => values.get(index) == expected.as_str().map(str::as_bytes),
            other => return Err(format!("unexpected datatype {}", other.dtype())),
        };
        if !same {
            let got = match result.values() {
                Values::F64(values) => format!("{:?}", values[index]),
                values => format!("{:?}", values.dtype()),
            };
            return Err(format!("element {index} is {got}, expected {expected}"));
        }
    }
    Ok(seen)
}

pub(crate) fn is_close(got: f64, expected: f64, tolerance: Tolerance) -> bool {
    if expected.is_nan() || expected.is_infinite() {
        return got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
    }
    let difference = (got - expected).abs();
    difference <= tolerance.relative_max * expected.abs() || difference <= tolerance.absolute_max
}

/// Returns the values of one row.
fn part<T>(values: &[T], row: usize, width: usize) -> &[T] {
    &values[row * width..(row + 1) * width]
}

/// A batch must give each row the bits that it gets alone.
fn check_row_by_row(
    model: &dyn Model,
    table: &Tensor,
    output: usize,
    batch: &Tensor,
) -> Result<(), String> {
    let Values::F64(values) = table.values() else {
        return Err("the table is not of doubles".to_owned());
    };
    let n_columns = table.shape()[1];
    for (index, row) in values.chunks_exact(n_columns).enumerate() {
        let row = Tensor::try_new(vec![1, n_columns], Values::F64(row.to_vec().into())).unwrap();
        let alone = model
            .run(&[row], &[output])
            .map_err(|error| error.to_string())?
            .remove(0);
        let same = match (alone.values(), batch.values()) {
            (Values::F64(alone), Values::F64(batch)) => alone
                .iter()
                .zip(part(batch, index, alone.len()))
                .all(|(a, b)| a.to_bits() == b.to_bits()),
            (Values::I64(alone), Values::I64(batch)) => alone == part(batch, index, alone.len()),
            (Values::I32(alone), Values::I32(batch)) => alone == part(batch, index, alone.len()),
            (Values::Bool(alone), Values::Bool(batch)) => alone == part(batch, index, alone.len()),
            (Values::Bytes(alone), Values::Bytes(batch)) => {
                let width = alone.len();
                (0..width).all(|at| alone.get(at) == batch.get(index * width + at))
            }
            _ => false,
        };
        if !same {
            return Err(format!("row {index} alone differs from the batch"));
        }
    }
    Ok(())
}

/// Checks the fixtures of every release in a directory of that release's name within `family`.
fn check_all(family: &str, releases: &[&str], n_least: usize) {
    let mut complaints = Vec::new();
    for release in releases {
        let fixtures = fixture::read(&format!("{family}{release}"));
        assert!(
            fixtures.len() >= n_least,
            "{release}: {} fixtures",
            fixtures.len()
        );
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
fn every_fixture_answers_as_scikit_learn_does() {
    check_all("", &RELEASES, 100);
}

#[test]
fn every_fixture_of_numbers_answers_as_scikit_learn_does() {
    check_all("numeric/", &RELEASES, 250);
}

#[test]
fn every_fixture_of_an_older_release_answers_as_that_does() {
    check_all("", &OLDER_RELEASES, 100);
}

#[test]
fn every_file_of_python_2_answers_as_it_does() {
    check_all("python2/", &["numbers"], 35);
}

#[test]
fn every_fixture_of_numbers_of_an_older_release_answers_as_that_does() {
    check_all("numeric/", &OLDER_RELEASES, 230);
}
