//! Columns by the hashes of names, as scikit-learn's HashingVectorizer and FeatureHasher choose them.

use super::murmur;
use crate::spec_error::SpecError;

/// Which column a name belongs to, whatever the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedColumns {
    n_columns: u32,
    alternate_sign: bool,
}

impl HashedColumns {
    /// Returns `n_columns` columns; with `alternate_sign` half of all names count negatively, so that those of one column
    /// tend to cancel.
    ///
    /// # Errors
    /// [`SpecError`] if there are no columns, or more than 2^31 - 1.
    pub fn try_new(n_columns: u32, alternate_sign: bool) -> Result<Self, SpecError> {
        if n_columns == 0 || n_columns > i32::MAX.cast_unsigned() {
            return Err(SpecError::new(format!(
                "{n_columns} columns, 1 to {} are supported",
                i32::MAX
            )));
        }
        Ok(Self {
            n_columns,
            alternate_sign,
        })
    }

    /// Returns the number of columns.
    #[must_use]
    pub fn n_columns(&self) -> u32 {
        self.n_columns
    }

    /// Returns the column of `name`, and the sign with which it counts.
    #[must_use]
    pub fn place(&self, name: &[u8]) -> (u32, i32) {
        let hash = murmur::hash(name);
        let sign = if self.alternate_sign && hash < 0 {
            -1
        } else {
            1
        };
        (hash.unsigned_abs() % self.n_columns, sign)
    }
}
