//! Columns as values of B-splines.

use coracle_model::{Accepts, RunError, RunErrorKind};
use coracle_tensor::Rows;

use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::TableFn;

/// What happens outside the knots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extrapolation {
    /// The row is refused.
    Refuse,
    /// The value at the nearest end.
    Constant,
    /// A straight line.
    Linear,
    /// The outermost polynomials go on.
    Continue,
    /// The knots' range repeats.
    Periodic,
}

/// The splines of one column.
#[derive(Clone, Debug)]
pub struct ColumnSplines {
    /// The knots, rising.
    pub knots: Vec<f64>,
    /// The degree of the polynomials.
    pub degree: usize,
    /// `(basis functions, splines)`, row-major.
    pub coefficients: Vec<f64>,
    /// The number of splines.
    pub n_splines: usize,
}

/// The highest degree; scipy's own splines of higher degrees are numerically useless.
const DEGREE_MAX: usize = 32;

impl ColumnSplines {
    fn check(&self) -> Result<(), SpecError> {
        let n_basis = self.knots.len().saturating_sub(self.degree + 1);
        let is_sound = self.knots.is_sorted() && self.knots.iter().all(|knot| knot.is_finite());
        if self.degree > DEGREE_MAX || n_basis <= self.degree || self.n_splines == 0 || !is_sound {
            return Err(SpecError::new(
                "the knots of a spline do not fit its degree",
            ));
        }
        let expected = n_basis.saturating_mul(self.n_splines);
        expect_length("spline coefficients", self.coefficients.len(), expected)
    }

    fn n_basis(&self) -> usize {
        self.knots.len() - self.degree - 1
    }

    fn ends(&self) -> (f64, f64) {
        (self.knots[self.degree], self.knots[self.n_basis()])
    }

    /// Returns the ends between which column `index` is not continued by lines, and how many lines there are.
    ///
    /// scikit-learn raises a degree of 0 or 1 for the lines and, through all its releases, keeps it raised for the
    /// ends of the columns that follow.
    fn line_ends(&self, index: usize) -> (f64, f64, usize) {
        let raised = self.degree.max(2.min(self.degree + index));
        let last = self.knots.len() - 1;
        let low = self.knots[raised.min(last)];
        let high = self.knots[last.saturating_sub(raised)];
        (low, high, if raised <= 1 { raised + 1 } else { raised })
    }

    /// Returns the interval of knots that `x` lies in; the outermost one outside.
    fn interval(&self, x: f64) -> usize {
        let inner = &self.knots[self.degree + 1..self.n_basis()];
        self.degree + inner.partition_point(|&knot| knot <= x)
    }

    /// Writes the basis functions of `degree` that are not zero in `interval`.
    fn basis(&self, x: f64, interval: usize, degree: usize) -> [f64; DEGREE_MAX + 1] {
        let t = &self.knots;
        let mut values = [0.0; DEGREE_MAX + 1];
        values[0] = 1.0;
        for j in 1..=degree {
            let previous = values;
            values[0] = 0.0;
            for n in 1..=j {
                let (right, left) = (t[interval + n], t[interval + n - j]);
                if right == left {
                    values[n] = 0.0;
                    continue;
                }
                let weight = previous[n - 1] / (right - left);
                values[n - 1] += weight * (right - x);
                values[n] = weight * (x - left);
            }
        }
        values
    }

    /// Adds `weight` times the coefficients of basis function `index` to the splines.
    fn add(&self, index: usize, weight: f64, splines: &mut [f64]) {
        let coefficients = self.coefficients.chunks_exact(self.n_splines).nth(index);
        for (spline, c) in splines.iter_mut().zip(coefficients.unwrap_or_default()) {
            *spline += weight * c;
        }
    }

    fn values(&self, x: f64, splines: &mut [f64]) {
        splines.fill(0.0);
        let interval = self.interval(x);
        let basis = self.basis(x, interval, self.degree);
        for (n, &weight) in basis[..=self.degree].iter().enumerate() {
            self.add(interval - self.degree + n, weight, splines);
        }
    }

    fn slopes(&self, x: f64, splines: &mut [f64]) {
        splines.fill(0.0);
        let Some(lower) = self.degree.checked_sub(1) else {
            return;
        };
        let interval = self.interval(x);
        let basis = self.basis(x, interval, lower);
        let t = &self.knots;
        let degree = crate::kernel::count(self.degree);
        for (n, &value) in basis[..=lower].iter().enumerate() {
            // Basis function i of the lower degree stands between i - 1 and i of this one.
            let i = interval - lower + n;
            let width = t[i + self.degree] - t[i];
            if width > 0.0 {
                let weight = degree * value / width;
                self.add(i, weight, splines);
                self.add(i - 1, -weight, splines);
            }
        }
    }

    /// Writes the splines at `x`; false where it is refused.
    fn evaluate(
        &self,
        x: f64,
        index: usize,
        extrapolation: Extrapolation,
        splines: &mut [f64],
    ) -> bool {
        let (low, high) = self.ends();
        let is_inside = x >= low && x <= high;
        match extrapolation {
            Extrapolation::Refuse if !is_inside => return false,
            // Of no splines at the end scikit-learn makes an error.
            Extrapolation::Constant if x > high && self.degree == 0 => return false,
            Extrapolation::Constant if !is_inside => self.constant(x, splines),
            Extrapolation::Linear => self.linear(x, index, splines),
            Extrapolation::Periodic if high > low => {
                self.values(low + (x - low).rem_euclid(high - low), splines);
            }
            Extrapolation::Periodic => self.values(0.0, splines),
            _ => self.values(x, splines),
        }
        true
    }

