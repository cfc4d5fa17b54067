//! Transformations of single numbers and of rows without anything learnt.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::spec_error::SpecError;

/// A numpy function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in numpy")]
pub enum Unary {
    Identity,
    Absolute,
    Cbrt,
    Ceil,
    Cos,
    Cosh,
    Exp,
    Exp2,
    Expm1,
    Floor,
    Log,
    Log10,
    Log1p,
    Log2,
    Negative,
    Reciprocal,
    Rint,
    Sign,
    Sin,
    Sinh,
    Sqrt,
    Square,
    Tan,
    Tanh,
    Arcsinh,
    Arctan,
}

impl Unary {
    /// Returns the function of this name in numpy.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "absolute" | "abs" | "fabs" => Self::Absolute,
            "cbrt" => Self::Cbrt,
            "ceil" => Self::Ceil,
            "cos" => Self::Cos,
            "cosh" => Self::Cosh,
            "exp" => Self::Exp,
            "exp2" => Self::Exp2,
            "expm1" => Self::Expm1,
            "floor" => Self::Floor,
            "log" => Self::Log,
            "log10" => Self::Log10,
            "log1p" => Self::Log1p,
            "log2" => Self::Log2,
            "negative" => Self::Negative,
            "reciprocal" => Self::Reciprocal,
            "rint" => Self::Rint,
            "sign" => Self::Sign,
            "sin" => Self::Sin,
            "sinh" => Self::Sinh,
            "sqrt" => Self::Sqrt,
            "square" => Self::Square,
            "tan" => Self::Tan,
            "tanh" => Self::Tanh,
            "arcsinh" => Self::Arcsinh,
            "arctan" => Self::Arctan,
            _ => return None,
        })
    }

    /// Returns the function's value.
    #[must_use]
    pub fn of(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Absolute => x.abs(),
            Self::Cbrt => x.cbrt(),
            Self::Ceil => x.ceil(),
            Self::Cos => x.cos(),
            Self::Cosh => x.cosh(),
            Self::Exp => x.exp(),
            Self::Exp2 => x.exp2(),
            Self::Expm1 => x.exp_m1(),
            Self::Floor => x.floor(),
            Self::Log => x.ln(),
            Self::Log10 => x.log10(),
            Self::Log1p => x.ln_1p(),
            Self::Log2 => x.log2(),
            Self::Negative => -x,
            Self::Reciprocal => 1.0 / x,
            Self::Rint => x.round_ties_even(),
            Self::Sign if x == 0.0 || x.is_nan() => x + 0.0,
            Self::Sign => x.signum(),
            Self::Sin => x.sin(),
            Self::Sinh => x.sinh(),
            Self::Sqrt => x.sqrt(),
            Self::Square => x * x,
            Self::Tan => x.tan(),
            Self::Tanh => x.tanh(),
            Self::Arcsinh => x.asinh(),
            Self::Arctan => x.atan(),
        }
    }
}

/// What brings a row to length one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// The sum of absolute values.
    L1,
    /// The Euclidean length.
    L2,
    /// The largest absolute value.
    Max,
}

/// A transformation that leaves the number of columns as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowOperation {
    /// A function of each number.
    Function(Unary),
    /// 1 above the threshold, else 0.
    Binarize(f64),
    /// Each row divided by its norm; a row of norm 0 stays.
    Normalize(Norm),
}

/// An operation on tables of any content.
#[derive(Debug)]
pub struct Rowwise {
    operation: RowOperation,
    n_features: usize,
    accepts: Accepts,
}

impl Rowwise {
    /// Returns the operation on tables of `n_features` columns.
    ///
    /// # Errors
    /// [`SpecError`] if there are no columns.
    pub fn try_new(
        operation: RowOperation,
        n_features: usize,
        accepts: Accepts,
    ) -> Result<Self, SpecError> {
        if n_features == 0 {
            return Err(SpecError::new("there are no columns"));
        }
        Ok(Self {
            operation,
            n_features,
            accepts,
        })
    }
}

impl Norm {
    fn of(self, row: &[f64]) -> f64 {
        match self {
            Self::L1 => row.iter().map(|value| value.abs()).sum(),
            Self::L2 => crate::linear::dot(row, row).sqrt(),
            Self::Max => row.iter().map(|value| value.abs()).fold(0.0, f64::max),
        }
    }
}

