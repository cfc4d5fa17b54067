//! The errors of files and of runs, in the words of `coracle-model`.

use coracle_model::{LoadError, LoadErrorKind, RunError, RunErrorKind};

pub(crate) fn malformed(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Malformed, message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}

pub(crate) fn limit(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::LimitExceeded, message)
}

pub(crate) fn shape_error(message: impl Into<String>) -> RunError {
    RunError::new(RunErrorKind::ShapeMismatch, message)
}

pub(crate) fn dtype_error(message: impl Into<String>) -> RunError {
    RunError::new(RunErrorKind::DTypeMismatch, message)
}

pub(crate) fn value_error(message: impl Into<String>) -> RunError {
    RunError::new(RunErrorKind::ValueOutOfRange, message)
}

pub(crate) fn too_large(message: impl Into<String>) -> RunError {
    RunError::new(RunErrorKind::TooLarge, message)
}

pub(crate) fn internal(message: impl Into<String>) -> RunError {
    RunError::new(RunErrorKind::Internal, message)
}
