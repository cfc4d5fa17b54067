//! Models by name, and the boundary that keeps a panic to one request.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use coracle_model::{Model, RunError, RunErrorKind};
use coracle_tensor::Tensor;
use thiserror::Error;

use crate::{CallCost, ModelStatistics};

/// The time that loading took, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadPhases {
    /// Reading the file's bytes.
    pub read: Duration,
    /// Parsing them.
    pub parse: Duration,
    /// Checking the model and building its kernels.
    pub build: Duration,
}

/// A model under a name.
#[derive(Debug)]
pub struct ServedModel {
    name: String,
    model: Box<dyn Model>,
    memory_bytes: usize,
    phases: LoadPhases,
    cost: CallCost,
    statistics: ModelStatistics,
}

impl ServedModel {
    /// The version of every model: versions side by side are not there yet.
    pub const VERSION: &'static str = "1";

    /// Puts `model` under `name`; calls are counted for each of `n_workers` event loops.
    #[must_use]
    pub fn new(name: String, model: Box<dyn Model>, phases: LoadPhases, n_workers: usize) -> Self {
        Self {
            name,
            memory_bytes: model.memory_bytes(),
            model,
            phases,
            cost: CallCost::new(),
            statistics: ModelStatistics::new(n_workers),
        }
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

    /// Returns the memory the model holds, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Returns how long loading took.
    #[must_use]
    pub fn phases(&self) -> LoadPhases {
        self.phases
    }

    /// Returns what calls have cost.
    #[must_use]
    pub fn cost(&self) -> &CallCost {
        &self.cost
    }

    /// Returns what is counted.
    #[must_use]
    pub fn statistics(&self) -> &ModelStatistics {
        &self.statistics
    }

    /// Runs the model; see [`Model::run`].
    ///
    /// # Errors
    /// Those of the model; kind `Internal` too if it panics, which ends this call only.
    pub fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        // A model is immutable, so a panic cannot leave it half changed.
        catch_unwind(AssertUnwindSafe(|| self.model.run(inputs, outputs))).unwrap_or_else(
            |_panic| {
                let message = format!(
                    "model '{}' failed; this is a defect of the server, not of the request",
                    self.name
                );
                Err(RunError::new(RunErrorKind::Internal, message))
            },
        )
    }
}

/// Two models under one name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("two models are named '{name}'; every model needs a name of its own (--model NAME=PATH)")]
pub struct DuplicateModel {
    name: String,
}

/// All models of a server, by name. Immutable: a change is a new table.
#[derive(Debug, Default)]
pub struct ModelTable {
    models: BTreeMap<String, ServedModel>,
}

impl ModelTable {
    /// Returns a table of `models`.
    ///
    /// # Errors
    /// [`DuplicateModel`] if two have one name.
    pub fn try_new(models: impl IntoIterator<Item = ServedModel>) -> Result<Self, DuplicateModel> {
        let mut table = Self::default();
        for model in models {
            let name = model.name.clone();
            if table.models.insert(name.clone(), model).is_some() {
                return Err(DuplicateModel { name });
            }
        }
        Ok(table)
    }

    /// Returns the model of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ServedModel> {
        self.models.get(name)
    }

    /// Visits the models in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &ServedModel> {
        self.models.values()
    }
}

#[cfg(test)]
mod tests {
    use coracle_model::{Description, Signature};

    use super::*;

    /// A model that fails as it is told.
    #[derive(Debug)]
    struct Faulty {
        signature: Signature,
        description: Description,
        panics: bool,
    }

    impl Model for Faulty {
        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn run(&self, _inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
            assert!(!self.panics, "told to");
            Ok(Vec::new())
        }

        fn description(&self) -> &Description {
            &self.description
        }

        fn memory_bytes(&self) -> usize {
            7
        }
    }

    fn served(name: &str, panics: bool) -> ServedModel {
        let model = Faulty {
            signature: Signature {
                inputs: vec![],
                outputs: vec![],
                default_outputs: vec![],
            },
            description: Description::default(),
            panics,
        };
        ServedModel::new(name.to_owned(), Box::new(model), LoadPhases::default(), 1)
    }

    #[test]
    fn a_panic_is_one_failed_call() {
        let model = served("bad", true);
        for _ in 0..2 {
            let error = model.run(&[], &[]).unwrap_err();
            assert_eq!(error.kind(), RunErrorKind::Internal);
            assert!(
                error.to_string().starts_with("model 'bad' failed"),
                "{error}"
            );
        }
        assert!(served("good", false).run(&[], &[]).is_ok());
    }

    #[test]
    fn names_are_unique() {
        let error = ModelTable::try_new([served("a", false), served("a", false)]).unwrap_err();
        assert!(error.to_string().starts_with("two models are named 'a'"));
        let table = ModelTable::try_new([served("b", false), served("a", false)]).unwrap();
        let names: Vec<&str> = table.iter().map(ServedModel::name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(table.get("c").is_none());
        assert_eq!(table.get("a").map(ServedModel::memory_bytes), Some(7));
    }
}
