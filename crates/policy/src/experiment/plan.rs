//! How many units an experiment needs before it begins.

use super::special::normal_quantile;

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
