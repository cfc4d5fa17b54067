//! Distances between rows, by scikit-learn's names.

mod truth;

use crate::kernel::{absolute_distance, count, squared_distance};
use crate::linear::dot;
use crate::spec_error::{SpecError, expect_length};

pub use truth::TruthMetric;

/// A distance between two rows of the same length.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// The square root of the sum of squared differences.
    Euclidean,
    /// The sum of squared differences.
    SquaredEuclidean,
    /// The sum of absolute differences.
    Manhattan,
    /// The largest absolute difference.
    Chebyshev,
    /// The p-norm of the differences.
    Minkowski {
        /// The exponent.
        p: f64,
    },
    /// The p-norm of the differences, each weighted.
    WeightedMinkowski {
        /// The exponent.
        p: f64,
        /// A weight per column.
        weights: Vec<f64>,
    },
    /// One minus the cosine of the angle.
    Cosine,
    /// One minus the correlation.
    Correlation,
    /// The sum of `|x - y| / (|x| + |y|)`.
    Canberra,
    /// `sum |x - y| / sum (|x| + |y|)`, as scikit-learn's own code has it.
    BrayCurtis,
    /// `sum |x - y| / sum |x + y|`, as SciPy has it: another number where signs differ.
    BrayCurtisOfSums,
    /// The share of columns that differ.
    Hamming,
    /// Euclidean, each squared difference divided by a variance.
    StandardizedEuclidean {
        /// A variance per column.
        variances: Vec<f64>,
    },
    /// The root of the differences' product with themselves through the inverse of a covariance.
    Mahalanobis {
        /// The inverse of the covariance, row-major.
        precision: Vec<f64>,
    },
    /// The angle between two points on a sphere, each a latitude and a longitude in radians.
    Haversine,
    /// Euclidean over the columns that both rows have, scaled up for those that one lacks; NaN is a missing value.
    NanEuclidean,
    /// Of truth values.
    Truth(TruthMetric),
}

impl Metric {
    /// Returns the metric of a name without parameters, as in scikit-learn.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "euclidean" | "l2" => Self::Euclidean,
            "sqeuclidean" => Self::SquaredEuclidean,
            "manhattan" | "cityblock" | "l1" => Self::Manhattan,
            "chebyshev" | "infinity" => Self::Chebyshev,
            "cosine" => Self::Cosine,
            "correlation" => Self::Correlation,
            "canberra" => Self::Canberra,
            "braycurtis" => Self::BrayCurtis,
            "hamming" => Self::Hamming,
            "haversine" => Self::Haversine,
            "nan_euclidean" => Self::NanEuclidean,
            name => return TruthMetric::named(name).map(Self::Truth),
        })
    }

    /// Returns the Minkowski metric of exponent `p`, in its simplest form.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "exponents are compared exactly")]
    pub fn minkowski(p: f64) -> Self {
        if p == 1.0 {
            Self::Manhattan
        } else if p == 2.0 {
            Self::Euclidean
        } else if p == f64::INFINITY {
            Self::Chebyshev
        } else {
            Self::Minkowski { p }
        }
    }

    /// Checks that it measures rows of `n_features` columns.
    ///
    /// # Errors
    /// [`SpecError`] if it has numbers for another number of columns, or is for two columns and there are others.
    pub(crate) fn check(&self, n_features: usize) -> Result<(), SpecError> {
        let (has, needs) = match self {
            Self::WeightedMinkowski { weights, .. } => (weights.len(), n_features),
            Self::StandardizedEuclidean { variances } => (variances.len(), n_features),
            Self::Mahalanobis { precision } => {
                (precision.len(), n_features.saturating_mul(n_features))
            }
            Self::Haversine if n_features != 2 => {
                let message = format!("haversine is for two columns, there are {n_features}");
                return Err(SpecError::new(message));
            }
            _ => return Ok(()),
        };
        expect_length("metric parameters", has, needs)
    }

    /// Tells whether rows may lack values.
    #[must_use]
    pub fn accepts_missing(&self) -> bool {
        *self == Self::NanEuclidean
    }

    /// Returns the distance of two rows; NaN where they have none (constant rows of `Correlation`, for example).
    #[must_use]
    pub fn of(&self, left: &[f64], right: &[f64]) -> f64 {
        let pairs = || left.iter().zip(right);
        match self {
            Self::Euclidean => squared_distance(left, right).sqrt(),
            Self::SquaredEuclidean => squared_distance(left, right),
            Self::Manhattan => absolute_distance(left, right),
            Self::Chebyshev => pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
            Self::Minkowski { p } => {
                let sum: f64 = pairs().map(|(a, b)| (a - b).abs().powf(*p)).sum();
                sum.powf(1.0 / p)
            }
            Self::WeightedMinkowski { p, weights } => {
                let terms = pairs()
                    .zip(weights)
                    .map(|((a, b), w)| w * (a - b).abs().powf(*p));
                terms.sum::<f64>().powf(1.0 / p)
            }
            Self::Cosine => cosine_distance(left, right),
            Self::Correlation => {
                let centred = |row: &[f64]| -> Vec<f64> {
                    let mean = row.iter().sum::<f64>() / count(row.len());
                    row.iter().map(|value| value - mean).collect()
                };
                let (left, right) = (centred(left), centred(right));
                let norms = dot(&left, &left).sqrt() * dot(&right, &right).sqrt();
                1.0 - dot(&left, &right) / norms
            }
            Self::Canberra => {
                let terms = pairs().map(|(a, b)| match a.abs() + b.abs() {
                    0.0 => 0.0,
                    sum => (a - b).abs() / sum,
                });
                terms.sum()
            }
            Self::BrayCurtis => {
                let sums: f64 = pairs().map(|(a, b)| a.abs() + b.abs()).sum();
                // Both of zeros alone: no distance, as scikit-learn has it.
                match sums {
                    0.0 => 0.0,
                    sums => absolute_distance(left, right) / sums,
                }
            }
            Self::BrayCurtisOfSums => {
                let sums: f64 = pairs().map(|(a, b)| (a + b).abs()).sum();
                absolute_distance(left, right) / sums
            }
            Self::Hamming => {
                let differing: f64 = pairs().map(|(a, b)| if a == b { 0.0 } else { 1.0 }).sum();
                differing / count(left.len())
            }
            Self::StandardizedEuclidean { variances } => {
                let terms = pairs()
                    .zip(variances)
                    .map(|((a, b), variance)| (a - b) * (a - b) / variance);
                terms.sum::<f64>().sqrt()
            }
            Self::Mahalanobis { precision } => {
                let differences: Vec<f64> = pairs().map(|(a, b)| a - b).collect();
                let rows = precision.chunks_exact(differences.len().max(1));
                let products = rows.map(|row| dot(row, &differences));
                let terms = differences.iter().zip(products);
                terms.map(|(a, b)| a * b).sum::<f64>().sqrt()
            }
            Self::Haversine => haversine(left, right),
            Self::NanEuclidean => nan_euclidean(left, right),
            Self::Truth(metric) => metric.of(left, right),
        }
    }
}

