//! scipy's sparse matrices, validated and brought to one form.

use crate::{Array, Error, Graph, NodeId};

/// A matrix may have this many rows or columns whatever the file's size.
const LENGTH_FREE: usize = 1 << 20;

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

/// What a scipy class stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Rows,
    Columns,
    Coordinates,
    Diagonals,
}

/// One value and its place.
type Entry = (usize, usize, f64);

impl Graph {
    /// Returns a scipy sparse matrix (csr, csc, coo or dia; matrix or array) by rows.
    ///
    /// `Ok(None)` where the node is none of these.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) where parts are missing, of the wrong type or
    /// out of range; [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) for far more rows than bytes.
    pub fn sparse(&self, id: NodeId) -> Result<Option<SparseMatrix>, Error> {
        let Some(format) = self.object(id).and_then(|object| Format::of(object.class)) else {
            return Ok(None);
        };
        self.sparse_of(id, format)
            .ok_or_else(|| Error::malformed("a sparse matrix whose parts do not fit", 0))
            .and_then(|(n_rows, n_columns, parts)| {
                // The result has a place for each row, which coordinates alone do not pay for.
                let allowed = self.info.inflated_bytes.max(LENGTH_FREE);
                if n_rows > allowed {
                    return Err(Error::limit("the rows of a sparse matrix", allowed));
                }
                parts
                    .into_matrix(n_rows, n_columns)
                    .ok_or_else(|| Error::malformed("a sparse matrix with places outside it", 0))
            })
            .map(Some)
    }

    fn sparse_of(&self, id: NodeId, format: Format) -> Option<(usize, usize, Parts)> {
        let shape = self.list(self.attr(id, "_shape")?)?;
        let &[n_rows, n_columns] = shape else {
            return None;
        };
        let n_rows = usize::try_from(self.int(n_rows)?).ok()?;
        let n_columns = usize::try_from(self.int(n_columns)?).ok()?;
        let part = |name: &str| self.array(self.attr(id, name)?);
        let data = part("data")?;
        let parts = match format {
            Format::Rows | Format::Columns => Parts::Compressed {
                is_by_rows: format == Format::Rows,
                starts: sizes(part("indptr")?)?,
                indices: sizes(part("indices")?)?,
                values: data.to_f64s()?,
            },
            Format::Coordinates => {
                // scipy 1.13 keeps the rows and columns in one tuple.
                let [rows, columns] = match self.attr(id, "coords").and_then(|id| self.list(id)) {
                    Some(&[rows, columns]) => [self.array(rows)?, self.array(columns)?],
                    Some(_) => return None,
                    None => [part("row")?, part("col")?],
                };
                Parts::Coordinates {
                    rows: sizes(rows)?,
                    columns: sizes(columns)?,
                    values: data.to_f64s()?,
                }
            }
            Format::Diagonals => Parts::Diagonals {
                offsets: part("offsets")?.to_i64s()?,
                length: match data.shape() {
                    [_, length] => *length,
                    _ => return None,
                },
                values: data.to_f64s()?,
            },
        };
        Some((n_rows, n_columns, parts))
    }
}

impl Format {
    fn of(class: &str) -> Option<Self> {
        let name = class.strip_prefix("scipy.sparse._")?;
        match name {
            "csr.csr_matrix" | "csr.csr_array" => Some(Self::Rows),
            "csc.csc_matrix" | "csc.csc_array" => Some(Self::Columns),
            "coo.coo_matrix" | "coo.coo_array" => Some(Self::Coordinates),
            "dia.dia_matrix" | "dia.dia_array" => Some(Self::Diagonals),
            _ => None,
        }
    }
}

enum Parts {
    Compressed {
        is_by_rows: bool,
        starts: Vec<usize>,
        indices: Vec<usize>,
        values: Vec<f64>,
    },
    Coordinates {
        rows: Vec<usize>,
        columns: Vec<usize>,
        values: Vec<f64>,
    },
    /// `values[d][column]` lies at row `column - offsets[d]`.
    Diagonals {
        offsets: Vec<i64>,
        length: usize,
        values: Vec<f64>,
    },
}

