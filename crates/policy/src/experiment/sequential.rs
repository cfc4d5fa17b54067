//! Tests that stay valid however often one looks.
//!
//! [`sequential`] is for means of many units: a mixture sequential probability ratio test with a normal mixture over the
//! difference (Robbins, 1970; Johari, Koomen, Pekelis and Walsh, 2017), with the variance plugged in, so for some hundred units and more. Exact at any
//! number of units is [`super::bounded_mean`].

use super::fixed::around;
use super::summary::Moments;
use super::{Effect, Method};

/// Returns the mixture's variance that is best for differences about as large as `expected`.
///
/// Any variance is valid; one near the square of the true difference needs the fewest units.
#[must_use]
pub fn mixture_for(expected: f64) -> f64 {
    expected * expected
}

/// Returns how much more probable the difference is under the mixture than under none; `variance` is that of the difference.
#[must_use]
pub fn mixture_likelihood_ratio(difference: f64, variance: f64, mixture: f64) -> f64 {
    log_likelihood_ratio(difference, variance, mixture).exp()
}

fn log_likelihood_ratio(difference: f64, variance: f64, mixture: f64) -> f64 {
    if variance <= 0.0 || mixture <= 0.0 {
        return 0.0;
    }
    let total = variance + mixture;
    0.5 * (variance / total).ln() + mixture * difference * difference / (2.0 * variance * total)
}

/// Compares two means at any time.
///
/// `mixture` is the variance of the mixture over the difference, fixed before the first look ([`mixture_for`]). Of values that
/// are final, all looks so far hold together, too (the least p-value, the intersection of intervals); of those that outcomes may still add to each holds
/// alone. `None` without spread.
#[must_use]
pub fn sequential(a: &Moments, b: &Moments, mixture: f64, confidence: f64) -> Option<Effect> {
    let variance = a.variance_of_mean() + b.variance_of_mean();
    if a.units < 2 || b.units < 2 || variance <= 0.0 || mixture <= 0.0 {
        return None;
    }
    let difference = b.mean - a.mean;
    let total = variance + mixture;
    let log_threshold = 0.5 * (total / variance).ln() - (1.0 - confidence).ln();
    let half = (2.0 * variance * total / mixture * log_threshold).sqrt();
    Some(Effect {
        method: Method::MixtureSequential,
        difference,
        interval: around(difference, half),
        p_value: (-log_likelihood_ratio(difference, variance, mixture))
            .exp()
            .min(1.0),
    })
}

/// What is known about harm by a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guardrail {
    /// The metric is worse by more than the margin.
    Harmed,
    /// It is not.
    Safe,
    /// It cannot be told yet.
    Open,
}

/// Checks at any time that B's mean of a metric, of which less is better, exceeds A's by no more than `margin`; one-sided at `alpha`.
#[must_use]
pub fn guardrail(a: &Moments, b: &Moments, margin: f64, mixture: f64, alpha: f64) -> Guardrail {
    match sequential(a, b, mixture, 1.0 - 2.0 * alpha) {
        Some(effect) if effect.interval.low > margin => Guardrail::Harmed,
        Some(effect) if effect.interval.high < margin => Guardrail::Safe,
        _ => Guardrail::Open,
    }
}
