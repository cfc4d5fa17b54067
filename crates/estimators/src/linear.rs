//! Linear scores: coefficients times row, plus intercept.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::spec_error::{SpecError, expect_length};

/// `n_scores` linear functions of a row, in double precision.
#[derive(Debug)]
pub struct LinearScorer {
    /// `(n_scores, n_features)`, row-major.
    coefficients: Vec<f64>,
    intercepts: Vec<f64>,
    n_features: usize,
}

/// Running sums per dot product: enough to hide the latency of an addition.
const LANES: usize = 8;

impl LinearScorer {
    /// Returns a scorer over `coefficients`, `(intercepts.len(), n_features)` row-major.
    ///
    /// # Errors
    /// [`SpecError`] if there are no features or intercepts, or the lengths disagree.
    pub fn try_new(
        coefficients: Vec<f64>,
        intercepts: Vec<f64>,
        n_features: usize,
    ) -> Result<Self, SpecError> {
        if n_features == 0 || intercepts.is_empty() {
            return Err(SpecError::new("a linear model needs features and scores"));
        }
        let expected = intercepts.len().saturating_mul(n_features);
        expect_length("coef_", coefficients.len(), expected)?;
        Ok(Self {
            coefficients,
            intercepts,
            n_features,
        })
    }
}

/// Returns the sum of products; summed in [`LANES`] interleaved parts.
pub(crate) fn dot(left: &[f64], right: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let left_chunks = left.chunks_exact(LANES);
    let right_chunks = right.chunks_exact(LANES);
    let tail: f64 = left_chunks
        .remainder()
        .iter()
        .zip(right_chunks.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (left, right) in left_chunks.zip(right_chunks) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    sums.iter().sum::<f64>() + tail
}

impl Scorer for LinearScorer {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.intercepts.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.n_scores())) {
            let weights = self.coefficients.chunks_exact(self.n_features);
            for ((score, weights), intercept) in
                scores.iter_mut().zip(weights).zip(&self.intercepts)
            {
                *score = dot(row, weights) + intercept;
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        (self.coefficients.capacity() + self.intercepts.capacity()) * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_dot_products_plus_intercepts() {
        for n_features in [1, 7, 8, 9, 20] {
            let count = |from: u32| (from..).map(f64::from);
            let coefficients: Vec<f64> = count(0).take(2 * n_features).collect();
            let row: Vec<f64> = count(1).take(n_features).collect();
            let scorer =
                LinearScorer::try_new(coefficients.clone(), vec![0.5, -0.5], n_features).unwrap();
            let mut scores = [0.0; 2];
            scorer.score(Rows::try_new(&row, n_features).unwrap(), &mut scores);
            // Whole numbers, so that any order of summation is exact.
            let expected =
                |weights: &[f64]| weights.iter().zip(&row).map(|(a, b)| a * b).sum::<f64>();
            assert_eq!(scores[0], expected(&coefficients[..n_features]) + 0.5);
            assert_eq!(scores[1], expected(&coefficients[n_features..]) - 0.5);
        }
    }

    #[test]
    fn lengths_must_agree() {
        assert!(LinearScorer::try_new(vec![1.0; 5], vec![0.0; 2], 3).is_err());
        assert!(LinearScorer::try_new(vec![], vec![0.0], 0).is_err());
        assert!(LinearScorer::try_new(vec![], vec![], 3).is_err());
    }
}
