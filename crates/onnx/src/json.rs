//! Values that are no tensors, as texts of JSON: maps as objects, tensors of sequences as lists in lists.
//!
//! No protocol has a datatype for them, so a client sends what an answer would hold. Lists are read without recursion, and nothing is
//! as large as a text only says.

mod lexer;

use std::collections::HashSet;

use coracle_tensor::{ByteStrings, DType, Tensor, Values, bf16, f16};

use crate::file::RANK_MAX;
use lexer::{Lexer, Scalar};

/// Doubles from here on need not be the integer that was written.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Tells whether a text is `null`.
#[must_use]
pub fn is_null(text: &[u8]) -> bool {
    text.trim_ascii() == b"null"
}

/// Returns the tensor that lists in lists are, or a value alone; `null` is NaN.
///
/// # Errors
/// Says what is no value of `dtype`, or which lists differ in length.
pub fn tensor_of_json(text: &[u8], dtype: DType) -> Result<Tensor, String> {
    let mut elements = Elements::new(dtype);
    let mut lexer = Lexer::new(text);
    let mut lists = Lists::default();
    loop {
        // A value belongs here.
        let mut is_empty = false;
        if lexer.take(b'[') {
            lists.begin()?;
            is_empty = lexer.peek() == Some(b']');
            if !is_empty {
                continue;
            }
        } else {
            lists.element()?;
            elements.push(lexer.scalar()?)?;
        }
        // It is the value of a list that goes on, or that ends with it.
        loop {
            if !std::mem::take(&mut is_empty) && !lists.count() {
                lexer.end()?;
                let values = elements.finish()?;
                return Tensor::try_new(lists.shape(), values).map_err(|error| error.to_string());
            }
            if lexer.take(b',') {
                break;
            }
            lexer.demand(b']')?;
            lists.end()?;
        }
    }
}

/// The lists that are open, and how long those of each depth are.
#[derive(Default)]
struct Lists {
    /// How many items each open list has so far.
    open: Vec<usize>,
    /// How many items the lists of each depth have, once one has ended.
    lengths: Vec<Option<usize>>,
    has_elements: bool,
}

impl Lists {
    fn begin(&mut self) -> Result<(), String> {
        if self.open.len() >= RANK_MAX {
            return Err(format!("lists nested deeper than {RANK_MAX}"));
        }
        self.open.push(0);
        if self.open.len() > self.lengths.len() {
            // Elements lie in the deepest lists, and so do lists that are empty.
            if self.has_elements || self.lengths.last().is_some_and(Option::is_some) {
                return Err(ragged());
            }
            self.lengths.push(None);
        }
        Ok(())
    }

    fn element(&mut self) -> Result<(), String> {
        self.has_elements = true;
        match self.open.len() == self.lengths.len() {
            true => Ok(()),
            false => Err(ragged()),
        }
    }

    /// Counts a value into the list that it is in; `false` where it is in none.
    fn count(&mut self) -> bool {
        let list = self.open.last_mut();
        let is_within = list.is_some();
        if let Some(n) = list {
            *n = n.saturating_add(1);
        }
        is_within
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(n) = self.open.pop() else {
            return Err(ragged());
        };
        let length = self.lengths.get_mut(self.open.len());
        match length.map(|length| *length.get_or_insert(n)) {
            Some(length) if length == n => Ok(()),
            _ => Err(ragged()),
        }
    }

    fn shape(&self) -> Vec<usize> {
        let lengths = self.lengths.iter();
        lengths.map(|length| length.unwrap_or(0)).collect()
    }
}

fn ragged() -> String {
    "lists of different lengths or depths".to_owned()
}

/// Returns the texts of a list's items, whatever those are.
///
/// # Errors
/// Says where the text is no list.
pub fn items_of_json(text: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut lexer = Lexer::new(text);
    let mut items = Vec::new();
    lexer.demand(b'[')?;
    if lexer.take(b']') {
        lexer.end()?;
        return Ok(items);
    }
    loop {
        let _ = lexer.peek();
        let start = lexer.at();
        let mut depth = 0_usize;
        loop {
            if lexer.take(b'[') || lexer.take(b'{') {
                depth = depth.saturating_add(1);
            } else if depth > 0 && (lexer.take(b']') || lexer.take(b'}')) {
                depth = depth.saturating_sub(1);
            } else if depth == 0 || !(lexer.take(b',') || lexer.take(b':')) {
                lexer.scalar()?;
            }
            if depth == 0 {
                break;
            }
        }
        items.push(text.get(start..lexer.at()).unwrap_or_default());
        if lexer.take(b']') {
            lexer.end()?;
            return Ok(items);
        }
        lexer.demand(b',')?;
    }
}

