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

/// An execution provider as a setting names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedProvider<'s> {
    /// The name, as it was written.
    pub name: &'s str,
    /// Whether the graph is served without it where it is not there.
    pub is_optional: bool,
}

/// Returns the execution providers of a list such as `tensorrt,cuda?,cpu`, where `?` marks one that may be missing.
pub fn named_providers(list: &str) -> impl Iterator<Item = NamedProvider<'_>> {
    list.split(',').map(|word| {
        let word = word.trim();
        let name = word.strip_suffix('?');
        NamedProvider {
            name: name.unwrap_or(word),
            is_optional: name.is_some(),
        }
    })
}

/// Tells whether settings name an execution provider beside the processor that must be there.
#[must_use]
pub fn needs_a_device(settings: &BTreeMap<String, String>) -> bool {
    let list = settings.get("providers").into_iter();
    let mut providers = list.flat_map(|list| named_providers(list));
    providers.any(|provider| !provider.is_optional && !matches!(provider.name, "" | "cpu"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_that_must_be_there_are_told_from_others() {
        let needs = |list: &str| {
            let settings = [("providers".to_owned(), list.to_owned())];
            needs_a_device(&settings.into())
        };
        assert!(!needs_a_device(&BTreeMap::new()));
        assert!(!needs("cpu") && !needs("cuda?,cpu") && !needs("tensorrt?, cuda?"));
        assert!(needs("cuda") && needs("tensorrt?,cuda,cpu"));
    }
}
