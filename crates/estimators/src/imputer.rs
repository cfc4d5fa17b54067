//! SimpleImputer: a number per column in place of missing values.

use coracle_model::{Accepts, Estimator, Method, MethodSpec, RunError};
use coracle_tensor::{Rows, Tensor};

use crate::scaler::transform_spec;
use crate::spec_error::{SpecError, expect_length};
use crate::table;

/// What counts as missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MissingMarker {
    /// NaN.
    Nan,
    /// This number; NaN is then refused.
    Number(f64),
}

impl MissingMarker {
    /// Returns what a table may hold.
    pub(crate) fn accepts(self) -> Accepts {
        match self {
            Self::Nan => Accepts::FINITE_OR_MISSING,
            Self::Number(_) => Accepts::FINITE,
        }
    }

    pub(crate) fn matches(self, value: f64) -> bool {
        match self {
            Self::Nan => value.is_nan(),
            #[expect(
                clippy::float_cmp,
                reason = "a marker is compared exactly, as in numpy"
            )]
            Self::Number(marker) => value == marker,
        }
    }
}

/// What an imputer learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct ImputerSpec {
    /// What counts as missing.
    pub missing: MissingMarker,
    /// The replacement for each column; `None` drops the column.
    pub replacements: Vec<Option<f64>>,
    /// The columns for which a 0/1 column "was missing" is appended, in order.
    pub indicator_columns: Vec<usize>,
}

/// A transformer that replaces missing values.
#[derive(Debug)]
pub struct SimpleImputer {
    spec: ImputerSpec,
    accepts: Accepts,
    n_columns_out: usize,
    methods: [MethodSpec; 1],
}

impl SimpleImputer {
    /// Returns an imputer of tables with as many columns as there are replacements.
    ///
    /// # Errors
    /// [`SpecError`] if an indicator column does not exist, or nothing would be left.
    pub fn try_new(spec: ImputerSpec) -> Result<Self, SpecError> {
        let n_features = spec.replacements.len();
        for &column in &spec.indicator_columns {
            if column >= n_features {
                return Err(SpecError::new(format!(
                    "indicator column {column} does not exist; there are {n_features}"
                )));
            }
        }
        let n_kept = spec.replacements.iter().flatten().count();
        let n_columns_out = n_kept + spec.indicator_columns.len();
        if n_columns_out == 0 {
            return Err(SpecError::new("every column would be dropped"));
        }
        expect_length("replacements", spec.replacements.len(), n_features)?;
        Ok(Self {
            accepts: spec.missing.accepts(),
            spec,
            n_columns_out,
            methods: [transform_spec(n_columns_out)],
        })
    }

    /// Takes what `accepts` allows.
    #[must_use]
    pub fn accepting(mut self, accepts: Accepts) -> Self {
        self.accepts = accepts;
        self
    }
}

impl Estimator for SimpleImputer {
    fn n_features(&self) -> usize {
        self.spec.replacements.len()
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
        table::check(rows, self.n_features(), self.accepts())?;
        let mut filled = Vec::with_capacity(rows.n_rows() * self.n_columns_out);
        for row in rows.iter() {
            for (&value, replacement) in row.iter().zip(&self.spec.replacements) {
                if let Some(replacement) = replacement {
                    let is_missing = self.spec.missing.matches(value);
                    filled.push(if is_missing { *replacement } else { value });
                }
            }
            for &column in &self.spec.indicator_columns {
                let is_missing = self.spec.missing.matches(row[column]);
                filled.push(if is_missing { 1.0 } else { 0.0 });
            }
        }
        table::matrix(filled, rows.n_rows(), self.n_columns_out)
    }

    fn memory_bytes(&self) -> usize {
        self.spec.replacements.capacity() * size_of::<Option<f64>>()
            + self.spec.indicator_columns.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::Values;

    use super::*;

    #[test]
    fn replaces_drops_and_indicates() {
        let imputer = SimpleImputer::try_new(ImputerSpec {
            missing: MissingMarker::Nan,
            replacements: vec![Some(7.0), None, Some(9.0)],
            indicator_columns: vec![0, 1],
        })
        .unwrap();
        let table = [f64::NAN, 1.0, 2.0, 3.0, f64::NAN, f64::NAN];
        let filled = imputer
            .run(Method::Transform, Rows::try_new(&table, 3).unwrap())
            .unwrap();
        assert_eq!(filled.shape(), [2, 4]);
        let expected = vec![7.0, 2.0, 1.0, 0.0, 3.0, 9.0, 0.0, 1.0];
        assert_eq!(filled.values(), &Values::F64(expected.into()));
    }

    #[test]
    fn a_number_can_mark_what_is_missing_and_nan_is_then_refused() {
        let imputer = SimpleImputer::try_new(ImputerSpec {
            missing: MissingMarker::Number(-1.0),
            replacements: vec![Some(5.0)],
            indicator_columns: vec![],
        })
        .unwrap();
        let run = |value: f64| imputer.run(Method::Transform, Rows::try_new(&[value], 1).unwrap());
        assert_eq!(run(-1.0).unwrap().values(), &Values::F64(vec![5.0].into()));
        assert!(run(f64::NAN).is_err());
    }
}
