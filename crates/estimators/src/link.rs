//! From raw scores to the probability of each class.

/// The function from a row of scores to a row of probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The scores are probabilities already (forests).
    Identity,
    /// One score s: the second class has probability 1 / (1 + exp(-s)).
    Sigmoid,
    /// One score s: the second class has probability 1 / (1 + exp(-2 s)) (exponential loss).
    DoubledSigmoid,
    /// A score per class: exp(s) over the sum of all.
    Softmax,
    /// One score s, two classes: the softmax of (-s, s) (a binary multinomial logistic regression).
    SymmetricSoftmax,
    /// A score per class: the sigmoid of each, over their sum (one versus rest). A row whose sigmoids are all 0
    /// becomes NaN.
    NormalizedSigmoids,
    /// The same, but such a row is spread evenly (scikit-learn from 1.9 on).
    NormalizedSigmoidsOrEven,
    /// Scores clipped to -1..1 and mapped to 0..1 (modified Huber loss); per class, over their sum.
    ModifiedHuber,
}

impl Link {
    /// Returns whether this link takes `n_scores` scores to `n_classes` probabilities.
    #[must_use]
    pub fn fits(self, n_scores: usize, n_classes: usize) -> bool {
        match self {
            Self::Identity => n_scores == n_classes,
            Self::Sigmoid | Self::DoubledSigmoid | Self::SymmetricSoftmax => {
                n_scores == 1 && n_classes == 2
            }
            Self::Softmax | Self::NormalizedSigmoids | Self::NormalizedSigmoidsOrEven => {
                n_scores == n_classes
            }
            Self::ModifiedHuber => {
                n_scores == n_classes && n_classes > 2 || n_scores == 1 && n_classes == 2
            }
        }
    }

    /// Writes the probabilities of one row.
    ///
    /// # Panics
    /// If the lengths do not [fit](Link::fits).
    pub fn probabilities(self, scores: &[f64], probabilities: &mut [f64]) {
        match self {
            Self::Identity => probabilities.copy_from_slice(scores),
            Self::Sigmoid => write_binary(sigmoid(scores[0]), probabilities),
            Self::DoubledSigmoid => write_binary(sigmoid(2.0 * scores[0]), probabilities),
            Self::Softmax => {
                probabilities.copy_from_slice(scores);
                softmax(probabilities);
            }
            Self::SymmetricSoftmax => {
                probabilities.copy_from_slice(&[-scores[0], scores[0]]);
                softmax(probabilities);
            }
            Self::NormalizedSigmoids => {
                write_sigmoids(scores, probabilities);
                divide_by_sum(probabilities);
            }
            Self::NormalizedSigmoidsOrEven => {
                write_sigmoids(scores, probabilities);
                divide_by_sum_or_spread(probabilities);
            }
            Self::ModifiedHuber => modified_huber(scores, probabilities),
        }
    }
}

/// Returns 1 / (1 + exp(-x)).
#[must_use]
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn write_binary(second: f64, probabilities: &mut [f64]) {
    probabilities.copy_from_slice(&[1.0 - second, second]);
}

/// Replaces scores by their softmax; the largest is subtracted first, so that nothing overflows.
pub(crate) fn softmax(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for score in &mut *scores {
        *score = (*score - largest).exp();
    }
    divide_by_sum(scores);
}

fn write_sigmoids(scores: &[f64], probabilities: &mut [f64]) {
    for (probability, &score) in probabilities.iter_mut().zip(scores) {
        *probability = sigmoid(score);
    }
}

/// Divides by the sum; a row that every class rejects is spread evenly.
fn divide_by_sum_or_spread(values: &mut [f64]) {
    if values.iter().all(|&value| value == 0.0) {
        values.fill(1.0);
    }
    divide_by_sum(values);
}

fn divide_by_sum(values: &mut [f64]) {
    let sum: f64 = values.iter().sum();
    for value in values {
        *value /= sum;
    }
}

fn modified_huber(scores: &[f64], probabilities: &mut [f64]) {
    let half_open = |score: f64| (score.clamp(-1.0, 1.0) + 1.0) / 2.0;
    if let [score] = scores {
        return write_binary(half_open(*score), probabilities);
    }
    for (probability, &score) in probabilities.iter_mut().zip(scores) {
        *probability = half_open(score);
    }
    divide_by_sum_or_spread(probabilities);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one() {
        let cases: [(Link, &[f64]); 8] = [
            (Link::Sigmoid, &[0.3]),
            (Link::DoubledSigmoid, &[-2.0]),
            (Link::Softmax, &[1.0, 1000.0, -3.0]),
            (Link::SymmetricSoftmax, &[0.7]),
            (Link::NormalizedSigmoids, &[0.1, -0.2, 3.0]),
            (Link::NormalizedSigmoidsOrEven, &[-1000.0, -800.0, -900.0]),
            (Link::ModifiedHuber, &[-5.0, -1.0, -2.0]),
            (Link::ModifiedHuber, &[0.2]),
        ];
        for (link, scores) in cases {
            let n_classes = scores.len().max(2);
            assert!(link.fits(scores.len(), n_classes));
            let mut probabilities = vec![0.0; n_classes];
            link.probabilities(scores, &mut probabilities);
            let sum: f64 = probabilities.iter().sum();
            assert!((sum - 1.0).abs() < 1e-15, "{link:?}: {probabilities:?}");
        }
    }

    #[test]
    fn binary_links_need_one_score_and_two_classes() {
        assert!(!Link::Sigmoid.fits(1, 3));
        assert!(!Link::Sigmoid.fits(2, 2));
        assert!(!Link::Softmax.fits(1, 2));
        assert!(!Link::ModifiedHuber.fits(2, 2));
    }
}
