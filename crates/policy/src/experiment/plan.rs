//! How many units an experiment needs before it begins.

use super::analysis::ANYTIME_UNITS_MIN;
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

/// The sums of both arms' variances of a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// What the test of no difference takes it for: that of the units of both arms together, twice ([`Sides::variance`](super::Sides::variance)).
    without_difference: f64,
    /// What it is if the difference is as planned.
    with_difference: f64,
}

impl Spread {
    /// Returns that of two proportions.
    #[must_use]
    pub fn of_proportions(base: f64, changed: f64) -> Self {
        let common = f64::midpoint(base, changed);
        Self {
            without_difference: 2.0 * common * (1.0 - common),
            with_difference: base * (1.0 - base) + changed * (1.0 - changed),
        }
    }

    /// Returns that of two means that differ by `effect`.
    #[must_use]
    pub fn of_means(standard_deviation: f64, effect: f64) -> Self {
        let with_difference = 2.0 * standard_deviation * standard_deviation;
        Self {
            without_difference: with_difference + effect * effect / 2.0,
            with_difference,
        }
    }
}

fn needed(variance: f64, effect: f64, design: Design) -> u64 {
    ((design.quantiles() / effect).powi(2) * variance).ceil() as u64
}

/// Returns the units that each of two arms needs until an anytime-valid interval leaves zero out with the power asked for, if the true difference is
/// `effect`. It often does so earlier, which is why one may look.
///
/// It is never less than the units without which an analysis concludes nothing. The mixture is [`mixture_for`](super::mixture_for) the effect.
#[must_use]
pub fn units_per_arm_sequential(spread: Spread, effect: f64, design: Design) -> u64 {
    let mixture = super::mixture_for(effect);
    let has_power = |units: f64| {
        let variance = spread.without_difference / units;
        let total = variance + mixture;
        let log_threshold = 0.5 * (total / variance).ln() - (NORMAL_WEIGHT * design.alpha).ln();
        let half = (2.0 * variance * total / mixture * log_threshold).sqrt();
        let deviation = (spread.with_difference / units).sqrt();
        normal_sf((half - effect.abs()) / deviation) >= design.power
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
    (high as u64).max(ANYTIME_UNITS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Moments, Proportion, Sides, mixture_for, sequential};
    use crate::random::Random;

    const N_RUNS: u32 = 600;

    fn normal(random: &mut Random) -> f64 {
        let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * random.unit()).cos()
    }

    /// Returns how many of the experiments that are looked at once, after as many units as planned, see the difference.
    fn power(units: u64, effect: f64, mut draw: impl FnMut(bool) -> f64, is_share: bool) -> f64 {
        let mut n_seen = 0;
        for _ in 0..N_RUNS {
            let (mut a, mut b) = (Moments::default(), Moments::default());
            for _ in 0..units {
                a.push(draw(false));
                b.push(draw(true));
            }
            let sides = match is_share {
                true => Sides::Shares(Proportion::of(&a), Proportion::of(&b)),
                false => Sides::means(&a, &b),
            };
            let seen = sequential(&sides, mixture_for(effect), 0.95).unwrap();
            n_seen += u32::from(seen.interval.low > 0.0);
        }
        f64::from(n_seen) / f64::from(N_RUNS)
    }

    #[test]
    fn sequential_plans_have_their_power() {
        let (deviation, effect) = (1.0, 0.25);
        let design = Design::default();
        let spread = Spread::of_means(deviation, effect);
        let units = units_per_arm_sequential(spread, effect, design);
        assert!(units > units_per_arm_mean(deviation, effect, design));
        let mut random = Random::new(3);
        let of_means = power(
            units,
            effect,
            |is_b| normal(&mut random) + f64::from(u8::from(is_b)) * effect,
            false,
        );
        assert!((of_means - 0.8).abs() < 0.05, "{of_means}");
        for (base, changed) in [(0.2, 0.3), (0.05, 0.15)] {
            let spread = Spread::of_proportions(base, changed);
            let units = units_per_arm_sequential(spread, changed - base, design);
            let draw = |is_b: bool| {
                let rate = if is_b { changed } else { base };
                f64::from(u8::from(random.unit() < rate))
            };
            let of_shares = power(units, changed - base, draw, true);
            assert!(
                (of_shares - 0.8).abs() < 0.05,
                "{base}: {units} {of_shares}"
            );
        }
    }

    /// No experiment concludes anything of fewer.
    #[test]
    fn plans_are_of_no_fewer_units_than_experiments_ask_for() {
        let spread = Spread::of_means(1.0, 3.0);
        let found = units_per_arm_sequential(spread, 3.0, Design::default());
        assert_eq!(found, 100);
    }
}
