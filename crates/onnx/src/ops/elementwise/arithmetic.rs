//! Arithmetic of two tensors, and of several.

use coracle_model::RunError;
use coracle_tensor::{Tensor, Values};

use super::{narrowed, needed, widened, zip};
use crate::error::{dtype_error, unsupported, value_error};
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::tensor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    /// The remainder with the divisor's sign; with the dividend's, if `fmod`.
    Mod {
        fmod: bool,
    },
}

/// Several tensors made to one.
#[derive(Clone, Copy, Debug)]
enum Many {
    Fold(Arithmetic),
    Mean,
}

pub(super) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    let arithmetic = match name {
        "Add" => Arithmetic::Add,
        "Sub" => Arithmetic::Sub,
        "Mul" => Arithmetic::Mul,
        "Div" => Arithmetic::Div,
        "Mod" => match build.attributes.flag("fmod", false) {
            Ok(fmod) => Arithmetic::Mod { fmod },
            Err(error) => return Some(Err(error)),
        },
        "Pow" => return Some(legacy(build).and_then(|()| function((), |(), inputs| pow(inputs)))),
        "Sum" => return Some(function(Many::Fold(Arithmetic::Add), many)),
        "Max" => return Some(function(Many::Fold(Arithmetic::Max), many)),
        "Min" => return Some(function(Many::Fold(Arithmetic::Min), many)),
        "Mean" => return Some(function(Many::Mean, many)),
        _ => return None,
    };
    Some(legacy(build).and_then(|()| {
        function(arithmetic, |arithmetic, inputs| {
            let result = apply(*arithmetic, needed(inputs, 0)?, needed(inputs, 1)?)?;
            Ok(vec![result])
        })
    }))
}

/// Refuses the rules of stretching that versions before 7 had.
fn legacy(build: &Build<'_, '_>) -> Result<(), coracle_model::LoadError> {
    build.attributes.ignore("consumed_inputs");
    if build.opset < 7 {
        return Err(unsupported(
            "arithmetic of operator sets before 7 is not supported",
        ));
    }
    Ok(())
}

/// Computes with integers, which wrap.
macro_rules! integers {
    ($arithmetic:expr, $a:expr, $b:expr, $variant:ident, $a_items:expr, $b_items:expr) => {{
        if matches!($arithmetic, Arithmetic::Div | Arithmetic::Mod { .. }) && $b_items.contains(&0)
        {
            return Err(value_error("an integer is divided by zero"));
        }
        let (shape, items) = zip(
            ($a_items.as_slice(), $a.shape()),
            ($b_items.as_slice(), $b.shape()),
            |a, b| match $arithmetic {
                Arithmetic::Add => a.wrapping_add(b),
                Arithmetic::Sub => a.wrapping_sub(b),
                Arithmetic::Mul => a.wrapping_mul(b),
                Arithmetic::Div => a.wrapping_div(b),
                Arithmetic::Max => a.max(b),
                Arithmetic::Min => a.min(b),
                Arithmetic::Mod { fmod: true } => a.wrapping_rem(b),
                Arithmetic::Mod { fmod: false } => {
                    let rest = a.wrapping_rem(b);
                    #[allow(unused_comparisons, reason = "unsigned datatypes have no signs")]
                    if rest != 0 && (rest < 0) != (b < 0) {
                        rest.wrapping_add(b)
                    } else {
                        rest
                    }
                }
            },
        )?;
        (shape, Values::$variant(items.into()))
    }};
}
/// Computes with floating-point numbers.
macro_rules! floats {
    ($arithmetic:expr, $a:expr, $b:expr, $variant:ident, $a_items:expr, $b_items:expr) => {{
        let (shape, items) = zip(
            ($a_items.as_slice(), $a.shape()),
            ($b_items.as_slice(), $b.shape()),
            |a, b| match $arithmetic {
                Arithmetic::Add => a + b,
                Arithmetic::Sub => a - b,
                Arithmetic::Mul => a * b,
                Arithmetic::Div => a / b,
                // NaN wins, as numpy has it.
                Arithmetic::Max if a.is_nan() || a > b => a,
                Arithmetic::Min if a.is_nan() || a < b => a,
                Arithmetic::Max | Arithmetic::Min => b,
                Arithmetic::Mod { .. } => a % b,
            },
        )?;
        (shape, Values::$variant(items.into()))
    }};
}

