//! Tests that stay valid however often one looks.
//!
//! [`sequential`] is for many units: a mixture sequential probability ratio test with a normal mixture over the
//! difference (Robbins, 1970; Johari, Koomen, Pekelis and Walsh, 2017). Its variance is plugged in, and never less than that of both sides together ([`Sides::variance`]).
//! A small part of the evidence is kept for what such a test finds late: of shares, an exact test that speaks from the first unit on; of means and ratios, differences
//! far beyond those expected. Exact for one variant at any number of units is [`super::bounded_mean`].

use super::sides::Sides;
use super::{Bounds, Effect, Method};
use crate::rollout::Better;

/// How much of the evidence is the normal mixture's over differences as they are expected.
pub(super) const NORMAL_WEIGHT: f64 = 0.9;
/// What the rest is of, where there is no exact test: mixtures over differences so many times as large.
const BEYOND: [f64; 3] = [32.0, 1_024.0, 32_768.0];
/// Shares of fewer units than these, on either side, are told apart by the exact test alone.
const NORMAL_UNITS_MIN: u64 = 100;
/// So many halvings leave nothing between two doubles that matters, and so many doublings of a standard error leave nothing to look for beyond.
const HALVINGS: u32 = 48;

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

/// Returns the logarithm of the evidence that B's mean is not A's and `difference`; 0 is none.
///
/// If it is, the evidence ever reaches `1 / alpha` with probability `alpha` at most.
#[must_use]
pub fn log_evidence(sides: &Sides, difference: f64, mixture: f64) -> f64 {
    let Some(found) = sides.difference() else {
        return 0.0;
    };
    let (above, variance) = (found - difference, sides.variance(difference));
    let normal = |mixture: f64| log_likelihood_ratio(above, variance, mixture);
    let rest = 1.0 - NORMAL_WEIGHT;
    let (n_a, n_b) = sides.units();
    match sides.log_exact(difference) {
        Some(exact) if n_a.min(n_b) < NORMAL_UNITS_MIN => {
            log_sum([NORMAL_WEIGHT.ln(), rest.ln() + exact])
        }
        Some(exact) => log_sum([NORMAL_WEIGHT.ln() + normal(mixture), rest.ln() + exact]),
        None => {
            let of_each = (rest / BEYOND.len() as f64).ln();
            let [far, farther, farthest] =
                BEYOND.map(|scale| of_each + normal(scale * scale * mixture));
            log_sum([NORMAL_WEIGHT.ln() + normal(mixture), far, farther, farthest])
        }
    }
}

/// Returns the logarithm of the sum of what has these logarithms.
fn log_sum<const N: usize>(terms: [f64; N]) -> f64 {
    let most = terms.into_iter().fold(f64::MIN, f64::max);
    if most.is_infinite() {
        return most;
    }
    most + terms
        .map(|term| (term - most).exp())
        .iter()
        .sum::<f64>()
        .ln()
}

/// Compares two means at any time.
///
/// `mixture` is the variance of the mixture over the difference, fixed before the first look ([`mixture_for`]). Of values that
/// are final, all looks so far hold together, too (the least p-value, the intersection of intervals); of those that outcomes may still add to each holds
/// alone. The interval leaves 0 out where the p-value is at most one minus the confidence, and nowhere else. `None` where all units are alike.
#[must_use]
pub fn sequential(sides: &Sides, mixture: f64, confidence: f64) -> Option<Effect> {
    let difference = sides.difference()?;
    let (n_a, n_b) = sides.units();
    if n_a.min(n_b) < 2 || sides.variance(0.0) <= 0.0 || mixture <= 0.0 {
        return None;
    }
    let is_out =
        |hypothesis: f64| log_evidence(sides, hypothesis, mixture) >= -(1.0 - confidence).ln();
    Some(Effect {
        method: match sides {
            Sides::Shares(..) => Method::SharesSequential,
            Sides::Ratios(..) => Method::MixtureSequential,
        },
        difference,
        interval: Bounds {
            low: end(sides, difference, -1.0, is_out),
            high: end(sides, difference, 1.0, is_out),
        },
        p_value: (-log_evidence(sides, 0.0, mixture)).exp().min(1.0),
    })
}

/// Returns the end of what is not out, from `inner` on in one direction. Whether 0 is out is asked first.
fn end(sides: &Sides, mut inner: f64, direction: f64, is_out: impl Fn(f64) -> bool) -> f64 {
    let limit = match sides {
        Sides::Shares(..) => direction,
        Sides::Ratios(..) => direction * f64::MAX,
    };
    let is_beyond = |one: f64, other: f64| (one - other) * direction >= 0.0;
    let mut outer = None;
    if !is_beyond(inner, 0.0) {
        match is_out(0.0) {
            true => outer = Some(0.0),
            false => inner = 0.0,
        }
    }
    let spread = sides.variance(inner).max(sides.variance(0.0)).sqrt();
    let mut step = direction * spread;
    let mut outer = outer.unwrap_or_else(|| {
        for _ in 0..HALVINGS {
            let next = inner + step;
            if is_beyond(next, limit) {
                break;
            }
            if is_out(next) {
                return next;
            }
            (inner, step) = (next, 2.0 * step);
        }
        limit
    });
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(inner, outer);
        match is_out(middle) {
            true => outer = middle,
            false => inner = middle,
        }
    }
    outer
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

/// Checks at any time that B's mean of a metric is not worse than A's by more than the margin; one-sided at `alpha`.
#[must_use]
pub fn guardrail(
    sides: &Sides,
    (better, margin): (Better, f64),
    mixture: f64,
    alpha: f64,
) -> Guardrail {
    let allowed = match better {
        Better::Lower => margin,
        Better::Higher => -margin,
    };
    let excess = sides.difference().map_or(0.0, |found| found - allowed);
    let is_worse = match better {
        Better::Lower => excess > 0.0,
        Better::Higher => excess < 0.0,
    };
    let is_told = log_evidence(sides, allowed, mixture) >= -(2.0 * alpha).ln();
    match (is_told, is_worse) {
        (false, _) => Guardrail::Open,
        (true, true) => Guardrail::Harmed,
        (true, false) => Guardrail::Safe,
    }
}

#[cfg(test)]
mod tests;
