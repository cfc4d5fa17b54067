//! Why something that a manifest asks for cannot be had.

use std::fmt;

use coracle_base::Code;

/// Says what in a manifest is wrong, and what was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    message: String,
}

impl SpecError {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }

    /// Returns [`Code::InvalidArgument`].
    #[must_use]
    pub fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SpecError {}
