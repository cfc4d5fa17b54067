//! New shapes for the same elements, and tensors made of shapes.

use coracle_model::{LoadError, RunError};
use coracle_tensor::{DType, Tensor, Values};

use crate::error::{dtype_error, malformed, shape_error, unsupported};
use crate::ops::elementwise::{needed, optional};
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{
    axis, broadcast, n_elements, pick, stretched, strides, tensor, to_i64s, walk, zeros,
};

pub(super) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    let attributes = &build.attributes;
    Some(match name {
        "Reshape" => reshape(build),
        "Flatten" => attributes.int("axis").and_then(|at| {
            function(at.unwrap_or(1), |at, inputs| {
                let input = needed(inputs, 0)?;
                let rank = input.shape().len();
                let at = match i64::try_from(rank) {
                    Ok(rank) if rank == *at => input.shape().len(),
                    _ => axis(*at, rank.max(1))?,
                };
                let before = input.shape()[..at].iter().product();
                let after = input.shape()[at..].iter().product();
                reshaped(input, vec![before, after])
            })
        }),
        "Squeeze" => axes_attribute(build).and_then(|axes| function(axes, squeeze)),
        "Unsqueeze" => axes_attribute(build).and_then(|axes| function(axes, unsqueeze)),
        "Shape" => shape_of(build),
        "Size" => function((), |(), inputs| {
            let n = i64::try_from(needed(inputs, 0)?.values().len()).unwrap_or(i64::MAX);
            Ok(vec![tensor(vec![], Values::I64(vec![n].into()))?])
        }),
        "Transpose" => attributes
            .ints("perm")
            .and_then(|order| function(order.to_vec(), |order, inputs| transpose(order, inputs))),
        "Expand" => function((), |(), inputs| {
            let input = needed(inputs, 0)?;
            let wanted = sizes(needed(inputs, 1)?)?;
            let shape = broadcast(input.shape(), &wanted)?;
            n_elements(&shape)?;
            let values = pick(input.values(), &stretched(&shape, input.shape()));
            Ok(vec![tensor(shape, values)?])
        }),
        "Constant" => constant(build),
        "ConstantOfShape" => constant_of_shape(build),
        "Dropout" => dropout(build),
        _ => return None,
    })
}

/// Returns sizes that a tensor of integers gives.
fn sizes(input: &Tensor) -> Result<Vec<usize>, RunError> {
    let sizes = to_i64s(input)?.into_iter().map(|size| {
        usize::try_from(size).map_err(|_negative| shape_error(format!("a size of {size}")))
    });
    sizes.collect()
}

fn reshaped(input: &Tensor, shape: Vec<usize>) -> Result<Vec<Tensor>, RunError> {
    let n: Option<usize> = shape
        .iter()
        .try_fold(1_usize, |n, &size| n.checked_mul(size));
    if n != Some(input.values().len()) {
        return Err(shape_error(format!(
            "shape {:?} cannot become {shape:?}",
            input.shape()
        )));
    }
    Ok(vec![tensor(shape, input.values().clone())?])
}

#[derive(Debug)]
struct Reshape {
    /// The shape, where it is an attribute.
    shape: Option<Vec<i64>>,
    allows_zero: bool,
}

fn reshape(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    attributes.ignore("consumed_inputs");
    let shape = attributes
        .has("shape")
        .then(|| attributes.ints("shape"))
        .transpose()?;
    let reshape = Reshape {
        shape: shape.map(<[i64]>::to_vec),
        allows_zero: attributes.flag("allowzero", false)?,
    };
    function(reshape, |reshape, inputs| {
        let input = needed(inputs, 0)?;
        let wanted = match &reshape.shape {
            Some(shape) => shape.clone(),
            None => to_i64s(needed(inputs, 1)?)?,
        };
        let mut shape = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (at, &size) in wanted.iter().enumerate() {
            shape.push(match size {
                -1 if open.is_none() => {
                    open = Some(at);
                    1
                }
                0 if !reshape.allows_zero => *input.shape().get(at).ok_or_else(|| {
                    shape_error(format!("shape {wanted:?} keeps a size that is not there"))
                })?,
                size => usize::try_from(size)
                    .map_err(|_negative| shape_error(format!("shape {wanted:?}")))?,
            });
        }
        if let Some(at) = open {
            let rest = n_elements(&shape)?;
            let n = input.values().len();
            if rest == 0 || n % rest != 0 {
                return Err(shape_error(format!(
                    "shape {:?} cannot become {wanted:?}",
                    input.shape()
                )));
            }
            shape[at] = n / rest;
        }
        reshaped(input, shape)
    })
}

/// Returns the axes, where they are an attribute, as before version 13.
fn axes_attribute(build: &Build<'_, '_>) -> Result<Option<Vec<i64>>, LoadError> {
    let attributes = &build.attributes;
    Ok(match attributes.has("axes") {
        true => Some(attributes.ints("axes")?.to_vec()),
        false => None,
    })
}

/// Returns the axes from the attribute or the second input; `None` if neither is there.
pub(crate) fn axes(
    attribute: &Option<Vec<i64>>,
    inputs: &[Option<&Tensor>],
) -> Result<Option<Vec<i64>>, RunError> {
    match (attribute, optional(inputs, 1)) {
        (Some(axes), _) => Ok(Some(axes.clone())),
        (None, Some(axes)) => Ok(Some(to_i64s(axes)?)),
        (None, None) => Ok(None),
    }
}

