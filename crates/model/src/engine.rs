//! The contract of an engine that runs whole graphs, as ONNX Runtime does.

use std::path::Path;

use crate::{Description, LoadError, Model};

/// A graph's file, which was read with bounds and found sound.
#[derive(Clone, Debug)]
pub struct GraphFile<'f> {
    /// The file's bytes.
    pub bytes: &'f [u8],
    /// Where the tensors lie that are not in the file; they were looked at, and none is outside of it.
    pub directory: Option<&'f Path>,
    /// The bytes of the tensors in other files.
    pub external_bytes: usize,
    /// What the graph is made of; the engine adds what it is.
    pub description: Description,
}

/// An engine for the graphs that our own kernels do not run.
pub trait GraphEngine: Send + Sync + std::fmt::Debug {
    /// Makes a model of a graph.
    ///
    /// # Errors
    /// Kind `Unsupported` where the engine is not there (the message says how to get it) or does not take the graph.
    fn load(&self, file: GraphFile<'_>) -> Result<Box<dyn Model>, LoadError>;
}
