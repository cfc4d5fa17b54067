//! Runs the tests: a directory for each, with `model.onnx` and `test_data_set_*/{input,output}_*.pb`.

#[path = "structured.rs"]
mod structured;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};
use coracle_model::{GraphEngine, GraphFile, LoadError, LoadErrorKind, Model, TensorSpec};
use coracle_onnx::read_tensor_file;
use coracle_tensor::{DType, Tensor, Values, bf16};

use structured::Content;

/// The tolerance of ONNX's own runner.
const RELATIVE_MAX: f64 = 1e-3;
const ABSOLUTE_MAX: f64 = 1e-7;

/// What came of a test.
enum Outcome {
    Passed,
    Refused(String),
    NotAsked,
    Differs(String),
}

/// Runs the tests below directories: on our own kernels, and on `engine` what those refuse, or everything where it `is_alone`.
/// Returns whether nothing differs.
pub(crate) fn run_all(
    engine: Option<Arc<dyn GraphEngine>>,
    is_alone: bool,
    directories: impl IntoIterator<Item = String>,
) -> bool {
    let mut counts = BTreeMap::new();
    let mut domains: BTreeMap<bool, (usize, usize)> = BTreeMap::new();
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    let mut n_faults = 0;
    let options = LoadOptions {
        graph_engine: engine,
        ..LoadOptions::default()
    };
    for directory in directories {
        for test in listed(Path::new(&directory)) {
            let name = test.file_name().unwrap_or_default().to_string_lossy();
            let outcome = run(&test, &options, is_alone);
            let domain = domains.entry(name.contains("ai_onnx_ml")).or_default();
            domain.1 += 1;
            let word = match outcome {
                Outcome::Passed => {
                    domain.0 += 1;
                    "passed"
                }
                Outcome::NotAsked => "not asked",
                Outcome::Refused(reason) => {
                    *refusals.entry(reason).or_default() += 1;
                    "refused"
                }
                Outcome::Differs(how) => {
                    n_faults += 1;
                    eprintln!("{name}: {how}");
                    "differs"
                }
            };
            *counts.entry(word).or_insert(0) += 1;
        }
    }
    let mut lines: Vec<String> = counts
        .iter()
        .map(|(word, n)| format!("{word}: {n}"))
        .collect();
    for (is_ml, (passed, all)) in domains {
        let domain = if is_ml { "ai.onnx.ml" } else { "others" };
        lines.push(format!("{domain}: {passed} of {all} passed"));
    }
    let mut refusals: Vec<_> = refusals.into_iter().collect();
    refusals.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    for (reason, n) in refusals.into_iter().take(12) {
        lines.push(format!("  {n} refused: {reason}"));
    }
    eprintln!("{}", lines.join("\n"));
    n_faults == 0
}

fn listed(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Gives a graph to ONNX Runtime whether or not our own kernels run it.
fn load_alone(path: &Path, options: &LoadOptions) -> Result<Box<dyn Model>, LoadError> {
    let bytes = fs::read(path)
        .map_err(|error| LoadError::new(LoadErrorKind::Unreadable, error.to_string()))?;
    let unsupported = |what: &str| LoadError::new(LoadErrorKind::Unsupported, what);
    let external = |_: &str, _: u64, _: Option<u64>| Err(unsupported("external data"));
    let description = coracle_onnx::describe(&bytes, &external)?;
    let engine = options.graph_engine.as_ref();
    let engine = engine.ok_or_else(|| unsupported("no library is given"))?;
    engine.load(GraphFile {
        bytes: &bytes,
        external: Vec::new(),
        description,
        settings: BTreeMap::new(),
    })
}

fn run(test: &Path, options: &LoadOptions, is_alone: bool) -> Outcome {
    let path = test.join("model.onnx");
    let model = match is_alone {
        true => load_alone(&path, options),
        false => load(&path, options, &SystemClock::new()).map(|loaded| loaded.model),
    };
    let model = match model {
        Ok(model) => model,
        Err(error) => return Outcome::Refused(reason(&error.to_string())),
    };
    let sets = listed(test).into_iter().filter(|path| path.is_dir());
    for set in sets {
        let signature = model.signature();
        let inputs = contents(&set, "input", &signature.inputs, &signature.keyed_inputs);
        let expected = contents(&set, "output", &signature.outputs, &signature.keyed_outputs);
        let (Some(inputs), Some(expected)) = (inputs, expected) else {
            return Outcome::NotAsked;
        };
        let inputs: Vec<Tensor> = inputs.iter().map(Content::texts).collect();
        let outputs: Vec<usize> = (0..model.signature().outputs.len()).collect();
        let results = match model.run(&inputs, &outputs) {
            Ok(results) => results,
            Err(error) => {
                return Outcome::Refused(format!("when run: {}", reason(&error.to_string())));
            }
        };
        for (result, expected) in results.iter().zip(&expected) {
            if let Some(how) = expected.difference(result, difference) {
                return Outcome::Differs(how);
            }
        }
    }
    Outcome::Passed
}

/// Returns the operator or the datatype that a refusal is about, so that refusals can be counted.
fn reason(message: &str) -> String {
    let words = message.rsplit(": ").next().unwrap_or(message);
    words.chars().take(90).collect()
}

/// Reads `input_0.pb` and so on; `None` where one is nothing that we have.
fn contents(set: &Path, kind: &str, specs: &[TensorSpec], keyed: &[usize]) -> Option<Vec<Content>> {
    let mut contents = Vec::new();
    while let Ok(bytes) = fs::read(set.join(format!("{kind}_{}.pb", contents.len()))) {
        let spec = specs.get(contents.len())?;
        // ZipMap's maps are tables here, and so they are in the package.
        let is_texts = keyed.contains(&contents.len()) && spec.dtype == DType::Bytes;
        contents.push(match (is_texts, spec.shape.is_empty()) {
            (false, _) => Content::Tensor(as_bits(read_tensor_file(&bytes).ok()?.1, spec)),
            (true, false) => structured::sequence(&bytes)?,
            (true, true) => structured::optional(&bytes)?,
        });
    }
    Some(contents)
}

/// The package holds the bits of BF16 as UINT16.
fn as_bits(tensor: Tensor, spec: &TensorSpec) -> Tensor {
    match tensor.values() {
        Values::U16(bits) if spec.dtype == DType::BF16 => {
            let values = Values::BF16(bits.iter().map(|&bits| bf16::from_bits(bits)).collect());
            Tensor::try_new(tensor.shape().to_vec(), values).unwrap_or(tensor)
        }
        _ => tensor,
    }
}

fn difference(got: &Tensor, expected: &Tensor) -> Option<String> {
    if got.shape() != expected.shape() || got.dtype() != expected.dtype() {
        return Some(format!(
            "{} {:?}, expected {} {:?}",
            got.dtype(),
            got.shape(),
            expected.dtype(),
            expected.shape()
        ));
    }
    if let Values::Bytes(_) = got.values() {
        let same = got.values() == expected.values();
        return (!same).then(|| "other strings".to_owned());
    }
    let (got, expected) = (got.values().to_f64s()?, expected.values().to_f64s()?);
    let wrong = got
        .iter()
        .zip(expected.iter())
        .position(|(got, expected)| {
            let is_close = (got - expected).abs() <= ABSOLUTE_MAX + RELATIVE_MAX * expected.abs();
            !(is_close || got == expected || got.is_nan() && expected.is_nan())
        })?;
    Some(format!(
        "element {wrong} is {}, expected {}",
        got[wrong], expected[wrong]
    ))
}
