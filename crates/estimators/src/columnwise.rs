//! Transformations learnt column by column: bins, powers, quantiles.

use coracle_model::{Accepts, RunError, RunErrorKind};
use coracle_tensor::Rows;

use crate::isotonic::interpolate;
use crate::spec_error::{SpecError, expect_length};
use crate::special::{normal_quantile, normal_share};
use crate::table_fn::TableFn;

/// What is done with one column.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnOperation {
    /// The number of the bin: how many of these inner edges are at or below.
    Bins {
        /// The inner edges, rising.
        edges: Vec<f64>,
        /// How the bin is shown.
        encoding: BinEncoding,
        /// Up to 1.0 scikit-learn adds a hundred-thousandth before it compares.
        with_slack: bool,
    },
    /// The Yeo-Johnson power.
    YeoJohnson {
        /// The exponent.
        lambda: f64,
        /// Whether small results are computed without loss (from 1.9 on).
        precise: bool,
    },
    /// The Box-Cox power; numbers of zero or less are refused.
    BoxCox {
        /// The exponent.
        lambda: f64,
    },
    /// The logarithm of the number plus a shift; what makes that zero or less is refused.
    LnAbove {
        /// The shift.
        shift: f64,
    },
    /// The share of the training data below, from 0 to 1.
    Quantiles {
        /// Quantiles, rising.
        quantiles: Vec<f64>,
        /// The share below each.
        references: Vec<f64>,
        /// What the share becomes.
        distribution: Distribution,
    },
    /// The number whose Yeo-Johnson power it is.
    YeoJohnsonInverse {
        /// The exponent.
        lambda: f64,
    },
    /// The number whose Box-Cox power it is.
    BoxCoxInverse {
        /// The exponent.
        lambda: f64,
    },
    /// The number with this share of the training data below.
    QuantilesInverse {
        /// Quantiles, rising.
        quantiles: Vec<f64>,
        /// The share below each.
        references: Vec<f64>,
        /// What the share had become.
        distribution: Distribution,
    },
}

/// The distribution of what a share becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// It stays.
    Uniform,
    /// It stays, but for those nearest to 0 and 1 (scikit-learn up to 0.20).
    BoundedUniform,
    /// A number with a normal distribution.
    Normal,
}

/// How the number of a bin is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinEncoding {
    /// As a number.
    Ordinal,
    /// As a column per bin, of which one is 1.
    OneHot,
}

impl ColumnOperation {
    fn n_columns(&self) -> usize {
        match self {
            Self::Bins {
                edges,
                encoding: BinEncoding::OneHot,
                ..
            } => edges.len() + 1,
            _ => 1,
        }
    }

    /// Appends the result for `x`; false where it is refused.
    fn push(&self, x: f64, output: &mut Vec<f64>) -> bool {
        match self {
            Self::Bins {
                edges,
                encoding,
                with_slack,
            } => {
                let shifted = match with_slack {
                    true => x + (1e-8 + 1e-5 * x.abs()),
                    false => x,
                };
                let bin = edges.partition_point(|&edge| edge <= shifted);
                match encoding {
                    BinEncoding::Ordinal => output.push(crate::kernel::count(bin)),
                    BinEncoding::OneHot => {
                        let bins = 0..=edges.len();
                        output.extend(bins.map(|other| if other == bin { 1.0 } else { 0.0 }));
                    }
                }
            }
            Self::YeoJohnson { lambda, precise } => output.push(yeo_johnson(x, *lambda, *precise)),
            Self::BoxCox { .. } if x <= 0.0 => return false,
            Self::BoxCox { lambda } => output.push(box_cox(x, *lambda)),
            Self::LnAbove { shift } if x <= -shift => return false,
            Self::LnAbove { shift } => output.push((x + shift).ln()),
            Self::Quantiles {
                quantiles,
                references,
                distribution,
            } => output.push(quantile(x, quantiles, references, *distribution)),
            Self::YeoJohnsonInverse { lambda } => output.push(yeo_johnson_inverse(x, *lambda)),
            Self::BoxCoxInverse { lambda } => output.push(box_cox_inverse(x, *lambda)),
            Self::QuantilesInverse {
                quantiles,
                references,
                distribution,
            } => output.push(at_share(x, quantiles, references, *distribution)),
        }
        true
    }

