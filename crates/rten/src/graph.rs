//! A graph as the runtime holds it, as a model.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_model::{
    Description, GraphFile, LoadError, Model, RunError, RunErrorKind, RunTime, Signature,
};
use coracle_onnx::{
    MadeUp, Outline, checked_input, checked_of_any_rank, columns, survey, synthetic_inputs,
};
use coracle_tensor::Tensor;
use rten::{ModelOptions, NodeId};

use crate::fitness::unsupported;
use crate::tensors::{given, internal, taken};

/// The sizes that are tried for dimensions whose size is open.
const OPEN_SIZES: [usize; 3] = [4, 32, 1];
/// The numbers of dimensions that are tried where that is open.
const RANKS: [usize; 5] = [2, 1, 4, 3, 0];
/// What the runtime holds of a file: its weights, and once more packed for the kernels.
const BYTES_PER_FILE_BYTE: usize = 2;

/// A graph that the runtime runs.
pub(crate) struct RtenModel {
    signature: Signature,
    description: Description,
    model: rten::Model,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    run_time: RunTime,
    memory_bytes: usize,
    /// Whether any run ever gave an answer; a graph of which none did may be at fault itself.
    has_run: AtomicBool,
}

impl std::fmt::Debug for RtenModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RtenModel")
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

impl RtenModel {
    /// Loads a graph that is fit, and runs it on made-up values.
    pub(crate) fn load(file: GraphFile<'_>, mut outline: Outline) -> Result<Self, LoadError> {
        let survey = survey(file.bytes)?;
        let mut unranked_inputs = Vec::new();
        for (index, spec) in outline.inputs.iter_mut().enumerate() {
            if survey.shapeless.contains(&spec.name) {
                spec.shape = vec![None];
                unranked_inputs.push(index);
            }
        }
        let external = file.external.iter().map(|file| file.bytes.len());
        let n_bytes = external.fold(file.bytes.len(), usize::saturating_add);
        let mut options = ModelOptions::with_all_ops();
        options.prepack_weights(true);
        for external in &file.external {
            options.external_data(&external.location, external.bytes.to_vec());
        }
        let model = options.load(file.bytes.to_vec());
        let model =
            model.map_err(|error| unsupported(format!("rten refuses the graph: {error}")))?;
        let ids = |specs: &[coracle_model::TensorSpec]| {
            let ids = specs.iter().map(|spec| {
                let id = model.node_id(&spec.name);
                id.map_err(|error| unsupported(format!("'{}': {error}", spec.name)))
            });
            ids.collect::<Result<Vec<_>, LoadError>>()
        };
        let (inputs, outputs) = (ids(&outline.inputs)?, ids(&outline.outputs)?);
        if inputs.is_empty() || outputs.is_empty() {
            return Err(unsupported("the graph has no inputs or no outputs"));
        }
        let mut outputs_declared = outline.outputs;
        for output in &mut outputs_declared {
            output.accepts_missing = false;
        }
        let has_open_sizes = outline.inputs.iter();
        let mut has_open_sizes = has_open_sizes.flat_map(|spec| spec.shape.iter().skip(1));
        let is_any = survey.control_flow.is_some()
            || survey.sized_by_values.is_some()
            || has_open_sizes.any(Option::is_none)
            || !unranked_inputs.is_empty();
        let mut described = Self {
            run_time: match is_any {
                true => RunTime::Any,
                false => RunTime::Unknown,
            },
            signature: Signature {
                keyed_outputs: Vec::new(),
                keyed_inputs: Vec::new(),
                name_rules: Default::default(),
                default_outputs: (0..outputs_declared.len()).collect(),
                columns: columns(&outline.inputs).filter(|_| unranked_inputs.is_empty()),
                unranked_inputs,
                inputs: outline.inputs,
                outputs: outputs_declared,
            },
            description: file.description,
            model,
            inputs,
            outputs,
            memory_bytes: n_bytes.saturating_mul(BYTES_PER_FILE_BYTE),
            has_run: AtomicBool::new(false),
        };
        let facts = &mut described.description.root.facts;
        facts.insert(0, ("engine".to_owned(), "rten 0.27".to_owned()));
        for name in file.settings.keys() {
            let message = format!("'{name}' is a setting of ONNX Runtime, rten has none");
            described.description.warn(message);
        }
        described.try_out()?;
        Ok(described)
    }

