//! Gaussian processes: kernels that are added and multiplied, means, and Laplace's approximation for two classes.

use std::sync::Arc;

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::kernel::squared_distance;
use crate::linear::dot;
use crate::spec_error::{SpecError, expect_length};
use crate::special::erf;

/// A covariance of two rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Covariance {
    /// A constant.
    Constant(f64),
    /// Noise: nothing between a row and the training data, this much with itself.
    White(f64),
    /// `exp(-d^2 / 2)`, d in units of the length scales (one, or one per column).
    Rbf(Vec<f64>),
    /// Matern's of smoothness 1/2, 3/2, 5/2 (or infinite).
    Matern {
        /// One length scale, or one per column.
        scales: Vec<f64>,
        /// The smoothness.
        smoothness: Smoothness,
    },
    /// `(1 + d^2 / (2 alpha l^2)) ^ -alpha`.
    RationalQuadratic {
        /// The length scale.
        scale: f64,
        /// The mixture of scales.
        alpha: f64,
    },
    /// `exp(-2 (sin(pi d / period) / l)^2)`.
    Periodic {
        /// The length scale.
        scale: f64,
        /// The period.
        period: f64,
    },
    /// `sigma^2 + x.y`.
    Dot(f64),
    /// A sum.
    Sum(Box<Self>, Box<Self>),
    /// A product.
    Product(Box<Self>, Box<Self>),
    /// A power.
    Power(Box<Self>, f64),
}

/// The smoothness of Matern's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Smoothness {
    /// 1/2.
    Half,
    /// 3/2.
    ThreeHalves,
    /// 5/2.
    FiveHalves,
    /// Infinite.
    Infinite,
}

fn scaled_square(left: &[f64], right: &[f64], scales: &[f64]) -> f64 {
    let terms = left.iter().zip(right).zip(scales.iter().cycle());
    terms
        .map(|((a, b), scale)| {
            let difference = a / scale - b / scale;
            difference * difference
        })
        .sum()
}

impl Covariance {
    fn of(&self, left: &[f64], right: &[f64]) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::White(_) => 0.0,
            Self::Rbf(scales) => (-0.5 * scaled_square(left, right, scales)).exp(),
            Self::Matern { scales, smoothness } => {
                let square = scaled_square(left, right, scales);
                let distance = square.sqrt();
                match smoothness {
                    Smoothness::Half => (-distance).exp(),
                    Smoothness::ThreeHalves => {
                        let k = distance * 3.0_f64.sqrt();
                        (1.0 + k) * (-k).exp()
                    }
                    Smoothness::FiveHalves => {
                        let k = distance * 5.0_f64.sqrt();
                        (1.0 + k + k * k / 3.0) * (-k).exp()
                    }
                    Smoothness::Infinite => (-square / 2.0).exp(),
                }
            }
            Self::RationalQuadratic { scale, alpha } => {
                let square = squared_distance(left, right);
                (1.0 + square / (2.0 * alpha * scale * scale)).powf(-alpha)
            }
            Self::Periodic { scale, period } => {
                let distance = squared_distance(left, right).sqrt();
                let sine = (std::f64::consts::PI / period * distance).sin() / scale;
                (-2.0 * sine * sine).exp()
            }
            Self::Dot(sigma) => dot(left, right) + sigma * sigma,
            Self::Sum(a, b) => a.of(left, right) + b.of(left, right),
            Self::Product(a, b) => a.of(left, right) * b.of(left, right),
            Self::Power(inner, exponent) => inner.of(left, right).powf(*exponent),
        }
    }

    fn with_itself(&self, row: &[f64]) -> f64 {
        match self {
            Self::White(noise) => *noise,
            Self::Sum(a, b) => a.with_itself(row) + b.with_itself(row),
            Self::Product(a, b) => a.with_itself(row) * b.with_itself(row),
            Self::Power(inner, exponent) => inner.with_itself(row).powf(*exponent),
            other => other.of(row, row),
        }
    }

    /// Checks that length scales fit the number of columns.
    fn check(&self, n_features: usize) -> Result<(), SpecError> {
        match self {
            Self::Rbf(scales) | Self::Matern { scales, .. } if scales.len() != 1 => {
                expect_length("length_scale", scales.len(), n_features)
            }
            Self::Sum(a, b) | Self::Product(a, b) => {
                a.check(n_features)?;
                b.check(n_features)
            }
            Self::Power(inner, _) => inner.check(n_features),
            _ => Ok(()),
        }
    }
}

