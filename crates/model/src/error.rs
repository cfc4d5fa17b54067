//! The errors of loading and of running a model.

use std::fmt;

use coracle_base::Code;

/// Says why a model did not load.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadErrorKind {
    /// No file or directory is at the path, or no model file is in the directory.
    NotFound,
    /// The directory holds several model files where one is allowed.
    Ambiguous,
    /// The file could not be read from disk.
    Unreadable,
    /// The file names code or data types outside the closed list.
    Refused,
    /// The file is sound, but holds something that Coracle does not serve.
    Unsupported,
    /// The file contradicts itself or its format.
    Malformed,
    /// The file exceeds a bound on size, depth or count.
    LimitExceeded,
}

/// A model that did not load.
#[derive(Debug)]
pub struct LoadError {
    kind: LoadErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl LoadError {
    /// Returns an error of `kind`; `message` says what was wrong, where, and what was allowed.
    #[must_use]
    pub fn new(kind: LoadErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Adds the cause, which `Display` does not repeat.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts a place (a file, an attribute) before the message: `place: message`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Returns why the model did not load.
    #[must_use]
    pub fn kind(&self) -> LoadErrorKind {
        self.kind
    }

    /// Returns the failure in Coracle's closed list.
    #[must_use]
    pub fn code(&self) -> Code {
        match self.kind {
            LoadErrorKind::NotFound => Code::NotFound,
            LoadErrorKind::Unreadable => Code::Unavailable,
            LoadErrorKind::Unsupported => Code::Unimplemented,
            LoadErrorKind::LimitExceeded => Code::ResourceExhausted,
            LoadErrorKind::Ambiguous | LoadErrorKind::Refused | LoadErrorKind::Malformed => {
                Code::FailedPrecondition
            }
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Says why a model gave no answer.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunErrorKind {
    /// An input has a shape the model does not take.
    ShapeMismatch,
    /// An input has a datatype that cannot be converted to the model's.
    DTypeMismatch,
    /// A value is missing (NaN) where the model takes none.
    MissingValue,
    /// A value is infinite or too large for the model's precision.
    ValueOutOfRange,
    /// A value is none that the model knows, and it takes no others.
    UnknownValue,
    /// The result would be too large.
    TooLarge,
    /// The time of the call was over first.
    OutOfTime,
    /// Nobody waited for the answer any more.
    Unwanted,
    /// A defect on our side.
    Internal,
}

/// A run that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    kind: RunErrorKind,
    message: String,
}

impl RunError {
    /// Returns an error of `kind`; `message` says what was wrong, where, and what was allowed.
    #[must_use]
    pub fn new(kind: RunErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Returns why there is no answer.
    #[must_use]
    pub fn kind(&self) -> RunErrorKind {
        self.kind
    }

    /// Returns the failure in Coracle's closed list.
    #[must_use]
    pub fn code(&self) -> Code {
        match self.kind {
            RunErrorKind::ShapeMismatch
            | RunErrorKind::DTypeMismatch
            | RunErrorKind::MissingValue
            | RunErrorKind::ValueOutOfRange
            | RunErrorKind::UnknownValue => Code::InvalidArgument,
            RunErrorKind::TooLarge => Code::ResourceExhausted,
            RunErrorKind::OutOfTime | RunErrorKind::Unwanted => Code::DeadlineExceeded,
            RunErrorKind::Internal => Code::Internal,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RunError {}
