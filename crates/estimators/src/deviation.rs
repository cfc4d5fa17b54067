//! How far a Bayesian linear model's predictions may be off.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::linear::dot;
use crate::spec_error::{SpecError, expect_length};

/// The standard deviation of a prediction: the root of a quadratic form of the row and of the noise.
#[derive(Debug)]
pub struct LinearDeviation {
    n_features: usize,
    /// The columns that count, each with what is taken off it and what it is then divided by.
    columns: Vec<(usize, f64, f64)>,
    /// `(columns, columns)`, row-major.
    covariance: Vec<f64>,
    noise: f64,
}

impl LinearDeviation {
    /// Returns the function of rows of `n_features` columns; `columns` are those that count, with offset and scale, and `noise` is a variance.
    ///
    /// # Errors
    /// [`SpecError`] if a column does not exist or the covariance is of others.
    pub fn try_new(
        n_features: usize,
        columns: Vec<(usize, f64, f64)>,
        covariance: Vec<f64>,
        noise: f64,
    ) -> Result<Self, SpecError> {
        if columns.iter().any(|&(column, ..)| column >= n_features) {
            return Err(SpecError::new("a column does not exist"));
        }
        let n_expected = columns.len().saturating_mul(columns.len());
        expect_length("sigma_", covariance.len(), n_expected)?;
        Ok(Self {
            n_features,
            columns,
            covariance,
            noise,
        })
    }
}

impl Scorer for LinearDeviation {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let n = self.columns.len();
        let mut values = vec![0.0; n];
        for (row, score) in rows.iter().zip(scores) {
            for (value, &(column, offset, scale)) in values.iter_mut().zip(&self.columns) {
                *value = (row[column] - offset) / scale;
            }
            let covariance = self.covariance.chunks_exact(n.max(1));
            let variances = values
                .iter()
                .zip(covariance)
                .map(|(value, row)| value * dot(&values, row));
            *score = (variances.sum::<f64>() + self.noise).sqrt();
        }
    }

    fn memory_bytes(&self) -> usize {
        self.columns.capacity() * size_of::<(usize, f64, f64)>()
            + self.covariance.capacity() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_do_not_count_are_left_out() {
        let covariance = vec![4.0, 1.0, 1.0, 2.0];
        let columns = vec![(0, 0.0, 1.0), (2, 1.0, 2.0)];
        let deviation = LinearDeviation::try_new(3, columns, covariance.clone(), 0.25).unwrap();
        let mut scores = [0.0; 2];
        let rows = Rows::try_new(&[0.0, 9.0, 1.0, 1.0, 9.0, 3.0], 3).unwrap();
        deviation.score(rows, &mut scores);
        assert_eq!(scores, [0.5, 8.25_f64.sqrt()]);
        assert!(LinearDeviation::try_new(1, vec![(1, 0.0, 1.0)], vec![1.0], 0.0).is_err());
        assert!(LinearDeviation::try_new(1, vec![(0, 0.0, 1.0)], covariance, 0.0).is_err());
    }
}
