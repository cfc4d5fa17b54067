//! Parameters as Python writes them, for people.

use coracle_pickle::{Graph, Node, NodeId};

use super::fitted::Fitted;

/// The deepest nesting and the most items of a value that are shown.
const DEPTH_MAX: usize = 3;
const ITEMS_MAX: usize = 8;
/// The most characters of a text that are shown.
const CHARS_MAX: usize = 60;

/// Attributes that are neither constructor parameters nor learnt: bookkeeping of ensembles.
const BOOKKEEPING: [&str; 1] = ["estimator_params"];

/// Returns the constructor parameters in the file's order: attributes without leading or trailing underscore.
pub(super) fn parameters(fitted: &Fitted<'_>) -> Vec<(String, String)> {
    let state = fitted
        .object
        .state
        .and_then(|state| fitted.graph.dict(state));
    let mut parameters = Vec::new();
    for &(key, value) in state.unwrap_or_default() {
        let Some(name) = fitted.graph.str(key) else {
            continue;
        };
        if !name.starts_with('_') && !name.ends_with('_') && !BOOKKEEPING.contains(&name) {
            parameters.push((name.to_owned(), literal(fitted.graph, value, DEPTH_MAX)));
        }
    }
    parameters
}

/// Returns a value as a Python literal, shortened.
fn literal(graph: &Graph, id: NodeId, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else {
        return "...".to_owned();
    };
    match graph.node(id) {
        Node::None => "None".to_owned(),
        Node::Bool(true) => "True".to_owned(),
        Node::Bool(false) => "False".to_owned(),
        Node::Int(value) => value.to_string(),
        Node::Float(value) => float(*value),
        Node::Str(text) => quoted(text),
        Node::List(items) => format!("[{}]", sequence(graph, items, depth)),
        Node::Tuple(items) if items.len() == 1 => format!("({},)", sequence(graph, items, depth)),
        Node::Tuple(items) => format!("({})", sequence(graph, items, depth)),
        Node::Dict(entries) => {
            let shown = entries.iter().take(ITEMS_MAX).map(|(key, value)| {
                format!(
                    "{}: {}",
                    literal(graph, *key, depth),
                    literal(graph, *value, depth)
                )
            });
            format!("{{{}}}", join(shown.collect(), entries.len()))
        }
        Node::Array(array) if array.shape().is_empty() => {
            let number = graph.float(id).map(float);
            number
                .or_else(|| graph.string(id).map(|text| quoted(&text)))
                .unwrap_or_else(|| "array".to_owned())
        }
        Node::Array(array) => format!("array{:?}", array.shape()),
        Node::Object(object) => {
            let name = object
                .class
                .rsplit_once('.')
                .map_or(object.class, |(_, name)| name);
            format!("{name}(...)")
        }
        Node::Global(name) => (*name).to_owned(),
        other => kind_of(other).to_owned(),
    }
}

fn sequence(graph: &Graph, items: &[NodeId], depth: usize) -> String {
    let shown = items
        .iter()
        .take(ITEMS_MAX)
        .map(|&item| literal(graph, item, depth));
    join(shown.collect(), items.len())
}

fn join(mut shown: Vec<String>, n_items: usize) -> String {
    if shown.len() < n_items {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

fn float(value: f64) -> String {
    if value.is_nan() {
        "nan".to_owned()
    } else {
        format!("{value:?}")
    }
}

fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(CHARS_MAX).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("'{}{more}'", shown.escape_debug())
}

/// Returns what a value is, for messages.
pub(super) fn kind_of(node: &Node) -> &'static str {
    match node {
        Node::None => "None",
        Node::Bool(_) => "a truth value",
        Node::Int(_) | Node::BigInt(_) => "an integer",
        Node::Float(_) => "a number",
        Node::Str(_) => "text",
        Node::Bytes(_) => "bytes",
        Node::List(_) => "a list",
        Node::Tuple(_) => "a tuple",
        Node::Set(_) => "a set",
        Node::Dict(_) => "a dict",
        Node::Array(_) => "a numpy array (ndarray)",
        Node::DType(_) => "a numpy dtype",
        Node::Global(_) => "a function or class",
        Node::Object(_) => "an object",
        Node::Slice(_) => "a slice",
    }
}
