//! Look-ups by indices and conditions: Gather, GatherElements, GatherND, Compress, NonZero, OneHot, Range.

use coracle_model::RunError;
use coracle_tensor::{Tensor, Values};

use crate::error::{dtype_error, shape_error, value_error};
use crate::ops::elementwise::needed;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{
    ELEMENTS_MAX, append, around, axis, n_elements, pick, strides, tensor, to_f64s, to_i64s,
};

pub(super) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    let at = |default: i64| -> Result<i64, coracle_model::LoadError> {
        Ok(build.attributes.int("axis")?.unwrap_or(default))
    };
    Some(match name {
        "Gather" => at(0).and_then(|at| function(at, |at, inputs| gather(*at, inputs))),
        "GatherElements" => {
            at(0).and_then(|at| function(at, |at, inputs| gather_elements(*at, inputs)))
        }
        "Compress" => build
            .attributes
            .int("axis")
            .and_then(|at| function(at, |at, inputs| compress(*at, inputs))),
        "NonZero" => function((), |(), inputs| non_zero(inputs)),
        "OneHot" => at(-1).and_then(|at| function(at, |at, inputs| one_hot(*at, inputs))),
        "Range" => function((), |(), inputs| range(inputs)),
        _ => return None,
    })
}

/// Returns an index into an axis; negative ones count from the end.
fn place(index: i64, size: usize) -> Result<usize, RunError> {
    let signed = i64::try_from(size).unwrap_or(i64::MAX);
    let at = if index < 0 { index + signed } else { index };
    let at = usize::try_from(at).ok().filter(|&at| at < size);
    at.ok_or_else(|| value_error(format!("index {index} of {size}")))
}

fn gather(at: i64, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (input, indices) = (needed(inputs, 0)?, needed(inputs, 1)?);
    let at = axis(at, input.shape().len())?;
    let (n_outer, size, inner) = around(input.shape(), at);
    let places = to_i64s(indices)?
        .into_iter()
        .map(|index| place(index, size));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let mut shape = input.shape()[..at].to_vec();
    shape.extend_from_slice(indices.shape());
    shape.extend_from_slice(&input.shape()[at + 1..]);
    let mut all = Vec::with_capacity(n_elements(&shape)?);
    for outer in 0..n_outer {
        for &place in &places {
            let first = (outer * size + place) * inner;
            all.extend(first..first + inner);
        }
    }
    Ok(vec![tensor(shape, pick(input.values(), &all))?])
}

fn gather_elements(at: i64, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (input, indices) = (needed(inputs, 0)?, needed(inputs, 1)?);
    let rank = input.shape().len();
    let at = axis(at, rank)?;
    let fits = indices.shape().len() == rank
        && (0..rank).all(|axis| axis == at || indices.shape()[axis] <= input.shape()[axis]);
    if !fits {
        return Err(shape_error(format!(
            "indices of shape {:?} into shape {:?}",
            indices.shape(),
            input.shape()
        )));
    }
    let own = strides(input.shape());
    let mut steps = own.clone();
    steps[at] = 0;
    let starts = crate::ops::values::walk(indices.shape(), &steps, 0);
    let places = to_i64s(indices)?
        .into_iter()
        .zip(starts)
        .map(|(index, start)| Ok(start + place(index, input.shape()[at])? * own[at]));
    let places = places.collect::<Result<Vec<_>, RunError>>()?;
    let values = pick(input.values(), &places);
    Ok(vec![tensor(indices.shape().to_vec(), values)?])
}

fn compress(at: Option<i64>, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (input, condition) = (needed(inputs, 0)?, needed(inputs, 1)?);
    let Values::Bool(condition) = condition.values() else {
        return Err(dtype_error("the condition is not of BOOL"));
    };
    let flat = [input.values().len()];
    let (shape, at) = match at {
        None => (&flat[..], 0),
        Some(at) => (input.shape(), axis(at, input.shape().len())?),
    };
    let (n_outer, size, inner) = around(shape, at);
    let chosen: Vec<usize> = (0..size)
        .filter(|&index| condition.get(index) == Some(&true))
        .collect();
    let mut places = Vec::new();
    for outer in 0..n_outer {
        for &index in &chosen {
            let first = (outer * size + index) * inner;
            places.extend(first..first + inner);
        }
    }
    let mut shape = shape.to_vec();
    shape[at] = chosen.len();
    Ok(vec![tensor(shape, pick(input.values(), &places))?])
}

