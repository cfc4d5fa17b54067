//! What an ONNX file holds: models, graphs, nodes, attributes; read with bounds and borrowed from the file.
//!
//! Subgraphs are kept as bytes and read only by the operator that runs them, so nothing here recurses.

use std::collections::HashSet;

use coracle_model::LoadError;
use coracle_tensor::{DType, Tensor};

use crate::error::{limit, malformed};
use crate::tensor_file::{External, Reading, dtype, read_tensor};
use crate::wire::{Field, Reader, push_floats, push_ints};

/// The most nodes, initialisers, or values of one graph.
const ITEMS_MAX: usize = 1 << 18;
/// The most inputs, outputs or attributes of one node.
const NODE_ITEMS_MAX: usize = 1 << 14;
/// The most dimensions of a tensor.
pub(crate) const RANK_MAX: usize = 32;

/// A model as its file describes it.
#[derive(Debug, Default)]
pub(crate) struct ModelFile<'a> {
    pub(crate) ir_version: i64,
    pub(crate) producer: &'a str,
    pub(crate) producer_version: &'a str,
    /// Domain and version; the domain `ai.onnx` is written as the empty one.
    pub(crate) opsets: Vec<(&'a str, i64)>,
    /// Domain and name of the functions that the file defines.
    pub(crate) functions: Vec<(&'a str, &'a str)>,
    pub(crate) graph: Option<&'a [u8]>,
}

/// A graph as its file describes it.
#[derive(Debug, Default)]
pub(crate) struct GraphFile<'a> {
    pub(crate) nodes: Vec<NodeFile<'a>>,
    pub(crate) initializers: Vec<(&'a str, Tensor)>,
    pub(crate) inputs: Vec<ValueFile<'a>>,
    pub(crate) outputs: Vec<ValueFile<'a>>,
    pub(crate) n_sparse: usize,
}

/// An input or output of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ValueFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: ValueKind,
    /// The number of ONNX's datatype.
    pub(crate) elem_type: i64,
    /// `None` where the file says nothing of the shape; in it `None` for a symbolic size.
    pub(crate) shape: Option<Vec<Option<usize>>>,
    /// What the keys and values of a map are, where they are integers of 64 bits or strings, and tensors of a datatype of ours.
    pub(crate) map: Option<MapType>,
}

/// What the keys and the values of a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapType {
    pub(crate) key: DType,
    pub(crate) value: DType,
}

impl ValueFile<'_> {
    /// Tells whether the file leaves out how many dimensions a tensor has.
    pub(crate) fn is_shapeless_tensor(&self) -> bool {
        self.kind == ValueKind::Tensor && self.shape.is_none()
    }

    /// Tells whether the file says of it that it is a tensor, or nothing.
    pub(crate) fn may_be_tensor(&self) -> bool {
        matches!(self.kind, ValueKind::Tensor | ValueKind::Unknown)
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// The file does not say.
    #[default]
    Unknown,
    Tensor,
    Sequence,
    Map,
    Optional,
    Other,
}

/// A node as its file describes it.
#[derive(Debug, Default)]
pub(crate) struct NodeFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) op_type: &'a str,
    pub(crate) inputs: Vec<&'a str>,
    pub(crate) outputs: Vec<&'a str>,
    pub(crate) attributes: Vec<(&'a str, Attribute<'a>)>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Text(&'a [u8]),
    Tensor(Tensor),
    /// The bytes of a graph.
    Graph(&'a [u8]),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<&'a [u8]>),
    /// Of a type that no operator here has.
    Other,
}

/// Returns the domain as operators are looked up by: `ai.onnx` is the empty one.
fn domain(name: &str) -> &str {
    match name {
        "ai.onnx" => "",
        name => name,
    }
}

/// Tells whether the beginning of a file is that of an ONNX model: its version and then a field that only such have.
pub fn is_onnx(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Ok(Some((1, Field::Varint(1..=64)))) = reader.next() else {
        return false;
    };
    // Only the head of the file may be there, so the second field may be cut short.
    match reader.rest_tag() {
        Some(tag) => matches!(tag, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72),
        None => false,
    }
}

/// Reads the outermost message.
pub(crate) fn read_model(bytes: &[u8]) -> Result<ModelFile<'_>, LoadError> {
    let mut model = ModelFile::default();
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => model.ir_version = field.int()?,
            2 => model.producer = field.text()?,
            3 => model.producer_version = field.text()?,
            // Other readers make one graph of both.
            7 if model.graph.is_some() => return Err(malformed("there are two graphs")),
            7 => model.graph = Some(field.bytes()?),
            8 => push(&mut model.opsets, read_opset(field.message()?)?)?,
            25 => push(&mut model.functions, read_function(field.message()?)?)?,
            _ => {}
        }
    }
    Ok(model)
}