/// Returns the angle between two points on a sphere; both rows have two columns.
fn haversine(left: &[f64], right: &[f64]) -> f64 {
    let half_sine = |at: usize| (0.5 * (left[at] - right[at])).sin();
    let (latitude, longitude) = (half_sine(0), half_sine(1));
    let chord = latitude * latitude + left[0].cos() * right[0].cos() * longitude * longitude;
    // Of opposite points rounding may put it above one.
    2.0 * chord.sqrt().min(1.0).asin()
}

/// Returns the distance over the columns that both rows have; rows that share none are infinitely far.
fn nan_euclidean(left: &[f64], right: &[f64]) -> f64 {
    let (mut sum, mut n_shared) = (0.0, 0_usize);
    for (left, right) in left.iter().zip(right) {
        let difference = left - right;
        if !difference.is_nan() {
            sum += difference * difference;
            n_shared += 1;
        }
    }
    match n_shared {
        0 => f64::INFINITY,
        n_shared => (sum / count(n_shared) * count(left.len())).sqrt(),
    }
}

/// Returns one minus the dot product of the rows brought to length one.
fn cosine_distance(left: &[f64], right: &[f64]) -> f64 {
    let norm = |row: &[f64]| match dot(row, row).sqrt() {
        0.0 => 1.0,
        norm => norm,
    };
    let (left_norm, right_norm) = (norm(left), norm(right));
    let terms = left.iter().zip(right);
    let sum: f64 = terms.map(|(a, b)| (a / left_norm) * (b / right_norm)).sum();
    (1.0 - sum).clamp(0.0, 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_follow_their_formulas() {
        let (x, y) = ([1.0, 2.0, 0.0], [3.0, 2.0, 1.0]);
        let cases = [
            (Metric::named("euclidean").unwrap(), 5.0_f64.sqrt()),
            (Metric::minkowski(1.0), 3.0),
            (Metric::minkowski(f64::INFINITY), 2.0),
            (Metric::minkowski(3.0), 9.0_f64.powf(1.0 / 3.0)),
            (Metric::Hamming, 2.0 / 3.0),
            (Metric::Canberra, 0.5 + 0.0 + 1.0),
            (Metric::BrayCurtis, 3.0 / 9.0),
        ];
        for (metric, expected) in cases {
            assert_eq!(metric.of(&x, &y), expected, "{metric:?}");
        }
        assert_eq!(Metric::BrayCurtis.of(&[0.0; 2], &[0.0; 2]), 0.0);
        // Of mixed signs scikit-learn and SciPy differ.
        let mixed = ([2.0, 1.5], [1.0, -2.0]);
        assert_eq!(Metric::BrayCurtis.of(&mixed.0, &mixed.1), 4.5 / 6.5);
        assert_eq!(Metric::BrayCurtisOfSums.of(&mixed.0, &mixed.1), 4.5 / 3.5);
        // Opposite places, of which the chord is above one by rounding.
        let pi = std::f64::consts::PI;
        let (place, opposite) = ([0.23, -0.25], [-0.23, -0.25 + pi]);
        assert_eq!(Metric::Haversine.of(&place, &opposite), pi);
        assert!(Metric::named("haversine-ish").is_none());
        assert!(Metric::Haversine.check(3).is_err());
        let precision = vec![1.0; 3];
        assert!(Metric::Mahalanobis { precision }.check(3).is_err());
    }
}
