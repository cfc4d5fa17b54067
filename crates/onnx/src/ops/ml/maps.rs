//! Maps to columns: a row for each map, which comes as a text of JSON.

use std::collections::HashMap;

use coracle_model::{LoadError, RunError, RunErrorKind};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};

use crate::error::{internal, malformed, shape_error, unsupported, value_error};
use crate::file::MapType;
use crate::json::map_of_json;
use crate::labels::Labels;
use crate::ops::elementwise::needed;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{append, n_elements, range, tensor, zeros};

/// Doubles from here on are no integers of 64 bits.
const INTEGER_END: f32 = 9_223_372_036_854_775_808.0;

#[derive(Debug)]
struct DictVectorizer {
    map: MapType,
    /// The keys, one for each column; a key may have several.
    vocabulary: Labels,
}

/// Builds `DictVectorizer`: a column for each key that it knows, nothing where a map lacks one; other keys are passed over.
pub(super) fn dict_vectorizer(build: &Build<'_, '_>) -> Built {
    let map = map_type(build)?;
    let names = ("int64_vocabulary", "string_vocabulary");
    let vocabulary = Labels::read(&build.attributes, names.0, names.1)?;
    let key = match vocabulary {
        Labels::Ints(_) => DType::I64,
        Labels::Texts(_) => DType::Bytes,
    };
    if key != map.key {
        return Err(malformed(format!(
            "the vocabulary is of {key}, the map's keys are {}",
            map.key
        )));
    }
    function(DictVectorizer { map, vocabulary }, vectorize)
}

fn map_type(build: &Build<'_, '_>) -> Result<MapType, LoadError> {
    build
        .map
        .ok_or_else(|| unsupported("its input is no map that came in"))
}

fn vectorize(
    operator: &DictVectorizer,
    inputs: &[Option<&Tensor>],
) -> Result<Vec<Tensor>, RunError> {
    let texts = texts(inputs)?;
    let n_columns = operator.vocabulary.len();
    let shape = vec![texts.len(), n_columns];
    n_elements(&shape)?;
    let none = zeros(operator.map.value, 1);
    let mut all = zeros(operator.map.value, 0);
    for (row, text) in texts.iter().enumerate() {
        let (keys, values) = read(text, operator.map, row)?;
        match (&operator.vocabulary, &keys) {
            (Labels::Ints(columns), Values::I64(keys)) => {
                let places = places(keys.iter());
                fill(
                    &mut all,
                    (&values, &none),
                    columns.iter().map(|key| places.get(key)),
                )?;
            }
            (Labels::Texts(columns), Values::Bytes(keys)) => {
                let places = places(keys.iter());
                let columns = columns.iter().map(|key| places.get(key.as_slice()));
                fill(&mut all, (&values, &none), columns)?;
            }
            _ => return Err(internal("keys of another kind than the vocabulary")),
        }
    }
    Ok(vec![tensor(shape, all)?])
}

fn places<K: Eq + std::hash::Hash>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    keys.enumerate().map(|(place, key)| (key, place)).collect()
}

/// Appends the values at `places`, and `none` where there is none.
fn fill<'p>(
    all: &mut Values,
    (values, none): (&Values, &Values),
    places: impl Iterator<Item = Option<&'p usize>>,
) -> Result<(), RunError> {
    for place in places {
        let is_appended = match place {
            Some(&place) => append(all, values, place, place + 1),
            None => append(all, none, 0, 1),
        };
        if !is_appended {
            return Err(internal("values of another datatype than the map's"));
        }
    }
    Ok(())
}

fn texts<'t>(inputs: &[Option<&'t Tensor>]) -> Result<&'t ByteStrings, RunError> {
    match needed(inputs, 0)?.values() {
        Values::Bytes(texts) => Ok(texts),
        _ => Err(internal("maps that are no texts")),
    }
}

