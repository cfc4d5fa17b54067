//! Normal distributions: squared distances in the metric of a covariance, log-densities, mixtures.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::linear::dot;
use crate::spec_error::{SpecError, expect_length};
use crate::special::log_sum_exp;

/// `constant - |(row - mean) A|^2 / 2`, or the squared length alone, for a matrix A per component.
#[derive(Clone, Debug)]
pub struct GaussianSpec {
    /// The number of columns.
    pub n_features: usize,
    /// `(components, features)`, row-major.
    pub means: Vec<f64>,
    /// One factor per component, or one for all.
    pub factors: Vec<Factor>,
    /// Added to each component's result.
    pub constants: Vec<f64>,
    /// Each squared length is multiplied by this: -1/2 for log-densities.
    pub scale: f64,
}

/// What turns a difference from the mean into one of unit covariance.
#[derive(Clone, Debug, PartialEq)]
pub enum Factor {
    /// `(outputs, features)`, row-major: the transpose of a Cholesky factor of the precision.
    Dense(Vec<f64>),
    /// A number per column.
    Diagonal(Vec<f64>),
    /// A symmetric matrix P of the quadratic form `d P d` itself, `(features, features)`.
    Form(Vec<f64>),
}

/// Quadratic functions of a row, one per component.
#[derive(Debug)]
pub struct Gaussians {
    spec: GaussianSpec,
}

impl Gaussians {
    /// Checks the parts and returns the functions.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit.
    pub fn try_new(spec: GaussianSpec) -> Result<Self, SpecError> {
        let n = spec.n_features;
        let n_components = spec.constants.len();
        if n == 0 || n_components == 0 {
            return Err(SpecError::new("there are no components"));
        }
        expect_length("means_", spec.means.len(), n_components.saturating_mul(n))?;
        if spec.factors.len() != 1 {
            expect_length("factors", spec.factors.len(), n_components)?;
        }
        for factor in &spec.factors {
            match factor {
                Factor::Dense(values) if values.len().is_multiple_of(n) && !values.is_empty() => {}
                Factor::Dense(values) | Factor::Form(values) => {
                    expect_length("a factor", values.len(), n.saturating_mul(n))?;
                }
                Factor::Diagonal(values) => expect_length("a factor", values.len(), n)?,
            }
        }
        Ok(Self { spec })
    }
}

impl Factor {
    fn squared_length(&self, difference: &[f64]) -> f64 {
        let rows = |values: &'_ [f64]| -> f64 {
            let rows = values.chunks_exact(difference.len());
            rows.map(|row| {
                let value = dot(row, difference);
                value * value
            })
            .sum()
        };
        match self {
            Self::Dense(values) => rows(values),
            Self::Diagonal(values) => {
                let pairs = difference.iter().zip(values);
                pairs.map(|(d, v)| (d * v) * (d * v)).sum()
            }
            Self::Form(values) => {
                let rows = values.chunks_exact(difference.len());
                let terms = rows
                    .zip(difference)
                    .map(|(row, d)| d * dot(row, difference));
                terms.sum()
            }
        }
    }
}

impl Scorer for Gaussians {
    fn n_features(&self) -> usize {
        self.spec.n_features
    }

    fn n_scores(&self) -> usize {
        self.spec.constants.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let spec = &self.spec;
        let mut difference = vec![0.0; spec.n_features];
        for (row, scores) in rows
            .iter()
            .zip(scores.chunks_exact_mut(spec.constants.len()))
        {
            let means = spec.means.chunks_exact(spec.n_features);
            let factors = spec.factors.iter().cycle();
            let components = means.zip(factors).zip(&spec.constants);
            for (score, ((mean, factor), constant)) in scores.iter_mut().zip(components) {
                for ((d, x), mean) in difference.iter_mut().zip(row).zip(mean) {
                    *d = x - mean;
                }
                *score = spec.scale * factor.squared_length(&difference) + constant;
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let sizes = self.spec.factors.iter().map(|factor| match factor {
            Factor::Dense(values) | Factor::Diagonal(values) | Factor::Form(values) => values.len(),
        });
        (self.spec.means.len() + sizes.sum::<usize>()) * size_of::<f64>()
    }
}

/// How the log-probabilities of components or classes are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSum {
    /// The logarithm of the sum of their exponentials.
    Total,
    /// Each less that.
    Shares,
    /// The same, after the largest has been subtracted from each.
    SharesOfLargest,
}

/// The normalisation of log-probabilities.
#[derive(Debug)]
pub struct LogNormalized {
    inner: std::sync::Arc<dyn crate::TableFn>,
    kind: LogSum,
}

impl LogNormalized {
    /// Returns the normalisation of what `inner` gives.
    #[must_use]
    pub fn new(inner: std::sync::Arc<dyn crate::TableFn>, kind: LogSum) -> Self {
        Self { inner, kind }
    }
}

impl crate::TableFn for LogNormalized {
    fn n_features(&self) -> usize {
        self.inner.n_features()
    }

    fn n_columns(&self) -> usize {
        match self.kind {
            LogSum::Total => 1,
            LogSum::Shares | LogSum::SharesOfLargest => self.inner.n_columns(),
        }
    }

    fn accepts(&self) -> Accepts {
        self.inner.accepts()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, coracle_model::RunError> {
        let mut values = self.inner.apply(rows)?;
        let width = self.inner.n_columns().max(1);
        match self.kind {
            LogSum::Total => Ok(values.chunks_exact(width).map(log_sum_exp).collect()),
            LogSum::Shares | LogSum::SharesOfLargest => {
                for row in values.chunks_exact_mut(width) {
                    if self.kind == LogSum::SharesOfLargest {
                        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        row.iter_mut().for_each(|value| *value -= largest);
                    }
                    let total = log_sum_exp(row);
                    row.iter_mut().for_each(|value| *value -= total);
                }
                Ok(values)
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.inner.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_factors_agree() {
        let spec = |factor| GaussianSpec {
            n_features: 2,
            means: vec![1.0, 0.0],
            factors: vec![factor],
            constants: vec![0.5],
            scale: -0.5,
        };
        let rows = Rows::try_new(&[2.0, 3.0], 2).unwrap();
        let factors = [
            Factor::Dense(vec![2.0, 0.0, 0.0, 1.0]),
            Factor::Diagonal(vec![2.0, 1.0]),
            Factor::Form(vec![4.0, 0.0, 0.0, 1.0]),
        ];
        for factor in factors {
            let mut score = [0.0];
            let gaussians = Gaussians::try_new(spec(factor)).unwrap();
            gaussians.score(rows, &mut score);
            assert_eq!(score, [-6.0]);
        }
        assert!(Gaussians::try_new(spec(Factor::Diagonal(vec![1.0]))).is_err());
    }
}
