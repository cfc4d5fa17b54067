//! Along axes: sums and the like, the largest and their places, softmax, running sums.

use coracle_model::RunError;
use coracle_tensor::{DType, Tensor, Values};

use crate::error::{dtype_error, shape_error, unsupported};
use crate::ops::elementwise::{narrowed, needed, optional, widened};
use crate::ops::layout_axes;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{around, axis, exact_f64s, pick, strides, tensor, to_f64s, to_i64s, walk};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    SumSquare,
    L1,
    L2,
    LogSum,
    LogSumExp,
}

#[derive(Debug)]
struct Reduce {
    reduction: Reduction,
    axes: Option<Vec<i64>>,
    keeps: bool,
    /// What no axes mean: all of them, or none.
    empty_is_none: bool,
}

/// Builds an operator of this family.
pub(crate) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    let reduction = match name {
        "ReduceSum" => Reduction::Sum,
        "ReduceMean" => Reduction::Mean,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceSumSquare" => Reduction::SumSquare,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        "ArgMax" => return Some(arg(build, true)),
        "ArgMin" => return Some(arg(build, false)),
        "Softmax" => return Some(softmax(build, false)),
        "LogSoftmax" => return Some(softmax(build, true)),
        "CumSum" => return Some(cum_sum(build)),
        "LpNormalization" => return Some(lp_normalization(build)),
        "TopK" => return Some(top_k(build)),
        _ => return None,
    };
    Some(reduce(build, reduction))
}

fn reduce(build: &Build<'_, '_>, reduction: Reduction) -> Built {
    let attributes = &build.attributes;
    let reduce = Reduce {
        reduction,
        axes: match attributes.has("axes") {
            true => Some(attributes.ints("axes")?.to_vec()),
            false => None,
        },
        keeps: attributes.flag("keepdims", true)?,
        empty_is_none: attributes.flag("noop_with_empty_axes", false)?,
    };
    function(reduce, |reduce, inputs| {
        let input = needed(inputs, 0)?;
        let axes = layout_axes(&reduce.axes, inputs)?.unwrap_or_default();
        if axes.is_empty() && reduce.empty_is_none {
            return Ok(vec![input.clone()]);
        }
        let rank = input.shape().len();
        let mut reduced = vec![axes.is_empty(); rank];
        for at in axes {
            reduced[axis(at, rank)?] = true;
        }
        if let Some(wide) = widened(input) {
            let (shape, values) = apply(reduce, &wide, &reduced)?.into_parts();
            return Ok(vec![tensor(shape, narrowed(values, input.dtype()))?]);
        }
        Ok(vec![apply(reduce, input, &reduced)?])
    })
}

fn apply(reduce: &Reduce, input: &Tensor, reduced: &[bool]) -> Result<Tensor, RunError> {
    let own = strides(input.shape());
    let (mut outer, mut inner) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let mut shape = Vec::new();
    for ((&size, &stride), &is_reduced) in input.shape().iter().zip(&own).zip(reduced) {
        let side = if is_reduced { &mut inner } else { &mut outer };
        side.0.push(size);
        side.1.push(stride);
        match (is_reduced, reduce.keeps) {
            (false, _) => shape.push(size),
            (true, true) => shape.push(1),
            (true, false) => {}
        }
    }
    let starts = walk(&outer.0, &outer.1, 0);
    let offsets = walk(&inner.0, &inner.1, 0);
    let values = reduced_values(reduce.reduction, input, &starts, &offsets)?;
    tensor(shape, values)
}

