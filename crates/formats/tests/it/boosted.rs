//! Files of boosted-tree libraries must answer as the libraries do.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load, load_bytes, locate};
use coracle_model::{Model, Signature};
use coracle_tensor::{Tensor, Values};
use serde_json::Value;

use crate::columns;
use crate::fixture::number;
use crate::seen;

/// How far answers may be from the library's.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    /// Relative difference of raw margins; zero means the same bits.
    pub(crate) margin: f64,
    /// Relative difference of everything that goes through a link: `exp` may differ in its last bit between C libraries.
    pub(crate) linked: f64,
}

impl Tolerance {
    fn of(self, method: &str) -> f64 {
        match method {
            "decision_function" => self.margin,
            _ => self.linked,
        }
    }
}

/// The largest errors of raw margins, if there are any, and of everything else.
#[derive(Clone, Copy, Default)]
pub(crate) struct ErrorSeen {
    pub(crate) margin: Option<f64>,
    pub(crate) linked: f64,
}

/// A directory of fixtures, its releases, and how many fixtures each release has at least.
pub(crate) struct Library {
    pub(crate) name: &'static str,
    pub(crate) releases: &'static [&'static str],
    n_fixtures_min: usize,
    pub(crate) tolerance: Tolerance,
}

/// XGBoost adds leaves in single precision in tree order, and so do we.
const XGBOOST: Library = Library {
    name: "xgboost",
    releases: &["1.5.2", "1.7.6", "2.1.4", "3.4.1"],
    n_fixtures_min: 19,
    tolerance: Tolerance {
        margin: 0.0,
        linked: 1e-6,
    },
};

/// LightGBM adds leaves in double precision in tree order, and so do we.
const LIGHTGBM: Library = Library {
    name: "lightgbm",
    releases: &["3.3.5", "4.1.0", "4.6.0", "4.7.0"],
    n_fixtures_min: 17,
    tolerance: Tolerance {
        margin: 0.0,
        linked: 1e-14,
    },
};

/// CatBoost adds leaves in double precision, in blocks of its own; its exponential is its own too.
const CATBOOST: Library = Library {
    name: "catboost",
    releases: &["1.2", "1.2.10"],
    n_fixtures_min: 20,
    tolerance: Tolerance {
        margin: 1e-13,
        linked: 1e-12,
    },
};

/// Returns the directory of a library's fixtures.
pub(crate) fn root(library: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(library)
}

/// The answer documents in a directory, by name.
pub(crate) fn documents(directory: &Path) -> Vec<(PathBuf, Value)> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".expected.json"));
    paths.sort();
    let documents = paths.into_iter().map(|path| {
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        (
            path.with_file_name(document["file"].as_str().unwrap()),
            document,
        )
    });
    documents.collect()
}

/// Returns the names of a model's columns; those of models fitted without names have none.
fn feature_names(signature: &Signature, document: &Value) -> Option<Vec<String>> {
    match &signature.columns {
        Some(places) => {
            let names = places.iter().map(|place| place.name.clone());
            (!document["feature_names"].is_null()).then(|| names.collect())
        }
        None => signature.inputs[0].columns.clone(),
    }
}

/// Returns rows as a model's inputs: one table, or a tensor for each column.
fn inputs(signature: &Signature, rows: &Value) -> Vec<Tensor> {
    match &signature.columns {
        Some(_) => columns::inputs(signature, rows.as_array().unwrap()),
        None => vec![table(rows)],
    }
}

fn table(rows: &Value) -> Tensor {
    let rows = rows.as_array().unwrap();
    let n_columns = rows[0].as_array().unwrap().len();
    let values = rows.iter().flat_map(|row| row.as_array().unwrap());
    let values: Vec<f64> = values.map(number).collect();
    Tensor::try_new(vec![rows.len(), n_columns], Values::F64(values.into())).unwrap()
}

