//! What comes in: checked against the signature, and brought to its datatypes without a loss that matters.

use std::borrow::Cow;

use coracle_model::{RunError, TensorSpec};
use coracle_tensor::{DType, Tensor, Values, bf16, f16, split, stack};

use crate::error::{dtype_error, internal, shape_error, value_error};
use crate::ops::values::{ELEMENTS_MAX, zeros};

/// Returns a tensor as the graph takes it.
///
/// A column of `[rows]` is also taken where `[rows, 1]` is wanted. Numbers of another datatype are converted: to floating
/// point by rounding within its range, to integers if they are integers in range.
///
/// # Errors
/// Kinds `ShapeMismatch`, `DTypeMismatch`, `ValueOutOfRange`, naming the input, what came and what is wanted.
pub fn checked<'t>(tensor: &'t Tensor, spec: &TensorSpec) -> Result<Cow<'t, Tensor>, RunError> {
    let shape = tensor.shape();
    let fits = |shape: &[usize]| {
        shape.len() == spec.shape.len()
            && shape
                .iter()
                .zip(&spec.shape)
                .all(|(size, wanted)| wanted.is_none_or(|wanted| wanted == *size))
    };
    let shape = match shape {
        shape if fits(shape) => None,
        [n] if fits(&[*n, 1]) => Some(vec![*n, 1]),
        [n, 1] if fits(&[*n]) => Some(vec![*n]),
        shape => {
            let (name, wanted) = (&spec.name, spec.wire_shape());
            return Err(shape_error(format!(
                "input \"{name}\": shape {shape:?}, model expects {wanted:?}"
            )));
        }
    };
    with_shape(tensor, shape, spec)
}

/// Returns a tensor of any number of dimensions as the graph takes it, otherwise as [`checked`].
///
/// # Errors
/// Kinds `DTypeMismatch`, `ValueOutOfRange`, naming the input, what came and what is wanted.
pub fn checked_of_any_rank<'t>(
    tensor: &'t Tensor,
    spec: &TensorSpec,
) -> Result<Cow<'t, Tensor>, RunError> {
    with_shape(tensor, None, spec)
}

/// Returns a tensor in the datatype of the graph, and in another shape if there is one.
fn with_shape<'t>(
    tensor: &'t Tensor,
    shape: Option<Vec<usize>>,
    spec: &TensorSpec,
) -> Result<Cow<'t, Tensor>, RunError> {
    if tensor.dtype() == spec.dtype && shape.is_none() {
        if let Values::Bytes(texts) = tensor.values()
            && let Some(index) = texts.first_missing()
        {
            let name = &spec.name;
            return Err(RunError::new(
                coracle_model::RunErrorKind::MissingValue,
                format!(
                    "input \"{name}\": element {index} is missing (null); a string belongs there"
                ),
            ));
        }
        return Ok(Cow::Borrowed(tensor));
    }
    let values = match tensor.dtype() == spec.dtype {
        true => tensor.values().clone(),
        false => converted(tensor.values(), spec)?,
    };
    let shape = shape.unwrap_or_else(|| tensor.shape().to_vec());
    let tensor = Tensor::try_new(shape, values).map_err(|error| internal(error.to_string()))?;
    Ok(Cow::Owned(tensor))
}