fn push<T>(items: &mut Vec<T>, item: T) -> Result<(), LoadError> {
    push_to(items, item, ITEMS_MAX)
}

fn push_to<T>(items: &mut Vec<T>, item: T, most: usize) -> Result<(), LoadError> {
    if items.len() >= most {
        return Err(limit(format!("more than {most} items in one list")));
    }
    items.push(item);
    Ok(())
}

fn read_opset(mut reader: Reader<'_>) -> Result<(&str, i64), LoadError> {
    let mut opset = ("", 0);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => opset.0 = domain(field.text()?),
            2 => opset.1 = field.int()?,
            _ => {}
        }
    }
    Ok(opset)
}

fn read_function(mut reader: Reader<'_>) -> Result<(&str, &str), LoadError> {
    let mut function = ("", "");
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => function.1 = field.text()?,
            10 => function.0 = domain(field.text()?),
            _ => {}
        }
    }
    Ok(function)
}

/// Reads a graph; `external` reads the tensors that lie in other files.
pub(crate) fn read_graph<'a>(
    bytes: &'a [u8],
    external: External<'_>,
) -> Result<GraphFile<'a>, LoadError> {
    let widens = false;
    read_graph_as(bytes, Reading { external, widens })
}

/// Reads a graph with its tensors in whatever datatype.
pub(crate) fn read_graph_as<'a>(
    bytes: &'a [u8],
    reading: Reading<'_>,
) -> Result<GraphFile<'a>, LoadError> {
    let mut graph = GraphFile::default();
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => {
                let place = graph.nodes.len();
                let node = read_node(field.message()?, reading)
                    .map_err(|error| error.at(format_args!("node {place}")))?;
                push(&mut graph.nodes, node)?;
            }
            5 => push(
                &mut graph.initializers,
                read_tensor(field.message()?, reading)?,
            )?,
            11 => push(&mut graph.inputs, read_value(field.message()?)?)?,
            12 => push(&mut graph.outputs, read_value(field.message()?)?)?,
            15 => graph.n_sparse = graph.n_sparse.saturating_add(1),
            _ => {}
        }
    }
    Ok(graph)
}

/// Reads a graph's inputs and the names of its initialisers, and nothing else.
pub(crate) fn read_values(
    mut reader: Reader<'_>,
) -> Result<(Vec<ValueFile<'_>>, HashSet<&str>), LoadError> {
    let (mut inputs, mut constants) = (Vec::new(), HashSet::new());
    while let Some((number, field)) = reader.next()? {
        match number {
            5 => {
                let mut tensor = field.message()?;
                while let Some((number, field)) = tensor.next()? {
                    if number == 8 {
                        constants.insert(field.text()?);
                    }
                }
            }
            11 => push(&mut inputs, read_value(field.message()?)?)?,
            _ => {}
        }
    }
    Ok((inputs, constants))
}

pub(crate) fn read_node<'a>(
    mut reader: Reader<'a>,
    reading: Reading<'_>,
) -> Result<NodeFile<'a>, LoadError> {
    let mut node = NodeFile::default();
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => push_to(&mut node.inputs, field.text()?, NODE_ITEMS_MAX)?,
            2 => push_to(&mut node.outputs, field.text()?, NODE_ITEMS_MAX)?,
            3 => node.name = field.text()?,
            4 => node.op_type = field.text()?,
            5 => {
                let attribute = read_attribute(field.message()?, reading)?;
                push_to(&mut node.attributes, attribute, NODE_ITEMS_MAX)?;
            }
            7 => node.domain = domain(field.text()?),
            _ => {}
        }
    }
    Ok(node)
}

/// The fields of an attribute, before it is known which one counts.
#[derive(Default)]
struct AttributeFields<'a> {
    name: &'a str,
    kind: i64,
    is_reference: bool,
    float: f32,
    int: i64,
    text: &'a [u8],
    tensor: Option<Reader<'a>>,
    graph: Option<&'a [u8]>,
    floats: Vec<f32>,
    ints: Vec<i64>,
    texts: Vec<&'a [u8]>,
}

