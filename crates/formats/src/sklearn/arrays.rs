//! Reading matrices, lists of parts and choices from a fitted object.

use std::sync::Arc;

use coracle_estimators::{Facet, Faceted, SpecError};
use coracle_model::{Component, Estimator, LoadError, LoadErrorKind, Method};
use coracle_pickle::{Array, Node};

use super::convert::{self, Part};
use super::fitted::Fitted;
use super::older;

/// The most numbers that a sparse matrix may become when it is made dense.
const DENSE_MAX: usize = 1 << 26;

/// A row-major matrix.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) n_rows: usize,
    pub(super) n_columns: usize,
    pub(super) values: Vec<f64>,
}

impl Matrix {
    /// Returns the rows and columns exchanged.
    pub(super) fn transposed(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        // A matrix without rows may claim any number of columns.
        let n_columns = self.n_columns.min(self.values.len());
        for column in 0..n_columns {
            values.extend(self.values.iter().skip(column).step_by(self.n_columns));
        }
        Self {
            n_rows: self.n_columns,
            n_columns: self.n_rows,
            values,
        }
    }

    /// Returns the rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.n_columns.max(1))
    }
}

impl<'g> Fitted<'g> {
    /// Returns a number that may be absent or `None`.
    pub(super) fn number_or(&self, name: &str, default: f64) -> Result<f64, LoadError> {
        if self.is_none(name) {
            return Ok(default);
        }
        self.number(name)
    }

    /// Returns a text that may be absent or `None`.
    pub(super) fn text_or(&self, name: &str, default: &str) -> Result<String, LoadError> {
        if self.is_none(name) {
            return Ok(default.to_owned());
        }
        self.text(name)
    }

    /// Returns a text, or `None` where the attribute is something else.
    pub(super) fn text_if(&self, name: &str) -> Option<String> {
        self.graph.string(self.attr(name)?)
    }

    /// Returns the number of features: `n_features_in_`, or before 1.0 what else tells it.
    pub(super) fn n_features(&self) -> Result<usize, LoadError> {
        match self.attr("n_features_in_") {
            None if !self.version.is_from(0) => older::n_features(self),
            _ => self.count("n_features_in_"),
        }
    }

    /// Returns the number of features of an estimator that may not have recorded it.
    pub(super) fn known_width(&self) -> Result<usize, LoadError> {
        match self.attr("n_features_in_") {
            Some(_) => self.n_features(),
            None => self.width.ok_or_else(|| older::unknown_width(self)),
        }
    }

    /// Returns the number of features of a transformer that gives as many as it gets.
    pub(super) fn kept_width(&self) -> Result<usize, LoadError> {
        let recorded = match self.attr("n_features_in_") {
            Some(_) => return self.n_features(),
            None if self.version.is_from(0) => None,
            None => older::n_features(self).ok(),
        };
        let width = recorded.or(self.width).or(self.width_after);
        width.ok_or_else(|| older::unknown_width(self))
    }

    /// Returns an array of numbers of any shape, flat.
    pub(super) fn flat(&self, name: &str) -> Result<Vec<f64>, LoadError> {
        self.numbers(name).map(|(_, values)| values)
    }

    /// Returns an array of `length` finite numbers.
    pub(super) fn finite(&self, name: &str, length: usize) -> Result<Vec<f64>, LoadError> {
        let values = self.vector(name, length)?;
        self.check_finite(name, &values)?;
        Ok(values)
    }