/// Reduces the group of elements at `offsets` from each of `starts`.
fn reduced_values(
    reduction: Reduction,
    input: &Tensor,
    starts: &[usize],
    offsets: &[usize],
) -> Result<Values, RunError> {
    Ok(match input.values() {
        Values::F32(items) => {
            let items = starts.iter().map(|&start| {
                let group = offsets
                    .iter()
                    .map(|&offset| f64::from(items[start + offset]));
                #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
                let result = of_group(reduction, group) as f32;
                result
            });
            Values::F32(items.collect())
        }
        Values::F64(items) => {
            let items = starts.iter().map(|&start| {
                of_group(
                    reduction,
                    offsets.iter().map(|&offset| items[start + offset]),
                )
            });
            Values::F64(items.collect())
        }
        Values::I64(items) => {
            let items = starts.iter().map(|&start| {
                of_integers(
                    reduction,
                    offsets.iter().map(|&offset| items[start + offset]),
                )
            });
            Values::I64(items.collect::<Result<_, _>>()?)
        }
        Values::I32(items) => {
            let items = starts.iter().map(|&start| {
                let group = offsets
                    .iter()
                    .map(|&offset| i64::from(items[start + offset]));
                #[expect(clippy::cast_possible_truncation, reason = "wraps as 32-bit sums do")]
                of_integers(reduction, group).map(|result| result as i32)
            });
            Values::I32(items.collect::<Result<_, _>>()?)
        }
        Values::U8(items) if matches!(reduction, Reduction::Max | Reduction::Min) => {
            let items = starts.iter().map(|&start| {
                let group = offsets
                    .iter()
                    .map(|&offset| i64::from(items[start + offset]));
                of_integers(reduction, group).map(|result| u8::try_from(result).unwrap_or(u8::MAX))
            });
            Values::U8(items.collect::<Result<_, _>>()?)
        }
        other => return Err(dtype_error(format!("{reduction:?} of {}", other.dtype()))),
    })
}

/// Reduces numbers; sums are in double precision, in order.
fn of_group(reduction: Reduction, group: impl Iterator<Item = f64> + Clone) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let count = || group.clone().count() as f64;
    let sum = |each: fn(f64) -> f64| group.clone().map(each).fold(0.0, |sum, item| sum + item);
    let best = |prefers: fn(f64, f64) -> bool| {
        let mut group = group.clone();
        let first = group.next()?;
        Some(group.fold(first, |best, item| {
            // NaN stays once it came.
            if !best.is_nan() && (item.is_nan() || prefers(item, best)) {
                item
            } else {
                best
            }
        }))
    };
    match reduction {
        Reduction::Sum => sum(|item| item),
        Reduction::Mean => sum(|item| item) / count(),
        Reduction::Prod => group.fold(1.0, |product, item| product * item),
        Reduction::SumSquare => sum(|item| item * item),
        Reduction::L1 => sum(f64::abs),
        Reduction::L2 => sum(|item| item * item).sqrt(),
        Reduction::LogSum => sum(|item| item).ln(),
        Reduction::LogSumExp => {
            let largest = group.clone().fold(f64::NEG_INFINITY, f64::max);
            if !largest.is_finite() {
                return largest;
            }
            let sum: f64 = group.map(|item| (item - largest).exp()).sum();
            sum.ln() + largest
        }
        Reduction::Max => best(|item, best| item > best).unwrap_or(f64::NEG_INFINITY),
        Reduction::Min => best(|item, best| item < best).unwrap_or(f64::INFINITY),
    }
}

fn nothing() -> RunError {
    shape_error("the largest or smallest of no integers")
}

fn of_integers(
    reduction: Reduction,
    mut group: impl Iterator<Item = i64>,
) -> Result<i64, RunError> {
    Ok(match reduction {
        Reduction::Sum => group.fold(0, i64::wrapping_add),
        Reduction::Prod => group.fold(1, i64::wrapping_mul),
        Reduction::SumSquare => {
            group.fold(0, |sum, item| sum.wrapping_add(item.wrapping_mul(item)))
        }
        Reduction::L1 => group.fold(0, |sum, item| sum.wrapping_add(item.wrapping_abs())),
        Reduction::Mean => {
            let (sum, n) = group.fold((0_i64, 0_i64), |(sum, n), item| {
                (sum.wrapping_add(item), n + 1)
            });
            sum.checked_div(n).unwrap_or(0)
        }
        Reduction::Max => {
            let first = group.next().ok_or_else(nothing)?;
            group.fold(first, i64::max)
        }
        Reduction::Min => {
            let first = group.next().ok_or_else(nothing)?;
            group.fold(first, i64::min)
        }
        other => return Err(dtype_error(format!("{other:?} of integers"))),
    })
}

#[derive(Debug)]
struct Arg {
    axis: i64,
    keeps: bool,
    takes_last: bool,
    largest: bool,
}

