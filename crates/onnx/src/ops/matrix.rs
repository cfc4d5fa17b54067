//! Products of matrices, and distances between rows. Sums are in double precision.

use coracle_model::{LoadError, RunError};
use coracle_tensor::{Tensor, Values};

use crate::error::{dtype_error, shape_error, unsupported};
use crate::ops::elementwise::{narrowed, needed, optional, widened};
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{broadcast, n_elements, stretched, tensor, to_f64s};

/// Builds an operator of this family.
pub(crate) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    Some(match name {
        "MatMul" => function((), |(), inputs| mat_mul(inputs)),
        "Gemm" => gemm(build),
        _ => return None,
    })
}

/// Adds the product of `a` (`rows` by `inner`) and `b` (`inner` by `columns`) to `sums`.
///
/// Large matrices are read as they are: bringing weights to doubles for every call takes longer than multiplying by them.
fn multiply<T: Copy + Into<f64>>(
    a: &[f64],
    b: &[T],
    (rows, inner, columns): (usize, usize, usize),
    sums: &mut [f64],
) {
    for row in 0..rows {
        let sums = &mut sums[row * columns..(row + 1) * columns];
        for (place, &factor) in a[row * inner..(row + 1) * inner].iter().enumerate() {
            let line = &b[place * columns..(place + 1) * columns];
            for (sum, &value) in sums.iter_mut().zip(line) {
                *sum += factor * value.into();
            }
        }
    }
}

/// The same of a `b` that is turned, `columns` by `inner`; the order of the sums is that of [`multiply`].
fn multiply_turned<T: Copy + Into<f64>>(
    a: &[f64],
    b: &[T],
    (rows, inner, columns): (usize, usize, usize),
    sums: &mut [f64],
) {
    /// So many sums at a time: each waits for itself only.
    const LANES: usize = 8;
    for row in 0..rows {
        let row_a = &a[row * inner..(row + 1) * inner];
        let sums = &mut sums[row * columns..(row + 1) * columns];
        for (group, sums) in sums.chunks_mut(LANES).enumerate() {
            let lines: [&[T]; LANES] = std::array::from_fn(|lane| {
                // A line that is not there is read for nothing.
                let column = (group * LANES + lane).min(columns - 1);
                &b[column * inner..(column + 1) * inner]
            });
            let mut parts = [0.0; LANES];
            parts[..sums.len()].copy_from_slice(sums);
            for (place, &factor) in row_a.iter().enumerate() {
                for (part, line) in parts.iter_mut().zip(lines) {
                    *part += factor * line[place].into();
                }
            }
            sums.copy_from_slice(&parts[..sums.len()]);
        }
    }
}

/// Returns the two tensors' doubles, which must be of one floating-point datatype, or 32- or 64-bit integers.
fn check_pair(a: &Tensor, b: &Tensor) -> Result<(), RunError> {
    let is_number = !matches!(a.values(), Values::Bytes(_) | Values::Bool(_));
    if a.dtype() == b.dtype() && is_number {
        return Ok(());
    }
    Err(dtype_error(format!(
        "a product of {} and {}",
        a.dtype(),
        b.dtype()
    )))
}

/// Brings sums back to the datatype of the factors.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
fn like(input: &Tensor, sums: Vec<f64>) -> Result<Values, RunError> {
    // Sums of integers are exact only so far.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let is_integer = matches!(input.values(), Values::I64(_) | Values::I32(_));
    if is_integer && sums.iter().any(|sum| sum.abs() > EXACT_MAX) {
        return Err(crate::error::value_error(
            "a product of integers beyond 2^53",
        ));
    }
    Ok(match input.values() {
        Values::F64(_) => Values::F64(sums.into()),
        Values::F32(_) => Values::F32(sums.into_iter().map(|sum| sum as f32).collect()),
        Values::F16(_) | Values::BF16(_) => {
            let singles = sums.into_iter().map(|sum| sum as f32).collect();
            narrowed(Values::F32(singles), input.dtype())
        }
        Values::I64(_) => Values::I64(sums.into_iter().map(|sum| sum as i64).collect()),
        Values::I32(_) if sums.iter().all(|sum| sum.abs() <= f64::from(i32::MAX)) => {
            Values::I32(sums.into_iter().map(|sum| sum as i32).collect())
        }
        other => return Err(dtype_error(format!("a product of {}", other.dtype()))),
    })
}

fn mat_mul(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (a, b) = (needed(inputs, 0)?, needed(inputs, 1)?);
    check_pair(a, b)?;
    let mismatch = || {
        shape_error(format!(
            "a product of shapes {:?} and {:?}",
            a.shape(),
            b.shape()
        ))
    };
    let (a_batch, rows, inner) = match a.shape() {
        [] => return Err(mismatch()),
        [inner] => (&[][..], None, *inner),
        [batch @ .., rows, inner] => (batch, Some(*rows), *inner),
    };
    let (b_batch, b_inner, columns) = match b.shape() {
        [] => return Err(mismatch()),
        [inner] => (&[][..], *inner, None),
        [batch @ .., inner, columns] => (batch, *inner, Some(*columns)),
    };
    if inner != b_inner {
        return Err(mismatch());
    }
    let batch = broadcast(a_batch, b_batch)?;
    let (n_rows, n_columns) = (rows.unwrap_or(1), columns.unwrap_or(1));
    let mut shape = batch.clone();
    shape.extend(rows);
    shape.extend(columns);
    let n = n_elements(&shape)?;
    let x = to_f64s(a)?;
    let mut sums = vec![0.0; n];
    let places = stretched(&batch, a_batch)
        .into_iter()
        .zip(stretched(&batch, b_batch));
    let parts = sums.chunks_exact_mut((n_rows * n_columns).max(1));
    let sizes = (n_rows, inner, n_columns);
    let of_a = |at: usize| &x[at * n_rows * inner..(at + 1) * n_rows * inner];
    let of_b = |at: usize| at * inner * n_columns..(at + 1) * inner * n_columns;
    match b.values() {
        Values::F32(y) => places.zip(parts).for_each(|((at_a, at_b), sums)| {
            multiply(of_a(at_a), &y[of_b(at_b)], sizes, sums);
        }),
        _ => {
            let y = to_f64s(b)?;
            places.zip(parts).for_each(|((at_a, at_b), sums)| {
                multiply(of_a(at_a), &y[of_b(at_b)], sizes, sums);
            });
        }
    }
    Ok(vec![tensor(shape, like(a, sums)?)?])
}

