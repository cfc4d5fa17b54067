//! A model that is in memory, and the boundary that keeps a panic to one request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_model::{Model, RunError, RunErrorKind, Wanted};
use coracle_tensor::Tensor;

use crate::budget::Charge;

/// The time that loading took, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadPhases {
    /// Fetching the files.
    pub fetch: Duration,
    /// Reading the file's bytes.
    pub read: Duration,
    /// Parsing them.
    pub parse: Duration,
    /// Checking the model and building its kernels.
    pub build: Duration,
    /// Answering a first request of its own.
    pub warm_up: Duration,
}

impl LoadPhases {
    /// Returns every phase with its name, in order.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Duration); 5] {
        [
            ("fetch", self.fetch),
            ("read", self.read),
            ("parse", self.parse),
            ("build", self.build),
            ("warm-up", self.warm_up),
        ]
    }

    /// Returns the time of all phases together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.named().iter().map(|(_, time)| *time).sum()
    }
}

/// A model that is in memory.
#[derive(Debug)]
pub struct LoadedModel {
    name: String,
    model: Box<dyn Model>,
    total_bytes: usize,
    phases: LoadPhases,
    /// What running a row took in warming up.
    warm_run: Option<Duration>,
    /// Its outputs are not row by row, though the signature says so.
    forbids_batches: AtomicBool,
    /// What it takes of the memory budget, if there is one.
    charge: Option<Charge>,
    /// Tells it from what was loaded from other files under the same name.
    content: u64,
}

/// The model panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// What a run came to: what the model said, or that it panicked.
pub(crate) type Attempt = Result<Result<Vec<Tensor>, RunError>, Panicked>;

impl LoadedModel {
    /// Puts `model` under `name`; `phases` is how long loading took.
    #[must_use]
    pub fn new(name: String, model: Box<dyn Model>, phases: LoadPhases) -> Self {
        Self {
            name,
            total_bytes: model.memory_bytes(),
            model,
            phases,
            warm_run: None,
            forbids_batches: AtomicBool::new(false),
            charge: None,
            content: 0,
        }
    }

    /// Notes which files it was loaded from, as a number of its own.
    pub(crate) fn set_content(&mut self, content: u64) {
        self.content = content;
    }

    /// Returns a number that it shares with nothing that was loaded from other files under its name.
    #[must_use]
    pub fn content(&self) -> u64 {
        self.content
    }

    /// Returns it with what it takes of the memory budget.
    pub(crate) fn with_charge(mut self, charge: Charge) -> Self {
        self.charge = Some(charge);
        self
    }

    pub(crate) fn charge(&self) -> Option<&Charge> {
        self.charge.as_ref()
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the model.
    #[must_use]
    pub fn model(&self) -> &dyn Model {
        self.model.as_ref()
    }

    /// Returns the memory the model holds, in bytes; of what other models hold, too, its share, so that the sum over all is what there is.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let shared = self.model.shared_memory().iter();
        shared.fold(self.total_bytes, |bytes, held| {
            bytes.saturating_sub(held.bytes() - held.share_bytes())
        })
    }

    /// Returns the memory the model would hold alone, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Returns how long loading took.
    #[must_use]
    pub fn phases(&self) -> LoadPhases {
        self.phases
    }

    /// Adds to the time that warming up took.
    pub(crate) fn add_warm_up(&mut self, time: Duration) {
        self.phases.warm_up += time;
    }

    /// Notes how long a run of one row took.
    pub fn set_warm_run(&mut self, elapsed: Duration) {
        self.warm_run = Some(elapsed);
    }

    pub(crate) fn warm_run(&self) -> Option<Duration> {
        self.warm_run
    }

    /// Notes that calls to the model cannot be put together.
    pub(crate) fn forbid_batches(&self) {
        self.forbids_batches.store(true, Ordering::Relaxed);
    }

    pub(crate) fn forbids_batches(&self) -> bool {
        self.forbids_batches.load(Ordering::Relaxed) || !self.model().rows_are_independent()
    }

    /// Runs the model; see [`Model::run`].
    ///
    /// # Errors
    /// Those of the model; kind `Internal` too if it panics, which ends this call only.
    pub fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let ran = self.guarded(|model| model.run(inputs, outputs));
        ran.unwrap_or_else(|panicked| Err(self.defect(panicked)))
    }

    /// Runs the model, which may give up when `time` is over; see [`Model::run_within`].
    ///
    /// # Errors
    /// Those of the model; kind `Internal` too if it panics, which ends this call only.
    pub fn run_within(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
    ) -> Result<Vec<Tensor>, RunError> {
        let ran = self.try_run(inputs, outputs, time, &[]);
        ran.unwrap_or_else(|panicked| Err(self.defect(panicked)))
    }

    /// Runs the model, which may give up when `time` is over or nobody waits for any of `calls`, and tells apart whether it failed or
    /// panicked.
    pub(crate) fn try_run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
        calls: &[Wanted],
    ) -> Attempt {
        self.guarded(|model| model.run_for(inputs, outputs, time, calls))
    }

    fn guarded<T>(&self, run: impl FnOnce(&dyn Model) -> T) -> Result<T, Panicked> {
        // A model is immutable, so a panic cannot leave it half changed.
        catch_unwind(AssertUnwindSafe(|| run(self.model.as_ref()))).map_err(|_panic| Panicked)
    }

    /// Returns what a caller is told of a panic.
    pub(crate) fn defect(&self, _panicked: Panicked) -> RunError {
        let message = format!(
            "model '{}' failed; this is a defect of the server, not of the request",
            self.name
        );
        RunError::new(RunErrorKind::Internal, message)
    }
}
