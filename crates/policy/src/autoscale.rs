//! How many replicas a revision is to have: Knative's autoscaler (KPA), Kubernetes' rule for resources (HPA), scaling to zero, and
//! extensions for latency, queues and recurring load.
//!
//! [`AutoscaleSpec`] says what is to be done, [`Autoscaler`] remembers the last seconds and decides. It does not start or stop anything,
//! and it does not know what a replica is. Start reading at [`Autoscaler::decide`]; docs/autoscaling.md tells the rules in words.

mod annotations;
mod decision;
mod forecast;
mod go_duration;
mod idle;
mod keep_warm;
mod kpa;
mod pressure;
mod spec;
mod window;

use std::time::Duration;

pub use crate::SpecError;
pub use annotations::is_unknown_annotation;
pub use decision::{Adjustment, Basis, Decision, Mode, Predicted, Reason};
pub use forecast::Learnt;
pub use keep_warm::{KEEP_WARM, KeepWarm};
pub use kpa::Ready;
pub use spec::{Aggregation, AutoscaleSpec, ComponentScaling, Metric, Period, Prediction};
pub use window::Sample;

use forecast::Forecaster;
use idle::Idle;
use kpa::{Kpa, ScaleDownDelay};
use pressure::{Pressure, Surroundings};
use window::{Samples, Which};

/// Kubernetes' HPA leaves things as they are this near to the target.
const RESOURCE_TOLERANCE: f64 = 0.1;
/// A prediction below this share of a replica's target is no reason to have one.
const PREDICTED_SHARE_MIN: f64 = 0.05;

/// Decides how many replicas one revision is to have.
///
/// Expected flow: once a second [`record`](Self::record) what the revision did (zeros too, also while it has no replica), every two seconds
/// [`decide`](Self::decide), and at once when a request comes while there is no replica.
///
/// Guarantees: deciding again at the same moment with the same replicas gives the same decision; no decision wants more
/// than the most; memory is fixed by the spec (5 kB with default windows, 260 kB with a window of an
/// hour, up to 20 kB more with prediction).
///
/// Caveat: `now` must not go back. Times are the caller's monotonic clock.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    spec: AutoscaleSpec,
    samples: Samples,
    kpa: Kpa,
    delay: ScaleDownDelay,
    idle: Idle,
    latency: Pressure,
    queue: Pressure,
    forecaster: Option<Forecaster>,
    /// Whether the initial number of replicas has been ready once.
    is_initialized: bool,
    /// What was decided last.
    desired: u32,
}

/// The number on its way through the rules, with the trace it leaves.
#[derive(Debug)]
struct Draft {
    replicas: u32,
    adjustments: Vec<Adjustment>,
}

impl Draft {
    /// Sets the number and notes why, if it is another.
    fn set(&mut self, replicas: u32, adjustment: Adjustment) {
        if replicas != self.replicas {
            self.replicas = replicas;
            self.adjustments.push(adjustment);
        }
    }
}

impl Autoscaler {
    /// Returns an autoscaler for a revision that is new.
    #[must_use]
    pub fn new(spec: AutoscaleSpec, now: Duration) -> Self {
        let initial = spec.bound(spec.initial_replicas);
        Self {
            samples: Samples::new(spec.stable_window, spec.panic_window),
            kpa: Kpa::default(),
            delay: ScaleDownDelay::default(),
            idle: Idle::new(now, initial),
            latency: Pressure::default(),
            queue: Pressure::default(),
            forecaster: spec.prediction.map(Forecaster::new),
            is_initialized: initial == 0,
            desired: initial,
            spec,
        }
    }

    /// Returns an autoscaler for a revision that has `ready` replicas already, after a restart of the caller.
    ///
    /// With several replicas it begins in panic mode, as Knative does: none is taken away before there is a history.
    #[must_use]
    pub fn resume(spec: AutoscaleSpec, now: Duration, ready: u32) -> Self {
        Self {
            kpa: Kpa::resume(now, ready),
            idle: Idle::resume(now, ready),
            is_initialized: true,
            desired: ready,
            ..Self::new(spec, now)
        }
    }

    /// Returns what the autoscaler was told to do.
    #[must_use]
    pub fn spec(&self) -> &AutoscaleSpec {
        &self.spec
    }

    /// Changes what is to be done from the next decision on. The history stays, that of predictions too unless they changed.
    pub fn set_spec(&mut self, spec: AutoscaleSpec) {
        self.samples.resize(spec.stable_window, spec.panic_window);
        let old = self.forecaster.as_ref().map(Forecaster::prediction);
        if old != spec.prediction || self.spec.metric != spec.metric {
            self.forecaster = spec.prediction.map(Forecaster::new);
        }
        self.spec = spec;
    }

