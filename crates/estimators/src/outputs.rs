//! Probabilities of several outputs: one table per output, brought to one width.

use std::sync::Arc;

use coracle_model::{Accepts, ColumnSpec, RunError};
use coracle_tensor::{Rows, Table};

use crate::spec_error::SpecError;
use crate::table_fn::{TableFn, common_accepts, common_columns};

/// The results of several functions, each filled up with zeros to the width of the widest.
#[derive(Debug)]
pub struct Padded {
    parts: Vec<Arc<dyn TableFn>>,
    width: usize,
    accepts: Accepts,
    columns: Option<Vec<ColumnSpec>>,
}

impl Padded {
    /// Returns the results of `parts` side by side.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, or they take different numbers or kinds of columns.
    pub fn try_new(parts: Vec<Arc<dyn TableFn>>) -> Result<Self, SpecError> {
        let n_features = parts.first().map(|part| part.n_features());
        if n_features.is_none()
            || parts
                .iter()
                .any(|part| Some(part.n_features()) != n_features)
        {
            return Err(SpecError::new("outputs take different numbers of columns"));
        }
        Ok(Self {
            width: parts.iter().map(|part| part.n_columns()).max().unwrap_or(0),
            accepts: common_accepts(parts.iter().map(|part| part.accepts())),
            columns: common_columns(parts.iter().map(|part| part.columns()))?,
            parts,
        })
    }

    /// Returns the number of parts, and the width of each.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        [self.parts.len(), self.width]
    }
}

impl TableFn for Padded {
    fn n_features(&self) -> usize {
        self.parts.first().map_or(0, |part| part.n_features())
    }

    fn n_columns(&self) -> usize {
        self.parts.len() * self.width
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.columns.as_deref()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        self.apply_table(&Table::Matrix(rows))
    }

    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        let n_columns = TableFn::n_columns(self);
        let mut all = vec![0.0; table.n_rows() * n_columns];
        for (index, part) in self.parts.iter().enumerate() {
            let values = part.apply_table(table)?;
            let rows = all.chunks_exact_mut(n_columns);
            for (row, values) in rows.zip(values.chunks_exact(part.n_columns())) {
                row[index * self.width..][..values.len()].copy_from_slice(values);
            }
        }
        Ok(all)
    }

    fn memory_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.memory_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinearScorer;

    #[test]
    fn narrow_parts_are_filled_up() {
        let part = |n_scores: usize| -> Arc<dyn TableFn> {
            let scorer = LinearScorer::try_new(vec![1.0; n_scores], vec![0.0; n_scores], 1);
            Arc::new(scorer.unwrap())
        };
        let padded = Padded::try_new(vec![part(1), part(2)]).unwrap();
        assert_eq!(padded.shape(), [2, 2]);
        let rows = Rows::try_new(&[3.0, 5.0], 1).unwrap();
        let expected = vec![3.0, 0.0, 3.0, 3.0, 5.0, 0.0, 5.0, 5.0];
        assert_eq!(padded.apply(rows), Ok(expected));
        assert!(Padded::try_new(Vec::new()).is_err());
    }
}
