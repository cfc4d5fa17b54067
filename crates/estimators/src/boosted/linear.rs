//! Linear boosting (XGBoost's `gblinear`): sums in single precision over the values that are not missing.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::spec_error::{SpecError, expect_length};

/// Linear functions of a row, added up in single precision in the order of the columns.
#[derive(Debug)]
pub struct BoostedLinear {
    /// `(n_features, n_scores)`, row-major.
    weights: Vec<f32>,
    /// What each sum starts from.
    intercepts: Vec<f32>,
    n_features: usize,
}

impl BoostedLinear {
    /// Returns a scorer over `weights`, `(n_features, intercepts.len())` row-major.
    ///
    /// # Errors
    /// [`SpecError`] if there are no features or intercepts, or the lengths disagree.
    pub fn try_new(
        weights: Vec<f32>,
        intercepts: Vec<f32>,
        n_features: usize,
    ) -> Result<Self, SpecError> {
        if n_features == 0 || intercepts.is_empty() {
            return Err(SpecError::new("a linear model needs features and scores"));
        }
        let expected = intercepts.len().saturating_mul(n_features);
        expect_length("weights", weights.len(), expected)?;
        Ok(Self {
            weights,
            intercepts,
            n_features,
        })
    }
}

impl Scorer for BoostedLinear {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.intercepts.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts {
            missing: true,
            magnitude_max: f64::from(f32::MAX),
        }
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let n_scores = self.intercepts.len();
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(n_scores)) {
            for (index, score) in scores.iter_mut().enumerate() {
                let mut sum = self.intercepts[index];
                for (&value, weights) in row.iter().zip(self.weights.chunks_exact(n_scores)) {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "XGBoost computes in single precision"
                    )]
                    if !value.is_nan() {
                        sum += value as f32 * weights[index];
                    }
                }
                *score = f64::from(sum);
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        (self.weights.capacity() + self.intercepts.capacity()) * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_add_nothing() {
        let linear =
            BoostedLinear::try_new(vec![1.0, 10.0, 2.0, 20.0], vec![0.5, 0.25], 2).unwrap();
        let mut scores = [0.0; 4];
        let rows = [3.0, f64::NAN, 1.0, 1.0];
        linear.score(Rows::try_new(&rows, 2).unwrap(), &mut scores);
        assert_eq!(scores, [3.5, 30.25, 3.5, 30.25]);
        assert!(BoostedLinear::try_new(vec![1.0], vec![0.0], 2).is_err());
    }
}