    /// Returns what the prediction has learnt so far, to be kept over a restart; `None` without prediction or a season.
    #[must_use]
    pub fn learnt(&self, now: Duration) -> Option<Learnt> {
        self.forecaster.as_ref()?.learnt(now)
    }

    /// Goes on with what an earlier process had learnt `age` ago. Says whether it could be used: not if there is no prediction, the season
    /// is another, or the numbers cannot be right.
    pub fn resume_learnt(&mut self, now: Duration, learnt: &Learnt, age: Duration) -> bool {
        let forecaster = self.forecaster.as_mut();
        forecaster.is_some_and(|forecaster| forecaster.resume(now, learnt, age))
    }

    /// Takes what the revision did in the second that ends at `now`. Two samples in one second add up.
    pub fn record(&mut self, now: Duration, sample: Sample) {
        self.samples.record(now, sample);
        if let Some(forecaster) = &mut self.forecaster {
            let metric = self.spec.metric;
            forecaster.observe(now, metric, &sample, measure(metric, &sample));
        }
    }

    /// Decides how many replicas there are to be.
    pub fn decide(&mut self, now: Duration, ready: Ready) -> Decision {
        let metric = self.spec.metric;
        let stable_value = self.average(now, Which::Stable);
        let panic_value = self.average(now, Which::Panic);
        let (basis, mut draft) = self.base(now, ready, (stable_value, panic_value));
        let predicted = self.forecaster.as_ref().and_then(|f| f.predict(now));
        self.wake(ready, &mut draft);
        self.relieve(now, ready, &mut draft);
        self.foresee(predicted.filter(|_| ready.is_reachable), &mut draft);
        let delayed = self
            .delay
            .apply(self.spec.scale_down_delay, now, draft.replicas);
        let delay = self.spec.scale_down_delay;
        draft.set(delayed, Adjustment::ScaleDownDelay { delay, to: delayed });
        let wanted_before_bounds = draft.replicas;
        self.bound(ready, &mut draft);
        let excess_burst_capacity = self.excess_burst_capacity(ready, panic_value);
        let scale_to_zero_at = self.settle(now, ready, excess_burst_capacity, &mut draft);
        self.desired = draft.replicas;
        Decision {
            desired: draft.replicas,
            mode: self.kpa.mode(),
            metric,
            stable_value,
            panic_value,
            target_per_replica: self.spec.target_per_replica(),
            wanted_before_bounds,
            excess_burst_capacity,
            predicted,
            scale_to_zero_at,
            reason: Reason {
                basis,
                adjustments: draft.adjustments,
            },
        }
    }

    fn average(&self, now: Duration, which: Which) -> f64 {
        let metric = self.spec.metric;
        self.samples
            .average(now, which, self.spec.aggregation, |sample| {
                measure(metric, sample)
            })
    }

    /// Decides by the metric alone.
    fn base(&mut self, now: Duration, ready: Ready, values: (f64, f64)) -> (Basis, Draft) {
        let spec = &self.spec;
        let target = spec.target_per_replica();
        if self.samples.is_empty(now) {
            let replicas = self.desired;
            return draft(Basis::NoData { replicas }, replicas, None);
        }
        if spec.metric.is_resource() {
            let together = f64::from(ready.replicas) * target;
            if ready.replicas > 0 && (values.0 / together - 1.0).abs() <= RESOURCE_TOLERANCE {
                let basis = Basis::WithinTolerance {
                    metric: spec.metric,
                    value: values.0,
                    target: together,
                    replicas: ready.replicas,
                };
                return draft(basis, ready.replicas, None);
            }
        }
        let wanted = if spec.metric.is_resource() {
            // Resources know no panic: a second of full processors says nothing about how many are missing.
            Kpa::default().decide(&calm(spec), now, ready, (values.0, 0.0))
        } else {
            self.kpa.decide(spec, now, ready, values)
        };
        let basis = Basis::Average {
            metric: spec.metric,
            value: wanted.value,
            window: if wanted.is_panic_value {
                spec.panic_window
            } else {
                spec.stable_window
            },
            target,
            replicas: wanted.asked,
        };
        draft(basis, wanted.replicas, wanted.adjustment)
    }

    /// Wants a replica where requests wait and there is none.
    fn wake(&self, ready: Ready, draft: &mut Draft) {
        if ready.replicas == 0 && ready.waiting > 0 {
            let to = draft.replicas.max(self.spec.activation_replicas).max(1);
            let waiting = ready.waiting;
            draft.set(to, Adjustment::Woken { waiting, to });
        }
    }

