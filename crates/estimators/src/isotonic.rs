//! Isotonic regression: linear interpolation between learnt points.

use coracle_model::{Accepts, RunError, RunErrorKind};
use coracle_tensor::Rows;

use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::TableFn;

/// What happens outside the learnt range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfBounds {
    /// The answer is NaN.
    Nan,
    /// The nearest end counts.
    Clip,
    /// The row is refused.
    Refuse,
}

/// A piecewise linear function of one column.
#[derive(Debug)]
pub struct Isotonic {
    xs: Vec<f64>,
    ys: Vec<f64>,
    out_of_bounds: OutOfBounds,
}

impl Isotonic {
    /// Returns the function through the points `(xs, ys)`.
    ///
    /// # Errors
    /// [`SpecError`] if there are no points, lengths differ or `xs` does not rise.
    pub fn try_new(
        xs: Vec<f64>,
        ys: Vec<f64>,
        out_of_bounds: OutOfBounds,
    ) -> Result<Self, SpecError> {
        expect_length("y_thresholds_", ys.len(), xs.len())?;
        let is_sound = xs.iter().chain(&ys).all(|value| value.is_finite());
        if xs.is_empty() || !is_sound || !xs.is_sorted() {
            return Err(SpecError::new("the thresholds do not rise"));
        }
        Ok(Self {
            xs,
            ys,
            out_of_bounds,
        })
    }

    fn value(&self, x: f64) -> Option<f64> {
        let last = self.xs.len() - 1;
        let (low, high) = (self.xs[0], self.xs[last]);
        if last == 0 {
            // scikit-learn answers its one value everywhere.
            return Some(self.ys[0]);
        }
        let x = match self.out_of_bounds {
            OutOfBounds::Clip => x.clamp(low, high),
            OutOfBounds::Refuse if x < low || x > high => return None,
            OutOfBounds::Nan if x < low || x > high => return Some(f64::NAN),
            _ => x,
        };
        Some(interpolate(&self.xs, &self.ys, x))
    }
}

/// Returns `numpy.interp(x, xs, ys)`, for rising `xs`; its ends continue as constants.
pub(crate) fn interpolate(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    let last = xs.len() - 1;
    if x.is_nan() {
        return x;
    }
    if x >= xs[last] {
        return ys[last];
    }
    // The last point at or below x.
    let after = xs.partition_point(|&point| point <= x);
    let Some(at) = after.checked_sub(1) else {
        return ys[0];
    };
    let slope = (ys[at + 1] - ys[at]) / (xs[at + 1] - xs[at]);
    slope * (x - xs[at]) + ys[at]
}

impl TableFn for Isotonic {
    fn n_features(&self) -> usize {
        1
    }

    fn n_columns(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let values = rows.values().iter().enumerate().map(|(row, &x)| {
            self.value(x).ok_or_else(|| {
                let message = format!("row {row}: outside the range the model was fitted on");
                RunError::new(RunErrorKind::ValueOutOfRange, message)
            })
        });
        values.collect()
    }

    fn memory_bytes(&self) -> usize {
        (self.xs.capacity() + self.ys.capacity()) * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(out_of_bounds: OutOfBounds, x: f64) -> Option<f64> {
        Isotonic::try_new(vec![0.0, 2.0, 3.0], vec![1.0, 5.0, 5.0], out_of_bounds)
            .unwrap()
            .value(x)
    }

    #[test]
    fn between_points_is_a_line_and_outside_is_a_choice() {
        assert_eq!(value(OutOfBounds::Nan, 0.5), Some(2.0));
        assert_eq!(value(OutOfBounds::Nan, 3.0), Some(5.0));
        assert!(value(OutOfBounds::Nan, 3.5).unwrap().is_nan());
        assert_eq!(value(OutOfBounds::Clip, -7.0), Some(1.0));
        assert_eq!(value(OutOfBounds::Refuse, 4.0), None);
        assert!(Isotonic::try_new(vec![1.0, 0.0], vec![1.0, 2.0], OutOfBounds::Nan).is_err());
    }
}