#[expect(clippy::cast_possible_truncation, reason = "documented rounding")]
fn converted(values: &Values, spec: &TensorSpec) -> Result<Values, RunError> {
    let mismatch = || {
        dtype_error(format!(
            "input \"{}\": datatype {}, model expects {}",
            spec.name,
            values.dtype(),
            spec.dtype
        ))
    };
    let doubles = || values.to_f64s().ok_or_else(mismatch);
    Ok(match spec.dtype {
        DType::Bytes => return Err(mismatch()),
        DType::F64 => Values::F64(doubles()?.into_owned().into()),
        DType::F32 => {
            let rounded = rounded(&doubles()?, spec, |value| value as f32, f32::is_infinite)?;
            Values::F32(rounded.into())
        }
        DType::F16 => {
            let rounded = rounded(&doubles()?, spec, f16::from_f64, f16::is_infinite)?;
            Values::F16(rounded.into())
        }
        DType::BF16 => {
            let rounded = rounded(&doubles()?, spec, bf16::from_f64, bf16::is_infinite)?;
            Values::BF16(rounded.into())
        }
        DType::Bool => Values::Bool(
            integers(values, spec)?
                .iter()
                .map(|&value| value != 0)
                .collect(),
        ),
        DType::I64 => Values::I64(narrowed(values, spec)?.into()),
        DType::I32 => Values::I32(narrowed(values, spec)?.into()),
        DType::I16 => Values::I16(narrowed(values, spec)?.into()),
        DType::I8 => Values::I8(narrowed(values, spec)?.into()),
        DType::U64 => Values::U64(narrowed(values, spec)?.into()),
        DType::U32 => Values::U32(narrowed(values, spec)?.into()),
        DType::U16 => Values::U16(narrowed(values, spec)?.into()),
        DType::U8 => Values::U8(narrowed(values, spec)?.into()),
    })
}

/// Rounds reals; what is finite and would become infinite is refused, as it is in JSON of that datatype.
fn rounded<T: Copy>(
    values: &[f64],
    spec: &TensorSpec,
    round: impl Fn(f64) -> T,
    is_infinite: impl Fn(T) -> bool,
) -> Result<Vec<T>, RunError> {
    let rounded = values.iter().map(|&value| {
        let rounded = round(value);
        match is_infinite(rounded) && value.is_finite() {
            true if value.abs() < 1e16 => Err(out_of_range(&value, spec)),
            // Not hundreds of zeros.
            true => Err(out_of_range(&format_args!("{value:e}"), spec)),
            false => Ok(rounded),
        }
    });
    rounded.collect()
}

fn out_of_range(value: &dyn std::fmt::Display, spec: &TensorSpec) -> RunError {
    value_error(format!(
        "input \"{}\": {value} is out of the range of {}",
        spec.name, spec.dtype
    ))
}

/// Doubles from here on need not be the integer that was sent.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

fn integers(values: &Values, spec: &TensorSpec) -> Result<Vec<i128>, RunError> {
    let name = &spec.name;
    if let Values::I64(items) = values {
        return Ok(items.iter().map(|&item| i128::from(item)).collect());
    }
    if let Values::U64(items) = values {
        return Ok(items.iter().map(|&item| i128::from(item)).collect());
    }
    let doubles = values.to_f64s().ok_or_else(|| {
        dtype_error(format!(
            "input \"{name}\": datatype {}, model expects {}",
            values.dtype(),
            spec.dtype
        ))
    })?;
    let integers = doubles.iter().map(|&value| {
        if value.fract() != 0.0 || value.abs() > EXACT_MAX || value.is_nan() {
            return Err(value_error(format!(
                "input \"{name}\": {value} is no integer of up to 2^53, model expects {}",
                spec.dtype
            )));
        }
        #[expect(clippy::cast_possible_truncation, reason = "an integer within 2^53")]
        Ok(value as i128)
    });
    integers.collect()
}

fn narrowed<T: TryFrom<i128>>(values: &Values, spec: &TensorSpec) -> Result<Vec<T>, RunError> {
    let narrowed = integers(values, spec)?
        .into_iter()
        .map(|value| T::try_from(value).map_err(|_too_large| out_of_range(&value, spec)));
    narrowed.collect()
}

