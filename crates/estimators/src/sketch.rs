//! Approximations of kernels whose features are products or sums over the columns of a row.

use coracle_model::{Accepts, RunError};
use coracle_tensor::Rows;

use crate::kernel::{count, negative};
use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::TableFn;

/// Where a column goes in a sketch, and with which sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SketchPlace {
    /// The place.
    pub place: usize,
    /// The factor: 1 or -1.
    pub sign: f64,
}

/// An approximation of a kernel.
#[derive(Debug)]
pub enum KernelSketch {
    /// AdditiveChi2Sampler: the square root of each column, then cosines and sines of its logarithm.
    AdditiveChi2 {
        /// The number of columns.
        n_features: usize,
        /// The number of samples of the kernel's spectrum.
        n_steps: usize,
        /// The distance between them.
        interval: f64,
    },
    /// PolynomialCountSketch: the convolution of as many sketches as the degree.
    Polynomial {
        /// For each sketch the places of the columns, a last one for the constant if there is one.
        sketches: Vec<Vec<SketchPlace>>,
        /// What columns are multiplied by.
        scale: f64,
        /// The constant beside the columns.
        constant: Option<f64>,
        /// The number of features.
        n_outputs: usize,
    },
}

/// The most features of a convolution, which takes their square.
const OUTPUTS_MAX: usize = 1 << 14;

impl KernelSketch {
    /// Checks the parts.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit, or a place does not exist.
    pub fn checked(self) -> Result<Self, SpecError> {
        match &self {
            Self::AdditiveChi2 {
                n_features,
                n_steps,
                ..
            } => {
                if *n_features == 0 || *n_steps == 0 || *n_steps > 1 << 10 {
                    return Err(SpecError::new("there are no columns or steps, or too many"));
                }
            }
            Self::Polynomial {
                sketches,
                n_outputs,
                constant,
                ..
            } => {
                let width = sketches.first().map_or(0, Vec::len);
                if width <= usize::from(constant.is_some())
                    || !(1..=OUTPUTS_MAX).contains(n_outputs)
                {
                    return Err(SpecError::new(
                        "there are no sketches, or too many features",
                    ));
                }
                for sketch in sketches {
                    expect_length("a sketch", sketch.len(), width)?;
                    if sketch.iter().any(|place| place.place >= *n_outputs) {
                        return Err(SpecError::new("a place of a sketch does not exist"));
                    }
                }
            }
        }
        Ok(self)
    }
}

/// Returns the features of the additive chi-squared kernel.
fn additive_chi2(row: &[f64], n_steps: usize, interval: f64, output: &mut Vec<f64>) {
    output.extend(row.iter().map(|value| (value * interval).sqrt()));
    for step in 1..n_steps {
        let at = count(step) * interval;
        let spread = (std::f64::consts::PI * at).cosh();
        let factor = |value: f64| (2.0 * value * interval / spread).sqrt();
        let of = |function: fn(f64) -> f64| {
            row.iter().map(move |&value| match value == 0.0 {
                true => 0.0,
                false => factor(value) * function(at * value.ln()),
            })
        };
        output.extend(of(f64::cos));
        output.extend(of(f64::sin));
    }
}

/// Returns the circular convolution of two sketches.
fn convolve(a: &[f64], b: &[f64]) -> Vec<f64> {
    let n = a.len();
    let mut result = vec![0.0; n];
    for (at, one) in a.iter().enumerate().filter(|(_, one)| **one != 0.0) {
        let (before, after) = result.split_at_mut(at);
        let (low, high) = b.split_at(n - at);
        for (sum, other) in after.iter_mut().zip(low).chain(before.iter_mut().zip(high)) {
            *sum += one * other;
        }
    }
    result
}

impl TableFn for KernelSketch {
    fn n_features(&self) -> usize {
        match self {
            Self::AdditiveChi2 { n_features, .. } => *n_features,
            Self::Polynomial {
                sketches, constant, ..
            } => {
                let width = sketches.first().map_or(0, Vec::len);
                width.saturating_sub(usize::from(constant.is_some()))
            }
        }
    }

