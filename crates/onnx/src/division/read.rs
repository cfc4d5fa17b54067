//! Reads of values, tensors and nodes what is known of them.

use coracle_model::LoadError;

use super::{ATTRIBUTE, INNER_GRAPH, INT32, INT64, NO_INTEGER, Node, OUTPUT, Seen};
use crate::wire::{Reader, push_ints};

/// The field of an attribute that names one of the function's.
const REFERENCE: u64 = 21;

/// Returns a value's name and its datatype; of a sequence and of an optional value that of the tensors in it.
pub(super) fn read_value<'a>(mut reader: Reader<'a>) -> Result<(&'a [u8], Option<u64>), LoadError> {
    let (mut name, mut datatype) = (&[][..], None);
    let mut kinds = Vec::new();
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => name = field.bytes()?,
            2 => kinds.push(field.message()?),
            _ => {}
        }
    }
    while let Some(mut kind) = kinds.pop() {
        while let Some((number, field)) = kind.next()? {
            if !matches!(number, 1 | 4 | 9) {
                continue;
            }
            let mut within = field.message()?;
            while let Some((inner, field)) = within.next()? {
                match (number, inner) {
                    (1, 1) => datatype = u64::try_from(field.int()?).ok().filter(|&kind| kind > 0),
                    (4 | 9, 1) => kinds.push(field.message()?),
                    _ => {}
                }
            }
        }
    }
    Ok((name, datatype))
}

/// Returns a tensor's name, and what is known of it.
pub(super) fn read_tensor<'a>(mut reader: Reader<'a>) -> Result<(&'a [u8], Seen), LoadError> {
    let (mut name, mut datatype) = (&[][..], 0);
    let (mut ints, mut raw, mut is_elsewhere) = (Vec::new(), &[][..], false);
    while let Some((number, field)) = reader.next()? {
        match number {
            2 => datatype = u64::try_from(field.int()?).unwrap_or(0),
            5 | 7 => push_ints(field, &mut ints)?,
            8 => name = field.bytes()?,
            9 => raw = field.bytes()?,
            13 | 14 => is_elsewhere = true,
            _ => {}
        }
    }
    let width = if datatype == INT32 { 4 } else { 8 };
    // In files of 32-bit integers a -1 may be written as one of 32 or of 64 bits.
    let is_minus_one = |int: &i64| *int == -1 || *int == i64::from(u32::MAX);
    // Others may be cast to one.
    let may_be_minus_one = is_elsewhere
        || !matches!(datatype, INT32 | INT64)
        || ints.iter().any(is_minus_one)
        || raw
            .chunks(width)
            .any(|bytes| bytes.iter().all(|&byte| byte == 0xff));
    let seen = Seen {
        datatype: Some(datatype),
        may_be_minus_one,
    };
    Ok((name, seen))
}

/// Returns the names of a graph's outputs, and the datatypes that it declares for them.
pub(super) fn read_outputs(graph: &[u8]) -> Result<Vec<(&[u8], Option<u64>)>, LoadError> {
    let mut outputs = Vec::new();
    let mut reader = Reader::new(graph);
    while let Some((number, field)) = reader.next()? {
        if number == OUTPUT {
            outputs.push(read_value(field.message()?)?);
        }
    }
    Ok(outputs)
}

pub(super) fn read_node(message: &[u8]) -> Result<Node<'_>, LoadError> {
    let mut node = Node::default();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => node.inputs.push(field.bytes()?),
            2 => node.outputs.push(field.bytes()?),
            4 => node.operator = field.bytes()?,
            7 => node.domain = field.bytes()?,
            ATTRIBUTE => {
                let (mut name, mut int, mut tensor, mut ints) = (&[][..], 0, None, None);
                let mut is_reference = false;
                let mut reader = field.message()?;
                while let Some((number, field)) = reader.next()? {
                    match number {
                        1 => name = field.bytes()?,
                        3 => int = field.int()?,
                        5 => tensor = Some(read_tensor(field.message()?)?.1),
                        8 => push_ints(field, ints.get_or_insert_with(Vec::new))?,
                        INNER_GRAPH => {
                            let graph = field.bytes()?;
                            let outputs = read_outputs(graph)?.into_iter();
                            let outputs: Vec<_> = outputs.map(|(_, datatype)| datatype).collect();
                            node.of_graph = either(&node.of_graph, &outputs);
                            node.graphs.push(graph);
                        }
                        REFERENCE => is_reference = !field.bytes()?.is_empty(),
                        _ => {}
                    }
                }
                node.has_reference |= is_reference;
                match name {
                    _ if is_reference => {}
                    b"to" => node.to = u64::try_from(int).ok().filter(|&to| to > 0),
                    b"value" => node.value = tensor,
                    b"value_int" => node.value = Some(of_ints(&[int])),
                    b"value_ints" => node.value = ints.as_deref().map(of_ints),
                    b"value_float" | b"value_floats" | b"value_string" | b"value_strings" => {
                        node.value = Some(Seen {
                            datatype: Some(NO_INTEGER),
                            ..Seen::NOTHING
                        });
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(node)
}

/// Returns what the one or the other knows.
pub(super) fn either(one: &[Option<u64>], other: &[Option<u64>]) -> Vec<Option<u64>> {
    let at = |known: &[Option<u64>], place: usize| known.get(place).copied().flatten();
    let places = 0..one.len().max(other.len());
    places
        .map(|place| at(one, place).or_else(|| at(other, place)))
        .collect()
}

/// Returns the version of `ai.onnx` that a file or a function is written in: the field of versions is another one in either.
pub(super) fn read_version(message: &[u8], versions: u64) -> Result<i64, LoadError> {
    let mut found = 0;
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if number != versions {
            continue;
        }
        let (mut domain, mut version) = (&[][..], 0);
        let mut reader = field.message()?;
        while let Some((number, field)) = reader.next()? {
            match number {
                1 => domain = field.bytes()?,
                2 => version = field.int()?,
                _ => {}
            }
        }
        if matches!(domain, b"" | b"ai.onnx") {
            found = version;
        }
    }
    Ok(found)
}

fn of_ints(ints: &[i64]) -> Seen {
    Seen {
        datatype: Some(INT64),
        may_be_minus_one: ints.contains(&-1),
    }
}
