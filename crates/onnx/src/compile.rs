//! From a graph to a plan: names become places, operators are built, constants are computed once.

use std::collections::{HashMap, HashSet};

use coracle_model::LoadError;
use coracle_tensor::{DType, Tensor};

use crate::attributes::Attributes;
use crate::ensemble::TreeKernels;
use crate::error::{limit, malformed, unsupported};
use crate::file::{Attribute, GraphFile, MapType, NodeFile, shown};
use crate::labels::Labels;
use crate::ops::registry::{self, Build};
use crate::plan::{Plan, Source, Step};
use crate::scan;
use crate::tensor_file::{External, dtype};

/// What all operators of a model are built with.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'e> {
    /// The version of each domain.
    pub(crate) opsets: &'e [(&'e str, i64)],
    /// Domain and name of the functions that the file defines.
    pub(crate) functions: &'e [(&'e str, &'e str)],
    pub(crate) kernels: &'e dyn TreeKernels,
    pub(crate) external: External<'e>,
}

/// A compiled graph.
pub(crate) struct Compiled<'a> {
    pub(crate) plan: Plan,
    /// For each output the classes of its columns, where the graph makes maps of it.
    pub(crate) maps: Vec<Option<Labels>>,
    /// The values of an enclosing graph that this one reads, after its own inputs.
    pub(crate) captured: Vec<&'a str>,
}

/// An input of a graph.
#[derive(Clone, Copy)]
pub(crate) struct GraphInput<'a> {
    pub(crate) name: &'a str,
    pub(crate) dtype: Option<DType>,
    /// What its maps hold, where it is one: texts of JSON then.
    pub(crate) map: Option<MapType>,
}

/// A value while the graph is compiled.
#[derive(Clone)]
struct Known {
    source: Source,
    dtype: Option<DType>,
    form: Form,
}

/// What a value is to the operators that take it.
#[derive(Clone)]
enum Form {
    Tensor,
    /// Maps that came in, which few operators take.
    MapsIn(MapType),
    /// Maps that are made of a tensor, whose columns these are.
    MapsOut(Labels),
}

struct Compiler<'e, 'a> {
    environment: Environment<'e>,
    plan: Plan,
    known: HashMap<&'a str, Known>,
    /// Names of an enclosing graph.
    outer: &'e HashSet<&'a str>,
    captured: Vec<&'a str>,
    n_inputs: usize,
    /// The elements that operators have read and made at load.
    n_folded: usize,
}

/// The most elements that operators may read and make at load.
const FOLDED_MAX: usize = 1 << 26;

/// The domains and the newest version of each that is read.
const DOMAINS: [(&str, i64, i64); 3] = [("", 1, 25), ("ai.onnx.ml", 1, 5), ("com.microsoft", 1, 1)];

/// Checks that the versions of the domains that nodes use are ones that are read.
fn opset(environment: &Environment<'_>, node: &NodeFile<'_>) -> Result<i64, LoadError> {
    let Some(&(_, oldest, newest)) = DOMAINS.iter().find(|(name, ..)| *name == node.domain) else {
        return Err(unknown_operator(environment, node));
    };
    let versions = environment.opsets.iter();
    // A domain may be listed twice; the newest listing counts, as for ONNX Runtime.
    let version = versions
        .filter(|(name, _)| *name == node.domain)
        .map(|(_, version)| *version)
        .max();
    match version {
        Some(version) if (oldest..=newest).contains(&version) => Ok(version),
        Some(version) => Err(unsupported(format!(
            "version {version} of domain '{}'; {oldest} to {newest} are read",
            domain_name(node.domain)
        ))),
        None => Err(malformed(format!(
            "the file does not import domain '{}'",
            domain_name(node.domain)
        ))),
    }
}

fn domain_name(domain: &str) -> String {
    match domain {
        "" => "ai.onnx".to_owned(),
        domain => shown(domain),
    }
}

fn unknown_operator(environment: &Environment<'_>, node: &NodeFile<'_>) -> LoadError {
    let is_function = environment.functions.contains(&(node.domain, node.op_type));
    let what = if is_function {
        "a function that the file defines"
    } else {
        "operator"
    };
    unsupported(format!(
        "{what} '{}' of domain '{}' is not among those that Coracle's own kernels run",
        shown(node.op_type),
        domain_name(node.domain)
    ))
}