    fn check_finite(&self, name: &str, values: &[f64]) -> Result<(), LoadError> {
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(()),
            false => Err(self.malformed(format!("'{name}' holds NaN or infinity"))),
        }
    }

    /// Returns a two-dimensional array of numbers.
    pub(super) fn matrix(&self, name: &str) -> Result<Matrix, LoadError> {
        let (shape, values) = self.numbers(name)?;
        match shape.as_slice() {
            &[n_rows, n_columns] => Ok(Matrix {
                n_rows,
                n_columns,
                values,
            }),
            other => Err(self.malformed(format!(
                "attribute '{name}' has shape {other:?}, expected two dimensions"
            ))),
        }
    }

    /// Returns a matrix of finite numbers with `n_columns` columns.
    pub(super) fn matrix_of(&self, name: &str, n_columns: usize) -> Result<Matrix, LoadError> {
        let matrix = self.matrix(name)?;
        if matrix.n_columns != n_columns || matrix.n_rows == 0 {
            return Err(self.malformed(format!(
                "attribute '{name}' has shape [{}, {}], expected {n_columns} columns",
                matrix.n_rows, matrix.n_columns
            )));
        }
        self.check_finite(name, &matrix.values)?;
        Ok(matrix)
    }

    /// Returns a matrix, made dense if it is sparse.
    pub(super) fn matrix_or_sparse(&self, name: &str) -> Result<Matrix, LoadError> {
        let id = self.require(name)?;
        let wrong = |error: coracle_pickle::Error| self.malformed(format!("'{name}': {error}"));
        let Some(sparse) = self.graph.sparse(id).map_err(wrong)? else {
            return self.matrix(name);
        };
        let n_values = sparse.n_rows.checked_mul(sparse.n_columns);
        let Some(n_values) = n_values.filter(|&n| n <= DENSE_MAX) else {
            let message = format!(
                "'{name}' is sparse, {} by {}: more than {DENSE_MAX} numbers",
                sparse.n_rows, sparse.n_columns
            );
            return Err(self.error(LoadErrorKind::LimitExceeded, message));
        };
        let mut values = vec![0.0; n_values];
        let bounds = sparse
            .row_starts
            .iter()
            .zip(sparse.row_starts.iter().skip(1));
        for ((&start, &end), row) in bounds.zip(values.chunks_exact_mut(sparse.n_columns.max(1))) {
            let columns = sparse.columns.get(start..end).unwrap_or_default();
            let entries = columns
                .iter()
                .zip(sparse.values.get(start..end).unwrap_or_default());
            for (&column, value) in entries {
                if let Some(target) = row.get_mut(column) {
                    *target += value;
                }
            }
        }
        Ok(Matrix {
            n_rows: sparse.n_rows,
            n_columns: sparse.n_columns,
            values,
        })
    }

    /// Returns an array of non-negative whole numbers.
    pub(super) fn counts(&self, name: &str) -> Result<Vec<usize>, LoadError> {
        let counts = self.array(name)?.to_i64s().and_then(|values| {
            let counts = values.into_iter().map(|value| usize::try_from(value).ok());
            counts.collect::<Option<Vec<usize>>>()
        });
        counts.ok_or_else(|| self.malformed(format!("'{name}' is not an array of counts")))
    }

    /// Returns the columns where an array of truth values is true.
    pub(super) fn mask(&self, name: &str, length: usize) -> Result<Vec<usize>, LoadError> {
        let flags = self
            .array(name)?
            .to_bools()
            .filter(|flags| flags.len() == length);
        let flags = flags.ok_or_else(|| {
            self.malformed(format!("'{name}' is not an array of {length} truth values"))
        })?;
        Ok(columns_where(flags))
    }

    /// Returns the arrays of numbers in a list attribute, each flat with its shape.
    pub(super) fn arrays(&self, name: &str) -> Result<Vec<(Vec<usize>, Vec<f64>)>, LoadError> {
        let wrong = || self.malformed(format!("'{name}' is not a list of arrays of numbers"));
        let of = |array: &Array| Some((array.shape().to_vec(), array.to_f64s()?));
        let id = self.require(name)?;
        if let Node::Array(array) = self.graph.node(id) {
            if let Some(ids) = array.objects() {
                let parts = ids.iter().map(|&id| self.graph.array(id).and_then(of));
                return parts.collect::<Option<_>>().ok_or_else(wrong);
            }
            // Arrays of equal length may have become one array.
            let &[n_rows, n_columns] = array.shape() else {
                return Err(wrong());
            };
            let values = array.to_f64s().ok_or_else(wrong)?;
            let rows = values.chunks_exact(n_columns.max(1)).take(n_rows);
            return Ok(rows.map(|row| (vec![n_columns], row.to_vec())).collect());
        }
        let items = self.list(name)?.iter();
        let parts = items.map(|&id| self.graph.array(id).and_then(of));
        parts.collect::<Option<_>>().ok_or_else(wrong)
    }

    /// Converts a part that is an estimator; `place` says where it is.
    pub(super) fn estimator(
        &self,
        id: coracle_pickle::NodeId,
        place: &str,
    ) -> Result<(Arc<dyn Estimator>, Component), LoadError> {
        let part = self.part(id, place)?;
        let (estimator, component) = convert::estimator(&part, place.to_owned())?;
        Ok((Arc::from(estimator), component))
    }

    /// Converts the estimator in attribute `name`.
    pub(super) fn estimator_in(
        &self,
        name: &str,
    ) -> Result<(Arc<dyn Estimator>, Component), LoadError> {
        self.estimator(self.require(name)?, name)
    }

    /// Returns a mistake in the parts of an estimator as an error at this place.
    pub(super) fn spec(&self, error: SpecError) -> LoadError {
        self.malformed(error.to_string())
    }

    /// Puts an estimator together.
    pub(super) fn faceted(&self, facets: Vec<Facet>) -> Result<Part, LoadError> {
        let faceted = Faceted::try_new(facets).map_err(|error| self.spec(error))?;
        Ok(Part::new(faceted, Vec::new()))
    }

    /// Returns the error of a parameter whose value is not served.
    pub(super) fn unknown(&self, name: &str, value: &str) -> LoadError {
        self.unsupported(format!("{name} '{value}' is not supported"))
    }
}

/// Returns the indices of the true values.
pub(super) fn columns_where(flags: Vec<bool>) -> Vec<usize> {
    let indexed = flags.into_iter().enumerate();
    indexed
        .filter_map(|(index, flag)| flag.then_some(index))
        .collect()
}

/// Tells whether an estimator has a method.
pub(super) fn has(estimator: &dyn Estimator, method: Method) -> bool {
    estimator.methods().iter().any(|spec| spec.method == method)
}
