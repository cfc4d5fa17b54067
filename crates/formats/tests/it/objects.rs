//! Files that hold several objects: the one that is meant is served, and no other.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_base::ManualClock;
use coracle_formats::{LoadOptions, Loaded, load};
use coracle_model::LoadError;
use coracle_tensor::{Tensor, Values};
use serde_json::Value;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sklearn/objects")
}

fn load_object(file: &str, object: Option<&str>) -> Result<Loaded, LoadError> {
    let options = LoadOptions {
        object: object.map(str::to_owned),
        ..LoadOptions::default()
    };
    load(&directory().join(file), &options, &ManualClock::new())
}

fn numbers(rows: &Value) -> Vec<f64> {
    let rows = rows.as_array().unwrap().iter();
    let cells = rows.flat_map(|row| row.as_array().unwrap());
    cells.map(|cell| cell.as_f64().unwrap()).collect()
}

#[test]
fn the_object_that_is_meant_answers() {
    let text = fs::read_to_string(directory().join("answers.json")).unwrap();
    let answers: Value = serde_json::from_str(&text).unwrap();
    let rows = numbers(&answers["x"]);
    let table = Tensor::try_new(vec![rows.len() / 4, 4], Values::F64(rows.into())).unwrap();
    let cases = [
        ("beside.pkl", None, "plain", "predict_proba"),
        ("beside.pkl", Some("model"), "plain", "predict_proba"),
        ("kept_pandas_2.pkl", None, "plain", "predict_proba"),
        ("kept_pandas_3.pkl", None, "plain", "predict_proba"),
        ("scaled.joblib", Some("model"), "scaled", "predict_proba"),
        ("scaled.joblib", Some("scaler"), "scaler", "transform"),
        ("pair.pickle", Some("1"), "scaled", "predict_proba"),
        ("nested.pkl", Some("models.a"), "plain", "predict_proba"),
        ("nested.pkl", Some("models.b.0"), "scaled", "predict_proba"),
        (
            "nested.pkl",
            Some("models.b.1.deep"),
            "plain",
            "predict_proba",
        ),
        ("nested.pkl", Some("scaler"), "scaler", "transform"),
        // A list before it that is longer than what is looked at in one.
        ("long.joblib", Some("models.a"), "plain", "predict_proba"),
    ];
    for (file, object, answer, method) in cases {
        let model = load_object(file, object).unwrap().model;
        let output = model.signature().output_index(method).unwrap();
        let result = model.run(std::slice::from_ref(&table), &[output]).unwrap();
        let Values::F64(result) = result[0].values() else {
            panic!("{file}: no doubles");
        };
        for (got, expected) in result.iter().zip(numbers(&answers[answer])) {
            assert!(
                (got - expected).abs() <= 1e-12 * expected.abs(),
                "{file} {object:?}"
            );
        }
    }
}

#[test]
fn where_there_is_no_choice_all_objects_are_named() {
    let cases = [
        (
            "scaled.joblib",
            None,
            "holds several objects: scaler (StandardScaler), model (LogisticRegression), 7 (text); name the one to serve with --object, or save them as one Pipeline",
        ),
        (
            "pair.pickle",
            None,
            "holds several objects: 0 (StandardScaler), 1 (LogisticRegression); name the one to serve with --object, or save them as one Pipeline",
        ),
        (
            "nested.pkl",
            Some("models.c"),
            "there is no object \"models.c\"; the file holds models.a (LogisticRegression), models.b.0 (LogisticRegression), models.b.1.deep (LogisticRegression), scaler (StandardScaler), meta (a dict)",
        ),
        (
            "pair.pickle",
            Some("model"),
            "there is no object \"model\"; the file holds 0 (StandardScaler), 1 (LogisticRegression)",
        ),
        (
            "beside.pkl",
            Some("columns"),
            "holds a list, not a fitted scikit-learn estimator",
        ),
    ];
    for (file, object, message) in cases {
        let error = load_object(file, object).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
    let model = load_object("beside.pkl", None).unwrap().model;
    let facts = &model.description().root.facts;
    let all =
        "model (LogisticRegression), encoder (LabelEncoder), metrics (a dict), columns (a list)";
    assert!(
        facts.contains(&("objects in the file".to_owned(), all.to_owned())),
        "{facts:?}"
    );
}

#[test]
fn what_is_kept_beside_a_model_is_told_and_never_served() {
    let model = load_object("kept_pandas_2.pkl", None).unwrap().model;
    let facts = &model.description().root.facts;
    let all = facts.iter().find(|(name, _)| name == "objects in the file");
    let expected =
        "model (LogisticRegression), trained_at (datetime.datetime), day (datetime.date), ";
    assert!(all.unwrap().1.starts_with(expected), "{all:?}");
    for object in ["trained_at", "frame"] {
        let error = load_object("kept_pandas_3.pkl", Some(object))
            .err()
            .unwrap();
        let message = error.to_string();
        assert!(
            message.contains("is not a fitted scikit-learn estimator"),
            "{message}"
        );
    }
}

/// A dict of an estimator and of what `module.name` makes of a text.
fn beside(module: &str, name: &str) -> Vec<u8> {
    let whole = fs::read(directory().join("beside.pkl")).unwrap();
    // After the empty dict and the mark of its items: a key and a call.
    let start = whole.windows(2).position(|pair| pair == b"}\x94").unwrap() + 2;
    let mut forged = whole[..2].to_vec();
    forged.extend(&whole[start - 2..=start]);
    forged.extend(format!("X\u{3}\0\0\0oddc{module}\n{name}\n(X\u{1}\0\0\0xtR").as_bytes());
    forged.extend(&whole[start + 1..]);
    forged
}

#[test]
fn foreign_names_beside_a_model_are_refused_as_ever() {
    let load = |bytes: &[u8]| {
        let loaded =
            coracle_formats::load_bytes(bytes, &LoadOptions::default(), &ManualClock::new());
        loaded.err().map(|error| error.to_string())
    };
    assert_eq!(load(&beside("datetime", "date")), None);
    for (module, name) in [
        ("posix", "system"),
        ("builtins", "eval"),
        ("pandas", "eval"),
        ("pandas", "read_pickle"),
    ] {
        let message = load(&beside(module, name)).unwrap();
        let expected = format!("refuses to load '{module}.{name}' at [\"odd\"]");
        assert!(message.contains(&expected), "{message}");
    }
}
