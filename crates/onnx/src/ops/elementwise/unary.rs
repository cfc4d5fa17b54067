//! Functions of one number.

use coracle_model::RunError;
use coracle_tensor::{Tensor, Values};

use super::{narrowed, needed, widened};
use crate::error::dtype_error;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::tensor;

/// A function in both precisions.
#[derive(Clone, Copy)]
struct Function {
    single: fn(f32) -> f32,
    double: fn(f64) -> f64,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Function")
    }
}

macro_rules! both {
    ($item:ident => $body:expr) => {
        Function {
            single: |$item: f32| $body,
            double: |$item: f64| $body,
        }
    };
}

fn find(name: &str) -> Option<Function> {
    Some(match name {
        "Sqrt" => both!(x => x.sqrt()),
        "Exp" => both!(x => x.exp()),
        "Log" => both!(x => x.ln()),
        "Sin" => both!(x => x.sin()),
        "Cos" => both!(x => x.cos()),
        "Tan" => both!(x => x.tan()),
        "Asin" => both!(x => x.asin()),
        "Acos" => both!(x => x.acos()),
        "Atan" => both!(x => x.atan()),
        "Sinh" => both!(x => x.sinh()),
        "Cosh" => both!(x => x.cosh()),
        "Tanh" => both!(x => x.tanh()),
        "Asinh" => both!(x => x.asinh()),
        "Acosh" => both!(x => x.acosh()),
        "Atanh" => both!(x => x.atanh()),
        "Floor" => both!(x => x.floor()),
        "Ceil" => both!(x => x.ceil()),
        "Round" => both!(x => x.round_ties_even()),
        "Reciprocal" => both!(x => 1.0 / x),
        "Softplus" => both!(x => if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }),
        "Softsign" => both!(x => x / (1.0 + x.abs())),
        "Sigmoid" => both!(x => {
            let of_magnitude = 1.0 / (1.0 + (-x.abs()).exp());
            if x < 0.0 { 1.0 - of_magnitude } else { of_magnitude }
        }),
        "Erf" => Function {
            #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
            single: |x| erf(f64::from(x)) as f32,
            double: erf,
        },
        _ => return None,
    })
}

pub(super) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    if let Some(found) = find(name) {
        build.attributes.ignore("consumed_inputs");
        return Some(function(found, |function, inputs| {
            map(
                needed(inputs, 0)?,
                |x| (function.single)(x),
                |x| (function.double)(x),
            )
        }));
    }
    let attribute = |name: &str, default: f32| -> Result<f32, coracle_model::LoadError> {
        Ok(build.attributes.float(name)?.unwrap_or(default))
    };
    Some(match name {
        "Abs" => function((), |(), inputs| signs(Signed::Abs, inputs)),
        "Neg" => function((), |(), inputs| signs(Signed::Neg, inputs)),
        "Sign" => function((), |(), inputs| signs(Signed::Unit, inputs)),
        "Relu" => function((), |(), inputs| signs(Signed::Relu, inputs)),
        "IsNaN" => function((), |(), inputs| is_nan(inputs)),
        "LeakyRelu" => attribute("alpha", 0.01).and_then(|alpha| {
            function(alpha, |&alpha, inputs| {
                let double = f64::from(alpha);
                map(
                    needed(inputs, 0)?,
                    |x| if x < 0.0 { alpha * x } else { x },
                    |x| if x < 0.0 { double * x } else { x },
                )
            })
        }),
        "Elu" => attribute("alpha", 1.0).and_then(|alpha| {
            function(alpha, |&alpha, inputs| {
                let double = f64::from(alpha);
                map(
                    needed(inputs, 0)?,
                    |x| if x < 0.0 { alpha * x.exp_m1() } else { x },
                    |x| if x < 0.0 { double * x.exp_m1() } else { x },
                )
            })
        }),
        _ => return None,
    })
}

fn map(
    input: &Tensor,
    single: impl Fn(f32) -> f32,
    double: impl Fn(f64) -> f64,
) -> Result<Vec<Tensor>, RunError> {
    let dtype = input.dtype();
    let wide = widened(input);
    let values = match wide.as_ref().unwrap_or(input).values() {
        Values::F32(items) => Values::F32(items.iter().map(|&item| single(item)).collect()),
        Values::F64(items) => Values::F64(items.iter().map(|&item| double(item)).collect()),
        other => {
            return Err(dtype_error(format!(
                "floating point is needed, got {}",
                other.dtype()
            )));
        }
    };
    Ok(vec![tensor(
        input.shape().to_vec(),
        narrowed(values, dtype),
    )?])
}

#[derive(Clone, Copy)]
enum Signed {
    Abs,
    Neg,
    Unit,
    Relu,
}

fn signs(sign: Signed, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    macro_rules! signed {
        ($variant:ident, $items:expr) => {
            Values::$variant(
                $items
                    .iter()
                    .map(|&item| match sign {
                        Signed::Abs => item.wrapping_abs(),
                        Signed::Neg => item.wrapping_neg(),
                        Signed::Unit => item.signum(),
                        Signed::Relu => item.max(0),
                    })
                    .collect(),
            )
        };
    }
    macro_rules! unsigned {
        ($variant:ident, $items:expr) => {
            match sign {
                Signed::Abs | Signed::Relu => Values::$variant($items.clone()),
                Signed::Unit => Values::$variant($items.iter().map(|&item| item.min(1)).collect()),
                Signed::Neg => return Err(dtype_error("an unsigned integer is negated")),
            }
        };
    }
    macro_rules! floats {
        ($item:ident) => {
            match sign {
                Signed::Abs => $item.abs(),
                Signed::Neg => -$item,
                Signed::Unit if $item > 0.0 => 1.0,
                Signed::Unit if $item < 0.0 => -1.0,
                Signed::Unit => {
                    if $item == 0.0 {
                        0.0
                    } else {
                        $item
                    }
                }
                Signed::Relu => {
                    if $item < 0.0 {
                        0.0
                    } else {
                        $item
                    }
                }
            }
        };
    }
    let values = match input.values() {
        Values::I64(items) => signed!(I64, items),
        Values::I32(items) => signed!(I32, items),
        Values::I16(items) => signed!(I16, items),
        Values::I8(items) => signed!(I8, items),
        Values::U64(items) => unsigned!(U64, items),
        Values::U32(items) => unsigned!(U32, items),
        Values::U16(items) => unsigned!(U16, items),
        Values::U8(items) => unsigned!(U8, items),
        _ => return map(input, |x| floats!(x), |x| floats!(x)),
    };
    Ok(vec![tensor(input.shape().to_vec(), values)?])
}

fn is_nan(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let items = match input.values() {
        Values::F32(items) => items.iter().map(|item| item.is_nan()).collect(),
        Values::F64(items) => items.iter().map(|item| item.is_nan()).collect(),
        Values::F16(items) => items.iter().map(|item| item.is_nan()).collect(),
        Values::BF16(items) => items.iter().map(|item| item.is_nan()).collect(),
        other => return Err(dtype_error(format!("IsNaN of {}", other.dtype()))),
    };
    Ok(vec![tensor(input.shape().to_vec(), Values::Bool(items))?])
}

/// Returns the error function: `2/sqrt(pi) exp(-x^2)` times the sum of `2^n x^(2n+1) / (2n+1)!!`, whose terms all have one
/// sign (Abramowitz and Stegun, 7.1.6).
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}
