//! The contract of what makes a model of texts of a graph that takes tokens.

use crate::{LoadError, Model};

/// The files beside a model.
pub trait FilesBeside {
    /// Returns the bytes of a file by its path from the model's directory, parts joined by `/`; `None` where there is no such file.
    ///
    /// # Errors
    /// Kind `LimitExceeded` for a file of more than `bytes_max` bytes, `Unreadable` for one that cannot be read, `Refused` for a path that
    /// leaves the directory.
    fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, LoadError>;
}

/// Puts the step from texts to tokens before a graph, and the step from its tensors to answers behind it.
pub trait TextEngine: Send + Sync + std::fmt::Debug {
    /// Makes a model of texts of a graph beside whose file a tokeniser's lies, or returns the graph where what it takes or gives
    /// is not known to be made of texts.
    ///
    /// # Errors
    /// Kinds `Malformed`, `LimitExceeded` and `Unsupported` where the files contradict themselves or the graph, or ask for what
    /// is not served.
    fn around(
        &self,
        graph: Box<dyn Model>,
        files: &dyn FilesBeside,
    ) -> Result<Box<dyn Model>, LoadError>;

    /// Tells whether classifiers take two texts for each row, whether or not their files say so.
    fn takes_pairs(&self) -> bool {
        false
    }
}
