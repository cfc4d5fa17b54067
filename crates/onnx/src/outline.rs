//! What a file holds, for engines that know some of ONNX: operators, versions, datatypes, inputs and outputs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use coracle_model::{LoadError, TensorSpec};
use coracle_tensor::{DType, Tensor, Values};

use crate::error::{limit, malformed};
use crate::file::{Attribute, NodeFile, ValueFile, read_graph_as, read_model, shown};
use crate::model::tensor_spec;
use crate::tensor_file::{External, Reading};

/// The most nodes of all graphs of a file together.
const NODES_MAX: usize = 1 << 18;

/// What a file holds in all its graphs.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Domain and version; ONNX's own domain is the empty one.
    pub opsets: BTreeMap<String, i64>,
    /// The nodes of all graphs, those within others behind them.
    pub nodes: Vec<OutlineNode>,
    /// What the outermost graph takes, without what has a value in the file.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
    /// The datatypes of the tensors in the file.
    pub dtypes: HashSet<DType>,
    /// The names of constants with integers that 32 bits do not hold.
    pub wide_integers: BTreeSet<String>,
    /// Whether the file defines functions of its own.
    pub has_functions: bool,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutlineNode {
    /// Its operator.
    pub operator: String,
    /// The domain of that.
    pub domain: String,
    /// The names of what it takes; empty for what is left out.
    pub inputs: Vec<String>,
    /// Its attributes that are texts.
    pub texts: BTreeMap<String, String>,
    /// Its attributes that are integers.
    pub integers: BTreeMap<String, i64>,
}

/// Reads what a file holds.
///
/// # Errors
/// Kinds `Malformed` and `LimitExceeded` where the file is not sound, `Unsupported` where the outermost graph takes or gives what is
/// no tensor of our datatypes.
pub fn outline(bytes: &[u8], external: External<'_>) -> Result<Outline, LoadError> {
    let file = read_model(bytes)?;
    let outermost = file.graph.ok_or_else(|| malformed("there is no graph"))?;
    let opsets = file.opsets.iter();
    let mut outline = Outline {
        opsets: opsets
            .map(|(domain, version)| ((*domain).to_owned(), *version))
            .collect(),
        has_functions: !file.functions.is_empty(),
        ..Outline::default()
    };
    // Tensors of datatypes that are not ours are refused here.
    let reading = Reading {
        external,
        widens: false,
    };
    let mut ahead = vec![outermost];
    while let Some(bytes) = ahead.pop() {
        let graph = read_graph_as(bytes, reading)?;
        if outline.nodes.len().saturating_add(graph.nodes.len()) > NODES_MAX {
            return Err(limit(format!("more than {NODES_MAX} nodes")));
        }
        for (name, tensor) in &graph.initializers {
            outline.note(name, tensor);
        }
        if std::ptr::eq(bytes, outermost) {
            let constants: HashSet<&str> =
                graph.initializers.iter().map(|(name, _)| *name).collect();
            let inputs = graph.inputs.iter();
            let inputs = inputs.filter(|input| !constants.contains(input.name));
            // Whose number of dimensions the file leaves out has none here.
            let spec = |value: &ValueFile<'_>, what| {
                let mut value = value.clone();
                value.shape.get_or_insert_default();
                tensor_spec(&value, what)
            };
            let inputs = inputs.map(|input| spec(input, "input"));
            outline.inputs = inputs.collect::<Result<_, _>>()?;
            let outputs = graph.outputs.iter().map(|output| spec(output, "output"));
            outline.outputs = outputs.collect::<Result<_, _>>()?;
        }
        for node in &graph.nodes {
            let (outlined, inner) = outline.node(node);
            ahead.extend(inner);
            outline.nodes.push(outlined);
        }
    }
    Ok(outline)
}

impl Outline {
    /// Takes in what a node holds; returns it, and the graphs within it.
    fn node<'a>(&mut self, node: &NodeFile<'a>) -> (OutlineNode, Vec<&'a [u8]>) {
        let mut outlined = OutlineNode {
            operator: shown(node.op_type),
            domain: shown(node.domain),
            inputs: node.inputs.iter().map(|name| (*name).to_owned()).collect(),
            ..OutlineNode::default()
        };
        let output = node.outputs.first().copied().unwrap_or_default();
        let mut within = Vec::new();
        for (name, value) in &node.attributes {
            match value {
                Attribute::Graph(inner) => within.push(*inner),
                Attribute::Tensor(tensor) => self.note(output, tensor),
                Attribute::Ints(ints) if node.op_type == "Constant" => {
                    let values = Values::I64(ints.clone().into());
                    self.note(output, &Tensor::from_values(values));
                }
                Attribute::Text(text) => {
                    let text = shown(&String::from_utf8_lossy(text));
                    outlined.texts.insert((*name).to_owned(), text);
                }
                Attribute::Int(int) => {
                    outlined.integers.insert((*name).to_owned(), *int);
                }
                _ => {}
            }
        }
        (outlined, within)
    }

    fn note(&mut self, name: &str, tensor: &Tensor) {
        self.dtypes.insert(tensor.dtype());
        if let Values::I64(items) = tensor.values()
            && items.iter().any(|&item| i32::try_from(item).is_err())
        {
            self.wide_integers.insert(name.to_owned());
        }
    }
}
