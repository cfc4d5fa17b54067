//! The contract of an engine that runs whole graphs, as ONNX Runtime does.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Description, LoadError, Model};

/// A graph's file, which was read with bounds and found sound.
#[derive(Clone, Debug)]
pub struct GraphFile<'f> {
    /// The file's bytes.
    pub bytes: &'f [u8],
    /// The files that hold tensors which are not in this one. An engine opens none itself: what was read cannot change any more.
    pub external: Vec<ExternalFile>,
    /// What the graph is made of; the engine adds what it is.
    pub description: Description,
    /// How the graph is to be run, in the engine's own words; an engine refuses what it does not know.
    pub settings: BTreeMap<String, String>,
}

/// A file of tensors beside a graph's.
#[derive(Clone, Debug)]
pub struct ExternalFile {
    /// What the graph calls it.
    pub location: String,
    /// All of it.
    pub bytes: Arc<[u8]>,
}

/// An engine for the graphs that our own kernels do not run.
pub trait GraphEngine: Send + Sync + std::fmt::Debug {
    /// Looks for the engine, before a graph is read for it.
    ///
    /// # Errors
    /// Kind `Unsupported` where the engine is not there; the message says how to get it.
    fn look(&self) -> Result<(), LoadError>;

    /// Makes a model of a graph.
    ///
    /// # Errors
    /// Kind `Unsupported` where the engine is not there (the message says how to get it) or does not take the graph.
    fn load(&self, file: GraphFile<'_>) -> Result<Box<dyn Model>, LoadError>;
}