fn squeeze(
    attribute: &Option<Vec<i64>>,
    inputs: &[Option<&Tensor>],
) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let shape = input.shape();
    let drops = match axes(attribute, inputs)? {
        None => shape.iter().map(|&size| size == 1).collect(),
        Some(axes) => {
            let mut drops = vec![false; shape.len()];
            for at in axes {
                let at = axis(at, shape.len())?;
                if shape[at] != 1 {
                    return Err(shape_error(format!(
                        "axis {at} of shape {shape:?} is not 1"
                    )));
                }
                drops[at] = true;
            }
            drops
        }
    };
    let kept = shape.iter().zip(drops).filter(|(_, drops)| !drops);
    let kept = kept.map(|(&size, _)| size).collect();
    reshaped(input, kept)
}

fn unsqueeze(
    attribute: &Option<Vec<i64>>,
    inputs: &[Option<&Tensor>],
) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let axes = axes(attribute, inputs)?.ok_or_else(|| shape_error("axes are missing"))?;
    let rank = input.shape().len() + axes.len();
    let mut is_new = vec![false; rank];
    for at in axes {
        let at = axis(at, rank)?;
        if std::mem::replace(&mut is_new[at], true) {
            return Err(shape_error(format!("axis {at} is named twice")));
        }
    }
    let mut sizes = input.shape().iter().copied();
    let shape = is_new.into_iter().map(|is_new| match is_new {
        true => 1,
        false => sizes.next().unwrap_or(1),
    });
    reshaped(input, shape.collect())
}

fn shape_of(build: &Build<'_, '_>) -> Built {
    let start = build.attributes.int("start")?.unwrap_or(0);
    let end = build.attributes.int("end")?;
    function((start, end), |&(start, end), inputs| {
        let shape = needed(inputs, 0)?.shape();
        let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
        let clamp = |at: i64| {
            let at = if at < 0 { at.saturating_add(rank) } else { at };
            usize::try_from(at.clamp(0, rank)).unwrap_or(0)
        };
        let (first, last) = (clamp(start), clamp(end.unwrap_or(rank)));
        let part = shape.get(first..last).unwrap_or_default();
        let sizes: Vec<i64> = part
            .iter()
            .map(|&size| i64::try_from(size).unwrap_or(i64::MAX))
            .collect();
        Ok(vec![Tensor::from_values(Values::I64(sizes.into()))])
    })
}

fn transpose(order: &[i64], inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let rank = input.shape().len();
    let order: Vec<usize> = match order {
        [] => (0..rank).rev().collect(),
        order => {
            let order = order.iter().map(|&at| axis(at, rank));
            order.collect::<Result<_, _>>()?
        }
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(shape_error(format!("order {order:?} of {rank} axes")));
    }
    let shape: Vec<usize> = order.iter().map(|&at| input.shape()[at]).collect();
    let own = strides(input.shape());
    let steps: Vec<usize> = order.iter().map(|&at| own[at]).collect();
    let values = pick(input.values(), &walk(&shape, &steps, 0));
    Ok(vec![tensor(shape, values)?])
}

fn constant(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let floats = |values: &[f32]| Values::F32(values.to_vec().into());
    let value = if let Some(tensor) = attributes.tensor("value")? {
        tensor.clone()
    } else if let Some(value) = attributes.float("value_float")? {
        scalar(Values::F32(vec![value].into()))?
    } else if let Some(value) = attributes.int("value_int")? {
        scalar(Values::I64(vec![value].into()))?
    } else if let Some(text) = attributes.text("value_string")? {
        scalar(Values::Bytes([text].into_iter().collect()))?
    } else if attributes.has("value_floats") {
        Tensor::from_values(floats(attributes.floats("value_floats")?))
    } else if attributes.has("value_ints") {
        Tensor::from_values(Values::I64(attributes.ints("value_ints")?.to_vec().into()))
    } else if attributes.has("value_strings") {
        let texts = attributes.texts("value_strings")?;
        Tensor::from_values(Values::Bytes(texts.iter().collect()))
    } else {
        return Err(unsupported(
            "a constant of another kind than tensors, numbers and strings",
        ));
    };
    function(value, |value, _inputs| Ok(vec![value.clone()]))
}

fn scalar(values: Values) -> Result<Tensor, LoadError> {
    Tensor::try_new(vec![], values).map_err(|error| malformed(error.to_string()))
}

fn constant_of_shape(build: &Build<'_, '_>) -> Built {
    let value = match build.attributes.tensor("value")? {
        None => Values::F32(vec![0.0].into()),
        Some(value) if value.values().len() == 1 => value.values().clone(),
        Some(_) => return Err(malformed("attribute 'value' is not of one element")),
    };
    function(value, |value, inputs| {
        let shape = sizes(needed(inputs, 0)?)?;
        let n = n_elements(&shape)?;
        Ok(vec![tensor(shape, pick(value, &vec![0; n]))?])
    })
}

/// Builds `Dropout`, which drops nothing outside of training.
fn dropout(build: &Build<'_, '_>) -> Built {
    for name in ["ratio", "seed", "is_test", "consumed_inputs"] {
        build.attributes.ignore(name);
    }
    function((), |(), inputs| {
        if let Some(training) = optional(inputs, 2)
            && matches!(training.values(), Values::Bool(items) if items.contains(&true))
        {
            return Err(dtype_error("Dropout in training"));
        }
        let input = needed(inputs, 0)?;
        let Values::Bool(mask) = zeros(DType::Bool, input.values().len()) else {
            return Err(dtype_error("no mask"));
        };
        let mask = Values::Bool(mask.into_iter().map(|dropped| !dropped).collect());
        let mask = tensor(input.shape().to_vec(), mask)?;
        Ok(vec![input.clone(), mask])
    })
}
