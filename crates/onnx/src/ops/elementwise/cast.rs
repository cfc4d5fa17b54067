//! From one datatype to another.

use coracle_model::RunError;
use coracle_tensor::{ByteStrings, DType, Tensor, Values, bf16, f16};

use super::needed;
use crate::error::{malformed, unsupported, value_error};
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::tensor;
use crate::tensor_file::dtype;

pub(super) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    match name {
        "Cast" => Some(cast(build)),
        "CastLike" => Some(function((), |(), inputs| {
            let (input, like) = (needed(inputs, 0)?, needed(inputs, 1)?);
            Ok(vec![converted(input, like.dtype())?])
        })),
        _ => None,
    }
}

fn cast(build: &Build<'_, '_>) -> Built {
    let number = match build.attributes.int("to") {
        Ok(Some(number)) => number,
        Ok(None) => return Err(malformed("attribute 'to' is missing")),
        // The first versions named the datatype.
        Err(error) => return Err(error),
    };
    build.attributes.ignore("saturate");
    let to = dtype(number).ok_or_else(|| unsupported(format!("a cast to datatype {number}")))?;
    function(to, |to, inputs| {
        Ok(vec![converted(needed(inputs, 0)?, *to)?])
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    trivial_numeric_casts,
    reason = "a cast is what was asked for"
)]
fn converted(input: &Tensor, to: DType) -> Result<Tensor, RunError> {
    if input.dtype() == to {
        return Ok(input.clone());
    }
    macro_rules! from {
        ($items:expr, $item:ident => $float:expr, $is_true:expr) => {
            match to {
                DType::Bool => Values::Bool($items.iter().map(|&$item| $is_true).collect()),
                DType::U8 => Values::U8($items.iter().map(|&$item| $float as u8).collect()),
                DType::U16 => Values::U16($items.iter().map(|&$item| $float as u16).collect()),
                DType::U32 => Values::U32($items.iter().map(|&$item| $float as u32).collect()),
                DType::U64 => Values::U64($items.iter().map(|&$item| $float as u64).collect()),
                DType::I8 => Values::I8($items.iter().map(|&$item| $float as i8).collect()),
                DType::I16 => Values::I16($items.iter().map(|&$item| $float as i16).collect()),
                DType::I32 => Values::I32($items.iter().map(|&$item| $float as i32).collect()),
                DType::I64 => Values::I64($items.iter().map(|&$item| $float as i64).collect()),
                DType::F32 => Values::F32($items.iter().map(|&$item| $float as f32).collect()),
                DType::F64 => Values::F64($items.iter().map(|&$item| $float as f64).collect()),
                DType::F16 => Values::F16(
                    $items
                        .iter()
                        .map(|&$item| f16::from_f64($float as f64))
                        .collect(),
                ),
                DType::BF16 => Values::BF16(
                    $items
                        .iter()
                        .map(|&$item| bf16::from_f64($float as f64))
                        .collect(),
                ),
                DType::Bytes => Values::Bytes(
                    $items
                        .iter()
                        .map(|&$item| written($float as f64, input.dtype()))
                        .collect(),
                ),
            }
        };
    }
    let values = match input.values() {
        Values::Bool(items) => from!(items, item => u8::from(item), item),
        Values::U8(items) => from!(items, item => item, item != 0),
        Values::U16(items) => from!(items, item => item, item != 0),
        Values::U32(items) => from!(items, item => item, item != 0),
        Values::I8(items) => from!(items, item => item, item != 0),
        Values::I16(items) => from!(items, item => item, item != 0),
        Values::I32(items) => from!(items, item => item, item != 0),
        Values::U64(items) if to == DType::Bytes => texts(items),
        Values::I64(items) if to == DType::Bytes => texts(items),
        Values::U64(items) => from!(items, item => item, item != 0),
        Values::I64(items) => from!(items, item => item, item != 0),
        Values::F16(items) => from!(items, item => item.to_f32(), item != f16::ZERO),
        Values::BF16(items) => from!(items, item => item.to_f32(), item != bf16::ZERO),
        Values::F32(items) => from!(items, item => item, item != 0.0),
        Values::F64(items) => from!(items, item => item, item != 0.0),
        Values::Bytes(items) => parsed(items, to)?,
    };
    tensor(input.shape().to_vec(), values)
}

fn texts<T: ToString>(items: &[T]) -> Values {
    Values::Bytes(items.iter().map(T::to_string).collect::<ByteStrings>())
}

/// The digits that ONNX Runtime writes of floating-point numbers.
const DIGITS: i32 = 8;

/// Writes a number as ONNX Runtime does: C's `%.8g`.
fn written(value: f64, dtype: DType) -> String {
    if !matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16) {
        return format!("{value:.0}");
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:.7e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if !(-4..DIGITS).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}

fn parsed(items: &ByteStrings, to: DType) -> Result<Values, RunError> {
    fn all<T: std::str::FromStr>(items: &ByteStrings, to: DType) -> Result<Vec<T>, RunError> {
        let numbers = items.iter().map(|item| {
            let text = str::from_utf8(item).unwrap_or("").trim();
            text.parse()
                .map_err(|_not_one| value_error(format!("a string that is no number of {to}")))
        });
        numbers.collect()
    }
    Ok(match to {
        DType::F32 => Values::F32(all(items, to)?.into()),
        DType::F64 => Values::F64(all(items, to)?.into()),
        DType::I64 => Values::I64(all(items, to)?.into()),
        DType::I32 => Values::I32(all(items, to)?.into()),
        DType::I16 => Values::I16(all(items, to)?.into()),
        DType::I8 => Values::I8(all(items, to)?.into()),
        DType::U64 => Values::U64(all(items, to)?.into()),
        DType::U32 => Values::U32(all(items, to)?.into()),
        DType::U16 => Values::U16(all(items, to)?.into()),
        DType::U8 => Values::U8(all(items, to)?.into()),
        other => {
            return Err(crate::error::dtype_error(format!(
                "a cast of strings to {other}"
            )));
        }
    })
}
