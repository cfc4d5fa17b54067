//! Whether the rows of several requests may share a run.
//!
//! Nothing in a graph says so. Three signs together are taken for it: no operator is among those that look at whole tensors,
//! exporters give the first dimension of every input and output one name, and the graph, run on rows alone and together,
//! answers alike.

use std::time::Duration;

use coracle_model::{Model, TensorSpec};
use coracle_tensor::{ByteStrings, DType, Tensor, Values, bf16, f16, split, stack};
use ort::session::Session;
use ort::value::{Outlet, ValueType};

use crate::session::SessionModel;

/// The sizes that are tried for dimensions whose size is open.
const OPEN_SIZES: [usize; 3] = [4, 32, 1];
/// The made-up rows are of different ranges: what follows from the range of all rows does not follow from one alone.
const SCALES: [f32; 4] = [1.0, 16.0, 0.0625, -4.0];
/// Inputs with more elements are not made up.
const ELEMENTS_MAX: usize = 1 << 20;

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
        let specs = signature.inputs.iter();
        let row = specs.map(|spec| made_up(spec, open, (seed.saturating_add(1), scale)));
        row.collect::<Option<Vec<Tensor>>>()
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
        parts
            .iter()
            .zip(&alone)
            .all(|(part, alone)| alone.get(output).is_some_and(|alone| close(part, alone)))
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

/// Makes up an input of one row.
fn made_up(spec: &TensorSpec, open: usize, seed: (usize, f32)) -> Option<Tensor> {
    let (_, rest) = spec.shape.split_first()?;
    let mut shape = vec![1];
    shape.extend(rest.iter().map(|size| size.unwrap_or(open)));
    let n = shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .filter(|&n| n <= ELEMENTS_MAX)?;
    Tensor::try_new(shape, values(spec, n, seed)).ok()
}

fn values(spec: &TensorSpec, n: usize, (seed, scale): (usize, f32)) -> Values {
    // A few steps of a small congruence: any values will do, if they differ from row to row.
    let step = |index: usize| {
        let mixed = index.wrapping_mul(37).wrapping_add(seed.wrapping_mul(101));
        u8::try_from(mixed.wrapping_mul(mixed).wrapping_add(mixed) % 97).unwrap_or(0)
    };
    let real = |index: usize| (f32::from(step(index)) / 48.5 - 1.0) * scale;
    let bit = |index: usize| step(index) % 2;
    let all = 0..n;
    match spec.dtype {
        DType::Bool => Values::Bool(all.map(|index| bit(index) == 1).collect()),
        DType::U8 => Values::U8(all.map(step).collect()),
        DType::U16 => Values::U16(all.map(|index| bit(index).into()).collect()),
        DType::U32 => Values::U32(all.map(|index| bit(index).into()).collect()),
        DType::U64 => Values::U64(all.map(|index| bit(index).into()).collect()),
        DType::I8 => Values::I8(all.map(|index| i8::from(bit(index) == 1)).collect()),
        DType::I16 => Values::I16(all.map(|index| bit(index).into()).collect()),
        DType::I32 => Values::I32(all.map(|index| bit(index).into()).collect()),
        DType::I64 => Values::I64(all.map(|index| bit(index).into()).collect()),
        DType::F16 => Values::F16(all.map(|index| f16::from_f32(real(index))).collect()),
        DType::BF16 => Values::BF16(all.map(|index| bf16::from_f32(real(index))).collect()),
        DType::F32 => Values::F32(all.map(real).collect()),
        DType::F64 => Values::F64(all.map(|index| f64::from(real(index))).collect()),
        DType::Bytes => {
            let texts = all.map(|index| if bit(index) == 1 { "a" } else { "b" });
            Values::Bytes(texts.collect::<ByteStrings>())
        }
    }
}

/// Tells whether answers differ by rounding at most: kernels add in another order for another number of rows.
fn close(left: &Tensor, right: &Tensor) -> bool {
    if left.shape() != right.shape() || left.dtype() != right.dtype() {
        return false;
    }
    let tolerance = match left.dtype() {
        DType::F16 | DType::BF16 => 2e-2,
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
