//! What an engine's graph takes and gives, as it is served: tensors of our datatypes.
//!
//! Floats of 8 and integers of 4 bits are no datatype of any protocol. The graph is rewritten so that a `Cast` before it or behind it
//! makes them of, or into, the next wider datatype: the engine itself converts. Maps by class (`ZipMap`) are served as the table that they are
//! made of, whose columns have the names of the classes, as our own kernels serve them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use coracle_model::LoadError;

use crate::attributes::Attributes;
use crate::error::{limit, unsupported};
use crate::file::{NodeFile, ValueFile, ValueKind, read_node, read_value};
use crate::labels::Labels;
use crate::narrow::{Narrow, Range};
use crate::rewrite::{push, push_field, push_varint, rewritten};
use crate::tensor_file::Reading;
use crate::wire::Reader;

/// The fields of a file and of a graph.
const GRAPH: u64 = 7;
const NODE: u64 = 1;
const INITIALIZER: u64 = 5;
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;
/// The fields of an initialiser and of a value.
const TENSOR_NAME: u64 = 8;
const VALUE_NAME: u64 = 1;
const VALUE_TYPE: u64 = 2;
/// What a `ZipMap` takes: `FLOAT`.
const FLOAT: u64 = 1;
/// New names are made longer so often until nothing has them.
const NAMES_TRIED_MAX: usize = 16;

/// A file for an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Served<'a> {
    /// The file, as it is or rewritten.
    pub bytes: Cow<'a, [u8]>,
    /// What the rewritten graph takes and gives; `None` where the file is as it was.
    pub outlets: Option<Outlets>,
}

/// What a rewritten graph takes and gives, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlets {
    /// What it takes; initialisers are not among them.
    pub inputs: Vec<ServedOutlet>,
    /// What it gives.
    pub outputs: Vec<ServedOutlet>,
}

/// An input or output of a rewritten graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServedOutlet {
    /// What the file calls it, and so clients do.
    pub name: String,
    /// What the rewritten graph calls it.
    pub place: String,
    /// The names of the columns of a table that was a map.
    pub columns: Option<Vec<String>>,
    /// The numbers that it takes, where its datatype has others too.
    pub range: Option<Range>,
}

/// What becomes of an input or output.
enum Change {
    /// A cast is put between it and the graph, and its name is another.
    Cast(Narrow, String),
    /// It is the table that its maps were made of.
    Table { source: String, labels: Labels },
}

/// By the field that holds the input or output, and its name.
type Changes<'a> = BTreeMap<(u64, &'a str), Change>;

/// What was seen in a graph.
#[derive(Default)]
struct Seen<'a> {
    inputs: Vec<ValueFile<'a>>,
    outputs: Vec<ValueFile<'a>>,
    constants: HashSet<&'a str>,
    /// The nodes that make maps, by what they give.
    maps: HashMap<&'a str, NodeFile<'a>>,
    /// What nodes take.
    taken: HashSet<&'a str>,
}

/// Returns a file as an engine is given it; most are returned as they are.
///
/// # Errors
/// Kind `Malformed` if the file is not made of fields, or if its maps have no classes.
pub fn as_served(bytes: &[u8]) -> Result<Served<'_>, LoadError> {
    let seen = seen(bytes)?;
    let mut changes = Changes::new();
    let mut prefix = None;
    for (side, value) in seen.outlets() {
        let Some(change) = seen.change(value)? else {
            continue;
        };
        let change = match change {
            Change::Cast(narrow, _) => {
                let prefix = match &mut prefix {
                    Some(prefix) => prefix,
                    empty => empty.insert(unused_prefix(bytes)?),
                };
                Change::Cast(narrow, format!("{prefix}{side}{}", value.name))
            }
            change => change,
        };
        changes.insert((side, value.name), change);
    }
    if changes.is_empty() {
        return Ok(Served {
            bytes: Cow::Borrowed(bytes),
            outlets: None,
        });
    }
    let outlets = |side: u64, values: &[ValueFile<'_>]| {
        let values = values
            .iter()
            .filter(|value| !seen.constants.contains(value.name) || side == OUTPUT);
        let outlets = values.map(|value| outlet(value.name, changes.get(&(side, value.name))));
        outlets.collect()
    };
    let outlets = Outlets {
        inputs: outlets(INPUT, &seen.inputs),
        outputs: outlets(OUTPUT, &seen.outputs),
    };
    let file = rewritten(bytes, GRAPH, |graph| {
        graph_as_served(graph, &changes, &seen.outputs)
    })?;
    Ok(Served {
        bytes: Cow::Owned(file),
        outlets: Some(outlets),
    })
}

