//! Knative's decision: how many replicas two averages ask for, and when that is a panic.
//!
//! Method: `pkg/autoscaler/scaling/autoscaler.go` of Knative Serving, as its published rules describe it.

use std::collections::VecDeque;
use std::time::Duration;

use super::decision::{Adjustment, Mode};
use super::spec::AutoscaleSpec;

/// The state between decisions: since when there is panic, and the most that was wanted in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kpa {
    panic_since: Option<Duration>,
    panic_most: u32,
}

/// What one decision wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) replicas: u32,
    /// What the deciding average asks for before any rule.
    pub(crate) asked: u32,
    /// The average that decided.
    pub(crate) value: f64,
    /// Whether that is the panic window's.
    pub(crate) is_panic_value: bool,
    /// The rule that changed what was asked for, if one did.
    pub(crate) adjustment: Option<Adjustment>,
}

/// What one average asks for.
#[derive(Clone, Copy, Debug)]
struct Side {
    asked: f64,
    replicas: u32,
    adjustment: Option<Adjustment>,
}

impl Kpa {
    /// Returns the state after a restart with `ready` replicas: in panic if there are several, so that
    /// none is taken away before there is a history to decide on.
    pub(crate) fn resume(now: Duration, ready: u32) -> Self {
        Self {
            panic_since: (ready > 1).then_some(now),
            panic_most: if ready > 1 { ready } else { 0 },
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.panic_since {
            Some(_) => Mode::Panic,
            None => Mode::Stable,
        }
    }

    /// Decides from the averages of the stable and the panic window.
    pub(crate) fn decide(
        &mut self,
        spec: &AutoscaleSpec,
        now: Duration,
        ready: Ready,
        (stable_value, panic_value): (f64, f64),
    ) -> Wanted {
        let stable = ask(spec, ready, stable_value);
        let panic = ask(spec, ready, panic_value);
        let is_over_threshold = panic.asked / at_least_one(ready) >= spec.panic_threshold;
        if is_over_threshold {
            self.panic_since = Some(now);
        } else if let Some(since) = self.panic_since
            && since + spec.stable_window < now
        {
            *self = Self::default();
        }
        let is_panic_value = self.panic_since.is_some() && panic.replicas > stable.replicas;
        let (side, value) = if is_panic_value {
            (panic, panic_value)
        } else {
            (stable, stable_value)
        };
        let mut wanted = Wanted {
            replicas: side.replicas,
            asked: side.asked as u32,
            value,
            is_panic_value,
            adjustment: side.adjustment,
        };
        if self.panic_since.is_some() {
            self.panic_most = self.panic_most.max(side.replicas);
            if self.panic_most > wanted.replicas {
                wanted.replicas = self.panic_most;
                wanted.adjustment = Some(Adjustment::PanicHold {
                    to: self.panic_most,
                });
            }
        }
        wanted
    }
}

/// What is there to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Replicas that take requests now.
    pub replicas: u32,
    /// Requests held because there is no replica at all.
    pub waiting: u32,
    /// Whether a route leads to the revision. One that nothing leads to has no fewest replicas and shrinks at once.
    pub is_reachable: bool,
}

impl Ready {
    /// Returns so many ready replicas of a revision that a route leads to, without requests held.
    #[must_use]
    pub fn new(replicas: u32) -> Self {
        Self {
            replicas,
            waiting: 0,
            is_reachable: true,
        }
    }
}

fn at_least_one(ready: Ready) -> f64 {
    f64::from(ready.replicas.max(1))
}

fn ask(spec: &AutoscaleSpec, ready: Ready, value: f64) -> Side {
    let asked = (value / spec.target_per_replica()).ceil();
    let most = (spec.scale_up_rate_max * at_least_one(ready)).ceil();
    let fewest = if ready.is_reachable {
        (at_least_one(ready) / spec.scale_down_rate_max).floor()
    } else {
        0.0
    };
    let mut side = Side {
        asked,
        replicas: asked.max(fewest).min(most) as u32,
        adjustment: None,
    };
    let to = side.replicas;
    if asked < fewest {
        side.adjustment = Some(Adjustment::ScaleDownRate { to });
    } else if asked > most {
        side.adjustment = Some(Adjustment::ScaleUpRate { to });
    }
    if asked > 0.0 && side.replicas < spec.activation_replicas {
        side.replicas = spec.activation_replicas;
        side.adjustment = Some(Adjustment::ActivationScale { to: side.replicas });
    }
    side
}

/// Remembers what was wanted lately, so that a smaller number is decided only once the delay has passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScaleDownDelay {
    /// Second and number, numbers falling from front to back; one entry a second at most.
    maxima: VecDeque<(u64, u32)>,
}

impl ScaleDownDelay {
    /// Returns the most that was wanted within the delay.
    pub(crate) fn apply(&mut self, delay: Duration, now: Duration, replicas: u32) -> u32 {
        if delay.is_zero() {
            self.maxima.clear();
            return replicas;
        }
        let second = now.as_secs();
        while self
            .maxima
            .back()
            .is_some_and(|(_, least)| *least <= replicas)
        {
            self.maxima.pop_back();
        }
        let is_expired = |entry: &(u64, u32)| entry.0 + delay.as_secs() <= second;
        while self.maxima.front().is_some_and(is_expired) {
            self.maxima.pop_front();
        }
        if self
            .maxima
            .back()
            .is_none_or(|(newest, _)| *newest < second)
        {
            self.maxima.push_back((second, replicas));
        }
        self.maxima.front().map_or(replicas, |(_, most)| *most)
    }
}
