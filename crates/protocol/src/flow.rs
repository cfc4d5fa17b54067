//! Messages on their way through a flow of models: an answer as the next model's request, several answers as one, and what Seldon's `meta` says of
//! the way. Bodies are read as far as that needs, once for every step.
//!
//! Start at [`as_request`]. Numbers that are handed on are the very text that the model before wrote.

mod grpc;
mod outputs;
mod seldon;
mod v1;
mod v2;

use std::fmt;

use coracle_base::Code;
use coracle_tensor::{DType, Tensor, Values};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::RequestError;
use crate::v2::{TensorHead, TensorName, read_nested};

pub(crate) use grpc::outputs as message_outputs;
pub use grpc::{Wanted, take_wanted};
pub use outputs::outputs;
pub(crate) use seldon::write_path;
pub use seldon::{Meta, RequestMeta, request_meta, with_fallback, with_meta, with_routing};

/// The protocol that a flow is asked in, and its models, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Seldon's messages.
    Seldon,
    /// V1, which is TensorFlow Serving's.
    V1,
    /// V2 without binary data.
    V2,
    /// The Open Inference Protocol over gRPC; answers have gRPC's prefix before them.
    Grpc,
}

/// What is said to who asks for a version of a graph.
pub const NO_VERSIONS: &str =
    "a graph has no versions; its models are services of their own, which can be asked";

/// The deepest lists that are averaged.
const RANK: [i64; 8] = [-1; 8];

/// Makes the next model's request of a model's answer: `data` of `data`, `instances` of `predictions`, `inputs` of `outputs`.
///
/// Names of columns are left out: they are those of the output, and the next model's are others. `wanted` are the outputs that a model over gRPC is asked for.
///
/// # Errors
/// Code `Internal` if it is no answer that can be handed on; [`form_refusal`] says whether that follows from how the graph was asked.
pub fn as_request(
    dialect: Dialect,
    answer: &[u8],
    wanted: Option<&Wanted>,
) -> Result<Vec<u8>, RequestError> {
    match dialect {
        Dialect::Seldon => seldon::as_request(answer),
        Dialect::V1 => v1::as_request(answer),
        Dialect::V2 => v2::as_request(answer),
        Dialect::Grpc => grpc::as_request(answer, wanted),
    }
}

/// Returns why no answer to this request of a graph can be handed on, if it is for the form of the request: TensorFlow Serving's `inputs` are answered with
/// `outputs`. It has code `InvalidArgument`; where there is none, a model has answered what it should not.
pub fn form_refusal(dialect: Dialect, request: &[u8]) -> Option<RequestError> {
    match dialect {
        Dialect::V1 => v1::form_refusal(request),
        Dialect::Seldon | Dialect::V2 | Dialect::Grpc => None,
    }
}

/// Makes one answer of several: the mean of each number, in the form of the first. `node` is who answers, for V2.
///
/// # Errors
/// Code `Internal` if they are not of the same shape, or no numbers.
pub fn average<B: AsRef<[u8]>>(
    dialect: Dialect,
    node: &str,
    answers: &[B],
    elements_max: usize,
) -> Result<Vec<u8>, RequestError> {
    let answers: Vec<&[u8]> = answers.iter().map(AsRef::as_ref).collect();
    match dialect {
        Dialect::Seldon => seldon::average(&answers, elements_max),
        Dialect::V1 => v1::average(&answers, elements_max),
        Dialect::V2 => v2::average(node, &answers, elements_max),
        Dialect::Grpc => grpc::average(node, &answers, elements_max),
    }
}

/// Returns what Seldon's `SIMPLE_MODEL` always answers.
///
/// # Errors
/// Code `Unimplemented` in other protocols than Seldon's: it has none there.
pub fn fixed(dialect: Dialect) -> Result<Vec<u8>, RequestError> {
    match dialect {
        Dialect::Seldon => Ok(seldon::FIXED.to_vec()),
        Dialect::V1 | Dialect::V2 | Dialect::Grpc => Err(RequestError::unimplemented(
            "SIMPLE_MODEL answers in Seldon's protocol only",
        )),
    }
}

fn internal(message: impl fmt::Display) -> RequestError {
    RequestError::new(Code::Internal, message.to_string())
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, RequestError> {
    serde_json::from_slice(body).map_err(|error| internal(format_args!("{what}: {error}")))
}

/// Reads lists of numbers; nothing stands for NaN.
fn numbers(json: &RawValue, key: &str, elements_max: usize) -> Result<Tensor, RequestError> {
    let head = TensorHead {
        name: TensorName::Instances { key, input: None },
        dtype: DType::F64,
        shape: &RANK,
        accepts_missing: true,
        elements_max,
    };
    read_nested(json.get(), head)
        .map_err(|error| internal(format_args!("what is averaged must be numbers: {error}")))
}

/// Returns the mean of tensors of one shape, added in their order.
fn mean(tensors: &[Tensor]) -> Result<Tensor, RequestError> {
    let [first, others @ ..] = tensors else {
        return Err(internal("there is nothing to average"));
    };
    let mut sums = doubles(first)?.to_vec();
    for (index, other) in others.iter().enumerate() {
        if other.shape() != first.shape() {
            return Err(internal(format_args!(
                "answers to average have different shapes: {:?} of the first, {:?} of the one at {}",
                first.shape(),
                other.shape(),
                index.saturating_add(1)
            )));
        }
        for (sum, value) in sums.iter_mut().zip(doubles(other)?) {
            *sum += value;
        }
    }
    let count = tensors.iter().fold(0.0_f64, |count, _| count + 1.0);
    sums.iter_mut().for_each(|sum| *sum /= count);
    Tensor::try_new(first.shape().to_vec(), Values::F64(sums.into())).map_err(internal)
}

fn doubles(tensor: &Tensor) -> Result<&[f64], RequestError> {
    match tensor.values() {
        Values::F64(values) => Ok(values),
        _ => Err(internal("what is averaged must be numbers")),
    }
}

#[cfg(test)]
mod tests;