    fn check(&self) -> Result<(), SpecError> {
        match self {
            Self::Bins { edges, .. } if !edges.is_sorted() => {
                Err(SpecError::new("the edges of bins do not rise"))
            }
            Self::Quantiles {
                quantiles,
                references,
                ..
            }
            | Self::QuantilesInverse {
                quantiles,
                references,
                ..
            } => {
                if quantiles.is_empty() {
                    return Err(SpecError::new("there are no quantiles"));
                }
                expect_length("references_", references.len(), quantiles.len())
            }
            _ => Ok(()),
        }
    }
}

fn box_cox(x: f64, lambda: f64) -> f64 {
    if lambda.abs() < 1e-19 {
        return x.ln();
    }
    (lambda * x.ln()).exp_m1() / lambda
}

fn yeo_johnson(x: f64, lambda: f64, precise: bool) -> f64 {
    // A column without numbers has no exponent.
    if x.is_nan() || lambda.is_nan() {
        return if precise { f64::NAN } else { x * lambda };
    }
    let power = |base: f64, exponent: f64| match precise {
        true => (exponent * base.ln_1p()).exp_m1() / exponent,
        false => ((base + 1.0).powf(exponent) - 1.0) / exponent,
    };
    if x >= 0.0 {
        return match lambda.abs() < f64::EPSILON {
            true => x.ln_1p(),
            false => power(x, lambda),
        };
    }
    match (lambda - 2.0).abs() > f64::EPSILON {
        true => -power(-x, 2.0 - lambda),
        false => -(-x).ln_1p(),
    }
}

fn box_cox_inverse(x: f64, lambda: f64) -> f64 {
    match lambda == 0.0 {
        true => x.exp(),
        false => ((lambda * x).ln_1p() / lambda).exp(),
    }
}

fn yeo_johnson_inverse(x: f64, lambda: f64) -> f64 {
    if x >= 0.0 {
        return match lambda.abs() < f64::EPSILON {
            true => x.exp() - 1.0,
            false => (x * lambda + 1.0).powf(1.0 / lambda) - 1.0,
        };
    }
    match (lambda - 2.0).abs() > f64::EPSILON {
        true => 1.0 - (-(2.0 - lambda) * x + 1.0).powf(1.0 / (2.0 - lambda)),
        false => 1.0 - (-x).exp(),
    }
}

/// How near to its ends a share counts as one of them.
const BOUND: f64 = 1e-7;

fn at_share(x: f64, quantiles: &[f64], references: &[f64], distribution: Distribution) -> f64 {
    if x.is_nan() {
        return x;
    }
    let share = match distribution {
        Distribution::Normal => normal_share(x),
        Distribution::Uniform | Distribution::BoundedUniform => x,
    };
    // Shares beyond the ends are the ends.
    let bound = match distribution {
        Distribution::Uniform => 0.0,
        Distribution::BoundedUniform | Distribution::Normal => BOUND,
    };
    if share - bound < 0.0 {
        quantiles[0]
    } else if share + bound > 1.0 {
        quantiles[quantiles.len() - 1]
    } else {
        interpolate(references, quantiles, share)
    }
}

fn quantile(x: f64, quantiles: &[f64], references: &[f64], distribution: Distribution) -> f64 {
    if x.is_nan() {
        return x;
    }
    let (low, high) = (quantiles[0], quantiles[quantiles.len() - 1]);
    let (is_low, is_high) = match distribution {
        Distribution::Normal | Distribution::BoundedUniform => (x - BOUND < low, x + BOUND > high),
        #[expect(clippy::float_cmp, reason = "the ends are compared exactly, as there")]
        Distribution::Uniform => (x == low, x == high),
    };
    let share = if is_low {
        0.0
    } else if is_high {
        1.0
    } else {
        // Repeated quantiles: the mean of the interpolations from below and from above.
        let upper = interpolate(quantiles, references, x);
        let lower = interpolate_down(quantiles, references, x);
        0.5 * (upper + lower)
    };
    let least = BOUND - f64::EPSILON;
    match distribution {
        Distribution::Uniform => return share,
        Distribution::BoundedUniform => return share.clamp(least, 1.0 - least),
        Distribution::Normal => {}
    }
    normal_quantile(share).clamp(normal_quantile(least), normal_quantile(1.0 - least))
}

