//! Whether units were split as meant. If not, something loses units of one variant, and no comparison can be believed.

use super::special::{chi_squared_sf, ln_gamma};

/// Below this p-value a mismatch is believed (Fabijan et al., 2019).
const P_VALUE_MIN: f64 = 0.001;

/// How the split compares with what was meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioMismatch {
    /// The p-value of the split.
    pub p_value: f64,
    /// Whether it is so small that the experiment cannot be believed.
    pub is_mismatch: bool,
}

/// Compares the units of each variant with the weights that were meant, by Pearson's chi-squared test; to be looked at once.
///
/// `None` unless there are at least two variants, as many positive weights, and a unit.
#[must_use]
pub fn ratio_mismatch(units: &[u64], weights: &[f64]) -> Option<RatioMismatch> {
    let shares = shares(units, weights)?;
    let all = units.iter().sum::<u64>() as f64;
    let pairs = units.iter().zip(&shares);
    let statistic: f64 = pairs
        .map(|(units, share)| (*units as f64 - all * share).powi(2) / (all * share))
        .sum();
    let p_value = chi_squared_sf(statistic, (units.len() - 1) as f64);
    Some(judge(p_value))
}

/// The same, to be looked at at any time: the Bayes factor of a Dirichlet distribution around the weights against the weights
/// themselves (Lindon and Malek, 2022). `scale` says how near to the weights mismatches are expected; 1,000 suits splits that are off by some percent.
#[must_use]
pub fn sequential_ratio_mismatch(
    units: &[u64],
    weights: &[f64],
    scale: f64,
) -> Option<RatioMismatch> {
    let log_factor = log_bayes_factor(units, &shares(units, weights)?, scale);
    Some(judge((-log_factor).exp().min(1.0)))
}

pub(crate) fn log_bayes_factor(units: &[u64], shares: &[f64], scale: f64) -> f64 {
    let ln_beta = |parameters: &[f64]| {
        let gammas: f64 = parameters
            .iter()
            .map(|parameter| ln_gamma(*parameter))
            .sum();
        gammas - ln_gamma(parameters.iter().sum())
    };
    let prior: Vec<f64> = shares.iter().map(|share| share * scale).collect();
    let with_units = prior
        .iter()
        .zip(units)
        .map(|(prior, units)| prior + *units as f64);
    let with_units: Vec<f64> = with_units.collect();
    let under_weights = shares
        .iter()
        .zip(units)
        .map(|(share, units)| *units as f64 * share.ln());
    ln_beta(&with_units) - ln_beta(&prior) - under_weights.sum::<f64>()
}

fn judge(p_value: f64) -> RatioMismatch {
    RatioMismatch {
        p_value,
        is_mismatch: p_value < P_VALUE_MIN,
    }
}

fn shares(units: &[u64], weights: &[f64]) -> Option<Vec<f64>> {
    let is_usable = units.len() >= 2
        && units.len() == weights.len()
        && weights
            .iter()
            .all(|weight| *weight > 0.0 && weight.is_finite())
        && units.iter().any(|units| *units > 0);
    let all: f64 = weights.iter().sum();
    is_usable.then(|| weights.iter().map(|weight| weight / all).collect())
}
