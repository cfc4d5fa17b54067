//! The directories of `fixtures/text` through the steps for texts and the real library, with the answers of Python's libraries.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load, locate};
use coracle_model::{LoadErrorKind, Model, RunErrorKind};
use coracle_tensor::{ByteStrings, Tensor, Values};
use coracle_text::TextSteps;
use serde_json::Value;

use crate::Runtime;

/// How far numbers may lie apart, absolutely and as a share: the graph adds up in another order among other texts.
const DIFFERENCE_MAX: f64 = 2e-5;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/text")
}

fn options(runtime: &Runtime) -> LoadOptions {
    LoadOptions {
        graph_engine: Some(runtime.0.clone()),
        text_engine: Some(Arc::new(TextSteps::default())),
        ..LoadOptions::default()
    }
}

fn loaded(runtime: &Runtime, directory: &Path) -> Box<dyn Model> {
    let file = locate(directory).unwrap();
    let loaded = load(&file, &options(runtime), &SystemClock::new());
    loaded.unwrap_or_else(|error| panic!("{error}")).model
}

fn expected(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("expected.json")).unwrap()).unwrap()
}

fn texts(texts: &[&str]) -> Tensor {
    Tensor::from_values(Values::Bytes(texts.iter().collect::<ByteStrings>()))
}

/// Returns the numbers of an expected value, whatever lists they are in.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn check(name: &str, found: &Tensor, wanted: &[&Value]) {
    assert_eq!(found.n_rows(), wanted.len(), "{name}");
    if let Values::Bytes(lists) = found.values()
        && wanted.iter().any(|list| list.is_array())
    {
        for (found, wanted) in lists.iter().zip(wanted) {
            check_entities(name, &serde_json::from_slice(found).unwrap(), wanted);
        }
        return;
    }
    if let Values::Bytes(labels) = found.values() {
        let wanted: Vec<&str> = wanted.iter().map(|label| label.as_str().unwrap()).collect();
        let found: Vec<&str> = labels
            .iter()
            .map(|label| str::from_utf8(label).unwrap())
            .collect();
        assert_eq!(found, wanted, "{name}");
        return;
    }
    let found = found.values().to_f64s().unwrap();
    let wanted: Vec<f64> = wanted.iter().flat_map(|row| numbers(row)).collect();
    assert_eq!(found.len(), wanted.len(), "{name}");
    for (place, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        let difference = (found - wanted).abs();
        assert!(
            difference <= DIFFERENCE_MAX * (1.0 + wanted.abs()),
            "{name}, number {place}: {found}, in Python {wanted}"
        );
    }
}

/// Compares the entities of a text.
fn check_entities(name: &str, found: &Value, wanted: &Value) {
    let without_score = |entity: &Value| {
        let mut entity = entity.clone();
        let score = entity.as_object_mut().unwrap().remove("score");
        (entity, score.unwrap().as_f64().unwrap())
    };
    let entities = |list: &Value| -> Vec<(Value, f64)> {
        list.as_array().unwrap().iter().map(without_score).collect()
    };
    let (found, wanted) = (entities(found), entities(wanted));
    assert_eq!(
        found.len(),
        wanted.len(),
        "{name}: {found:?}, in Python {wanted:?}"
    );
    for ((found, score), (wanted, wanted_score)) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted, "{name}");
        assert!(
            (score - wanted_score).abs() <= DIFFERENCE_MAX,
            "{name}: {found}: {score}, in Python {wanted_score}"
        );
    }
}

