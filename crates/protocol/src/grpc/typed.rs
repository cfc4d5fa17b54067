//! Typed contents of tensors to elements.

use std::fmt;

use bytes::Bytes;
use coracle_tensor::{ByteStrings, DType, Values};

use super::inference::InferTensorContents;
use crate::RequestError;

/// Returns the elements of `contents`, which must be in the field of `dtype` alone.
///
/// # Errors
/// Code `InvalidArgument` if they are in another field, out of range, or more than `elements_max`.
pub(crate) fn decode(
    contents: InferTensorContents,
    dtype: DType,
    elements_max: usize,
    place: impl fmt::Display,
) -> Result<Values, RequestError> {
    let field = field_of(dtype).ok_or_else(|| {
        RequestError::invalid(format!(
            "{place}: {dtype} has no typed contents; send raw_input_contents"
        ))
    })?;
    let filled = filled_fields(&contents);
    if let Some((other, _)) = filled.iter().find(|(name, _)| *name != field) {
        let message = format!("{place}: data in {other}, {dtype} belongs in {field}");
        return Err(RequestError::invalid(message));
    }
    if filled.iter().any(|(_, length)| *length > elements_max) {
        let message = format!("{place}: more than {elements_max} elements; send smaller batches");
        return Err(RequestError::invalid(message));
    }
    let place = format_args!("{place}.contents.{field}");
    Ok(match dtype {
        DType::Bool => Values::Bool(contents.bool_contents),
        DType::U8 => Values::U8(narrowed(&contents.uint_contents, dtype, place)?.into()),
        DType::U16 => Values::U16(narrowed(&contents.uint_contents, dtype, place)?.into()),
        DType::U32 => Values::U32(contents.uint_contents.into()),
        DType::U64 => Values::U64(contents.uint64_contents.into()),
        DType::I8 => Values::I8(narrowed(&contents.int_contents, dtype, place)?.into()),
        DType::I16 => Values::I16(narrowed(&contents.int_contents, dtype, place)?.into()),
        DType::I32 => Values::I32(contents.int_contents.into()),
        DType::I64 => Values::I64(contents.int64_contents.into()),
        DType::F32 => Values::F32(contents.fp32_contents.into()),
        DType::F64 => Values::F64(contents.fp64_contents.into()),
        DType::Bytes | DType::F16 | DType::BF16 => Values::Bytes(strings(&contents.bytes_contents)),
    })
}

fn strings(contents: &[Bytes]) -> ByteStrings {
    contents.iter().collect()
}

fn field_of(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::Bool => Some("bool_contents"),
        DType::U8 | DType::U16 | DType::U32 => Some("uint_contents"),
        DType::U64 => Some("uint64_contents"),
        DType::I8 | DType::I16 | DType::I32 => Some("int_contents"),
        DType::I64 => Some("int64_contents"),
        DType::F32 => Some("fp32_contents"),
        DType::F64 => Some("fp64_contents"),
        DType::Bytes => Some("bytes_contents"),
        DType::F16 | DType::BF16 => None,
    }
}

/// Returns the fields that hold something, with their lengths.
fn filled_fields(contents: &InferTensorContents) -> Vec<(&'static str, usize)> {
    let mut fields = vec![
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ];
    fields.retain(|(_, length)| *length > 0);
    fields
}

fn narrowed<W: Copy + fmt::Display, T: TryFrom<W>>(
    items: &[W],
    dtype: DType,
    place: impl fmt::Display,
) -> Result<Vec<T>, RequestError> {
    let narrow = |(index, &item): (usize, &W)| {
        T::try_from(item).map_err(|_out_of_range| {
            RequestError::invalid(format!(
                "{place}[{index}]: {item} is out of range for {dtype}"
            ))
        })
    };
    items.iter().enumerate().map(narrow).collect()
}
