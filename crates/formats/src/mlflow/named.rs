//! A graph of one table whose columns only a signature knows by name.

use std::time::Duration;

use coracle_model::{
    Description, HeldMemory, KnownValue, Model, RunError, RunTime, Signature, Wanted,
};
use coracle_tensor::{DType, Tensor};

/// A model whose table has names of columns.
#[derive(Debug)]
struct Named {
    model: Box<dyn Model>,
    signature: Signature,
}

/// Returns `model` with names for the columns of its only input, if that is a table of as many numbers a row; as it is otherwise.
pub(super) fn around(model: Box<dyn Model>, names: &[String]) -> Box<dyn Model> {
    let mut signature = model.signature().clone();
    let [input] = signature.inputs.as_mut_slice() else {
        return model;
    };
    let is_table = !matches!(input.dtype, DType::Bytes | DType::Bool);
    let is_nameless = input.columns.is_none() && signature.columns.is_none();
    if !is_table || !is_nameless || input.n_columns() != Some(names.len()) {
        return model;
    }
    input.columns = Some(names.to_vec());
    signature.name_rules.mlflow_names_columns = true;
    Box::new(Named { model, signature })
}

impl Model for Named {
    fn signature(&self) -> &Signature {
        &self.signature
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

    fn stays_on_its_thread(&self) -> bool {
        self.model.stays_on_its_thread()
    }

    fn known_value(&self, column: usize) -> Option<KnownValue> {
        self.model.known_value(column)
    }

    fn description(&self) -> &Description {
        self.model.description()
    }

    fn memory_bytes(&self) -> usize {
        let own = size_of::<Self>().saturating_add(self.signature.memory_bytes());
        self.model.memory_bytes().saturating_add(own)
    }

    fn shared_memory(&self) -> &[HeldMemory] {
        self.model.shared_memory()
    }
}
