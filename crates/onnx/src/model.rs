//! A graph as a model: its signature is the graph's own.

use std::collections::{BTreeMap, HashSet};

use coracle_model::{
    ColumnPlace, Component, Description, LoadError, Model, RunError, Signature, TensorSpec,
};
use coracle_tensor::{DType, Tensor, Values};

use crate::compile::{Environment, GraphInput, compile};
use crate::ensemble::TreeKernels;
use crate::error::{internal, malformed, unsupported};
use crate::file::{
    GraphFile, ModelFile, ValueFile, ValueKind, read_graph, read_graph_as, read_model, shown,
};
use crate::inputs;
use crate::labels::Labels;
use crate::plan::Plan;
use crate::tensor_file::{External, Reading, dtype};

/// The sizes that are tried for dimensions whose size is open: columns that a graph picks may be several, and what is left out because it is
/// one would be missed among the dimensions of the outputs.
const OPEN_SIZES: [usize; 2] = [8, 1];

/// A graph that our own kernels run.
#[derive(Debug)]
pub struct OnnxModel {
    signature: Signature,
    description: Description,
    plan: Plan,
    /// The length of the file: what small operators keep of it is not counted one by one.
    file_bytes: usize,
}

/// Reads an ONNX file and compiles its graph.
///
/// # Errors
/// Kind `Malformed` where the file contradicts itself, `LimitExceeded` where it exceeds a bound, `Unsupported` where it
/// holds an operator, datatype or attribute that our kernels do not run, naming the node.
pub fn load(
    bytes: &[u8],
    external: External<'_>,
    kernels: &dyn TreeKernels,
) -> Result<OnnxModel, LoadError> {
    let file = read_model(bytes).map_err(|error| error.at("not a sound ONNX file"))?;
    let graph = file
        .graph
        .ok_or_else(|| malformed("not a sound ONNX file: there is no graph"))?;
    let graph = read_graph(graph, external)?;
    let constants: HashSet<&str> = graph.initializers.iter().map(|(name, _)| *name).collect();
    let inputs: Vec<&ValueFile<'_>> = graph
        .inputs
        .iter()
        .filter(|input| !constants.contains(input.name))
        .collect();
    if inputs.is_empty() {
        return Err(unsupported(
            "the graph has no inputs, and no protocol has requests without any",
        ));
    }
    let (specs, keyed_inputs) = input_specs(&inputs)?;
    let known = inputs.iter().zip(&specs).map(|(input, spec)| GraphInput {
        name: input.name,
        dtype: Some(spec.dtype),
        map: input.map,
    });
    let known: Vec<GraphInput<'_>> = known.collect();
    let environment = Environment {
        opsets: &file.opsets,
        functions: &file.functions,
        kernels,
        external,
    };
    let compiled = compile(&graph, &known, &HashSet::new(), environment)?;
    let outputs = graph.outputs.iter().zip(&compiled.maps);
    let outputs = outputs.map(|(output, map)| output_spec(output, map.as_ref()));
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    if outputs.is_empty() {
        return Err(malformed("the graph has no outputs"));
    }
    let unranked_inputs = inputs.iter().enumerate();
    let unranked_inputs = unranked_inputs.filter(|(_, input)| input.is_shapeless_tensor());
    let unranked_inputs: Vec<usize> = unranked_inputs.map(|(index, _)| index).collect();
    let maps = compiled.maps.iter().enumerate();
    let signature = Signature {
        keyed_outputs: maps
            .filter_map(|(index, map)| map.is_some().then_some(index))
            .collect(),
        default_outputs: (0..outputs.len()).collect(),
        columns: columns(&specs).filter(|_| keyed_inputs.is_empty() && unranked_inputs.is_empty()),
        keyed_inputs,
        unranked_inputs,
        name_rules: Default::default(),
        inputs: specs,
        outputs,
    };
    let engine = vec![
        (
            "engine",
            "Coracle's own kernels: every operator of the graph is among theirs".to_owned(),
        ),
        (
            "steps after compilation",
            compiled.plan.steps.len().to_string(),
        ),
    ];
    let mut model = OnnxModel {
        description: description(&file, &graph, engine),
        signature,
        plan: compiled.plan,
        file_bytes: bytes.len(),
    };
    model.try_once(&graph.outputs)?;
    Ok(model)
}