/// Compiles a graph whose inputs have these names and datatypes.
pub(crate) fn compile<'a>(
    graph: &GraphFile<'a>,
    inputs: &[GraphInput<'a>],
    outer: &HashSet<&'a str>,
    environment: Environment<'_>,
) -> Result<Compiled<'a>, LoadError> {
    if graph.n_sparse > 0 {
        return Err(unsupported("sparse initialisers are not supported"));
    }
    let mut compiler = Compiler {
        environment,
        plan: Plan::default(),
        known: HashMap::new(),
        outer,
        captured: Vec::new(),
        n_inputs: inputs.len(),
        n_folded: 0,
    };
    for (index, input) in inputs.iter().enumerate() {
        let form = input.map.map_or(Form::Tensor, Form::MapsIn);
        compiler.define(input.name, Source::Input(index), input.dtype, form)?;
    }
    for (name, tensor) in &graph.initializers {
        let source = compiler.constant(tensor.clone());
        compiler.define(name, source, Some(tensor.dtype()), Form::Tensor)?;
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        compiler
            .node(node)
            .map_err(|error| error.at(label(index, node)))?;
    }
    let mut maps = Vec::new();
    for output in &graph.outputs {
        let known = compiler.find(output.name)?;
        compiler.plan.outputs.push(known.source);
        maps.push(match known.form {
            Form::Tensor => None,
            Form::MapsOut(labels) => Some(labels),
            Form::MapsIn(_) => return Err(unsupported("a map that comes in goes out again")),
        });
    }
    compiler.plan.plan_frees();
    Ok(Compiled {
        plan: compiler.plan,
        maps,
        captured: compiler.captured,
    })
}

/// Returns how messages name a node.
fn label(index: usize, node: &NodeFile<'_>) -> String {
    match node.name {
        "" => format!("node {index} ({})", shown(node.op_type)),
        name => format!("node '{}' ({})", shown(name), shown(node.op_type)),
    }
}

