//! Signatures of MLflow's directories: names and types for models that were fitted on arrays.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load, mlflow_example};
use coracle_model::{LoadError, LoadErrorKind, Method, Model};
use coracle_tensor::{Tensor, Values};
use serde_json::Value;

use crate::damage::Random;

const RELEASES: [&str; 3] = ["1.30.1", "2.9.2", "3.17.2"];

fn directory(release: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mlflow/signatures");
    fixtures.join(release)
}

fn load_case(release: &str, case: &str) -> Result<Box<dyn Model>, LoadError> {
    let path = directory(release).join(case).join("MLmodel");
    let loaded = load(&path, &LoadOptions::default(), &SystemClock::new());
    loaded.map(|loaded| loaded.model)
}

fn number(cell: &Value) -> f64 {
    cell.as_f64()
        .or_else(|| cell.as_bool().map(|truth| f64::from(u8::from(truth))))
        .unwrap()
}

/// Returns the inputs that `given`, a frame or rows, is to `model`: columns by name.
fn inputs(model: &dyn Model, given: &Value) -> Vec<Tensor> {
    let rows: Vec<Vec<Value>> =
        serde_json::from_value(given.get("data").unwrap_or(given).clone()).unwrap();
    let signature = model.signature();
    if let Some(places) = &signature.columns {
        let columns = places.iter().map(|place| {
            let names = given["columns"].as_array().unwrap();
            let at = names.iter().position(|name| *name == *place.name).unwrap();
            let texts = rows.iter().map(|row| row[at].as_str().unwrap());
            Tensor::from_values(Values::Bytes(texts.collect()))
        });
        return columns.collect();
    }
    let order: Vec<usize> = match (&signature.inputs[0].columns, given["columns"].as_array()) {
        (Some(own), Some(names)) => {
            let place = |own: &String| names.iter().position(|name| *name == **own).unwrap();
            own.iter().map(place).collect()
        }
        _ => (0..rows[0].len()).collect(),
    };
    let cells = rows
        .iter()
        .flat_map(|row| order.iter().map(|&at| number(&row[at])));
    let cells: Vec<f64> = cells.collect();
    vec![Tensor::try_new(vec![rows.len(), order.len()], Values::F64(cells.into())).unwrap()]
}

#[test]
fn models_fitted_on_arrays_take_the_names_of_their_signature_and_answer_as_mlflow_does() {
    for release in RELEASES {
        for case in ["columns", "types", "tensor", "texts", "unnamed"] {
            let path = directory(release).join(format!("{case}.expected.json"));
            let expected: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            let model = load_case(release, case).unwrap();
            let answer = model
                .run(&inputs(model.as_ref(), &expected["given"]), &[0])
                .unwrap();
            let answer = answer[0].values().to_f64s().unwrap();
            let answers = expected["answer"].as_array().unwrap();
            assert_eq!(answer.len(), answers.len());
            for (got, expected) in answer.iter().zip(answers) {
                let expected = number(expected);
                assert!(
                    (got - expected).abs() <= 1e-12 * expected.abs(),
                    "{release} {case}: {got}, expected {expected}"
                );
            }
        }
        let model = load_case(release, "columns").unwrap();
        let names = model.signature().inputs[0].columns.clone().unwrap();
        let expected = [
            "age of the applicant",
            "it's income: \"net\"",
            "gr\u{f6}\u{df}e",
            "days since the last payment was received",
        ];
        assert_eq!(names, expected, "{release}");
        let facts = &model.description().root.facts;
        let stated = facts.iter().find(|(name, _)| name == "signature");
        assert!(
            stated
                .unwrap()
                .1
                .starts_with("\"age of the applicant\" double, ")
        );
    }
}

#[test]
fn numbers_are_cast_to_the_types_of_a_signature_or_refused() {
    let model = load_case("3.17.2", "types").unwrap();
    let answer = |row: [f64; 4]| {
        let table = Tensor::try_new(vec![1, 4], Values::F64(row.to_vec().into())).unwrap();
        let answer = model.run(&[table], &[0]);
        answer.map(|answer| answer[0].values().to_f64s().unwrap()[0])
    };
    // MLflow's own answer to 0.1 in a column of type "float".
    let single = answer([3.0, 0.25, 1.0, 0.1]).unwrap();
    assert!((single - 10.300_000_004_470_35).abs() < 1e-12, "{single}");
    let cases = [
        (
            [3.5, 0.25, 1.0, 0.1],
            "row 0, column \"count\": expected a whole number, by the model's signature",
        ),
        (
            [3.0, 0.25, 2.0, 0.1],
            "row 0, column \"member\": expected true or false, by the model's signature",
        ),
        (
            [f64::NAN, 0.25, 1.0, 0.1],
            "row 0, column \"count\": missing value (null); the model's signature has integers or truth values here",
        ),
    ];
    for (row, message) in cases {
        assert_eq!(answer(row).unwrap_err().to_string(), message);
    }
}