fn outlet(name: &str, change: Option<&Change>) -> ServedOutlet {
    let (place, columns, range) = match change {
        None => (name, None, None),
        Some(Change::Cast(narrow, place)) => (place.as_str(), None, Some(narrow.range())),
        Some(Change::Table { source, labels }) => (source.as_str(), Some(labels.names()), None),
    };
    ServedOutlet {
        name: name.to_owned(),
        place: place.to_owned(),
        columns,
        range,
    }
}

/// Returns the beginning of names that nothing in the file has.
fn unused_prefix(bytes: &[u8]) -> Result<String, LoadError> {
    let mut prefix = "served:".to_owned();
    for _ in 0..NAMES_TRIED_MAX {
        let is_used = bytes
            .windows(prefix.len())
            .any(|window| window == prefix.as_bytes());
        if !is_used {
            return Ok(prefix);
        }
        prefix.insert(0, '_');
        prefix.push(':');
    }
    Err(limit("the graph's names leave none for what is served"))
}

fn seen(bytes: &[u8]) -> Result<Seen<'_>, LoadError> {
    let mut seen = Seen::default();
    let mut model = Reader::new(bytes);
    while let Some((number, field)) = model.next()? {
        if number != GRAPH {
            continue;
        }
        let mut graph = field.message()?;
        while let Some((number, field)) = graph.next()? {
            match number {
                NODE => seen.node(field.message()?)?,
                INITIALIZER => {
                    let mut tensor = field.message()?;
                    while let Some((number, field)) = tensor.next()? {
                        if number == TENSOR_NAME {
                            seen.constants.insert(field.text()?);
                        }
                    }
                }
                INPUT => seen.inputs.push(read_value(field.message()?)?),
                OUTPUT => seen.outputs.push(read_value(field.message()?)?),
                _ => {}
            }
        }
    }
    Ok(seen)
}

/// Tells whether a node makes maps.
fn is_zip_map(mut node: Reader<'_>) -> Result<bool, LoadError> {
    let (mut is_named, mut is_ml) = (false, false);
    while let Some((number, field)) = node.next()? {
        match number {
            4 => is_named = field.bytes()? == b"ZipMap",
            7 => is_ml = field.bytes()? == b"ai.onnx.ml",
            _ => {}
        }
    }
    Ok(is_named && is_ml)
}

impl<'a> Seen<'a> {
    fn node(&mut self, message: Reader<'a>) -> Result<(), LoadError> {
        let mut reader = message;
        while let Some((number, field)) = reader.next()? {
            if number == 1 {
                self.taken.insert(field.text()?);
            }
        }
        if is_zip_map(message)? {
            let external = |_: &str, _: u64, _: Option<u64>| Err(unsupported("external data"));
            let reading = Reading {
                external: &external,
                widens: false,
            };
            let node = read_node(message, reading)?;
            if let [output] = node.outputs.as_slice() {
                self.maps.insert(output, node);
            }
        }
        Ok(())
    }

    fn outlets(&self) -> impl Iterator<Item = (u64, &ValueFile<'a>)> {
        let inputs = self.inputs.iter();
        let inputs = inputs.filter(|input| !self.constants.contains(input.name));
        let inputs = inputs.map(|input| (INPUT, input));
        inputs.chain(self.outputs.iter().map(|output| (OUTPUT, output)))
    }

    fn change(&self, value: &ValueFile<'_>) -> Result<Option<Change>, LoadError> {
        if value.kind == ValueKind::Tensor {
            let narrow = Narrow::of(value.elem_type);
            return Ok(narrow.map(|narrow| Change::Cast(narrow, String::new())));
        }
        let Some(node) = self.maps.get(value.name) else {
            return Ok(None);
        };
        // Who else takes the maps needs them.
        let ([source], false) = (node.inputs.as_slice(), self.taken.contains(value.name)) else {
            return Ok(None);
        };
        let attributes = Attributes::of(node);
        let labels = Labels::read(&attributes, "classlabels_int64s", "classlabels_strings")?;
        let source = (*source).to_owned();
        Ok(Some(Change::Table { source, labels }))
    }
}

