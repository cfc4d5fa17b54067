//! Rewrites divisions of integers that would end the process.
//!
//! Processors trap where the least integer is divided by -1, and ONNX Runtime (1.32) lets them: the process ends with the signal of a
//! failed calculation. `a / b` becomes `(a * s) / (b * s)` there, with `s` -1 where `b` is -1 and 1 elsewhere: the same quotient, and
//! for the least integer itself, as integers wrap around. Divisors that are sizes, or weights without a -1, stay as they are; so does
//! what functions of the file divide, whose datatypes are not known.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use coracle_model::LoadError;

use crate::error::limit;
use crate::rewrite::{push, push_field, push_varint, rewritten};
use crate::wire::{Reader, push_ints};

const OPERATOR: &str = "Div";
/// Graphs within graphs.
const DEPTH_MAX: usize = 64;
/// ONNX's numbers of datatypes.
const INT32: u64 = 6;
const INT64: u64 = 7;
const BOOL: u64 = 9;
/// The fields of a file, a graph and a node.
const GRAPH: u64 = 7;
const NODE: u64 = 1;
const INITIALIZER: u64 = 5;
const VALUES: [u64; 3] = [11, 12, 13];
const ATTRIBUTE: u64 = 5;
const INNER_GRAPH: u64 = 6;

/// Operators whose first output has the datatype of the first input.
const KEEP_DATATYPE: [&str; 38] = [
    "Abs",
    "Add",
    "Clip",
    "Compress",
    "Concat",
    "CumSum",
    "Div",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Pad",
    "Range",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "ScatterElements",
    "ScatterND",
    "Sign",
    "Slice",
    "Split",
    "Squeeze",
    "Sub",
    "Sum",
    "Tile",
    "TopK",
    "Transpose",
    "Unsqueeze",
];
/// Operators that give sizes where all of their inputs are sizes or weights without a -1.
const KEEP_SIZES: [&str; 10] = [
    "Concat",
    "Gather",
    "Identity",
    "Mul",
    "ReduceProd",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Returns the file with its divisions of integers as above; files without any are returned as they are.
///
/// # Errors
/// Kind `Malformed` if the file is not made of fields, `LimitExceeded` if graphs are nested too deeply.
pub fn with_safe_divisions(bytes: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    let has_operator = bytes
        .windows(OPERATOR.len())
        .any(|window| window == OPERATOR.as_bytes());
    if !has_operator {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut trial = Rewriter {
        is_trial: true,
        n_rewritten: 0,
    };
    trial.file(bytes)?;
    if trial.n_rewritten == 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    Rewriter::default().file(bytes).map(Cow::Owned)
}

/// What is known of values.
#[derive(Clone, Default)]
struct Known<'a> {
    datatypes: HashMap<&'a [u8], u64>,
    /// Weights without a -1, and what sizes they are.
    never_minus_one: HashSet<&'a [u8]>,
}

#[derive(Default)]
struct Rewriter {
    /// Whether only the count is wanted: then weights are not copied.
    is_trial: bool,
    n_rewritten: usize,
}

/// What a node says.
#[derive(Default)]
struct Node<'a> {
    inputs: Vec<&'a [u8]>,
    outputs: Vec<&'a [u8]>,
    operator: &'a [u8],
    domain: &'a [u8],
    /// Of the attribute `to`.
    to: u64,
    /// The datatype of the attribute `value`, and whether no element of it is -1.
    value: Option<(u64, bool)>,
    has_graph: bool,
}

impl Rewriter {
    fn file(&mut self, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        rewritten(bytes, GRAPH, |graph| {
            self.graph(graph, &Known::default(), DEPTH_MAX)
        })
    }

