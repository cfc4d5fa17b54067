//! Fixed-horizon tests: to be looked at once, at the planned end.

use super::special::{ln_gamma, normal_quantile, normal_sf, student_quantile, student_two_sided};
use super::summary::{Moments, Proportion};
use super::{Bounds, Effect, Method};

/// Compares two means by Welch's t-test; `None` if a variant has fewer than two units or neither has any spread.
///
/// `confidence` is that of the interval, such as 0.95.
#[must_use]
pub fn welch(a: &Moments, b: &Moments, confidence: f64) -> Option<Effect> {
    let (variance_a, variance_b) = (a.variance_of_mean(), b.variance_of_mean());
    let variance = variance_a + variance_b;
    if a.units < 2 || b.units < 2 || variance <= 0.0 {
        return None;
    }
    let df = degrees_of_freedom(a, b);
    let difference = b.mean - a.mean;
    let half = student_quantile(f64::midpoint(1.0, confidence), df) * variance.sqrt();
    Some(Effect {
        method: Method::Welch,
        difference,
        interval: around(difference, half),
        p_value: student_two_sided(difference / variance.sqrt(), df),
    })
}

/// Returns Welch and Satterthwaite's degrees of freedom.
pub(crate) fn degrees_of_freedom(a: &Moments, b: &Moments) -> f64 {
    let (variance_a, variance_b) = (a.variance_of_mean(), b.variance_of_mean());
    let share = |variance: f64, units: u64| variance * variance / (units - 1) as f64;
    (variance_a + variance_b).powi(2) / (share(variance_a, a.units) + share(variance_b, b.units))
}

/// Compares two proportions: the pooled z-test's p-value, with Newcombe's interval (1998, method 10); `None` without units.
#[must_use]
pub fn two_proportions(a: Proportion, b: Proportion, confidence: f64) -> Option<Effect> {
    if a.units == 0 || b.units == 0 {
        return None;
    }
    let difference = b.rate() - a.rate();
    let z = normal_quantile(f64::midpoint(1.0, confidence));
    let (wilson_a, wilson_b) = (wilson(a, z), wilson(b, z));
    let below = (b.rate() - wilson_b.low).hypot(wilson_a.high - a.rate());
    let above = (wilson_b.high - b.rate()).hypot(a.rate() - wilson_a.low);
    Some(Effect {
        method: Method::TwoProportions,
        difference,
        interval: Bounds {
            low: difference - below,
            high: difference + above,
        },
        p_value: (2.0 * normal_sf(pooled_z(a, b).abs())).min(1.0),
    })
}

/// Returns the pooled z statistic; 0 if all units did, or none.
pub(crate) fn pooled_z(a: Proportion, b: Proportion) -> f64 {
    let units = (a.units + b.units) as f64;
    let pooled = (a.successes + b.successes) as f64 / units;
    let variance = pooled * (1.0 - pooled) * (1.0 / a.units as f64 + 1.0 / b.units as f64);
    if variance > 0.0 {
        (b.rate() - a.rate()) / variance.sqrt()
    } else {
        0.0
    }
}

/// Returns Wilson's score interval.
fn wilson(side: Proportion, z: f64) -> Bounds {
    let (n, p) = (side.units as f64, side.rate());
    let centre = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    Bounds {
        low: (centre - half) / scale,
        high: (centre + half) / scale,
    }
}

/// Returns the two-sided p-value of Fisher's exact test: the probability of all tables with the same margins that are no more probable.
#[must_use]
pub fn fisher_exact(a: Proportion, b: Proportion) -> f64 {
    let successes = a.successes + b.successes;
    let ln_choose = |n: u64, k: u64| {
        ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0)
    };
    let all = ln_choose(a.units + b.units, successes);
    let probability =
        |in_a: u64| (ln_choose(a.units, in_a) + ln_choose(b.units, successes - in_a) - all).exp();
    // Ties in probability count; the margin is SciPy's.
    let observed = probability(a.successes) * (1.0 + 1e-7);
    let tables = successes.saturating_sub(b.units)..=successes.min(a.units);
    let sum: f64 = tables.map(probability).filter(|p| *p <= observed).sum();
    sum.min(1.0)
}

/// Returns B's lift relative to A's mean by the delta method; `None` if A's mean is 0 or there is no spread.
#[must_use]
pub fn relative_lift(a: &Moments, b: &Moments, confidence: f64) -> Option<Effect> {
    let ratio = b.mean / a.mean;
    let variance = b.variance_of_mean() / (a.mean * a.mean)
        + ratio * ratio * a.variance_of_mean() / (a.mean * a.mean);
    if !ratio.is_finite() || variance <= 0.0 {
        return None;
    }
    let difference = ratio - 1.0;
    let half = normal_quantile(f64::midpoint(1.0, confidence)) * variance.sqrt();
    Some(Effect {
        method: Method::RelativeLift,
        difference,
        interval: around(difference, half),
        p_value: 2.0 * normal_sf((difference / variance.sqrt()).abs()),
    })
}

pub(crate) fn around(centre: f64, half: f64) -> Bounds {
    Bounds {
        low: centre - half,
        high: centre + half,
    }
}

/// Returns p-values corrected for their number, each to be compared with the level of all together.
#[must_use]
pub fn bonferroni(p_values: &[f64]) -> Vec<f64> {
    let n = p_values.len() as f64;
    p_values.iter().map(|p| (p * n).min(1.0)).collect()
}

/// Returns p-values corrected so that the share of false discoveries is bounded (Benjamini and Hochberg, 1995).
#[must_use]
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|left, right| p_values[*right].total_cmp(&p_values[*left]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut least = 1.0_f64;
    for (position, index) in order.into_iter().enumerate() {
        let rank = p_values.len() - position;
        least = least.min(p_values[index] * p_values.len() as f64 / rank as f64);
        corrected[index] = least;
    }
    corrected
}
