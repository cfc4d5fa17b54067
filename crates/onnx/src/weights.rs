//! The large weights of a file, for who holds them once for several users of it.

use std::collections::BTreeSet;

use coracle_model::LoadError;
use coracle_tensor::Tensor;

use crate::error::unsupported;
use crate::tensor_file::{Reading, dtype, read_tensor};
use crate::wire::Reader;

/// The fields of a file, a graph, a tensor and a value that lead to the weights.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const INPUT: u64 = 11;
const DATA_TYPE: u64 = 2;
const NAME: u64 = 8;
const RAW: u64 = 9;
const VALUE_NAME: u64 = 1;

/// Returns the initialisers of the outermost graph that take at least `bytes_min` bytes, with their names: those that lie in the file
/// itself in the plain form, are of a datatype of ours, and are no defaults of inputs.
///
/// # Errors
/// Kind `Malformed` or `LimitExceeded` where the bytes are no sound model.
pub fn large_weights(bytes: &[u8], bytes_min: usize) -> Result<Vec<(String, Tensor)>, LoadError> {
    let nowhere = |_: &str, _: u64, _: Option<u64>| Err(unsupported("external data"));
    let reading = Reading {
        external: &nowhere,
        widens: false,
    };
    let mut weights = Vec::new();
    let mut inputs = BTreeSet::new();
    let mut model = Reader::new(bytes);
    while let Some((number, field)) = model.next()? {
        if number != GRAPH {
            continue;
        }
        let mut graph = field.message()?;
        while let Some((number, field)) = graph.next()? {
            match number {
                INPUT => drop(inputs.insert(value_name(field.message()?)?)),
                INITIALIZER if is_large(field.message()?, bytes_min)? => {
                    let (name, tensor) = read_tensor(field.message()?, reading)?;
                    weights.push((name.to_owned(), tensor));
                }
                _ => {}
            }
        }
    }
    weights.retain(|(name, _)| !inputs.contains(name.as_str()));
    Ok(weights)
}

fn value_name(mut value: Reader<'_>) -> Result<&str, LoadError> {
    let mut name = "";
    while let Some((number, field)) = value.next()? {
        if number == VALUE_NAME {
            name = field.text()?;
        }
    }
    Ok(name)
}

fn is_large(mut tensor: Reader<'_>, bytes_min: usize) -> Result<bool, LoadError> {
    let (mut n_bytes, mut is_ours, mut is_named) = (0, false, false);
    while let Some((number, field)) = tensor.next()? {
        match number {
            DATA_TYPE => is_ours = dtype(field.int()?).is_some(),
            NAME => is_named = !field.text()?.is_empty(),
            RAW => n_bytes = field.bytes()?.len(),
            _ => {}
        }
    }
    Ok(is_ours && is_named && n_bytes >= bytes_min)
}

#[cfg(test)]
mod tests {
    use coracle_model::LoadErrorKind;

    use super::*;

    /// A message's field that holds bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[number << 3 | 2, length], content].concat()
    }

    /// A tensor of FP32, with its bytes in the plain form.
    fn tensor(name: &str, values: &[f32]) -> Vec<u8> {
        let raw: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let size = u8::try_from(values.len()).unwrap();
        let head = [1 << 3, size, 2 << 3, 1];
        [&head[..], &field(8, name.as_bytes()), &field(9, &raw)].concat()
    }

    #[test]
    fn large_weights_are_found_and_nothing_else() {
        let inline = [
            &[1 << 3, 4, 2 << 3, 1][..],
            &field(8, b"inline"),
            &field(4, &[0; 16]),
        ];
        let graph = [
            field(5, &tensor("w", &[1.0, 2.0, 3.0, 4.0])),
            field(5, &tensor("small", &[1.0])),
            field(5, &tensor("default", &[5.0; 4])),
            field(5, &inline.concat()),
            field(11, &field(1, b"x")),
            field(11, &field(1, b"default")),
        ];
        let file = field(7, &graph.concat());
        let weights = large_weights(&file, 16).unwrap();
        let names: Vec<_> = weights.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["w"]);
        let values = weights[0].1.values().to_f64s().unwrap();
        assert_eq!(values.as_ref(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn weights_of_another_size_than_they_say_are_an_error() {
        let mut short = tensor("w", &[1.0, 2.0]);
        // Its only dimension.
        short[1] = 3;
        let file = field(7, &field(5, &short));
        let error = large_weights(&file, 1).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Malformed, "{error}");
    }
}
