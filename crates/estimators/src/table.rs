//! Checks on entry to an estimator, and tensors on the way out.

use coracle_model::{Accepts, ColumnKind, ColumnSpec, Method, RunError, RunErrorKind, Scorer};
use coracle_tensor::{Column, Rows, SparseRows, Table, Tensor, Values};

/// Checks the width of `rows` and every value in it.
///
/// # Errors
/// Kinds `ShapeMismatch`, `MissingValue`, `ValueOutOfRange`.
pub(crate) fn check(rows: Rows<'_>, n_features: usize, accepts: Accepts) -> Result<(), RunError> {
    check_width(rows.n_columns(), n_features)?;
    accepts.check(rows)
}

/// Checks the width of a table.
///
/// # Errors
/// Kind `ShapeMismatch`.
pub(crate) fn check_width(n_columns: usize, n_features: usize) -> Result<(), RunError> {
    if n_columns == n_features {
        return Ok(());
    }
    let message = format!("each row has {n_columns} values, the model expects {n_features}");
    Err(RunError::new(RunErrorKind::ShapeMismatch, message))
}

/// Runs `scored` on a table that a scorer can read: a matrix, or a sparse table; each value is checked.
///
/// # Errors
/// Those of [`check`]; kind `DTypeMismatch` where there are texts.
pub(crate) fn with_numbers<T>(
    table: &Table<'_>,
    n_features: usize,
    accepts: Accepts,
    scored: impl FnOnce(&Table<'_>) -> Result<T, RunError>,
) -> Result<T, RunError> {
    match table {
        Table::Matrix(rows) => check(*rows, n_features, accepts)?,
        Table::Sparse(rows) => {
            check_width(rows.n_columns(), n_features)?;
            accepts.check_sparse(rows)?;
        }
        Table::Columns(_) => {
            let all: Vec<usize> = (0..table.n_columns()).collect();
            let mut values = Vec::new();
            table.gather(&all, &mut values).map_err(|column| {
                let message = format!("column {column}: expected numbers, got strings");
                RunError::new(RunErrorKind::DTypeMismatch, message)
            })?;
            let rows = Rows::try_new(&values, all.len())
                .ok_or_else(|| RunError::new(RunErrorKind::Internal, "a table has ragged rows"))?;
            check(rows, n_features, accepts)?;
            return scored(&Table::Matrix(rows));
        }
    }
    scored(table)
}

/// Checks that texts are where `specs` has texts, and nowhere else.
///
/// # Errors
/// Kind `DTypeMismatch`.
pub(crate) fn check_kinds(table: &Table<'_>, specs: &[ColumnSpec]) -> Result<(), RunError> {
    for (column, spec) in specs.iter().enumerate() {
        let is_text = match table {
            Table::Columns(columns) => matches!(columns.as_slice()[column], Column::Text(_)),
            Table::Matrix(_) | Table::Sparse(_) => false,
        };
        let message = match (spec.kind, is_text) {
            (ColumnKind::Text | ColumnKind::Json, false) => "expected strings, got numbers",
            (ColumnKind::Numbers, true) => "expected numbers, got strings",
            _ => continue,
        };
        let message = format!("column {column}: {message}");
        return Err(RunError::new(RunErrorKind::DTypeMismatch, message));
    }
    Ok(())
}

/// Returns the scores of each row of a table that [`with_numbers`] has checked.
///
/// # Panics
/// If the table holds texts.
pub(crate) fn scores(scorer: &dyn Scorer, table: &Table<'_>) -> Vec<f64> {
    let mut scores = vec![0.0; table.n_rows() * scorer.n_scores()];
    match table {
        Table::Matrix(rows) => scorer.score(*rows, &mut scores),
        Table::Sparse(rows) => scorer.score_sparse(rows, &mut scores),
        Table::Columns(_) => unreachable!("with_numbers has made it a matrix"),
    }
    scores
}

/// Returns an empty sparse table.
///
/// # Errors
/// Kind `Internal` if it would be too wide.
pub(crate) fn sparse(n_columns: usize) -> Result<SparseRows, RunError> {
    SparseRows::try_new(n_columns)
        .ok_or_else(|| RunError::new(RunErrorKind::Internal, "a sparse table is too wide"))
}

/// Returns a column of a sparse table.
///
/// # Panics
/// If it is not below [`SparseRows::COLUMNS_MAX`].
pub(crate) fn narrow(column: usize) -> u32 {
    u32::try_from(column).expect("sparse tables are at most so wide")
}

/// Returns a tensor of `values`, one per row.
pub(crate) fn column(values: Vec<f64>) -> Tensor {
    Tensor::from_values(Values::F64(values.into()))
}

/// Returns a tensor of `values` with `n_columns` per row.
///
/// # Errors
/// Kind `Internal` if they do not divide evenly.
pub(crate) fn matrix(
    values: Vec<f64>,
    n_rows: usize,
    n_columns: usize,
) -> Result<Tensor, RunError> {
    Tensor::try_new(vec![n_rows, n_columns], Values::F64(values.into())).map_err(internal)
}

/// Returns the error of a defect on our side.
pub(crate) fn internal(error: impl std::fmt::Display) -> RunError {
    RunError::new(RunErrorKind::Internal, error.to_string())
}

/// Returns the error of asking an estimator for a method it does not have.
pub(crate) fn no_method(method: Method) -> RunError {
    let message = format!("the model has no method {}", method.as_str());
    RunError::new(RunErrorKind::Internal, message)
}
