//! Small dense linear algebra at load time.

use crate::spec_error::{SpecError, expect_length};

/// Solves `A x = b` for every row of `right`, by elimination with row exchanges.
///
/// `matrix` is `(n, n)` and `right` `(m, n)`, both row-major; the result is like `right`.
///
/// # Errors
/// [`SpecError`] if the sizes do not fit or the matrix is singular.
pub fn solve(matrix: &[f64], n: usize, right: &[f64]) -> Result<Vec<f64>, SpecError> {
    expect_length("a square matrix", matrix.len(), n.saturating_mul(n))?;
    let n_right = right.len().checked_div(n).unwrap_or_default();
    expect_length("right-hand sides", right.len(), n_right * n)?;
    let mut x = right.to_vec();
    eliminate(matrix.to_vec(), n, &mut x)?;
    Ok(x)
}

/// Returns the inverse of a square matrix and the logarithm of its determinant's magnitude.
///
/// # Errors
/// As [`solve`].
pub fn inverse(matrix: &[f64], n: usize) -> Result<(Vec<f64>, f64), SpecError> {
    expect_length("a square matrix", matrix.len(), n.saturating_mul(n))?;
    let mut identity = vec![0.0; matrix.len()];
    identity
        .iter_mut()
        .step_by(n + 1)
        .for_each(|value| *value = 1.0);
    let logarithm = eliminate(matrix.to_vec(), n, &mut identity)?;
    // The rows are the columns of the inverse.
    let mut inverse = vec![0.0; matrix.len()];
    for row in 0..n {
        for column in 0..n {
            inverse[column * n + row] = identity[row * n + column];
        }
    }
    Ok((inverse, logarithm))
}

/// Solves in place; returns the logarithm of the magnitude of the determinant.
fn eliminate(mut a: Vec<f64>, n: usize, x: &mut [f64]) -> Result<f64, SpecError> {
    let mut logarithm = 0.0;
    for column in 0..n {
        let magnitude = |row: &usize| a[row * n + column].abs();
        let pivot = (column..n)
            .max_by(|left, right| magnitude(left).total_cmp(&magnitude(right)))
            .unwrap_or(column);
        let value = a[pivot * n + column];
        if value == 0.0 || !value.is_finite() {
            return Err(SpecError::new("a matrix that must be inverted is singular"));
        }
        logarithm += value.abs().ln();
        if pivot != column {
            for k in 0..n {
                a.swap(pivot * n + k, column * n + k);
            }
            for side in x.chunks_exact_mut(n) {
                side.swap(pivot, column);
            }
        }
        for row in column + 1..n {
            let factor = a[row * n + column] / value;
            if factor != 0.0 {
                for k in column..n {
                    a[row * n + k] -= factor * a[column * n + k];
                }
                for side in x.chunks_exact_mut(n) {
                    side[row] -= factor * side[column];
                }
            }
        }
    }
    for side in x.chunks_exact_mut(n.max(1)) {
        for row in (0..n).rev() {
            let known: f64 = (row + 1..n).map(|k| a[row * n + k] * side[k]).sum();
            side[row] = (side[row] - known) / a[row * n + row];
        }
    }
    Ok(logarithm)
}

/// Returns `left right`, of `(n, inner)` and `(inner, m)`, row-major.
///
/// # Errors
/// [`SpecError`] if the sizes do not fit.
pub fn multiply(
    left: &[f64],
    inner: usize,
    right: &[f64],
    n_columns: usize,
) -> Result<Vec<f64>, SpecError> {
    let n_rows = left.len().checked_div(inner).unwrap_or_default();
    expect_length("a left factor", left.len(), n_rows * inner)?;
    expect_length(
        "a right factor",
        right.len(),
        inner.saturating_mul(n_columns),
    )?;
    let mut product = vec![0.0; n_rows.saturating_mul(n_columns)];
    for (row, left) in left.chunks_exact(inner.max(1)).enumerate() {
        for (k, &factor) in left.iter().enumerate() {
            let target = &mut product[row * n_columns..][..n_columns];
            for (value, right) in target.iter_mut().zip(&right[k * n_columns..]) {
                *value += factor * right;
            }
        }
    }
    Ok(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_with_row_exchanges_and_refuses_singular_matrices() {
        let x = solve(&[0.0, 2.0, 4.0, 0.0], 2, &[2.0, 8.0, 4.0, 0.0]).unwrap();
        assert_eq!(x, [2.0, 1.0, 0.0, 2.0]);
        assert!(solve(&[1.0, 2.0, 2.0, 4.0], 2, &[1.0, 1.0]).is_err());
        assert!(solve(&[1.0], 2, &[1.0, 1.0]).is_err());
        let (inverted, logarithm) = inverse(&[0.0, 2.0, 4.0, 1.0], 2).unwrap();
        assert_eq!(inverted, [-0.125, 0.25, 0.5, 0.0]);
        assert_eq!(logarithm, 8.0_f64.ln());
        let product = multiply(&[1.0, 2.0], 2, &[3.0, 4.0, 5.0, 6.0], 2).unwrap();
        assert_eq!(product, [13.0, 16.0]);
    }
}
