//! Whether the rows of several requests may share a run.
//!
//! Nothing in a graph says so. Three signs together are taken for it: no operator is among those that look at whole tensors,
//! exporters give the first dimension of every input and output one name, and the graph, run on rows alone and together,
//! answers alike.

use std::time::Duration;

use coracle_model::{Model, Signature, TensorSpec};
use coracle_onnx::{MadeUp, synthetic_inputs};
use coracle_tensor::{DType, Tensor, Values, split, stack};
use ort::session::Session;
use ort::value::{Outlet, ValueType};

use crate::session::SessionModel;

/// The sizes that are tried for dimensions whose size is open.
const OPEN_SIZES: [usize; 3] = [4, 32, 1];
/// The numbers of dimensions that are tried where that is open.
const RANKS: [usize; 5] = [2, 1, 4, 3, 0];
/// The made-up rows are of different ranges: what follows from the range of all rows does not follow from one alone.
const SCALES: [f32; 4] = [1.0, 16.0, 0.0625, -4.0];

/// Tells whether the first dimension of all inputs and outputs is one, by its name, and no other dimension is.
pub(crate) fn share_a_dimension(session: &Session) -> bool {
    let outlets = || session.inputs().iter().chain(session.outputs());
    let Some(name) = outlets().next().and_then(|outlet| symbols(outlet).next()) else {
        return false;
    };
    !name.is_empty()
        && outlets().all(|outlet| {
            let mut symbols = symbols(outlet);
            symbols.next() == Some(name) && symbols.all(|symbol| symbol != name)
        })
}

/// The names of the dimensions; a dimension of a fixed size has none.
fn symbols(outlet: &Outlet) -> impl Iterator<Item = &str> {
    let symbols = match outlet.dtype() {
        ValueType::Tensor {
            dimension_symbols, ..
        } => Some(dimension_symbols.iter().map(String::as_str)),
        _ => None,
    };
    symbols.into_iter().flatten()
}

/// Returns made-up inputs that a graph is tried out with, one after the other: zeros and ones of the least sizes, rows of the
/// sizes that are tried where sizes are open, and all of it for several numbers of dimensions where that is open.
pub(crate) fn to_try_out(signature: &Signature) -> impl Iterator<Item = Vec<Tensor>> {
    let unranked = &signature.unranked_inputs;
    let ranks: &[usize] = if unranked.is_empty() { &[1] } else { &RANKS };
    let of_rank = |rank: usize| {
        let mut specs = signature.inputs.clone();
        for &index in unranked {
            if let Some(spec) = specs.get_mut(index) {
                spec.shape = vec![None; rank];
            }
        }
        specs
    };
    let ranked: Vec<Vec<TensorSpec>> = ranks.iter().map(|&rank| of_rank(rank)).collect();
    ranked.into_iter().flat_map(|specs| {
        let zeros = synthetic_inputs(&specs);
        let ones = zeros.as_deref().map(ones_like);
        // Places may have to be several: what a convolution sees, what is divided into parts.
        let mut sizes = specs.iter().flat_map(|spec| &spec.shape);
        let is_open = zeros.is_some() && sizes.any(Option::is_none);
        let open = OPEN_SIZES.into_iter().filter(move |_| is_open);
        let open = open.filter_map(move |open| {
            let (seed, scale) = (1, 1.0);
            MadeUp { open, seed, scale }.row(&specs)
        });
        zeros.into_iter().chain(ones).chain(open)
    })
}

fn ones_like(tensors: &[Tensor]) -> Vec<Tensor> {
    let one = |tensor: &Tensor| {
        let ones = match tensor.values() {
            Values::Bytes(_) => return tensor.clone(),
            values => Values::F64(vec![1.0; values.len()].into()),
        };
        Tensor::try_new(tensor.shape().to_vec(), ones).unwrap_or_else(|_| tensor.clone())
    };
    tensors.iter().map(one).collect()
}

/// Runs made-up rows alone and together, until `until` on the watchdog's clock.
pub(crate) fn are_independent(model: &SessionModel, until: Duration) -> bool {
    OPEN_SIZES
        .iter()
        .find_map(|&open| answers_alike(model, open, until))
        .unwrap_or(false)
}

