//! Tables of more than numbers: what an estimator takes per column, and how one that takes numbers only reads them.

use coracle_tensor::{
    ByteStrings, Elements, Frame, Number, Rows, SparseRows, Table, Tensor, Values,
};

use crate::{RunError, RunErrorKind};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Numbers.
    Numbers,
    /// Texts.
    Text,
    /// Categories: texts, or integers that stand for the texts of their digits; truth values are 0 and 1.
    Category,
    /// Objects or lists of any length, each as the text of its JSON.
    Json,
    /// Whatever: the estimator does not read it.
    Ignored,
}

/// A column that an estimator takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether values may be missing.
    pub accepts_missing: bool,
}

/// The most numbers of a sparse table that are written out at once for an estimator that reads matrices.
const DENSE_VALUES_MAX: usize = 1 << 20;
/// The most numbers of a transformed table that are given as a tensor.
const TENSOR_VALUES_MAX: usize = 1 << 26;

/// Runs an estimator of matrices on any table of numbers.
///
/// # Errors
/// Kind `DTypeMismatch` where the table holds texts; those of `run`.
pub fn run_on_matrix(
    table: &Table<'_>,
    run: impl Fn(Rows<'_>) -> Result<Tensor, RunError>,
) -> Result<Tensor, RunError> {
    match table {
        Table::Matrix(rows) => run(*rows),
        Table::Sparse(rows) => run_on_blocks(rows, 0.0, run),
        Table::Columns(_) => {
            let all: Vec<usize> = (0..table.n_columns()).collect();
            let mut values = Vec::new();
            table
                .gather(&all, &mut values)
                .map_err(|column| expected_numbers(table, column))?;
            run(Rows::try_new(&values, all.len()).ok_or_else(ragged)?)
        }
    }
}

/// Runs an estimator of matrices on a sparse table, with `absent` for every value that the table does not keep.
///
/// A block of rows is written out at a time, since all of a wide table may not fit into memory.
///
/// # Errors
/// Those of `run`.
pub fn run_on_blocks(
    rows: &SparseRows,
    absent: f64,
    run: impl Fn(Rows<'_>) -> Result<Tensor, RunError>,
) -> Result<Tensor, RunError> {
    let block = (DENSE_VALUES_MAX / rows.n_columns().max(1)).max(1);
    let mut dense = Vec::new();
    let mut joined: Option<(Vec<usize>, Values)> = None;
    let mut first = 0;
    while first < rows.n_rows() {
        let last = rows.n_rows().min(first.saturating_add(block));
        dense.clear();
        rows.densify_over(absent, first, last, &mut dense);
        let part = run(Rows::try_new(&dense, rows.n_columns()).ok_or_else(ragged)?)?;
        let (shape, values) = part.into_parts();
        joined = Some(match joined {
            None => (shape, values),
            Some((_, so_far)) => (shape, append(so_far, values)?),
        });
        first = last;
    }
    let (mut shape, values) = joined.ok_or_else(ragged)?;
    if let Some(n_rows) = shape.first_mut() {
        *n_rows = rows.n_rows();
    }
    Tensor::try_new(shape, values)
        .map_err(|error| RunError::new(RunErrorKind::Internal, error.to_string()))
}

/// Appends the results of a block to those of the blocks before it.
fn append(so_far: Values, more: Values) -> Result<Values, RunError> {
    fn chain<T: Number>(so_far: Elements<T>, more: Elements<T>) -> Elements<T> {
        let mut all = so_far.into_vec();
        all.extend_from_slice(&more);
        all.into()
    }
    Ok(match (so_far, more) {
        (Values::F64(a), Values::F64(b)) => Values::F64(chain(a, b)),
        (Values::F32(a), Values::F32(b)) => Values::F32(chain(a, b)),
        (Values::I64(a), Values::I64(b)) => Values::I64(chain(a, b)),
        (Values::I32(a), Values::I32(b)) => Values::I32(chain(a, b)),
        (Values::I16(a), Values::I16(b)) => Values::I16(chain(a, b)),
        (Values::I8(a), Values::I8(b)) => Values::I8(chain(a, b)),
        (Values::U64(a), Values::U64(b)) => Values::U64(chain(a, b)),
        (Values::U32(a), Values::U32(b)) => Values::U32(chain(a, b)),
        (Values::U16(a), Values::U16(b)) => Values::U16(chain(a, b)),
        (Values::U8(a), Values::U8(b)) => Values::U8(chain(a, b)),
        (Values::Bool(a), Values::Bool(b)) => Values::Bool([a, b].concat()),
        (Values::Bytes(a), Values::Bytes(b)) => {
            let mut all = ByteStrings::new();
            for part in [&a, &b] {
                for index in 0..part.len() {
                    all.push_optional(part.get_present(index));
                }
            }
            Values::Bytes(all)
        }
        (a, b) => {
            let message = format!("blocks of {} and {} results", a.dtype(), b.dtype());
            return Err(RunError::new(RunErrorKind::Internal, message));
        }
    })
}

fn ragged() -> RunError {
    RunError::new(RunErrorKind::Internal, "a table has ragged rows or no rows")
}

/// Returns the error of texts in `column` of `table` where numbers belong.
fn expected_numbers(table: &Table<'_>, column: usize) -> RunError {
    let what = match table.n_rows() {
        0 => "texts",
        _ => "a string",
    };
    let message = format!("row 0, column {column}: expected a number, got {what}");
    RunError::new(RunErrorKind::DTypeMismatch, message)
}

/// Returns the table that a transformer gave as a tensor of `[rows, columns]`.
///
/// # Errors
/// Kind `Internal` where it is no table of doubles.
pub(crate) fn frame_of(tensor: Tensor) -> Result<Frame, RunError> {
    let (shape, values) = tensor.into_parts();
    match (values, shape.as_slice()) {
        (Values::F64(values), &[_, n_columns]) => Ok(Frame::Matrix {
            values: values.into_vec(),
            n_columns,
        }),
        (Values::Bool(truths), &[_, n_columns]) => Ok(Frame::Matrix {
            values: truths
                .into_iter()
                .map(|truth| u8::from(truth).into())
                .collect(),
            n_columns,
        }),
        (values, shape) => {
            let message = format!("gave {} of shape {shape:?}, no table", values.dtype());
            Err(RunError::new(RunErrorKind::Internal, message))
        }
    }
}

/// Returns a transformed table as the tensor that a caller gets.
///
/// Numbers are doubles. A table with texts becomes strings throughout, as numpy's object tables have no datatype
/// on the wire; numbers are then written as Python writes them.
///
/// # Errors
/// Kind `TooLarge` for a sparse table that would be too large with its zeros.
pub fn tensor_of(frame: Frame) -> Result<Tensor, RunError> {
    let table = frame.as_table().ok_or_else(ragged)?;
    let shape = vec![table.n_rows(), table.n_columns()];
    let size = shape
        .iter()
        .try_fold(1_usize, |n, &size| n.checked_mul(size));
    if size.is_none_or(|size| size > TENSOR_VALUES_MAX) {
        let message = format!(
            "the result has shape {shape:?}, more than {TENSOR_VALUES_MAX} values; send fewer rows"
        );
        return Err(RunError::new(RunErrorKind::TooLarge, message));
    }
    let values = match frame {
        Frame::Matrix { values, .. } => Values::F64(values.into()),
        Frame::Sparse(rows) => {
            let mut dense = Vec::with_capacity(size.unwrap_or(0));
            rows.densify(0, rows.n_rows(), &mut dense);
            Values::F64(dense.into())
        }
        Frame::Columns(_) => {
            let all: Vec<usize> = (0..table.n_columns()).collect();
            let mut values = Vec::new();
            match table.gather(&all, &mut values) {
                Ok(()) => Values::F64(values.into()),
                Err(_text) => Values::Bytes(as_texts(&table)),
            }
        }
    };
    Tensor::try_new(shape, values)
        .map_err(|error| RunError::new(RunErrorKind::Internal, error.to_string()))
}

fn as_texts(table: &Table<'_>) -> ByteStrings {
    use coracle_tensor::Cell;
    let mut texts = ByteStrings::new();
    for row in 0..table.n_rows() {
        for column in 0..table.n_columns() {
            match table.cell(row, column) {
                Cell::Text(text) => texts.push_optional(text),
                Cell::Number(number) if number.is_nan() => texts.push_missing(),
                Cell::Number(number) => texts.push(format!("{number:?}").as_bytes()),
            }
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use coracle_tensor::OwnedColumn;

    use super::*;

    #[test]
    fn wide_sparse_tables_are_written_out_in_blocks() {
        let n_columns = DENSE_VALUES_MAX / 2;
        let mut sparse = SparseRows::try_new(n_columns).unwrap();
        for row in 0..5 {
            sparse.push(row, f64::from(row));
            sparse.end_row();
        }
        let result = run_on_matrix(&Table::Sparse(&sparse), |rows| {
            assert!(rows.n_rows() <= 2);
            let sums = rows.iter().map(|row| row.iter().sum()).collect();
            Ok(Tensor::from_values(Values::F64(sums)))
        });
        let expected = Tensor::from_values(Values::F64(vec![0.0, 1.0, 2.0, 3.0, 4.0].into()));
        assert_eq!(result, Ok(expected));
    }

    #[test]
    fn texts_where_numbers_belong_are_named() {
        let texts: ByteStrings = ["a"].into_iter().collect();
        let frame = Frame::Columns(vec![
            OwnedColumn::Numbers(vec![1.5]),
            OwnedColumn::Text(texts),
        ]);
        let table = frame.as_table().unwrap();
        let error = run_on_matrix(&table, |_| unreachable!()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "row 0, column 1: expected a number, got a string"
        );
        let tensor = tensor_of(frame).unwrap();
        let expected: ByteStrings = ["1.5", "a"].into_iter().collect();
        assert_eq!(tensor.values(), &Values::Bytes(expected));
    }
}
