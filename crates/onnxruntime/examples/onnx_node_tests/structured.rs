//! The package's files of sequences and optional values, and such values as texts of JSON, which they are served as.

use coracle_onnx::{read_tensor_file, tensor_of_json};
use coracle_tensor::{Tensor, Values};
use serde_json::Value;

/// What a file holds.
pub(crate) enum Content {
    Sequence(Vec<Tensor>),
    /// `None` where nothing is there.
    Optional(Option<Box<Content>>),
    Tensor(Tensor),
}

/// The number of a tensor and of a sequence among kinds of elements.
const TENSOR: u64 = 1;
const SEQUENCE: u64 = 3;

/// A field of bytes, or its number.
enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(content)
            }
            _ => return None,
        };
        fields.push((tag >> 3, field));
    }
    Some(fields)
}

/// Reads a `SequenceProto` of tensors.
pub(crate) fn sequence(bytes: &[u8]) -> Option<Content> {
    let mut tensors = Vec::new();
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (3, Field::Bytes(tensor)) => tensors.push(read_tensor_file(tensor).ok()?.1),
            (4.., _) => return None,
            _ => {}
        }
    }
    Some(Content::Sequence(tensors))
}

/// Reads an `OptionalProto`.
pub(crate) fn optional(bytes: &[u8]) -> Option<Content> {
    let (mut kind, mut content) = (0, None);
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (2, Field::Number(value)) => kind = value,
            (3, Field::Bytes(tensor)) if kind == TENSOR => {
                content = Some(Content::Tensor(read_tensor_file(tensor).ok()?.1));
            }
            (5, Field::Bytes(tensors)) if kind == SEQUENCE => content = Some(sequence(tensors)?),
            (3.., _) => return None,
            _ => {}
        }
    }
    Some(Content::Optional(content.map(Box::new)))
}

impl Content {
    /// Returns the texts that the value is served as.
    pub(crate) fn texts(&self) -> Tensor {
        let (shape, texts) = match self {
            Self::Sequence(tensors) => {
                let texts: Vec<String> = tensors
                    .iter()
                    .map(|tensor| json(tensor).to_string())
                    .collect();
                (vec![texts.len()], texts)
            }
            Self::Optional(None) => (Vec::new(), vec!["null".to_owned()]),
            Self::Optional(Some(content)) => (Vec::new(), vec![content.whole().to_string()]),
            Self::Tensor(tensor) => return tensor.clone(),
        };
        Tensor::try_new(shape, Values::Bytes(texts.iter().collect())).expect("as many texts")
    }

    fn whole(&self) -> Value {
        match self {
            Self::Sequence(tensors) => tensors.iter().map(json).collect(),
            Self::Optional(content) => content
                .as_ref()
                .map_or(Value::Null, |content| content.whole()),
            Self::Tensor(tensor) => json(tensor),
        }
    }

    /// Says how texts differ from the value.
    pub(crate) fn difference(
        &self,
        texts: &Tensor,
        difference: impl Fn(&Tensor, &Tensor) -> Option<String>,
    ) -> Option<String> {
        let tensors = match self {
            Self::Sequence(tensors) => tensors,
            Self::Tensor(tensor) => return difference(texts, tensor),
            Self::Optional(_) => {
                let expected = self.texts();
                return (texts != &expected).then(|| "another optional value".to_owned());
            }
        };
        let Values::Bytes(items) = texts.values() else {
            return Some("no texts".to_owned());
        };
        if items.len() != tensors.len() {
            return Some(format!("{} items, expected {}", items.len(), tensors.len()));
        }
        items.iter().zip(tensors).find_map(|(text, expected)| {
            match tensor_of_json(text, expected.dtype()) {
                Ok(tensor) => difference(&tensor, expected),
                Err(error) => Some(error),
            }
        })
    }
}

/// Returns a tensor as lists in lists.
fn json(tensor: &Tensor) -> Value {
    let elements: Vec<Value> = match tensor.values() {
        Values::Bytes(texts) => texts
            .iter()
            .map(|text| String::from_utf8_lossy(text).into())
            .collect(),
        Values::Bool(items) => items.iter().map(|&item| item.into()).collect(),
        Values::I64(items) => items.iter().map(|&item| item.into()).collect(),
        Values::U64(items) => items.iter().map(|&item| item.into()).collect(),
        values => {
            let reals = values.to_f64s().unwrap_or_default();
            reals.iter().map(|&real| real.into()).collect()
        }
    };
    nested(tensor.shape(), &elements)
}

fn nested(shape: &[usize], elements: &[Value]) -> Value {
    match shape.split_first() {
        None => elements[0].clone(),
        Some((&n, inner)) => {
            let size = elements.len() / n.max(1);
            (0..n)
                .map(|item| nested(inner, &elements[item * size..(item + 1) * size]))
                .collect()
        }
    }
}
