//! Values to other values: labels, categories, columns.

use std::collections::HashMap;

use coracle_model::{LoadError, RunError, RunErrorKind};
use coracle_tensor::{DType, Tensor, Values};

use crate::error::{dtype_error, malformed, shape_error, unsupported, value_error};
use crate::ops::elementwise::needed;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{append, n_elements, pick, tensor, to_f64s, to_i64s};

/// A value that maps are looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Int(i64),
    /// The bits of a number; all NaNs are one, and so are both zeros.
    Real(u64),
    Text(Vec<u8>),
}

/// Returns the keys that a tensor's elements are; `None` for other datatypes.
fn keys(values: &Values) -> Option<Vec<Key>> {
    let real = |value: f64| {
        if value.is_nan() {
            Key::Real(f64::NAN.to_bits())
        } else {
            Key::Real((value + 0.0).to_bits())
        }
    };
    Some(match values {
        Values::I64(items) => items.iter().map(|&item| Key::Int(item)).collect(),
        Values::I32(items) => items.iter().map(|&item| Key::Int(item.into())).collect(),
        Values::I16(items) => items.iter().map(|&item| Key::Int(item.into())).collect(),
        Values::F32(items) => items.iter().map(|&item| real(item.into())).collect(),
        Values::F64(items) => items.iter().map(|&item| real(item)).collect(),
        Values::Bytes(items) => items.iter().map(|item| Key::Text(item.to_vec())).collect(),
        _ => return None,
    })
}

/// A map from values to values.
#[derive(Debug)]
struct Mapping {
    from: DType,
    places: HashMap<Key, usize>,
    /// The values, and after them the one for all other keys.
    values: Values,
}

impl Mapping {
    fn try_new(from: &Values, values: &Values, default: &Values) -> Result<Self, LoadError> {
        let keys = keys(from).ok_or_else(|| unsupported(format!("keys of {}", from.dtype())))?;
        if keys.len() != values.len() {
            return Err(malformed(format!(
                "{} keys for {} values",
                keys.len(),
                values.len()
            )));
        }
        let mut all = values.clone();
        if default.len() != 1 || !append(&mut all, default, 0, 1) {
            return Err(malformed(format!(
                "the default is not one {}",
                values.dtype()
            )));
        }
        let mut places = HashMap::with_capacity(keys.len());
        for (place, key) in keys.into_iter().enumerate() {
            // The first of equal keys counts, as in ONNX Runtime.
            places.entry(key).or_insert(place);
        }
        Ok(Self {
            from: from.dtype(),
            places,
            values: all,
        })
    }

    fn map(&self, input: &Tensor) -> Result<Tensor, RunError> {
        let keys = keys(input.values()).filter(|_| input.dtype() == self.from);
        let keys = keys.ok_or_else(|| {
            dtype_error(format!("{} where {} is mapped", input.dtype(), self.from))
        })?;
        let default = self.values.len() - 1;
        let places: Vec<usize> = keys
            .iter()
            .map(|key| self.places.get(key).copied().unwrap_or(default))
            .collect();
        tensor(input.shape().to_vec(), pick(&self.values, &places))
    }
}

const UNUSED: &[u8] = b"_Unused";

fn one_text(text: &[u8]) -> Values {
    Values::Bytes([text].into_iter().collect())
}

/// Builds `LabelEncoder`: with `classes_strings` in version 1, with keys and values since.
pub(super) fn label_encoder(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    if attributes.has("classes_strings") {
        let classes = Values::Bytes(attributes.texts("classes_strings")?.iter().collect());
        let n = i64::try_from(classes.len()).unwrap_or(i64::MAX);
        return both_ways(build, &Values::I64((0..n).collect()), &classes);
    }
    let keys = listed(build, "keys")?.ok_or_else(|| malformed("the keys are missing"))?;
    let values = listed(build, "values")?.ok_or_else(|| malformed("the values are missing"))?;
    let default = default_of(build, &values)?;
    let mut mapping = Mapping::try_new(&keys, &values, &default)?;
    // NaN is a key like others since version 4, and equal to nothing before.
    if build.opset < 4 {
        mapping.places.remove(&Key::Real(f64::NAN.to_bits()));
    }
    function(mapping, |mapping, inputs| {
        Ok(vec![mapping.map(needed(inputs, 0)?)?])
    })
}

/// Returns the list of keys or values, whichever attribute holds it.
fn listed(build: &Build<'_, '_>, what: &str) -> Result<Option<Values>, LoadError> {
    let attributes = &build.attributes;
    let name = |kind: &str| format!("{what}_{kind}");
    let mut found = Vec::new();
    if let Some(tensor) = attributes.tensor(&name("tensor"))? {
        found.push(tensor.values().clone());
    }
    let floats = attributes.floats(&name("floats"))?;
    if !floats.is_empty() {
        found.push(Values::F32(floats.to_vec().into()));
    }
    let ints = attributes.ints(&name("int64s"))?;
    if !ints.is_empty() {
        found.push(Values::I64(ints.to_vec().into()));
    }
    let texts = attributes.texts(&name("strings"))?;
    if !texts.is_empty() {
        found.push(Values::Bytes(texts.iter().collect()));
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        n => Err(malformed(format!("{n} lists of {what}, one is allowed"))),
    }
}

