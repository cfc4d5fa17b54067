//! A rollout's stage as an experiment: its variants are the revision that serves and the one on trial, and its units are whoever the route's own split
//! gives to them. What outcomes and predictions come to is told to the rollout, which decides.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use coracle_policy::rollout::{Predicted, PredictionDrift, Predictions, Side};
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::ledger::Ledger;
use super::stage_units::StageUnits;
use super::tally::hash;
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
    /// When the trial began that it is a stage of, in ms since 1970; 0 if that is not known. Requests that came before do not count, whenever they end.
    #[serde(default)]
    pub trial_ms: u64,
    /// Whether predictions are compared.
    pub predictions: bool,
    /// Whether errors and latency are judged by unit.
    #[serde(default)]
    pub by_unit: bool,
    /// What took longer than so many ns is slow; `None` if nothing is.
    #[serde(default)]
    pub slow_ns: Option<u64>,
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
    /// What units met, where errors and latency are judged by that.
    #[serde(default)]
    pub units: Option<StageUnits>,
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

/// Units' predictions that are remembered of a stage; once there are so many, those of others are not compared.
const PREDICTED_MAX: usize = 1 << 20;

/// The predictions of a stage.
#[derive(Debug, Default)]
pub(super) struct StagePredictions {
    of: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    since_ms: u64,
    predictions: Predictions,
    /// The hashes of units and outputs that were predicted: the next prediction for the same unit is no independent one.
    predicted: HashSet<u64>,
}

impl Known {
    /// Tells whether it is the first prediction for the unit, if that is known, and remembers it.
    fn is_first(&mut self, unit: Option<&str>, output: &str) -> bool {
        let Some(unit) = unit else { return true };
        let key = hash(unit).rotate_left(23) ^ hash(output);
        let has_room = self.predicted.len() < PREDICTED_MAX;
        has_room && self.predicted.insert(key)
    }
}

impl StagePredictions {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drifts(&self, since_ms: u64) -> Vec<DriftSummary> {
        let known = self.lock();
        if known.since_ms != since_ms {
            return Vec::new();
        }
        known
            .predictions
            .drifts()
            .into_iter()
            .map(Into::into)
            .collect()
    }
}

impl Book {
    /// Takes what a variant predicted for a unit, output by output, if that is compared and was asked in this trial: of a unit each output's first prediction.
    /// Never waits: where another thread does the same, it is passed over.
    pub fn predicted<'p>(
        &self,
        (variant, unit): (&str, Option<&str>),
        trial_ms: u64,
        predicted: impl Iterator<Item = (String, Predicted<'p>)>,
    ) {
        let is_this = |stage: &PlannedStage| stage.predictions && stage.trial_ms == trial_ms;
        let Some(stage) = self.planned().stage.filter(is_this) else {
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
        if known.since_ms != stage.since_ms {
            *known = Known {
                since_ms: stage.since_ms,
                ..Known::default()
            };
        }
        for (output, predicted) in predicted {
            if known.is_first(unit, &output) {
                known.predictions.push(side, &output, predicted);
            }
        }
    }

    /// Returns what has come of a rollout's stage.
    pub(super) fn stage_summary(&self, planned: &PlannedExperiment) -> Option<StageSummary> {
        let stage = planned.stage?;
        let ledger = self.ledger();
        let (outcomes, units) = (ledger.outcomes(planned), ledger.stage_units(planned));
        drop(ledger);
        Some(StageSummary {
            stage,
            outcomes,
            units,
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
