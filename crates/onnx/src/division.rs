//! Rewrites divisions of integers that would end the process.
//!
//! Processors trap where the least integer is divided by -1, and ONNX Runtime (1.32) lets them: the process ends with the signal of a
//! failed calculation. (All else that could trap, it refuses: divisions and remainders by zero; its remainder by -1 is 0.) `a / b`
//! becomes `(a * s) / (b * s)` there, with `s` -1 where `b` is -1 and 1 elsewhere: the same quotient, and
//! for the least integer itself, as integers wrap around. Divisors that are sizes, or weights without a -1, stay as they are.
//! Datatypes follow from those that the file declares, operator by operator (`tables`), through graphs within nodes and calls of
//! functions (`functions`). Where a datatype cannot be known so, `s` is -1 where `b` as a real, cut to an integer, is -1: reals get the same quotient,
//! too, and no unsigned integer is such a `b`. (Versions without `CastLike` choose there what is multiplied with the sign of `b`, which the
//! runtime can for all datatypes but unsigned integers of 64 bits, and of 16.)

mod functions;
mod read;
mod tables;

use std::borrow::Cow;
use std::collections::HashMap;

use coracle_model::LoadError;

use self::functions::Functions;
use self::read::{either, read_node, read_outputs, read_tensor, read_value, read_version};
use self::tables::{KEEP_DATATYPE, NO_INTEGERS, NO_INTEGERS_MICROSOFT, NO_INTEGERS_ML};
use crate::error::{limit, unsupported};
use crate::file::shown;
use crate::rewrite::{push, push_field, push_varint, rewritten};
use crate::wire::{Field, Reader};

const OPERATOR: &str = "Div";
/// Graphs within graphs.
const DEPTH_MAX: usize = 64;
/// ONNX's numbers of datatypes.
const INT32: u64 = 6;
const INT64: u64 = 7;
const DOUBLE: u64 = 11;
/// Stands for all that is no integer of 32 or 64 bits.
const NO_INTEGER: u64 = 1;
/// The first versions of `ai.onnx` that choose elementwise and convert to the datatype of another value, and the last one whose operators the tables are of.
const VERSION_WITH_WHERE: i64 = 9;
const VERSION_WITH_CAST_LIKE: i64 = 15;
const VERSION_KNOWN_MAX: i64 = 28;
/// The fields of a file, a graph and a node.
const GRAPH: u64 = 7;
const FUNCTION: u64 = 25;
const NODE: u64 = 1;
const FUNCTION_NODE: u64 = 7;
const INITIALIZER: u64 = 5;
const VALUES: [u64; 3] = [11, OUTPUT, 13];
/// The field of a file with versions of operators; a function has another one.
const VERSIONS_OF_FILE: u64 = 8;
const VERSIONS_OF_FUNCTION: u64 = 9;
const OUTPUT: u64 = 12;
const ATTRIBUTE: u64 = 5;
const INNER_GRAPH: u64 = 6;

/// Operators that give sizes where all of their inputs are sizes or weights without a -1. (Products are none: of weights they may wrap around to -1.)
const KEEP_SIZES: [&str; 8] = [
    "Concat",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Returns the file with its divisions of integers as above; files without any are returned as they are.
///
/// # Errors
/// Kind `Malformed` if the file is not made of fields, `LimitExceeded` if graphs are nested too deeply, `Unsupported` for a division of
/// a datatype that cannot be known in a version of ONNX that has no operator to mend it with.
pub fn with_safe_divisions(bytes: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    let has_operator = bytes
        .windows(OPERATOR.len())
        .any(|window| window == OPERATOR.as_bytes());
    if !has_operator {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut trial = Rewriter::new(bytes, true)?;
    // Graphs first: what functions are given is known by their calls.
    trial.file(bytes, &[GRAPH])?;
    trial.functions.settle();
    trial.file(bytes, &[FUNCTION])?;
    if trial.n_rewritten == 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut rewriter = Rewriter {
        is_trial: false,
        n_rewritten: 0,
        ..trial
    };
    rewriter.file(bytes, &[GRAPH, FUNCTION]).map(Cow::Owned)
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

/// A division that a processor may trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Division {
    Of(u64),
    /// Of a datatype that is not known.
    OfAny,
}

/// The nodes of a graph or a function, and what is around them.
#[derive(Clone, Copy)]
struct Body<'s, 'a> {
    message: &'a [u8],
    /// What nodes are in; of a function it is another field.
    node: u64,
    /// What a function is given.
    given: &'s [(&'a [u8], Seen)],
    outer: Option<&'s Scope<'s, 'a>>,
    /// The version of `ai.onnx`.
    version: i64,
    /// How many graphs and functions may lie in it.
    depth: usize,
}