pub(crate) fn tensor_spec(value: &ValueFile<'_>, what: &str) -> Result<TensorSpec, LoadError> {
    let place = || format!("{what} '{}'", shown(value.name));
    if value.kind != ValueKind::Tensor {
        return Err(unsupported("not a tensor; only tensors are served").at(place()));
    }
    let dtype = dtype(value.elem_type).ok_or_else(|| {
        unsupported(format!("datatype {} is not supported", value.elem_type)).at(place())
    })?;
    let shape = value.shape.clone().ok_or_else(|| {
        unsupported("the file does not say how many dimensions it has").at(place())
    })?;
    Ok(TensorSpec {
        name: value.name.to_owned(),
        dtype,
        shape,
        columns: None,
        accepts_missing: matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64),
        accepts_integers: false,
    })
}

/// Returns the signatures of inputs, and which of them are maps.
fn input_specs(inputs: &[&ValueFile<'_>]) -> Result<(Vec<TensorSpec>, Vec<usize>), LoadError> {
    let are_all_maps = inputs.iter().all(|input| input.map.is_some());
    let specs = inputs.iter().map(|input| match input.map {
        Some(_) => Ok(maps_spec(input.name, are_all_maps)),
        None if input.is_shapeless_tensor() => {
            let any_rank = ValueFile {
                shape: Some(vec![None]),
                ..(*input).clone()
            };
            tensor_spec(&any_rank, "input")
        }
        None => tensor_spec(input, "input"),
    });
    let specs = specs.collect::<Result<Vec<_>, _>>()?;
    let maps = inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| input.map.is_some());
    Ok((specs, maps.map(|(index, _)| index).collect()))
}

/// Returns the signature of maps that come in, a text of JSON for each; of any number where nothing else comes in.
fn maps_spec(name: &str, are_rows: bool) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype: DType::Bytes,
        shape: vec![if are_rows { None } else { Some(1) }],
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    }
}

/// Returns the signature of an output; maps are given as the tensor that they are made of.
fn output_spec(value: &ValueFile<'_>, map: Option<&Labels>) -> Result<TensorSpec, LoadError> {
    let Some(labels) = map else {
        // Exporters leave the shapes of some outputs out; nothing depends on them.
        let value = ValueFile {
            shape: Some(value.shape.clone().unwrap_or_else(|| vec![None])),
            ..value.clone()
        };
        let mut spec = tensor_spec(&value, "output")?;
        spec.accepts_missing = false;
        return Ok(spec);
    };
    Ok(TensorSpec {
        name: value.name.to_owned(),
        dtype: DType::F32,
        shape: vec![None, Some(labels.len())],
        columns: Some(labels.names()),
        accepts_missing: false,
        accepts_integers: false,
    })
}

/// Describes a graph without compiling it, for an engine that runs what our kernels do not.
///
/// # Errors
/// Kinds `Malformed` and `LimitExceeded`, as [`load`].
pub fn describe(bytes: &[u8], external: External<'_>) -> Result<Description, LoadError> {
    let file = read_model(bytes).map_err(|error| error.at("not a sound ONNX file"))?;
    let graph = file
        .graph
        .ok_or_else(|| malformed("not a sound ONNX file: there is no graph"))?;
    let widens = true;
    let graph = read_graph_as(graph, Reading { external, widens })?;
    Ok(description(&file, &graph, Vec::new()))
}

/// Returns the columns of a row, if each input is a column: of any number of rows, and one wide.
#[must_use]
pub fn columns(specs: &[TensorSpec]) -> Option<Vec<ColumnPlace>> {
    let is_column = |spec: &TensorSpec| matches!(spec.shape.as_slice(), [None] | [None, Some(1)]);
    let is_plain = matches!(specs, [spec] if spec.dtype != DType::Bytes && spec.shape.len() == 2);
    if specs.is_empty() || is_plain || !specs.iter().all(is_column) {
        return None;
    }
    let places = specs.iter().enumerate().map(|(index, spec)| ColumnPlace {
        name: spec.name.clone(),
        input: Some(index),
    });
    Some(places.collect())
}

