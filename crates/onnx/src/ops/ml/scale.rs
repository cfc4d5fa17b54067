//! Numbers to numbers, column by column: Scaler, Normalizer, Imputer, Binarizer, FeatureVectorizer.

use coracle_model::{LoadError, RunError};
use coracle_tensor::Values;

use crate::error::{dtype_error, malformed, shape_error, unsupported};
use crate::ops::elementwise::needed;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{table, tensor, to_f32s};

/// A value per column, or one for all.
fn per_column<T>(items: &[T], n_columns: usize, column: usize) -> Option<&T> {
    match items {
        [only] => Some(only),
        items if items.len() == n_columns => items.get(column),
        _ => None,
    }
}

fn mismatch(what: &str, n: usize, n_columns: usize) -> RunError {
    shape_error(format!("{n} {what} for {n_columns} columns"))
}

pub(super) fn scaler(build: &Build<'_, '_>) -> Built {
    let offset = build.attributes.floats("offset")?.to_vec();
    let scale = build.attributes.floats("scale")?.to_vec();
    if offset.is_empty() || scale.is_empty() {
        return Err(malformed("'offset' or 'scale' is missing"));
    }
    function((offset, scale), |(offset, scale), inputs| {
        let input = needed(inputs, 0)?;
        let (_, n_columns) = table(input.shape())?;
        let values = to_f32s(input)?;
        let scaled = values.iter().enumerate().map(|(at, value)| {
            let column = at % n_columns;
            let offset = per_column(offset, n_columns, column)
                .ok_or_else(|| mismatch("offsets", offset.len(), n_columns))?;
            let scale = per_column(scale, n_columns, column)
                .ok_or_else(|| mismatch("scales", scale.len(), n_columns))?;
            Ok((value - offset) * scale)
        });
        let scaled = scaled.collect::<Result<Vec<f32>, RunError>>()?;
        Ok(vec![tensor(
            input.shape().to_vec(),
            Values::F32(scaled.into()),
        )?])
    })
}

#[derive(Clone, Copy, Debug)]
enum Norm {
    Max,
    L1,
    L2,
}

pub(super) fn normalizer(build: &Build<'_, '_>) -> Built {
    let norm = match build.attributes.word("norm", "MAX")? {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        other => return Err(unsupported(format!("norm '{other}'"))),
    };
    function(norm, |norm, inputs| {
        let input = needed(inputs, 0)?;
        let (_, n_columns) = table(input.shape())?;
        let mut values = to_f32s(input)?.into_owned();
        for row in values.chunks_exact_mut(n_columns.max(1)) {
            normalize(*norm, row);
        }
        Ok(vec![tensor(
            input.shape().to_vec(),
            Values::F32(values.into()),
        )?])
    })
}

/// Divides a row by its norm, where that is not zero.
fn normalize(norm: Norm, row: &mut [f32]) {
    match norm {
        Norm::Max => {
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            if largest != 0.0 {
                row.iter_mut().for_each(|value| *value /= largest);
            }
        }
        Norm::L1 => {
            let sum = row.iter().fold(0.0, |sum, value| sum + value.abs());
            if sum != 0.0 {
                row.iter_mut().for_each(|value| *value /= sum);
            }
        }
        Norm::L2 => {
            let sum = row.iter().fold(0.0, |sum, value| sum + value * value);
            if sum != 0.0 {
                // As ONNX Runtime computes it: what it squares may be too large or too small for the datatype.
                row.iter_mut().for_each(|value| {
                    let length = (*value * *value / sum).sqrt();
                    *value = if *value < 0.0 { -length } else { length };
                });
            }
        }
    }
}

#[derive(Debug)]
struct Imputer {
    float_values: Vec<f32>,
    float_missing: f32,
    int_values: Vec<i64>,
    int_missing: i64,
}

