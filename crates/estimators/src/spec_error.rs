//! The error of putting an estimator together from parts that do not fit.

use std::fmt;

/// Parts that do not fit together; the message says which and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    message: String,
}

impl SpecError {
    /// Returns an error with this message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SpecError {}

/// Checks that `what` has `expected` elements.
///
/// # Errors
/// [`SpecError`] naming both numbers.
pub(crate) fn expect_length(what: &str, length: usize, expected: usize) -> Result<(), SpecError> {
    if length == expected {
        return Ok(());
    }
    Err(SpecError::new(format!(
        "{what} has {length} elements, expected {expected}"
    )))
}
