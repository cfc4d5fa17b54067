//! Sums over tables of categories: CategoricalNB.

use coracle_model::{Accepts, RunError, RunErrorKind};
use coracle_tensor::Rows;

use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::TableFn;

/// A score per class: a constant and, for each column, the entry of the row's category.
#[derive(Debug)]
pub struct CategoryScores {
    /// Per column `(categories, classes)`, row-major.
    tables: Vec<Vec<f64>>,
    constants: Vec<f64>,
}

impl CategoryScores {
    /// Returns the function; the columns' tables are `(categories, classes)`.
    ///
    /// # Errors
    /// [`SpecError`] if there are no columns or classes, or a table is no multiple of the classes.
    pub fn try_new(tables: Vec<Vec<f64>>, constants: Vec<f64>) -> Result<Self, SpecError> {
        let n_classes = constants.len();
        if n_classes == 0 || tables.is_empty() {
            return Err(SpecError::new("there are no columns or classes"));
        }
        for table in &tables {
            expect_length("a table", table.len() % n_classes, 0)?;
        }
        Ok(Self { tables, constants })
    }
}

impl TableFn for CategoryScores {
    fn n_features(&self) -> usize {
        self.tables.len()
    }

    fn n_columns(&self) -> usize {
        self.constants.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let n_classes = self.constants.len();
        let mut output = Vec::with_capacity(rows.n_rows() * n_classes);
        for (index, row) in rows.iter().enumerate() {
            let start = output.len();
            output.resize(start + n_classes, 0.0);
            for (column, (&value, table)) in row.iter().zip(&self.tables).enumerate() {
                let entries = category(value).and_then(|at| table.chunks_exact(n_classes).nth(at));
                let entries = entries.ok_or_else(|| {
                    let message = format!("row {index}, column {column}: an unknown category");
                    RunError::new(RunErrorKind::ValueOutOfRange, message)
                })?;
                for (sum, entry) in output[start..].iter_mut().zip(entries) {
                    *sum += entry;
                }
            }
            for (sum, constant) in output[start..].iter_mut().zip(&self.constants) {
                *sum += constant;
            }
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        self.tables.iter().map(Vec::len).sum::<usize>() * size_of::<f64>()
    }
}

/// Returns the number of a category; as in scikit-learn, a fraction is cut off.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative; the cast cuts off and saturates"
)]
fn category(value: f64) -> Option<usize> {
    (value > -1.0).then_some(value as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_categories_are_refused() {
        let scores =
            CategoryScores::try_new(vec![vec![1.0, 2.0, 3.0, 4.0]], vec![0.5, 0.0]).unwrap();
        let apply = |value: f64| scores.apply(Rows::try_new(&[value], 1).unwrap());
        assert_eq!(apply(1.0).unwrap(), [3.5, 4.0]);
        assert!(apply(2.0).is_err() && apply(-1.0).is_err());
        assert!(CategoryScores::try_new(vec![vec![1.0; 3]], vec![0.0; 2]).is_err());
    }
}
