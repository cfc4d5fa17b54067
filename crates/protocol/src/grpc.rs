//! The Open Inference Protocol over gRPC: messages to tensors and back, and gRPC's framing of messages.
//!
//! Owns no socket and knows no HTTP types. The messages are plain structs ([`inference`], [`service`]); [`decode`] and [`frame`]
//! turn them from and into bytes. An inference is decoded from the message's bytes by [`decode_infer`].

mod frame;
mod infer;
pub mod inference;
mod model;
mod reflection;
mod scan;
pub mod service;
pub mod tensorflow;
#[cfg(test)]
mod tests;
pub(crate) mod typed;

pub use frame::{
    Compression, FrameHead, PREFIX_BYTES, format_timeout, frame, frame_followed, framed,
    parse_timeout, percent_encode,
};
pub use infer::{InferHead, Notes, decode_infer, encode_infer, stream_failure, stream_response};
pub use model::{model_config, model_metadata, model_statistics, repository_index};
pub use prost::Message;
pub use reflection::{SERVICES, answer as reflect};
pub(crate) use scan::{Fields, Held, check_fields};

use bytes::Bytes;

use crate::RequestError;

/// Decodes a message.
///
/// # Errors
/// Code `InvalidArgument` if the bytes are no such message.
pub fn decode<T: Message + Default>(bytes: Bytes) -> Result<T, RequestError> {
    T::decode(bytes)
        .map_err(|error| RequestError::invalid(format!("not the message expected: {error}")))
}
