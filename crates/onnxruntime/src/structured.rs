//! What is no tensor: sequences of tensors and of maps, maps, and values that may be left out, as JSON.
//!
//! No protocol has a datatype for them. Each item of a sequence is a text of JSON, lists in lists or an object, which V1 gives and takes as it is. `given` makes
//! of texts what the runtime takes, `maps` texts of maps.

mod given;
mod maps;

use coracle_model::{RunError, RunErrorKind};
use coracle_tensor::{ByteStrings, Tensor, Values};
use ort::value::{DynValue, DynValueTypeMarker, ValueType};

use crate::tensors::{dtype, internal, taken};

/// The most numbers and texts of one answer: each is some letters.
const ELEMENTS_MAX: usize = 1 << 22;

pub(crate) use given::Structured;
pub(crate) use maps::{as_it_came, key_of_map_to_texts};

/// Returns the shape of the texts that an answer is given as, where it is no tensor: a sequence of tensors of our datatypes or of
/// maps, a map, or an optional value.
pub(crate) fn texts_shape(kind: &ValueType) -> Option<Vec<Option<usize>>> {
    let is_ours =
        |kind: &ValueType| matches!(kind, ValueType::Tensor { ty, .. } if dtype(*ty).is_some());
    match kind {
        ValueType::Sequence(inner) if is_ours(inner) || maps::is_ours(inner) => Some(vec![None]),
        kind if maps::is_ours(kind) => Some(vec![Some(1)]),
        ValueType::Optional(inner) => match inner.as_ref() {
            ValueType::Sequence(inner) if is_ours(inner) => Some(Vec::new()),
            inner if is_ours(inner) => Some(Vec::new()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns an optional value that is there as a text of JSON.
///
/// # Errors
/// As [`as_json`].
pub(crate) fn as_one_json(value: &DynValue, name: &str) -> Result<Tensor, RunError> {
    let text = match value.dtype() {
        ValueType::Tensor { .. } => {
            let mut text = String::new();
            nested(&taken(value, name)?, &mut text);
            text
        }
        _ => {
            let items = as_json(value, name)?;
            let Values::Bytes(items) = items.values() else {
                return Err(internal(format!("output \"{name}\": no texts")));
            };
            let items = items.iter().map(String::from_utf8_lossy);
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
    };
    let values = Values::Bytes([text].into_iter().collect());
    Tensor::try_new(Vec::new(), values).map_err(|error| internal(error.to_string()))
}

/// Returns the elements of a sequence as texts of JSON; a map is the only one.
///
/// # Errors
/// Kind `TooLarge` for an answer of too many elements.
pub(crate) fn as_json(value: &DynValue, name: &str) -> Result<Tensor, RunError> {
    let mut texts = ByteStrings::default();
    if matches!(value.dtype(), ValueType::Map { .. }) {
        let text = maps::as_json(value, name, &mut ELEMENTS_MAX.clone())?;
        texts.push(text.as_bytes());
        return Ok(Tensor::from_values(Values::Bytes(texts)));
    }
    let items = value.try_extract_sequence::<DynValueTypeMarker>();
    let items =
        items.map_err(|error| internal(format!("output \"{name}\": {}", error.message())))?;
    let mut left = ELEMENTS_MAX;
    for item in items {
        if matches!(item.dtype(), ValueType::Map { .. }) {
            texts.push(maps::as_json(&item, name, &mut left)?.as_bytes());
            continue;
        }
        let tensor = taken(&item, name)?;
        // What is empty is written as a list, too.
        let sizes = tensor.shape().iter().map(|&size| size.max(1));
        spend(&mut left, sizes.fold(1_usize, usize::saturating_mul), name)?;
        let mut text = String::new();
        nested(&tensor, &mut text);
        texts.push(text.as_bytes());
    }
    Ok(Tensor::from_values(Values::Bytes(texts)))
}

/// Takes elements of those that are left to an answer.
fn spend(left: &mut usize, n_elements: usize, name: &str) -> Result<(), RunError> {
    *left = left.checked_sub(n_elements).ok_or_else(|| {
        let message = format!("output \"{name}\" has more than {ELEMENTS_MAX} elements and lists");
        RunError::new(RunErrorKind::TooLarge, message)
    })?;
    Ok(())
}

fn single(value: f32) -> String {
    match value.is_finite() {
        true => format!("{value:?}"),
        false => "null".to_owned(),
    }
}

fn double(value: f64) -> String {
    match value.is_finite() {
        true => format!("{value:?}"),
        false => "null".to_owned(),
    }
}

/// Appends a tensor as lists in lists.
fn nested(tensor: &Tensor, text: &mut String) {
    /// A list that is begun: how many of its items are left, and which dimension it is of.
    struct Open {
        left: usize,
        dimension: usize,
    }
    let shape = tensor.shape();
    let mut element = 0_usize;
    let Some(&first) = shape.first() else {
        return scalar(tensor.values(), 0, text);
    };
    text.push('[');
    let mut open = vec![Open {
        left: first,
        dimension: 0,
    }];
    while let Some(list) = open.last_mut() {
        let Some(left) = list.left.checked_sub(1) else {
            text.push(']');
            open.pop();
            continue;
        };
        let is_first = shape.get(list.dimension) == Some(&list.left);
        list.left = left;
        if !is_first {
            text.push(',');
        }
        let dimension = list.dimension.saturating_add(1);
        match shape.get(dimension) {
            Some(&left) => {
                text.push('[');
                open.push(Open { left, dimension });
            }
            None => {
                scalar(tensor.values(), element, text);
                element = element.saturating_add(1);
            }
        }
    }
}

fn scalar(values: &Values, index: usize, text: &mut String) {
    macro_rules! integer {
        ($items:expr) => {
            if let Some(value) = $items.get(index) {
                text.push_str(&value.to_string());
            }
        };
    }
    match values {
        Values::Bool(items) => integer!(items),
        Values::U8(items) => integer!(items),
        Values::U16(items) => integer!(items),
        Values::U32(items) => integer!(items),
        Values::U64(items) => integer!(items),
        Values::I8(items) => integer!(items),
        Values::I16(items) => integer!(items),
        Values::I32(items) => integer!(items),
        Values::I64(items) => integer!(items),
        Values::F16(items) => text.push_str(
            &items
                .get(index)
                .map_or(String::new(), |value| single(value.to_f32())),
        ),
        Values::BF16(items) => text.push_str(
            &items
                .get(index)
                .map_or(String::new(), |value| single(value.to_f32())),
        ),
        Values::F32(items) => text.push_str(
            &items
                .get(index)
                .map_or(String::new(), |&value| single(value)),
        ),
        Values::F64(items) => text.push_str(
            &items
                .get(index)
                .map_or(String::new(), |&value| double(value)),
        ),
        Values::Bytes(items) => {
            string(
                &String::from_utf8_lossy(items.get(index).unwrap_or_default()),
                text,
            );
        }
    }
}

/// Appends a text with what JSON does not take in one escaped.
fn string(content: &str, text: &mut String) {
    text.push('"');
    for letter in content.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            letter if letter < ' ' => {
                text.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(shape: &[usize], values: Values) -> String {
        let mut text = String::new();
        nested(&Tensor::try_new(shape.to_vec(), values).unwrap(), &mut text);
        text
    }

    #[test]
    fn tensors_are_lists_in_lists() {
        let floats = |items: &[f32]| Values::F32(items.to_vec().into());
        assert_eq!(written(&[], floats(&[1.5])), "1.5");
        assert_eq!(written(&[2], floats(&[1.0, f32::NAN])), "[1.0,null]");
        assert_eq!(written(&[0], floats(&[])), "[]");
        assert_eq!(written(&[2, 0], floats(&[])), "[[],[]]");
        let six = Values::I64(vec![1, 2, 3, 4, 5, -6].into());
        assert_eq!(written(&[2, 1, 3], six), "[[[1,2,3]],[[4,5,-6]]]");
        let truth = Values::Bool(vec![true, false]);
        assert_eq!(written(&[1, 2], truth), "[[true,false]]");
        let text = Values::Bytes(["a\"\n\\ü"].into_iter().collect());
        assert_eq!(written(&[1], text), "[\"a\\\"\\u000a\\\\ü\"]");
        assert_eq!(written(&[2], floats(&[1e-30, 3e30])), "[1e-30,3e30]");
    }
}
