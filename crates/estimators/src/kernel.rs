//! Similarity of two rows: the kernels of support vector machines, Nystroem, kernel PCA and ridge.

use coracle_model::{Accepts, RunError, RunErrorKind};
use coracle_tensor::Rows;

use crate::linear::dot;
use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::TableFn;

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

/// Weighted sums of a row's similarities to reference rows.
#[derive(Clone, Debug)]
pub struct KernelMapSpec {
    /// The kernel.
    pub kernel: Kernel,
    /// The number of columns.
    pub n_features: usize,
    /// `(references, features)`, row-major.
    pub references: Vec<f64>,
    /// `(outputs, references)`, row-major.
    pub weights: Vec<f64>,
    /// Centring in the kernel's space: the mean similarity to each reference, and the mean of those.
    pub centering: Option<(Vec<f64>, f64)>,
}

/// A function that is linear in the kernel's space: ridge, principal components, Nystroem's approximation.
#[derive(Debug)]
pub struct KernelMap {
    spec: KernelMapSpec,
    n_references: usize,
    n_outputs: usize,
}

impl KernelMap {
    /// Checks the parts and returns the function.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit.
    pub fn try_new(spec: KernelMapSpec) -> Result<Self, SpecError> {
        let divide = |total: usize, by: usize| total.checked_div(by).unwrap_or_default();
        let n_references = divide(spec.references.len(), spec.n_features);
        let n_outputs = divide(spec.weights.len(), n_references);
        if n_references == 0 || n_outputs == 0 {
            return Err(SpecError::new("there are no references or outputs"));
        }
        let expected = n_references * spec.n_features;
        expect_length("references", spec.references.len(), expected)?;
        expect_length("weights", spec.weights.len(), n_references * n_outputs)?;
        if let Some((means, _)) = &spec.centering {
            expect_length("mean similarities", means.len(), n_references)?;
        }
        Ok(Self {
            spec,
            n_references,
            n_outputs,
        })
    }
}

impl TableFn for KernelMap {
    fn n_features(&self) -> usize {
        self.spec.n_features
    }

    fn n_columns(&self) -> usize {
        self.n_outputs
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        if self.spec.kernel.needs_positive() && rows.values().iter().any(|&value| value < 0.0) {
            return Err(negative());
        }
        let mut similarities = vec![0.0; self.n_references];
        let mut outputs = Vec::with_capacity(rows.n_rows() * self.n_outputs);
        for row in rows.iter() {
            let references = self.spec.references.chunks_exact(self.spec.n_features);
            for (similarity, reference) in similarities.iter_mut().zip(references) {
                *similarity = self.spec.kernel.of(row, reference);
            }
            if let Some((means, mean)) = &self.spec.centering {
                let sum: f64 = similarities.iter().sum();
                let own_mean = sum / count(self.n_references);
                for (similarity, reference_mean) in similarities.iter_mut().zip(means) {
                    *similarity = *similarity - reference_mean - own_mean + mean;
                }
            }
            let weights = self.spec.weights.chunks_exact(self.n_references);
            outputs.extend(weights.map(|weights| dot(&similarities, weights)));
        }
        Ok(outputs)
    }

    fn memory_bytes(&self) -> usize {
        (self.spec.references.capacity() + self.spec.weights.capacity()) * size_of::<f64>()
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a number of rows"
)]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

/// Returns the error of a negative number where none is taken.
pub(crate) fn negative() -> RunError {
    RunError::new(
        RunErrorKind::ValueOutOfRange,
        "a negative value; this model takes numbers from 0",
    )
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
