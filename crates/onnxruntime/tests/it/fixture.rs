//! The graphs of `fixtures/onnx`, with ONNX Runtime's own answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use coracle_model::Model;
use coracle_tensor::{ByteStrings, Tensor, Values, f16};
use serde_json::Value;

/// A graph, inputs, and what ONNX Runtime answered in Python.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: Vec<u8>,
    pub(crate) inputs: BTreeMap<String, Tensor>,
    pub(crate) outputs: BTreeMap<String, Tensor>,
    /// The shapes that the file declares, -1 for any size; of the neural graphs only.
    pub(crate) shapes: BTreeMap<String, Vec<i64>>,
    /// What outputs that are sequences hold.
    pub(crate) lists: BTreeMap<String, Value>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx")
}

/// Reads the graphs of a file with one per line.
pub(crate) fn lines(file: &str) -> Vec<Case> {
    let lines = fs::read_to_string(root().join(file)).unwrap();
    let cases = lines.lines().map(|line| {
        let case: Value = serde_json::from_str(line).unwrap();
        let digits = case["model"].as_str().unwrap().as_bytes().chunks_exact(2);
        let digits = digits.map(|pair| str::from_utf8(pair).unwrap());
        let model = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap());
        read(case["name"].as_str().unwrap(), model.collect(), &case)
    });
    cases.collect()
}

/// Reads what the exporters of classical models wrote.
pub(crate) fn exported() -> Vec<Case> {
    let entries = fs::read_dir(root().join("models")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    let cases = paths.iter().map(|path| {
        let case: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let model = fs::read(path.with_extension("onnx")).unwrap();
        read(path.file_stem().unwrap().to_str().unwrap(), model, &case)
    });
    cases.collect()
}

fn read(name: &str, model: Vec<u8>, case: &Value) -> Case {
    let tensors = |field: &str| {
        let named = case[field].as_object().into_iter().flatten();
        named
            .map(|(name, value)| (name.clone(), tensor(value)))
            .collect()
    };
    let shapes = case["shapes"].as_object().into_iter().flatten();
    let shapes = shapes.map(|(name, shape)| {
        let sizes = shape.as_array().unwrap().iter();
        (
            name.clone(),
            sizes.map(|size| size.as_i64().unwrap()).collect(),
        )
    });
    let lists = case["answers"].as_object().into_iter().flatten();
    Case {
        lists: lists
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        name: name.to_owned(),
        model,
        inputs: tensors("inputs"),
        outputs: tensors("outputs"),
        shapes: shapes.collect(),
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Null => f64::NAN,
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap(),
    }
}

fn tensor(value: &Value) -> Tensor {
    let shape = value["shape"].as_array().unwrap().iter();
    let shape = shape.map(|size| usize::try_from(size.as_u64().unwrap()).unwrap());
    let data = value["data"].as_array().unwrap().iter();
    let ints = data.clone().map(|item| item.as_i64().unwrap_or_default());
    let values = match value["datatype"].as_str().unwrap() {
        "FP64" => Values::F64(data.map(number).collect()),
        "FP32" => Values::F32(data.map(|item| number(item) as f32).collect()),
        "FP16" => Values::F16(data.map(|item| f16::from_f64(number(item))).collect()),
        "INT64" => Values::I64(ints.collect()),
        "INT32" => Values::I32(ints.map(|item| i32::try_from(item).unwrap()).collect()),
        "INT8" => Values::I8(ints.map(|item| i8::try_from(item).unwrap()).collect()),
        "UINT64" => Values::U64(data.map(|item| item.as_u64().unwrap()).collect()),
        "UINT32" => Values::U32(ints.map(|item| u32::try_from(item).unwrap()).collect()),
        "UINT16" => Values::U16(ints.map(|item| u16::try_from(item).unwrap()).collect()),
        "UINT8" => Values::U8(ints.map(|item| u8::try_from(item).unwrap()).collect()),
        "BOOL" => Values::Bool(data.map(|item| item.as_bool().unwrap()).collect()),
        "BYTES" => {
            let texts = data.map(|item| item.as_str().unwrap());
            Values::Bytes(texts.collect::<ByteStrings>())
        }
        other => panic!("unknown datatype {other}"),
    };
    Tensor::try_new(shape.collect(), values).unwrap()
}

impl Case {
    /// Runs the model and compares every output; says what differs.
    pub(crate) fn check(&self, model: &dyn Model, difference_max: f64) -> Result<(), String> {
        let signature = model.signature();
        let inputs = signature.inputs.iter();
        let inputs = inputs.map(|spec| self.inputs.get(&spec.name).cloned());
        let inputs: Option<Vec<Tensor>> = inputs.collect();
        let inputs = inputs.ok_or("an input has another name")?;
        let all: Vec<usize> = (0..signature.outputs.len()).collect();
        let results = model.run(&inputs, &all).map_err(|e| e.to_string())?;
        if results.len() != self.outputs.len() {
            return Err(format!("{} outputs", results.len()));
        }
        for (index, (result, spec)) in results.iter().zip(&signature.outputs).enumerate() {
            let expected = self.outputs.get(&spec.name);
            let expected = expected.ok_or(format!("output {} is new", spec.name))?;
            compare(result, expected, difference_max)
                .map_err(|error| format!("{}: {error}", spec.name))?;
            // Where the file leaves the number of dimensions out and no made-up input ran, the signature has none.
            let rank = spec.shape.len();
            if result.dtype() != spec.dtype || rank > 0 && result.shape().len() != rank {
                return Err(format!("{} is not as declared: {spec:?}", spec.name));
            }
            let alone = model.run(&inputs, &[index]).map_err(|e| e.to_string())?;
            compare(&alone[0], result, difference_max)
                .map_err(|error| format!("{} alone: {error}", spec.name))?;
        }
        Ok(())
    }
}

pub(crate) fn compare(got: &Tensor, expected: &Tensor, difference_max: f64) -> Result<(), String> {
    let differs = || format!("{got:?}, expected {expected:?}");
    if got.shape() != expected.shape() || got.dtype() != expected.dtype() {
        return Err(differs());
    }
    let is_real = ["FP16", "FP32", "FP64"].contains(&got.dtype().name());
    let (Some(left), Some(right)) = (got.values().to_f64s(), expected.values().to_f64s()) else {
        return (got == expected).then_some(()).ok_or_else(differs);
    };
    let allowed = if is_real { difference_max } else { 0.0 };
    let same = left.iter().zip(right.iter()).all(|(left, right)| {
        left == right
            || left.is_nan() && right.is_nan()
            || (left - right).abs() <= allowed * right.abs().max(1.0)
    });
    same.then_some(()).ok_or_else(differs)
}
