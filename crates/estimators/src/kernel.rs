//! Similarity of two rows: the kernels of support vector machines, Nystroem, kernel PCA and ridge.

use crate::linear::dot;

/// A function of two rows of the same length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// The dot product.
    Linear,
    /// `(gamma x.y + coef0) ^ degree`.
    Polynomial {
        /// The factor.
        gamma: f64,
        /// The constant.
        coef0: f64,
        /// The exponent.
        degree: f64,
    },
    /// `exp(-gamma |x - y|^2)`.
    Rbf {
        /// The factor.
        gamma: f64,
    },
    /// `tanh(gamma x.y + coef0)`.
    Sigmoid {
        /// The factor.
        gamma: f64,
        /// The constant.
        coef0: f64,
    },
    /// `exp(-gamma |x - y|_1)`.
    Laplacian {
        /// The factor.
        gamma: f64,
    },
    /// The cosine of the angle.
    Cosine,
    /// `exp(-gamma sum((x - y)^2 / (x + y)))`.
    Chi2 {
        /// The factor.
        gamma: f64,
    },
    /// `-sum((x - y)^2 / (x + y))`.
    AdditiveChi2,
}

/// Returns the squared Euclidean distance.
pub(crate) fn squared_distance(left: &[f64], right: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (left_chunks, right_chunks) = (left.chunks_exact(4), right.chunks_exact(4));
    let tail = left_chunks.remainder().iter().zip(right_chunks.remainder());
    let tail: f64 = tail.map(|(a, b)| (a - b) * (a - b)).sum();
    for (left, right) in left_chunks.zip(right_chunks) {
        for lane in 0..4 {
            let difference = left[lane] - right[lane];
            sums[lane] += difference * difference;
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// Returns the sum of absolute differences.
pub(crate) fn absolute_distance(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).sum()
}

fn chi2_distance(left: &[f64], right: &[f64]) -> f64 {
    let terms = left.iter().zip(right).map(|(a, b)| {
        let (difference, sum) = (a - b, a + b);
        if sum == 0.0 {
            0.0
        } else {
            difference * difference / sum
        }
    });
    terms.sum()
}

impl Kernel {
    /// Returns the similarity of two rows.
    #[must_use]
    pub fn of(self, left: &[f64], right: &[f64]) -> f64 {
        match self {
            Self::Linear => dot(left, right),
            Self::Polynomial {
                gamma,
                coef0,
                degree,
            } => power(gamma * dot(left, right) + coef0, degree),
            Self::Rbf { gamma } => (-gamma * squared_distance(left, right)).exp(),
            Self::Sigmoid { gamma, coef0 } => (gamma * dot(left, right) + coef0).tanh(),
            Self::Laplacian { gamma } => (-gamma * absolute_distance(left, right)).exp(),
            Self::Cosine => {
                let norm = |row: &[f64]| match dot(row, row).sqrt() {
                    0.0 => 1.0,
                    norm => norm,
                };
                dot(left, right) / (norm(left) * norm(right))
            }
            Self::Chi2 { gamma } => (-gamma * chi2_distance(left, right)).exp(),
            Self::AdditiveChi2 => -chi2_distance(left, right),
        }
    }

    /// Tells whether negative numbers are refused.
    #[must_use]
    pub fn needs_positive(self) -> bool {
        matches!(self, Self::Chi2 { .. } | Self::AdditiveChi2)
    }
}

/// Returns `base ^ exponent`, by repeated multiplication where the exponent is a small whole number.
fn power(base: f64, exponent: f64) -> f64 {
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "in range by the guard"
    )]
    match exponent {
        exponent if exponent.fract() == 0.0 && (0.0..=1024.0).contains(&exponent) => {
            base.powi(exponent as i32)
        }
        exponent => base.powf(exponent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_follow_their_formulas() {
        let (x, y) = ([1.0, 2.0, 0.0, 1.0, 3.0], [0.0, 2.0, 0.0, 3.0, 1.0]);
        let polynomial = Kernel::Polynomial {
            gamma: 0.5,
            coef0: 1.0,
            degree: 3.0,
        };
        assert_eq!(Kernel::Linear.of(&x, &y), 10.0);
        assert_eq!(polynomial.of(&x, &y), 216.0);
        assert_eq!(Kernel::Rbf { gamma: 0.5 }.of(&x, &y), (-4.5_f64).exp());
        assert_eq!(
            Kernel::Laplacian { gamma: 0.5 }.of(&x, &y),
            (-2.5_f64).exp()
        );
        assert_eq!(Kernel::AdditiveChi2.of(&x, &y), -3.0);
        assert_eq!(Kernel::Cosine.of(&[0.0], &[0.0]), 0.0);
    }
}
