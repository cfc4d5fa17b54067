//! `content_type` of an input: how MLServer's clients have put values into the tensor, and what its metadata says of texts.
//!
//! Most codecs need nothing here: `pd` and `np` say what the tensors are together, `str` and `datetime` send plain texts. `base64` texts are
//! decoded.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_model::TensorSpec;
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::RequestError;

/// Returns what the texts of an input or output are, in the words of MLServer's metadata: `str` for texts, `json` for what comes and goes as JSON in V1
/// (`is_keyed`); `None` for numbers.
#[must_use]
pub fn content_type(spec: &TensorSpec, is_keyed: bool) -> Option<&'static str> {
    match (spec.dtype, is_keyed) {
        (DType::Bytes, true) => Some("json"),
        (DType::Bytes, false) => Some("str"),
        _ => None,
    }
}

/// How the elements of an input are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Content {
    /// As they are.
    #[default]
    Plain,
    /// Texts as base64.
    Base64,
}

impl Content {
    /// Returns what a client calls `name`; whatever is not known is plain.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "base64" => Self::Base64,
            _ => Self::Plain,
        }
    }

    /// Returns the tensor with its texts decoded.
    ///
    /// # Errors
    /// Code `InvalidArgument` naming the element that is no base64.
    pub(crate) fn decoded(self, tensor: Tensor, input: usize) -> Result<Tensor, RequestError> {
        let texts = match (self, tensor.values()) {
            (Self::Base64, Values::Bytes(texts)) => texts,
            _ => return Ok(tensor),
        };
        let mut decoded = ByteStrings::new();
        for element in 0..texts.len() {
            let Some(text) = texts.get_present(element) else {
                decoded.push_missing();
                continue;
            };
            let bytes = STANDARD.decode(text).map_err(|_error| {
                RequestError::invalid(format!(
                    "inputs[{input}].data[{element}]: not base64, which the content type says it is"
                ))
            })?;
            decoded.push(&bytes);
        }
        let shape = tensor.shape().to_vec();
        Tensor::try_new(shape, Values::Bytes(decoded))
            .map_err(|error| RequestError::invalid(format!("inputs[{input}]: {error}")))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// Takes any value: what is no text says nothing.
struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content type")
    }

    fn visit_str<E>(self, name: &str) -> Result<Content, E> {
        Ok(Content::named(name))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Plain)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Content, E> {
        Ok(Content::Plain)
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Content, E> {
        Ok(Content::Plain)
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Content, E> {
        Ok(Content::Plain)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Content, E> {
        Ok(Content::Plain)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Content::Plain)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Content::Plain)
    }
}