#[test]
fn signatures_that_contradict_the_model_are_refused() {
    let cases = [
        (
            "contradicts_columns",
            "the signature in MLmodel has 3 columns, the model takes 4",
        ),
        (
            "contradicts_tensor",
            "the signature in MLmodel has 5 columns, the model takes 4",
        ),
        (
            "contradicts_types",
            "the signature in MLmodel has type 'string' for column \"b\", where the model takes numbers",
        ),
        (
            "contradicts_names",
            "the signature in MLmodel does not have column 'd', which the model was fitted with",
        ),
    ];
    for release in RELEASES {
        for (case, expected) in cases {
            let error = load_case(release, case).unwrap_err();
            assert_eq!(error.kind(), LoadErrorKind::Unsupported);
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }
}

/// A model that knows names passes over what else the frame of a signature had, and LightGBM knows them without blanks.
#[test]
fn columns_that_the_model_does_not_take_are_passed_over() {
    let from = directory("1.30.1").join("contradicts_names");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mlflow-passed-over");
    fs::create_dir_all(&to).unwrap();
    fs::copy(from.join("model.pkl"), to.join("model.pkl")).unwrap();
    let text = fs::read_to_string(from.join("MLmodel")).unwrap();
    let (wrong, right) = (
        r#"{"name": "e", "type": "double"}"#,
        r#"{"name": "id", "type": "double"}, {"name": "d", "type": "double"}"#,
    );
    assert!(text.contains(wrong));
    let path = to.join("MLmodel");
    fs::write(&path, text.replace(wrong, right)).unwrap();
    let loaded = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
    let shown = format!("{:?}", loaded.model.signature());
    assert!(
        shown.contains("\"d\"") && !shown.contains("\"id\""),
        "{shown}"
    );
}

/// A ColumnTransformer that was fitted with seven columns, and reads three of them.
#[test]
fn columns_that_nobody_reads_may_be_missing_in_a_signature() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sklearn/columns");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mlflow-unread");
    fs::create_dir_all(&to).unwrap();
    let file = fixtures.join("1.4.2/passengers_constant.pkl");
    fs::copy(file, to.join("model.pkl")).unwrap();
    let loaded = |inputs: &str| {
        let text = format!(
            "flavors:\n  sklearn:\n    pickled_model: model.pkl\n    sklearn_version: 1.4.2\nsignature:\n  inputs: '{inputs}'\n"
        );
        fs::write(to.join("MLmodel"), text).unwrap();
        load(
            &to.join("MLmodel"),
            &LoadOptions::default(),
            &SystemClock::new(),
        )
    };
    let read = r#"{"name": "deck", "type": "string"}, {"name": "embarked", "type": "string"}"#;
    let fare = r#"{"name": "fare", "type": "double"}"#;
    assert!(loaded(&format!("[{fare}, {read}]")).is_ok());
    let error = loaded(&format!("[{read}]")).unwrap_err().to_string();
    assert!(error.contains("does not have column 'fare'"), "{error}");
}