pub(crate) fn texts_answer_as_in_python(runtime: &Runtime) {
    let entries = fs::read_dir(root()).unwrap();
    let mut directories: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    directories.retain(|path| path.is_dir());
    directories.sort();
    assert_eq!(directories.len(), 13);
    for directory in directories {
        let expected = expected(&directory);
        let all: Vec<&str> = expected["texts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap())
            .collect();
        let model = loaded(runtime, &directory);
        assert!(model.rows_are_independent());
        // Our own kernels make no promise of rows of tensors, the runtime's does.
        let facts = &model.description().root.facts;
        let run = facts.iter().find(|(name, _)| name == "run").unwrap();
        let is_plain = directory.ends_with("plain");
        let together = ["of several lengths", "alone"][usize::from(is_plain)];
        assert_eq!(run.1, together, "{}", directory.display());
        let signature = model.signature();
        let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
        let names: Vec<&str> = signature
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        let wanted = |name: &str| expected["outputs"][name].as_array().unwrap();
        let shown = directory.display();
        let others: Vec<&str> = expected["pairs"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().unwrap())
            .collect();
        let inputs = |range: Range<usize>| {
            let others = others.get(range.clone()).map(texts);
            let inputs = [Some(texts(&all[range])), others];
            inputs.into_iter().flatten().collect::<Vec<Tensor>>()
        };
        // All at once, and each alone.
        let together = model
            .run(&inputs(0..all.len()), &outputs)
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        for (name, found) in names.iter().zip(&together) {
            let rows: Vec<&Value> = wanted(name).iter().collect();
            check(&format!("{shown} {name}"), found, &rows);
        }
        for (index, text) in all.iter().enumerate() {
            let alone = model
                .run(&inputs(index..index + 1), &outputs)
                .unwrap_or_else(|error| panic!("{shown} {text:?}: {error}"));
            for (name, found) in names.iter().zip(&alone) {
                check(
                    &format!("{shown} {name} of {text:?}"),
                    found,
                    &[&wanted(name)[index]],
                );
            }
        }
    }
}

/// Where the files do not say that texts come in pairs, who serves the model may.
pub(crate) fn classifiers_take_pairs_where_that_is_said(runtime: &Runtime) {
    let place = copy("pairs");
    let config = place.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    changed
        .as_object_mut()
        .unwrap()
        .remove("sentence_transformers");
    fs::write(&config, changed.to_string()).unwrap();
    let expected = expected(place.path());
    let first = |name: &str| texts(&[expected[name][0].as_str().unwrap()]);
    let model = loaded(runtime, place.path());
    assert_eq!(model.signature().inputs.len(), 1);
    let options = LoadOptions {
        text_engine: Some(Arc::new(TextSteps::default().with_pairs())),
        ..options(runtime)
    };
    let file = locate(place.path()).unwrap();
    let model = load(&file, &options, &SystemClock::new()).unwrap().model;
    let names: Vec<&str> = model
        .signature()
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    assert_eq!(names, ["text", "text_pair"]);
    let logits = model.signature().output_index("logits").unwrap();
    let answer = model
        .run(&[first("texts"), first("pairs")], &[logits])
        .unwrap();
    check("pairs", &answer[0], &[&expected["outputs"]["logits"][0]]);
    // One logit is a sigmoid's unless the files say otherwise.
    let score = model.signature().output_index("score").unwrap();
    assert_eq!(model.signature().default_outputs, [score]);
}

/// Copies a directory of fixtures.
fn copy(name: &str) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let mut ahead = vec![PathBuf::new()];
    while let Some(part) = ahead.pop() {
        for entry in fs::read_dir(root().join(name).join(&part)).unwrap() {
            let entry = entry.unwrap();
            let relative = part.join(entry.file_name());
            match entry.path().is_dir() {
                true => {
                    fs::create_dir(to.path().join(&relative)).unwrap();
                    ahead.push(relative);
                }
                false => drop(fs::copy(entry.path(), to.path().join(&relative)).unwrap()),
            }
        }
    }
    to
}

const DENSE: &str = r#"[{"path": "", "type": "m.Transformer"}, {"path": "1_Pooling", "type": "m.Pooling"}, {"path": "2_Dense", "type": "m.Dense"}]"#;
const LAYER: &str = r#"[{"path": "", "type": "m.Transformer"}, {"path": "1_Pooling", "type": "m.Pooling"}, {"path": "2_LayerNorm", "type": "m.LayerNorm"}]"#;
const OUTSIDE: &str =
    r#"[{"path": "", "type": "m.Transformer"}, {"path": "../1_Pooling", "type": "m.Pooling"}]"#;