#[derive(Debug)]
struct Gemm {
    alpha: f64,
    beta: f64,
    transposes_a: bool,
    transposes_b: bool,
}

fn gemm(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    if build.opset < 7 {
        return Err(unsupported("Gemm of operator sets before 7"));
    }
    let gemm = Gemm {
        alpha: f64::from(attributes.float("alpha")?.unwrap_or(1.0)),
        beta: f64::from(attributes.float("beta")?.unwrap_or(1.0)),
        transposes_a: attributes.flag("transA", false)?,
        transposes_b: attributes.flag("transB", false)?,
    };
    function(gemm, |gemm, inputs| {
        let (a, b) = (needed(inputs, 0)?, needed(inputs, 1)?);
        check_pair(a, b)?;
        let (x, x_shape) = matrix(a, gemm.transposes_a)?;
        let mut y_shape = matrix_shape(b)?;
        if gemm.transposes_b {
            y_shape.reverse();
        }
        let (rows, inner, columns) = (x_shape[0], x_shape[1], y_shape[1]);
        if inner != y_shape[0] {
            return Err(shape_error(format!(
                "a product of shapes {x_shape:?} and {y_shape:?}"
            )));
        }
        let (shape, sizes) = (vec![rows, columns], (rows, inner, columns));
        let mut sums = vec![0.0; n_elements(&shape)?];
        match (b.values(), gemm.transposes_b) {
            (Values::F32(y), false) => multiply(&x, y, sizes, &mut sums),
            (Values::F32(y), true) => multiply_turned(&x, y, sizes, &mut sums),
            (_, false) => multiply(&x, &to_f64s(b)?, sizes, &mut sums),
            (_, true) => multiply_turned(&x, &to_f64s(b)?, sizes, &mut sums),
        }
        sums.iter_mut().for_each(|sum| *sum *= gemm.alpha);
        if let Some(c) = optional(inputs, 2) {
            if broadcast(&shape, c.shape())? != shape {
                return Err(shape_error(format!(
                    "{:?} is added to {shape:?}",
                    c.shape()
                )));
            }
            let addends = to_f64s(c)?;
            for (sum, at) in sums.iter_mut().zip(stretched(&shape, c.shape())) {
                *sum += gemm.beta * addends[at];
            }
        }
        Ok(vec![tensor(shape, like(a, sums)?)?])
    })
}

fn matrix_shape(input: &Tensor) -> Result<[usize; 2], RunError> {
    let shape = input.shape();
    <[usize; 2]>::try_from(shape).map_err(|_| shape_error(format!("shape {shape:?} is no matrix")))
}

/// Returns a matrix as doubles, transposed if asked for, with its shape.
fn matrix(input: &Tensor, transposes: bool) -> Result<(Vec<f64>, [usize; 2]), RunError> {
    let [rows, columns] = matrix_shape(input)?;
    let values = to_f64s(input)?;
    if !transposes {
        return Ok((values.into_owned(), [rows, columns]));
    }
    let mut turned = Vec::with_capacity(values.len());
    for column in 0..columns {
        turned.extend((0..rows).map(|row| values[row * columns + column]));
    }
    Ok((turned, [columns, rows]))
}

/// Builds `CDist` of `com.microsoft`: the distances of the rows of two matrices.
pub(crate) fn distances(build: &Build<'_, '_>) -> Built {
    let is_squared = match build.attributes.word("metric", "sqeuclidean")? {
        "sqeuclidean" => true,
        "euclidean" => false,
        other => return Err(unknown_metric(other)),
    };
    function(is_squared, |is_squared, inputs| {
        let (a, b) = (needed(inputs, 0)?, needed(inputs, 1)?);
        check_pair(a, b)?;
        let ((x, [n_a, width]), (y, [n_b, b_width])) = (matrix(a, false)?, matrix(b, false)?);
        if width != b_width {
            return Err(shape_error(format!(
                "rows of {width} and of {b_width} numbers"
            )));
        }
        let shape = vec![n_a, n_b];
        let mut all = Vec::with_capacity(n_elements(&shape)?);
        for row in 0..n_a {
            let row = &x[row * width..(row + 1) * width];
            for other in 0..n_b {
                let other = &y[other * width..(other + 1) * width];
                let sum: f64 = row.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
                all.push(if *is_squared { sum } else { sum.sqrt() });
            }
        }
        let wide = widened(a);
        let values = like(wide.as_ref().unwrap_or(a), all)?;
        Ok(vec![tensor(shape, values)?])
    })
}

fn unknown_metric(name: &str) -> LoadError {
    unsupported(format!("metric '{name}'"))
}
