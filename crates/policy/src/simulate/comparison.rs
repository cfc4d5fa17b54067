//! Reactive beside predictive scaling at equal cost.
//!
//! Prediction only adds replicas, so it mostly costs more than the same reactive scaling. The fair question is what else the same replicas
//! could have bought: reactive scaling that aims lower, and so keeps more in reserve all the time. It is run with every target utilisation
//! from 40 % to 100 %; of those runs that cost at most 2 % more than the predictive one, or no more than the reactive one with the defaults
//! if that is more, the one with the fewest seconds over the objective is the rival.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::{Outcome, Service, Trace, simulate};
use crate::autoscale::{AutoscaleSpec, Metric, Period, Prediction};

/// Seasons that pass before anything is counted, so that there is something to predict from.
const SEASONS_LEARNT: usize = 2;
/// The lead beyond the cold start: a few decisions.
const LEAD_MARGIN: Duration = Duration::from_secs(10);
/// The most replicas in all runs: twice what the traces need, as a sensible manifest would have it.
const REPLICAS_MAX: u32 = 24;
/// The target utilisations that the rival is tried with, in percent.
const UTILIZATION_PERCENTS: RangeInclusive<u32> = 40..=100;
const UTILIZATION_STEP: usize = 2;
/// The rival may cost a little more.
const COST_MARGIN: f64 = 1.02;

/// What a run cost and how well it served, in the seconds that count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The target utilisation it ran with, in `(0, 1]`.
    pub target_utilization: f64,
    /// Seconds that count.
    pub seconds: usize,
    /// Replicas times seconds, starting replicas included.
    pub replica_seconds: u64,
    /// Seconds in which more than 1 % of requests were slow.
    pub seconds_over_objective: usize,
    /// The share of requests that were slow.
    pub slow_share: f64,
}

/// Three runs of one trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The trace.
    pub trace: Trace,
    /// Knative's algorithm with its defaults.
    pub reactive: (Measured, Outcome),
    /// The same with prediction.
    pub predictive: (Measured, Outcome),
    /// The best that can be had without prediction at the predictive run's cost, by the choice of the target.
    pub equal_cost: (Measured, Outcome),
}

/// Runs `trace` with both, and finds the rival.
#[must_use]
pub fn compare(trace: Trace, service: &Service, seed: u64) -> Comparison {
    let reactive_spec = spec(service, None);
    let predictive_spec = spec(
        service,
        Some(Prediction {
            period: trace.season().map_or(Period::Detected, Period::Given),
            lead: service.cold_start + LEAD_MARGIN,
        }),
    );
    let run = |spec: &AutoscaleSpec| {
        let outcome = simulate(spec, service, trace, seed);
        (measure(&outcome, trace, spec.target_utilization), outcome)
    };
    let reactive = run(&reactive_spec);
    let predictive = run(&predictive_spec);
    let with_utilization = |target_utilization| {
        run(&AutoscaleSpec {
            target_utilization,
            ..reactive_spec.clone()
        })
    };
    let affordable = (predictive.0.replica_seconds as f64 * COST_MARGIN) as u64;
    let affordable = affordable.max(reactive.0.replica_seconds);
    let equal_cost = UTILIZATION_PERCENTS
        .step_by(UTILIZATION_STEP)
        .map(|percent| with_utilization(f64::from(percent) / 100.0))
        .chain([reactive.clone()])
        .min_by_key(|(run, _)| {
            let excess = run.replica_seconds.saturating_sub(affordable);
            (excess, run.seconds_over_objective, run.replica_seconds)
        })
        .unwrap_or_else(|| reactive.clone());
    Comparison {
        trace,
        reactive,
        predictive,
        equal_cost,
    }
}

fn spec(service: &Service, prediction: Option<Prediction>) -> AutoscaleSpec {
    AutoscaleSpec {
        metric: Metric::Concurrency,
        total_per_replica: f64::from(service.concurrency),
        min_replicas: 0,
        max_replicas: REPLICAS_MAX,
        prediction,
        ..AutoscaleSpec::default()
    }
}

fn measure(outcome: &Outcome, trace: Trace, target_utilization: f64) -> Measured {
    let range = counted(outcome, trace);
    Measured {
        target_utilization,
        seconds: range.len(),
        replica_seconds: outcome.replica_seconds(range.clone()),
        seconds_over_objective: outcome.seconds_over_objective(range.clone()),
        slow_share: outcome.slow_share(range),
    }
}

/// Returns the seconds that count: those after the learnt seasons.
fn counted(outcome: &Outcome, trace: Trace) -> Range<usize> {
    let learnt = trace.season().unwrap_or_default().as_secs() as usize * SEASONS_LEARNT;
    learnt.min(outcome.seconds.len())..outcome.seconds.len()
}
