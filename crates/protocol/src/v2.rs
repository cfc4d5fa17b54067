//! The Open Inference Protocol (V2) over REST, as JSON.

mod data;
mod decode;
mod metadata;

use coracle_model::Signature;
use coracle_tensor::Tensor;

use crate::{Call, render};

pub use decode::decode_infer;
pub use metadata::{
    health_live, health_ready, model_list, model_metadata, model_ready, server_metadata,
};

/// Appends the answer to an inference request: outputs by name, with flat data.
///
/// `id` is given back if the caller sent one. Numbers that JSON cannot hold (NaN, infinity) become `null`.
pub fn encode_infer(
    model_name: &str,
    model_version: &str,
    signature: &Signature,
    call: &Call,
    outputs: &[Tensor],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"model_name\":");
    render::string(model_name, out);
    out.extend_from_slice(b",\"model_version\":");
    render::string(model_version, out);
    if let Some(id) = &call.id {
        out.extend_from_slice(b",\"id\":");
        render::string(id, out);
    }
    out.extend_from_slice(b",\"outputs\":[");
    render::separated(
        call.outputs.iter().zip(outputs),
        out,
        |(&index, output), out| {
            let name = signature
                .outputs
                .get(index)
                .map_or("", |spec| spec.name.as_str());
            out.extend_from_slice(b"{\"name\":");
            render::string(name, out);
            out.extend_from_slice(b",\"shape\":[");
            render::separated(output.shape().iter(), out, |&size, out| {
                render::integer(size, out)
            });
            out.extend_from_slice(b"],\"datatype\":");
            render::string(output.dtype().name(), out);
            out.extend_from_slice(b",\"data\":");
            render::flat(output.values(), out);
            out.push(b'}');
        },
    );
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests;