impl<'a> Body<'_, 'a> {
    /// Returns a graph of one of its nodes.
    fn within<'s>(
        self,
        message: &'a [u8],
        scope: &'s Scope<'s, 'a>,
    ) -> Result<Body<'s, 'a>, LoadError> {
        let depth = self.depth.checked_sub(1);
        let depth =
            depth.ok_or_else(|| limit(format!("graphs are nested deeper than {DEPTH_MAX}")))?;
        Ok(Body {
            message,
            node: NODE,
            given: &[],
            outer: Some(scope),
            version: self.version,
            depth,
        })
    }
}

/// The values of a graph, and those of the graphs around it.
struct Scope<'s, 'a> {
    outer: Option<&'s Scope<'s, 'a>>,
    values: HashMap<&'a [u8], Seen>,
    version: i64,
}

struct Rewriter<'a> {
    /// Whether only the count is wanted: then weights are not copied.
    is_trial: bool,
    n_rewritten: usize,
    functions: Functions<'a>,
    version: i64,
}

/// What a node says.
#[derive(Clone, Default)]
struct Node<'a> {
    inputs: Vec<&'a [u8]>,
    outputs: Vec<&'a [u8]>,
    operator: &'a [u8],
    domain: &'a [u8],
    /// Of the attribute `to`.
    to: Option<u64>,
    /// What the attribute `value` is.
    value: Option<Seen>,
    /// Its graphs, and the datatypes that one of them declares for its outputs.
    graphs: Vec<&'a [u8]>,
    of_graph: Vec<Option<u64>>,
    /// Whether an attribute is what the function is given.
    has_reference: bool,
}

impl<'a> Rewriter<'a> {
    fn new(bytes: &'a [u8], is_trial: bool) -> Result<Self, LoadError> {
        Ok(Self {
            is_trial,
            n_rewritten: 0,
            functions: Functions::read(bytes)?,
            version: read_version(bytes, VERSIONS_OF_FILE)?,
        })
    }

    /// Copies a file with what is in the fields `wanted` rewritten, graphs or functions.
    fn file(&mut self, bytes: &'a [u8], wanted: &[u64]) -> Result<Vec<u8>, LoadError> {
        let mut copy = Vec::new();
        let mut n_functions = 0_usize;
        let mut reader = Reader::new(bytes);
        while let Some((number, field)) = reader.next()? {
            let index = n_functions;
            n_functions = n_functions.saturating_add(usize::from(number == FUNCTION));
            match field {
                Field::Bytes(message) if wanted.contains(&number) => {
                    let given = self.functions.given(index);
                    let is_graph = number == GRAPH;
                    let body = Body {
                        message,
                        node: if is_graph { NODE } else { FUNCTION_NODE },
                        given: if is_graph { &[] } else { &given },
                        outer: None,
                        version: if is_graph {
                            self.version
                        } else {
                            self.functions.version(index)
                        },
                        depth: DEPTH_MAX.saturating_sub(1),
                    };
                    let scope = self.scope(body)?;
                    push(&mut copy, number, &self.body(body, &scope)?);
                }
                field => push_field(&mut copy, number, field),
            }
        }
        Ok(copy)
    }

