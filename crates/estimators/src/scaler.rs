//! Column-wise scaling: StandardScaler, MinMaxScaler and RobustScaler are sequences of these steps.

use coracle_model::{Accepts, Estimator, Method, MethodSpec, RunError, Width};
use coracle_tensor::{DType, Rows, Tensor};

use crate::spec_error::{SpecError, expect_length};
use crate::table;

/// One operation on every column, in the order and form in which scikit-learn applies it.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalerStep {
    /// Subtracts a number per column.
    Subtract(Vec<f64>),
    /// Divides by a number per column.
    Divide(Vec<f64>),
    /// Multiplies by a number per column.
    Multiply(Vec<f64>),
    /// Adds a number per column.
    Add(Vec<f64>),
    /// Limits every value to a range; missing values stay missing.
    Clip {
        /// The smallest value.
        low: f64,
        /// The largest value.
        high: f64,
    },
}

/// A transformer that scales columns; missing values pass through.
#[derive(Debug)]
pub struct Scaler {
    n_features: usize,
    steps: Vec<ScalerStep>,
    accepts: Accepts,
    methods: [MethodSpec; 1],
}

impl Scaler {
    /// Returns a scaler of tables with `n_features` columns.
    ///
    /// # Errors
    /// [`SpecError`] if a step has another number of columns or an empty range.
    pub fn try_new(n_features: usize, steps: Vec<ScalerStep>) -> Result<Self, SpecError> {
        for step in &steps {
            match step {
                ScalerStep::Subtract(values)
                | ScalerStep::Divide(values)
                | ScalerStep::Multiply(values)
                | ScalerStep::Add(values) => {
                    expect_length("a scaling step", values.len(), n_features)?;
                }
                ScalerStep::Clip { low, high } if low <= high => {}
                ScalerStep::Clip { low, high } => {
                    return Err(SpecError::new(format!("range {low} to {high} is empty")));
                }
            }
        }
        Ok(Self {
            n_features,
            steps,
            accepts: Accepts::FINITE_OR_MISSING,
            methods: [transform_spec(n_features)],
        })
    }

    /// Takes only what `accepts` allows.
    #[must_use]
    pub fn narrowed(mut self, accepts: Accepts) -> Self {
        self.accepts = accepts;
        self
    }
}

/// Returns what a transformer to `n_columns` columns offers.
pub(crate) fn transform_spec(n_columns: usize) -> MethodSpec {
    MethodSpec {
        method: Method::Transform,
        dtype: DType::F64,
        width: Width::Columns(n_columns),
    }
}

fn apply(values: &mut [f64], operands: &[f64], operation: impl Fn(&mut f64, f64)) {
    for row in values.chunks_exact_mut(operands.len().max(1)) {
        for (value, &operand) in row.iter_mut().zip(operands) {
            operation(value, operand);
        }
    }
}

impl Estimator for Scaler {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        if method != Method::Transform {
            return Err(table::no_method(method));
        }
        table::check(rows, self.n_features, self.accepts())?;
        let mut values = rows.values().to_vec();
        for step in &self.steps {
            match step {
                ScalerStep::Subtract(by) => apply(&mut values, by, |value, by| *value -= by),
                ScalerStep::Divide(by) => apply(&mut values, by, |value, by| *value /= by),
                ScalerStep::Multiply(by) => apply(&mut values, by, |value, by| *value *= by),
                ScalerStep::Add(by) => apply(&mut values, by, |value, by| *value += by),
                ScalerStep::Clip { low, high } => {
                    for value in &mut values {
                        *value = value.clamp(*low, *high);
                    }
                }
            }
        }
        table::matrix(values, rows.n_rows(), self.n_features)
    }

    fn memory_bytes(&self) -> usize {
        self.steps.len() * self.n_features * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::Values;

    use super::*;

    #[test]
    fn steps_apply_in_order_and_keep_missing_values() {
        let steps = vec![
            ScalerStep::Subtract(vec![1.0, 2.0]),
            ScalerStep::Divide(vec![2.0, 4.0]),
            ScalerStep::Clip {
                low: -1.0,
                high: 1.0,
            },
        ];
        let scaler = Scaler::try_new(2, steps).unwrap();
        let table = [2.0, f64::NAN, 9.0, -2.0];
        let rows = Rows::try_new(&table, 2).unwrap();
        let scaled = scaler.run(Method::Transform, rows).unwrap();
        assert_eq!(scaled.shape(), [2, 2]);
        let Values::F64(values) = scaled.values() else {
            panic!("not doubles")
        };
        assert_eq!((values[0], values[2], values[3]), (0.5, 1.0, -1.0));
        assert!(values[1].is_nan());
    }

    #[test]
    fn steps_of_another_width_are_refused() {
        assert!(Scaler::try_new(3, vec![ScalerStep::Add(vec![1.0])]).is_err());
        let empty = ScalerStep::Clip {
            low: 1.0,
            high: 0.0,
        };
        assert!(Scaler::try_new(3, vec![empty]).is_err());
    }
}
