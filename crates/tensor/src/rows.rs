//! A borrowed table of numbers: what estimators and kernels read.

/// A row-major table of `n_rows` by `n_columns` numbers, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows<'a> {
    values: &'a [f64],
    n_rows: usize,
    n_columns: usize,
}

impl<'a> Rows<'a> {
    /// Returns a view of `values` as rows of `n_columns`; `None` if they do not divide evenly.
    ///
    /// No columns means no rows.
    #[must_use]
    pub fn try_new(values: &'a [f64], n_columns: usize) -> Option<Self> {
        let n_rows = values.len().checked_div(n_columns).unwrap_or(0);
        (n_rows * n_columns == values.len()).then_some(Self {
            values,
            n_rows,
            n_columns,
        })
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Returns the number of columns.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Returns all values, row by row.
    #[must_use]
    pub fn values(&self) -> &'a [f64] {
        self.values
    }

    /// Returns one row.
    ///
    /// # Panics
    /// If `index` is not below [`Rows::n_rows`].
    #[must_use]
    pub fn row(&self, index: usize) -> &'a [f64] {
        &self.values[index * self.n_columns..(index + 1) * self.n_columns]
    }

    /// Visits the rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [f64]> {
        self.values.chunks_exact(self.n_columns.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::Rows;

    #[test]
    fn divides_into_rows_or_refuses() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rows = Rows::try_new(&values, 3).unwrap();
        assert_eq!((rows.n_rows(), rows.n_columns()), (2, 3));
        assert_eq!(rows.row(1), [4.0, 5.0, 6.0]);
        assert_eq!(rows.iter().len(), 2);
        assert!(Rows::try_new(&values, 4).is_none());
        assert!(Rows::try_new(&values, 0).is_none());
        assert!(Rows::try_new(&[], 0).is_some());
    }
}
