//! Graphs through the runtime: the answers of ONNX Runtime in Python, or a refusal with its reason.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

#[expect(dead_code, reason = "shared with the tests of another engine")]
#[path = "../../../onnxruntime/tests/it/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;

use coracle_base::Code;
use coracle_model::{GraphEngine as _, GraphFile, LoadError, LoadErrorKind, Model};
use coracle_rten::Rten;
use coracle_tensor::{Tensor, Values};

fn load_with(
    bytes: &[u8],
    settings: BTreeMap<String, String>,
) -> Result<Box<dyn Model>, LoadError> {
    let external = |_: &str, _: u64, _: Option<u64>| {
        Err(LoadError::new(LoadErrorKind::Unsupported, "external data"))
    };
    let description = coracle_onnx::describe(bytes, &external)?;
    Rten.load(GraphFile {
        bytes,
        external: Vec::new(),
        description,
        settings,
    })
}

fn load(bytes: &[u8]) -> Result<Box<dyn Model>, LoadError> {
    load_with(bytes, BTreeMap::new())
}

#[test]
fn neural_graphs_answer_as_in_python_or_are_refused() {
    let mut refused = Vec::new();
    for case in fixture::lines("neural.jsonl") {
        match load(&case.model) {
            Err(error) => refused.push((case.name, told(error))),
            Ok(model) => {
                // Half precision is computed in single precision here.
                let difference_max = if case.name == "half precision" {
                    2e-3
                } else {
                    1e-5
                };
                case.check(model.as_ref(), difference_max)
                    .unwrap_or_else(|error| panic!("{}: {error}", case.name));
            }
        }
    }
    let is_same = refused.len() == REFUSED.len()
        && refused
            .iter()
            .zip(REFUSED)
            .all(|((name, why), (expected, part))| name == expected && why.contains(part));
    assert!(is_same, "{refused:#?}");
}

/// The graphs of the fixtures that are refused, each with why. What the runtime refuses itself is in its words.
const REFUSED: [(&str, &str); 11] = [
    // Convolutions that do not say how large their kernel is.
    ("convolution of any size", "expected 2 stride values"),
    ("convolution of a fixed size", "expected 2 stride values"),
    ("texts split", "'text' is of BYTES"),
    ("half precision", "expected 2 pad values"),
    ("double precision", "'x' is of FP64"),
    ("no rows", "expected 2 pad values"),
    (
        "quantized by the range of its rows, row 0 alone",
        "'DynamicQuantizeLinear'",
    ),
    (
        "quantized by the range of its rows, row 1 alone",
        "'DynamicQuantizeLinear'",
    ),
    (
        "quantized by the range of its rows, row 2 alone",
        "'DynamicQuantizeLinear'",
    ),
    ("a loop of as many steps as wanted", "operator 'Loop'"),
    // A size that nothing made up has.
    (
        "a shape that few numbers of rows have",
        "Input length does not match target shape",
    ),
];

fn told(error: LoadError) -> String {
    assert_eq!(error.kind(), LoadErrorKind::Unsupported, "{error}");
    error.to_string()
}

#[test]
fn inputs_of_any_rank_are_served() {
    for case in fixture::lines("unranked.jsonl") {
        let loaded = load(&case.model);
        let model = loaded.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let signature = model.signature();
        assert_eq!(signature.unranked_inputs, [0], "{}", case.name);
        assert_eq!(signature.inputs[0].wire_shape(), [-1], "{}", case.name);
        let all: Vec<usize> = (0..signature.outputs.len()).collect();
        let inputs = signature.inputs.iter();
        let inputs = inputs.map(|spec| case.inputs[&spec.name].clone());
        let found = model.run(&inputs.collect::<Vec<_>>(), &all).unwrap();
        for (found, spec) in found.iter().zip(&signature.outputs) {
            fixture::compare(found, &case.outputs[&spec.name], 1e-5).unwrap();
        }
    }
}

/// The operators of classical models are for our own kernels.
#[test]
fn operators_of_classical_models_are_refused() {
    for case in fixture::lines("operators.jsonl") {
        let error = load(&case.model).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Unsupported, "{}", case.name);
    }
}

/// Files cut short or with a byte changed are errors or models, and no end of the process.
#[test]
fn damaged_graphs_are_errors() {
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    for name in [
        "convolution of a fixed size",
        "perceptron with layer normalization",
    ] {
        let mut cases = fixture::lines("neural.jsonl").into_iter();
        let case = cases.find(|case| case.name == name).unwrap();
        for turn in 0..100 {
            let mut damaged = case.model.clone();
            match turn % 2 {
                0 => damaged.truncate(next(damaged.len())),
                _ => {
                    let place = next(damaged.len());
                    damaged[place] ^= 1 << next(8);
                }
            }
            drop(load(&damaged));
        }
    }
}

#[test]
fn integers_beyond_32_bits_are_refused() {
    let mut cases = fixture::lines("neural.jsonl").into_iter();
    let case = cases
        .find(|case| case.name == "a table of weights")
        .unwrap();
    let model = load(&case.model).unwrap();
    let ids = Values::I64(vec![0, 1 << 32, 1].into());
    let error = model.run(&[Tensor::from_values(ids)], &[0]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("4294967296"), "{error}");
}

#[test]
fn settings_of_another_engine_are_told() {
    let mut cases = fixture::lines("neural.jsonl").into_iter();
    let case = cases
        .find(|case| case.name == "a table of weights")
        .unwrap();
    let settings = [("providers".to_owned(), "cuda".to_owned())];
    let model = load_with(&case.model, settings.into()).unwrap();
    let warnings: Vec<&str> = model.description().warnings().collect();
    assert!(
        matches!(warnings.as_slice(), [one] if one.contains("'providers'")),
        "{warnings:?}"
    );
}
