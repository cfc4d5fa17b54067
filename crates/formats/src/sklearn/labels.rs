//! `classes_` as labels, in the datatype in which the user wrote them.

use coracle_estimators::Labels;
use coracle_model::LoadError;
use coracle_pickle::{Array, DTypeKind, Node};
use coracle_tensor::Values;

use super::fitted::Fitted;

/// Returns the labels in attribute `classes_`.
///
/// # Errors
/// Kind `Unsupported` for labels that are neither numbers, texts nor truth values, or a list of arrays (several
/// outputs); `Malformed` if there are none.
pub(super) fn labels(fitted: &Fitted<'_>) -> Result<Labels, LoadError> {
    labels_in(fitted, "classes_")
}

/// Returns the labels in attribute `name`; see [`labels`].
pub(super) fn labels_in(fitted: &Fitted<'_>, name: &str) -> Result<Labels, LoadError> {
    let id = fitted.require(name)?;
    if matches!(fitted.graph.node(id), Node::List(_)) {
        return Err(fitted.unsupported("classifiers of several outputs are not supported"));
    }
    let array = fitted.array(name)?;
    let values = values(fitted, array).ok_or_else(|| {
        fitted.unsupported(format!(
            "'{name}' holds labels that are neither numbers, texts nor truth values"
        ))
    })?;
    if values.is_empty() || array.shape().len() != 1 {
        return Err(fitted.malformed(format!("'{name}' has shape {:?}", array.shape())));
    }
    Ok(Labels::new(values))
}

/// Returns the labels of each output, where `classes_` is a list of arrays; `None` where it is one array.
pub(super) fn labels_of_outputs(fitted: &Fitted<'_>) -> Result<Option<Vec<Labels>>, LoadError> {
    let id = fitted.require("classes_")?;
    let Node::List(items) = fitted.graph.node(id) else {
        return Ok(None);
    };
    let labels = items.iter().map(|&item| {
        let array = fitted.graph.array(item)?;
        let values = values(fitted, array)?;
        (!values.is_empty()).then(|| Labels::new(values))
    });
    let labels: Option<Vec<Labels>> = labels.collect();
    let labels = labels.filter(|labels| !labels.is_empty());
    labels
        .map(Some)
        .ok_or_else(|| fitted.malformed("'classes_' holds something else than labels"))
}

fn values(fitted: &Fitted<'_>, array: &Array) -> Option<Values> {
    let dtype = array.dtype();
    match (dtype.kind, dtype.item_size) {
        (DTypeKind::Bool, _) => array.to_bools().map(Values::Bool),
        (DTypeKind::Int, size) => integers(array.to_i64s()?, size, true),
        (DTypeKind::UInt, size) => integers(array.to_i64s()?, size, false),
        (DTypeKind::Float, 8) => Some(Values::F64(array.to_f64s()?.into())),
        (DTypeKind::Float, 4) => {
            let doubles = array.to_f64s()?;
            Some(Values::F32(doubles.into_iter().map(narrow).collect()))
        }
        (DTypeKind::Unicode | DTypeKind::ByteString, _) => {
            Some(Values::Bytes(array.to_strings()?.into_iter().collect()))
        }
        (DTypeKind::Object, _) => objects(fitted, array),
        _ => None,
    }
}

/// Returns the single-precision number that `value`, read from one, stands for.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "exact: it was widened from a single"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

fn integers(values: Vec<i64>, item_size: usize, signed: bool) -> Option<Values> {
    fn narrow<T: TryFrom<i64>>(values: Vec<i64>) -> Option<Vec<T>> {
        values
            .into_iter()
            .map(|value| T::try_from(value).ok())
            .collect()
    }
    Some(match (signed, item_size) {
        (true, 1) => Values::I8(narrow(values)?.into()),
        (true, 2) => Values::I16(narrow(values)?.into()),
        (true, 4) => Values::I32(narrow(values)?.into()),
        (true, 8) => Values::I64(values.into()),
        (false, 1) => Values::U8(narrow(values)?.into()),
        (false, 2) => Values::U16(narrow(values)?.into()),
        (false, 4) => Values::U32(narrow(values)?.into()),
        (false, 8) => Values::U64(narrow(values)?.into()),
        _ => return None,
    })
}

/// Python objects: all texts, all truth values or all integers.
fn objects(fitted: &Fitted<'_>, array: &Array) -> Option<Values> {
    let graph = fitted.graph;
    let ids = array.objects()?;
    let texts: Option<Vec<String>> = ids.iter().map(|&id| graph.string(id)).collect();
    if let Some(texts) = texts {
        return Some(Values::Bytes(texts.into_iter().collect()));
    }
    let truths: Option<Vec<bool>> = ids.iter().map(|&id| graph.bool(id)).collect();
    if let Some(truths) = truths {
        return Some(Values::Bool(truths));
    }
    let integers: Option<Vec<i64>> = ids.iter().map(|&id| graph.int(id)).collect();
    Some(Values::I64(integers?.into()))
}