/// Returns the first complaint about a fixture, if there is one.
fn check(path: &Path, document: &Value, tolerance: Tolerance) -> Result<(), String> {
    let loaded = load(path, &LoadOptions::default(), &SystemClock::new());
    let model = loaded
        .map_err(|error| format!("did not load: {error}"))?
        .model;
    let signature = model.signature();
    let names = serde_json::to_value(feature_names(signature, document)).unwrap();
    if names != document["feature_names"] {
        return Err(format!("feature names {names}"));
    }
    let outputs = document["outputs"].as_object().unwrap();
    let mut offered: Vec<&str> = signature
        .outputs
        .iter()
        .map(|spec| spec.name.as_str())
        .collect();
    let mut expected: Vec<&str> = outputs.keys().map(String::as_str).collect();
    offered.sort_unstable();
    expected.sort_unstable();
    // scikit-learn gives a pipeline's last step's methods; estimators of old releases lack some.
    if offered != expected {
        return Err(format!("offers {offered:?}, expected {expected:?}"));
    }
    let inputs = inputs(signature, &document["x"]);
    for (method, expected) in outputs {
        let index = signature.output_index(method).unwrap();
        let results = model.run(&inputs, &[index]);
        let result = results
            .map_err(|error| format!("{method}: {error}"))?
            .remove(0);
        let relative_max = tolerance.of(method);
        compare(&result, expected, relative_max).map_err(|error| format!("{method}: {error}"))?;
        let dtype = document["dtypes"][method].as_str().unwrap();
        check_dtype(&result, dtype).map_err(|error| format!("{method}: {error}"))?;
        check_row_by_row(model.as_ref(), &document["x"], index, &result)?;
    }
    Ok(())
}

/// Adds the errors of a model's answers to `seen`.
pub(crate) fn error_seen(
    model: &dyn Model,
    document: &Value,
    tolerance: Tolerance,
    seen: &mut ErrorSeen,
) {
    let inputs = inputs(model.signature(), &document["x"]);
    for (method, expected) in document["outputs"].as_object().unwrap() {
        let index = model.signature().output_index(method).unwrap();
        let result = model.run(&inputs, &[index]).unwrap().remove(0);
        let error = compare(&result, expected, tolerance.of(method)).unwrap();
        if method == "decision_function" {
            seen.margin = Some(seen.margin.unwrap_or(0.0).max(error));
        } else {
            seen.linked = seen.linked.max(error);
        }
    }
}

fn check_dtype(result: &Tensor, dtype: &str) -> Result<(), String> {
    let expected = match dtype {
        "float32" => "FP32",
        "float64" => "FP64",
        "int32" => "INT32",
        "int64" => "INT64",
        "bool" => "BOOL",
        text if text.starts_with("<U") || text == "object" || text.starts_with("str") => "BYTES",
        other => return Err(format!("fixture has unknown dtype {other}")),
    };
    match result.dtype().name() {
        name if name == expected => Ok(()),
        name => Err(format!("datatype {name}, expected {expected}")),
    }
}

/// Compares a result with the library's and returns the largest error.
fn compare(result: &Tensor, expected: &Value, relative_max: f64) -> Result<f64, String> {
    let rows = expected.as_array().unwrap();
    let mut shape = vec![rows.len()];
    if let Some(Value::Array(first)) = rows.first() {
        shape.push(first.len());
    }
    if result.shape() != shape {
        return Err(format!("shape {:?}, expected {shape:?}", result.shape()));
    }
    let flat = rows.iter().flat_map(|row| match row {
        Value::Array(items) => items.iter().collect(),
        item => vec![item],
    });
    let mut seen = 0.0_f64;
    let mut check = |got: f64, expected: f64| {
        if !are_zero(got, expected) {
            seen = seen.max(seen::error(got, expected));
        }
        let same = is_close(got, expected, relative_max);
        (same, format!("{got:?}"))
    };
    for (index, expected) in flat.enumerate() {
        let (same, got) = match result.values() {
            Values::F32(values) => check(f64::from(values[index]), number(expected)),
            Values::F64(values) => check(values[index], number(expected)),
            Values::I32(values) => (
                Some(i64::from(values[index])) == expected.as_i64(),
                values[index].to_string(),
            ),
            Values::I64(values) => (
                Some(values[index]) == expected.as_i64(),
                values[index].to_string(),
            ),
            Values::Bool(values) => (
                Some(values[index]) == expected.as_bool(),
                values[index].to_string(),
            ),
            Values::Bytes(values) => {
                let got = values.get(index).unwrap();
                let same = expected.as_str().map(str::as_bytes) == Some(got);
                (same, String::from_utf8_lossy(got).into_owned())
            }
            other => return Err(format!("unexpected datatype {}", other.dtype())),
        };
        if !same {
            return Err(format!("element {index} is {got}, expected {expected}"));
        }
    }
    Ok(seen)
}

/// Tells whether both are zero: of either sign, or below the smallest normal single, which is zero to XGBoost 1.5.
fn are_zero(got: f64, expected: f64) -> bool {
    got.abs().max(expected.abs()) < f64::from(f32::MIN_POSITIVE)
}

