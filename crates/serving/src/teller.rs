//! To whom it is said what an operator should know and nobody asks for: `cli` logs it.

use std::fmt;
use std::sync::Arc;

/// Takes lines for an operator.
#[derive(Clone)]
pub struct Teller(Arc<dyn Fn(&str) + Send + Sync>);

impl Teller {
    /// Returns one that gives every line to `tell`.
    #[must_use]
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Returns one that gives lines to nobody.
    #[must_use]
    pub fn nobody() -> Self {
        Self::new(|_line| {})
    }

    /// Tells a line.
    pub fn tell(&self, line: &str) {
        (self.0)(line);
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller").finish_non_exhaustive()
    }
}
