//! Two variants' values of a metric, and how much their difference may vary by chance.
//!
//! A few units without an event have no spread at all, and neither has a variant all of whose units do the same; to take that for the variance would make anything look
//! certain. So each side is held to what both have in common: under the hypothesis that B's mean is A's and a difference, the units of both together tell how units spread.

use super::special::ln_beta;
use super::summary::{Bivariate, Moments, Proportion};

/// Both parameters of the mixture over a rate (Krichevsky and Trofimov, 1981).
const PRIOR: f64 = 0.5;
/// So many halvings leave nothing between two rates that matters.
const HALVINGS: u32 = 60;

/// The values of variants A and B in one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sides {
    /// Each unit did or did not.
    Shares(Proportion, Proportion),
    /// Each unit has a number, of which the second value is how much it weighs: 1, or the denominator of a ratio.
    Ratios(Bivariate, Bivariate),
}

impl Sides {
    /// Returns those of means over units.
    #[must_use]
    pub fn means(a: &Moments, b: &Moments) -> Self {
        Self::Ratios(Bivariate::of_mean(a), Bivariate::of_mean(b))
    }

    /// Returns the units of either.
    #[must_use]
    pub fn units(&self) -> (u64, u64) {
        match self {
            Self::Shares(a, b) => (a.units, b.units),
            Self::Ratios(a, b) => (a.first.units, b.first.units),
        }
    }

    /// Returns B's mean minus A's; `None` where one has none.
    #[must_use]
    pub fn difference(&self) -> Option<f64> {
        let (n_a, n_b) = self.units();
        let difference = match self {
            Self::Shares(a, b) => b.rate() - a.rate(),
            Self::Ratios(a, b) => b.to_ratio()?.mean - a.to_ratio()?.mean,
        };
        (n_a > 0 && n_b > 0).then_some(difference)
    }

    /// Returns the variance of the difference if the true one is `difference`: that of what either side shows by itself, or of what both show together, whichever is more.
    ///
    /// The first is more where few units of a side stand out, the second where they lack what is rare. The second is the variance of the score test: of shares
    /// that of rates which differ by so much (Farrington and Manning, 1990, by the total instead of the likelihood); of means and ratios that of the distances from one mean, once B's units have so much less.
    #[must_use]
    pub fn variance(&self, difference: f64) -> f64 {
        let (n_a, n_b) = self.units();
        let (n_a, n_b) = (n_a.max(1) as f64, n_b.max(1) as f64);
        match self {
            Self::Shares(a, b) => {
                let of = |rate: f64, units: f64| rate * (1.0 - rate) / units;
                let own = of(a.rate(), n_a) + of(b.rate(), n_b);
                let all = (a.successes + b.successes) as f64;
                let (least, most) = rates(difference);
                let base = (all - n_b * difference) / (n_a + n_b);
                let base = base.max(least).min(most);
                own.max(of(base, n_a) + of((base + difference).clamp(0.0, 1.0), n_b))
            }
            Self::Ratios(a, b) => {
                let of_mean =
                    |side: &Bivariate| side.to_ratio().map(|ratio| ratio.variance_of_mean());
                let own = of_mean(a).zip(of_mean(b)).map_or(0.0, |(a, b)| a + b);
                let mut both = b.less(difference);
                both.merge(a);
                let of_unit = both.to_ratio().map_or(0.0, |ratio| ratio.variance());
                own.max(of_unit * (1.0 / n_a + 1.0 / n_b))
            }
        }
    }

    /// Returns the logarithm of the evidence against two shares that differ by `difference`, whatever they are; exact at any number of units. `None` if they are no shares.
    ///
    /// Against each pair of rates somebody bets on every unit of either variant, with what its earlier ones say; the product of both capitals is a nonnegative martingale if the two
    /// are true. So is the least of all pairs with this difference at most one (universal inference: Wasserman, Ramdas and Balakrishnan, 2020; of two proportions: Turner, Ly and Grünwald, 2024).
    pub(super) fn log_exact(&self, difference: f64) -> Option<f64> {
        let Self::Shares(a, b) = self else {
            return None;
        };
        let counts = |side: &Proportion| {
            let successes = side.successes.min(side.units) as f64;
            (successes, side.units as f64 - successes)
        };
        let (of_a, of_b) = (counts(a), counts(b));
        let mixture = |(ones, zeros): (f64, f64)| {
            ln_beta(PRIOR + ones, PRIOR + zeros) - ln_beta(PRIOR, PRIOR)
        };
        // The likelihood is greatest where its slope, which falls, is zero.
        let slope = |(ones, zeros): (f64, f64), rate: f64| ones / rate - zeros / (1.0 - rate);
        let (mut low, mut high) = rates(difference);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            match slope(of_a, middle) + slope(of_b, middle + difference) > 0.0 {
                true => low = middle,
                false => high = middle,
            }
        }
        let rate = f64::midpoint(low, high);
        let likelihood = log_likelihood(of_a, rate) + log_likelihood(of_b, rate + difference);
        Some(mixture(of_a) + mixture(of_b) - likelihood)
    }
}

/// Returns which rates of A leave B, whose rate is greater by `difference`, one.
fn rates(difference: f64) -> (f64, f64) {
    ((-difference).max(0.0), (1.0 - difference).min(1.0))
}

fn log_likelihood((ones, zeros): (f64, f64), rate: f64) -> f64 {
    let of = |count: f64, rate: f64| match count > 0.0 {
        true => count * rate.max(0.0).ln(),
        false => 0.0,
    };
    of(ones, rate) + of(zeros, 1.0 - rate)
}
