//! What a graph has answered, as tensors: for whoever compares two answers.

use serde_json::value::RawValue;

use coracle_tensor::{ByteStrings, DType, Tensor, Values};

use super::{Dialect, RANK, grpc, internal, seldon, v1, v2};
use crate::RequestError;
use crate::v2::{TensorHead, TensorName, read_nested};

/// The name of an answer that is no tensors.
const WHOLE: &str = "answer";

/// Returns the outputs of an answer with their names. One that is no tensors, or more than `elements_max` elements, is one text: it can only be the same or
/// another one.
#[must_use]
pub fn outputs(dialect: Dialect, answer: &[u8], elements_max: usize) -> Vec<(String, Tensor)> {
    let read = match dialect {
        Dialect::Seldon => seldon::outputs(answer, elements_max),
        Dialect::V1 => v1::outputs(answer, elements_max),
        Dialect::V2 => v2::outputs(answer, elements_max),
        Dialect::Grpc => grpc::outputs(answer, elements_max),
    };
    read.unwrap_or_else(|_other| {
        let mut text = ByteStrings::new();
        text.push(answer);
        let tensor = Tensor::try_new(vec![1], Values::Bytes(text));
        let named = |tensor| (WHOLE.to_owned(), tensor);
        tensor.map(named).into_iter().collect()
    })
}

/// Reads lists of numbers or texts whose datatype nobody says. Models' labels are written without a point, and their scores with one.
pub(super) fn undeclared(
    json: &RawValue,
    key: &str,
    elements_max: usize,
) -> Result<Tensor, RequestError> {
    let text = json.get();
    let dtype = if text.contains('"') {
        DType::Bytes
    } else if text.contains(['t', 'f']) {
        DType::Bool
    } else if text.contains(['.', 'e', 'E', 'n']) {
        DType::F64
    } else {
        DType::I64
    };
    declared(json, (key, dtype), elements_max)
}

/// Reads lists of a datatype.
pub(super) fn declared(
    json: &RawValue,
    (key, dtype): (&str, DType),
    elements_max: usize,
) -> Result<Tensor, RequestError> {
    let head = TensorHead {
        name: TensorName::Instances { key, input: None },
        dtype,
        shape: &RANK,
        accepts_missing: true,
        elements_max,
    };
    read_nested(json.get(), head).map_err(internal)
}