    /// Copies a graph or a function with its divisions rewritten.
    fn body(&mut self, body: Body<'_, 'a>, scope: &Scope<'_, 'a>) -> Result<Vec<u8>, LoadError> {
        let mut copy = Vec::new();
        let mut reader = Reader::new(body.message);
        while let Some((number, field)) = reader.next()? {
            if number != body.node {
                let is_weight = number == INITIALIZER && body.node == NODE;
                if !(is_weight && self.is_trial) {
                    push_field(&mut copy, number, field);
                }
                continue;
            }
            let message = field.bytes()?;
            let node = read_node(message)?;
            match scope.unsafe_division(&node) {
                Some(Division::Of(datatype)) => {
                    self.push_division(&mut copy, body.node, &node, datatype);
                }
                Some(Division::OfAny) => self.push_any_division(&mut copy, body, &node)?,
                None if !node.graphs.is_empty() => {
                    let node = self.inner_graphs(message, body, scope)?;
                    push(&mut copy, body.node, &node);
                }
                None => push(&mut copy, body.node, message),
            }
        }
        Ok(copy)
    }

    /// Copies a node with its graphs rewritten.
    fn inner_graphs(
        &mut self,
        node: &'a [u8],
        body: Body<'_, 'a>,
        scope: &Scope<'_, 'a>,
    ) -> Result<Vec<u8>, LoadError> {
        rewritten(node, ATTRIBUTE, |attribute| {
            rewritten(attribute, INNER_GRAPH, |message| {
                let inner = body.within(message, scope)?;
                let scope = self.scope(inner)?;
                self.body(inner, &scope)
            })
        })
    }

    /// Appends the nodes that divide without a trap.
    fn push_division(&mut self, copy: &mut Vec<u8>, field: u64, node: &Node<'_>, datatype: u64) {
        let [dividend, divisor, ..] = node.inputs.as_slice() else {
            return;
        };
        let mut added = self.added();
        let minus_one = added.name("minus_one");
        added.nodes.push(constant(&minus_one, -1, datatype));
        let is_one = added.add("is_minus_one", "Equal", &[divisor, &minus_one]);
        let sign = added.sign(&is_one, datatype);
        let dividend_signed = added.add("dividend", "Mul", &[dividend, &sign]);
        let divisor_signed = added.add("divisor", "Mul", &[divisor, &sign]);
        added.push_to(copy, field, node, &[&dividend_signed, &divisor_signed]);
    }

    /// The same where the datatype is not known: of reals, too, the quotient is what it was.
    ///
    /// # Errors
    /// Kind `Unsupported` where the version has no operator for it.
    fn push_any_division(
        &mut self,
        copy: &mut Vec<u8>,
        body: Body<'_, 'a>,
        node: &Node<'_>,
    ) -> Result<(), LoadError> {
        let [dividend, divisor, ..] = node.inputs.as_slice() else {
            return Ok(());
        };
        if body.version < VERSION_WITH_WHERE {
            let name = node.outputs.first().copied().unwrap_or_default();
            let name = shown(&String::from_utf8_lossy(name));
            return Err(unsupported(format!(
                "'{name}': a division of numbers whose datatype does not follow from the file, and which would end the process if they are integers; \
                 convert the graph to version {VERSION_WITH_WHERE} of ai.onnx or later (it is of {})",
                body.version
            )));
        }
        let mut added = self.added();
        let minus_one = added.name("minus_one");
        added.nodes.push(constant(&minus_one, -1, INT64));
        let as_real = added.cast("as_real", divisor, DOUBLE);
        let as_integer = added.cast("as_integer", &as_real, INT64);
        let is_one = added.add("is_minus_one", "Equal", &[&as_integer, &minus_one]);
        let signed = match body.version < VERSION_WITH_CAST_LIKE {
            true => {
                // What is said of it where the runtime has no `Where` of the datatype.
                let output = node.outputs.first().copied().unwrap_or_default();
                let output = shown(&String::from_utf8_lossy(output));
                let hint = format!(
                    ": the division that gives '{output}', whose datatype does not follow from the file (versions {VERSION_WITH_CAST_LIKE} and later of ai.onnx divide all)"
                );
                let sign = added.add("sign", "Sign", &[divisor]);
                [("dividend", dividend), ("divisor", divisor)].map(|(name, value)| {
                    let signed = added.add(&format!("{name}_signed"), "Mul", &[value, &sign]);
                    added.add_said(name, "Where", &[&is_one, &signed, value], &hint)
                })
            }
            false => {
                let sign = added.sign(&is_one, INT64);
                let sign = added.add("sign_alike", "CastLike", &[&sign, divisor]);
                [("dividend", dividend), ("divisor", divisor)]
                    .map(|(name, value)| added.add(name, "Mul", &[value, &sign]))
            }
        };
        let [dividend_signed, divisor_signed] = &signed;
        added.push_to(copy, body.node, node, &[dividend_signed, divisor_signed]);
        Ok(())
    }

