//! The functions from the scores of a boosted ensemble to its values, in the libraries' own arithmetic.

use super::BoostedPrecision;

/// A function from a row of scores to a row of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BoostedLink {
    /// The scores are the values.
    Identity,
    /// 1 / (1 + exp(-scale s)) of every score.
    Sigmoid {
        /// The factor before the score.
        scale: f64,
    },
    /// The exponential of every score.
    Exponential,
    /// exp(s) over the sum of all.
    Softmax,
    /// The index of the first largest score: one value per row.
    LargestIndex,
    /// 1 if the score is above zero, else 0.
    Step,
    /// The square of every score, with its sign.
    SignedSquare,
    /// log(1 + exp(s)).
    LogOnePlusExponential,
}

impl BoostedLink {
    /// Returns how many values so many scores give.
    pub(super) fn n_values(self, n_scores: usize) -> usize {
        match self {
            Self::LargestIndex => 1,
            _ => n_scores,
        }
    }

    /// Replaces rows of `n_scores` scores by rows of values.
    pub(super) fn apply(self, precision: BoostedPrecision, n_scores: usize, scores: &mut Vec<f64>) {
        match (self, precision) {
            (Self::Identity, _) => {}
            (Self::Softmax, BoostedPrecision::Single) => {
                scores.chunks_exact_mut(n_scores).for_each(softmax_single);
            }
            (Self::Softmax, BoostedPrecision::Double) => {
                scores.chunks_exact_mut(n_scores).for_each(softmax);
            }
            (Self::LargestIndex, _) => {
                let indices = super::largest(scores, n_scores);
                #[expect(clippy::cast_precision_loss, reason = "a number of classes")]
                let indices = indices.into_iter().map(|index| index as f64);
                *scores = indices.collect();
            }
            (Self::Sigmoid { .. }, BoostedPrecision::Single) => map_single(scores, sigmoid_single),
            (Self::Exponential, BoostedPrecision::Single) => map_single(scores, f32::exp),
            (Self::Sigmoid { scale }, BoostedPrecision::Double) => {
                map(scores, |score| 1.0 / (1.0 + (-scale * score).exp()));
            }
            (Self::Exponential, BoostedPrecision::Double) => map(scores, f64::exp),
            (Self::Step, _) => map(scores, |score| if score > 0.0 { 1.0 } else { 0.0 }),
            (Self::SignedSquare, _) => map(scores, |score| {
                let square = score * score;
                if score < 0.0 { -square } else { square }
            }),
            (Self::LogOnePlusExponential, _) => map(scores, |score| score.exp().ln_1p()),
        }
    }
}

fn map(scores: &mut [f64], function: impl Fn(f64) -> f64) {
    for score in scores {
        *score = function(*score);
    }
}

/// Applies a function of singles to scores that are singles, widened.
fn map_single(scores: &mut [f64], function: impl Fn(f32) -> f32) {
    map(scores, |score| f64::from(function(narrow(score))));
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "exact for singles, and rounding is the point for others"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// XGBoost's sigmoid: the exponent is kept from overflowing.
fn sigmoid_single(score: f32) -> f32 {
    const EXPONENT_MAX: f32 = 88.7;
    const EPSILON: f32 = 1e-16;
    let exponential = (-score).min(EXPONENT_MAX).exp();
    1.0 / (exponential + 1.0 + EPSILON)
}

/// XGBoost's softmax: exponentials in single precision, their sum in double, rounded before the division.
fn softmax_single(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        let exponential = (narrow(*score) - narrow(largest)).exp();
        *score = f64::from(exponential);
        sum += *score;
    }
    let sum = narrow(sum);
    map_single(scores, |exponential| exponential / sum);
}

fn softmax(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = (*score - largest).exp();
        sum += *score;
    }
    map(scores, |exponential| exponential / sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_give_their_values() {
        let single = BoostedPrecision::Single;
        let double = BoostedPrecision::Double;
        let cases: [(BoostedLink, BoostedPrecision, &[f64], &[f64]); 9] = [
            (BoostedLink::Identity, single, &[1.5, -2.0], &[1.5, -2.0]),
            (BoostedLink::Sigmoid { scale: 1.0 }, single, &[0.0], &[0.5]),
            (BoostedLink::Sigmoid { scale: 2.0 }, double, &[0.0], &[0.5]),
            (BoostedLink::Exponential, double, &[0.0], &[1.0]),
            (BoostedLink::Softmax, single, &[3.0, 3.0], &[0.5, 0.5]),
            (BoostedLink::Softmax, double, &[900.0, 900.0], &[0.5, 0.5]),
            (BoostedLink::LargestIndex, single, &[1.0, 3.0, 3.0], &[1.0]),
            (
                BoostedLink::Step,
                single,
                &[0.0, 0.1, -4.0],
                &[0.0, 1.0, 0.0],
            ),
            (
                BoostedLink::SignedSquare,
                double,
                &[-3.0, 2.0],
                &[-9.0, 4.0],
            ),
        ];
        for (link, precision, scores, expected) in cases {
            let mut values = scores.to_vec();
            link.apply(precision, scores.len(), &mut values);
            assert_eq!(values, expected, "{link:?}");
            let n_values = scores.len().min(expected.len());
            assert_eq!(link.n_values(scores.len()), n_values);
        }
    }

    #[test]
    fn a_huge_margin_does_not_overflow() {
        assert!(sigmoid_single(-1e30) > 0.0);
        assert_eq!(sigmoid_single(1e30), 1.0);
    }
}