    /// Runs the graph on made-up values, and learns how many dimensions outputs have of which the file does not say it.
    fn try_out(&mut self) -> Result<(), LoadError> {
        let unranked = &self.signature.unranked_inputs;
        let ranks: &[usize] = if unranked.is_empty() { &[1] } else { &RANKS };
        let ranked = ranks.iter().map(|&rank| {
            let mut specs = self.signature.inputs.clone();
            for &index in unranked {
                if let Some(spec) = specs.get_mut(index) {
                    spec.shape = vec![None; rank];
                }
            }
            specs
        });
        let tries = ranked.flat_map(|specs| {
            let rows = OPEN_SIZES.iter().filter_map(|&open| {
                let made_up = MadeUp {
                    open,
                    seed: 1,
                    scale: 1.0,
                };
                made_up.row(&specs)
            });
            let rows: Vec<Vec<Tensor>> = rows.collect();
            synthetic_inputs(&specs).into_iter().chain(rows)
        });
        let mut failed = None;
        let mut answered = None;
        for inputs in tries {
            match self.all(&inputs) {
                Ok(tensors) => {
                    answered = Some(tensors);
                    break;
                }
                Err(error) => failed = Some(error),
            }
        }
        let Some(tensors) = answered else {
            let error = failed.map_or_else(String::new, |error| error.to_string());
            let message = format!("the graph does not run on made-up values: {error}");
            return Err(unsupported(message));
        };
        for (spec, tensor) in self.signature.outputs.iter_mut().zip(tensors) {
            if spec.shape.len() != tensor.shape().len() {
                // What has as many dimensions as came in has another number for other requests.
                let is_known = self.signature.unranked_inputs.is_empty();
                let rank = if is_known { tensor.shape().len() } else { 1 };
                spec.shape = vec![None; rank];
            }
        }
        Ok(())
    }

    /// Computes all outputs: the order of nodes is found once for them, and not on the stack of who asks.
    fn all(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let specs = &self.signature.inputs;
        if inputs.len() != specs.len() {
            let (came, wanted) = (inputs.len(), specs.len());
            return Err(internal(format!("{came} inputs, model expects {wanted}")));
        }
        let unranked = &self.signature.unranked_inputs;
        let values = inputs.iter().zip(specs).zip(&self.inputs).enumerate();
        let values = values.map(|(index, ((input, spec), &id))| {
            let checked = match unranked.contains(&index) {
                true => checked_of_any_rank(input, spec)?,
                false => checked_input(input, spec)?,
            };
            Ok((id, given(checked.as_ref(), &spec.name)?.into()))
        });
        let values = values.collect::<Result<Vec<_>, RunError>>()?;
        let run = || self.model.run(values, &self.outputs, None);
        let answered = catch_unwind(AssertUnwindSafe(run));
        let answered = answered.map_err(|_panic| internal("rten panics over these inputs"))?;
        let answered = answered.map_err(|error| self.failed(&error))?;
        let answered = answered.into_iter().zip(&self.signature.outputs);
        let tensors = answered.map(|(value, spec)| taken(value, spec));
        let tensors = tensors.collect::<Result<Vec<_>, RunError>>()?;
        if !self.has_run.load(Ordering::Relaxed) {
            self.has_run.store(true, Ordering::Relaxed);
        }
        Ok(tensors)
    }

    /// Says what a run failed of. A graph that has run fails of what it was given.
    fn failed(&self, error: &rten::RunError) -> RunError {
        if !self.has_run.load(Ordering::Relaxed) {
            return internal(format!("the graph does not run: {error}"));
        }
        let message = format!("the graph does not run on these inputs: {error}");
        RunError::new(RunErrorKind::ShapeMismatch, message)
    }
}

impl Model for RtenModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let all = self.all(inputs)?;
        let wanted = outputs.iter().map(|&index| {
            let tensor = all.get(index).cloned();
            tensor.ok_or_else(|| internal(format!("there is no output {index}")))
        });
        wanted.collect()
    }

    fn run_time(&self) -> RunTime {
        self.run_time
    }

    /// Nothing in a graph says so, and each run has all threads anyhow.
    fn rows_are_independent(&self) -> bool {
        false
    }

    fn stays_on_its_thread(&self) -> bool {
        false
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}
