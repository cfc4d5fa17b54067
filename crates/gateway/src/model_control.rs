//! Loading and unloading models on request: what the server asks of whoever owns the models.

use coracle_base::Code;
use coracle_protocol::facts::IndexEntry;

/// Loads and unloads models by name.
pub trait ModelControl: std::fmt::Debug + Send + Sync {
    /// Returns every version of every model that could be loaded, as not loaded.
    fn index(&self) -> Vec<IndexEntry>;

    /// Loads a model, or loads it again; returns once it serves.
    ///
    /// # Errors
    /// If there is no such model, or it does not load; what served before goes on.
    fn load(&self, name: &str) -> Result<(), ControlError>;

    /// Takes a model out of service.
    ///
    /// # Errors
    /// If there is no such model.
    fn unload(&self, name: &str) -> Result<(), ControlError>;
}

/// Why a model was not loaded or unloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlError {
    /// The failure.
    pub code: Code,
    /// What was wrong.
    pub message: String,
}