/// Directories, a file of each that is exchanged, and what its refusal says.
const CONTRADICTIONS: [(&str, &str, &str, &str); 17] = [
    (
        "sentence_mean",
        "modules.json",
        DENSE,
        "2_Dense/config.json: ",
    ),
    (
        "sentence_mean",
        "modules.json",
        LAYER,
        "module 2 is \"LayerNorm\"",
    ),
    (
        "sentence_dense",
        "3_Dense/config.json",
        r#"{"in_features": 8, "out_features": 5, "bias": false}"#,
        "shape [5, 5], the settings say [5, 8]",
    ),
    (
        "entities",
        "config.json",
        r#"{"architectures": ["BertForTokenClassification"], "id2label": {"0": "O"}}"#,
        "id2label has 1 labels, the graph gives 5 logits for a token",
    ),
    (
        "sentence_mean",
        "modules.json",
        OUTSIDE,
        "outside the model's directory",
    ),
    ("sentence_mean", "modules.json", "[]", "no module pools"),
    (
        "sentence_mean",
        "1_Pooling/config.json",
        r#"{"pooling_mode": "middle"}"#,
        "1_Pooling/config.json: ",
    ),
    (
        "sentence_mean",
        "sentence_bert_config.json",
        r#"{"max_seq_length": 2}"#,
        "of which 2 are the tokeniser's own",
    ),
    (
        "sentence_mean",
        "sentence_bert_config.json",
        r#"{"max_seq_length": 0}"#,
        "no tokens at all",
    ),
    (
        "sentence_mean",
        "tokenizer.json",
        "{}",
        "tokenizer.json: no sound tokeniser",
    ),
    (
        "sentence_mean",
        "tokenizer.json",
        "",
        "tokenizer.json: no sound tokeniser",
    ),
    (
        "sentence_prompt",
        "config_sentence_transformers.json",
        r#"{"default_prompt_name": "q"}"#,
        "none of the prompts",
    ),
    (
        "sentence_prompt",
        "1_Pooling/config.json",
        r#"{"pooling_mode": "cls", "include_prompt": false}"#,
        "include_prompt is false",
    ),
    (
        "classes",
        "config.json",
        r#"{"id2label": {"0": "a", "1": "b"}}"#,
        "2 labels, the graph gives 3 logits",
    ),
    (
        "classes",
        "config.json",
        r#"{"id2label": {"0": "a", "2": "b"}}"#,
        "is none of 0 to 1",
    ),
    (
        "classes",
        "config.json",
        r#"{"problem_type": "guessing"}"#,
        "problem_type \"guessing\"",
    ),
    ("classes", "config.json", "[", "config.json: "),
];

pub(crate) fn directories_that_contradict_themselves_are_refused(runtime: &Runtime) {
    for (directory, file, content, wanted) in CONTRADICTIONS {
        let place = copy(directory);
        fs::write(place.path().join(file), content).unwrap();
        let model = locate(place.path()).unwrap();
        let error = load(&model, &options(runtime), &SystemClock::new()).unwrap_err();
        assert!(
            error.to_string().contains(wanted),
            "{directory} {file} {content}: {error}"
        );
        assert_ne!(error.kind(), LoadErrorKind::Unreadable);
    }
}

pub(crate) fn other_graphs_keep_their_tokens(runtime: &Runtime) {
    let place = copy("classes");
    let config = r#"{"architectures": ["RobertaForMultipleChoice"]}"#;
    fs::write(place.path().join("config.json"), config).unwrap();
    let model = loaded(runtime, place.path());
    assert_eq!(model.signature().inputs[0].name, "input_ids");
    let facts = &model.description().root.facts;
    let why = facts.iter().find(|(name, _)| name == "texts").unwrap();
    assert!(why.1.contains("RobertaForMultipleChoice"), "{}", why.1);
    // Without the steps, and without the tokeniser, any graph does.
    let file = locate(place.path()).unwrap();
    let tokens = LoadOptions {
        text_engine: None,
        ..options(runtime)
    };
    let model = load(&file, &tokens, &SystemClock::new()).unwrap().model;
    assert_eq!(model.signature().inputs.len(), 2);
    fs::remove_file(place.path().join("tokenizer.json")).unwrap();
    assert_eq!(loaded(runtime, place.path()).signature().inputs.len(), 2);
}

pub(crate) fn texts_that_are_none_are_told(runtime: &Runtime) {
    let model = loaded(runtime, &root().join("sentence_mean"));
    let mut missing: ByteStrings = ["a"].into_iter().collect();
    missing.push_missing();
    let long = "a ".repeat(600_000);
    let cases = [
        (
            Tensor::from_values(Values::Bytes(missing)),
            RunErrorKind::MissingValue,
            "text 1 is missing",
        ),
        (
            Tensor::from_values(Values::Bytes([b"\xff"].into_iter().collect())),
            RunErrorKind::UnknownValue,
            "text 0 is not UTF-8",
        ),
        (
            texts(&["b", &long]),
            RunErrorKind::ValueOutOfRange,
            "text 1 has 1200000 bytes",
        ),
        (
            Tensor::from_values(Values::F64(vec![1.0].into())),
            RunErrorKind::DTypeMismatch,
            "datatype FP64",
        ),
        (
            Tensor::try_new(vec![1, 1], texts(&["a"]).values().clone()).unwrap(),
            RunErrorKind::ShapeMismatch,
            "shape [1, 1]",
        ),
    ];
    for (input, kind, wanted) in cases {
        let error = model.run(&[input], &[0]).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let none = model.run(&[texts(&[])], &[0]).unwrap();
    assert_eq!(none[0].shape(), [0, 8]);
    let error = model.run_within(&[texts(&["a"])], &[0], std::time::Duration::ZERO);
    assert_eq!(error.unwrap_err().kind(), RunErrorKind::OutOfTime);
}