impl<'a> Compiler<'_, 'a> {
    fn define(
        &mut self,
        name: &'a str,
        source: Source,
        dtype: Option<DType>,
        form: Form,
    ) -> Result<(), LoadError> {
        let known = Known {
            source,
            dtype,
            form,
        };
        if name.is_empty() || self.known.insert(name, known).is_some() {
            return Err(malformed(format!(
                "value '{}' is defined twice",
                shown(name)
            )));
        }
        Ok(())
    }

    fn constant(&mut self, tensor: Tensor) -> Source {
        self.plan.constants.push(tensor);
        Source::Constant(self.plan.constants.len().saturating_sub(1))
    }

    fn find(&mut self, name: &'a str) -> Result<Known, LoadError> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        if !self.outer.contains(name) {
            return Err(malformed(format!(
                "value '{}' is read, but no input or earlier node gives it",
                shown(name)
            )));
        }
        let source = Source::Input(self.n_inputs.saturating_add(self.captured.len()));
        self.captured.push(name);
        self.define(name, source, None, Form::Tensor)?;
        self.find(name)
    }

    fn node(&mut self, node: &NodeFile<'a>) -> Result<(), LoadError> {
        let version = opset(&self.environment, node)?;
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &name in &node.inputs {
            inputs.push(match name {
                "" => None,
                name => Some(self.find(name)?),
            });
        }
        match (node.domain, node.op_type) {
            ("ai.onnx.ml", "ZipMap") => return self.zip_map(node, &inputs),
            ("", "Identity") => return self.alias(node, &inputs),
            ("", "Scan") => return self.scan(node, version, inputs),
            _ => {}
        }
        let map = map_of(node, &inputs)?;
        let dtypes: Vec<Option<DType>> = inputs
            .iter()
            .map(|known| known.as_ref().and_then(|known| known.dtype))
            .collect();
        let build = Build {
            attributes: Attributes::of(node),
            opset: version,
            dtypes: &dtypes,
            map,
            n_outputs: node.outputs.len(),
            kernels: self.environment.kernels,
        };
        let operator = registry::build(node.domain, node.op_type, &build)
            .ok_or_else(|| unknown_operator(&self.environment, node))??;
        build.attributes.check_all_used()?;
        let sources: Vec<Option<Source>> = inputs
            .iter()
            .map(|known| known.as_ref().map(|known| known.source))
            .collect();
        let cast_to = cast_target(node);
        let results = (0..node.outputs.len()).map(|output| {
            registry::result_dtype(node.domain, node.op_type, &dtypes, output, cast_to)
        });
        self.push(node, operator, sources, results.collect())
    }

    /// Adds a step; if all it reads is constant, runs it now instead.
    fn push(
        &mut self,
        node: &NodeFile<'a>,
        operator: Box<dyn registry::Operator>,
        inputs: Vec<Option<Source>>,
        dtypes: Vec<Option<DType>>,
    ) -> Result<(), LoadError> {
        let constants: Option<Vec<Option<&Tensor>>> = inputs
            .iter()
            .map(|source| match source {
                None => Some(None),
                Some(Source::Constant(index)) => self.plan.constants.get(*index).map(Some),
                Some(_) => None,
            })
            .collect();
        if let Some(constants) = constants {
            let results = operator
                .run(&constants)
                .map_err(|error| unsupported(error.to_string()))?;
            let touched = constants
                .iter()
                .flatten()
                .map(|tensor| tensor.values().len());
            let made = results.iter().map(|tensor| tensor.values().len());
            self.n_folded = touched
                .chain(made)
                .fold(self.n_folded, usize::saturating_add);
            if self.n_folded > FOLDED_MAX {
                return Err(limit(format!(
                    "the graph's constants take more than {FOLDED_MAX} elements to compute"
                )));
            }
            for (&name, tensor) in node.outputs.iter().zip(results) {
                let dtype = Some(tensor.dtype());
                let source = self.constant(tensor);
                if !name.is_empty() {
                    self.define(name, source, dtype, Form::Tensor)?;
                }
            }
            return Ok(());
        }
        self.plan.mixes_rows |= !self.keeps_rows(node, &inputs);
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for (&name, dtype) in node.outputs.iter().zip(dtypes) {
            if name.is_empty() {
                outputs.push(None);
                continue;
            }
            let slot = self.plan.n_slots;
            self.plan.n_slots = slot.saturating_add(1);
            self.define(name, Source::Slot(slot), dtype, Form::Tensor)?;
            outputs.push(Some(slot));
        }
        let label = label(self.plan.steps.len(), node);
        self.plan.steps.push(Step {
            operator,
            label,
            inputs,
            outputs,
            frees: Vec::new(),
        });
        Ok(())
    }

    /// Tells whether a node surely computes row by row. Shapes are not known here, so that is said of few operators.
    fn keeps_rows(&self, node: &NodeFile<'a>, inputs: &[Option<Source>]) -> bool {
        let is_one = |source: &Option<Source>| match source {
            Some(Source::Constant(index)) => {
                let constant = self.plan.constants.get(*index);
                constant.is_some_and(|tensor| tensor.values().len() == 1)
            }
            _ => false,
        };
        match (node.domain, node.op_type) {
            ("ai.onnx.ml", "ArrayFeatureExtractor" | "FeatureVectorizer") => false,
            ("ai.onnx.ml", _)
            | ("", "Cast" | "Exp" | "Log" | "Sqrt" | "Abs" | "Neg" | "Sigmoid" | "Tanh" | "Relu") => {
                true
            }
            ("", "Add" | "Sub" | "Mul" | "Div") => inputs.iter().any(is_one),
            _ => false,
        }
    }

    fn only(
        &self,
        node: &NodeFile<'a>,
        inputs: &[Option<Known>],
    ) -> Result<(Known, &'a str), LoadError> {
        match (inputs, node.outputs.as_slice()) {
            ([Some(input)], &[output]) => Ok((input.clone(), output)),
            _ => Err(malformed("one input and one output belong there")),
        }
    }

    fn alias(&mut self, node: &NodeFile<'a>, inputs: &[Option<Known>]) -> Result<(), LoadError> {
        let (input, output) = self.only(node, inputs)?;
        self.define(output, input.source, input.dtype, input.form)
    }

    /// Makes maps of a tensor: the tensor stays, and its columns have names.
    fn zip_map(&mut self, node: &NodeFile<'a>, inputs: &[Option<Known>]) -> Result<(), LoadError> {
        let (input, output) = self.only(node, inputs)?;
        let attributes = Attributes::of(node);
        let labels = Labels::read(&attributes, "classlabels_int64s", "classlabels_strings")?;
        attributes.check_all_used()?;
        self.define(output, input.source, input.dtype, Form::MapsOut(labels))
    }

    fn scan(
        &mut self,
        node: &NodeFile<'a>,
        version: i64,
        inputs: Vec<Option<Known>>,
    ) -> Result<(), LoadError> {
        map_of(node, &inputs)?;
        let names: HashSet<&'a str> = self.known.keys().copied().collect();
        let (operator, captured) = scan::build(node, version, &names, self.environment)?;
        let mut sources: Vec<Option<Source>> = inputs
            .iter()
            .map(|known| known.as_ref().map(|known| known.source))
            .collect();
        for name in captured {
            let known = self.find(name)?;
            if !matches!(known.form, Form::Tensor) {
                let name = shown(name);
                return Err(unsupported(format!("the body reads '{name}', a map")));
            }
            sources.push(Some(known.source));
        }
        let dtypes = vec![None; node.outputs.len()];
        self.push(node, operator, sources, dtypes)
    }
}

/// Returns what the map holds that a node takes; no other value that it takes is one.
fn map_of(node: &NodeFile<'_>, inputs: &[Option<Known>]) -> Result<Option<MapType>, LoadError> {
    let of_maps =
        node.domain == "ai.onnx.ml" && ["DictVectorizer", "CastMap"].contains(&node.op_type);
    let mut map = None;
    for (place, input) in inputs.iter().enumerate() {
        match input.as_ref().map(|input| &input.form) {
            None | Some(Form::Tensor) => {}
            Some(Form::MapsIn(kind)) if of_maps && place == 0 => map = Some(*kind),
            Some(_) => return Err(unsupported(format!("input {place} is a map"))),
        }
    }
    Ok(map)
}

/// Returns the datatype that `Cast`, `Constant` and `ConstantOfShape` give.
fn cast_target(node: &NodeFile<'_>) -> Option<DType> {
    node.attributes
        .iter()
        .find_map(|(name, value)| match (*name, value) {
            ("to", Attribute::Int(number)) => dtype(*number),
            ("value", Attribute::Tensor(tensor)) => Some(tensor.dtype()),
            _ => None,
        })
}
