//! Counts to tf-idf.

use coracle_model::{Accepts, Estimator, Method, MethodSpec, RunError, tensor_of};
use coracle_tensor::{Frame, Rows, SparseRows, Table, Tensor};

use crate::scaler::transform_spec;
use crate::spec_error::{SpecError, expect_length};
use crate::table;

/// What the values of a row are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermNorm {
    /// The sum of their magnitudes.
    L1,
    /// The root of the sum of their squares.
    L2,
}

/// How counts are weighted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TermWeights {
    /// Whether a count becomes one plus its logarithm.
    pub sublinear: bool,
    /// What the values of each column are multiplied by.
    pub idf: Option<Vec<f64>>,
    /// What each row is divided by.
    pub norm: Option<TermNorm>,
}

impl TermWeights {
    /// Weights every row.
    pub(super) fn apply(&self, rows: &mut SparseRows) {
        for row in 0..rows.n_rows() {
            let (columns, values) = rows.row_mut(row);
            if self.sublinear {
                for value in values.iter_mut() {
                    *value = value.ln() + 1.0;
                }
            }
            if let Some(idf) = &self.idf {
                for (value, &column) in values.iter_mut().zip(columns) {
                    *value *= idf[column as usize];
                }
            }
            let length = match self.norm {
                Some(TermNorm::L1) => values.iter().map(|value| value.abs()).sum(),
                Some(TermNorm::L2) => values.iter().map(|value| value * value).sum::<f64>().sqrt(),
                None => continue,
            };
            if length != 0.0 {
                for value in values {
                    *value /= length;
                }
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.idf.as_ref().map_or(0, Vec::capacity) * size_of::<f64>()
    }
}

/// TfidfTransformer: weights the counts that another transformer made.
#[derive(Debug)]
pub struct TermWeighter {
    n_features: usize,
    weights: TermWeights,
    methods: [MethodSpec; 1],
}

impl TermWeighter {
    /// Returns a transformer of tables with `n_features` columns.
    ///
    /// # Errors
    /// [`SpecError`] if there is another number of idf values, or too many columns.
    pub fn try_new(n_features: usize, weights: TermWeights) -> Result<Self, SpecError> {
        if let Some(idf) = &weights.idf {
            expect_length("idf_", idf.len(), n_features)?;
        }
        if n_features > SparseRows::COLUMNS_MAX {
            return Err(SpecError::new("the table has too many columns"));
        }
        Ok(Self {
            n_features,
            weights,
            methods: [transform_spec(n_features)],
        })
    }
}

impl Estimator for TermWeighter {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        if method != Method::Transform {
            return Err(table::no_method(method));
        }
        tensor_of(self.transform_table(table)?)
    }

    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        table::with_numbers(table, self.n_features, self.accepts(), |table| {
            let mut counts = match table {
                Table::Sparse(rows) => (*rows).clone(),
                Table::Matrix(_) | Table::Columns(_) => without_zeros(table)?,
            };
            self.weights.apply(&mut counts);
            Ok(Frame::Sparse(counts))
        })
    }

    fn memory_bytes(&self) -> usize {
        self.weights.memory_bytes()
    }
}

fn without_zeros(table: &Table<'_>) -> Result<SparseRows, RunError> {
    let mut sparse = table::sparse(table.n_columns())?;
    if let Table::Matrix(rows) = table {
        for row in rows.iter() {
            for (column, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                sparse.push(table::narrow(column), value);
            }
            sparse.end_row();
        }
    }
    Ok(sparse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_scaled_weighted_and_divided() {
        let mut rows = SparseRows::try_new(2).unwrap();
        rows.push(0, 1.0);
        rows.push(1, 2.0);
        rows.end_row();
        rows.end_row();
        let weights = TermWeights {
            sublinear: true,
            idf: Some(vec![3.0, 2.0]),
            norm: Some(TermNorm::L1),
        };
        weights.apply(&mut rows);
        let second = 2.0 * (2.0_f64.ln() + 1.0);
        assert_eq!(
            rows.row(0).1,
            [3.0 / (3.0 + second), second / (3.0 + second)]
        );
        assert!(rows.row(1).1.is_empty());
    }
}