    /// Looks at the targets that more replicas are to keep.
    fn relieve(&mut self, now: Duration, ready: Ready, draft: &mut Draft) {
        let around = Surroundings {
            ready: ready.replicas,
            metric_asked: draft.replicas,
            is_panic: self.kpa.mode() == Mode::Panic,
        };
        if let Some(target) = self.spec.latency_p99_target {
            let p99 = self.samples.latency_p99(now);
            let value = p99.map(|p99| p99.as_secs_f64());
            let floor = self
                .latency
                .decide(&self.spec, now, around, (value, target.as_secs_f64()));
            let to = draft.replicas.max(floor);
            draft.set(to, Adjustment::Latency { p99, target, to });
        }
        if let Some(target) = self.spec.queue_depth_target {
            let waiting = self
                .samples
                .average(now, Which::Panic, Aggregation::Linear, |sample| {
                    sample.queue_depth
                });
            let per_replica = waiting / f64::from(ready.replicas.max(1));
            let value = (waiting > 0.0).then_some(per_replica);
            let floor = self.queue.decide(&self.spec, now, around, (value, target));
            let to = draft.replicas.max(floor);
            draft.set(
                to,
                Adjustment::QueueDepth {
                    per_replica,
                    target,
                    to,
                },
            );
        }
    }

    /// Wants what the prediction wants, if that is more.
    fn foresee(&self, predicted: Option<Predicted>, draft: &mut Draft) {
        let Some(predicted) = predicted else {
            return;
        };
        let n_targets = predicted.value / self.spec.target_per_replica();
        if n_targets >= PREDICTED_SHARE_MIN {
            let to = draft.replicas.max(n_targets.ceil() as u32);
            draft.set(to, Adjustment::Predicted { predicted, to });
        }
    }

    /// Keeps the number within the initial, the fewest and the most.
    fn bound(&mut self, ready: Ready, draft: &mut Draft) {
        let initial = self.spec.at_most(self.spec.initial_replicas);
        self.is_initialized |= ready.replicas >= initial;
        if !self.is_initialized {
            let to = draft.replicas.max(initial);
            draft.set(to, Adjustment::InitialScale { to });
        }
        if ready.is_reachable {
            let to = draft.replicas.max(self.spec.min_replicas);
            draft.set(to, Adjustment::MinScale { to });
        }
        if self.spec.metric.is_resource() {
            draft.set(draft.replicas.max(1), Adjustment::NeverZero);
        }
        let to = self.spec.at_most(draft.replicas);
        draft.set(to, Adjustment::MaxScale { to });
    }

    /// Returns how many more requests the ready replicas could take at once, beyond those in flight and a burst.
    fn excess_burst_capacity(&self, ready: Ready, panic_value: f64) -> i64 {
        let burst = self.spec.target_burst_capacity;
        if burst == 0.0 {
            return 0;
        }
        if burst < 0.0 || self.spec.metric.is_resource() {
            return -1;
        }
        let capacity = f64::from(ready.replicas) * self.spec.total_per_replica;
        (capacity - burst - panic_value).floor() as i64
    }

    /// Goes the way to zero; returns when its end is reached.
    fn settle(
        &mut self,
        now: Duration,
        ready: Ready,
        excess_burst_capacity: i64,
        draft: &mut Draft,
    ) -> Option<Duration> {
        let verdict = self.idle.decide(
            &self.spec,
            now,
            draft.replicas,
            (ready.replicas, self.desired),
            excess_burst_capacity,
        );
        let to = self.spec.at_most(verdict.replicas);
        let adjustment = match verdict.zero_at {
            Some(until) => Adjustment::KeptUntil {
                until,
                remaining: until.saturating_sub(now),
                to,
            },
            None => Adjustment::ScaleToZeroOff,
        };
        draft.set(to, adjustment);
        verdict.zero_at
    }
}

/// Returns a sample's value of a metric.
fn measure(metric: Metric, sample: &Sample) -> f64 {
    match metric {
        Metric::Concurrency => sample.concurrency,
        Metric::Rps => sample.requests,
        Metric::Cpu => sample.cpu_cores,
        Metric::Memory => sample.memory_bytes,
    }
}

/// Returns the spec without panic.
fn calm(spec: &AutoscaleSpec) -> AutoscaleSpec {
    AutoscaleSpec {
        panic_threshold: f64::INFINITY,
        ..spec.clone()
    }
}

fn draft(basis: Basis, replicas: u32, adjustment: Option<Adjustment>) -> (Basis, Draft) {
    let adjustments = adjustment.into_iter().collect();
    (
        basis,
        Draft {
            replicas,
            adjustments,
        },
    )
}

#[cfg(test)]
mod tests;