fn read_attribute<'a>(
    mut reader: Reader<'a>,
    reading: Reading<'_>,
) -> Result<(&'a str, Attribute<'a>), LoadError> {
    let mut fields = AttributeFields::default();
    // Old files leave the type out; the field that is there tells.
    let mut seen = 0;
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => fields.name = field.text()?,
            2 => fields.float = field.float()?,
            3 => fields.int = field.int()?,
            4 => fields.text = field.bytes()?,
            5 => fields.tensor = Some(field.message()?),
            6 => fields.graph = Some(field.bytes()?),
            7 => push_floats(field, &mut fields.floats)?,
            8 => push_ints(field, &mut fields.ints)?,
            9 => fields.texts.push(field.bytes()?),
            20 => fields.kind = field.int()?,
            21 => fields.is_reference = !field.bytes()?.is_empty(),
            _ => {}
        }
        if (2..=9).contains(&number) {
            seen = number;
        }
    }
    let name = fields.name;
    let value = attribute_value(fields, seen, reading)
        .map_err(|error| error.at(format_args!("attribute '{}'", shown(name))))?;
    Ok((name, value))
}

fn attribute_value<'a>(
    fields: AttributeFields<'a>,
    seen: u64,
    reading: Reading<'_>,
) -> Result<Attribute<'a>, LoadError> {
    if fields.is_reference {
        return Err(malformed(
            "refers to a function's attribute outside of a function",
        ));
    }
    let kind = match (fields.kind, seen) {
        (0, 2..=6) => i64::try_from(seen).unwrap_or(0).saturating_sub(1),
        (0, 7) => 6,
        (0, 8) => 7,
        (0, 9) => 8,
        (kind, _) => kind,
    };
    Ok(match kind {
        1 => Attribute::Float(fields.float),
        2 => Attribute::Int(fields.int),
        3 => Attribute::Text(fields.text),
        4 => {
            let tensor = fields
                .tensor
                .ok_or_else(|| malformed("the tensor is missing"))?;
            Attribute::Tensor(read_tensor(tensor, reading)?.1)
        }
        5 => Attribute::Graph(
            fields
                .graph
                .ok_or_else(|| malformed("the graph is missing"))?,
        ),
        6 => Attribute::Floats(fields.floats),
        7 => Attribute::Ints(fields.ints),
        8 => Attribute::Texts(fields.texts),
        _ => Attribute::Other,
    })
}

pub(crate) fn read_value(mut reader: Reader<'_>) -> Result<ValueFile<'_>, LoadError> {
    let mut value = ValueFile::default();
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => value.name = field.text()?,
            2 => read_type(field.message()?, &mut value)?,
            _ => {}
        }
    }
    Ok(value)
}

fn read_type(mut reader: Reader<'_>, value: &mut ValueFile<'_>) -> Result<(), LoadError> {
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => {
                value.kind = ValueKind::Tensor;
                read_tensor_type(field.message()?, value)?;
            }
            4 => value.kind = ValueKind::Sequence,
            5 => {
                value.kind = ValueKind::Map;
                value.map = read_map_type(field.message()?)?;
            }
            9 => value.kind = ValueKind::Optional,
            7 | 8 => value.kind = ValueKind::Other,
            _ => {}
        }
    }
    Ok(())
}

/// Reads the type of a map; `None` where keys or values are of another kind.
fn read_map_type(mut reader: Reader<'_>) -> Result<Option<MapType>, LoadError> {
    let (mut key, mut value) = (None, None);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => key = dtype(field.int()?).filter(|key| matches!(key, DType::I64 | DType::Bytes)),
            2 => {
                let mut reader = field.message()?;
                while let Some((number, field)) = reader.next()? {
                    if number == 1 {
                        let mut tensor = ValueFile::default();
                        read_tensor_type(field.message()?, &mut tensor)?;
                        value = dtype(tensor.elem_type);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(key.zip(value).map(|(key, value)| MapType { key, value }))
}

fn read_tensor_type(mut reader: Reader<'_>, value: &mut ValueFile<'_>) -> Result<(), LoadError> {
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => value.elem_type = field.int()?,
            2 => {
                let mut shape = Vec::new();
                let mut dims = field.message()?;
                while let Some((number, field)) = dims.next()? {
                    if number == 1 {
                        push_to(&mut shape, read_dimension(field.message()?)?, RANK_MAX)?;
                    }
                }
                value.shape = Some(shape);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a size; names, nothing at all, and what some exporters write for "any" (0 or less) mean any size.
fn read_dimension(mut reader: Reader<'_>) -> Result<Option<usize>, LoadError> {
    let mut size = None;
    while let Some((number, field)) = reader.next()? {
        if number == 1 {
            size = usize::try_from(field.int()?).ok().filter(|&size| size > 0);
        }
    }
    Ok(size)
}

/// Returns a name from a file as messages show it: not more than a line of it.
pub(crate) fn shown(name: &str) -> String {
    let mut shown: String = name
        .chars()
        .take(80)
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect();
    if name.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}
