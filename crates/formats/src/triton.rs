//! Triton's model configuration, `config.pbtxt`: what it says of how a model is served, and whether it is true of the model.
//!
//! The file lies in the model's directory, beside the model's file or the numbered directories. [`TritonConfig::beside`] reads it,
//! [`TritonConfig::check`] compares it with the model that was loaded. What has no meaning here is noted with its line.

mod check;
mod engine;
mod fields;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_model::{LoadError, LoadErrorKind};
use coracle_tensor::DType;

use self::text::Place;

/// The name of the file.
const FILE_NAME: &str = "config.pbtxt";
/// The most bytes of a file.
const BYTES_MAX: u64 = 1 << 20;

/// What a `config.pbtxt` says; what it does not mention is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TritonConfig {
    /// The model's name.
    pub name: Option<String>,
    /// What made the model, in Triton's older words, such as `onnxruntime_onnx`.
    pub platform: Option<String>,
    /// What runs it, such as `onnxruntime` or `fil`.
    pub backend: Option<String>,
    /// The most rows of a batch; 0 if requests are not put together, and the shapes tell all dimensions.
    pub max_batch_size: Option<u32>,
    /// What the model takes.
    pub inputs: Vec<TritonTensor>,
    /// What it gives.
    pub outputs: Vec<TritonTensor>,
    /// Which versions are served.
    pub versions: Option<TritonVersions>,
    /// How requests are put together, if they are.
    pub batching: Option<TritonBatching>,
    /// How many calls run at a time on the processor, if that is said: the instances of all groups together.
    pub instances: Option<NonZero<usize>>,
    /// Who waits, how long and how many, if that is said.
    pub queue: TritonQueue,
    /// Whether answers are kept for requests that come again.
    pub response_cache: Option<bool>,
    /// The model's file in the directory of a version.
    pub default_model_filename: Option<String>,
    /// Whatever the model's author noted.
    pub parameters: BTreeMap<String, String>,
    /// How ONNX Runtime is to run the model's graph, in the words of that engine's settings.
    pub engine: BTreeMap<String, String>,
    /// What has no meaning here, each with its line.
    pub notes: Vec<String>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TritonTensor {
    /// The name.
    pub name: String,
    /// The datatype; `None` if it is not mentioned.
    pub dtype: Option<DType>,
    /// The sizes, without the rows where there is a batch size; -1 is any size. `None` if they are not mentioned.
    pub dims: Option<Vec<i64>>,
    /// The line that it begins on.
    pub line: usize,
}

/// Which versions of a model are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TritonVersions {
    /// The newest ones.
    Latest(NonZero<usize>),
    /// All of them.
    All,
    /// These.
    Specific(BTreeSet<u64>),
}

/// How requests are put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TritonBatching {
    /// Numbers of rows that do not wait for more.
    pub preferred_sizes: Vec<usize>,
    /// How long a request waits for others.
    pub max_queue_delay: Duration,
}

/// The bounds of a model's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TritonQueue {
    /// The most calls that wait.
    pub size_max: Option<NonZero<usize>>,
    /// How long a call waits before it is refused.
    pub timeout: Option<Duration>,
}

impl TritonConfig {
    /// Returns the file of the model at `place`, a model's file or a numbered directory, whether it is there or not.
    #[must_use]
    pub fn path_beside(place: &Path) -> PathBuf {
        place.with_file_name(FILE_NAME)
    }

    /// Reads the configuration of the model at `place`, a model's file or a numbered directory; `None` if there is none.
    ///
    /// # Errors
    /// Kind `Malformed` with line and column; `LimitExceeded` for a file that is too large, `Unreadable`.
    pub fn beside(place: &Path) -> Result<Option<Self>, LoadError> {
        let path = Self::path_beside(place);
        if !path.is_file() {
            return Ok(None);
        }
        let at = |kind, what: &str| LoadError::new(kind, format!("{}: {what}", path.display()));
        let unreadable = |error: std::io::Error| {
            at(LoadErrorKind::Unreadable, "cannot be read").with_source(error)
        };
        let size = fs::metadata(&path).map_err(unreadable)?.len();
        if size > BYTES_MAX {
            let what = format!("{size} bytes, at most {BYTES_MAX} are read");
            return Err(at(LoadErrorKind::LimitExceeded, &what));
        }
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(unreadable)?;
        let read = file.take(BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(unreadable)?;
        let config = Self::from_bytes(&bytes);
        config
            .map(Some)
            .map_err(|error| at(error.kind(), &error.to_string()))
    }

    /// Reads the text of a configuration.
    ///
    /// # Errors
    /// Kind `Malformed` with line and column.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let malformed = |what: String| LoadError::new(LoadErrorKind::Malformed, what);
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let valid = String::from_utf8_lossy(valid);
            let place = Place::of(&valid, valid.len());
            malformed(format!("{place}: what follows is no UTF-8"))
        })?;
        let config = text::parse(text).and_then(|message| fields::read(text, &message));
        config.map_err(|fault| {
            let place = Place::of(text, fault.position);
            malformed(format!("{place}: {}", fault.what))
        })
    }
}
