//! Rewrites divisions of integers that would end the process.
//!
//! Processors trap where the least integer is divided by -1, and ONNX Runtime (1.32) lets them: the process ends with the signal of a
//! failed calculation. `a / b` becomes `(a * s) / (b * s)` there, with `s` -1 where `b` is -1 and 1 elsewhere: the same quotient, and
//! for the least integer itself, as integers wrap around. Divisors that are sizes, or weights without a -1, stay as they are; so does
//! what functions of the file divide, whose datatypes are not known.

use std::borrow::Cow;
use std::collections::HashMap;

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
const VALUES: [u64; 3] = [11, OUTPUT, 13];
const OUTPUT: u64 = 12;
const ATTRIBUTE: u64 = 5;
const INNER_GRAPH: u64 = 6;

/// Operators whose first output has the datatype of the first input.
const KEEP_DATATYPE: [&str; 40] = [
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
    "MatMul",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Pad",
    "Pow",
    "Range",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Relu",
    "Reshape",
    "ScatterElements",
    "ScatterND",
    "Sign",
    "Slice",
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

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    datatype: Option<u64>,
    /// False of sizes, and of integer weights without a -1.
    may_be_minus_one: bool,
}

impl Seen {
    const NOTHING: Self = Self {
        datatype: None,
        may_be_minus_one: true,
    };
}

/// The values of a graph, and those of the graphs around it.
struct Scope<'s, 'a> {
    outer: Option<&'s Scope<'s, 'a>>,
    values: HashMap<&'a [u8], Seen>,
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
    /// What the attribute `value` is.
    value: Option<Seen>,
    /// The datatypes that a graph of its declares for its outputs.
    of_graph: Vec<Option<u64>>,
    has_graph: bool,
}

impl Rewriter {
    fn file(&mut self, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        rewritten(bytes, GRAPH, |graph| self.graph(graph, None, DEPTH_MAX))
    }

