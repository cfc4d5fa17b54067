//! Linear maps of tables: principal components, random projections, scalings by matrices.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::linear::dot;
use crate::spec_error::{SpecError, expect_length};

/// The parts of a linear map: `((row - shift) / unit) W^T + offset`, over `divisor`.
#[derive(Clone, Debug, Default)]
pub struct ProjectionSpec {
    /// The number of columns read.
    pub n_features: usize,
    /// Subtracted from each row first; empty for nothing.
    pub shift: Vec<f64>,
    /// Each shifted row is divided by this; empty for nothing.
    pub unit: Vec<f64>,
    /// `(outputs, features)`, row-major.
    pub weights: Vec<f64>,
    /// Added to each result; empty for nothing.
    pub offset: Vec<f64>,
    /// Each result is divided by this at last; empty for nothing.
    pub divisor: Vec<f64>,
}

/// A linear map.
#[derive(Debug)]
pub struct Projection {
    spec: ProjectionSpec,
    n_outputs: usize,
}

impl Projection {
    /// Checks the parts and returns the map.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit or a number is not finite.
    pub fn try_new(spec: ProjectionSpec) -> Result<Self, SpecError> {
        let n_outputs = spec
            .weights
            .len()
            .checked_div(spec.n_features)
            .unwrap_or_default();
        if n_outputs == 0 {
            return Err(SpecError::new("a projection needs features and outputs"));
        }
        expect_length("weights", spec.weights.len(), n_outputs * spec.n_features)?;
        for (what, values, length) in [
            ("shift", &spec.shift, spec.n_features),
            ("unit", &spec.unit, spec.n_features),
            ("offset", &spec.offset, n_outputs),
            ("divisor", &spec.divisor, n_outputs),
        ] {
            if !values.is_empty() {
                expect_length(what, values.len(), length)?;
            }
        }
        if !spec.weights.iter().all(|weight| weight.is_finite()) {
            return Err(SpecError::new("a weight is not finite"));
        }
        Ok(Self { spec, n_outputs })
    }
}

impl Scorer for Projection {
    fn n_features(&self) -> usize {
        self.spec.n_features
    }

    fn n_scores(&self) -> usize {
        self.n_outputs
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let mut shifted = vec![0.0; self.spec.n_features];
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.n_outputs)) {
            shifted.copy_from_slice(row);
            for (value, shift) in shifted.iter_mut().zip(&self.spec.shift) {
                *value -= shift;
            }
            for (value, unit) in shifted.iter_mut().zip(&self.spec.unit) {
                *value /= unit;
            }
            let weights = self.spec.weights.chunks_exact(self.spec.n_features);
            for (score, weights) in scores.iter_mut().zip(weights) {
                *score = dot(&shifted, weights);
            }
            for (score, offset) in scores.iter_mut().zip(&self.spec.offset) {
                *score += offset;
            }
            for (score, divisor) in scores.iter_mut().zip(&self.spec.divisor) {
                *score /= divisor;
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.spec.weights.capacity() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_weighs_and_divides() {
        let spec = ProjectionSpec {
            n_features: 2,
            shift: vec![1.0, 1.0],
            weights: vec![1.0, 2.0, 0.0, 1.0],
            offset: vec![0.0, 1.0],
            divisor: vec![2.0, 1.0],
            ..ProjectionSpec::default()
        };
        let projection = Projection::try_new(spec.clone()).unwrap();
        let mut scores = [0.0; 2];
        projection.score(Rows::try_new(&[3.0, 2.0], 2).unwrap(), &mut scores);
        assert_eq!(scores, [2.0, 2.0]);
        let short = ProjectionSpec {
            shift: vec![1.0],
            ..spec
        };
        assert!(Projection::try_new(short).is_err());
        assert!(Projection::try_new(ProjectionSpec::default()).is_err());
    }
}
