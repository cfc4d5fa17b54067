//! Tables that are mostly zeros: what a text vectorizer gives and a linear scorer reads.

/// A table of `n_rows` by `n_columns` numbers, of which only those that are not zero are kept.
///
/// A zero is kept where the library keeps one (a hash's terms that cancel): XGBoost takes it for a value, others for what it is.
/// Within a row the columns rise, so that sums over a row do not depend on how it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows {
    n_columns: usize,
    /// End of each row in `columns` and `values`.
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl SparseRows {
    /// The most columns of a sparse table.
    pub const COLUMNS_MAX: usize = u32::MAX as usize;

    /// Returns a table without rows; `None` if it has more than [`SparseRows::COLUMNS_MAX`] columns.
    #[must_use]
    pub fn try_new(n_columns: usize) -> Option<Self> {
        (n_columns <= Self::COLUMNS_MAX).then(|| Self {
            n_columns,
            ends: Vec::new(),
            columns: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of columns.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Appends a value to the row that [`SparseRows::end_row`] will end.
    ///
    /// # Panics
    /// If `column` is no column, or not above the one before it in the row.
    pub fn push(&mut self, column: u32, value: f64) {
        let start = self.ends.last().copied().unwrap_or(0);
        let previous = self.columns[start..].last();
        assert!(
            (column as usize) < self.n_columns && previous.is_none_or(|&last| last < column),
            "columns of a sparse row rise and stay below the table's width"
        );
        self.columns.push(column);
        self.values.push(value);
    }

    /// Ends the row whose values were pushed since the last one ended.
    pub fn end_row(&mut self) {
        self.ends.push(self.columns.len());
    }

    /// Returns the columns and values of the row at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`SparseRows::n_rows`].
    #[must_use]
    pub fn row(&self, index: usize) -> (&[u32], &[f64]) {
        let start = match index.checked_sub(1) {
            Some(previous) => self.ends[previous],
            None => 0,
        };
        let end = self.ends[index];
        (&self.columns[start..end], &self.values[start..end])
    }

    /// Returns the values of the row at `index`, to change them.
    ///
    /// # Panics
    /// If `index` is not below [`SparseRows::n_rows`].
    pub fn row_mut(&mut self, index: usize) -> (&[u32], &mut [f64]) {
        let start = match index.checked_sub(1) {
            Some(previous) => self.ends[previous],
            None => 0,
        };
        let end = self.ends[index];
        (&self.columns[start..end], &mut self.values[start..end])
    }

    /// Visits the rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u32], &[f64])> {
        (0..self.n_rows()).map(|index| self.row(index))
    }

    /// Appends rows `first` to `last` (excluded), with all their zeros, to `dense`.
    ///
    /// # Panics
    /// If these are not rows of the table.
    pub fn densify(&self, first: usize, last: usize, dense: &mut Vec<f64>) {
        self.densify_over(0.0, first, last, dense);
    }

    /// Appends rows `first` to `last` (excluded) to `dense`, with `absent` for every value that is not kept.
    ///
    /// # Panics
    /// If these are not rows of the table.
    pub fn densify_over(&self, absent: f64, first: usize, last: usize, dense: &mut Vec<f64>) {
        for index in first..last {
            let start = dense.len();
            dense.resize(start + self.n_columns, absent);
            let (columns, values) = self.row(index);
            for (&column, &value) in columns.iter().zip(values) {
                dense[start + column as usize] = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SparseRows;

    #[test]
    fn rows_keep_what_is_not_zero() {
        let mut rows = SparseRows::try_new(4).unwrap();
        rows.push(1, 2.0);
        rows.push(3, -1.0);
        rows.end_row();
        rows.end_row();
        rows.push(0, 5.0);
        rows.end_row();
        assert_eq!((rows.n_rows(), rows.n_columns()), (3, 4));
        assert_eq!(rows.row(0), (&[1, 3][..], &[2.0, -1.0][..]));
        assert_eq!(rows.row(1), (&[][..], &[][..]));
        let mut dense = Vec::new();
        rows.densify(0, 3, &mut dense);
        assert_eq!(
            dense,
            [0.0, 2.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0]
        );
    }

    #[test]
    #[should_panic(expected = "columns of a sparse row rise")]
    fn columns_must_rise() {
        let mut rows = SparseRows::try_new(4).unwrap();
        rows.push(1, 2.0);
        rows.push(1, 2.0);
    }
}