/// Describes a graph; `engine` says what runs it, and comes first.
fn description(
    file: &ModelFile<'_>,
    graph: &GraphFile<'_>,
    engine: Vec<(&str, String)>,
) -> Description {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for node in &graph.nodes {
        let count = counts.entry(shown(node.op_type)).or_default();
        *count = count.saturating_add(1);
    }
    let operators: Vec<String> = counts
        .iter()
        .map(|(name, count)| match count {
            1 => name.clone(),
            count => format!("{name} ({count})"),
        })
        .collect();
    let opsets: Vec<String> = file
        .opsets
        .iter()
        .map(|(domain, version)| match *domain {
            "" => format!("ai.onnx {version}"),
            domain => format!("{} {version}", shown(domain)),
        })
        .collect();
    let facts = [
        ("opsets", opsets.join(", ")),
        ("operators", operators.join(", ")),
    ];
    let facts = engine.into_iter().chain(facts);
    Description {
        format: format!("ONNX, IR version {}", file.ir_version),
        library: match file.producer {
            "" => "ONNX".to_owned(),
            producer => shown(producer),
        },
        library_version: Some(shown(file.producer_version)).filter(|version| !version.is_empty()),
        root: Component {
            class: "graph".to_owned(),
            facts: facts
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            ..Component::default()
        },
    }
}

impl OnnxModel {
    /// Makes inputs up, sizes that the file leaves open being `open`.
    fn made_up(&self, open: usize) -> Option<Vec<Tensor>> {
        let mut tensors = inputs::synthetic_of(&self.signature.inputs, open)?;
        for &index in &self.signature.keyed_inputs {
            if let Some(tensor) = tensors.get_mut(index) {
                *tensor = Tensor::from_values(Values::Bytes(["{}"].into_iter().collect()));
            }
        }
        Some(tensors)
    }

    /// Runs the graph once, so that datatypes which an operator does not take are found at load, and how many dimensions outputs have that
    /// are `declared` without a shape.
    ///
    /// Values are made up, so an operator that refuses a value or a shape is no reason not to load.
    fn try_once(&mut self, declared: &[ValueFile<'_>]) -> Result<(), LoadError> {
        use coracle_model::RunErrorKind::{DTypeMismatch, Internal};
        let outputs: Vec<usize> = (0..self.signature.outputs.len()).collect();
        let mut results = Vec::new();
        for open in OPEN_SIZES {
            let Some(tensors) = self.made_up(open) else {
                continue;
            };
            match self.run(&tensors, &outputs) {
                Ok(answers) => {
                    results = answers;
                    break;
                }
                Err(error) if matches!(error.kind(), DTypeMismatch | Internal) => {
                    return Err(unsupported(error.to_string()));
                }
                Err(_made_up_values) => {}
            }
        }
        let is_ranked = self.signature.unranked_inputs.is_empty();
        let specs = self.signature.outputs.iter_mut().zip(declared);
        for (result, (spec, declared)) in results.iter().zip(specs) {
            if is_ranked && declared.is_shapeless_tensor() {
                spec.shape = vec![None; result.shape().len()];
            }
            if result.dtype() != spec.dtype {
                return Err(malformed(format!(
                    "output '{}' is of {}, the file declares {}",
                    spec.name,
                    result.dtype(),
                    spec.dtype
                )));
            }
        }
        Ok(())
    }
}

impl Model for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let specs = &self.signature.inputs;
        if inputs.len() != specs.len() {
            return Err(internal(format!(
                "{} inputs, model expects {}",
                inputs.len(),
                specs.len()
            )));
        }
        let unranked = &self.signature.unranked_inputs;
        let checked = inputs.iter().zip(specs).enumerate();
        let checked = checked.map(|(index, (input, spec))| match unranked.contains(&index) {
            true => inputs::checked_of_any_rank(input, spec),
            false => inputs::checked(input, spec),
        });
        let checked = checked.collect::<Result<Vec<_>, _>>()?;
        let tensors: Vec<&Tensor> = checked.iter().map(AsRef::as_ref).collect();
        if !self.signature.keyed_inputs.is_empty() && self.plan.mixes_rows {
            // The graph is of one map; what it makes of several at once may be something else.
            return inputs::map_by_map(&tensors, |tensors| self.plan.run(tensors, outputs));
        }
        self.plan.run(&tensors, outputs)
    }

    fn rows_are_independent(&self) -> bool {
        !self.plan.mixes_rows && self.signature.unranked_inputs.is_empty()
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        self.plan.memory_bytes().max(self.file_bytes)
    }
}