fn graph_as_served(
    graph: &[u8],
    changes: &Changes<'_>,
    outputs: &[ValueFile<'_>],
) -> Result<Vec<u8>, LoadError> {
    let mut copy = Vec::with_capacity(graph.len());
    let kept = outputs.iter().map(|output| output.name);
    let kept = kept.filter(|name| !changes.contains_key(&(OUTPUT, *name)));
    let mut given: HashSet<&str> = kept.collect();
    for (&(side, name), change) in changes {
        if let (INPUT, Change::Cast(narrow, place)) = (side, change) {
            push(&mut copy, NODE, &narrowing(place, name, *narrow));
        }
    }
    let mut reader = Reader::new(graph);
    while let Some((number, field)) = reader.next()? {
        let change = match number {
            INPUT | OUTPUT => changes.get(&(number, value_name(field.message()?)?)),
            NODE if is_zip_map(field.message()?)? => match map_of(field.message()?)? {
                Some(name) if changes.contains_key(&(OUTPUT, name)) => continue,
                _ => None,
            },
            _ => None,
        };
        let value = match change {
            None => None,
            Some(Change::Cast(narrow, place)) => {
                Some(retyped(field.bytes()?, place, narrow.wider())?)
            }
            // What is an output already needs no other declaration.
            Some(Change::Table { source, .. }) if !given.insert(source) => continue,
            Some(Change::Table { source, .. }) => Some(table(source)),
        };
        match value {
            Some(value) => push(&mut copy, number, &value),
            None => push_field(&mut copy, number, field),
        }
    }
    for (&(side, name), change) in changes {
        if let (OUTPUT, Change::Cast(narrow, place)) = (side, change) {
            push(&mut copy, NODE, &widening(name, place, narrow.wider()));
        }
    }
    Ok(copy)
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

/// Returns what a node gives, if that is one value.
fn map_of(mut node: Reader<'_>) -> Result<Option<&str>, LoadError> {
    let mut outputs = Vec::new();
    while let Some((number, field)) = node.next()? {
        if number == 2 {
            outputs.push(field.text()?);
        }
    }
    match outputs.as_slice() {
        [output] => Ok(Some(output)),
        _ => Ok(None),
    }
}

/// Returns a node that converts numbers within the range of a narrower datatype, or infinite: these stay so where there are infinities.
fn narrowing(from: &str, to: &str, narrow: Narrow) -> Vec<u8> {
    let mut attributes = vec![integer("to", narrow.number())];
    if matches!(narrow.range(), Range::Reals { .. }) {
        attributes.push(integer("saturate", 0));
    }
    cast(from, to, &attributes)
}

/// Returns a node that converts numbers to a wider datatype.
fn widening(from: &str, to: &str, data_type: u64) -> Vec<u8> {
    cast(from, to, &[integer("to", data_type)])
}

fn cast(from: &str, to: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut node = Vec::new();
    push(&mut node, 1, from.as_bytes());
    push(&mut node, 2, to.as_bytes());
    push(&mut node, 3, [from, to].join(" to ").as_bytes());
    push(&mut node, 4, b"Cast");
    for attribute in attributes {
        push(&mut node, 5, attribute);
    }
    node
}

/// Returns an attribute that is an integer.
fn integer(name: &str, value: u64) -> Vec<u8> {
    let mut attribute = Vec::new();
    push(&mut attribute, 1, name.as_bytes());
    push_number(&mut attribute, 3, value);
    // The type of integers.
    push_number(&mut attribute, 20, 2);
    attribute
}

fn push_number(message: &mut Vec<u8>, field: u64, value: u64) {
    push_varint(message, field.wrapping_shl(3));
    push_varint(message, value);
}

/// Returns a value with another name and another datatype, and its shape.
fn retyped(value: &[u8], name: &str, data_type: u64) -> Result<Vec<u8>, LoadError> {
    let mut copy = Vec::with_capacity(value.len());
    push(&mut copy, VALUE_NAME, name.as_bytes());
    let mut reader = Reader::new(value);
    while let Some((number, field)) = reader.next()? {
        match number {
            VALUE_NAME => {}
            VALUE_TYPE => {
                let kind = rewritten(field.bytes()?, 1, |tensor| {
                    let mut copy = Vec::with_capacity(tensor.len());
                    let mut reader = Reader::new(tensor);
                    while let Some((number, field)) = reader.next()? {
                        if number != 1 {
                            push_field(&mut copy, number, field);
                        }
                    }
                    push_number(&mut copy, 1, data_type);
                    Ok(copy)
                })?;
                push(&mut copy, VALUE_TYPE, &kind);
            }
            _ => push_field(&mut copy, number, field),
        }
    }
    Ok(copy)
}

/// Returns the declaration of a table of numbers, of any shape.
fn table(name: &str) -> Vec<u8> {
    let (mut tensor, mut kind, mut value) = (Vec::new(), Vec::new(), Vec::new());
    push_number(&mut tensor, 1, FLOAT);
    push(&mut kind, 1, &tensor);
    push(&mut value, VALUE_NAME, name.as_bytes());
    push(&mut value, VALUE_TYPE, &kind);
    value
}

#[cfg(test)]
mod tests;