    fn graph<'a>(
        &mut self,
        message: &'a [u8],
        outer: Option<&Scope<'_, 'a>>,
        depth: usize,
    ) -> Result<Vec<u8>, LoadError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(limit(format!("graphs are nested deeper than {DEPTH_MAX}")));
        };
        let scope = Scope::of(message, outer)?;
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
            match scope.unsafe_division(&node) {
                Some(datatype) => self.push_division(&mut copy, &node, datatype),
                None if node.has_graph => {
                    let node = self.inner_graphs(message, &scope, depth)?;
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
        scope: &Scope<'_, 'a>,
        depth: usize,
    ) -> Result<Vec<u8>, LoadError> {
        rewritten(node, ATTRIBUTE, |attribute| {
            rewritten(attribute, INNER_GRAPH, |graph| {
                self.graph(graph, Some(scope), depth)
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

impl<'s, 'a> Scope<'s, 'a> {
    /// Reads what is known of a graph's values.
    fn of(graph: &'a [u8], outer: Option<&'s Scope<'s, 'a>>) -> Result<Self, LoadError> {
        let mut scope = Self {
            outer,
            values: HashMap::new(),
        };
        let (mut weights, mut nodes) = (Vec::new(), Vec::new());
        let mut reader = Reader::new(graph);
        while let Some((number, field)) = reader.next()? {
            match number {
                NODE => nodes.push(read_node(field.bytes()?)?),
                INITIALIZER => weights.push(read_tensor(field.message()?)?),
                number if VALUES.contains(&number) => {
                    let (name, datatype) = read_value(field.message()?)?;
                    let seen = Seen {
                        datatype,
                        ..Seen::NOTHING
                    };
                    scope.values.insert(name, seen);
                }
                _ => {}
            }
        }
        for (name, mut seen) in weights {
            // What a graph within a node is given goes before its own weights.
            seen.may_be_minus_one |= outer.is_some() && scope.values.contains_key(name);
            scope.values.insert(name, seen);
        }
        for node in in_order(&nodes) {
            scope.note(node);
        }
        Ok(scope)
    }

    fn seen(&self, name: &[u8]) -> Seen {
        let mut scope = Some(self);
        while let Some(at) = scope {
            if let Some(seen) = at.values.get(name) {
                return *seen;
            }
            scope = at.outer;
        }
        Seen::NOTHING
    }

    /// Takes in what a node gives.
    fn note(&mut self, node: &Node<'a>) {
        let is_standard = matches!(node.domain, b"" | b"ai.onnx");
        let operator = str::from_utf8(node.operator).unwrap_or_default();
        let operator = if is_standard { operator } else { "" };
        let of_input = |place: usize| {
            let input = node.inputs.get(place)?;
            self.seen(input).datatype
        };
        let of_output = |place: usize| match (operator, place) {
            ("Cast", _) => Some(node.to),
            ("Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin", _) => Some(INT64),
            ("TopK" | "MaxPool", 1) | ("Unique", 1..) => Some(INT64),
            ("Constant" | "ConstantOfShape", _) => node.value.and_then(|value| value.datatype),
            ("CastLike", _) => of_input(1),
            ("Where", _) => of_input(1).or_else(|| of_input(2)),
            ("Equal" | "Greater" | "Less" | "And" | "Or" | "Not", _) => Some(BOOL),
            ("If" | "Scan", _) => node.of_graph.get(place).copied().flatten(),
            // The first of its graph tells whether to go on.
            ("Loop", _) => {
                let place = place.saturating_add(1);
                node.of_graph.get(place).copied().flatten()
            }
            ("Split", _) => of_input(0),
            (operator, 0) if KEEP_DATATYPE.contains(&operator) => of_input(0),
            _ => None,
        };
        let is_of_sizes = !node.inputs.is_empty()
            && (node.inputs.iter()).all(|input| !self.seen(input).may_be_minus_one);
        let is_size = match operator {
            "Shape" | "Size" => true,
            "Constant" => node.value.is_some_and(|value| !value.may_be_minus_one),
            _ => is_of_sizes && KEEP_SIZES.contains(&operator),
        };
        let given: Vec<Seen> = (0..node.outputs.len())
            .map(|place| Seen {
                datatype: of_output(place),
                may_be_minus_one: !is_size || place > 0,
            })
            .collect();
        for (output, seen) in node.outputs.iter().zip(given) {
            // What the file declares, the runtime checks.
            let declared = self.values.get(output).and_then(|seen| seen.datatype);
            let datatype = seen.datatype.or(declared);
            self.values.insert(output, Seen { datatype, ..seen });
        }
    }

    /// Returns the datatype of a division that a processor may trap, if a node is one.
    fn unsafe_division(&self, node: &Node<'a>) -> Option<u64> {
        let is_division =
            node.operator == OPERATOR.as_bytes() && matches!(node.domain, b"" | b"ai.onnx");
        let [dividend, divisor] = *node.inputs.as_slice() else {
            return None;
        };
        let (dividend, divisor) = (self.seen(dividend), self.seen(divisor));
        let own = node.outputs.first().map(|output| self.seen(output));
        let own = own.and_then(|own| own.datatype);
        // All three are of one datatype.
        let datatype = dividend.datatype.or(divisor.datatype).or(own)?;
        let is_unsafe = matches!(datatype, INT32 | INT64) && divisor.may_be_minus_one;
        (is_division && is_unsafe).then_some(datatype)
    }
}

/// Returns nodes so that each comes after those whose outputs it takes; files may list them otherwise. Those that wait for each other come last.
fn in_order<'n, 'a>(nodes: &'n [Node<'a>]) -> Vec<&'n Node<'a>> {
    let mut givers: HashMap<&[u8], usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        givers.extend(node.outputs.iter().map(|&output| (output, index)));
    }
    let mut takers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut n_awaited = vec![0_usize; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for giver in node.inputs.iter().filter_map(|input| givers.get(input)) {
            if let (Some(takers), Some(n_awaited)) =
                (takers.get_mut(*giver), n_awaited.get_mut(index))
            {
                takers.push(index);
                *n_awaited = n_awaited.saturating_add(1);
            }
        }
    }
    let is_free = |(index, n_awaited): (usize, &usize)| (*n_awaited == 0).then_some(index);
    let mut order: Vec<usize> = n_awaited.iter().enumerate().filter_map(is_free).collect();
    let mut at = 0;
    while let Some(&giver) = order.get(at) {
        at = at.saturating_add(1);
        for &taker in takers.get(giver).into_iter().flatten() {
            if let Some(n_awaited) = n_awaited.get_mut(taker) {
                *n_awaited = n_awaited.saturating_sub(1);
                if *n_awaited == 0 {
                    order.push(taker);
                }
            }
        }
    }
    let rest = n_awaited.iter().enumerate();
    order.extend(rest.filter_map(|(index, n_awaited)| (*n_awaited > 0).then_some(index)));
    order.iter().filter_map(|&index| nodes.get(index)).collect()
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

/// Returns a tensor's name, and what is known of it.
fn read_tensor<'a>(mut reader: Reader<'a>) -> Result<(&'a [u8], Seen), LoadError> {
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

/// Returns the datatypes that a graph declares for its outputs.
fn read_outputs(mut graph: Reader<'_>) -> Result<Vec<Option<u64>>, LoadError> {
    let mut datatypes = Vec::new();
    while let Some((number, field)) = graph.next()? {
        if number == OUTPUT {
            datatypes.push(read_value(field.message()?)?.1);
        }
    }
    Ok(datatypes)
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
                        5 => tensor = Some(read_tensor(field.message()?)?.1),
                        8 => push_ints(field, ints.get_or_insert_with(Vec::new))?,
                        INNER_GRAPH => {
                            node.has_graph = true;
                            node.of_graph = read_outputs(field.message()?)?;
                        }
                        _ => {}
                    }
                }
                match name {
                    b"to" => node.to = u64::try_from(int).unwrap_or(0),
                    b"value" => node.value = tensor,
                    b"value_int" => node.value = Some(of_ints(&[int])),
                    b"value_ints" => node.value = ints.as_deref().map(of_ints),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(node)
}

fn of_ints(ints: &[i64]) -> Seen {
    Seen {
        datatype: Some(INT64),
        may_be_minus_one: ints.contains(&-1),
    }
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
    fn datatypes_are_known_behind_products_branches_and_out_of_order() {
        let rewritten = |nodes: &[Vec<u8>]| {
            let whole = file(&graph(INT64, nodes));
            let safe = with_safe_divisions(&whole).unwrap();
            safe.windows(5).any(|window| window == b"Equal")
        };
        assert!(rewritten(&[
            node("MatMul", &["x", "five"], "a"),
            node("MatMul", &["y", "five"], "b"),
            node("Div", &["a", "b"], "q"),
        ]));
        // Runtimes sort nodes.
        assert!(rewritten(&[
            node("Div", &["c", "d"], "q"),
            node("Identity", &["a"], "c"),
            node("Identity", &["b"], "d"),
            node("Abs", &["x"], "a"),
            node("Abs", &["y"], "b"),
        ]));
        for (operator, outputs) in [("If", &["z"][..]), ("Loop", &["more", "z"])] {
            let mut inner = Vec::new();
            for name in outputs {
                push(&mut inner, OUTPUT, &value(name, INT64));
            }
            let (mut attribute, mut branches) = (Vec::new(), node(operator, &["c"], "chosen"));
            push(&mut attribute, INNER_GRAPH, &inner);
            push(&mut branches, ATTRIBUTE, &attribute);
            let by_chosen = node("Div", &["chosen", "chosen"], "q");
            assert!(rewritten(&[branches, by_chosen]), "{operator}");
        }
        // Nodes that wait for each other are no graph; they end nothing here.
        assert!(!rewritten(&[
            node("Identity", &["b"], "a"),
            node("Identity", &["a"], "b"),
            node("Div", &["a", "b"], "q"),
        ]));
    }

    #[test]
    fn a_name_within_a_node_hides_the_one_around_it() {
        let rewritten = |inner: &[u8]| {
            let (mut attribute, mut outer) = (Vec::new(), node("If", &["c"], "z"));
            push(&mut attribute, INNER_GRAPH, inner);
            push(&mut outer, ATTRIBUTE, &attribute);
            let whole = file(&graph(INT64, &[outer]));
            let safe = with_safe_divisions(&whole).unwrap();
            safe.windows(5).any(|window| window == b"Equal")
        };
        let mut inner = Vec::new();
        push(&mut inner, NODE, &node("Div", &["x", "five"], "q"));
        assert!(!rewritten(&inner));
        // A weight of -1 by the name of the one around it; and one of 5 that is an input, too, which a loop gives.
        let mut with_weight = inner.clone();
        let minus = weight("five", INT64, &(-1_i64).to_le_bytes());
        push(&mut with_weight, INITIALIZER, &minus);
        assert!(rewritten(&with_weight));
        let mut with_input = inner;
        let five = weight("five", INT64, &5_i64.to_le_bytes());
        push(&mut with_input, INITIALIZER, &five);
        push(&mut with_input, 11, &value("five", INT64));
        assert!(rewritten(&with_input));
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