#[test]
fn dates_and_lists_are_left_to_columns_that_the_model_does_not_read() {
    let model = load_case("3.17.2", "dates").unwrap();
    let path = directory("3.17.2").join("dates.expected.json");
    let expected: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let places = model.signature().columns.as_ref().unwrap();
    let places: Vec<(&str, bool)> = places
        .iter()
        .map(|place| (place.name.as_str(), place.input.is_some()))
        .collect();
    assert_eq!(places, [("n", true), ("city", true), ("when", false)]);
    let rows = expected["given"]["data"].as_array().unwrap();
    let numbers: Vec<f64> = rows.iter().map(|row| number(&row[0])).collect();
    let texts = rows.iter().map(|row| row[1].as_str().unwrap());
    let inputs = [
        Tensor::from_values(Values::F64(numbers.into())),
        Tensor::from_values(Values::Bytes(texts.collect())),
    ];
    let answer = model.run(&inputs, &[0]).unwrap();
    let truths: Vec<bool> = serde_json::from_value(expected["answer"].clone()).unwrap();
    assert_eq!(answer[0].values(), &Values::Bool(truths));
    let cases = [
        (
            "contradicts_dates",
            "has type 'datetime' for column \"n\", where the model takes numbers",
        ),
        (
            "contradicts_lists",
            "has type 'array' for column \"city\", where the model takes texts",
        ),
    ];
    for (case, expected) in cases {
        let error = load_case("3.17.2", case).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn the_method_that_mlflow_asks_is_the_default() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mlflow/3.17.2");
    let from = fixtures.join("sklearn_proba");
    let default = |path: &Path, default_method| {
        let options = LoadOptions {
            default_method,
            ..LoadOptions::default()
        };
        let model = load(path, &options, &SystemClock::new())?.model;
        let signature = model.signature();
        let name = |&index: &usize| signature.outputs[index].name.clone();
        Ok::<_, LoadError>(
            signature
                .default_outputs
                .iter()
                .map(name)
                .collect::<Vec<_>>(),
        )
    };
    let path = from.join("MLmodel");
    assert_eq!(default(&path, None).unwrap(), ["predict_proba"]);
    let chosen = Some(Method::Predict);
    assert_eq!(default(&path, chosen).unwrap(), ["predict"]);
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mlflow-predict-fn");
    fs::create_dir_all(&to).unwrap();
    fs::copy(from.join("model.pkl"), to.join("model.pkl")).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let path = to.join("MLmodel");
    fs::write(
        &path,
        text.replace("predict_fn: predict_proba", "predict_fn: score"),
    )
    .unwrap();
    let error = default(&path, None).unwrap_err().to_string();
    let expected = "'predict_fn' is 'score', which is not supported; predict, predict_proba, ";
    assert!(error.contains(expected), "{error}");
    assert_eq!(default(&path, chosen).unwrap(), ["predict"]);
}

#[test]
fn the_columns_of_a_signature_give_a_graphs_table_their_names() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mlflow/3.17.2");
    let path = fixtures.join("onnx_columns/MLmodel");
    let loaded = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
    let signature = loaded.model.signature();
    let names = signature.inputs[0].columns.as_ref().unwrap();
    assert_eq!(names, &["a", "b", "c", "d"]);
    assert!(signature.name_rules.mlflow_names_columns);
}

#[test]
fn the_one_tensor_of_a_signature_gives_the_input_its_name() {
    for release in RELEASES {
        let name = |case| {
            load_case(release, case).unwrap().signature().inputs[0]
                .name
                .clone()
        };
        assert_eq!(name("named_tensor"), "table", "{release}");
        assert_eq!(name("tensor"), "X", "{release}");
    }
    let model = load_case("3.17.2", "named_tensor").unwrap();
    let narrow = Tensor::try_new(vec![1, 2], Values::F64(vec![0.0; 2].into())).unwrap();
    let message = model.run(&[narrow], &[0]).unwrap_err().to_string();
    assert_eq!(
        message,
        "input \"table\": shape [1, 2], model expects [-1, 4]"
    );
}

#[test]
fn examples_are_found_beside_the_model() {
    let path = directory("2.9.2").join("columns/MLmodel");
    let example = mlflow_example(&path).unwrap();
    assert_eq!(example, Some(path.with_file_name("input_example.json")));
    for none in ["contradicts_types/MLmodel", "columns/model.pkl"] {
        let found = mlflow_example(&directory("2.9.2").join(none)).unwrap();
        assert_eq!(found, None, "{none}");
    }
}

#[test]
fn damaged_descriptions_never_panic() {
    let scratch = std::env::temp_dir().join(format!("coracle-mlmodel-{}", std::process::id()));
    let mut random = Random(11);
    for case in ["columns", "types", "tensor", "texts"] {
        let source = directory("3.17.2").join(case);
        fs::create_dir_all(&scratch).unwrap();
        fs::copy(source.join("model.pkl"), scratch.join("model.pkl")).unwrap();
        let whole = fs::read(source.join("MLmodel")).unwrap();
        for _ in 0..150 {
            let mut bytes = whole.clone();
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes.truncate(at),
                1 => bytes[at] = b"'\"\\:[]{}\n x5"[random.below(12)],
                _ => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(40)))),
            }
            let path = scratch.join("MLmodel");
            fs::write(&path, bytes).unwrap();
            drop(load(&path, &LoadOptions::default(), &SystemClock::new()));
            drop(mlflow_example(&path));
        }
    }
    fs::remove_dir_all(&scratch).unwrap();
}