/// Runs a graph of single maps on each of several, and puts the answers together; other inputs than maps come with one map only.
///
/// # Errors
/// Those of `run`; kind `ShapeMismatch` where there are no maps, where they differ in number, or where answers are no rows.
pub fn map_by_map(
    inputs: &[&Tensor],
    mut run: impl FnMut(&[&Tensor]) -> Result<Vec<Tensor>, RunError>,
) -> Result<Vec<Tensor>, RunError> {
    let n_maps = inputs.first().map_or(0, |input| input.n_rows());
    if n_maps == 0 {
        return Err(shape_error(
            "there are no maps; the graph takes single ones, so send one at least",
        ));
    }
    if n_maps == 1 {
        return run(inputs);
    }
    let apart = inputs
        .iter()
        .map(|input| split((*input).clone(), &vec![1; n_maps]));
    let apart: Option<Vec<Vec<Tensor>>> = apart.collect();
    let apart = apart.ok_or_else(|| shape_error("the inputs differ in the number of maps"))?;
    let mut answers: Vec<Vec<Tensor>> = Vec::with_capacity(n_maps);
    for row in 0..n_maps {
        let maps = apart.iter().filter_map(|input| input.get(row));
        answers.push(run(&maps.collect::<Vec<_>>())?);
    }
    let n_outputs = answers.first().map_or(0, Vec::len);
    let outputs = (0..n_outputs).map(|output| {
        let parts: Vec<&Tensor> = answers
            .iter()
            .filter_map(|answer| answer.get(output))
            .collect();
        let are_rows =
            parts.len() == n_maps && parts.iter().all(|part| part.shape().first() == Some(&1));
        stack(&parts).filter(|_| are_rows).ok_or_else(|| {
            shape_error(
                "what the graph answers to a map is no row, or rows differ in length; send one map",
            )
        })
    });
    outputs.collect()
}

/// Returns made-up inputs: zeros and empty strings, any size being one; `None` if they would be too large.
#[must_use]
pub fn synthetic(specs: &[TensorSpec]) -> Option<Vec<Tensor>> {
    synthetic_of(specs, 1)
}

/// Returns the same, any size being this one.
pub(crate) fn synthetic_of(specs: &[TensorSpec], open: usize) -> Option<Vec<Tensor>> {
    let tensors = specs.iter().map(|spec| {
        let shape: Vec<usize> = spec.shape.iter().map(|size| size.unwrap_or(open)).collect();
        let n = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size))
            .filter(|&n| n <= ELEMENTS_MAX / 64)?;
        Tensor::try_new(shape, zeros(spec.dtype, n)).ok()
    });
    tensors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_narrower_datatype_has_not_are_refused() {
        let check = |dtype, values: Vec<f64>| {
            let spec = TensorSpec {
                name: "x".to_owned(),
                dtype,
                shape: vec![None],
                columns: None,
                accepts_missing: true,
                accepts_integers: false,
            };
            let tensor = Tensor::from_values(Values::F64(values.into()));
            checked(&tensor, &spec).map(|tensor| tensor.values().to_f64s().unwrap().into_owned())
        };
        for (dtype, greatest, beyond) in [
            (DType::F32, f64::from(f32::MAX), 1e39),
            (DType::F16, 65_504.0, 65_520.0),
            (DType::BF16, f64::from(bf16::MAX), 3.4e38),
        ] {
            let kept = vec![greatest, -greatest, f64::INFINITY, f64::NEG_INFINITY];
            assert_eq!(check(dtype, kept.clone()).unwrap(), kept);
            assert!(check(dtype, vec![f64::NAN]).unwrap()[0].is_nan());
            for wrong in [beyond, -beyond] {
                let error = check(dtype, vec![0.0, wrong]).unwrap_err();
                assert_eq!(error.kind(), coracle_model::RunErrorKind::ValueOutOfRange);
                let wrong = match dtype {
                    DType::F16 => format!("{wrong}"),
                    _ => format!("{wrong:e}"),
                };
                let expected = format!("input \"x\": {wrong} is out of the range of {dtype}");
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    #[test]
    fn no_maps_are_refused() {
        let none = Tensor::try_new(vec![0], Values::F64(Vec::new().into())).unwrap();
        let error = map_by_map(&[&none], |_| unreachable!("there is no map to run on"));
        assert!(error.unwrap_err().to_string().contains("no maps"));
    }
}