fn arg(build: &Build<'_, '_>, largest: bool) -> Built {
    let attributes = &build.attributes;
    let arg = Arg {
        axis: attributes.int("axis")?.unwrap_or(0),
        keeps: attributes.flag("keepdims", true)?,
        takes_last: attributes.flag("select_last_index", false)?,
        largest,
    };
    function(arg, |arg, inputs| {
        let input = needed(inputs, 0)?;
        let at = axis(arg.axis, input.shape().len())?;
        let (n_outer, size, inner) = around(input.shape(), at);
        if size == 0 {
            return Err(shape_error("the largest or smallest of nothing"));
        }
        let values = exact_f64s(input)?;
        let mut places = Vec::with_capacity(n_outer * inner);
        for outer in 0..n_outer {
            for inside in 0..inner {
                let value = |index: usize| values[(outer * size + index) * inner + inside];
                let mut best = 0;
                for index in 1..size {
                    let (item, so_far) = (value(index), value(best));
                    let is_better = if arg.largest {
                        item > so_far
                    } else {
                        item < so_far
                    };
                    if is_better || arg.takes_last && item == so_far {
                        best = index;
                    }
                }
                places.push(i64::try_from(best).unwrap_or(0));
            }
        }
        let mut shape = input.shape().to_vec();
        if arg.keeps {
            shape[at] = 1;
        } else {
            shape.remove(at);
        }
        Ok(vec![tensor(shape, Values::I64(places.into()))?])
    })
}

#[derive(Debug)]
struct Softmax {
    axis: i64,
    /// Whether all axes from `axis` on are one, as before version 13.
    flattens: bool,
    is_log: bool,
}

fn softmax(build: &Build<'_, '_>, is_log: bool) -> Built {
    let flattens = build.opset < 13;
    let default = if flattens { 1 } else { -1 };
    let softmax = Softmax {
        axis: build.attributes.int("axis")?.unwrap_or(default),
        flattens,
        is_log,
    };
    function(softmax, |softmax, inputs| {
        let input = needed(inputs, 0)?;
        let wide = widened(input);
        let wide = wide.as_ref().unwrap_or(input);
        let shape = input.shape();
        let at = axis(softmax.axis, shape.len())?;
        let (n_outer, size, inner) = match softmax.flattens {
            true => (
                shape[..at].iter().product(),
                shape[at..].iter().product(),
                1,
            ),
            false => around(shape, at),
        };
        let mut values = to_f64s(wide)?.into_owned();
        let is_double = matches!(wide.values(), Values::F64(_));
        if !is_double && !matches!(wide.values(), Values::F32(_)) {
            return Err(dtype_error(format!("softmax of {}", input.dtype())));
        }
        for outer in 0..n_outer {
            for inside in 0..inner {
                let place = |index: usize| (outer * size + index) * inner + inside;
                let largest = (0..size).fold(f64::NEG_INFINITY, |largest, index| {
                    largest.max(values[place(index)])
                });
                let sum: f64 = (0..size)
                    .map(|index| (values[place(index)] - largest).exp())
                    .sum();
                for index in 0..size {
                    let value = &mut values[place(index)];
                    *value = match softmax.is_log {
                        true => *value - largest - sum.ln(),
                        false => (*value - largest).exp() / sum,
                    };
                }
            }
        }
        Ok(vec![tensor(
            shape.to_vec(),
            rounded(values, input.dtype()),
        )?])
    })
}