    fn added(&mut self) -> Added {
        self.n_rewritten = self.n_rewritten.saturating_add(1);
        Added {
            prefix: format!("coracle_division_{}_", self.n_rewritten),
            nodes: Vec::new(),
        }
    }

    /// Reads what is known of the values of a graph or a function.
    fn scope<'s>(&mut self, body: Body<'s, 'a>) -> Result<Scope<'s, 'a>, LoadError> {
        let mut scope = Scope {
            outer: body.outer,
            values: body.given.iter().copied().collect(),
            version: body.version,
        };
        let (mut weights, mut nodes) = (Vec::new(), Vec::new());
        let mut reader = Reader::new(body.message);
        while let Some((number, field)) = reader.next()? {
            match number {
                number if number == body.node => nodes.push(read_node(field.bytes()?)?),
                INITIALIZER if body.node == NODE => weights.push(read_tensor(field.message()?)?),
                number if values_of(body.node).contains(&number) => {
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
            seen.may_be_minus_one |= body.outer.is_some() && scope.values.contains_key(name);
            scope.values.insert(name, seen);
        }
        for node in in_order(&nodes) {
            let called = self.called(node, &scope, body.depth)?;
            let looked = self.looked_into(node, body, &scope)?;
            scope.note(looked.as_ref().unwrap_or(node), called.as_deref());
        }
        Ok(scope)
    }

    /// Returns a node with the datatypes that follow within its graphs, where these do not declare those of their outputs.
    fn looked_into(
        &mut self,
        node: &Node<'a>,
        body: Body<'_, 'a>,
        scope: &Scope<'_, 'a>,
    ) -> Result<Option<Node<'a>>, LoadError> {
        if node.of_graph.iter().all(Option::is_some) {
            return Ok(None);
        }
        let mut node = node.clone();
        for message in &node.graphs {
            let inner = body.within(message, scope)?;
            let scope = self.scope(inner)?;
            let outputs = read_outputs(message)?.into_iter();
            let outputs = outputs.map(|(name, _)| scope.seen(name).datatype);
            node.of_graph = either(&node.of_graph, &outputs.collect::<Vec<_>>());
        }
        Ok(Some(node))
    }

    /// Returns the datatypes that functions of the file give where a node calls some.
    fn called(
        &mut self,
        node: &Node<'a>,
        scope: &Scope<'_, 'a>,
        depth: usize,
    ) -> Result<Option<Vec<Option<u64>>>, LoadError> {
        let mut answers: Option<Vec<Option<u64>>> = None;
        for index in self.functions.named(node.domain, node.operator) {
            let inputs = node.inputs.iter().map(|input| scope.seen(input).datatype);
            let given = self.call(index, inputs.collect(), depth)?;
            answers = Some(match answers {
                None => given,
                // Overloads; which one is meant is not looked at.
                Some(before) => before
                    .into_iter()
                    .zip(given)
                    .map(|(one, other)| one.filter(|_| one == other))
                    .collect(),
            });
        }
        Ok(answers)
    }

