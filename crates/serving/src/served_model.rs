//! A loaded model under its name, and the boundary that keeps a panic to one request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use coracle_model::{Model, RunError, RunErrorKind};
use coracle_tensor::Tensor;

use crate::plan::RevisionId;
use crate::revision_log::{LogSource, RevisionLog};
use crate::{CallCost, ModelStatistics};

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

/// A model under a name.
#[derive(Debug)]
pub struct ServedModel {
    name: String,
    /// The labels of its metrics.
    labels: String,
    model: Box<dyn Model>,
    memory_bytes: usize,
    phases: LoadPhases,
    cost: CallCost,
    statistics: ModelStatistics,
    log: Option<(RevisionId, RevisionLog)>,
}

impl ServedModel {
    /// The version of every model: versions side by side are not there yet.
    pub const VERSION: &'static str = "1";

    /// Puts `model` under `name`; calls are counted for each of `n_workers` event loops.
    #[must_use]
    pub fn new(name: String, model: Box<dyn Model>, phases: LoadPhases, n_workers: usize) -> Self {
        Self {
            labels: format!("model=\"{}\"", escape(&name)),
            name,
            memory_bytes: model.memory_bytes(),
            model,
            phases,
            cost: CallCost::new(),
            statistics: ModelStatistics::new(n_workers),
            log: None,
        }
    }

    /// Returns the model with the revision that it is of, for its metrics and its log.
    #[must_use]
    pub fn with_revision(mut self, revision: &RevisionId, log: RevisionLog) -> Self {
        self.log = Some((revision.clone(), log));
        self.labels = format!(
            "model=\"{}\",namespace=\"{}\",revision=\"{}\"",
            escape(&self.name),
            escape(&revision.namespace),
            escape(&revision.name)
        );
        self
    }

    /// Returns the labels of its metrics, as Prometheus' text format has them.
    #[must_use]
    pub fn labels(&self) -> &str {
        &self.labels
    }

    /// Returns the revision that it is of, where there are revisions.
    #[must_use]
    pub fn revision(&self) -> Option<&RevisionId> {
        self.log.as_ref().map(|(revision, _)| revision)
    }

    /// Adds a line to the log of its revision.
    pub fn log(&self, line: &str) {
        if let Some((revision, log)) = &self.log {
            log.write(revision, LogSource::Serve, line);
        }
    }

    /// Notes how long warming up took.
    pub(crate) fn set_warm_up(&mut self, time: Duration) {
        self.phases.warm_up = time;
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
                self.log("the model failed on a request; this is a defect of the server");
                let message = format!(
                    "model '{}' failed; this is a defect of the server, not of the request",
                    self.name
                );
                Err(RunError::new(RunErrorKind::Internal, message))
            },
        )
    }
}

/// Escapes a label's value.
pub(crate) fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use coracle_model::{Description, Signature};

    use super::*;

    /// A model that fails as it is told.
    #[derive(Debug)]
    pub(crate) struct Faulty {
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

    pub(crate) fn faulty(panics: bool) -> Faulty {
        Faulty {
            signature: Signature {
                inputs: vec![],
                outputs: vec![],
                default_outputs: vec![],
            },
            description: Description::default(),
            panics,
        }
    }

    pub(crate) fn served(name: &str, panics: bool) -> ServedModel {
        let model = Box::new(faulty(panics));
        ServedModel::new(name.to_owned(), model, LoadPhases::default(), 1)
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
    fn labels_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
        assert_eq!(served("a\"", false).labels(), "model=\"a\\\"\"");
    }
}
