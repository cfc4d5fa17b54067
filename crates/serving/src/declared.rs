//! What a model's author says of how it is served.

use std::collections::BTreeMap;

use crate::VersionPolicy;

/// What the configuration beside a model's files says, as it is shown to who asks for the model's configuration. It decides nothing
/// here: whoever makes a [`ServedModel`](crate::ServedModel) of the files has heeded it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredConfig {
    /// The most rows of a batch; 0 if requests are not put together.
    pub max_batch_size: Option<u32>,
    /// Which versions are to be served.
    pub versions: Option<VersionPolicy>,
    /// Whether it says how requests are put together.
    pub has_batching: bool,
    /// The model's file in the directory of a version.
    pub default_model_filename: Option<String>,
    /// Whatever the model's author noted.
    pub parameters: BTreeMap<String, String>,
}