/// Tells whether rows get the same answers alone and together; `None` if they cannot be run, or if their answers prove nothing.
fn answers_alike(model: &SessionModel, open: usize, until: Duration) -> Option<bool> {
    let signature = model.signature();
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    let rows = SCALES.iter().enumerate().map(|(seed, &scale)| {
        let has_rows = signature.inputs.iter().all(|spec| !spec.shape.is_empty());
        let made_up = MadeUp {
            open,
            seed: seed.saturating_add(1),
            scale,
        };
        made_up.row(&signature.inputs).filter(|_| has_rows)
    });
    let rows: Vec<Vec<Tensor>> = rows.collect::<Option<_>>()?;
    let alone = rows
        .iter()
        .map(|row| model.run_until(row, &outputs, until).ok());
    let alone: Vec<Vec<Tensor>> = alone.collect::<Option<_>>()?;
    if !tell_rows_apart(&alone) {
        return None;
    }
    let n_inputs = signature.inputs.len();
    let stacked = (0..n_inputs).map(|input| {
        let parts: Option<Vec<&Tensor>> = rows.iter().map(|row| row.get(input)).collect();
        stack(&parts?)
    });
    let stacked: Vec<Tensor> = stacked.collect::<Option<_>>()?;
    let Ok(together) = model.run_until(&stacked, &outputs, until) else {
        return Some(false);
    };
    let alike = together.into_iter().enumerate().all(|(output, together)| {
        let Some(parts) = split(together, &SCALES.map(|_| 1)) else {
            return false;
        };
        parts.iter().zip(&alone).all(|(part, alone)| {
            let alone = alone.get(output);
            alone.is_some_and(|alone| close(part, alone, model.may_round()))
        })
    });
    Some(alike)
}

/// Tells whether the answers to rows show which row is which: real numbers are finite and not all alike, and if there are none,
/// something else is not. Rows that are all answered alike would be so in any company.
fn tell_rows_apart(alone: &[Vec<Tensor>]) -> bool {
    let Some((first, others)) = alone.split_first() else {
        return false;
    };
    let mut differs_any = false;
    for (output, tensor) in first.iter().enumerate() {
        let of_others = || others.iter().filter_map(|row| row.get(output));
        let differs = of_others().any(|other| other != tensor);
        differs_any |= differs;
        let is_real = matches!(
            tensor.dtype(),
            DType::F16 | DType::BF16 | DType::F32 | DType::F64
        );
        let is_finite = |tensor: &Tensor| {
            let values = tensor.values().to_f64s();
            values.is_some_and(|values| values.iter().all(|value| value.is_finite()))
        };
        if is_real && !(differs && is_finite(tensor) && of_others().all(is_finite)) {
            return false;
        }
    }
    differs_any
}

/// Tells whether answers differ by rounding at most: kernels add in another order for another number of rows, and where they
/// `may_round` some of them multiply in less than single precision (TF32 has the digits of half precision), others not.
fn close(left: &Tensor, right: &Tensor, may_round: bool) -> bool {
    if left.shape() != right.shape() || left.dtype() != right.dtype() {
        return false;
    }
    let tolerance = match left.dtype() {
        DType::F16 | DType::BF16 => 2e-2,
        DType::F32 if may_round => 2e-2,
        DType::F32 | DType::F64 => 1e-4,
        _ => return left.values() == right.values(),
    };
    let (Some(left), Some(right)) = (left.values().to_f64s(), right.values().to_f64s()) else {
        return false;
    };
    left.iter().zip(right.iter()).all(|(left, right)| {
        (left.is_nan() && right.is_nan())
            || left == right
            || (left - right).abs() <= tolerance * (1.0 + left.abs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_may_multiply_in_less_precision() {
        let tensor = |value: f32| {
            let values = Values::F32(vec![value, 1.0].into());
            Tensor::try_new(vec![1, 2], values).unwrap()
        };
        // The steps of TF32 near 1 are 2^-10.
        let (exact, rounded) = (tensor(1.0), tensor(1.0 + 1.0 / 1024.0));
        assert!(!close(&exact, &rounded, false) && close(&exact, &rounded, true));
        assert!(close(&exact, &tensor(1.000_01), false));
        assert!(!close(&exact, &tensor(1.1), true));
    }
}
