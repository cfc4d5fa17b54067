//! ONNX graphs against ONNX Runtime's answers: one operator each, and what exporters write.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load, load_bytes};
use coracle_model::Model;
use coracle_tensor::{ByteStrings, Tensor, Values, f16};
use serde_json::{Map, Value};

use crate::damage::Random;
use crate::fixture::number;

/// The largest difference of floating-point numbers, relative or absolute.
const DIFFERENCE_MAX: f64 = 1e-5;

/// The difference allowed in a case; where it is wider than usual, because ONNX Runtime itself loses digits.
fn difference_max(case: &str) -> f64 {
    match case {
        // Its approximation of the normal quantile cancels near one half, so the last bit of a score matters.
        case if case.contains("PROBIT") => 1e-3,
        // Squared distances are expanded in single precision, and terms cancel.
        "kmeans" => 1e-4,
        _ => DIFFERENCE_MAX,
    }
}

/// Returns `fixtures/onnx`.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx")
}

/// Reads a tensor of a fixture.
pub(crate) fn tensor(value: &Value) -> Tensor {
    let shape = value["shape"].as_array().unwrap().iter();
    let shape = shape.map(|size| usize::try_from(size.as_u64().unwrap()).unwrap());
    let data = value["data"].as_array().unwrap();
    let ints = || data.iter().map(|item| item.as_i64().unwrap());
    let values = match value["datatype"].as_str().unwrap() {
        "FP32" => Values::F32(data.iter().map(|item| number(item) as f32).collect()),
        "FP64" => Values::F64(data.iter().map(number).collect()),
        "FP16" => Values::F16(
            data.iter()
                .map(|item| f16::from_f64(number(item)))
                .collect(),
        ),
        "INT64" => Values::I64(ints().collect()),
        "INT32" => Values::I32(ints().map(|item| i32::try_from(item).unwrap()).collect()),
        "UINT8" => Values::U8(ints().map(|item| u8::try_from(item).unwrap()).collect()),
        "BOOL" => Values::Bool(data.iter().map(|item| item.as_bool().unwrap()).collect()),
        "BYTES" => Values::Bytes(
            data.iter()
                .map(|item| item.as_str().unwrap())
                .collect::<ByteStrings>(),
        ),
        other => panic!("unknown datatype {other}"),
    };
    Tensor::try_new(shape.collect(), values).unwrap()
}

