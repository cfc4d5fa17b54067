//! Element by element: arithmetic, comparisons, logic, casts, and functions of one number.

mod arithmetic;
mod cast;
mod compare;
mod unary;

use coracle_model::RunError;
use coracle_tensor::{DType, Tensor, Values, f16};

use crate::error::internal;
use crate::ops::registry::{Build, Built};
use crate::ops::values::{broadcast, stretched};

/// Builds an operator of this family.
pub(crate) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    arithmetic::build(name, build)
        .or_else(|| compare::build(name, build))
        .or_else(|| unary::build(name, build))
        .or_else(|| cast::build(name, build))
}

/// Returns an input that has to be there.
pub(crate) fn needed<'t>(
    inputs: &[Option<&'t Tensor>],
    index: usize,
) -> Result<&'t Tensor, RunError> {
    optional(inputs, index).ok_or_else(|| internal(format!("input {index} is missing")))
}

/// Returns an input that may be left out.
pub(crate) fn optional<'t>(inputs: &[Option<&'t Tensor>], index: usize) -> Option<&'t Tensor> {
    inputs.get(index).copied().flatten()
}

/// Applies a function of two elements, stretching both tensors to one shape.
pub(crate) fn zip<A: Copy, B: Copy, C>(
    (a, a_shape): (&[A], &[usize]),
    (b, b_shape): (&[B], &[usize]),
    apply: impl Fn(A, B) -> C,
) -> Result<(Vec<usize>, Vec<C>), RunError> {
    if a_shape == b_shape {
        let results = a.iter().zip(b).map(|(&a, &b)| apply(a, b)).collect();
        return Ok((a_shape.to_vec(), results));
    }
    let shape = broadcast(a_shape, b_shape)?;
    crate::ops::values::n_elements(&shape)?;
    let results = match (a, b) {
        (_, [b]) if shape == a_shape => a.iter().map(|&a| apply(a, *b)).collect(),
        ([a], _) if shape == b_shape => b.iter().map(|&b| apply(*a, b)).collect(),
        _ => {
            let places = stretched(&shape, a_shape)
                .into_iter()
                .zip(stretched(&shape, b_shape));
            places.map(|(at_a, at_b)| apply(a[at_a], b[at_b])).collect()
        }
    };
    Ok((shape, results))
}

/// Returns a tensor of half precision in single precision; `None` for all others.
pub(crate) fn widened(input: &Tensor) -> Option<Tensor> {
    let values = match input.values() {
        Values::F16(items) => items.iter().map(|item| item.to_f32()).collect(),
        Values::BF16(items) => items.iter().map(|item| item.to_f32()).collect(),
        _ => return None,
    };
    Tensor::try_new(input.shape().to_vec(), Values::F32(values)).ok()
}

/// Rounds single precision to a half precision.
pub(crate) fn narrowed(values: Values, dtype: DType) -> Values {
    match (values, dtype) {
        (Values::F32(items), DType::F16) => {
            Values::F16(items.into_iter().map(f16::from_f32).collect())
        }
        (Values::F32(items), DType::BF16) => Values::BF16(
            items
                .into_iter()
                .map(coracle_tensor::bf16::from_f32)
                .collect(),
        ),
        (values, _) => values,
    }
}
