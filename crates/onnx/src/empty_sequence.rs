//! A graph that gives a sequence of nothing, which an engine may have no other way to make.

use coracle_tensor::DType;

use crate::rewrite::{push, push_varint};
use crate::tensor_file::data_type;

/// What the graph calls its only output.
pub const EMPTY_SEQUENCE_NAME: &str = "empty";

/// Returns a file whose graph takes nothing and gives an empty sequence of tensors of `dtype`.
#[must_use]
pub fn empty_sequence_file(dtype: DType) -> Vec<u8> {
    let data_type = data_type(dtype);
    let attribute = message(&[
        (1, Part::Bytes(b"dtype")),
        (3, Part::Number(data_type)),
        (20, Part::Number(2)),
    ]);
    let node = message(&[
        (2, Part::Bytes(EMPTY_SEQUENCE_NAME.as_bytes())),
        (4, Part::Bytes(b"SequenceEmpty")),
        (5, Part::Bytes(&attribute)),
    ]);
    let tensor = message(&[(1, Part::Number(data_type))]);
    let element = message(&[(1, Part::Bytes(&tensor))]);
    let sequence = message(&[(1, Part::Bytes(&element))]);
    let kind = message(&[(4, Part::Bytes(&sequence))]);
    let output = message(&[
        (1, Part::Bytes(EMPTY_SEQUENCE_NAME.as_bytes())),
        (2, Part::Bytes(&kind)),
    ]);
    let graph = message(&[
        (1, Part::Bytes(&node)),
        (2, Part::Bytes(b"nothing")),
        (12, Part::Bytes(&output)),
    ]);
    let opset = message(&[(1, Part::Bytes(b"")), (2, Part::Number(17))]);
    message(&[
        (1, Part::Number(8)),
        (7, Part::Bytes(&graph)),
        (8, Part::Bytes(&opset)),
    ])
}

enum Part<'p> {
    Number(u64),
    Bytes(&'p [u8]),
}

fn message(fields: &[(u64, Part<'_>)]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, part) in fields {
        match part {
            Part::Bytes(bytes) => push(&mut message, *number, bytes),
            Part::Number(value) => {
                push_varint(&mut message, number.wrapping_shl(3));
                push_varint(&mut message, *value);
            }
        }
    }
    message
}
