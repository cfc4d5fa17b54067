//! What a rollout's status keeps and shows of a trial, and a trial that goes on from it.

use std::time::Duration;

use coracle_api::rollout::{RolloutCheck, RolloutProgress, RolloutStatus};
use coracle_policy::experiment::Moments;
use coracle_policy::rollout::{
    Check, CheckKind, CheckState, Counts, Hold, Interval, PredictionDrift, QueryState,
    RateEvidence, Rollout,
};
use coracle_serving::experiment::{DriftSummary, StageSummary, UnitMoments};

use super::{Totals, Trial, Wanted};
use crate::controller::times::remainder;

/// More is shown as so much: JSON has no infinity.
const EVIDENCE_SHOWN_MAX: f64 = 1e12;
/// A control process that is started anew has been gone for this long at most: no more of the machine's clock, which may have been set, counts for a stage.
const GONE_MAX: Duration = Duration::from_secs(60);

pub(super) fn to_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns how long the stage of a status had lasted when a control process is started anew at `now`, since 1970; before the first one, how long the
/// canary was there.
pub(super) fn lasted_before(status: &RolloutStatus, now: Duration) -> Duration {
    let (since_ms, known_ms) = match &status.progress {
        Some(progress) => (Some(progress.step_began_ms), progress.lasted_ms),
        None => (status.canary_since_ms, status.canary_lasted_ms),
    };
    let Some(since_ms) = since_ms else {
        return Duration::ZERO;
    };
    let since = now.saturating_sub(Duration::from_millis(since_ms));
    let known = known_ms.map(Duration::from_millis);
    known.map_or(since, |known| {
        since.clamp(known, known.saturating_add(GONE_MAX))
    })
}

/// Returns the share of the stage that a trial is in.
pub(super) fn percent_of(trial: &Trial, wanted: &Wanted) -> Option<i32> {
    let step = wanted.rules.steps.get(trial.rollout.step)?;
    // Validation has seen that it is a whole number below 100.
    let whole = (1..100_i32).find(|whole| f64::from(*whole) >= step.percent);
    Some(whole.unwrap_or(99))
}

/// Returns the trial that a status tells of.
pub(super) fn restored(progress: &RolloutProgress, step: usize, before: (Totals, Totals)) -> Trial {
    let counts = |[requests, errors, slow]: [u64; 3]| Counts {
        requests,
        errors,
        slow,
    };
    // What earlier releases kept is of another kind; then it is gathered anew.
    let evidence = |kept: &[f64]| RateEvidence::of_parts(kept).unwrap_or_default();
    let mut rollout = Rollout::new(Duration::from_millis(progress.step_began_ms));
    rollout.step = step;
    rollout.in_step = Interval {
        stable: counts(progress.stable),
        canary: counts(progress.canary),
    };
    rollout.errors = evidence(&progress.errors);
    rollout.slowness = evidence(&progress.slowness);
    let queries = progress.queries.iter();
    rollout.queries = queries
        .map(|[n_looks, n_bad]| QueryState {
            n_looks: *n_looks,
            n_bad: *n_bad,
            ..QueryState::default()
        })
        .collect();
    Trial {
        rollout,
        slow: progress.slow_ns.map(Duration::from_nanos),
        before,
        told: Vec::new(),
        metrics: progress.metrics.clone(),
    }
}

/// Returns the outcomes of a stage, by metric.
pub(super) fn outcomes(stage: &StageSummary) -> Vec<(Moments, Moments)> {
    let moments = |(units, mean, squares): UnitMoments| Moments {
        units,
        mean,
        squares,
    };
    let both = stage.outcomes.iter();
    both.map(|(stable, canary)| (moments(*stable), moments(*canary)))
        .collect()
}

pub(super) fn drift(told: &DriftSummary) -> PredictionDrift {
    PredictionDrift {
        name: told.name.clone(),
        stable: told.stable,
        canary: told.canary,
        stability_index: told.stability_index,
        distance: told.distance,
        log_evidence: told.log_evidence,
    }
}

pub(super) fn shown(check: &Check) -> RolloutCheck {
    let name = match &check.kind {
        CheckKind::Errors => "errors".to_owned(),
        CheckKind::Latency => "latency".to_owned(),
        CheckKind::Metric(name) | CheckKind::Query { name, .. } => name.clone(),
        CheckKind::Predictions(_) => "predictions".to_owned(),
    };
    let state = match check.state {
        CheckState::Passed => "Passed",
        CheckState::Doubtful => "Doubtful",
        CheckState::Failed => "Failed",
        CheckState::TooFew => "TooFew",
    };

    let finite = |number: f64| number.clamp(-EVIDENCE_SHOWN_MAX, EVIDENCE_SHOWN_MAX);
    RolloutCheck {
        name,
        state: state.to_owned(),
        message: Some(check.to_string()),
        stable: finite(check.stable),
        canary: finite(check.canary),
        evidence: finite(check.evidence),
        needed: finite(check.needed),
    }
}

pub(super) fn describe(hold: &Hold) -> String {
    match hold {
        Hold::Duration { remaining } => {
            format!("the stage lasts another {}", remainder(*remaining))
        }
        Hold::Requests { had, needed } => {
            format!("{had} of the {needed} requests that it must have in this stage")
        }
        Hold::Outcomes(_) => hold.to_string(),
        Hold::Doubt(check) => format!("it looks bad, without evidence yet: {check}"),
    }
}