/// Returns the keys of an object, as strings or as integers, and its values.
///
/// # Errors
/// Says what is no object, no key or no value of these datatypes, or which key comes twice.
pub fn map_of_json(text: &[u8], key: DType, value: DType) -> Result<(Values, Values), String> {
    let mut lexer = Lexer::new(text);
    let (mut texts, mut integers) = (ByteStrings::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut elements = Elements::new(value);
    lexer.demand(b'{')?;
    let mut is_over = lexer.take(b'}');
    while !is_over {
        let name = lexer.string()?;
        if key == DType::I64 {
            let integer = name.parse::<i64>();
            integers.push(integer.map_err(|_| format!("key {name:?} is no integer"))?);
        } else {
            texts.push(name.as_bytes());
        }
        lexer.demand(b':')?;
        let scalar = lexer.scalar()?;
        elements
            .push(scalar)
            .map_err(|error| format!("key {name:?}: {error}"))?;
        let identity = match integers.last() {
            Some(integer) => integer.to_string(),
            None => name,
        };
        if let Some(twice) = seen.replace(identity) {
            return Err(format!("key {twice:?} occurs twice"));
        }
        is_over = lexer.take(b'}');
        if !is_over {
            lexer.demand(b',')?;
        }
    }
    lexer.end()?;
    let keys = match key {
        DType::I64 => Values::I64(integers.into()),
        _ => Values::Bytes(texts),
    };
    Ok((keys, elements.finish()?))
}

/// Elements of one datatype.
struct Elements {
    dtype: DType,
    kind: Kind,
}

enum Kind {
    Reals(Vec<f64>),
    Integers(Vec<i128>),
    Truths(Vec<bool>),
    Texts(ByteStrings),
}

impl Elements {
    fn new(dtype: DType) -> Self {
        let kind = match dtype {
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Kind::Reals(Vec::new()),
            DType::Bool => Kind::Truths(Vec::new()),
            DType::Bytes => Kind::Texts(ByteStrings::new()),
            _ => Kind::Integers(Vec::new()),
        };
        Self { dtype, kind }
    }

    fn push(&mut self, scalar: Scalar<'_>) -> Result<(), String> {
        match (&mut self.kind, scalar) {
            (Kind::Reals(items), Scalar::Null) => items.push(f64::NAN),
            (Kind::Reals(items), Scalar::Number(text)) => {
                let value: Option<f64> = text.parse().ok();
                let value = value.filter(|value| value.is_finite());
                items.push(value.ok_or_else(|| out_of_range(text, self.dtype))?);
            }
            (Kind::Integers(items), Scalar::Number(text)) => {
                items.push(integer(text).ok_or_else(|| out_of_range(text, self.dtype))?);
            }
            (Kind::Truths(items), Scalar::Bool(value)) => items.push(value),
            (Kind::Texts(items), Scalar::Text(text)) => items.push(text.as_bytes()),
            (_, scalar) => {
                let came = match scalar {
                    Scalar::Null => "null",
                    Scalar::Bool(_) => "a truth value",
                    Scalar::Number(_) => "a number",
                    Scalar::Text(_) => "a string",
                };
                return Err(format!("{came}, where {} belongs", self.dtype));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Values, String> {
        let dtype = self.dtype;
        Ok(match self.kind {
            Kind::Truths(items) => Values::Bool(items),
            Kind::Texts(items) => Values::Bytes(items),
            Kind::Reals(items) => reals(items, dtype)?,
            Kind::Integers(items) => match dtype {
                DType::I64 => Values::I64(narrowed(&items, dtype)?.into()),
                DType::I32 => Values::I32(narrowed(&items, dtype)?.into()),
                DType::I16 => Values::I16(narrowed(&items, dtype)?.into()),
                DType::I8 => Values::I8(narrowed(&items, dtype)?.into()),
                DType::U64 => Values::U64(narrowed(&items, dtype)?.into()),
                DType::U32 => Values::U32(narrowed(&items, dtype)?.into()),
                DType::U16 => Values::U16(narrowed(&items, dtype)?.into()),
                _ => Values::U8(narrowed(&items, dtype)?.into()),
            },
        })
    }
}

/// Rounds numbers to a datatype, as tensors of numbers are.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "documented rounding"
)]
fn reals(items: Vec<f64>, dtype: DType) -> Result<Values, String> {
    Ok(match dtype {
        DType::F64 => Values::F64(items.into()),
        DType::F32 => Values::F32(items.iter().map(|&value| value as f32).collect()),
        DType::F16 => Values::F16(items.iter().map(|&value| f16::from_f64(value)).collect()),
        DType::BF16 => Values::BF16(items.iter().map(|&value| bf16::from_f64(value)).collect()),
        other => return Err(format!("{other} is no datatype of reals")),
    })
}

fn narrowed<T: TryFrom<i128>>(items: &[i128], dtype: DType) -> Result<Vec<T>, String> {
    let narrowed = items
        .iter()
        .map(|&item| T::try_from(item).map_err(|_| out_of_range(&item.to_string(), dtype)));
    narrowed.collect()
}

fn integer(text: &str) -> Option<i128> {
    if let Ok(integer) = text.parse::<i128>() {
        return Some(integer);
    }
    let value: f64 = text.parse().ok()?;
    let is_integer = value.fract() == 0.0 && value.abs() <= EXACT_MAX;
    // Written without a fraction it is read as it is.
    is_integer
        .then(|| format!("{value:.0}").parse().ok())
        .flatten()
}

fn out_of_range(text: &str, dtype: DType) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("{shown} is no {dtype}")
}

#[cfg(test)]
mod tests;