fn non_zero(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let values = to_f64s(input)?;
    let own = strides(input.shape());
    let places: Vec<usize> = (0..values.len()).filter(|&at| values[at] != 0.0).collect();
    let rank = input.shape().len();
    let mut coordinates = Vec::with_capacity(rank * places.len());
    for (stride, size) in own.iter().zip(input.shape()) {
        for &at in &places {
            let coordinate = at / stride.max(&1) % size.max(&1);
            coordinates.push(i64::try_from(coordinate).unwrap_or(0));
        }
    }
    let shape = vec![rank, places.len()];
    Ok(vec![tensor(shape, Values::I64(coordinates.into()))?])
}

fn one_hot(at: i64, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (indices, depth, values) = (needed(inputs, 0)?, needed(inputs, 1)?, needed(inputs, 2)?);
    let depth = match to_f64s(depth)?.as_ref() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked"
        )]
        [depth] if *depth >= 0.0 && *depth < 1e9 => *depth as usize,
        _ => return Err(shape_error("depth is not one number")),
    };
    if values.values().len() != 2 {
        return Err(shape_error("values are not a pair"));
    }
    let at = axis(at, indices.shape().len() + 1)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(at, depth);
    let n = n_elements(&shape)?;
    let inner: usize = indices.shape()[at..].iter().product();
    let signed = i64::try_from(depth).unwrap_or(i64::MAX);
    let mut picked = vec![0; n];
    for (place, index) in to_f64s(indices)?.iter().enumerate() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an index, cut as ONNX says"
        )]
        let index = *index as i64;
        let hot = if index < 0 {
            index.saturating_add(signed)
        } else {
            index
        };
        if let Some(hot) = usize::try_from(hot).ok().filter(|&hot| hot < depth) {
            let (outer, inside) = (place / inner.max(1), place % inner.max(1));
            picked[(outer * depth + hot) * inner + inside] = 1;
        }
    }
    Ok(vec![tensor(shape, pick(values.values(), &picked))?])
}

fn range(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let bounds = [needed(inputs, 0)?, needed(inputs, 1)?, needed(inputs, 2)?];
    let mut all = bounds[0].values().clone();
    for bound in &bounds[1..] {
        if !append(&mut all, bound.values(), 0, bound.values().len()) {
            return Err(dtype_error("start, limit and delta differ in datatype"));
        }
    }
    let count = |start: f64, limit: f64, delta: f64| {
        let n = ((limit - start) / delta).ceil().max(0.0);
        #[expect(clippy::cast_precision_loss, reason = "a bound")]
        let most = ELEMENTS_MAX as f64;
        if n.is_nan() || n > most {
            return Err(value_error("a range without end, or too long"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked"
        )]
        Ok(n as usize)
    };
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let values = match all {
        Values::F32(items) => match items[..] {
            [start, limit, delta] => {
                let n = count(start.into(), limit.into(), delta.into())?;
                Values::F32((0..n).map(|step| start + step as f32 * delta).collect())
            }
            _ => return Err(shape_error("bounds are not scalars")),
        },
        Values::F64(items) => match items[..] {
            [start, limit, delta] => {
                let n = count(start, limit, delta)?;
                Values::F64((0..n).map(|step| start + step as f64 * delta).collect())
            }
            _ => return Err(shape_error("bounds are not scalars")),
        },
        Values::I64(items) => match items[..] {
            [start, limit, delta] => {
                let n = count(start as f64, limit as f64, delta as f64)?;
                let steps = (0..).take(n);
                Values::I64(
                    steps
                        .map(|step: i64| start.wrapping_add(step.wrapping_mul(delta)))
                        .collect(),
                )
            }
            _ => return Err(shape_error("bounds are not scalars")),
        },
        Values::I32(items) => match items[..] {
            [start, limit, delta] => {
                let n = count(start.into(), limit.into(), delta.into())?;
                let steps = (0..).take(n);
                Values::I32(
                    steps
                        .map(|step: i32| start.wrapping_add(step.wrapping_mul(delta)))
                        .collect(),
                )
            }
            _ => return Err(shape_error("bounds are not scalars")),
        },
        other => return Err(dtype_error(format!("a range of {}", other.dtype()))),
    };
    Ok(vec![Tensor::from_values(values)])
}
