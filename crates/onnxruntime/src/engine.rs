//! ONNX Runtime behind the contract of engines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use coracle_model::{GraphEngine, GraphFile, LoadError, LoadErrorKind, Model};

use crate::library::{self, Places, Threads};
use crate::session::{Bounds, SessionModel, unsupported};

/// Loading a graph takes no longer than this, with the runs that try it out.
const LOAD_TIME: Duration = Duration::from_secs(30);

/// ONNX Runtime, whose library is looked for when the first graph needs it.
#[derive(Clone, Debug)]
pub struct OnnxRuntime {
    places: Places,
    threads: Threads,
    load_time: Duration,
}

impl OnnxRuntime {
    /// Returns the engine over the library in `places`; runs take up to `n_threads` threads together, which all models share.
    #[must_use]
    pub fn new(places: Places, n_threads: usize) -> Self {
        Self {
            places,
            threads: Threads {
                count: n_threads.max(1),
                spin: false,
            },
            load_time: LOAD_TIME,
        }
    }

    /// Returns the engine with threads that spin for a while when they have nothing to do, instead of sleeping at once: parts of a run
    /// are then begun sooner, and processors are busy that others could have.
    #[must_use]
    pub fn with_spinning(mut self) -> Self {
        self.threads.spin = true;
        self
    }

    /// Returns the engine with so much time to load a graph and to try it out, instead of half a minute.
    #[must_use]
    pub fn with_load_time(mut self, load_time: Duration) -> Self {
        self.load_time = load_time;
        self
    }
}

impl GraphEngine for OnnxRuntime {
    fn look(&self) -> Result<(), LoadError> {
        library::load(&self.places, self.threads).map_err(unsupported)?;
        Ok(())
    }

    fn load(&self, file: GraphFile<'_>) -> Result<Box<dyn Model>, LoadError> {
        let library = library::load(&self.places, self.threads).map_err(unsupported)?;
        let bounds = Bounds {
            load_time: self.load_time,
            n_sessions_max: self.threads.count,
        };
        // The binding has assertions about what the library gives it.
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            SessionModel::load(library, file, bounds)
        }));
        let model = loaded.unwrap_or_else(|_panic| {
            let message = "ONNX Runtime says of this graph what cannot be";
            Err(LoadError::new(LoadErrorKind::Malformed, message))
        })?;
        Ok(Box::new(model))
    }
}
