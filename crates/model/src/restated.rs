//! A model as it is, of which something else is said.

use std::time::Duration;

use coracle_tensor::Tensor;

use crate::{Description, HeldMemory, KnownValue, Model, RunError, RunTime, Signature, Wanted};

/// A model with another signature of as many inputs and outputs, or another description.
#[derive(Debug)]
pub struct Restated {
    model: Box<dyn Model>,
    signature: Option<Signature>,
    description: Option<Description>,
}

impl Restated {
    /// Returns `model` with another signature.
    #[must_use]
    pub fn signed(model: Box<dyn Model>, signature: Signature) -> Self {
        Self {
            model,
            signature: Some(signature),
            description: None,
        }
    }

    /// Returns `model` with a further fact in what is said of it.
    #[must_use]
    pub fn noted(model: Box<dyn Model>, name: &str, value: String) -> Self {
        let mut description = model.description().clone();
        description.root.facts.push((name.to_owned(), value));
        Self {
            model,
            signature: None,
            description: Some(description),
        }
    }
}

impl Model for Restated {
    fn signature(&self) -> &Signature {
        let own = self.signature.as_ref();
        own.unwrap_or_else(|| self.model.signature())
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
        let own = self.description.as_ref();
        own.unwrap_or_else(|| self.model.description())
    }

    fn memory_bytes(&self) -> usize {
        let own = self.signature.as_ref().map(Signature::memory_bytes);
        let own = own.map_or(0, |own| size_of::<Self>().saturating_add(own));
        self.model.memory_bytes().saturating_add(own)
    }

    fn shared_memory(&self) -> &[HeldMemory] {
        self.model.shared_memory()
    }
}
