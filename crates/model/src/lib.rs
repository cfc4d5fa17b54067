//! What a model is to the rest of Coracle: a signature and a function from tensors to tensors.
//!
//! Holds no implementation. [`Model`] is what serving sees; [`Estimator`] and [`Scorer`] are the smaller
//! contracts that models of tables of numbers are composed from (a pipeline of estimators, a
//! classifier over a scorer).

mod columns;
mod description;
mod engine;
mod error;
mod estimator;
mod restated;
mod shared_memory;
mod signature;
mod text;
mod wanted;

pub use columns::{ColumnKind, ColumnSpec, run_on_blocks, run_on_matrix, tensor_of};
pub use description::{Component, Description};
pub use engine::{
    ExternalFile, GraphEngine, GraphFile, NamedProvider, named_providers, needs_a_device,
};
pub use error::{LoadError, LoadErrorKind, RunError, RunErrorKind};
pub use estimator::{Accepts, Estimator, KnownValue, Method, MethodSpec, Scorer, Width};
pub use restated::Restated;
pub use shared_memory::{HeldMemory, SharedMemory};
pub use signature::{ColumnPlace, NameRules, Signature, TensorSpec};
pub use text::{FilesBeside, TextEngine};
pub use wanted::{OnLeave, Wanted, have_all_left, on_all_left};

use std::time::Duration;

use coracle_tensor::Tensor;

/// What is known of the time that a model's runs take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunTime {
    /// It is short for few rows, and goes with their number.
    #[default]
    Short,
    /// It goes with the number of rows, and has to be measured.
    Unknown,
    /// It may be any: what one row took says nothing of the next.
    Any,
    /// It may be any, and passes elsewhere than on the processor, as on a GPU: the thread that calls waits, and calls that come meanwhile are
    /// best run together afterwards.
    Elsewhere,
}

/// A loaded model: immutable, shared by every request that runs on it.
pub trait Model: Send + Sync + std::fmt::Debug {
    /// Returns what the model takes and gives.
    fn signature(&self) -> &Signature;

    /// Computes the outputs at the indices `outputs` (into [`Signature::outputs`]), in that order.
    ///
    /// `inputs` holds one tensor for each of [`Signature::inputs`], in order. The model checks
    /// datatypes and shapes; an input of another numeric datatype than the signature's is converted.
    ///
    /// # Errors
    /// A [`RunError`] whose code is `InvalidArgument` where the inputs are at fault.
    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError>;

    /// Computes as [`Model::run`], and gives up when `time` is over where the model can: one whose runs may take any time, as
    /// loops in graphs do.
    ///
    /// # Errors
    /// As [`Model::run`]; kind [`RunErrorKind::OutOfTime`] where it gave up.
    fn run_within(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
    ) -> Result<Vec<Tensor>, RunError> {
        let _ = time;
        self.run(inputs, outputs)
    }

    /// Computes as [`Model::run_within`], and gives up, too, when nobody waits for any of `calls` any more, where the model can.
    ///
    /// # Errors
    /// As [`Model::run_within`]; kind [`RunErrorKind::Unwanted`] where it gave up because nobody waits.
    fn run_for(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
        calls: &[Wanted],
    ) -> Result<Vec<Tensor>, RunError> {
        let _ = calls;
        self.run_within(inputs, outputs, time)
    }

    /// Returns what is known of the time that runs take before any was measured.
    fn run_time(&self) -> RunTime {
        RunTime::Short
    }

    /// Tells whether each row of every output follows from the same row of the inputs alone, so that the rows of several
    /// requests may share a run.
    fn rows_are_independent(&self) -> bool {
        true
    }

    /// Tells whether a run stays on the thread that it was called on, so that many rows are done sooner in parts on several.
    fn stays_on_its_thread(&self) -> bool {
        true
    }

    /// Returns a value that the model knows for a column of its rows, where it knows only some: for examples of requests.
    fn known_value(&self, column: usize) -> Option<KnownValue> {
        let _ = column;
        None
    }

    /// Returns what the model is made of, for people.
    fn description(&self) -> &Description;

    /// Returns the memory the model holds, in bytes, as counted from its buffers.
    fn memory_bytes(&self) -> usize;

    /// Returns what of that memory other models may hold, too, so that it is there once for all of them.
    fn shared_memory(&self) -> &[HeldMemory] {
        &[]
    }
}
