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
const NODE: u64 = 1;
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;
const DATA_TYPE: u64 = 2;
const NAME: u64 = 8;
const RAW: u64 = 9;
const VALUE_NAME: u64 = 1;
/// The fields of a node, and those of an attribute that hold graphs.
const NODE_INPUT: u64 = 1;
const OPERATOR: u64 = 4;
const ATTRIBUTE: u64 = 5;
const DOMAIN: u64 = 7;
const INNER_GRAPHS: [u64; 2] = [6, 11];

/// How deep graphs may be nested where it is looked what uses the weights; those of deeper ones are not shared.
const DEPTH_MAX: usize = 8;

/// The inputs of operators that are weights, and that no optimisation of ONNX Runtime changes in their place.
///
/// Its optimisation of transpositions turns a constant round under the same name, and a value that is given for that name is
/// not turned: answers are wrong, silently if the sizes are equal. It looks at operators that work element by element and the like, not at these.
const WEIGHT_SLOTS: [(&str, &[usize]); 8] = [
    ("MatMul", &[1]),
    ("Gemm", &[1]),
    ("MatMulInteger", &[1]),
    ("Conv", &[1]),
    ("Gather", &[0]),
    ("LSTM", &[1, 2]),
    ("GRU", &[1, 2]),
    ("RNN", &[1, 2]),
];

/// Returns the initialisers of the outermost graph that take at least `bytes_min` bytes, with their names: those that lie in the file
/// itself in the plain form, are of a datatype of ours, are no defaults of inputs, and are used as weights only: as factors, filters, tables and those of recurrences.
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
    let mut uses = Uses::default();
    let mut model = Reader::new(bytes);
    while let Some((number, field)) = model.next()? {
        if number != GRAPH {
            continue;
        }
        let mut graph = field.message()?;
        while let Some((number, field)) = graph.next()? {
            match number {
                INPUT | OUTPUT => drop(uses.others.insert(value_name(field.message()?)?)),
                NODE => uses.note(field.message()?, 0)?,
                INITIALIZER if is_large(field.message()?, bytes_min)? => {
                    let (name, tensor) = read_tensor(field.message()?, reading)?;
                    weights.push((name.to_owned(), tensor));
                }
                _ => {}
            }
        }
    }
    weights.retain(|(name, _)| uses.is_weight(name));
    Ok(weights)
}

/// What values of a graph are used for, those of graphs within it too.
#[derive(Default)]
struct Uses<'f> {
    weights: BTreeSet<&'f str>,
    others: BTreeSet<&'f str>,
    is_cut: bool,
}

impl<'f> Uses<'f> {
    fn is_weight(&self, name: &str) -> bool {
        !self.is_cut && self.weights.contains(name) && !self.others.contains(name)
    }

    fn note(&mut self, mut node: Reader<'f>, depth: usize) -> Result<(), LoadError> {
        let (mut inputs, mut operator, mut domain) = (Vec::new(), "", "");
        while let Some((number, field)) = node.next()? {
            match number {
                NODE_INPUT => inputs.push(field.text()?),
                OPERATOR => operator = field.text()?,
                DOMAIN => domain = field.text()?,
                ATTRIBUTE => self.note_attribute(field.message()?, depth)?,
                _ => {}
            }
        }
        let slots = WEIGHT_SLOTS.iter().find(|(name, _)| *name == operator);
        let slots = slots.filter(|_| matches!(domain, "" | "ai.onnx"));
        for (index, input) in inputs.into_iter().enumerate() {
            let is_weight = slots.is_some_and(|(_, slots)| slots.contains(&index));
            match is_weight {
                true => self.weights.insert(input),
                false => self.others.insert(input),
            };
        }
        Ok(())
    }

    fn note_attribute(&mut self, mut attribute: Reader<'f>, depth: usize) -> Result<(), LoadError> {
        while let Some((number, field)) = attribute.next()? {
            if !INNER_GRAPHS.contains(&number) {
                continue;
            }
            if depth >= DEPTH_MAX {
                self.is_cut = true;
                return Ok(());
            }
            let mut graph = field.message()?;
            while let Some((number, field)) = graph.next()? {
                match number {
                    NODE => self.note(field.message()?, depth.saturating_add(1))?,
                    OUTPUT => drop(self.others.insert(value_name(field.message()?)?)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn value_name<'f>(mut value: Reader<'f>) -> Result<&'f str, LoadError> {
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
        let length = u16::try_from(content.len()).unwrap();
        let low = u8::try_from(length & 0x7f).unwrap() | 0x80;
        let high = u8::try_from(length >> 7).unwrap();
        [&[number << 3 | 2, low, high], content].concat()
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

    fn node(operator: &str, inputs: &[&str]) -> Vec<u8> {
        let inputs = inputs.iter().flat_map(|input| field(1, input.as_bytes()));
        let node: Vec<u8> = inputs.chain(field(4, operator.as_bytes())).collect();
        field(1, &node)
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
            node("MatMul", &["x", "w"]),
            node("MatMul", &["x", "small"]),
            node("MatMul", &["x", "default"]),
            node("MatMul", &["x", "inline"]),
        ];
        let file = field(7, &graph.concat());
        let weights = large_weights(&file, 16).unwrap();
        let names: Vec<_> = weights.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["w"]);
        let values = weights[0].1.values().to_f64s().unwrap();
        assert_eq!(values.as_ref(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn what_may_be_changed_in_its_place_is_not_shared() {
        let found = |nodes: &[Vec<u8>]| {
            let weight = field(5, &tensor("w", &[1.0, 2.0, 3.0, 4.0]));
            let file = field(7, &[weight, nodes.concat()].concat());
            large_weights(&file, 16).unwrap().len()
        };
        let product = node("MatMul", &["x", "w"]);
        assert_eq!(found(std::slice::from_ref(&product)), 1);
        assert_eq!(found(&[node("Gather", &["w", "x"])]), 1);
        assert_eq!(found(&[node("LSTM", &["x", "r", "w"])]), 1);
        // Nobody uses it; it is the other factor; something else uses it, too; it is an output.
        assert_eq!(found(&[]), 0);
        assert_eq!(found(&[node("MatMul", &["w", "x"])]), 0);
        assert_eq!(found(&[product.clone(), node("Add", &["x", "w"])]), 0);
        assert_eq!(found(&[product.clone(), field(12, &field(1, b"w"))]), 0);
        // An operator of somebody's own.
        let own = [
            field(1, b"x"),
            field(1, b"w"),
            field(4, b"MatMul"),
            field(7, b"own"),
        ];
        assert_eq!(found(&[field(1, &own.concat())]), 0);
        // A graph within a node uses it as a weight, or else.
        let within = |inner: Vec<u8>| {
            let attribute = field(5, &field(6, &inner));
            field(1, &[field(4, b"If"), attribute].concat())
        };
        assert_eq!(found(&[within(product.clone())]), 1);
        assert_eq!(
            found(&[product.clone(), within(node("Mul", &["w", "x"]))]),
            0
        );
        assert_eq!(
            found(&[product.clone(), within(field(12, &field(1, b"w")))]),
            0
        );
        let deep = (0..12).fold(node("MatMul", &["x", "v"]), |inner, _| within(inner));
        assert_eq!(found(&[product, deep]), 0);
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
