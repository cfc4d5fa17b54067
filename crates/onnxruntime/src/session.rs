//! A graph as ONNX Runtime holds it, as a model.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use coracle_model::{
    Description, GraphFile, LoadError, LoadErrorKind, Model, RunError, RunErrorKind, Signature,
    TensorSpec,
};
use coracle_onnx::{checked_input, columns, synthetic_inputs, with_portable_locale};
use coracle_tensor::{DType, Tensor};
use ort::ErrorCode;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, ValueType};

use crate::library::Library;
use crate::rows;
use crate::tensors::{dtype, internal, lent, taken};

/// Further sessions of a model may take this much together.
const FURTHER_SESSIONS_BYTES: usize = 64 << 20;
/// What a session takes of a file: its weights, and once more packed for the kernels.
const BYTES_PER_FILE_BYTE: usize = 2;
/// The runtime's errors may quote whole graphs.
const MESSAGE_CHARS_MAX: usize = 600;

/// A graph that ONNX Runtime runs.
///
/// The binding lets one call at a time into a session, so calls that meet take further sessions of the same graph while
/// those are small; a large graph has one, and its calls take turns with all threads each.
#[derive(Debug)]
pub(crate) struct SessionModel {
    signature: Signature,
    description: Description,
    rows_are_independent: bool,
    memory_bytes: usize,
    source: Source,
    sessions: Mutex<Sessions>,
    is_free: Condvar,
}

/// What sessions are made of.
struct Source {
    library: &'static Library,
    bytes: Vec<u8>,
    directory: Option<String>,
}

#[derive(Debug)]
struct Sessions {
    free: Vec<Session>,
    n: usize,
    n_max: usize,
}

impl SessionModel {
    /// Makes a session and reads its signature.
    ///
    /// # Errors
    /// Kind `Unsupported` where the runtime refuses the graph, or takes or gives what is no tensor of our datatypes.
    pub(crate) fn load(
        library: &'static Library,
        file: GraphFile<'_>,
        n_sessions_max: usize,
    ) -> Result<Self, LoadError> {
        let directory = file.directory.map(|directory| {
            let text = directory.to_str().map(str::to_owned);
            text.ok_or_else(|| unsupported("the path of the model's directory is not UTF-8"))
        });
        let source = Source {
            library,
            bytes: with_portable_locale(file.bytes)?.into_owned(),
            directory: directory.transpose()?,
        };
        let refused = |error| unsupported(format!("ONNX Runtime refuses the graph: {error}"));
        let session = source.session().map_err(refused)?;
        let has_batches = rows::share_a_dimension(&session);
        let signature = signature(&session)?;
        let weights = file.bytes.len().saturating_add(file.external_bytes);
        let session_bytes = weights.saturating_mul(BYTES_PER_FILE_BYTE).max(1 << 16);
        let further = FURTHER_SESSIONS_BYTES.checked_div(session_bytes);
        let n_max = further
            .map_or(1, |further| further.saturating_add(1))
            .min(n_sessions_max);
        let mut model = Self {
            signature,
            description: described(file.description, library),
            rows_are_independent: false,
            memory_bytes: session_bytes
                .saturating_mul(n_max)
                .saturating_add(file.bytes.len()),
            source,
            sessions: Mutex::new(Sessions {
                free: vec![session],
                n: 1,
                n_max,
            }),
            is_free: Condvar::new(),
        };
        model.try_once();
        model.rows_are_independent = has_batches && rows::are_independent(&model);
        Ok(model)
    }