fn read(text: &[u8], map: MapType, row: usize) -> Result<(Values, Values), RunError> {
    map_of_json(text, map.key, map.value).map_err(|error| {
        let message = format!("map {row}: {error}; an object of keys and values belongs there");
        RunError::new(RunErrorKind::UnknownValue, message)
    })
}

#[derive(Debug)]
struct CastMap {
    map: MapType,
    is_to_integers: bool,
    /// How many columns there are, the keys being their numbers; `None` where each value has one, in the order of the keys.
    n_columns: Option<usize>,
}

/// Builds `CastMap`: the values of maps by integers, in the order of these.
pub(super) fn cast_map(build: &Build<'_, '_>) -> Built {
    let map = map_type(build)?;
    let attributes = &build.attributes;
    let to = attributes.word("cast_to", "TO_FLOAT")?;
    let most = attributes.int("max_map")?.unwrap_or(1);
    let form = attributes.word("map_form", "DENSE")?;
    let n_columns = match form {
        "DENSE" => None,
        "SPARSE" => {
            let most = usize::try_from(most).ok().filter(|&most| most > 0);
            Some(most.ok_or_else(|| malformed("max_map is no number of columns"))?)
        }
        other => return Err(unsupported(format!("map_form '{other}'"))),
    };
    // Numbers as texts, and texts as numbers, depend on the library's language.
    let is_to_integers = match (map.key, map.value, to) {
        (DType::I64, DType::F32, "TO_FLOAT") => false,
        (DType::I64, DType::F32, "TO_INT64") => true,
        (DType::I64, DType::Bytes, "TO_STRING") if n_columns.is_none() => false,
        (key, value, to) => {
            let message =
                format!("maps of {key} to {value} with cast_to '{to}' and map_form '{form}'");
            return Err(unsupported(message));
        }
    };
    let operator = CastMap {
        map,
        is_to_integers,
        n_columns,
    };
    function(operator, cast)
}

fn cast(operator: &CastMap, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let texts = texts(inputs)?;
    let mut all = zeros(operator.map.value, 0);
    let none = zeros(operator.map.value, 1);
    let mut width = operator.n_columns;
    for (row, text) in texts.iter().enumerate() {
        let (keys, values) = read(text, operator.map, row)?;
        let Values::I64(keys) = &keys else {
            return Err(internal("keys that are no integers"));
        };
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|&place| keys[place]);
        let Some(n_columns) = operator.n_columns else {
            let width = *width.get_or_insert(keys.len());
            if width != keys.len() {
                let n = keys.len();
                return Err(shape_error(format!(
                    "map {row} has {n} keys, those before it {width}; maps that are asked about together have as many"
                )));
            }
            n_elements(&[row + 1, width])?;
            fill(&mut all, (&values, &none), order.iter().map(Some))?;
            continue;
        };
        n_elements(&[row + 1, n_columns])?;
        if let Some(key) = keys.iter().find(|key| **key < 0) {
            return Err(value_error(format!("map {row}: key {key} is negative")));
        }
        let places = places(
            keys.iter()
                .map(|&key| usize::try_from(key).unwrap_or(usize::MAX)),
        );
        let columns = (0..n_columns).map(|column| places.get(&column));
        fill(&mut all, (&values, &none), columns)?;
    }
    let shape = vec![texts.len(), width.unwrap_or(0)];
    let values = match operator.is_to_integers {
        true => integers(&all)?,
        false => range(&all, 0, all.len()),
    };
    Ok(vec![tensor(shape, values)?])
}

fn integers(values: &Values) -> Result<Values, RunError> {
    let Values::F32(items) = values else {
        return Err(internal("values that are no floats"));
    };
    let integers = items.iter().map(|&item| {
        if (-INTEGER_END..INTEGER_END).contains(&item) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "within 64 bits; the fraction goes"
            )]
            return Ok(item as i64);
        }
        Err(value_error(format!("{item} is out of the range of INT64")))
    });
    Ok(Values::I64(integers.collect::<Result<Vec<_>, _>>()?.into()))
}