/// Interpolates on the mirrored points, so that of equal points the other end counts.
fn interpolate_down(quantiles: &[f64], references: &[f64], x: f64) -> f64 {
    let last = quantiles.len() - 1;
    if x <= quantiles[0] {
        return references[0];
    }
    // The first point at or above x.
    let at = quantiles.partition_point(|&point| point < x);
    if at > last {
        return references[last];
    }
    let slope = (references[at] - references[at - 1]) / (quantiles[at] - quantiles[at - 1]);
    slope * (x - quantiles[at]) + references[at]
}

/// An operation per column.
#[derive(Debug)]
pub struct Columnwise {
    operations: Vec<ColumnOperation>,
    n_columns: usize,
    accepts: Accepts,
}

impl Columnwise {
    /// Returns the transformation of as many columns as there are operations.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, or an operation's numbers do not rise.
    pub fn try_new(operations: Vec<ColumnOperation>, accepts: Accepts) -> Result<Self, SpecError> {
        let n_columns = operations.iter().map(ColumnOperation::n_columns).sum();
        if n_columns == 0 {
            return Err(SpecError::new("there are no columns"));
        }
        operations.iter().try_for_each(ColumnOperation::check)?;
        Ok(Self {
            operations,
            n_columns,
            accepts,
        })
    }
}

impl TableFn for Columnwise {
    fn n_features(&self) -> usize {
        self.operations.len()
    }

    fn n_columns(&self) -> usize {
        self.n_columns
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut output = Vec::with_capacity(rows.n_rows() * self.n_columns);
        for (index, row) in rows.iter().enumerate() {
            for (column, (&x, operation)) in row.iter().zip(&self.operations).enumerate() {
                if !operation.push(x, &mut output) {
                    let message = format!(
                        "row {index}, column {column}: too small; this model takes larger numbers only"
                    );
                    return Err(RunError::new(RunErrorKind::ValueOutOfRange, message));
                }
            }
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        let numbers = self.operations.iter().map(|operation| match operation {
            ColumnOperation::Bins { edges, .. } => edges.len(),
            ColumnOperation::Quantiles { quantiles, .. }
            | ColumnOperation::QuantilesInverse { quantiles, .. } => 2 * quantiles.len(),
            _ => 1,
        });
        numbers.sum::<usize>() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(operation: ColumnOperation, x: f64) -> Vec<f64> {
        let columnwise = Columnwise::try_new(vec![operation], Accepts::FINITE).unwrap();
        columnwise.apply(Rows::try_new(&[x], 1).unwrap()).unwrap()
    }

    #[test]
    fn bins_start_at_their_edges() {
        let bins = |encoding| ColumnOperation::Bins {
            edges: vec![1.0, 2.0],
            encoding,
            with_slack: false,
        };
        assert_eq!(one(bins(BinEncoding::Ordinal), 1.0), [1.0]);
        assert_eq!(one(bins(BinEncoding::Ordinal), 7.0), [2.0]);
        assert_eq!(one(bins(BinEncoding::OneHot), 0.5), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn repeated_quantiles_answer_their_middle() {
        let quantiles = ColumnOperation::Quantiles {
            quantiles: vec![0.0, 1.0, 1.0, 2.0],
            references: vec![0.0, 0.25, 0.75, 1.0],
            distribution: Distribution::Uniform,
        };
        assert_eq!(one(quantiles.clone(), 1.0), [0.5]);
        assert_eq!(one(quantiles, 9.0), [1.0]);
    }

    #[test]
    fn box_cox_refuses_zero() {
        let operation = ColumnOperation::BoxCox { lambda: 0.0 };
        let columnwise = Columnwise::try_new(vec![operation], Accepts::FINITE).unwrap();
        assert!(columnwise.apply(Rows::try_new(&[0.0], 1).unwrap()).is_err());
        assert!(Columnwise::try_new(Vec::new(), Accepts::FINITE).is_err());
    }
}