impl Scorer for Rowwise {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.n_features
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let values = scores.iter_mut().zip(rows.values());
        match self.operation {
            RowOperation::Function(function) => {
                for (score, &value) in values {
                    *score = function.of(value);
                }
            }
            RowOperation::Binarize(threshold) => {
                for (score, &value) in values {
                    *score = if value > threshold { 1.0 } else { 0.0 };
                }
            }
            RowOperation::Normalize(norm) => {
                for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.n_features)) {
                    let norm = norm.of(row);
                    let divisor = if norm == 0.0 { 1.0 } else { norm };
                    for (score, value) in scores.iter_mut().zip(row) {
                        *score = value / divisor;
                    }
                }
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Products of columns: polynomial features.
#[derive(Debug)]
pub struct Products {
    n_features: usize,
    /// The columns of each product, rising; none for the constant 1.
    terms: Vec<Vec<usize>>,
}

impl Products {
    /// The most products that are made.
    pub const TERMS_MAX: usize = 1 << 20;

    /// The most columns in a product.
    pub const DEGREE_MAX: usize = 64;

    /// Returns every product of `degrees.0` to `degrees.1` columns, in scikit-learn's order.
    ///
    /// # Errors
    /// [`SpecError`] if there would be none, or other than `n_expected`.
    pub fn try_new(
        n_features: usize,
        degrees: (usize, usize),
        interaction_only: bool,
        include_bias: bool,
        n_expected: usize,
    ) -> Result<Self, SpecError> {
        if n_expected == 0 || n_expected > Self::TERMS_MAX {
            return Err(SpecError::new(format!("{n_expected} products of columns")));
        }
        if degrees.1 > Self::DEGREE_MAX {
            return Err(SpecError::new(format!("products of {} columns", degrees.1)));
        }
        let mut terms = Vec::new();
        if include_bias {
            terms.push(Vec::new());
        }
        let wrong = || SpecError::new(format!("not the {n_expected} products that were fitted"));
        for degree in degrees.0.max(1)..=degrees.1.min(n_expected.saturating_add(1)) {
            if interaction_only && degree > n_features {
                break;
            }
            let mut term = match interaction_only {
                true => (0..degree).collect(),
                false => vec![0; degree],
            };
            loop {
                if terms.len() >= n_expected {
                    return Err(wrong());
                }
                terms.push(term.clone());
                if !advance(&mut term, n_features, interaction_only) {
                    break;
                }
            }
        }
        if terms.len() != n_expected || n_features == 0 {
            return Err(wrong());
        }
        Ok(Self { n_features, terms })
    }
}

/// Makes `term` the next combination; false after the last.
fn advance(term: &mut [usize], n_features: usize, is_strict: bool) -> bool {
    let length = term.len();
    for position in (0..length).rev() {
        let room = if is_strict { length - 1 - position } else { 0 };
        if term[position] + 1 + room < n_features {
            let mut next = term[position] + 1;
            for value in &mut term[position..] {
                *value = next;
                next += usize::from(is_strict);
            }
            return true;
        }
    }
    false
}

impl Scorer for Products {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.terms.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.terms.len())) {
            for (score, term) in scores.iter_mut().zip(&self.terms) {
                // From the last, as scikit-learn multiplies shorter products.
                let factors = term.iter().rev().map(|&column| row[column]);
                *score = factors.reduce(|product, x| product * x).unwrap_or(1.0);
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.terms
            .iter()
            .map(|term| size_of::<Vec<usize>>() + term.len() * size_of::<usize>())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_come_in_order() {
        let all = Products::try_new(2, (0, 2), false, true, 6).unwrap();
        let expected: [&[usize]; 6] = [&[], &[0], &[1], &[0, 0], &[0, 1], &[1, 1]];
        assert_eq!(all.terms, expected);
        let some = Products::try_new(3, (2, 3), true, false, 4).unwrap();
        let expected: [&[usize]; 4] = [&[0, 1], &[0, 2], &[1, 2], &[0, 1, 2]];
        assert_eq!(some.terms, expected);
        assert!(Products::try_new(3, (0, 2), false, true, 9).is_err());
        assert!(Products::try_new(50, (0, 60), false, true, 1000).is_err());
        assert!(Products::try_new(0, (0, 2), false, true, 1).is_err());
        assert!(Products::try_new(1, (0, 1 << 19), false, false, 1 << 19).is_err());
    }

    #[test]
    fn rows_of_zeros_stay() {
        let operation = RowOperation::Normalize(Norm::L2);
        let normalizer = Rowwise::try_new(operation, 2, Accepts::FINITE).unwrap();
        let mut scores = [9.0; 4];
        let rows = Rows::try_new(&[0.0, 0.0, 3.0, 4.0], 2).unwrap();
        normalizer.score(rows, &mut scores);
        assert_eq!(scores, [0.0, 0.0, 0.6, 0.8]);
    }
}
