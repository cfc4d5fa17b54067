//! Beta posteriors of two proportions: which is better, and what is lost by choosing wrongly.

use super::special::{ln_beta, normal_sf};
use super::summary::{Moments, Proportion};

/// What is believed of two proportions after uniform priors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// The probability that B's proportion is the greater.
    pub b_is_better: f64,
    /// How much is lost on average by choosing A (Stucchio, 2015).
    pub loss_of_a: f64,
    /// How much is lost on average by choosing B.
    pub loss_of_b: f64,
}

/// A Beta distribution with whole parameters.
#[derive(Clone, Copy, Debug)]
struct Beta {
    alpha: u64,
    beta: u64,
}

impl Beta {
    fn of(side: Proportion) -> Self {
        Self {
            alpha: side.successes + 1,
            beta: side.units.saturating_sub(side.successes) + 1,
        }
    }

    fn mean(self) -> f64 {
        self.alpha as f64 / (self.alpha + self.beta) as f64
    }

    /// The distribution of one minus it.
    fn flipped(self) -> Self {
        Self {
            alpha: self.beta,
            beta: self.alpha,
        }
    }

    /// The distribution weighted by its value.
    fn weighted(self) -> Self {
        Self {
            alpha: self.alpha + 1,
            beta: self.beta,
        }
    }
}

/// Returns the posterior of two proportions. Takes time proportional to the rarest of the four outcomes.
#[must_use]
pub fn posterior(a: Proportion, b: Proportion) -> Posterior {
    let (a, b) = (Beta::of(a), Beta::of(b));
    // E[max(A - B, 0)] = E[A] P(A weighted > B) - E[B] P(A > B weighted).
    let loss = |other: Beta, chosen: Beta| {
        other.mean() * probability_greater(other.weighted(), chosen)
            - chosen.mean() * probability_greater(other, chosen.weighted())
    };
    Posterior {
        b_is_better: probability_greater(b, a),
        loss_of_a: loss(b, a).max(0.0),
        loss_of_b: loss(a, b).max(0.0),
    }
}

/// Returns the posterior of two means of many units: normal, after flat priors; `None` without spread.
#[must_use]
pub fn normal_posterior(a: &Moments, b: &Moments) -> Option<Posterior> {
    let deviation = (a.variance_of_mean() + b.variance_of_mean()).sqrt();
    if a.units < 2 || b.units < 2 || deviation <= 0.0 {
        return None;
    }
    let z = (b.mean - a.mean) / deviation;
    // The mean of what a normal number exceeds 0 by.
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let excess = |z: f64| (deviation * (density + z * normal_sf(-z))).max(0.0);
    Some(Posterior {
        b_is_better: normal_sf(-z),
        loss_of_a: excess(z),
        loss_of_b: excess(-z),
    })
}

/// Returns P(x > y), by the closed sum over whichever whole parameter is least.
fn probability_greater(x: Beta, y: Beta) -> f64 {
    let least = x.alpha.min(x.beta).min(y.alpha).min(y.beta);
    if least == x.alpha {
        closed_sum(x, y)
    } else if least == y.alpha {
        1.0 - closed_sum(y, x)
    } else if least == y.beta {
        closed_sum(y.flipped(), x.flipped())
    } else {
        1.0 - closed_sum(x.flipped(), y.flipped())
    }
}

/// Returns P(x > y) as a sum over `x.alpha` terms.
fn closed_sum(x: Beta, y: Beta) -> f64 {
    let (beta_x, alpha_y, beta_y) = (x.beta as f64, y.alpha as f64, y.beta as f64);
    let scale = ln_beta(alpha_y, beta_y);
    let term = |i: u64| {
        let i = i as f64;
        let log = ln_beta(alpha_y + i, beta_x + beta_y) - ln_beta(1.0 + i, beta_x) - scale;
        log.exp() / (beta_x + i)
    };
    (0..x.alpha).map(term).sum::<f64>().clamp(0.0, 1.0)
}
