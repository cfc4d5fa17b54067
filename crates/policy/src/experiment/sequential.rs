//! Tests that stay valid however often one looks.
//!
//! [`sequential`] is for means of many units: a mixture sequential probability ratio test with a normal mixture over the
//! difference (Robbins, 1970; Johari, Koomen, Pekelis and Walsh, 2017), with the variance plugged in, so for some hundred units and more. [`BettingMean`]
//! is for bounded values and exact at any number of units (Waudby-Smith and Ramdas, 2024, hedged capital).

use super::fixed::around;
use super::summary::Moments;
use super::{Bounds, Effect, Method};

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
/// `mixture` is the variance of the mixture over the difference, fixed before the first look ([`mixture_for`]). The p-value of an
/// experiment is the least of all looks so far; its interval the intersection. `None` without spread.
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

/// Means that are tried.
const CANDIDATES: usize = 201;
/// The most of its capital that a bet risks.
const STAKE_MAX: f64 = 0.5;

/// An interval for the mean of values in `[0, 1]` that holds at all times at once.
///
/// Against every candidate mean two gamblers bet that values are greater, and less; a candidate whose gamblers got rich is out.
#[derive(Clone, Debug)]
pub struct BettingMean {
    alpha: f64,
    n_values: u64,
    /// Sums that begin with one value of a half and a variance of a quarter.
    sum: f64,
    squares: f64,
    /// Logarithms of the capital of those who bet on more, and on less.
    log_more: Vec<f64>,
    log_less: Vec<f64>,
    bounds: Bounds,
}

impl BettingMean {
    /// Returns an interval that knows nothing yet, wrong with probability `alpha` at most.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self {
            alpha,
            n_values: 0,
            sum: 0.5,
            squares: 0.25,
            log_more: vec![0.0; CANDIDATES],
            log_less: vec![0.0; CANDIDATES],
            bounds: Bounds {
                low: 0.0,
                high: 1.0,
            },
        }
    }

    /// Takes a value; one outside `[0, 1]` is held to it.
    pub fn push(&mut self, value: f64) {
        let value = value.clamp(0.0, 1.0);
        let next = (self.n_values + 1) as f64;
        // Bets rest on earlier values only.
        let variance = self.squares / next;
        let stake = (2.0 * (2.0 / self.alpha).ln() / (variance * next * (next + 1.0).ln())).sqrt();
        for candidate in 0..CANDIDATES {
            let mean = Self::candidate(candidate);
            let more = stake.min(STAKE_MAX / mean);
            let less = stake.min(STAKE_MAX / (1.0 - mean));
            self.log_more[candidate] += (more * (value - mean)).ln_1p();
            self.log_less[candidate] += (-less * (value - mean)).ln_1p();
        }
        self.n_values += 1;
        self.sum += value;
        let mean = self.sum / (self.n_values + 1) as f64;
        self.squares += (value - mean) * (value - mean);
        self.narrow();
    }

    /// Candidates lie in the middle of equal pieces, so that none is 0 or 1.
    fn candidate(index: usize) -> f64 {
        (index as f64 + 0.5) / CANDIDATES as f64
    }

    fn narrow(&mut self) {
        // Half of the capital bets each way.
        let ruin = (2.0 / self.alpha).ln();
        let is_in = |index: &usize| self.log_more[*index].max(self.log_less[*index]) < ruin;
        let first = (0..CANDIDATES).find(is_in);
        let last = (0..CANDIDATES).rev().find(is_in);
        // A candidate stands for its piece; with all out, the last interval stays.
        if let (Some(first), Some(last)) = (first, last) {
            let half = 0.5 / CANDIDATES as f64;
            self.bounds.low = self.bounds.low.max(Self::candidate(first) - half);
            self.bounds.high = self.bounds.high.min(Self::candidate(last) + half);
        }
    }

    /// Returns the interval so far.
    #[must_use]
    pub fn interval(&self) -> Bounds {
        self.bounds
    }
}