fn is_close(got: f64, expected: f64, relative_max: f64) -> bool {
    let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
    same || are_zero(got, expected) || (got - expected).abs() <= relative_max * expected.abs()
}

/// A batch must give each row the bits that it gets alone.
fn check_row_by_row(
    model: &dyn Model,
    rows: &Value,
    output: usize,
    batch: &Tensor,
) -> Result<(), String> {
    for (index, row) in rows.as_array().unwrap().iter().enumerate() {
        let row = inputs(model.signature(), &Value::from(vec![row.clone()]));
        let alone = model
            .run(&row, &[output])
            .map_err(|error| error.to_string())?
            .remove(0);
        let bits = |tensor: &Tensor| -> Vec<u64> {
            match tensor.values() {
                Values::F32(values) => values.iter().map(|v| u64::from(v.to_bits())).collect(),
                Values::F64(values) => values.iter().map(|v| v.to_bits()).collect(),
                _ => Vec::new(),
            }
        };
        let (alone, batch) = (bits(&alone), bits(batch));
        if alone
            != batch
                .iter()
                .skip(index * alone.len())
                .take(alone.len())
                .copied()
                .collect::<Vec<_>>()
        {
            return Err(format!("row {index} alone differs from the batch"));
        }
    }
    Ok(())
}

/// Every library.
pub(crate) const LIBRARIES: [&Library; 3] = [&XGBOOST, &LIGHTGBM, &CATBOOST];

