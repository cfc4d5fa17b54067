//! Comparisons, logic and choice.

use coracle_model::RunError;
use coracle_tensor::{Tensor, Values};

use super::{needed, optional, widened, zip};
use crate::error::dtype_error;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{append, broadcast, n_elements, pick, stretched, tensor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
enum Logic {
    And,
    Or,
    Xor,
}

pub(super) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    let comparison = match name {
        "Equal" => Comparison::Equal,
        "Less" => Comparison::Less,
        "LessOrEqual" => Comparison::LessOrEqual,
        "Greater" => Comparison::Greater,
        "GreaterOrEqual" => Comparison::GreaterOrEqual,
        "And" => return Some(function(Logic::And, logic)),
        "Or" => return Some(function(Logic::Or, logic)),
        "Xor" => return Some(function(Logic::Xor, logic)),
        "Not" => return Some(function((), |(), inputs| not(inputs))),
        "Where" => return Some(function((), |(), inputs| choose(inputs))),
        "Clip" => return Some(clip(build)),
        _ => return None,
    };
    Some(function(comparison, compare))
}

fn holds<T: PartialOrd>(comparison: Comparison, a: &T, b: &T) -> bool {
    match comparison {
        Comparison::Equal => a == b,
        Comparison::Less => a < b,
        Comparison::LessOrEqual => a <= b,
        Comparison::Greater => a > b,
        Comparison::GreaterOrEqual => a >= b,
    }
}

fn compare(comparison: &Comparison, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (a, b) = (needed(inputs, 0)?, needed(inputs, 1)?);
    macro_rules! same {
        ($($variant:ident),*) => {
            match (a.values(), b.values()) {
                $((Values::$variant(x), Values::$variant(y)) => zip(
                    (x.as_slice(), a.shape()),
                    (y.as_slice(), b.shape()),
                    |x, y| holds(*comparison, &x, &y),
                )?,)*
                (Values::Bytes(x), Values::Bytes(y)) if *comparison == Comparison::Equal => {
                    let x: Vec<&[u8]> = x.iter().collect();
                    let y: Vec<&[u8]> = y.iter().collect();
                    zip((&x, a.shape()), (&y, b.shape()), |x, y| x == y)?
                }
                (x, y) => {
                    let (x, y) = (x.dtype(), y.dtype());
                    return Err(dtype_error(format!("a comparison of {x} and {y}")));
                }
            }
        };
    }
    let (shape, items) = same!(
        Bool, U8, U16, U32, U64, I8, I16, I32, I64, F16, BF16, F32, F64
    );
    Ok(vec![tensor(shape, Values::Bool(items))?])
}

fn booleans(input: &Tensor) -> Result<&[bool], RunError> {
    match input.values() {
        Values::Bool(items) => Ok(items),
        other => Err(dtype_error(format!(
            "BOOL is needed, got {}",
            other.dtype()
        ))),
    }
}

fn logic(logic: &Logic, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (a, b) = (needed(inputs, 0)?, needed(inputs, 1)?);
    let (shape, items) = zip(
        (booleans(a)?, a.shape()),
        (booleans(b)?, b.shape()),
        |a, b| match logic {
            Logic::And => a && b,
            Logic::Or => a || b,
            Logic::Xor => a != b,
        },
    )?;
    Ok(vec![tensor(shape, Values::Bool(items))?])
}

fn not(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let items = booleans(input)?.iter().map(|item| !item).collect();
    Ok(vec![tensor(input.shape().to_vec(), Values::Bool(items))?])
}

fn choose(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let condition = needed(inputs, 0)?;
    let (yes, no) = (needed(inputs, 1)?, needed(inputs, 2)?);
    let shape = broadcast(condition.shape(), yes.shape())?;
    let shape = broadcast(&shape, no.shape())?;
    n_elements(&shape)?;
    let mut both = yes.values().clone();
    if !append(&mut both, no.values(), 0, no.values().len()) {
        return Err(dtype_error(format!(
            "a choice between {} and {}",
            yes.dtype(),
            no.dtype()
        )));
    }
    let answers = booleans(condition)?;
    let n_yes = yes.values().len();
    let places = stretched(&shape, condition.shape())
        .into_iter()
        .zip(stretched(&shape, yes.shape()))
        .zip(stretched(&shape, no.shape()));
    let places: Vec<usize> = places
        .map(|((at, yes), no)| if answers[at] { yes } else { n_yes + no })
        .collect();
    Ok(vec![tensor(shape, pick(&both, &places))?])
}

/// Builds `Clip`, whose bounds were attributes before version 11 and are inputs since.
fn clip(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    attributes.ignore("consumed_inputs");
    let bounds = (attributes.float("min")?, attributes.float("max")?);
    function(bounds, |&(low, high), inputs| {
        let input = needed(inputs, 0)?;
        if let Some(wide) = widened(input) {
            let bounds =
                [optional(inputs, 1), optional(inputs, 2)].map(|bound| bound.and_then(widened));
            let arguments = [Some(&wide), bounds[0].as_ref(), bounds[1].as_ref()];
            let (shape, values) = clipped(&arguments, low, high)?.into_parts();
            return Ok(vec![tensor(shape, super::narrowed(values, input.dtype()))?]);
        }
        Ok(vec![clipped(inputs, low, high)?])
    })
}

fn clipped(
    inputs: &[Option<&Tensor>],
    low: Option<f32>,
    high: Option<f32>,
) -> Result<Tensor, RunError> {
    let input = needed(inputs, 0)?;
    macro_rules! clip {
        ($variant:ident, $items:expr, $low:expr, $high:expr) => {{
            let bound = |index: usize| match optional(inputs, index).map(Tensor::values) {
                None => Ok(None),
                Some(Values::$variant(bound)) => Ok(bound.first().copied()),
                Some(other) => Err(dtype_error(format!("a bound of {}", other.dtype()))),
            };
            let (low, high) = (bound(1)?.or($low), bound(2)?.or($high));
            let clip = |&item: &_| {
                let item = match low {
                    Some(low) if item < low => low,
                    _ => item,
                };
                match high {
                    Some(high) if item > high => high,
                    _ => item,
                }
            };
            Values::$variant($items.iter().map(clip).collect())
        }};
    }
    let values = match input.values() {
        Values::F32(items) => clip!(F32, items, low, high),
        Values::F64(items) => clip!(F64, items, low.map(f64::from), high.map(f64::from)),
        Values::I64(items) => clip!(I64, items, None, None),
        Values::I32(items) => clip!(I32, items, None, None),
        Values::I16(items) => clip!(I16, items, None, None),
        Values::I8(items) => clip!(I8, items, None, None),
        Values::U64(items) => clip!(U64, items, None, None),
        Values::U32(items) => clip!(U32, items, None, None),
        Values::U16(items) => clip!(U16, items, None, None),
        Values::U8(items) => clip!(U8, items, None, None),
        other => return Err(dtype_error(format!("Clip of {}", other.dtype()))),
    };
    tensor(input.shape().to_vec(), values)
}
