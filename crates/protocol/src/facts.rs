//! What the answers about models say, whatever the protocol that says it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_base::{Code, VersionState};
use coracle_model::{Signature, TensorSpec};
use coracle_tensor::DType;

/// A model as metadata and configuration describe it.
#[derive(Clone, Copy, Debug)]
pub struct ModelFacts<'a> {
    /// The name as asked for.
    pub name: &'a str,
    /// The version that is described.
    pub version: &'a str,
    /// The versions that are served, oldest first.
    pub versions: &'a [&'a str],
    /// What made the model, such as `sklearn`.
    pub platform: &'a str,
    /// What it takes and gives.
    pub signature: &'a Signature,
    /// The most elements of a request.
    pub elements_max: usize,
    /// How it is served.
    pub settings: ModelSettings<'a>,
}

/// How a model is served, as far as its configuration shows it; what is not set is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelSettings<'a> {
    /// The most rows of a batch that the model's own configuration allows; 0 if it has requests run alone.
    pub max_batch_size: Option<u32>,
    /// Which versions its own configuration asks for, where it does.
    pub versions: Option<VersionChoice<'a>>,
    /// How requests wait for others.
    pub batching: Option<BatchingFacts<'a>>,
    /// Whether answers are kept for requests that come again.
    pub keeps_answers: bool,
    /// The model's file in the directory of a version, where its own configuration names it.
    pub default_model_filename: Option<&'a str>,
    /// What the model's author noted.
    pub parameters: Option<&'a BTreeMap<String, String>>,
}

/// Which versions of a model are to be served.
#[derive(Clone, Copy, Debug)]
pub enum VersionChoice<'a> {
    /// So many of the newest ones.
    Latest(usize),
    /// All of them.
    All,
    /// These.
    Specific(&'a BTreeSet<u64>),
}

/// How requests wait for others.
#[derive(Clone, Copy, Debug)]
pub struct BatchingFacts<'a> {
    /// Numbers of rows that do not wait for more.
    pub preferred_sizes: &'a [usize],
    /// How long a request waits.
    pub delay: Duration,
}

impl<'a> ModelFacts<'a> {
    /// Returns the outputs, the default ones first.
    pub(crate) fn outputs(self) -> impl Iterator<Item = &'a TensorSpec> {
        self.indexed_outputs().map(|(_, spec)| spec)
    }

    /// Returns the outputs with their indices, the default ones first.
    pub(crate) fn indexed_outputs(self) -> impl Iterator<Item = (usize, &'a TensorSpec)> {
        let signature = self.signature;
        let is_other = |index: &usize| !signature.default_outputs.contains(index);
        let others = (0..signature.outputs.len()).filter(is_other);
        let indices = signature.default_outputs.iter().copied().chain(others);
        indices.filter_map(|index| Some((index, signature.outputs.get(index)?)))
    }

    /// Returns the most rows of a request where the first dimension of every tensor is the rows, else 0: Triton's
    /// `max_batch_size`, which leaves that dimension out of the shapes.
    pub(crate) fn batch_size_max(self) -> i32 {
        let specs = || self.signature.inputs.iter().chain(&self.signature.outputs);
        let has_any_rank = !self.signature.unranked_inputs.is_empty();
        if has_any_rank || specs().any(|spec| spec.shape.first() != Some(&None)) {
            return 0;
        }
        let row_elements = self.signature.inputs.iter().map(|spec| {
            let sizes = spec.shape.iter().flatten();
            sizes.fold(1_usize, |product, &size| product.saturating_mul(size))
        });
        let widest = row_elements.max().unwrap_or(1).max(1);
        let n_rows = self.elements_max.checked_div(widest).unwrap_or(0);
        let n_rows = i32::try_from(n_rows).unwrap_or(i32::MAX);
        let own = self.settings.max_batch_size;
        own.map_or(n_rows, |own| {
            i32::try_from(own).unwrap_or(i32::MAX).min(n_rows)
        })
    }

    /// Returns the sizes of a tensor's dimensions as a configuration has them.
    pub(crate) fn dims(self, spec: &TensorSpec) -> Vec<i64> {
        let rows = usize::from(self.batch_size_max() > 0);
        let dims: Vec<i64> = spec.wire_shape().into_iter().skip(rows).collect();
        // One number per row is a dimension of one in a configuration, which has none without dimensions.
        if dims.is_empty() { vec![1] } else { dims }
    }
}

