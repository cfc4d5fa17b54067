//! The Open Inference Protocol (V2) over REST: JSON, and tensors as raw bytes beside it or in shared memory.

mod columns;
mod data;
mod decode;
mod extensions;
mod message;
mod metadata;

use coracle_tensor::Tensor;

use crate::{Call, EncodeContext, OutputForm, RegionSlice, RequestError, raw, render};

pub(crate) use data::{RANK_MAX, TensorHead, TensorName, read_nested};
pub use decode::decode_infer;
pub(crate) use decode::{
    Data, Input, InputPlace, Output, read_region, requested_outputs, tensors, too_many_rows,
};

pub use extensions::{
    RegisterRegion, check_load, check_load_parameters, decode_index, model_config,
    model_statistics, region_status, repository_index,
};
pub use message::{Forms, asks_for_outputs, from_message, to_message};
pub use metadata::{
    health_live, health_ready, model_list, model_metadata, model_ready, server_metadata,
};

/// Appends the answer to an inference request: outputs by name, with flat data or as raw bytes after the JSON.
///
/// `id` is given back if the caller sent one. In JSON, numbers that it cannot hold (NaN, infinity) become `null`.
/// Returns the length of the JSON if raw bytes follow it (the header `Inference-Header-Content-Length`).
///
/// # Errors
/// Code `InvalidArgument` if an output does not fit in the shared memory that is to take it.
pub fn encode_infer(
    ctx: &EncodeContext<'_>,
    call: &Call,
    outputs: &[Tensor],
    out: &mut Vec<u8>,
) -> Result<Option<usize>, RequestError> {
    let start = out.len();
    out.extend_from_slice(b"{\"model_name\":");
    render::string(ctx.model_name, out);
    out.extend_from_slice(b",\"model_version\":");
    render::string(ctx.model_version, out);
    if let Some(id) = &call.id {
        out.extend_from_slice(b",\"id\":");
        render::string(id, out);
    }
    out.extend_from_slice(b",\"outputs\":[");
    let indices = call.outputs.iter().zip(outputs).enumerate();
    for (position, (&index, output)) in indices {
        if position > 0 {
            out.push(b',');
        }
        let spec = ctx.signature.outputs.get(index);
        out.extend_from_slice(b"{\"name\":");
        render::string(spec.map_or("", |spec| spec.name.as_str()), out);
        out.extend_from_slice(b",\"shape\":[");
        render::separated(output.shape().iter(), out, |&size, out| {
            render::integer(size, out)
        });
        out.extend_from_slice(b"],\"datatype\":");
        render::string(output.dtype().name(), out);
        match call.form(position) {
            OutputForm::Typed => {
                out.extend_from_slice(b",\"data\":");
                render::flat(output.values(), out);
            }
            OutputForm::Raw => {
                out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
                render::integer(raw::size_bytes(output.values()), out);
                out.push(b'}');
            }
            OutputForm::Region(slice) => {
                let written = write_region(ctx, slice, output)?;
                out.extend_from_slice(b",\"parameters\":{\"shared_memory_region\":");
                render::string(&slice.region, out);
                out.extend_from_slice(b",\"shared_memory_offset\":");
                render::integer(slice.offset, out);
                out.extend_from_slice(b",\"shared_memory_byte_size\":");
                render::integer(written, out);
                out.push(b'}');
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    let json_length = out.len().saturating_sub(start);
    let mut has_raw = false;
    for (position, output) in outputs.iter().enumerate() {
        if *call.form(position) == OutputForm::Raw {
            raw::encode(output.values(), out);
            has_raw = true;
        }
    }
    Ok(has_raw.then_some(json_length))
}

/// Puts an output into shared memory; returns its size in bytes.
pub(crate) fn write_region(
    ctx: &EncodeContext<'_>,
    slice: &RegionSlice,
    output: &Tensor,
) -> Result<usize, RequestError> {
    let mut bytes = Vec::new();
    raw::encode(output.values(), &mut bytes);
    ctx.regions.write(slice, &bytes)?;
    Ok(bytes.len())
}

#[cfg(test)]
mod tests;