pub(super) fn imputer(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let imputer = Imputer {
        float_values: attributes.floats("imputed_value_floats")?.to_vec(),
        float_missing: attributes.float("replaced_value_float")?.unwrap_or(0.0),
        int_values: attributes.ints("imputed_value_int64s")?.to_vec(),
        int_missing: attributes.int("replaced_value_int64")?.unwrap_or(0),
    };
    function(imputer, |imputer, inputs| {
        let input = needed(inputs, 0)?;
        let (_, n_columns) = table(input.shape())?;
        let values = match input.values() {
            Values::F32(items) => {
                let missing = imputer.float_missing;
                let is_missing = |item: f32| item == missing || item.is_nan() && missing.is_nan();
                Values::F32(imputed(items, n_columns, &imputer.float_values, is_missing)?.into())
            }
            Values::F64(items) => {
                let missing = f64::from(imputer.float_missing);
                let is_missing = |item: f64| item == missing || item.is_nan() && missing.is_nan();
                let wide: Vec<f64> = imputer.float_values.iter().map(|&v| f64::from(v)).collect();
                Values::F64(imputed(items, n_columns, &wide, is_missing)?.into())
            }
            Values::I64(items) => {
                let missing = imputer.int_missing;
                Values::I64(
                    imputed(items, n_columns, &imputer.int_values, |item| {
                        item == missing
                    })?
                    .into(),
                )
            }
            other => return Err(dtype_error(format!("Imputer of {}", other.dtype()))),
        };
        Ok(vec![tensor(input.shape().to_vec(), values)?])
    })
}

fn imputed<T: Copy>(
    items: &[T],
    n_columns: usize,
    values: &[T],
    is_missing: impl Fn(T) -> bool,
) -> Result<Vec<T>, RunError> {
    let imputed = items.iter().enumerate().map(|(at, &item)| {
        let value = per_column(values, n_columns, at % n_columns)
            .ok_or_else(|| mismatch("imputed values", values.len(), n_columns))?;
        Ok(if is_missing(item) { *value } else { item })
    });
    imputed.collect()
}

pub(super) fn binarizer(build: &Build<'_, '_>) -> Built {
    let threshold = build.attributes.float("threshold")?.unwrap_or(0.0);
    function(threshold, |&threshold, inputs| {
        let input = needed(inputs, 0)?;
        let values = match input.values() {
            Values::F32(items) => Values::F32(
                items
                    .iter()
                    .map(|&item| if item > threshold { 1.0 } else { 0.0 })
                    .collect(),
            ),
            Values::F64(items) => Values::F64(
                items
                    .iter()
                    .map(|&item| {
                        if item > f64::from(threshold) {
                            1.0
                        } else {
                            0.0
                        }
                    })
                    .collect(),
            ),
            other => return Err(dtype_error(format!("Binarizer of {}", other.dtype()))),
        };
        Ok(vec![tensor(input.shape().to_vec(), values)?])
    })
}

/// Joins tables side by side: so many columns of each, cut off or filled up with zeros.
pub(super) fn feature_vectorizer(build: &Build<'_, '_>) -> Built {
    let sizes = build.attributes.ints("inputdimensions")?;
    let sizes = sizes
        .iter()
        .map(|&size| usize::try_from(size).ok().filter(|&size| size <= 1 << 20));
    let sizes: Option<Vec<usize>> = sizes.collect();
    let sizes =
        sizes.ok_or_else(|| -> LoadError { malformed("'inputdimensions' out of range") })?;
    function(sizes, |sizes, inputs| {
        if sizes.len() != inputs.len() {
            return Err(shape_error(format!(
                "{} inputs for {} inputdimensions",
                inputs.len(),
                sizes.len()
            )));
        }
        let (n_rows, _) = table(needed(inputs, 0)?.shape())?;
        let mut tables = Vec::with_capacity(inputs.len());
        for index in 0..inputs.len() {
            let input = needed(inputs, index)?;
            let (n, n_columns) = table(input.shape())?;
            if n != n_rows {
                return Err(shape_error(format!("{n} rows beside {n_rows}")));
            }
            tables.push((to_f32s(input)?, n_columns));
        }
        let width: usize = sizes.iter().sum();
        let mut joined = Vec::with_capacity(crate::ops::values::n_elements(&[n_rows, width])?);
        for row in 0..n_rows {
            for ((values, n_columns), &size) in tables.iter().zip(sizes) {
                let cells = &values[row * n_columns..(row + 1) * n_columns];
                let n = size.min(*n_columns);
                joined.extend_from_slice(&cells[..n]);
                joined.resize(joined.len() + size - n, 0.0);
            }
        }
        Ok(vec![tensor(
            vec![n_rows, width],
            Values::F32(joined.into()),
        )?])
    })
}
