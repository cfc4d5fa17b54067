//! Owned tables: what a transformer gives to the next.

use crate::{ByteStrings, Column, Columns, Rows, SparseRows, Table};

/// A column with its values.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedColumn {
    /// Numbers; NaN is a missing value.
    Numbers(Vec<f64>),
    /// Texts, some of which may be missing.
    Text(ByteStrings),
}

/// An owned table in one of three layouts; see [`Table`].
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Numbers only, row by row.
    Matrix {
        /// The numbers.
        values: Vec<f64>,
        /// How many make a row.
        n_columns: usize,
    },
    /// Numbers only, mostly zeros.
    Sparse(SparseRows),
    /// Numbers and texts, column by column.
    Columns(Vec<OwnedColumn>),
}

impl Frame {
    /// Returns a view of the table; `None` if its columns differ in length or its rows are ragged.
    #[must_use]
    pub fn as_table(&self) -> Option<Table<'_>> {
        match self {
            Self::Matrix { values, n_columns } => {
                Rows::try_new(values, *n_columns).map(Table::Matrix)
            }
            Self::Sparse(rows) => Some(Table::Sparse(rows)),
            Self::Columns(columns) => {
                let columns = columns.iter().map(|column| match column {
                    OwnedColumn::Numbers(numbers) => Column::Numbers(numbers),
                    OwnedColumn::Text(texts) => Column::Text(texts),
                });
                Columns::try_new(columns.collect()).map(Table::Columns)
            }
        }
    }
}
