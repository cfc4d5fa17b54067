//! Borrowed tables of numbers and texts: what estimators read that take more than a matrix.

use crate::{ByteStrings, Rows, SparseRows};

/// One column, one value per row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Column<'a> {
    /// Numbers; NaN is a missing value.
    Numbers(&'a [f64]),
    /// Texts, some of which may be missing.
    Text(&'a ByteStrings),
}

impl Column<'_> {
    /// Returns the number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Text(texts) => texts.len(),
        }
    }

    /// Tells whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Columns of equal length, each of its own kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns<'a> {
    columns: Vec<Column<'a>>,
    n_rows: usize,
}

impl<'a> Columns<'a> {
    /// Returns a table of `columns`; `None` if they differ in length or there are none.
    #[must_use]
    pub fn try_new(columns: Vec<Column<'a>>) -> Option<Self> {
        let n_rows = columns.first()?.len();
        columns
            .iter()
            .all(|column| column.len() == n_rows)
            .then_some(Self { columns, n_rows })
    }

    /// Returns the columns in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Column<'a>] {
        &self.columns
    }
}

/// A table in one of three layouts.
#[derive(Clone, Debug, PartialEq)]
pub enum Table<'a> {
    /// Numbers only, row by row.
    Matrix(Rows<'a>),
    /// Numbers only, mostly zeros.
    Sparse(&'a SparseRows),
    /// Numbers and texts, column by column.
    Columns(Columns<'a>),
}

/// One value of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// A number; NaN is a missing value.
    Number(f64),
    /// A text, `None` where it is missing.
    Text(Option<&'a [u8]>),
}

impl<'a> Table<'a> {
    /// Returns the number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        match self {
            Self::Matrix(rows) => rows.n_rows(),
            Self::Sparse(rows) => rows.n_rows(),
            Self::Columns(columns) => columns.n_rows,
        }
    }

    /// Returns the number of columns.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        match self {
            Self::Matrix(rows) => rows.n_columns(),
            Self::Sparse(rows) => rows.n_columns(),
            Self::Columns(columns) => columns.columns.len(),
        }
    }

    /// Returns one value.
    ///
    /// # Panics
    /// If the table has no such row or column.
    #[must_use]
    pub fn cell(&self, row: usize, column: usize) -> Cell<'a> {
        match self {
            Self::Matrix(rows) => Cell::Number(rows.row(row)[column]),
            Self::Sparse(rows) => {
                let (columns, values) = rows.row(row);
                let found = columns.iter().position(|&at| at as usize == column);
                Cell::Number(found.map_or(0.0, |at| values[at]))
            }
            Self::Columns(table) => match table.columns[column] {
                Column::Numbers(numbers) => Cell::Number(numbers[row]),
                Column::Text(texts) => Cell::Text(texts.get_present(row)),
            },
        }
    }

    /// Appends the numbers of `columns`, row by row, to `gathered`.
    ///
    /// # Errors
    /// The place in `columns` of the first one that holds texts.
    ///
    /// # Panics
    /// If the table has no such column.
    pub fn gather(&self, columns: &[usize], gathered: &mut Vec<f64>) -> Result<(), usize> {
        match self {
            Self::Matrix(rows) => {
                gathered.reserve(rows.n_rows() * columns.len());
                for row in rows.iter() {
                    gathered.extend(columns.iter().map(|&column| row[column]));
                }
            }
            Self::Sparse(rows) => {
                let mut dense = Vec::new();
                for row in 0..rows.n_rows() {
                    dense.clear();
                    rows.densify(row, row + 1, &mut dense);
                    gathered.extend(columns.iter().map(|&column| dense[column]));
                }
            }
            Self::Columns(table) => {
                let start = gathered.len();
                gathered.resize(start + table.n_rows * columns.len(), 0.0);
                for (place, &column) in columns.iter().enumerate() {
                    let Column::Numbers(numbers) = table.columns[column] else {
                        return Err(place);
                    };
                    let cells = gathered[start + place..].iter_mut().step_by(columns.len());
                    for (cell, &number) in cells.zip(numbers) {
                        *cell = number;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gathered_from_every_layout() {
        let matrix = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut sparse = SparseRows::try_new(3).unwrap();
        for row in matrix.chunks(3) {
            for (column, &value) in (0..).zip(row) {
                sparse.push(column, value);
            }
            sparse.end_row();
        }
        let texts: ByteStrings = ["a", "b"].into_iter().collect();
        let columns = Columns::try_new(vec![
            Column::Numbers(&[1.0, 4.0]),
            Column::Text(&texts),
            Column::Numbers(&[3.0, 6.0]),
        ]);
        let columns = Table::Columns(columns.unwrap());
        let tables = [
            Table::Matrix(Rows::try_new(&matrix, 3).unwrap()),
            Table::Sparse(&sparse),
            columns.clone(),
        ];
        for table in tables {
            assert_eq!((table.n_rows(), table.n_columns()), (2, 3));
            assert_eq!(table.cell(1, 2), Cell::Number(6.0));
            let mut gathered = vec![0.5];
            table.gather(&[2, 0], &mut gathered).unwrap();
            assert_eq!(gathered, [0.5, 3.0, 1.0, 6.0, 4.0]);
        }
        assert_eq!(columns.gather(&[0, 1], &mut Vec::new()), Err(1));
        assert_eq!(columns.cell(1, 1), Cell::Text(Some(b"b")));
    }

    #[test]
    fn columns_must_be_of_one_length() {
        let one = Column::Numbers(&[1.0]);
        assert!(Columns::try_new(vec![one, Column::Numbers(&[])]).is_none());
        assert!(Columns::try_new(vec![]).is_none());
        assert!(Columns::try_new(vec![one, one]).is_some());
    }
}
