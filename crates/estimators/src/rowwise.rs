//! Transformations of single numbers and of rows without anything learnt.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::link::sigmoid;
use crate::spec_error::SpecError;
use crate::special::{erf, normal_share};

/// A function of one number, of numpy or of `scipy.special`; truth is 1, what is not is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "named as in numpy and scipy")]
pub enum Unary {
    Identity,
    Absolute,
    Arccos,
    Arccosh,
    Arcsin,
    Arcsinh,
    Arctan,
    Arctanh,
    Cbrt,
    Ceil,
    Clip { min: f64, max: f64 },
    Cos,
    Cosh,
    Deg2rad,
    Erf,
    Exp,
    Exp10,
    Exp2,
    Expit,
    Expm1,
    Floor,
    Isfinite,
    Isinf,
    Isnan,
    Log,
    Log10,
    Log1p,
    Log2,
    LogExpit,
    LogicalNot,
    Logit,
    NanToNum { nan: f64, posinf: f64, neginf: f64 },
    Ndtr,
    Negative,
    Rad2deg,
    Reciprocal,
    Rint,
    Round { decimals: i32 },
    Sign,
    Signbit,
    Sin,
    Sinc,
    Sinh,
    Spacing,
    Sqrt,
    Square,
    Tan,
    Tanh,
    Trunc,
}

