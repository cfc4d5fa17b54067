//! A model as it is, with a note for people.

use std::time::Duration;

use coracle_model::{
    Description, HeldMemory, KnownValue, Model, RunError, RunTime, Signature, Wanted,
};
use coracle_tensor::Tensor;

/// A model with another description.
#[derive(Debug)]
pub(crate) struct Noted {
    model: Box<dyn Model>,
    description: Description,
}

impl Noted {
    /// Adds a fact to what is said of a model.
    pub(crate) fn new(model: Box<dyn Model>, name: &str, value: String) -> Self {
        let mut description = model.description().clone();
        description.root.facts.push((name.to_owned(), value));
        Self { model, description }
    }
}

impl Model for Noted {
    fn signature(&self) -> &Signature {
        self.model.signature()
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        self.model.run(inputs, outputs)
    }

    fn run_within(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
    ) -> Result<Vec<Tensor>, RunError> {
        self.model.run_within(inputs, outputs, time)
    }

    fn run_for(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
        calls: &[Wanted],
    ) -> Result<Vec<Tensor>, RunError> {
        self.model.run_for(inputs, outputs, time, calls)
    }

    fn run_time(&self) -> RunTime {
        self.model.run_time()
    }

    fn rows_are_independent(&self) -> bool {
        self.model.rows_are_independent()
    }

    fn known_value(&self, column: usize) -> Option<KnownValue> {
        self.model.known_value(column)
    }

    fn stays_on_its_thread(&self) -> bool {
        self.model.stays_on_its_thread()
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        self.model.memory_bytes()
    }

    fn shared_memory(&self) -> &[HeldMemory] {
        self.model.shared_memory()
    }
}