/// Returns doubles in a floating-point datatype.
fn rounded(values: Vec<f64>, dtype: DType) -> Values {
    if dtype == DType::F64 {
        return Values::F64(values.into());
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
    let singles = values.into_iter().map(|value| value as f32).collect();
    narrowed(Values::F32(singles), dtype)
}

fn cum_sum(build: &Build<'_, '_>) -> Built {
    let exclusive = build.attributes.flag("exclusive", false)?;
    let reverse = build.attributes.flag("reverse", false)?;
    function((exclusive, reverse), |&(exclusive, reverse), inputs| {
        let (input, at) = (needed(inputs, 0)?, to_i64s(needed(inputs, 1)?)?);
        let at = axis(at.first().copied().unwrap_or(0), input.shape().len())?;
        let (n_outer, size, inner) = around(input.shape(), at);
        macro_rules! run {
            ($variant:ident, $items:expr, $zero:expr, $add:expr) => {{
                let mut sums = $items.to_vec();
                for outer in 0..n_outer {
                    for inside in 0..inner {
                        let mut sum = $zero;
                        for step in 0..size {
                            let index = if reverse { size - 1 - step } else { step };
                            let at = (outer * size + index) * inner + inside;
                            let before = sum;
                            sum = $add(sum, $items[at]);
                            sums[at] = if exclusive { before } else { sum };
                        }
                    }
                }
                Values::$variant(sums.into())
            }};
        }
        let values = match input.values() {
            Values::F32(items) => run!(F32, items, 0.0_f32, |a: f32, b: f32| a + b),
            Values::F64(items) => run!(F64, items, 0.0_f64, |a: f64, b: f64| a + b),
            Values::I64(items) => run!(I64, items, 0_i64, i64::wrapping_add),
            Values::I32(items) => run!(I32, items, 0_i32, i32::wrapping_add),
            other => return Err(dtype_error(format!("CumSum of {}", other.dtype()))),
        };
        Ok(vec![tensor(input.shape().to_vec(), values)?])
    })
}

/// Divides by the norm along an axis; where that is zero, the zeros stay.
fn lp_normalization(build: &Build<'_, '_>) -> Built {
    let at = build.attributes.int("axis")?.unwrap_or(-1);
    let is_square = match build.attributes.int("p")?.unwrap_or(2) {
        1 => false,
        2 => true,
        other => return Err(unsupported(format!("a norm of order {other}"))),
    };
    function((at, is_square), |&(at, is_square), inputs| {
        let input = needed(inputs, 0)?;
        if !matches!(input.values(), Values::F32(_) | Values::F64(_)) {
            return Err(dtype_error(format!("a norm of {}", input.dtype())));
        }
        let at = axis(at, input.shape().len())?;
        let (n_outer, size, inner) = around(input.shape(), at);
        let mut values = to_f64s(input)?.into_owned();
        for outer in 0..n_outer {
            for inside in 0..inner {
                let place = |index: usize| (outer * size + index) * inner + inside;
                let items = (0..size).map(|index| values[place(index)]);
                let norm = match is_square {
                    true => items.map(|item| item * item).sum::<f64>().sqrt(),
                    false => items.map(f64::abs).sum(),
                };
                if norm != 0.0 {
                    (0..size).for_each(|index| values[place(index)] /= norm);
                }
            }
        }
        let values = rounded(values, input.dtype());
        Ok(vec![tensor(input.shape().to_vec(), values)?])
    })
}

#[derive(Debug)]
struct TopK {
    axis: i64,
    largest: bool,
    /// The number, where it is an attribute, as before version 10.
    k: Option<i64>,
}

fn top_k(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    // Results always come sorted, which any order allows.
    attributes.ignore("sorted");
    let top_k = TopK {
        axis: attributes.int("axis")?.unwrap_or(-1),
        largest: attributes.flag("largest", true)?,
        k: attributes.int("k")?,
    };
    function(top_k, |top_k, inputs| {
        let input = needed(inputs, 0)?;
        let at = axis(top_k.axis, input.shape().len())?;
        let k = match (top_k.k, optional(inputs, 1)) {
            (Some(k), _) => k,
            (None, Some(k)) => to_i64s(k)?.first().copied().unwrap_or(-1),
            (None, None) => return Err(shape_error("k is missing")),
        };
        let (n_outer, size, inner) = around(input.shape(), at);
        let k = usize::try_from(k).ok().filter(|&k| k <= size);
        let k =
            k.ok_or_else(|| shape_error(format!("the top of {size} values, more are asked for")))?;
        let values = exact_f64s(input)?;
        let mut picked = vec![0; n_outer * k * inner];
        let mut indices = vec![0_i64; picked.len()];
        let mut order: Vec<usize> = Vec::with_capacity(size);
        for outer in 0..n_outer {
            for inside in 0..inner {
                let place = |index: usize| (outer * size + index) * inner + inside;
                order.clear();
                order.extend(0..size);
                // Equal values keep their order: the lower index comes first.
                order.sort_by(|&a, &b| {
                    // Adding zero makes both zeros one.
                    let (a, b) = (values[place(a)] + 0.0, values[place(b)] + 0.0);
                    if top_k.largest {
                        b.total_cmp(&a)
                    } else {
                        a.total_cmp(&b)
                    }
                });
                for (rank, &index) in order.iter().take(k).enumerate() {
                    let to = (outer * k + rank) * inner + inside;
                    picked[to] = place(index);
                    indices[to] = i64::try_from(index).unwrap_or(0);
                }
            }
        }
        let mut shape = input.shape().to_vec();
        shape[at] = k;
        Ok(vec![
            tensor(shape.clone(), pick(input.values(), &picked))?,
            tensor(shape, Values::I64(indices.into()))?,
        ])
    })
}
