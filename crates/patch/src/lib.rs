//! Changes to JSON objects as Kubernetes makes them: JSON patch, merge patch, strategic merge patch, server-side apply.
//!
//! Pure functions over JSON values. Knows no kind of object, no store and no HTTP. Start at [`apply`].
#![forbid(unsafe_code)]

mod apply;
mod field_set;
mod managed_fields;
mod strategic;
mod topology;

use json_patch::PatchOperation;
use serde_json::Value;
use thiserror::Error;

pub use apply::{Conflict, apply, conflict_message};
pub use field_set::{FieldSet, PathElement};
pub use managed_fields::{Manager, Operation, record_update};
pub use strategic::strategic_merge;
pub use topology::{ListKind, Topology};

/// A patch that cannot be applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct PatchError {
    kind: PatchErrorKind,
    message: String,
}

/// What is wrong with a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchErrorKind {
    /// It is no patch.
    Malformed,
    /// It is one, and does not fit the object.
    Invalid,
}

impl PatchError {
    fn new(kind: PatchErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Returns what is wrong.
    #[must_use]
    pub fn kind(&self) -> PatchErrorKind {
        self.kind
    }
}

/// The most operations of a JSON patch; Kubernetes' bound.
const OPERATIONS_MAX: usize = 10_000;

/// Applies a JSON patch (RFC 6902).
///
/// A `test` of a missing path against null succeeds, as in Kubernetes' library, on which clients rely.
///
/// # Errors
/// [`PatchError`]; `target` may then be changed in part.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > OPERATIONS_MAX {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {operations}"
        );
        return Err(PatchError::new(PatchErrorKind::Invalid, message));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|error| {
        PatchError::new(
            PatchErrorKind::Malformed,
            format!("the body is no JSON patch: {error}"),
        )
    })?;
    for operation in patch.0 {
        if let PatchOperation::Test(test) = &operation
            && test.value.is_null()
            && target.pointer(test.path.as_str()).is_none()
        {
            continue;
        }
        json_patch::patch(target, std::slice::from_ref(&operation))
            .map_err(|error| PatchError::new(PatchErrorKind::Invalid, error.to_string()))?;
    }
    Ok(())
}

/// Applies a merge patch (RFC 7386).
pub fn merge_patch(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

#[cfg(test)]
mod tests;
