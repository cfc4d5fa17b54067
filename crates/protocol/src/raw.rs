//! The raw form of a tensor's elements: little-endian, row-major. A truth value is one byte; an element of BYTES is its length
//! (four bytes) and its bytes.

use std::fmt;

use bytes::Bytes;
use coracle_tensor::{ByteStrings, DType, Elements, Values, bf16, f16};

use crate::RequestError;

/// From this size on a tensor keeps the buffer that it came in instead of a copy, where the alignment allows it. Below it
/// a copy is cheaper than counting another holder.
const HELD_BYTES_MIN: usize = 8 << 10;

/// Raw bytes of a request.
pub(crate) enum Buffer<'a> {
    /// To be copied.
    Lent(&'a [u8]),
    /// A tensor may keep them.
    Held(Bytes),
}

impl<'a> Buffer<'a> {
    /// Returns `part` of `whole`.
    pub(crate) fn of(part: &'a [u8], whole: &Bytes) -> Self {
        if part.len() < HELD_BYTES_MIN {
            Self::Lent(part)
        } else {
            Self::Held(whole.slice_ref(part))
        }
    }
}

/// Reads raw bytes as elements of `dtype`; `place` is for messages. Numbers that are aligned stay where they are.
///
/// # Errors
/// Code `InvalidArgument` if the bytes are no whole elements, or more than `elements_max`.
pub(crate) fn decode(
    buffer: &Buffer<'_>,
    dtype: DType,
    elements_max: usize,
    place: impl fmt::Display,
) -> Result<Values, RequestError> {
    let bytes: &[u8] = match buffer {
        Buffer::Lent(bytes) => bytes,
        Buffer::Held(bytes) => bytes,
    };
    let n_elements = match dtype.size_bytes() {
        Some(size) => bytes.len().checked_div(size).unwrap_or(0),
        // Every string takes at least its length; the strings are counted as they are read.
        None => 0,
    };
    if n_elements > elements_max {
        return Err(too_many(&place, elements_max));
    }
    macro_rules! numbers {
        ($variant:ident, $type:ty, $size:literal) => {{
            let (chunks, rest) = bytes.as_chunks::<$size>();
            if !rest.is_empty() {
                let n = bytes.len();
                return Err(RequestError::invalid(format!(
                    "{place}: {n} bytes, elements of {dtype} have {}",
                    $size
                )));
            }
            if cfg!(target_endian = "little")
                && let Buffer::Held(held) = buffer
                && let Ok(items) = Elements::keep(held.clone())
            {
                return Ok(Values::$variant(items));
            }
            let items = chunks.iter().map(|&chunk| <$type>::from_le_bytes(chunk));
            Ok(Values::$variant(items.collect()))
        }};
    }
    match dtype {
        DType::Bool => truth_values(bytes, place),
        DType::U8 => numbers!(U8, u8, 1),
        DType::U16 => numbers!(U16, u16, 2),
        DType::U32 => numbers!(U32, u32, 4),
        DType::U64 => numbers!(U64, u64, 8),
        DType::I8 => numbers!(I8, i8, 1),
        DType::I16 => numbers!(I16, i16, 2),
        DType::I32 => numbers!(I32, i32, 4),
        DType::I64 => numbers!(I64, i64, 8),
        DType::F16 => numbers!(F16, f16, 2),
        DType::BF16 => numbers!(BF16, bf16, 2),
        DType::F32 => numbers!(F32, f32, 4),
        DType::F64 => numbers!(F64, f64, 8),
        DType::Bytes => strings(bytes, elements_max, place),
    }
}

fn too_many(place: &impl fmt::Display, elements_max: usize) -> RequestError {
    RequestError::invalid(format!(
        "{place}: more than {elements_max} elements; send smaller batches"
    ))
}

fn truth_values(bytes: &[u8], place: impl fmt::Display) -> Result<Values, RequestError> {
    let items = bytes.iter().enumerate().map(|(index, byte)| match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(RequestError::invalid(format!(
            "{place}: byte {index} is {other}, truth values are 0 or 1"
        ))),
    });
    Ok(Values::Bool(items.collect::<Result<_, _>>()?))
}

fn strings(
    bytes: &[u8],
    elements_max: usize,
    place: impl fmt::Display,
) -> Result<Values, RequestError> {
    let mut strings = ByteStrings::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let element = strings.len();
        let cut = || {
            RequestError::invalid(format!(
                "{place}: string {element} is cut off: each is its length in four bytes, then so many bytes"
            ))
        };
        if element >= elements_max {
            return Err(too_many(&place, elements_max));
        }
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_too_long| cut())?;
        let (string, tail) = tail.split_at_checked(length).ok_or_else(cut)?;
        strings.push(string);
        rest = tail;
    }
    Ok(Values::Bytes(strings))
}

/// Appends the raw form of `values`.
pub(crate) fn encode(values: &Values, out: &mut Vec<u8>) {
    macro_rules! numbers {
        ($items:expr) => {{
            if cfg!(target_endian = "little") {
                out.extend_from_slice($items.as_bytes());
                return;
            }
            // Room for all of them first: then the loop is one copy.
            let start = out.len();
            out.resize(start.saturating_add(size_bytes(values)), 0);
            let (chunks, _none) = out.get_mut(start..).unwrap_or_default().as_chunks_mut();
            for (chunk, item) in chunks.iter_mut().zip($items) {
                *chunk = item.to_le_bytes();
            }
        }};
    }
    match values {
        Values::Bool(items) => out.extend(items.iter().map(|&item| u8::from(item))),
        Values::U8(items) => numbers!(items),
        Values::U16(items) => numbers!(items),
        Values::U32(items) => numbers!(items),
        Values::U64(items) => numbers!(items),
        Values::I8(items) => numbers!(items),
        Values::I16(items) => numbers!(items),
        Values::I32(items) => numbers!(items),
        Values::I64(items) => numbers!(items),
        Values::F16(items) => numbers!(items),
        Values::BF16(items) => numbers!(items),
        Values::F32(items) => numbers!(items),
        Values::F64(items) => numbers!(items),
        Values::Bytes(strings) => {
            out.reserve(size_bytes(values));
            for string in strings.iter() {
                // A string of 4 GiB cannot have come in, and no model makes one.
                let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(string);
            }
        }
    }
}

/// Returns the size of the raw form.
pub(crate) fn size_bytes(values: &Values) -> usize {
    match (values.dtype().size_bytes(), values) {
        (Some(size), _) => values.len().saturating_mul(size),
        (None, Values::Bytes(strings)) => strings
            .iter()
            .map(|string| string.len().saturating_add(4))
            .sum(),
        (None, _) => 0,
    }
}
