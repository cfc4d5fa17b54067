//! Copies of messages with some of their fields changed.

use coracle_model::LoadError;

use crate::wire::{Field, Reader};

/// Copies a message, with the contents of the fields `wanted` as `rewrite` gives them.
pub(crate) fn rewritten<'a>(
    message: &'a [u8],
    wanted: u64,
    mut rewrite: impl FnMut(&'a [u8]) -> Result<Vec<u8>, LoadError>,
) -> Result<Vec<u8>, LoadError> {
    let mut copy = Vec::with_capacity(message.len());
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match field {
            Field::Bytes(content) if number == wanted => {
                push(&mut copy, number, &rewrite(content)?)
            }
            field => push_field(&mut copy, number, field),
        }
    }
    Ok(copy)
}

/// Appends a field as it was read.
pub(crate) fn push_field(copy: &mut Vec<u8>, number: u64, field: Field<'_>) {
    let tag = number.wrapping_shl(3);
    match field {
        Field::Varint(value) => {
            push_varint(copy, tag);
            push_varint(copy, value);
        }
        Field::Fixed64(bytes) => {
            push_varint(copy, tag | 1);
            copy.extend(bytes);
        }
        Field::Fixed32(bytes) => {
            push_varint(copy, tag | 5);
            copy.extend(bytes);
        }
        Field::Bytes(content) => push(copy, number, content),
    }
}

/// Appends a field of bytes.
pub(crate) fn push(copy: &mut Vec<u8>, number: u64, content: &[u8]) {
    push_varint(copy, number.wrapping_shl(3) | 2);
    push_varint(copy, u64::try_from(content.len()).unwrap_or(u64::MAX));
    copy.extend_from_slice(content);
}

/// Appends a number.
pub(crate) fn push_varint(copy: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        copy.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    copy.push(u8::try_from(value).unwrap_or(0));
}