    fn graph<'a>(
        &mut self,
        message: &'a [u8],
        outer: &Known<'a>,
        depth: usize,
    ) -> Result<Vec<u8>, LoadError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(limit(format!("graphs are nested deeper than {DEPTH_MAX}")));
        };
        let mut known = outer.clone();
        known.read_values(message)?;
        let mut copy = Vec::new();
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            if number == INITIALIZER && self.is_trial {
                continue;
            }
            if number != NODE {
                push_field(&mut copy, number, field);
                continue;
            }
            let message = field.bytes()?;
            let node = read_node(message)?;
            known.note(&node);
            match known.unsafe_division(&node) {
                Some(datatype) => self.push_division(&mut copy, &node, datatype),
                None if node.has_graph => {
                    let node = self.inner_graphs(message, &known, depth)?;
                    push(&mut copy, NODE, &node);
                }
                None => push(&mut copy, NODE, message),
            }
        }
        Ok(copy)
    }

    /// Copies a node with its graphs rewritten.
    fn inner_graphs<'a>(
        &mut self,
        node: &'a [u8],
        known: &Known<'a>,
        depth: usize,
    ) -> Result<Vec<u8>, LoadError> {
        rewritten(node, ATTRIBUTE, |attribute| {
            rewritten(attribute, INNER_GRAPH, |graph| {
                self.graph(graph, known, depth)
            })
        })
    }

    /// Appends the nodes that divide without a trap.
    fn push_division(&mut self, copy: &mut Vec<u8>, node: &Node<'_>, datatype: u64) {
        let [dividend, divisor, ..] = node.inputs.as_slice() else {
            return;
        };
        self.n_rewritten = self.n_rewritten.saturating_add(1);
        let prefix = format!("coracle_division_{}_", self.n_rewritten);
        let name = |suffix: &str| format!("{prefix}{suffix}").into_bytes();
        let [minus_one, one, two] = ["minus_one", "one", "two"].map(name);
        for (name, value) in [(&minus_one, -1), (&one, 1), (&two, 2)] {
            push(copy, NODE, &constant(name, value, datatype));
        }
        let [is_one, as_number, doubled, sign] =
            ["is_minus_one", "as_number", "doubled", "sign"].map(name);
        let [dividend_signed, divisor_signed] = ["dividend", "divisor"].map(name);
        let mut add = |operator: &str, inputs: &[&[u8]], output: &[u8], attributes: &[u8]| {
            push(
                copy,
                NODE,
                &[node_of(operator, inputs, output), attributes.to_vec()].concat(),
            );
        };
        add("Equal", &[divisor, &minus_one], &is_one, &[]);
        add("Cast", &[&is_one], &as_number, &cast_to(datatype));
        add("Mul", &[&as_number, &two], &doubled, &[]);
        add("Sub", &[&one, &doubled], &sign, &[]);
        add("Mul", &[dividend, &sign], &dividend_signed, &[]);
        add("Mul", &[divisor, &sign], &divisor_signed, &[]);
        let output = node.outputs.first().copied().unwrap_or_default();
        add(OPERATOR, &[&dividend_signed, &divisor_signed], output, &[]);
    }
}

impl<'a> Known<'a> {
    /// Takes in what a graph says of its values and weights.
    fn read_values(&mut self, graph: &'a [u8]) -> Result<(), LoadError> {
        let mut reader = Reader::new(graph);
        while let Some((number, field)) = reader.next()? {
            if VALUES.contains(&number) {
                let (name, datatype) = read_value(field.message()?)?;
                // A graph's own name hides one of the graph around it.
                self.never_minus_one.remove(name);
                match datatype {
                    Some(datatype) => self.datatypes.insert(name, datatype),
                    None => self.datatypes.remove(name),
                };
            }
        }
        let mut reader = Reader::new(graph);
        while let Some((number, field)) = reader.next()? {
            if number == INITIALIZER {
                let tensor = read_tensor(field.message()?)?;
                self.datatypes.insert(tensor.name, tensor.datatype);
                if !tensor.may_be_minus_one {
                    self.never_minus_one.insert(tensor.name);
                }
            }
        }
        Ok(())
    }

    /// Takes in what a node gives.
    fn note(&mut self, node: &Node<'a>) {
        for output in &node.outputs {
            self.never_minus_one.remove(output);
        }
        let Some(first) = node.outputs.first() else {
            return;
        };
        if !matches!(node.domain, b"" | b"ai.onnx") {
            return;
        }
        let Ok(operator) = str::from_utf8(node.operator) else {
            return;
        };
        let of_input = |place: usize| {
            let input = node.inputs.get(place)?;
            self.datatypes.get(input).copied()
        };
        let keeps = KEEP_DATATYPE.contains(&operator);
        let datatype = match operator {
            "Cast" => Some(node.to),
            "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Some(INT64),
            "Constant" | "ConstantOfShape" => node.value.map(|(datatype, _)| datatype),
            "CastLike" => of_input(1),
            "Where" => of_input(1).or_else(|| of_input(2)),
            "Equal" | "Greater" | "Less" | "And" | "Or" | "Not" => Some(BOOL),
            _ if keeps => of_input(0),
            _ => None,
        };
        let is_of_sizes = !node.inputs.is_empty()
            && (node.inputs.iter()).all(|input| self.never_minus_one.contains(input));
        let is_size = match operator {
            "Shape" | "Size" => true,
            "Constant" => node.value.is_some_and(|(_, may_be)| !may_be),
            _ => is_of_sizes && KEEP_SIZES.contains(&operator),
        };
        if let Some(datatype) = datatype {
            let n_alike = if operator == "Split" {
                node.outputs.len()
            } else {
                1
            };
            for output in node.outputs.iter().take(n_alike) {
                self.datatypes.insert(output, datatype);
            }
        }
        if is_size {
            self.never_minus_one.insert(first);
        }
    }

