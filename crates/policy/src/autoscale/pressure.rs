//! Targets that more replicas are to keep (latency, queue): a least number of replicas that rises under pressure and falls slowly.
//!
//! Latency and queues say that replicas are missing but not how many, and say nothing when there are enough. So these targets only ever
//! raise what the metric asks for: by the ratio of value and target, at most twofold, once per panic window and only when the
//! replicas asked for last are ready. A raise that did not bring the value down is not repeated while the load stays as it is: a model
//! that is slow by itself does not become faster by company.

use std::time::Duration;

use super::spec::AutoscaleSpec;

/// Pressure begins this much above the target.
const TOLERANCE: f64 = 0.1;
/// Below this share of the target there is calm.
const CALM: f64 = 0.7;
/// The most that one raise multiplies by.
const RAISE_MAX: f64 = 2.0;
/// A raise helped if the value fell to this share.
const HELPED: f64 = 0.9;

/// The state of one target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pressure {
    floor: u32,
    raise: Option<Raise>,
    calm_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Raise {
    at: Duration,
    value: f64,
    /// What the metric asked for then.
    metric_asked: u32,
}

impl Pressure {
    /// Returns the fewest replicas that the target asks for.
    ///
    /// `value` is `None` if there was nothing to measure; `metric_asked` is what the metric asks for by itself.
    pub(crate) fn decide(
        &mut self,
        spec: &AutoscaleSpec,
        now: Duration,
        (ready, metric_asked): (u32, u32),
        (value, target): (Option<f64>, f64),
    ) -> u32 {
        if ready == 0 || metric_asked == 0 && value.is_none() {
            *self = Self::default();
            return 0;
        }
        let ratio = value.unwrap_or(0.0) / target;
        if ratio > 1.0 + TOLERANCE {
            self.calm_since = None;
            self.raise(spec, now, (ready, metric_asked), ratio * target, ratio);
        } else if ratio < CALM {
            self.relax(spec, now);
        } else {
            self.calm_since = None;
        }
        if ratio <= 1.0 {
            self.raise = None;
        }
        self.floor
    }

    fn raise(
        &mut self,
        spec: &AutoscaleSpec,
        now: Duration,
        (ready, metric_asked): (u32, u32),
        value: f64,
        ratio: f64,
    ) {
        let may_raise = self.raise.is_none_or(|last| {
            let is_settled = now >= last.at + spec.panic_window && ready >= self.floor;
            let helped = value <= last.value * HELPED;
            is_settled && (helped || metric_asked > last.metric_asked)
        });
        if may_raise {
            let raised = (f64::from(ready) * ratio.min(RAISE_MAX)).ceil() as u32;
            self.floor = spec.at_most(self.floor.max(raised));
            self.raise = Some(Raise {
                at: now,
                value,
                metric_asked,
            });
        }
    }

    /// Gives up one replica per stable window of calm.
    fn relax(&mut self, spec: &AutoscaleSpec, now: Duration) {
        let since = *self.calm_since.get_or_insert(now);
        if now >= since + spec.stable_window {
            self.floor = self.floor.saturating_sub(1);
            self.calm_since = Some(now);
        }
    }
}