    fn n_columns(&self) -> usize {
        match self {
            Self::AdditiveChi2 {
                n_features,
                n_steps,
                ..
            } => n_features * (2 * n_steps - 1),
            Self::Polynomial { n_outputs, .. } => *n_outputs,
        }
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut output = Vec::with_capacity(rows.n_rows() * TableFn::n_columns(self));
        for row in rows.iter() {
            match self {
                Self::AdditiveChi2 {
                    n_steps, interval, ..
                } => {
                    if row.iter().any(|value| *value < 0.0) {
                        return Err(negative());
                    }
                    additive_chi2(row, *n_steps, *interval, &mut output);
                }
                Self::Polynomial {
                    sketches,
                    scale,
                    constant,
                    n_outputs,
                } => {
                    let sketched = sketches.iter().map(|sketch| {
                        let mut sums = vec![0.0; *n_outputs];
                        let values = row.iter().map(|value| value * scale).chain(*constant);
                        for (place, value) in sketch.iter().zip(values) {
                            sums[place.place] += place.sign * value;
                        }
                        sums
                    });
                    output.extend(sketched.reduce(|a, b| convolve(&a, &b)).unwrap_or_default());
                }
            }
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::AdditiveChi2 { .. } => 0,
            Self::Polynomial { sketches, .. } => sketches
                .iter()
                .map(|sketch| size_of_val(sketch.as_slice()))
                .sum(),
        }
    }
}

/// A one in the column of each number of a category: what an encoder makes of the leaves of trees.
#[derive(Debug)]
pub struct Indicators {
    inner: std::sync::Arc<dyn TableFn>,
    /// For each column of `inner` where its own columns begin; the last one is their number.
    starts: Vec<usize>,
}

impl Indicators {
    /// Returns the indicators of what `inner` gives: in each column a category below its number in `widths`.
    ///
    /// # Errors
    /// [`SpecError`] if there is another number of widths than columns, or one is zero.
    pub fn try_new(
        inner: std::sync::Arc<dyn TableFn>,
        widths: &[usize],
    ) -> Result<Self, SpecError> {
        expect_length("widths", widths.len(), inner.n_columns())?;
        if widths.contains(&0) {
            return Err(SpecError::new("a column has no categories"));
        }
        let mut starts = vec![0];
        for width in widths {
            starts.push(starts.last().copied().unwrap_or(0) + width);
        }
        Ok(Self { inner, starts })
    }
}

impl TableFn for Indicators {
    fn n_features(&self) -> usize {
        self.inner.n_features()
    }

    fn n_columns(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn accepts(&self) -> Accepts {
        self.inner.accepts()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let n_columns = TableFn::n_columns(self);
        let mut output = vec![0.0; rows.n_rows() * n_columns];
        let numbers = self.inner.apply(rows)?;
        let numbers = numbers.chunks_exact(self.inner.n_columns());
        for (numbers, output) in numbers.zip(output.chunks_exact_mut(n_columns)) {
            for (number, bounds) in numbers.iter().zip(self.starts.windows(2)) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a category; the cast saturates and the bound limits it"
                )]
                let at = (bounds[0] + *number as usize).min(bounds[1] - 1);
                output[at] = 1.0;
            }
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        self.inner.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convolutions_wrap_around() {
        assert_eq!(
            convolve(&[1.0, 2.0, 0.0], &[3.0, 0.0, 5.0]),
            [13.0, 6.0, 5.0]
        );
    }

    #[test]
    fn places_must_exist() {
        let place = SketchPlace {
            place: 2,
            sign: 1.0,
        };
        let sketch = |n_outputs| {
            KernelSketch::Polynomial {
                sketches: vec![vec![place]],
                scale: 1.0,
                constant: None,
                n_outputs,
            }
            .checked()
        };
        assert!(sketch(3).is_ok());
        assert!(sketch(2).is_err());
    }
}
