//! Targets that more replicas are to keep (latency, queue): a least number of replicas that rises under pressure and falls slowly.
//!
//! Latency and queues say that replicas are missing but not how many, and say nothing when there are enough. So these targets only ever
//! raise what the metric asks for: by the ratio of value and target, at most twofold, once per panic window and only when the
//! replicas asked for last are ready. A raise that did not bring the value down is not repeated while the load stays as it is: a model
//! that is slow by itself does not become faster by company. In panic they rest: a queue that drains is slow however many replicas there are.
//! What is more than the metric asks for is given back bit by bit while the target is kept, but for a while not down to a number that
//! was too few.

use std::time::Duration;

use super::spec::AutoscaleSpec;

/// Pressure begins this much above the target.
const TOLERANCE: f64 = 0.1;
/// This share of what is more than the metric asks for is given back at a time.
const GIVEN_BACK: f64 = 0.25;
/// A number that was too few is avoided for so many stable windows.
const AVOIDED_WINDOWS: u32 = 10;
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
    /// A number of replicas that did not keep the target, and until when it is avoided.
    too_few: Option<(u32, Duration)>,
}

/// What there is beside the value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    pub(crate) ready: u32,
    /// What the metric asks for by itself.
    pub(crate) metric_asked: u32,
    pub(crate) is_panic: bool,
}

#[derive(Clone, Copy, Debug)]
struct Raise {
    at: Duration,
    value: f64,
    /// What the metric asked for then.
    metric_asked: u32,
}

impl Pressure {
    /// Returns the fewest replicas that the target asks for; `value` is `None` if there was nothing to measure.
    pub(crate) fn decide(
        &mut self,
        spec: &AutoscaleSpec,
        now: Duration,
        around: Surroundings,
        (value, target): (Option<f64>, f64),
    ) -> u32 {
        if around.ready == 0 || around.metric_asked == 0 && value.is_none() {
            *self = Self::default();
            return 0;
        }
        if around.is_panic {
            self.calm_since = None;
            return self.floor;
        }
        let value = value.unwrap_or(0.0);
        if value > target * (1.0 + TOLERANCE) {
            self.calm_since = None;
            self.raise(spec, now, around, (value, target));
        } else if value > target {
            self.calm_since = None;
        } else {
            self.raise = None;
            self.relax(spec, now, around);
        }
        self.floor
    }

    fn raise(
        &mut self,
        spec: &AutoscaleSpec,
        now: Duration,
        Surroundings {
            ready,
            metric_asked,
            ..
        }: Surroundings,
        (value, target): (f64, f64),
    ) {
        let may_raise = self.raise.is_none_or(|last| {
            let is_settled = now >= last.at + spec.panic_window && ready >= self.floor;
            let helped = value <= last.value * HELPED;
            is_settled && (helped || metric_asked > last.metric_asked)
        });
        if may_raise {
            let raised = (f64::from(ready) * (value / target).min(RAISE_MAX)).ceil() as u32;
            self.floor = spec.at_most(self.floor.max(raised));
            self.too_few = Some((ready, now + spec.stable_window * AVOIDED_WINDOWS));
            self.raise = Some(Raise {
                at: now,
                value,
                metric_asked,
            });
        }
    }

    /// Gives something back after each stable window of calm.
    fn relax(&mut self, spec: &AutoscaleSpec, now: Duration, around: Surroundings) {
        let since = *self.calm_since.get_or_insert(now);
        if now < since + spec.stable_window {
            return;
        }
        self.calm_since = Some(now);
        let surplus = self.floor.saturating_sub(around.metric_asked);
        let given_back = (f64::from(surplus) * GIVEN_BACK).ceil() as u32;
        let avoided = self.too_few.filter(|(_, until)| now < *until);
        let least = avoided.map_or(0, |(too_few, _)| spec.at_most(too_few.saturating_add(1)));
        let relaxed = self.floor.saturating_sub(given_back).max(least);
        self.floor = self.floor.min(relaxed);
    }
}
