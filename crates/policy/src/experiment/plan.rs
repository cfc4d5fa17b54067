//! How many units an experiment needs before it begins.

use super::sequential::NORMAL_WEIGHT;
use super::special::{normal_quantile, normal_sf};

/// What an experiment is to be able to see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Design {
    /// The most probable that no difference is taken for one, two-sided; 0.05 is usual.
    pub alpha: f64,
    /// The probability with which a difference as large as planned is seen; 0.8 is usual.
    pub power: f64,
}

impl Default for Design {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            power: 0.8,
        }
    }
}

impl Design {
    fn quantiles(self) -> f64 {
        normal_quantile(1.0 - self.alpha / 2.0) + normal_quantile(self.power)
    }
}

/// Returns the units that each of two arms needs to tell a proportion of `base` from one of `changed`, at a fixed horizon.
#[must_use]
pub fn units_per_arm_proportion(base: f64, changed: f64, design: Design) -> u64 {
    let variance = base * (1.0 - base) + changed * (1.0 - changed);
    needed(variance, changed - base, design)
}

/// Returns the units that each of two arms needs to tell means apart that differ by `effect`, at a fixed horizon.
#[must_use]
pub fn units_per_arm_mean(standard_deviation: f64, effect: f64, design: Design) -> u64 {
    needed(
        2.0 * standard_deviation * standard_deviation,
        effect,
        design,
    )
}

fn needed(variance: f64, effect: f64, design: Design) -> u64 {
    ((design.quantiles() / effect).powi(2) * variance).ceil() as u64
}

/// Returns the units that each of two arms needs until an anytime-valid interval leaves zero out with the power asked for, if the true difference is
/// `effect`. It often does so earlier, which is why one may look.
///
/// `variance` is the sum of both arms' variances of a unit; the mixture is [`mixture_for`](super::mixture_for) the effect.
#[must_use]
pub fn units_per_arm_sequential(variance: f64, effect: f64, design: Design) -> u64 {
    let mixture = super::mixture_for(effect);
    let has_power = |units: f64| {
        let variance = variance / units;
        let total = variance + mixture;
        let log_threshold = 0.5 * (total / variance).ln() - (NORMAL_WEIGHT * design.alpha).ln();
        let half = (2.0 * variance * total / mixture * log_threshold).sqrt();
        normal_sf((half - effect.abs()) / variance.sqrt()) >= design.power
    };
    // More units never have less power; the first that have enough are found between a power of two and the next.
    let mut high = 1.0;
    while !has_power(high) && high < 1e15 {
        high *= 2.0;
    }
    let mut low = high / 2.0;
    while high - low > 1.0 {
        let middle = f64::midpoint(low, high).floor();
        if has_power(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Moments, Sides, mixture_for, sequential};
    use crate::random::Random;

    /// Normal units, looked at once after as many as planned: as many experiments see the difference as the power says.
    #[test]
    fn sequential_plans_have_their_power() {
        let (deviation, effect) = (1.0, 0.25);
        let design = Design::default();
        let units = units_per_arm_sequential(2.0 * deviation * deviation, effect, design);
        assert!(units > units_per_arm_mean(deviation, effect, design));
        let mut random = Random::new(3);
        let mut normal = || {
            let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
            radius * (std::f64::consts::TAU * random.unit()).cos()
        };
        let n_runs = 600;
        let mut n_seen = 0;
        for _ in 0..n_runs {
            let (mut a, mut b) = (Moments::default(), Moments::default());
            for _ in 0..units {
                a.push(normal());
                b.push(normal() + effect);
            }
            let sides = Sides::means(&a, &b);
            let seen = sequential(&sides, mixture_for(effect), 0.95).unwrap();
            n_seen += i32::from(seen.interval.low > 0.0);
        }
        let power = f64::from(n_seen) / f64::from(n_runs);
        assert!((power - 0.8).abs() < 0.05, "{power}");
    }
}