impl Parts {
    fn into_matrix(self, n_rows: usize, n_columns: usize) -> Option<SparseMatrix> {
        let entries = match self {
            Self::Compressed {
                is_by_rows,
                starts,
                indices,
                values,
            } => {
                let (n_major, n_minor) = match is_by_rows {
                    true => (n_rows, n_columns),
                    false => (n_columns, n_rows),
                };
                check_compressed(&starts, &indices, &values, n_major, n_minor)?;
                if is_by_rows {
                    let used = starts.last().copied()?;
                    return Some(SparseMatrix {
                        n_rows,
                        n_columns,
                        row_starts: starts,
                        columns: indices.get(..used)?.to_vec(),
                        values: values.get(..used)?.to_vec(),
                    });
                }
                entries_by_column(&starts, &indices, &values)?
            }
            Self::Coordinates {
                rows,
                columns,
                values,
            } => {
                if rows.len() != values.len() || columns.len() != values.len() {
                    return None;
                }
                let places = rows.into_iter().zip(columns);
                places.zip(values).map(|((r, c), v)| (r, c, v)).collect()
            }
            Self::Diagonals {
                offsets,
                length,
                values,
            } => entries_by_diagonal(&offsets, length, &values, n_rows, n_columns)?,
        };
        by_rows(&entries, n_rows, n_columns)
    }
}

fn sizes(array: &Array) -> Option<Vec<usize>> {
    array
        .to_i64s()?
        .into_iter()
        .map(|value| usize::try_from(value).ok())
        .collect()
}

fn check_compressed(
    starts: &[usize],
    indices: &[usize],
    values: &[f64],
    n_major: usize,
    n_minor: usize,
) -> Option<()> {
    let is_sound = starts.len() == n_major.checked_add(1)?
        && starts.first() == Some(&0)
        && starts.is_sorted()
        && indices.len() == values.len()
        && starts.last().is_some_and(|used| *used <= values.len())
        && indices.iter().all(|index| *index < n_minor);
    is_sound.then_some(())
}

fn entries_by_column(starts: &[usize], rows: &[usize], values: &[f64]) -> Option<Vec<Entry>> {
    let mut entries = Vec::with_capacity(values.len());
    for (column, bounds) in starts.windows(2).enumerate() {
        let &[start, end] = bounds else {
            return None;
        };
        let column_rows = rows.get(start..end)?.iter();
        let column_values = values.get(start..end)?.iter();
        entries.extend(
            column_rows
                .zip(column_values)
                .map(|(r, v)| (*r, column, *v)),
        );
    }
    Some(entries)
}

fn entries_by_diagonal(
    offsets: &[i64],
    length: usize,
    values: &[f64],
    n_rows: usize,
    n_columns: usize,
) -> Option<Vec<Entry>> {
    if offsets.len().checked_mul(length)? != values.len() {
        return None;
    }
    let mut entries = Vec::new();
    for (offset, diagonal) in offsets.iter().zip(values.chunks(length.max(1))) {
        for (column, value) in diagonal.iter().enumerate().take(n_columns) {
            let row = i64::try_from(column).ok()?.checked_sub(*offset)?;
            // A diagonal's ends may hang over the matrix; scipy ignores them.
            if let Ok(row) = usize::try_from(row)
                && row < n_rows
                && *value != 0.0
            {
                entries.push((row, column, *value));
            }
        }
    }
    Some(entries)
}

fn by_rows(entries: &[Entry], n_rows: usize, n_columns: usize) -> Option<SparseMatrix> {
    let mut row_starts = vec![0_usize; n_rows.checked_add(1)?];
    for (row, column, _) in entries {
        if *column >= n_columns {
            return None;
        }
        let count = row_starts.get_mut(row.checked_add(1)?)?;
        *count = count.checked_add(1)?;
    }
    let mut sum = 0_usize;
    for start in &mut row_starts {
        sum = sum.checked_add(*start)?;
        *start = sum;
    }
    let mut next = row_starts.clone();
    let (mut columns, mut values) = (vec![0; entries.len()], vec![0.0; entries.len()]);
    for (row, column, value) in entries {
        let position = next.get_mut(*row)?;
        *columns.get_mut(*position)? = *column;
        *values.get_mut(*position)? = *value;
        *position = position.checked_add(1)?;
    }
    Some(SparseMatrix {
        n_rows,
        n_columns,
        row_starts,
        columns,
        values,
    })
}