/// Returns the first difference of two tensors, if there is one.
fn compare(got: &Tensor, expected: &Tensor, difference_max: f64) -> Result<(), String> {
    if got.shape() != expected.shape() || got.dtype() != expected.dtype() {
        return Err(format!(
            "{} {:?}, expected {} {:?}",
            got.dtype(),
            got.shape(),
            expected.dtype(),
            expected.shape()
        ));
    }
    let floats = matches!(
        expected.values(),
        Values::F32(_) | Values::F64(_) | Values::F16(_)
    );
    if !floats {
        return match got.values() == expected.values() {
            true => Ok(()),
            false => Err(format!(
                "{:?}, expected {:?}",
                got.values(),
                expected.values()
            )),
        };
    }
    let (got, expected) = (
        got.values().to_f64s().unwrap(),
        expected.values().to_f64s().unwrap(),
    );
    for (place, (got, expected)) in got.iter().zip(expected.iter()).enumerate() {
        let difference = (got - expected).abs();
        let same = got == expected
            || got.is_nan() && expected.is_nan()
            || difference <= difference_max * expected.abs().max(1.0);
        if !same {
            return Err(format!("element {place} is {got:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

/// Runs a model on named inputs and compares every output.
fn check(
    model: &dyn Model,
    inputs: &Map<String, Value>,
    outputs: &Map<String, Value>,
    difference_max: f64,
) -> Result<(), String> {
    let signature = model.signature();
    let inputs = signature
        .inputs
        .iter()
        .map(|spec| match inputs.get(&spec.name) {
            Some(value) => Ok(tensor(value)),
            None => Err(format!("there is no input {}", spec.name)),
        });
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let all: Vec<usize> = (0..signature.outputs.len()).collect();
    let results = model
        .run(&inputs, &all)
        .map_err(|error| error.to_string())?;
    if results.len() != outputs.len() {
        return Err(format!(
            "{} outputs, expected {}",
            results.len(),
            outputs.len()
        ));
    }
    for (index, (spec, result)) in signature.outputs.iter().zip(&results).enumerate() {
        let expected = tensor(&outputs[&spec.name]);
        compare(result, &expected, difference_max)
            .map_err(|error| format!("{}: {error}", spec.name))?;
        if result.dtype() != spec.dtype {
            return Err(format!("{}: declared as {}", spec.name, spec.dtype));
        }
        // An output alone is the same as among all.
        let alone = model
            .run(&inputs, &[index])
            .map_err(|error| error.to_string())?;
        compare(&alone[0], result, 0.0).map_err(|error| format!("{} alone: {error}", spec.name))?;
    }
    Ok(())
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn every_operator_answers_as_onnx_runtime_does() {
    let lines = fs::read_to_string(root().join("operators.jsonl")).unwrap();
    let mut complaints = Vec::new();
    let mut n = 0;
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let bytes = bytes_of(case["model"].as_str().unwrap());
        let checked = load_bytes(&bytes, &LoadOptions::default(), &SystemClock::new())
            .map_err(|error| error.to_string())
            .and_then(|loaded| {
                let (inputs, outputs) = (case["inputs"].as_object(), case["outputs"].as_object());
                let (inputs, outputs) = (inputs.unwrap(), outputs.unwrap());
                check(loaded.model.as_ref(), inputs, outputs, difference_max(name))
            });
        if let Err(complaint) = checked {
            complaints.push(format!("{name}: {complaint}"));
        }
        n += 1;
    }
    assert!(n > 400, "{n} cases");
    assert!(
        complaints.is_empty(),
        "{} of {n} cases differ:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn every_exported_model_answers_as_onnx_runtime_does() {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("models"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    paths.sort();
    assert!(paths.len() >= 30, "{} models", paths.len());
    let mut complaints = Vec::new();
    for path in paths {
        let case: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let file = path.with_extension("onnx");
        let name = path.file_stem().unwrap().to_str().unwrap();
        let checked = load(&file, &LoadOptions::default(), &SystemClock::new())
            .map_err(|error| error.to_string())
            .and_then(|loaded| {
                let (inputs, outputs) = (case["inputs"].as_object(), case["outputs"].as_object());
                check(
                    loaded.model.as_ref(),
                    inputs.unwrap(),
                    outputs.unwrap(),
                    difference_max(name),
                )
            });
        if let Err(complaint) = checked {
            complaints.push(format!("{}: {complaint}", file.display()));
        }
    }
    assert!(
        complaints.is_empty(),
        "{} models differ:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// Returns the models' files, by name.
fn model_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("models")).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    paths.sort();
    paths
}

/// Loads damaged bytes, and runs what comes of it.
fn exercise(bytes: &[u8]) {
    let Ok(loaded) = load_bytes(bytes, &LoadOptions::default(), &SystemClock::new()) else {
        return;
    };
    let signature = loaded.model.signature();
    let n_elements = signature.inputs.iter().map(|spec| {
        let sizes = spec.shape.iter().map(|size| size.unwrap_or(2));
        sizes.fold(1_usize, usize::saturating_mul)
    });
    if n_elements.max() > Some(1 << 20) {
        return;
    }
    let inputs = signature.inputs.iter().map(|spec| {
        let shape: Vec<usize> = spec.shape.iter().map(|size| size.unwrap_or(2)).collect();
        let n: usize = shape.iter().product();
        let values = match spec.dtype.name() {
            "BYTES" => Values::Bytes(std::iter::repeat_n("a cat", n).collect()),
            _ => Values::F64((0..n).map(|place| (place % 3) as f64).collect()),
        };
        Tensor::try_new(shape, values).unwrap()
    });
    let inputs: Vec<Tensor> = inputs.collect();
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    drop(loaded.model.run(&inputs, &outputs));
}

#[test]
fn damaged_graphs_never_panic() {
    let mut random = Random(17);
    let files = model_files();
    assert!(files.len() >= 75, "{} models", files.len());
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for _ in 0..6 {
            exercise(&bytes[..random.below(bytes.len())]);
        }
        for _ in 0..40 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(4) {
                let position = random.below(damaged.len());
                damaged[position] ^= 1 << random.below(8);
            }
            exercise(&damaged);
        }
    }
}

#[test]
fn lengths_that_lie_are_refused_before_memory_is_taken() {
    // A tensor of 2^40 elements that has four bytes, and a graph of 2^62 bytes.
    let tensor = [
        0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x10, 1, 0x4a, 4, 0, 0, 0, 0,
    ];
    let mut graph = vec![0x2a, tensor.len() as u8];
    graph.extend(tensor);
    let mut model = vec![0x08, 8, 0x3a, graph.len() as u8];
    model.extend(&graph);
    model.extend([0x42, 2, 0x10, 18]);
    let error = load_bytes(&model, &LoadOptions::default(), &SystemClock::new()).unwrap_err();
    assert!(error.to_string().contains("elements"), "{error}");
    let model = [
        0x08, 8, 0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0,
    ];
    let error = load_bytes(&model, &LoadOptions::default(), &SystemClock::new()).unwrap_err();
    assert!(
        error.to_string().contains("bytes where 1 are left"),
        "{error}"
    );
}