    fn constant(&self, x: f64, splines: &mut [f64]) {
        let (low, high) = self.ends();
        self.values(if x < low { low } else { high }, splines);
        let degree = self.degree.min(splines.len());
        let n_splines = splines.len();
        if x < low {
            splines[degree..].fill(0.0);
        } else {
            splines[..n_splines - degree].fill(0.0);
        }
    }

    fn linear(&self, x: f64, index: usize, splines: &mut [f64]) {
        let (low, high, n_lines) = self.line_ends(index);
        if x >= low && x <= high {
            return self.values(x, splines);
        }
        splines.fill(0.0);
        let n_splines = splines.len();
        let (mut values, mut slopes) = (vec![0.0; n_splines], vec![0.0; n_splines]);
        for (end, is_outside) in [(low, x < low), (high, x > high)] {
            if !is_outside {
                continue;
            }
            self.values(end, &mut values);
            self.slopes(end, &mut slopes);
            for line in 0..n_lines.min(n_splines) {
                let at = if end == low && x < low {
                    line
                } else {
                    n_splines - 1 - line
                };
                splines[at] = values[at] + (x - end) * slopes[at];
            }
        }
    }
}

/// The splines of every column, side by side.
#[derive(Debug)]
pub struct Splines {
    columns: Vec<ColumnSplines>,
    extrapolation: Extrapolation,
    include_bias: bool,
    missing_as_zeros: bool,
}

impl Splines {
    /// Returns the splines of `columns`; without bias the last spline of each column is left out.
    ///
    /// # Errors
    /// [`SpecError`] if a column's parts do not fit, or nothing would be left.
    pub fn try_new(
        columns: Vec<ColumnSplines>,
        extrapolation: Extrapolation,
        include_bias: bool,
        missing_as_zeros: bool,
    ) -> Result<Self, SpecError> {
        columns.iter().try_for_each(ColumnSplines::check)?;
        let splines = Self {
            columns,
            extrapolation,
            include_bias,
            missing_as_zeros,
        };
        if splines.n_columns() == 0 {
            return Err(SpecError::new("there are no splines"));
        }
        Ok(splines)
    }
}

impl TableFn for Splines {
    fn n_features(&self) -> usize {
        self.columns.len()
    }

    fn n_columns(&self) -> usize {
        let left_out = usize::from(!self.include_bias);
        self.columns
            .iter()
            .map(|column| column.n_splines - left_out)
            .sum()
    }

    fn accepts(&self) -> Accepts {
        match self.missing_as_zeros {
            // With missing values scikit-learn lets infinities pass, too.
            true => Accepts::ANY,
            false => Accepts::FINITE,
        }
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut output = Vec::with_capacity(rows.n_rows() * self.n_columns());
        let widest = self.columns.iter().map(|column| column.n_splines).max();
        let mut scratch = vec![0.0; widest.unwrap_or_default()];
        for (index, row) in rows.iter().enumerate() {
            for (column, (&x, splines)) in row.iter().zip(&self.columns).enumerate() {
                let values = &mut scratch[..splines.n_splines];
                if x.is_nan() {
                    values.fill(0.0);
                } else if !splines.evaluate(x, column, self.extrapolation, values) {
                    let message =
                        format!("row {index}, column {column}: outside the range of the knots");
                    return Err(RunError::new(RunErrorKind::ValueOutOfRange, message));
                }
                let n_kept = splines.n_splines - usize::from(!self.include_bias);
                output.extend_from_slice(&values[..n_kept]);
            }
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        let numbers = self
            .columns
            .iter()
            .map(|column| column.knots.len() + column.coefficients.len());
        numbers.sum::<usize>() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hats() -> ColumnSplines {
        ColumnSplines {
            knots: vec![-1.0, 0.0, 1.0, 2.0, 3.0],
            degree: 1,
            coefficients: vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            n_splines: 3,
        }
    }

    #[test]
    fn splines_sum_to_one_inside_and_follow_the_rule_outside() {
        let mut values = [0.0; 3];
        assert!(hats().evaluate(0.25, 0, Extrapolation::Refuse, &mut values));
        assert_eq!(values, [0.75, 0.25, 0.0]);
        assert!(!hats().evaluate(2.5, 0, Extrapolation::Refuse, &mut values));
        hats().evaluate(-1.0, 0, Extrapolation::Constant, &mut values);
        assert_eq!(values, [1.0, 0.0, 0.0]);
        hats().evaluate(-1.0, 0, Extrapolation::Linear, &mut values);
        assert_eq!(values, [2.0, -1.0, 0.0]);
        hats().evaluate(3.0, 0, Extrapolation::Continue, &mut values);
        assert_eq!(values, [0.0, -1.0, 2.0]);
    }

    #[test]
    fn knots_must_fit() {
        let broken = |change: fn(&mut ColumnSplines)| {
            let mut column = hats();
            change(&mut column);
            Splines::try_new(vec![column], Extrapolation::Constant, true, false).is_err()
        };
        assert!(broken(|column| column.degree = 2));
        assert!(broken(|column| column.knots.reverse()));
        assert!(broken(|column| column.coefficients.clear()));
        assert!(broken(|column| column.n_splines = 0));
    }
}