/// What is answered of the process.
#[derive(Clone, Debug)]
pub enum ProcessAnswer {
    /// The mean of each target: weights `(targets, rows)`, then a factor and a term per target.
    Mean {
        /// The weights.
        weights: Vec<f64>,
        /// Each mean is multiplied by this.
        scale: Vec<f64>,
        /// And this is added.
        shift: Vec<f64>,
    },
    /// The standard deviation of each target.
    Deviation {
        /// Each deviation is multiplied by this.
        scale: Vec<f64>,
    },
    /// The probability of the second of two classes.
    Probability {
        /// The weights of the latent mean.
        weights: Vec<f64>,
        /// The square roots of the weights of the rows.
        roots: Vec<f64>,
    },
}

/// What all answers of a process share: its covariance, the training data, and what is spread among these.
#[derive(Debug)]
pub struct Prior {
    covariance: Covariance,
    data: Vec<f64>,
    n_features: usize,
    factor: Vec<f64>,
}

impl Prior {
    /// Returns the covariance with training data `(n, n_features)`, and a lower triangular matrix `(n, n)`, or nothing where only means are asked
    /// for.
    ///
    /// # Errors
    /// [`SpecError`] if there are no data, or lengths do not fit.
    pub fn try_new(
        covariance: Covariance,
        data: Vec<f64>,
        n_features: usize,
        factor: Option<Vec<f64>>,
    ) -> Result<Self, SpecError> {
        let n = data.len().checked_div(n_features).unwrap_or_default();
        if n == 0 {
            return Err(SpecError::new("there are no training data"));
        }
        expect_length("X_train_", data.len(), n * n_features)?;
        covariance.check(n_features)?;
        if let Some(factor) = &factor {
            expect_length("L_", factor.len(), n.saturating_mul(n))?;
        }
        Ok(Self {
            covariance,
            data,
            n_features,
            factor: factor.unwrap_or_default(),
        })
    }

    /// Returns the number of rows of the training data.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.data.len() / self.n_features
    }

    fn covariances(&self, row: &[f64], covariances: &mut [f64]) {
        let data = self.data.chunks_exact(self.n_features);
        for (covariance, other) in covariances.iter_mut().zip(data) {
            *covariance = self.covariance.of(row, other);
        }
    }
}

/// A fitted process.
#[derive(Debug)]
pub struct Process {
    prior: Arc<Prior>,
    answer: ProcessAnswer,
}

impl Process {
    /// Returns the process that gives this answer.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit.
    pub fn try_new(prior: Arc<Prior>, answer: ProcessAnswer) -> Result<Self, SpecError> {
        let n = prior.n_rows();
        match &answer {
            ProcessAnswer::Mean {
                weights,
                scale,
                shift,
            } => {
                expect_length("alpha_", weights.len(), n.saturating_mul(scale.len()))?;
                expect_length("_y_train_mean", shift.len(), scale.len())?;
                if scale.is_empty() {
                    return Err(SpecError::new("there are no targets"));
                }
            }
            ProcessAnswer::Deviation { scale } => {
                expect_length("L_", prior.factor.len(), n.saturating_mul(n))?;
                if scale.is_empty() {
                    return Err(SpecError::new("there are no targets"));
                }
            }
            ProcessAnswer::Probability { weights, roots } => {
                expect_length("pi_", weights.len(), n)?;
                expect_length("L_", prior.factor.len(), n.saturating_mul(n))?;
                expect_length("W_sr_", roots.len(), n)?;
            }
        }
        Ok(Self { prior, answer })
    }
}

/// Williams and Barber's approximation of the logistic function by five error functions.
const LAMBDAS: [f64; 5] = [0.41, 0.4, 0.37, 0.44, 0.39];
const COEFFICIENTS: [f64; 5] = [
    -1854.8214151,
    3516.89893646,
    221.29346712,
    128.12323805,
    -2010.49422654,
];

fn probability(mean: f64, variance: f64) -> f64 {
    let alpha = 1.0 / (2.0 * variance);
    let pi = std::f64::consts::PI;
    let mut sum = 0.0;
    for (lambda, coefficient) in LAMBDAS.iter().zip(COEFFICIENTS) {
        let inner = lambda * mean * (alpha / (alpha + lambda * lambda)).sqrt();
        let integral = (pi / alpha).sqrt() * erf(inner) / (2.0 * (variance * 2.0 * pi).sqrt());
        sum += coefficient * integral;
    }
    sum + 0.5 * COEFFICIENTS.iter().sum::<f64>()
}