fn apply(arithmetic: Arithmetic, a: &Tensor, b: &Tensor) -> Result<Tensor, RunError> {
    if let (Some(wide_a), Some(wide_b)) = (widened(a), widened(b))
        && a.dtype() == b.dtype()
    {
        let (shape, values) = apply(arithmetic, &wide_a, &wide_b)?.into_parts();
        return tensor(shape, narrowed(values, a.dtype()));
    }
    let is_float = matches!(a.values(), Values::F32(_) | Values::F64(_));
    if is_float && arithmetic == (Arithmetic::Mod { fmod: false }) {
        return Err(dtype_error("Mod of floating point needs fmod=1"));
    }
    let (shape, values) = match (a.values(), b.values()) {
        (Values::F32(x), Values::F32(y)) => floats!(arithmetic, a, b, F32, x, y),
        (Values::F64(x), Values::F64(y)) => floats!(arithmetic, a, b, F64, x, y),
        (Values::I64(x), Values::I64(y)) => integers!(arithmetic, a, b, I64, x, y),
        (Values::I32(x), Values::I32(y)) => integers!(arithmetic, a, b, I32, x, y),
        (Values::I16(x), Values::I16(y)) => integers!(arithmetic, a, b, I16, x, y),
        (Values::I8(x), Values::I8(y)) => integers!(arithmetic, a, b, I8, x, y),
        (Values::U64(x), Values::U64(y)) => integers!(arithmetic, a, b, U64, x, y),
        (Values::U32(x), Values::U32(y)) => integers!(arithmetic, a, b, U32, x, y),
        (Values::U16(x), Values::U16(y)) => integers!(arithmetic, a, b, U16, x, y),
        (Values::U8(x), Values::U8(y)) => integers!(arithmetic, a, b, U8, x, y),
        (x, y) => {
            return Err(dtype_error(format!(
                "arithmetic of {} and {}",
                x.dtype(),
                y.dtype()
            )));
        }
    };
    tensor(shape, values)
}

fn many(many: &Many, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let arithmetic = match many {
        Many::Fold(arithmetic) => *arithmetic,
        Many::Mean => Arithmetic::Add,
    };
    let mut result = needed(inputs, 0)?.clone();
    for index in 1..inputs.len() {
        result = apply(arithmetic, &result, needed(inputs, index)?)?;
    }
    if matches!(many, Many::Mean) {
        #[expect(clippy::cast_precision_loss, reason = "a number of inputs")]
        let n = inputs.len() as f64;
        let (shape, values) = result.into_parts();
        #[expect(clippy::cast_possible_truncation, reason = "a number of inputs")]
        let values = match values {
            Values::F32(items) => {
                Values::F32(items.into_iter().map(|item| item / n as f32).collect())
            }
            Values::F64(items) => Values::F64(items.into_iter().map(|item| item / n).collect()),
            other => return Err(dtype_error(format!("the mean of {}", other.dtype()))),
        };
        result = tensor(shape, values)?;
    }
    Ok(vec![result])
}

fn pow(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (base, exponent) = (needed(inputs, 0)?, needed(inputs, 1)?);
    let exponents = crate::ops::values::to_f64s(exponent)?;
    let exponents = (&*exponents, exponent.shape());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "exponents are rounded to the base's precision"
    )]
    let single = |base: f32, exponent: f64| match exponent {
        2.0 => base * base,
        3.0 => base * base * base,
        exponent => base.powf(exponent as f32),
    };
    let integer = |base: i64, exponent: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "as C's pow of integers"
        )]
        let power = (base as f64).powf(exponent) as i64;
        power
    };
    let (shape, values) = match base.values() {
        Values::F32(items) => {
            let (shape, items) = zip((items, base.shape()), exponents, single)?;
            (shape, Values::F32(items.into()))
        }
        Values::F64(items) => {
            let (shape, items) = zip((items, base.shape()), exponents, f64::powf)?;
            (shape, Values::F64(items.into()))
        }
        Values::I64(items) => {
            let (shape, items) = zip((items, base.shape()), exponents, integer)?;
            (shape, Values::I64(items.into()))
        }
        Values::I32(items) => {
            #[expect(clippy::cast_possible_truncation, reason = "as C's pow of integers")]
            let power = |base: i32, exponent| integer(i64::from(base), exponent) as i32;
            let (shape, items) = zip((items, base.shape()), exponents, power)?;
            (shape, Values::I32(items.into()))
        }
        other => return Err(dtype_error(format!("a power of {}", other.dtype()))),
    };
    Ok(vec![tensor(shape, values)?])
}