impl Unary {
    /// Returns the function of this name in numpy, as it is without further arguments.
    #[must_use]
    pub fn of_numpy(name: &str) -> Option<Self> {
        Some(match name {
            "absolute" | "abs" | "fabs" => Self::Absolute,
            "arccos" | "acos" => Self::Arccos,
            "arccosh" | "acosh" => Self::Arccosh,
            "arcsin" | "asin" => Self::Arcsin,
            "arcsinh" | "asinh" => Self::Arcsinh,
            "arctan" | "atan" => Self::Arctan,
            "arctanh" | "atanh" => Self::Arctanh,
            "around" | "round" | "round_" => Self::Round { decimals: 0 },
            "cbrt" => Self::Cbrt,
            "ceil" => Self::Ceil,
            "clip" => Self::Clip {
                min: f64::NEG_INFINITY,
                max: f64::INFINITY,
            },
            "conj" | "conjugate" | "positive" | "real" => Self::Identity,
            "cos" => Self::Cos,
            "cosh" => Self::Cosh,
            "deg2rad" | "radians" => Self::Deg2rad,
            "degrees" | "rad2deg" => Self::Rad2deg,
            "exp" => Self::Exp,
            "exp2" => Self::Exp2,
            "expm1" => Self::Expm1,
            "fix" | "trunc" => Self::Trunc,
            "floor" => Self::Floor,
            "isfinite" => Self::Isfinite,
            "isinf" => Self::Isinf,
            "isnan" => Self::Isnan,
            "log" => Self::Log,
            "log10" => Self::Log10,
            "log1p" => Self::Log1p,
            "log2" => Self::Log2,
            "logical_not" => Self::LogicalNot,
            "nan_to_num" => Self::NanToNum {
                nan: 0.0,
                posinf: f64::MAX,
                neginf: f64::MIN,
            },
            "negative" => Self::Negative,
            "reciprocal" => Self::Reciprocal,
            "rint" => Self::Rint,
            "sign" => Self::Sign,
            "signbit" => Self::Signbit,
            "sin" => Self::Sin,
            "sinc" => Self::Sinc,
            "sinh" => Self::Sinh,
            "spacing" => Self::Spacing,
            "sqrt" => Self::Sqrt,
            "square" => Self::Square,
            "tan" => Self::Tan,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }

    /// Returns the function of this name in `scipy.special`.
    #[must_use]
    pub fn of_scipy(name: &str) -> Option<Self> {
        Some(match name {
            "cbrt" => Self::Cbrt,
            "erf" => Self::Erf,
            "exp10" => Self::Exp10,
            "exp2" => Self::Exp2,
            "expit" => Self::Expit,
            "expm1" => Self::Expm1,
            "log1p" => Self::Log1p,
            "log_expit" => Self::LogExpit,
            "logit" => Self::Logit,
            "ndtr" => Self::Ndtr,
            _ => return None,
        })
    }

    /// Tells whether the function tells what is true, rather than a number.
    #[must_use]
    pub fn is_truth(self) -> bool {
        matches!(
            self,
            Self::Isfinite | Self::Isinf | Self::Isnan | Self::LogicalNot | Self::Signbit
        )
    }

    /// Returns the function's value.
    #[must_use]
    pub fn of(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Absolute => x.abs(),
            Self::Arccos => x.acos(),
            Self::Arccosh => x.acosh(),
            Self::Arcsin => x.asin(),
            Self::Arcsinh => x.asinh(),
            Self::Arctan => x.atan(),
            Self::Arctanh => x.atanh(),
            Self::Cbrt => x.cbrt(),
            Self::Cos => x.cos(),
            Self::Cosh => x.cosh(),
            Self::Deg2rad => x * (std::f64::consts::PI / 180.0),
            Self::Erf => erf(x),
            Self::Exp => x.exp(),
            Self::Exp10 => 10.0_f64.powf(x),
            Self::Exp2 => x.exp2(),
            Self::Expit => sigmoid(x),
            Self::Expm1 => x.exp_m1(),
            Self::Log => x.ln(),
            Self::Log10 => x.log10(),
            Self::Log1p => x.ln_1p(),
            Self::Log2 => x.log2(),
            Self::LogExpit if x < 0.0 => x - x.exp().ln_1p(),
            Self::LogExpit => -(-x).exp().ln_1p(),
            Self::Logit if !(0.3..=0.65).contains(&x) => (x / (1.0 - x)).ln(),
            // The quotient of nearly equal numbers would lose digits.
            Self::Logit => (2.0 * (x - 0.5)).ln_1p() - (-2.0 * (x - 0.5)).ln_1p(),
            Self::Ndtr => normal_share(x),
            Self::Negative => -x,
            Self::Rad2deg => x * (180.0 / std::f64::consts::PI),
            Self::Reciprocal => 1.0 / x,
            Self::Sin => x.sin(),
            Self::Sinc if x == 0.0 => 1.0,
            Self::Sinc => (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x),
            Self::Sinh => x.sinh(),
            Self::Spacing if x.is_infinite() => f64::NAN,
            Self::Spacing if x == 0.0 => f64::from_bits(1),
            Self::Spacing => (x.abs().next_up() - x.abs()).copysign(x),
            Self::Sqrt => x.sqrt(),
            Self::Square => x * x,
            Self::Tan => x.tan(),
            Self::Tanh => x.tanh(),
            _ => self.of_steps(x),
        }
    }

    /// Returns the value of a function that goes by steps, or asks.
    fn of_steps(self, x: f64) -> f64 {
        let truth = |holds: bool| f64::from(u8::from(holds));
        match self {
            Self::Ceil => x.ceil(),
            Self::Clip { .. } if x.is_nan() => x,
            Self::Clip { min, max } => x.max(min).min(max),
            Self::Floor => x.floor(),
            Self::Isfinite => truth(x.is_finite()),
            Self::Isinf => truth(x.is_infinite()),
            Self::Isnan => truth(x.is_nan()),
            Self::LogicalNot => truth(x == 0.0),
            Self::NanToNum {
                nan,
                posinf,
                neginf,
            } => match x {
                _ if x.is_nan() => nan,
                f64::INFINITY => posinf,
                f64::NEG_INFINITY => neginf,
                x => x,
            },
            Self::Rint | Self::Round { decimals: 0 } => x.round_ties_even(),
            Self::Round { decimals } if decimals > 0 => {
                let scale = 10.0_f64.powi(decimals);
                (x * scale).round_ties_even() / scale
            }
            Self::Round { decimals } => {
                let scale = 10.0_f64.powi(-decimals);
                (x / scale).round_ties_even() * scale
            }
            Self::Sign if x == 0.0 || x.is_nan() => x + 0.0,
            Self::Sign => x.signum(),
            Self::Signbit => truth(x.is_sign_negative()),
            Self::Trunc => x.trunc(),
            _ => unreachable!("the other functions are smooth"),
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