    /// Returns the datatypes that a function gives for those of its inputs, and looks into it at the first such call.
    fn call(
        &mut self,
        index: usize,
        inputs: Vec<Option<u64>>,
        depth: usize,
    ) -> Result<Vec<Option<u64>>, LoadError> {
        if let Some(known) = self.functions.answer(index, &inputs) {
            return Ok(known);
        }
        let Some((function, depth)) = self.functions.begin(index, &inputs, depth) else {
            return Ok(Vec::new());
        };
        let given: Vec<(&[u8], Seen)> = function.given(&inputs);
        let body = Body {
            message: function.message,
            node: FUNCTION_NODE,
            given: &given,
            outer: None,
            version: function.version,
            depth,
        };
        let scope = self.scope(body)?;
        // What is called by graphs within its nodes.
        self.body(body, &scope)?;
        let outputs = function.outputs.iter();
        let outputs: Vec<Option<u64>> = outputs.map(|name| scope.seen(name).datatype).collect();
        self.functions.end(index, inputs, outputs.clone());
        Ok(outputs)
    }
}

/// The nodes that come before a division.
struct Added {
    prefix: String,
    nodes: Vec<Vec<u8>>,
}

impl Added {
    fn name(&self, suffix: &str) -> Vec<u8> {
        [&self.prefix, suffix].concat().into_bytes()
    }

    fn add(&mut self, name: &str, operator: &str, inputs: &[&[u8]]) -> Vec<u8> {
        let name = self.name(name);
        self.nodes.push(node_of(operator, inputs, &name));
        name
    }

    /// Appends a node whose own name, which the runtime tells with what is wrong with it, ends with `said`.
    fn add_said(&mut self, name: &str, operator: &str, inputs: &[&[u8]], said: &str) -> Vec<u8> {
        let name = self.name(name);
        let mut node = node_of(operator, inputs, &name);
        push(&mut node, 3, &[&name, said.as_bytes()].concat());
        self.nodes.push(node);
        name
    }

    fn cast(&mut self, name: &str, input: &[u8], datatype: u64) -> Vec<u8> {
        let name = self.name(name);
        let node = [node_of("Cast", &[input], &name), cast_to(datatype)].concat();
        self.nodes.push(node);
        name
    }

    /// Appends what is -1 where `is_one`, and 1 elsewhere.
    fn sign(&mut self, is_one: &[u8], datatype: u64) -> Vec<u8> {
        let [one, two] = ["one", "two"].map(|name| self.name(name));
        for (name, value) in [(&one, 1), (&two, 2)] {
            self.nodes.push(constant(name, value, datatype));
        }
        let as_number = self.cast("as_number", is_one, datatype);
        let doubled = self.add("doubled", "Mul", &[&as_number, &two]);
        self.add("sign", "Sub", &[&one, &doubled])
    }

    /// Appends all of them, and the division of what they give.
    fn push_to(mut self, copy: &mut Vec<u8>, field: u64, node: &Node<'_>, inputs: &[&[u8]]) {
        let output = node.outputs.first().copied().unwrap_or_default();
        self.nodes.push(node_of(OPERATOR, inputs, output));
        for node in &self.nodes {
            push(copy, field, node);
        }
    }
}

/// Returns the fields with declarations of values, of graphs or of functions.
fn values_of(node: u64) -> &'static [u64] {
    if node == NODE { &VALUES } else { &[OUTPUT] }
}

