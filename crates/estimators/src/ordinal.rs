//! Categories to their positions, before a kernel that splits on positions (HistGradientBoosting since 1.4).

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::spec_error::{SpecError, expect_length};

/// Where one column of the kernel's table comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum OrdinalColumn {
    /// A column as it is.
    Same {
        /// The column's index in the user's table.
        column: usize,
    },
    /// A column cut toward zero.
    Truncated {
        /// The column's index in the user's table.
        column: usize,
    },
    /// The position of a column's value among `categories`; anything else becomes missing.
    Position {
        /// The column's index in the user's table.
        column: usize,
        /// The known values, in the order of their positions.
        categories: Vec<f64>,
    },
}

/// A scorer that rearranges and encodes columns for another.
#[derive(Debug)]
pub struct OrdinalScorer {
    n_features: usize,
    columns: Vec<OrdinalColumn>,
    inner: Box<dyn Scorer>,
}

impl OrdinalScorer {
    /// Returns a scorer of tables with `n_features` columns, over `inner`, whose columns are `columns`.
    ///
    /// # Errors
    /// [`SpecError`] if the widths disagree or a column does not exist.
    pub fn try_new(
        n_features: usize,
        columns: Vec<OrdinalColumn>,
        inner: Box<dyn Scorer>,
    ) -> Result<Self, SpecError> {
        expect_length("the encoded table", columns.len(), inner.n_features())?;
        for plan in &columns {
            let (OrdinalColumn::Same { column }
            | OrdinalColumn::Truncated { column }
            | OrdinalColumn::Position { column, .. }) = plan;
            if *column >= n_features {
                return Err(SpecError::new(format!(
                    "column {column} does not exist; there are {n_features}"
                )));
            }
        }
        Ok(Self {
            n_features,
            columns,
            inner,
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a position among at most 255 categories"
)]
#[expect(
    clippy::float_cmp,
    reason = "categories are compared exactly, as in numpy"
)]
fn position(categories: &[f64], value: f64) -> f64 {
    let found = categories.iter().position(|&category| category == value);
    found.map_or(f64::NAN, |index| index as f64)
}

impl Scorer for OrdinalScorer {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.inner.n_scores()
    }

    fn accepts(&self) -> Accepts {
        self.inner.accepts()
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let mut encoded = Vec::with_capacity(rows.n_rows() * self.columns.len());
        for row in rows.iter() {
            encoded.extend(self.columns.iter().map(|plan| match plan {
                OrdinalColumn::Same { column } => row[*column],
                OrdinalColumn::Truncated { column } => row[*column].trunc(),
                OrdinalColumn::Position { column, categories } => {
                    position(categories, row[*column])
                }
            }));
        }
        let encoded = Rows::try_new(&encoded, self.columns.len()).expect("one value per column");
        self.inner.score(encoded, scores);
    }

    fn memory_bytes(&self) -> usize {
        let tables = self.columns.iter().map(|plan| match plan {
            OrdinalColumn::Same { .. } | OrdinalColumn::Truncated { .. } => 0,
            OrdinalColumn::Position { categories, .. } => categories.capacity() * size_of::<f64>(),
        });
        tables.sum::<usize>() + self.inner.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinearScorer;

    #[test]
    fn encodes_positions_and_reorders() {
        let inner = LinearScorer::try_new(vec![100.0, 1.0], vec![0.0], 2).unwrap();
        let columns = vec![
            OrdinalColumn::Position {
                column: 1,
                categories: vec![3.0, 7.0],
            },
            OrdinalColumn::Truncated { column: 0 },
        ];
        let scorer = OrdinalScorer::try_new(2, columns, Box::new(inner)).unwrap();
        let mut scores = [0.0; 2];
        scorer.score(
            Rows::try_new(&[5.5, 7.0, 6.0, 8.0], 2).unwrap(),
            &mut scores,
        );
        assert_eq!(scores[0], 105.0);
        assert!(scores[1].is_nan(), "an unknown category is missing");
    }
}
