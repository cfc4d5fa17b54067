//! Joining and cutting: Concat, Split, Slice, Tile.

use coracle_model::RunError;
use coracle_tensor::Tensor;

use crate::error::{dtype_error, shape_error, unsupported};
use crate::ops::elementwise::{needed, optional};
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{
    append, around, axis, n_elements, pick, strides, tensor, to_i64s, walk, zeros,
};

pub(super) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    Some(match name {
        "Concat" => build
            .attributes
            .int("axis")
            // The first version had a default.
            .and_then(|at| function(at.unwrap_or(1), |at, inputs| concat(*at, inputs))),
        "Split" => split(build),
        "Slice" => slice(build),
        "Tile" => {
            if build.opset < 6 {
                return Some(Err(unsupported("Tile of operator sets before 6")));
            }
            function((), |(), inputs| tile(inputs))
        }
        _ => return None,
    })
}

fn concat(at: i64, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let first = needed(inputs, 0)?;
    let at = axis(at, first.shape().len())?;
    let all = (0..inputs.len()).map(|index| needed(inputs, index));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let mut shape = first.shape().to_vec();
    shape[at] = 0;
    for part in &all {
        let fits = part.shape().len() == shape.len()
            && (0..shape.len()).all(|axis| axis == at || part.shape()[axis] == shape[axis]);
        if !fits {
            return Err(shape_error(format!(
                "shapes {:?} and {:?} are joined along axis {at}",
                first.shape(),
                part.shape()
            )));
        }
        shape[at] += part.shape()[at];
    }
    n_elements(&shape)?;
    let (n_outer, _, inner) = around(&shape, at);
    let mut values = zeros(first.dtype(), 0);
    for outer in 0..n_outer {
        for part in &all {
            let size = part.shape()[at] * inner;
            if !append(&mut values, part.values(), outer * size, (outer + 1) * size) {
                return Err(dtype_error(format!(
                    "{} and {} are joined",
                    first.dtype(),
                    part.dtype()
                )));
            }
        }
    }
    Ok(vec![tensor(shape, values)?])
}

#[derive(Debug)]
struct Split {
    axis: i64,
    sizes: Option<Vec<i64>>,
    n_outputs: usize,
}

fn split(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    attributes.ignore("num_outputs");
    let split = Split {
        axis: attributes.int("axis")?.unwrap_or(0),
        sizes: match attributes.has("split") {
            true => Some(attributes.ints("split")?.to_vec()),
            false => None,
        },
        n_outputs: build.n_outputs,
    };
    function(split, |split, inputs| {
        let input = needed(inputs, 0)?;
        let shape = input.shape();
        let at = axis(split.axis, shape.len())?;
        let sizes = match (&split.sizes, optional(inputs, 1)) {
            (Some(sizes), _) => sizes.clone(),
            (None, Some(sizes)) => to_i64s(sizes)?,
            (None, None) => {
                let n = split.n_outputs.max(1);
                let chunk = shape[at].div_ceil(n);
                let sizes = (0..n).map(|part| {
                    let left = shape[at].saturating_sub(part * chunk);
                    i64::try_from(left.min(chunk)).unwrap_or(0)
                });
                sizes.collect()
            }
        };
        let sizes: Option<Vec<usize>> = sizes
            .into_iter()
            .map(|size| usize::try_from(size).ok().filter(|&size| size <= shape[at]))
            .collect();
        let sizes = sizes.filter(|sizes| sizes.iter().sum::<usize>() == shape[at]);
        let sizes =
            sizes.ok_or_else(|| shape_error(format!("axis {at} of shape {shape:?} is split")))?;
        let own = strides(shape);
        let mut first = 0;
        let parts = sizes.into_iter().map(|size| {
            let mut part = shape.to_vec();
            part[at] = size;
            let places = walk(&part, &own, first * own[at]);
            first += size;
            tensor(part, pick(input.values(), &places))
        });
        parts.collect()
    })
}

/// Starts, ends and axes, where they are attributes, as before version 10.
#[derive(Debug)]
struct Slice {
    attributes: Option<[Vec<i64>; 3]>,
}

