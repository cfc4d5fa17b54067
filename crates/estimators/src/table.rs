//! Checks on entry to an estimator, and tensors on the way out.

use coracle_model::{Accepts, Method, RunError, RunErrorKind};
use coracle_tensor::{Rows, Tensor, Values};

/// Checks the width of `rows` and every value in it.
///
/// # Errors
/// Kinds `ShapeMismatch`, `MissingValue`, `ValueOutOfRange`.
pub(crate) fn check(rows: Rows<'_>, n_features: usize, accepts: Accepts) -> Result<(), RunError> {
    if rows.n_columns() != n_features {
        let message = format!(
            "each row has {} values, the model expects {n_features}",
            rows.n_columns()
        );
        return Err(RunError::new(RunErrorKind::ShapeMismatch, message));
    }
    accepts.check(rows)
}

/// Returns a tensor of `values`, one per row.
pub(crate) fn column(values: Vec<f64>) -> Tensor {
    Tensor::from_values(Values::F64(values))
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
    Tensor::try_new(vec![n_rows, n_columns], Values::F64(values)).map_err(internal)
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
