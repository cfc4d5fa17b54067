//! Maps that a graph gives, as objects of JSON.
//!
//! The library's interface does not give the texts of a map to texts. No operator makes such a map, so one that a graph gives is one that came in,
//! and is made of that.

use std::hash::Hash;

use coracle_model::{RunError, RunErrorKind};
use coracle_onnx::map_of_json;
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
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

/// Returns the keys' datatype of a map to texts; `None` for other types.
pub(crate) fn key_of_map_to_texts(kind: &ValueType) -> Option<DType> {
    let ValueType::Map { key, value } = kind else {
        return None;
    };
    let key = dtype(*key).filter(|key| matches!(key, DType::I64 | DType::Bytes));
    key.filter(|_| dtype(*value) == Some(DType::Bytes))
}

/// Returns a map to texts that came in as an object, in the order of its keys, as other maps are given.
///
/// # Errors
/// Kind `UnknownValue` for what is no such map.
pub(crate) fn as_it_came(given: &Tensor, key: DType, name: &str) -> Result<Tensor, RunError> {
    let Values::Bytes(texts) = given.values() else {
        return Err(internal(format!("output \"{name}\": no texts of JSON")));
    };
    let object = map_of_json(texts.get(0).unwrap_or_default(), key, DType::Bytes);
    let (keys, values) = object.map_err(|error| {
        let message = format!("output \"{name}\": {error}");
        RunError::new(RunErrorKind::UnknownValue, message)
    })?;
    let Values::Bytes(values) = values else {
        return Err(internal(format!("output \"{name}\": no texts")));
    };
    let mut entries: Vec<(Key<'_>, &[u8])> = match &keys {
        Values::I64(keys) => keys
            .iter()
            .map(|key| Key::Integer(*key))
            .zip(values.iter())
            .collect(),
        Values::Bytes(keys) => keys.iter().map(Key::Text).zip(values.iter()).collect(),
        _ => return Err(internal(format!("output \"{name}\": keys of another kind"))),
    };
    entries.sort();
    let mut text = String::from("{");
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        match key {
            Key::Integer(key) => string(&key.to_string(), &mut text),
            Key::Text(key) => string(&String::from_utf8_lossy(key), &mut text),
        }
        text.push(':');
        string(&String::from_utf8_lossy(value), &mut text);
    }
    text.push('}');
    Ok(Tensor::from_values(Values::Bytes(ByteStrings::from_iter(
        [text],
    ))))
}

/// A key of a map; all are of one kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'t> {
    Integer(i64),
    Text(&'t [u8]),
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
