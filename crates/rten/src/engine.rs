//! The runtime behind the contract of engines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use coracle_model::{GraphEngine, GraphFile, LoadError, LoadErrorKind, Model};

use crate::fitness::{self, unsupported};
use crate::graph::RtenModel;

/// The stack that a graph is loaded and first run on, and what each of its nodes adds: the order of nodes is found by recursion.
const STACK_BYTES: usize = 16 << 20;
const STACK_BYTES_PER_NODE: usize = 16 << 10;

/// The runtime, which is part of the program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rten;

impl GraphEngine for Rten {
    fn look(&self) -> Result<(), LoadError> {
        Ok(())
    }

    fn load(&self, file: GraphFile<'_>) -> Result<Box<dyn Model>, LoadError> {
        let outline = fitness::outline_of(&file)?;
        fitness::check(&outline)?;
        let n_nodes = outline.nodes.len();
        let stack_bytes = n_nodes
            .saturating_mul(STACK_BYTES_PER_NODE)
            .saturating_add(STACK_BYTES);
        let load = || {
            let loaded = catch_unwind(AssertUnwindSafe(|| RtenModel::load(file, outline)));
            loaded.unwrap_or_else(|_panic| {
                let message = "rten panics over the graph";
                Err(LoadError::new(LoadErrorKind::Malformed, message))
            })
        };
        let model = thread::scope(|scope| {
            let builder = thread::Builder::new().name("coracle-rten-load".to_owned());
            let loader = builder.stack_size(stack_bytes).spawn_scoped(scope, load);
            let joined = loader.map(|loader| loader.join());
            match joined {
                Ok(Ok(loaded)) => loaded,
                Ok(Err(_panic)) => Err(unsupported("rten panics over the graph")),
                Err(error) => {
                    let message = "no thread can be started to load the graph";
                    Err(LoadError::new(LoadErrorKind::Unreadable, message).with_source(error))
                }
            }
        })?;
        Ok(Box::new(model))
    }
}
