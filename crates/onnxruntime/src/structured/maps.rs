//! Maps that a graph gives, as objects of JSON.

use std::hash::Hash;

use coracle_model::RunError;
use coracle_tensor::DType;
use ort::value::{DynValue, IntoTensorElementType, PrimitiveTensorElementType, ValueType};

use super::{double, single, spend, string};
use crate::tensors::{dtype, internal};

/// Tells whether a type is that of a map that the library's interface gives: of integers or texts to numbers.
pub(super) fn is_ours(kind: &ValueType) -> bool {
    let ValueType::Map { key, value } = kind else {
        return false;
    };
    matches!(dtype(*key), Some(DType::I64 | DType::Bytes))
        && matches!(dtype(*value), Some(DType::I64 | DType::F32 | DType::F64))
}

/// Returns a map as an object, its keys as texts.
///
/// # Errors
/// Kind `TooLarge` for more entries than are `left`.
pub(super) fn as_json(value: &DynValue, name: &str, left: &mut usize) -> Result<String, RunError> {
    let ValueType::Map { key, value: of } = value.dtype() else {
        return Err(internal(format!("output \"{name}\": no map")));
    };
    match (dtype(*key), dtype(*of)) {
        (Some(DType::I64), Some(DType::I64)) => object::<i64, i64>(value, name, left),
        (Some(DType::I64), Some(DType::F32)) => object::<i64, f32>(value, name, left),
        (Some(DType::I64), Some(DType::F64)) => object::<i64, f64>(value, name, left),
        (Some(DType::Bytes), Some(DType::I64)) => object::<String, i64>(value, name, left),
        (Some(DType::Bytes), Some(DType::F32)) => object::<String, f32>(value, name, left),
        (Some(DType::Bytes), Some(DType::F64)) => object::<String, f64>(value, name, left),
        _ => Err(internal(format!(
            "output \"{name}\": a map of other things"
        ))),
    }
}

trait Number {
    fn written(&self) -> String;
}

impl Number for i64 {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Number for f32 {
    fn written(&self) -> String {
        single(*self)
    }
}

impl Number for f64 {
    fn written(&self) -> String {
        double(*self)
    }
}

fn object<K, V>(value: &DynValue, name: &str, left: &mut usize) -> Result<String, RunError>
where
    K: IntoTensorElementType + Clone + Hash + Eq + ToString,
    V: PrimitiveTensorElementType + Clone + Number,
{
    let entries = value.try_extract_key_values::<K, V>();
    let entries =
        entries.map_err(|error| internal(format!("output \"{name}\": {}", error.message())))?;
    spend(left, entries.len().max(1), name)?;
    let mut text = String::from("{");
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        string(&key.to_string(), &mut text);
        text.push(':');
        text.push_str(&value.written());
    }
    text.push('}');
    Ok(text)
}