fn check_library(library: &Library) {
    let mut complaints = Vec::new();
    for release in library.releases {
        let fixtures = documents(&root(library.name).join(release));
        assert!(
            fixtures.len() >= library.n_fixtures_min,
            "{release}: {} fixtures",
            fixtures.len()
        );
        for (path, document) in fixtures {
            if let Err(complaint) = check(&path, &document, library.tolerance) {
                let file = path.file_name().unwrap().to_string_lossy();
                let writer = document["written_by"].as_str().unwrap();
                complaints.push(format!("{release} {file} ({writer}): {complaint}"));
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
fn every_fixture_answers_as_xgboost_does() {
    check_library(&XGBOOST);
}

#[test]
fn every_fixture_answers_as_lightgbm_does() {
    check_library(&LIGHTGBM);
}

#[test]
fn every_fixture_answers_as_catboost_does() {
    check_library(&CATBOOST);
}

/// LightGBM has underscores for the blanks of a data frame's names, whatever wraps it; no other library changes names.
#[test]
fn names_may_have_blanks_where_they_are_lightgbms() {
    let cases = [
        ("lightgbm/4.7.0/names.txt", true),
        ("lightgbm/4.7.0/pickled_booster.pkl", true),
        ("lightgbm/4.7.0/classifier_frame.joblib", true),
        ("lightgbm/4.7.0/wrapped_calibrated.pkl", true),
        ("mlflow/3.17.2/lightgbm_booster/MLmodel", true),
        // Its first step is a scaler.
        ("lightgbm/4.7.0/pipeline.joblib", false),
        ("xgboost/3.4.1/names.ubj", false),
        ("xgboost/3.4.1/classifier_frame.joblib", false),
        ("catboost/1.2.10/names.cbm", false),
        ("catboost/1.2.10/pipeline_frame.joblib", false),
        ("sklearn/1.9.1/logistic_frame.joblib", false),
    ];
    for (file, expected) in cases {
        let loaded = load(&root(file), &LoadOptions::default(), &SystemClock::new());
        let model = loaded.unwrap().model;
        let found = model.signature().name_rules.underscores_may_be_blanks;
        assert_eq!(found, expected, "{file}");
    }
}

#[test]
fn what_of_other_libraries_is_not_served_is_refused_by_name() {
    let (mut fixtures, imbalanced) = (
        documents(&root("catboost").join("unsupported")),
        documents(&root("imblearn").join("unsupported")),
    );
    let xgboost = documents(&root("xgboost").join("unsupported"));
    assert!(fixtures.len() >= 3 && !imbalanced.is_empty() && xgboost.len() >= 3);
    fixtures.extend(imbalanced);
    fixtures.extend(xgboost);
    for (path, document) in fixtures {
        let error = load(&path, &LoadOptions::default(), &SystemClock::new()).err();
        let message = error
            .unwrap_or_else(|| panic!("{} loaded", path.display()))
            .to_string();
        for name in document["names"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            assert!(message.contains(name), "{message:?} does not name {name:?}");
        }
    }
}

#[test]
fn more_classes_than_the_booster_has_are_refused_before_they_are_counted() {
    let mut bytes = fs::read(root("xgboost").join("3.4.1/wrapped_calibrated.pkl")).unwrap();
    // The name, where it is remembered, and a number of one byte.
    let written = b"n_classes_q<K\x02";
    let at = bytes
        .windows(written.len())
        .position(|part| part == written);
    let number = at.unwrap() + written.len() - 2;
    // 2^40, a number of six bytes.
    bytes.splice(number..number + 2, *b"\x8a\x06\0\0\0\0\0\x01");
    let loaded = load_bytes(&bytes, &LoadOptions::default(), &SystemClock::new());
    let message = loaded.err().unwrap().to_string();
    let expected = "'n_classes_' is 1099511627776, the booster tells 2 apart";
    assert!(message.contains(expected), "{message}");
}

/// Directories of MLflow, whose models are those of the other libraries.
pub(crate) const MLFLOW: Library = Library {
    name: "mlflow",
    releases: &["3.17.2"],
    n_fixtures_min: 9,
    tolerance: Tolerance {
        margin: 1e-12,
        linked: 1e-6,
    },
};

#[test]
fn every_mlflow_directory_answers_as_its_model_does() {
    check_library(&MLFLOW);
    let directory = root("mlflow").join("3.17.2/xgboost_classifier");
    assert_eq!(locate(&directory).unwrap(), directory.join("MLmodel"));
}

/// Pipelines with samplers, and ensembles of samples; scikit-learn's estimators are within.
pub(crate) const IMBALANCED_LEARN: Library = Library {
    name: "imblearn",
    releases: &["0.10.1", "0.12.4", "0.14.2"],
    n_fixtures_min: 33,
    tolerance: Tolerance {
        margin: 1e-12,
        linked: 1e-12,
    },
};

#[test]
fn every_fixture_answers_as_imbalanced_learn_does() {
    check_library(&IMBALANCED_LEARN);
}

#[test]
fn forged_trees_are_refused() {
    let xgboost = |left: &str, right: &str, feature: u32| {
        format!(
            r#"{{"learner":{{"learner_model_param":{{"base_score":"5E-1","num_class":"0","num_feature":"2"}},
            "objective":{{"name":"reg:squarederror"}},"gradient_booster":{{"name":"gbtree","model":{{"tree_info":[0],
            "trees":[{{"left_children":{left},"right_children":{right},"split_indices":[{feature},0,0],
            "split_conditions":[0.5,1,2],"default_left":[0,0,0]}}]}}}}}}}}"#
        )
    };
    let lightgbm = |left: &str, feature: u32| {
        format!(
            "tree\nversion=v4\nmax_feature_idx=1\nobjective=regression\n\nTree=0\nnum_leaves=2\n\
             split_feature={feature}\nthreshold=0.5\ndecision_type=2\nleft_child={left}\nright_child=-2\n\
             leaf_value=1 2\n\nend of trees\n"
        )
    };
    let cases = [
        (xgboost("[1,-1,-1]", "[2,-1,-1]", 0), None),
        (
            xgboost("[0,-1,-1]", "[2,-1,-1]", 0),
            Some("child 0 has another parent too"),
        ),
        (
            xgboost("[1,-1,-1]", "[9,-1,-1]", 0),
            Some("child 9 does not exist"),
        ),
        (
            xgboost("[1,-1,-1]", "[2,-1,-1]", 7),
            Some("splits on feature 7 of 2"),
        ),
        (
            xgboost("[1,-1]", "[2,-1,-1]", 0),
            Some("its columns differ in length"),
        ),
        (lightgbm("-1", 0), None),
        (lightgbm("0", 0), Some("child 0 has another parent too")),
        (lightgbm("-9", 0), Some("child 9 does not exist")),
        (lightgbm("-1", 7), Some("splits on feature 7 of 2")),
    ];
    for (text, expected) in cases {
        let loaded = load_bytes(
            text.as_bytes(),
            &LoadOptions::default(),
            &SystemClock::new(),
        );
        match (loaded.err().map(|error| error.to_string()), expected) {
            (None, None) => {}
            (Some(message), Some(part)) => assert!(message.contains(part), "{message}"),
            (got, expected) => panic!("{got:?}, expected {expected:?}: {text}"),
        }
    }
}