fn slice(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let slice = Slice {
        attributes: match attributes.has("starts") {
            false => None,
            true => Some([
                attributes.ints("starts")?.to_vec(),
                attributes.ints("ends")?.to_vec(),
                attributes.ints("axes")?.to_vec(),
            ]),
        },
    };
    function(slice, |slice, inputs| {
        let input = needed(inputs, 0)?;
        let rank = input.shape().len();
        let list = |index: usize| optional(inputs, index).map(to_i64s).transpose();
        let (starts, ends, axes, steps) = match &slice.attributes {
            Some([starts, ends, axes]) => {
                let axes = Some(axes.clone()).filter(|axes| !axes.is_empty());
                (starts.clone(), ends.clone(), axes, None)
            }
            None => (
                to_i64s(needed(inputs, 1)?)?,
                to_i64s(needed(inputs, 2)?)?,
                list(3)?,
                list(4)?,
            ),
        };
        let axes = axes.unwrap_or_else(|| (0..).take(starts.len()).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(shape_error("starts, ends, axes and steps differ in length"));
        }
        // For each axis its first index, how many, and how far apart.
        let mut cuts: Vec<(i64, usize, i64)> =
            input.shape().iter().map(|&size| (0, size, 1)).collect();
        for (((&start, &end), &at), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let at = axis(at, rank)?;
            cuts[at] = cut(input.shape()[at], start, end, step)?;
        }
        picked(input, &cuts)
    })
}

/// Returns the first index, the number and the distance of what a slice takes of an axis.
fn cut(size: usize, start: i64, end: i64, step: i64) -> Result<(i64, usize, i64), RunError> {
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let from_front = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (start, end) = (from_front(start), from_front(end));
    let (start, span) = match step {
        0 => return Err(shape_error("a step of 0")),
        1.. => {
            let (start, end) = (start.clamp(0, size), end.clamp(0, size));
            (start, end - start)
        }
        _ => {
            let (start, end) = (start.clamp(-1, size - 1), end.clamp(-1, size - 1));
            (start, start - end)
        }
    };
    let n = if span <= 0 {
        0
    } else {
        (span - 1) / step.saturating_abs() + 1
    };
    Ok((start, usize::try_from(n).unwrap_or(0), step))
}

fn picked(input: &Tensor, cuts: &[(i64, usize, i64)]) -> Result<Vec<Tensor>, RunError> {
    let shape: Vec<usize> = cuts.iter().map(|&(_, n, _)| n).collect();
    let n = n_elements(&shape)?;
    let own: Vec<i64> = strides(input.shape())
        .into_iter()
        .map(|stride| i64::try_from(stride).unwrap_or(0))
        .collect();
    let mut places = Vec::with_capacity(n);
    let mut counter = vec![0_i64; shape.len()];
    for _ in 0..n {
        let place: i64 = counter
            .iter()
            .zip(cuts)
            .zip(&own)
            .map(|((&count, &(start, _, step)), &stride)| (start + count * step) * stride)
            .sum();
        places.push(usize::try_from(place).unwrap_or(0));
        for axis in (0..shape.len()).rev() {
            counter[axis] += 1;
            if usize::try_from(counter[axis]).is_ok_and(|count| count < shape[axis]) {
                break;
            }
            counter[axis] = 0;
        }
    }
    Ok(vec![tensor(shape, pick(input.values(), &places))?])
}

fn tile(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let repeats = to_i64s(needed(inputs, 1)?)?;
    let repeats: Option<Vec<usize>> = repeats
        .into_iter()
        .map(|repeat| usize::try_from(repeat).ok())
        .collect();
    let repeats = repeats.filter(|repeats| repeats.len() == input.shape().len());
    let repeats = repeats.ok_or_else(|| shape_error("repeats do not fit the axes"))?;
    // Every axis becomes two: how often, and the axis itself.
    let (mut double, mut steps, mut shape) = (Vec::new(), Vec::new(), Vec::new());
    for ((&size, &repeat), stride) in input
        .shape()
        .iter()
        .zip(&repeats)
        .zip(strides(input.shape()))
    {
        double.extend([repeat, size]);
        steps.extend([0, stride]);
        shape.push(size.saturating_mul(repeat));
    }
    n_elements(&shape)?;
    let values = pick(input.values(), &walk(&double, &steps, 0));
    Ok(vec![tensor(shape, values)?])
}
