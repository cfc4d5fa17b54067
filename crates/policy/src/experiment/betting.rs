//! What the mean of bounded values is, at any time and exact at any number of them: by betting (Waudby-Smith and Ramdas, 2024).
//!
//! Against every mean that values might have somebody bets on the next value, with what the earlier ones say; a fair game makes nobody rich, so a mean against
//! which he got rich is out. The bets are those of a Beta(1/2, 1/2) mixture (Robbins, 1970; Krichevsky and Trofimov, 1981): of values that are 0 or 1
//! each bet is what the earlier ones predict, and the capital depends on their number and sum alone, not on their order. Of values in between
//! it is less than the bets would bring (by the inequality of the arithmetic and the geometric mean), so the interval holds for them, too.

use super::Bounds;
use super::special::ln_beta;

/// Both parameters of the mixture.
const PRIOR: f64 = 0.5;
/// So many halvings leave nothing between two doubles in `[0, 1]` that matters.
const HALVINGS: u32 = 64;

/// Returns an interval for the mean of values in `[0, 1]` that holds at all times at once with probability `confidence`.
///
/// `total` is the sum of the `units` values so far. Each value must have that mean given those before it, and be final when it is counted. Nothing is known of
/// sums that cannot be: those below 0, above `units`, or no numbers.
#[must_use]
pub fn bounded_mean(total: f64, units: u64, confidence: f64) -> Bounds {
    let all = units as f64;
    let unknown = Bounds {
        low: 0.0,
        high: 1.0,
    };
    if units == 0 || !(0.0..=all).contains(&total) {
        return unknown;
    }
    let (ones, zeros) = (total, all - total);
    let mixture = ln_beta(PRIOR + ones, PRIOR + zeros) - ln_beta(PRIOR, PRIOR);
    let ruin = -(1.0 - confidence).ln();
    // Bets on what is impossible have no limit: at 0 only zeros are left, and at 1 only ones.
    let log_term = |count: f64, mean: f64| match count > 0.0 {
        true => count * mean.ln(),
        false => 0.0,
    };
    let is_out = |mean: f64| mixture - log_term(ones, mean) - log_term(zeros, 1.0 - mean) >= ruin;
    // The capital is least at the mean of the values, where nobody has won.
    let observed = ones / all;
    Bounds {
        low: between(0.0, observed, is_out),
        high: between(1.0, observed, is_out),
    }
}

/// Returns the last mean that is out on the way from `outer`, where means may be out, to `inner`, where they are not; `outer` if none is.
fn between(mut outer: f64, mut inner: f64, is_out: impl Fn(f64) -> bool) -> f64 {
    if !is_out(outer) {
        return outer;
    }
    for _ in 0..HALVINGS {
        let middle = 0.5 * (outer + inner);
        match is_out(middle) {
            true => outer = middle,
            false => inner = middle,
        }
    }
    outer
}