/// Returns what keys that are not listed are mapped to.
fn default_of(build: &Build<'_, '_>, values: &Values) -> Result<Values, LoadError> {
    let attributes = &build.attributes;
    let (float, int, text) = (
        attributes.float("default_float")?,
        attributes.int("default_int64")?,
        attributes.text("default_string")?,
    );
    if let Some(tensor) = attributes.tensor("default_tensor")? {
        return Ok(tensor.values().clone());
    }
    Ok(match values.dtype() {
        DType::Bytes => one_text(text.unwrap_or(UNUSED)),
        DType::I64 => Values::I64(vec![int.unwrap_or(-1)].into()),
        DType::F32 => Values::F32(vec![float.unwrap_or(-0.0)].into()),
        DType::F64 => Values::F64(vec![-0.0].into()),
        DType::I32 => Values::I32(vec![-1].into()),
        DType::I16 => Values::I16(vec![-1].into()),
        other => {
            return Err(unsupported(format!(
                "values of {other} without a default_tensor"
            )));
        }
    })
}

/// Maps integers to strings or back, whichever comes in.
fn both_ways(build: &Build<'_, '_>, ints: &Values, texts: &Values) -> Built {
    let attributes = &build.attributes;
    if ints.len() != texts.len() {
        let (n, n_texts) = (ints.len(), texts.len());
        return Err(malformed(format!("{n} integers for {n_texts} strings")));
    }
    // The last of equal keys counts here, as in ONNX Runtime.
    let backwards: Vec<usize> = (0..ints.len()).rev().collect();
    let (ints, texts) = (&pick(ints, &backwards), &pick(texts, &backwards));
    let default_int = Values::I64(vec![attributes.int("default_int64")?.unwrap_or(-1)].into());
    let default_text = one_text(attributes.text("default_string")?.unwrap_or(UNUSED));
    let maps = (
        Mapping::try_new(ints, texts, &default_text)?,
        Mapping::try_new(texts, ints, &default_int)?,
    );
    function(maps, |(to_texts, to_ints), inputs| {
        let input = needed(inputs, 0)?;
        let map = match input.dtype() {
            DType::Bytes => to_ints,
            _ => to_texts,
        };
        Ok(vec![map.map(input)?])
    })
}

pub(super) fn category_mapper(build: &Build<'_, '_>) -> Built {
    let ints = Values::I64(build.attributes.ints("cats_int64s")?.to_vec().into());
    let texts = Values::Bytes(build.attributes.texts("cats_strings")?.iter().collect());
    both_ways(build, &ints, &texts)
}

#[derive(Debug)]
struct OneHot {
    is_text: bool,
    places: HashMap<Key, usize>,
    n_categories: usize,
    /// Whether other values are all zeros; otherwise they are refused.
    takes_others: bool,
}

pub(super) fn one_hot(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let ints = attributes.ints("cats_int64s")?;
    let texts = attributes.texts("cats_strings")?;
    let categories = match (ints, texts) {
        (ints, []) if !ints.is_empty() => Values::I64(ints.to_vec().into()),
        ([], texts) if !texts.is_empty() => Values::Bytes(texts.iter().collect()),
        _ => {
            return Err(malformed(
                "one of 'cats_int64s' and 'cats_strings' is needed",
            ));
        }
    };
    let keys = keys(&categories).unwrap_or_default();
    let mut places = HashMap::with_capacity(keys.len());
    for (place, key) in keys.into_iter().enumerate() {
        // The last of equal categories counts.
        places.insert(key, place);
    }
    let one_hot = OneHot {
        is_text: categories.dtype() == DType::Bytes,
        n_categories: categories.len(),
        places,
        takes_others: attributes.flag("zeros", true)?,
    };
    function(one_hot, hot)
}

fn hot(one_hot: &OneHot, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    if one_hot.is_text != (input.dtype() == DType::Bytes) {
        return Err(dtype_error(format!(
            "{} where other categories are",
            input.dtype()
        )));
    }
    let keys = match input.values() {
        values @ (Values::Bytes(_) | Values::I64(_)) => keys(values).unwrap_or_default(),
        _ => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "numbers are cut to integers, as ONNX says"
            )]
            let cut = |&value: &f64| Key::Int(value as i64);
            to_f64s(input)?.iter().map(cut).collect()
        }
    };
    let mut shape = input.shape().to_vec();
    shape.push(one_hot.n_categories);
    let mut values = vec![0.0; n_elements(&shape)?];
    for (key, cells) in keys
        .iter()
        .zip(values.chunks_exact_mut(one_hot.n_categories))
    {
        match one_hot.places.get(key) {
            Some(&place) => cells[place] = 1.0,
            None if one_hot.takes_others => {}
            None => {
                return Err(RunError::new(
                    RunErrorKind::UnknownValue,
                    "a category that the model does not know",
                ));
            }
        }
    }
    Ok(vec![tensor(shape, Values::F32(values.into()))?])
}

/// Builds `ArrayFeatureExtractor`: columns by their indices.
pub(super) fn array_feature_extractor(_build: &Build<'_, '_>) -> Built {
    function((), |(), inputs| {
        let (input, columns) = (needed(inputs, 0)?, to_i64s(needed(inputs, 1)?)?);
        let Some((&width, outer)) = input.shape().split_last() else {
            return Err(shape_error("a scalar has no columns"));
        };
        let columns = columns.into_iter().map(|column| {
            let index = usize::try_from(column).ok().filter(|&index| index < width);
            index.ok_or_else(|| value_error(format!("column {column} of {width}")))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let n_rows: usize = outer.iter().product();
        let mut shape = match outer {
            [] => vec![1],
            outer => outer.to_vec(),
        };
        shape.push(columns.len());
        let mut places = Vec::with_capacity(n_elements(&shape)?);
        for row in 0..n_rows {
            places.extend(columns.iter().map(|column| row * width + column));
        }
        Ok(vec![tensor(shape, pick(input.values(), &places))?])
    })
}