    /// Runs the graph once on made-up values, which may not suit it: that takes the first run's cost from the first
    /// request, and tells how many dimensions outputs have of which the file does not say it.
    fn try_once(&mut self) {
        let Some(tensors) = synthetic_inputs(&self.signature.inputs) else {
            return;
        };
        let outputs: Vec<usize> = (0..self.signature.outputs.len()).collect();
        let Ok(results) = self.run(&tensors, &outputs) else {
            return;
        };
        for (spec, result) in self.signature.outputs.iter_mut().zip(results) {
            if spec.shape.len() != result.shape().len() {
                spec.shape = vec![None; result.shape().len()];
            }
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session that nobody uses, or makes one, or waits.
    fn session(&self) -> Result<Taken<'_>, RunError> {
        let mut sessions = self.sessions();
        loop {
            if let Some(session) = sessions.free.pop() {
                return Ok(Taken::new(self, session));
            }
            if sessions.n < sessions.n_max {
                sessions.n = sessions.n.saturating_add(1);
                break;
            }
            let waited = self.is_free.wait(sessions);
            sessions = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(sessions);
        let mut place = Taken {
            model: self,
            session: None,
        };
        let made = self.source.session().map_err(internal)?;
        place.session = Some(made);
        Ok(place)
    }
}

/// A session in use, or the place of one; given back when it is dropped.
struct Taken<'m> {
    model: &'m SessionModel,
    session: Option<Session>,
}

impl<'m> Taken<'m> {
    fn new(model: &'m SessionModel, session: Session) -> Self {
        let session = Some(session);
        Self { model, session }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut sessions = self.model.sessions();
        match self.session.take() {
            Some(session) => sessions.free.push(session),
            None => sessions.n = sessions.n.saturating_sub(1),
        }
        drop(sessions);
        self.model.is_free.notify_one();
    }
}

impl Source {
    fn session(&self) -> Result<Session, String> {
        let shown = |error: &dyn std::fmt::Display| shortened(&error.to_string());
        let environment = &self.library.environment;
        let builder = Session::builder(environment).map_err(|error| shown(&error))?;
        let builder = builder
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(|error| shown(&error))?;
        let mut builder = builder
            .with_log_level(LogLevel::Fatal)
            .map_err(|error| shown(&error))?;
        if let Some(directory) = &self.directory {
            let key = "session.model_external_initializers_file_folder_path";
            builder = builder
                .with_config_entry(key, directory)
                .map_err(|error| shown(&error))?;
        }
        let session = builder.commit_from_memory(&self.bytes);
        session.map_err(|error| shortened(error.message()))
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Model for SessionModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let specs = &self.signature.inputs;
        if inputs.len() != specs.len() {
            let (came, wanted) = (inputs.len(), specs.len());
            return Err(internal(format!("{came} inputs, model expects {wanted}")));
        }
        let checked = inputs.iter().zip(specs);
        let checked = checked.map(|(input, spec)| checked_input(input, spec));
        let checked = checked.collect::<Result<Vec<_>, _>>()?;
        let values = checked.iter().zip(specs);
        let values = values.map(|(input, spec)| lent(input, &spec.name));
        let values: Vec<SessionInputValue<'_>> = values.collect::<Result<_, _>>()?;
        let names = outputs.iter().map(|&index| {
            let spec = self.signature.outputs.get(index);
            spec.ok_or_else(|| internal(format!("there is no output {index}")))
        });
        let wanted: Vec<&TensorSpec> = names.collect::<Result<_, _>>()?;
        let mut taken = self.session()?;
        let session = taken
            .session
            .as_mut()
            .ok_or_else(|| internal("a place without a session"))?;
        if wanted.len() == self.signature.outputs.len() {
            let answered = session
                .run(values.as_slice())
                .map_err(|error| failed(&error))?;
            return copied(&answered, &wanted);
        }
        // What is not asked for is not computed.
        let selected = wanted
            .iter()
            .fold(OutputSelector::no_default(), |all, spec| {
                all.with(spec.name.as_str())
            });
        let options = RunOptions::new().map_err(|error| failed(&error))?;
        let options = options.with_outputs(selected);
        let answered = session.run_with_options(values.as_slice(), &options);
        copied(&answered.map_err(|error| failed(&error))?, &wanted)
    }

    fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

fn copied(answered: &SessionOutputs<'_>, wanted: &[&TensorSpec]) -> Result<Vec<Tensor>, RunError> {
    let tensors = wanted.iter().map(|spec| {
        let name = &spec.name;
        let value = answered.get(name);
        let value = value.ok_or_else(|| internal(format!("output \"{name}\" did not come")))?;
        taken(value, name)
    });
    tensors.collect()
}

/// Says what a run failed of. A graph that loaded fails of what it was given, with few exceptions.
fn failed(error: &ort::Error) -> RunError {
    let message = shortened(error.message());
    let is_memory = ["allocate memory", "bad_alloc", "bad allocation"]
        .iter()
        .any(|sign| message.contains(sign));
    let kind = match error.code() {
        _ if is_memory => RunErrorKind::TooLarge,
        ErrorCode::InvalidArgument
        | ErrorCode::GenericFailure
        | ErrorCode::RuntimeException
        | ErrorCode::InvalidGraph => RunErrorKind::ShapeMismatch,
        _ => RunErrorKind::Internal,
    };
    RunError::new(
        kind,
        format!("the graph does not run on these inputs: {message}"),
    )
}

/// The first line of a message, without its end if it is long.
fn shortened(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.chars().take(MESSAGE_CHARS_MAX).collect()
}

fn signature(session: &Session) -> Result<Signature, LoadError> {
    let inputs = session.inputs().iter();
    let inputs = inputs.map(|input| spec(input).map_err(|e| e.at(place("input", input))));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let outputs = session.outputs().iter();
    let outputs = outputs.map(|output| spec(output).map_err(|e| e.at(place("output", output))));
    let mut outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    for output in &mut outputs {
        output.accepts_missing = false;
    }
    if inputs.is_empty() || outputs.is_empty() {
        return Err(unsupported("the graph has no inputs or no outputs"));
    }
    Ok(Signature {
        keyed_outputs: Vec::new(),
        default_outputs: (0..outputs.len()).collect(),
        columns: columns(&inputs),
        inputs,
        outputs,
    })
}

fn place(what: &str, outlet: &Outlet) -> String {
    format!("{what} '{}'", shortened(outlet.name()))
}

fn spec(outlet: &Outlet) -> Result<TensorSpec, LoadError> {
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        let found = outlet.dtype();
        return Err(unsupported(format!("{found}; only tensors are served")));
    };
    let dtype = dtype(*ty).ok_or_else(|| unsupported(format!("datatype {ty} is not supported")))?;
    Ok(TensorSpec {
        name: outlet.name().to_owned(),
        dtype,
        shape: shape
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect(),
        columns: None,
        accepts_missing: matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64),
        accepts_integers: false,
    })
}

fn described(mut description: Description, library: &Library) -> Description {
    let engine = format!(
        "ONNX Runtime {} ({})",
        library.version,
        library.path.display()
    );
    let facts = &mut description.root.facts;
    facts.insert(0, ("engine".to_owned(), engine));
    description
}

pub(crate) fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}