impl<'a> Scope<'_, 'a> {
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

    /// Returns the datatype of an output of a node.
    fn of_output(&self, node: &Node<'a>, place: usize) -> Option<u64> {
        let operator = str::from_utf8(node.operator).unwrap_or_default();
        let of_input = |place: usize| {
            let input = node.inputs.get(place)?;
            self.seen(input).datatype
        };
        let is_among = |names: &[&str]| names.binary_search(&operator).is_ok();
        let is_known = self.version <= VERSION_KNOWN_MAX;
        match (node.domain, operator, place) {
            (b"ai.onnx.ml", "ArrayFeatureExtractor" | "Binarizer" | "Imputer", 0) => of_input(0),
            (
                b"ai.onnx.ml",
                "CategoryMapper" | "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier",
                0,
            ) => Some(INT64),
            (b"ai.onnx.ml", "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier", 1) => {
                Some(NO_INTEGER)
            }
            (b"ai.onnx.ml", _, _) => is_among(&NO_INTEGERS_ML).then_some(NO_INTEGER),
            (b"com.microsoft", "ExpandDims" | "FusedGemm" | "GatherND" | "Range" | "Trilu", 0) => {
                of_input(0)
            }
            (b"com.microsoft", _, _) => is_among(&NO_INTEGERS_MICROSOFT).then_some(NO_INTEGER),
            (b"" | b"ai.onnx", _, _) => match (operator, place) {
                ("Cast", _) => node.to,
                ("Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin", _) => Some(INT64),
                ("NonMaxSuppression" | "SequenceLength", _) => Some(INT64),
                ("ConvInteger" | "MatMulInteger", _) => Some(INT32),
                ("TopK" | "MaxPool" | "StringSplit", 1) | ("Unique", 1..) => Some(INT64),
                ("MaxPool" | "StringSplit", _) => Some(NO_INTEGER),
                ("Constant", _) => node.value.and_then(|value| value.datatype),
                // Without a value, zeros that are floats.
                ("ConstantOfShape", _) => match node.value {
                    Some(value) => value.datatype,
                    None => Some(NO_INTEGER).filter(|_| !node.has_reference),
                },
                ("CastLike", _) => of_input(1),
                ("OneHot", _) => of_input(2),
                ("Where", _) => of_input(1).or_else(|| of_input(2)),
                ("If" | "Scan", _) => node.of_graph.get(place).copied().flatten(),
                // The first of its graph tells whether to go on.
                ("Loop", _) => {
                    let place = place.saturating_add(1);
                    node.of_graph.get(place).copied().flatten()
                }
                ("Split", _) => of_input(0),
                (_, 0) if is_among(&KEEP_DATATYPE) => of_input(0),
                _ if is_known && is_among(&NO_INTEGERS) => Some(NO_INTEGER),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes in what a node gives; `called` is what functions of the file give that it calls.
    fn note(&mut self, node: &Node<'a>, called: Option<&[Option<u64>]>) {
        let is_standard = matches!(node.domain, b"" | b"ai.onnx");
        let operator = str::from_utf8(node.operator).unwrap_or_default();
        let operator = if is_standard { operator } else { "" };
        let is_of_sizes = !node.inputs.is_empty()
            && (node.inputs.iter()).all(|input| !self.seen(input).may_be_minus_one);
        let is_size = match operator {
            "Shape" | "Size" => true,
            "Constant" => node.value.is_some_and(|value| !value.may_be_minus_one),
            _ => is_of_sizes && KEEP_SIZES.contains(&operator),
        };
        let given: Vec<Seen> = (0..node.outputs.len())
            .map(|place| Seen {
                datatype: match called {
                    Some(called) => called.get(place).copied().flatten(),
                    None => self.of_output(node, place),
                },
                may_be_minus_one: called.is_some() || !is_size || place > 0,
            })
            .collect();
        for (output, seen) in node.outputs.iter().zip(given) {
            // What the file declares, the runtime checks.
            let declared = self.values.get(output).and_then(|seen| seen.datatype);
            let datatype = seen.datatype.or(declared);
            self.values.insert(output, Seen { datatype, ..seen });
        }
    }

    /// Returns what of a division a processor may trap, if a node is one.
    fn unsafe_division(&self, node: &Node<'a>) -> Option<Division> {
        let is_division =
            node.operator == OPERATOR.as_bytes() && matches!(node.domain, b"" | b"ai.onnx");
        let [dividend, divisor] = *node.inputs.as_slice() else {
            return None;
        };
        let (dividend, divisor) = (self.seen(dividend), self.seen(divisor));
        let own = node.outputs.first().map(|output| self.seen(output));
        let own = own.and_then(|own| own.datatype);
        // All three are of one datatype.
        let datatype = dividend.datatype.or(divisor.datatype).or(own);
        if !is_division || !divisor.may_be_minus_one {
            return None;
        }
        match datatype {
            Some(datatype @ (INT32 | INT64)) => Some(Division::Of(datatype)),
            Some(_no_integer) => None,
            None => Some(Division::OfAny),
        }
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
mod tests;
