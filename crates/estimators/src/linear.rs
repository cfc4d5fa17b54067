//! Linear scores: coefficients times row, plus intercept.

use std::sync::OnceLock;

use coracle_model::{Accepts, Scorer};
use coracle_tensor::{Rows, SparseRows};

use crate::spec_error::{SpecError, expect_length};

/// `n_scores` linear functions of a row, in double precision.
#[derive(Debug)]
pub struct LinearScorer {
    /// `(n_scores, n_features)`, row-major.
    coefficients: Vec<f64>,
    intercepts: Vec<f64>,
    n_features: usize,
    /// `(n_features, n_scores)`, row-major: what a sparse row reads is then together. Made when first needed.
    by_feature: OnceLock<Vec<f64>>,
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
            by_feature: OnceLock::new(),
        })
    }
}

impl LinearScorer {
    fn transposed(&self) -> Vec<f64> {
        let mut by_feature = Vec::with_capacity(self.coefficients.len());
        for feature in 0..self.n_features {
            let weights = self.coefficients.chunks_exact(self.n_features);
            by_feature.extend(weights.map(|weights| weights[feature]));
        }
        by_feature
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

    fn score_sparse(&self, rows: &SparseRows, scores: &mut [f64]) {
        let n_scores = self.n_scores();
        let by_feature = match n_scores {
            1 => &self.coefficients,
            _ => self.by_feature.get_or_init(|| self.transposed()),
        };
        for ((columns, values), scores) in rows.iter().zip(scores.chunks_exact_mut(n_scores)) {
            scores.fill(0.0);
            for (&column, &value) in columns.iter().zip(values) {
                let start = column as usize * n_scores;
                let weights = &by_feature[start..start + n_scores];
                for (score, weight) in scores.iter_mut().zip(weights) {
                    *score += value * weight;
                }
            }
            for (score, intercept) in scores.iter_mut().zip(&self.intercepts) {
                *score += intercept;
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let by_feature = self.by_feature.get().map_or(0, Vec::capacity);
        (self.coefficients.capacity() + self.intercepts.capacity() + by_feature) * size_of::<f64>()
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
    fn sparse_rows_score_as_dense_ones() {
        for n_scores in [1, 3] {
            let coefficients: Vec<f64> = (0..).map(f64::from).take(4 * n_scores).collect();
            let scorer = LinearScorer::try_new(coefficients, vec![0.5; n_scores], 4).unwrap();
            let mut sparse = SparseRows::try_new(4).unwrap();
            sparse.push(1, 2.0);
            sparse.push(3, -1.0);
            sparse.end_row();
            sparse.end_row();
            let dense = [0.0, 2.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0];
            let mut expected = vec![0.0; 2 * n_scores];
            scorer.score(Rows::try_new(&dense, 4).unwrap(), &mut expected);
            let mut scores = vec![9.0; 2 * n_scores];
            scorer.score_sparse(&sparse, &mut scores);
            assert_eq!(scores, expected);
        }
    }

    #[test]
    fn lengths_must_agree() {
        assert!(LinearScorer::try_new(vec![1.0; 5], vec![0.0; 2], 3).is_err());
        assert!(LinearScorer::try_new(vec![], vec![0.0], 0).is_err());
        assert!(LinearScorer::try_new(vec![], vec![], 3).is_err());
    }
}