/// Solves `L v = b` for a lower triangular L; `v` holds b before.
fn solve_lower(factor: &[f64], v: &mut [f64]) {
    let n = v.len();
    for row in 0..n {
        let known = dot(&factor[row * n..row * n + row], &v[..row]);
        v[row] = (v[row] - known) / factor[row * n + row];
    }
}

impl Scorer for Process {
    fn n_features(&self) -> usize {
        self.prior.n_features
    }

    fn n_scores(&self) -> usize {
        match &self.answer {
            ProcessAnswer::Mean { scale, .. } | ProcessAnswer::Deviation { scale } => scale.len(),
            ProcessAnswer::Probability { .. } => 1,
        }
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let n = self.prior.n_rows();
        let mut covariances = vec![0.0; n];
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.n_scores())) {
            self.prior.covariances(row, &mut covariances);
            match &self.answer {
                ProcessAnswer::Mean {
                    weights,
                    scale,
                    shift,
                } => {
                    let targets = scores.iter_mut().zip(weights.chunks_exact(n));
                    for ((score, weights), (scale, shift)) in targets.zip(scale.iter().zip(shift)) {
                        *score = scale * dot(&covariances, weights) + shift;
                    }
                }
                ProcessAnswer::Deviation { scale } => {
                    solve_lower(&self.prior.factor, &mut covariances);
                    let explained = dot(&covariances, &covariances);
                    // Rounding may leave less than nothing.
                    let variance = match self.prior.covariance.with_itself(row) - explained {
                        variance if variance < 0.0 => 0.0,
                        variance => variance,
                    };
                    for (score, scale) in scores.iter_mut().zip(scale) {
                        *score = (variance * (scale * scale)).sqrt();
                    }
                }
                ProcessAnswer::Probability { weights, roots } => {
                    let mean = dot(&covariances, weights);
                    for (covariance, root) in covariances.iter_mut().zip(roots) {
                        *covariance *= root;
                    }
                    solve_lower(&self.prior.factor, &mut covariances);
                    let explained = dot(&covariances, &covariances);
                    let variance = self.prior.covariance.with_itself(row) - explained;
                    scores[0] = probability(mean, variance);
                }
            }
        }
    }

    /// Answers that share their prior are of one model: it counts one of them.
    fn memory_bytes(&self) -> usize {
        let own = match &self.answer {
            ProcessAnswer::Mean { weights, .. } => weights.len(),
            ProcessAnswer::Deviation { scale } => scale.len(),
            ProcessAnswer::Probability { weights, roots } => weights.len() + roots.len(),
        };
        (self.prior.data.len() + self.prior.factor.len() + own) * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_add_and_multiply() {
        let rbf = || Box::new(Covariance::Rbf(vec![2.0]));
        let scaled = Covariance::Product(Box::new(Covariance::Constant(3.0)), rbf());
        let noisy = Covariance::Sum(Box::new(scaled), Box::new(Covariance::White(0.5)));
        assert_eq!(noisy.of(&[1.0], &[3.0]), 3.0 * (-0.5_f64).exp());
        assert_eq!(noisy.with_itself(&[1.0]), 3.5);
        let wrong = Covariance::Rbf(vec![1.0, 2.0, 3.0]);
        assert!(wrong.check(2).is_err());
    }

    #[test]
    fn the_matrix_for_deviations_counts_as_memory_once() {
        let factor = vec![1.0, 0.0, 0.5, 1.0];
        let prior = Prior::try_new(Covariance::Dot(1.0), vec![1.0, 2.0], 1, Some(factor));
        let mean = ProcessAnswer::Mean {
            weights: vec![1.0, 2.0],
            scale: vec![1.0],
            shift: vec![0.0],
        };
        let mean = Process::try_new(Arc::new(prior.unwrap()), mean).unwrap();
        assert_eq!(Scorer::memory_bytes(&mean), (2 + 4 + 2) * size_of::<f64>());
    }

    #[test]
    fn a_latent_mean_of_zero_is_even() {
        assert!((probability(0.0, 1.0) - 0.5).abs() < 1e-4);
        let mut v = [2.0, 8.0];
        solve_lower(&[2.0, 0.0, 1.0, 7.0], &mut v);
        assert_eq!(v, [1.0, 1.0]);
    }
}