    /// Returns the datatype of a division that a processor may trap, if a node is one.
    fn unsafe_division(&self, node: &Node<'a>) -> Option<u64> {
        let is_division =
            node.operator == OPERATOR.as_bytes() && matches!(node.domain, b"" | b"ai.onnx");
        let [dividend, divisor] = *node.inputs.as_slice() else {
            return None;
        };
        let known = [dividend, divisor].map(|name| self.datatypes.get(name).copied());
        let datatype = known.into_iter().flatten().next()?;
        let is_unsafe =
            matches!(datatype, INT32 | INT64) && !self.never_minus_one.contains(divisor);
        (is_division && is_unsafe).then_some(datatype)
    }
}

fn read_value<'a>(mut reader: Reader<'a>) -> Result<(&'a [u8], Option<u64>), LoadError> {
    let (mut name, mut datatype) = (&[][..], None);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => name = field.bytes()?,
            2 => {
                let mut kind = field.message()?;
                while let Some((number, field)) = kind.next()? {
                    // Of a tensor, not of a sequence or map of them.
                    if number != 1 {
                        continue;
                    }
                    let mut tensor = field.message()?;
                    while let Some((number, field)) = tensor.next()? {
                        if number == 1 {
                            datatype = u64::try_from(field.int()?).ok();
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok((name, datatype))
}

struct TensorSeen<'a> {
    name: &'a [u8],
    datatype: u64,
    may_be_minus_one: bool,
}

fn read_tensor<'a>(mut reader: Reader<'a>) -> Result<TensorSeen<'a>, LoadError> {
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
    Ok(TensorSeen {
        name,
        datatype,
        may_be_minus_one,
    })
}

fn read_node(message: &[u8]) -> Result<Node<'_>, LoadError> {
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
                let mut reader = field.message()?;
                while let Some((number, field)) = reader.next()? {
                    match number {
                        1 => name = field.bytes()?,
                        3 => int = field.int()?,
                        5 => tensor = Some(read_tensor(field.message()?)?),
                        8 => push_ints(field, ints.get_or_insert_with(Vec::new))?,
                        6 => node.has_graph = true,
                        _ => {}
                    }
                }
                match name {
                    b"to" => node.to = u64::try_from(int).unwrap_or(0),
                    b"value" => {
                        node.value = tensor.map(|one| (one.datatype, one.may_be_minus_one));
                    }
                    b"value_int" => node.value = Some((INT64, int == -1)),
                    b"value_ints" => {
                        node.value = ints.map(|ints| (INT64, ints.contains(&-1)));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(node)
}

fn node_of(operator: &str, inputs: &[&[u8]], output: &[u8]) -> Vec<u8> {
    let mut node = Vec::new();
    for input in inputs {
        push(&mut node, 1, input);
    }
    push(&mut node, 2, output);
    push(&mut node, 4, operator.as_bytes());
    node
}

/// Returns the attribute `to` as a field of a node.
fn cast_to(datatype: u64) -> Vec<u8> {
    let mut attribute = Vec::new();
    push(&mut attribute, 1, b"to");
    push_int(&mut attribute, 3, datatype);
    push_int(&mut attribute, 20, 2);
    let mut field = Vec::new();
    push(&mut field, ATTRIBUTE, &attribute);
    field
}

/// Returns a node that gives a number without dimensions.
fn constant(name: &[u8], value: i32, datatype: u64) -> Vec<u8> {
    let mut tensor = Vec::new();
    push_int(&mut tensor, 2, datatype);
    match datatype {
        INT32 => push(&mut tensor, 9, &value.to_le_bytes()),
        _ => push(&mut tensor, 9, &i64::from(value).to_le_bytes()),
    }
    let mut attribute = Vec::new();
    push(&mut attribute, 1, b"value");
    push(&mut attribute, 5, &tensor);
    push_int(&mut attribute, 20, 4);
    let mut node = node_of("Constant", &[], name);
    push(&mut node, ATTRIBUTE, &attribute);
    node
}

fn push_int(message: &mut Vec<u8>, number: u64, value: u64) {
    push_varint(message, number.wrapping_shl(3));
    push_varint(message, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, datatype: u64) -> Vec<u8> {
        let (mut tensor, mut kind, mut value) = (Vec::new(), Vec::new(), Vec::new());
        push_int(&mut tensor, 1, datatype);
        push(&mut kind, 1, &tensor);
        push(&mut value, 1, name.as_bytes());
        push(&mut value, 2, &kind);
        value
    }

    fn weight(name: &str, datatype: u64, raw: &[u8]) -> Vec<u8> {
        let mut tensor = Vec::new();
        push_int(&mut tensor, 2, datatype);
        push(&mut tensor, 8, name.as_bytes());
        push(&mut tensor, 9, raw);
        tensor
    }

    fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
        let inputs: Vec<&[u8]> = inputs.iter().map(|name| name.as_bytes()).collect();
        node_of(operator, &inputs, output.as_bytes())
    }

    /// Inputs `x` and `y` of a datatype, `f` of floats, and weights of 5 and -1.
    fn graph(datatype: u64, nodes: &[Vec<u8>]) -> Vec<u8> {
        let mut graph = Vec::new();
        for node in nodes {
            push(&mut graph, NODE, node);
        }
        for (name, number) in [("five", 5_i64), ("minus", -1)] {
            let tensor = weight(name, INT64, &number.to_le_bytes());
            push(&mut graph, INITIALIZER, &tensor);
        }
        for value in [value("x", datatype), value("y", datatype), value("f", 1)] {
            push(&mut graph, 11, &value);
        }
        graph
    }

    fn file(graph: &[u8]) -> Vec<u8> {
        let mut file = vec![8, 9];
        push(&mut file, GRAPH, graph);
        file
    }

    fn operators(bytes: &[u8]) -> Vec<String> {
        let (mut found, mut reader) = (Vec::new(), Reader::new(bytes));
        while let Some((number, field)) = reader.next().unwrap() {
            if number != GRAPH {
                continue;
            }
            let mut reader = field.message().unwrap();
            while let Some((number, field)) = reader.next().unwrap() {
                if number == NODE {
                    let node = read_node(field.bytes().unwrap()).unwrap();
                    found.push(String::from_utf8(node.operator.to_vec()).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn divisions_of_integers_by_what_may_be_minus_one_are_rewritten() {
        let signed = [
            "Constant", "Constant", "Constant", "Equal", "Cast", "Mul", "Sub", "Mul", "Mul", "Div",
        ];
        for datatype in [INT32, INT64] {
            let whole = file(&graph(datatype, &[node("Div", &["x", "y"], "q")]));
            assert_eq!(operators(&with_safe_divisions(&whole).unwrap()), signed);
        }
        let by_weight = file(&graph(INT64, &[node("Div", &["x", "minus"], "q")]));
        assert_eq!(operators(&with_safe_divisions(&by_weight).unwrap()), signed);
        // A weight of another datatype may be a -1 once it is cast.
        let cast = [node("Cast", &["w"], "c"), node("Div", &["x", "c"], "q")];
        let mut whole = graph(INT64, &cast);
        let float = weight("w", 1, &(-1.0_f32).to_le_bytes());
        push(&mut whole, INITIALIZER, &float);
        assert_eq!(
            operators(&with_safe_divisions(&file(&whole)).unwrap())[1..],
            signed
        );
        // Through what keeps a datatype.
        let behind = [node("Abs", &["x"], "a"), node("Div", &["a", "y"], "q")];
        let whole = file(&graph(INT64, &behind));
        assert_eq!(
            operators(&with_safe_divisions(&whole).unwrap())[1..],
            signed
        );
    }

    #[test]
    fn what_no_processor_traps_stays_as_it_is() {
        let sizes = [
            node("Shape", &["f"], "sizes"),
            node("Gather", &["sizes", "five"], "size"),
            node("Div", &["x", "size"], "q"),
        ];
        let floats = [node("Div", &["f", "f"], "q")];
        let cast = [node("Mystery", &["x"], "z"), node("Div", &["z", "z"], "q")];
        let by_weight = [node("Div", &["x", "five"], "q")];
        for nodes in [&sizes[..], &floats, &cast, &by_weight] {
            let whole = file(&graph(INT64, nodes));
            let same = with_safe_divisions(&whole).unwrap();
            assert!(matches!(same, Cow::Borrowed(_)), "{:?}", operators(&whole));
        }
        let short = file(&graph(5, &[node("Div", &["x", "y"], "q")]));
        assert!(matches!(
            with_safe_divisions(&short).unwrap(),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn graphs_within_nodes_know_the_values_around_them() {
        let mut inner = Vec::new();
        push(&mut inner, NODE, &node("Div", &["x", "y"], "q"));
        let (mut attribute, mut outer) = (Vec::new(), node("If", &["c"], "z"));
        push(&mut attribute, INNER_GRAPH, &inner);
        push(&mut outer, ATTRIBUTE, &attribute);
        let whole = file(&graph(INT64, &[outer]));
        let safe = with_safe_divisions(&whole).unwrap();
        assert!(safe.windows(5).any(|window| window == b"Equal"));
        let mut deep = inner;
        for _ in 0..DEPTH_MAX {
            let (mut attribute, mut node, mut graph) = (Vec::new(), Vec::new(), Vec::new());
            push(&mut attribute, INNER_GRAPH, &deep);
            push(&mut node, ATTRIBUTE, &attribute);
            push(&mut graph, NODE, &node);
            deep = graph;
        }
        assert!(with_safe_divisions(&file(&deep)).is_err());
    }
}