/// Returns a datatype's name and number in Triton's model configuration.
pub(crate) fn config_datatype(dtype: DType) -> (&'static str, i32) {
    match dtype {
        DType::Bool => ("TYPE_BOOL", 1),
        DType::U8 => ("TYPE_UINT8", 2),
        DType::U16 => ("TYPE_UINT16", 3),
        DType::U32 => ("TYPE_UINT32", 4),
        DType::U64 => ("TYPE_UINT64", 5),
        DType::I8 => ("TYPE_INT8", 6),
        DType::I16 => ("TYPE_INT16", 7),
        DType::I32 => ("TYPE_INT32", 8),
        DType::I64 => ("TYPE_INT64", 9),
        DType::F16 => ("TYPE_FP16", 10),
        DType::F32 => ("TYPE_FP32", 11),
        DType::F64 => ("TYPE_FP64", 12),
        DType::Bytes => ("TYPE_STRING", 13),
        DType::BF16 => ("TYPE_BF16", 14),
    }
}

/// How often something happened, and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountAndTime {
    /// How often.
    pub count: u64,
    /// The time of all together, in nanoseconds.
    pub ns: u64,
}

/// What was counted of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelCounters<'a> {
    /// The name.
    pub name: &'a str,
    /// The version.
    pub version: &'a str,
    /// When the last inference ended, in milliseconds since 1970; 0 if there was none.
    pub last_inference_ms: u64,
    /// Rows of inferences that went well.
    pub inference_count: u64,
    /// Runs of the model.
    pub execution_count: u64,
    /// Requests that went well, from their arrival to their answer.
    pub success: CountAndTime,
    /// Requests that failed.
    pub fail: CountAndTime,
    /// Waiting for a thread.
    pub queue: CountAndTime,
    /// Decoding.
    pub compute_input: CountAndTime,
    /// Running the model.
    pub compute_infer: CountAndTime,
    /// Encoding.
    pub compute_output: CountAndTime,
    /// Requests that were answered without running the model, and looking up their answers.
    pub cache_hit: CountAndTime,
    /// Requests whose answers were kept, and looking for and keeping them.
    pub cache_miss: CountAndTime,
    /// The memory of the model in bytes.
    pub memory_bytes: u64,
}

/// A version of a model as TensorFlow Serving's status tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEntry {
    /// The version.
    pub version: String,
    /// Where it is in its life.
    pub state: VersionState,
    /// Why it did not load.
    pub failure: Option<(Code, String)>,
}

impl VersionEntry {
    /// Returns the state's name and number.
    pub(crate) fn state(&self) -> (&'static str, i32) {
        match self.state {
            VersionState::Start => ("START", 10),
            VersionState::Loading => ("LOADING", 20),
            VersionState::Available => ("AVAILABLE", 30),
            VersionState::Unloading => ("UNLOADING", 40),
            VersionState::End => ("END", 50),
        }
    }
}

/// A version of a model as the index of the repository lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The name.
    pub name: String,
    /// The version; empty if none is there.
    pub version: String,
    /// Where it is in its life.
    pub state: VersionState,
    /// Why it takes no requests.
    pub reason: String,
}

impl IndexEntry {
    /// Returns the state's name.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.state {
            VersionState::Start | VersionState::Loading => "LOADING",
            VersionState::Available => "READY",
            VersionState::Unloading => "UNLOADING",
            VersionState::End => "UNAVAILABLE",
        }
    }
}

/// A registered region of shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionEntry {
    /// The name under which it was registered.
    pub name: String,
    /// The name of the shared memory object.
    pub key: String,
    /// Where the region starts in the object.
    pub offset: u64,
    /// Its length in bytes.
    pub byte_size: u64,
}

/// Triton's extensions of the protocol that are spoken, by their published names.
pub const EXTENSIONS: [&str; 6] = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
    "system_shared_memory",
];
