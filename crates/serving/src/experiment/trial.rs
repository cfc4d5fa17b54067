//! A rollout's stage as an experiment: its variants are the revision that serves and the one on trial, and its units are whoever the route's own split
//! gives to them. What outcomes and predictions come to is told to the rollout, which decides.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use coracle_policy::rollout::{Predicted, PredictionDrift, Predictions, Side};
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::ledger::Ledger;
use super::{ExperimentSummary, PlannedExperiment};

/// What the name of a rollout's experiment begins with: no object's name can have a colon.
pub const ROLLOUT_BOOK: &str = "rollout:";
/// The variant that is the revision that serves.
pub const STABLE: &str = "stable";
/// The variant that is the revision on trial.
pub const CANARY: &str = "canary";

/// The stage of a rollout that an experiment is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct PlannedStage {
    /// When it began, in ms since 1970. What came before does not count.
    pub since_ms: u64,
    /// Whether predictions are compared.
    pub predictions: bool,
}

/// Number, mean and sum of squared distances of units' values.
pub type UnitMoments = (u64, f64, f64);

/// What has come of a stage so far.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct StageSummary {
    /// Which one.
    pub stage: PlannedStage,
    /// By metric: of the revision that serves, and of the one on trial.
    pub outcomes: Vec<(UnitMoments, UnitMoments)>,
    /// By output.
    pub drifts: Vec<DriftSummary>,
}

/// How far the predictions of an output are apart.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DriftSummary {
    /// The output, with the column of several.
    pub name: String,
    /// Predictions of the revision that serves.
    pub stable: u64,
    /// Of the one on trial.
    pub canary: u64,
    /// The population stability index.
    pub stability_index: f64,
    /// Kolmogorov and Smirnov's distance.
    pub distance: f64,
    /// The logarithm of the evidence.
    pub log_evidence: f64,
}

impl From<PredictionDrift> for DriftSummary {
    fn from(drift: PredictionDrift) -> Self {
        let PredictionDrift {
            name,
            stable,
            canary,
            stability_index,
            distance,
            log_evidence,
        } = drift;
        Self {
            name,
            stable,
            canary,
            stability_index,
            distance,
            log_evidence,
        }
    }
}

/// The predictions of a stage.
#[derive(Debug, Default)]
pub(super) struct StagePredictions {
    of: Mutex<(u64, Predictions)>,
}

impl StagePredictions {
    fn lock(&self) -> MutexGuard<'_, (u64, Predictions)> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drifts(&self, since_ms: u64) -> Vec<DriftSummary> {
        let known = self.lock();
        if known.0 != since_ms {
            return Vec::new();
        }
        known.1.drifts().into_iter().map(Into::into).collect()
    }
}

impl Book {
    /// Takes what a variant predicted, output by output, if that is compared. Never waits: where another thread does the same, it is passed over.
    pub fn predicted<'p>(
        &self,
        variant: &str,
        predicted: impl Iterator<Item = (String, Predicted<'p>)>,
    ) {
        let Some(stage) = self.planned().stage.filter(|stage| stage.predictions) else {
            return;
        };
        let side = match variant == CANARY {
            true => Side::Canary,
            false => Side::Stable,
        };
        let mut known = match self.predictions.of.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if known.0 != stage.since_ms {
            *known = (stage.since_ms, Predictions::default());
        }
        for (output, predicted) in predicted {
            known.1.push(side, &output, predicted);
        }
    }

    /// Returns what has come of a rollout's stage.
    pub(super) fn stage_summary(&self, planned: &PlannedExperiment) -> Option<StageSummary> {
        let stage = planned.stage?;
        Some(StageSummary {
            stage,
            outcomes: self.ledger().outcomes(planned),
            drifts: self.predictions.drifts(stage.since_ms),
        })
    }
}

impl Ledger {
    /// Lets a stage begin that is later than the one before: units of stages before that one are forgotten.
    pub(super) fn begin_stage(&mut self, planned: &PlannedExperiment) {
        let Some(stage) = planned.stage else { return };
        if stage.since_ms <= self.stage_since {
            return;
        }
        let before = std::mem::replace(&mut self.stage_since, stage.since_ms);
        let n_before = self.units.len();
        self.units.retain(|_, unit| unit.first_at >= before);
        self.give_back(n_before - self.units.len());
    }
}

/// Tells that an experiment is a rollout's, whose own rules decide.
pub(super) const DECIDED_ELSEWHERE: &str = "the rollout decides";

/// Returns a summary whose experiment may be a rollout's stage.
pub(super) fn with_stage(
    book: &Book,
    planned: &PlannedExperiment,
    summary: ExperimentSummary,
) -> ExperimentSummary {
    ExperimentSummary {
        stage: book.stage_summary(planned),
        ..summary
    }
}
