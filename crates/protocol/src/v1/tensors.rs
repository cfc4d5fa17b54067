//! Decoding instances of models that take other tensors than one table: of any rank, and several of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use coracle_model::TensorSpec;
use coracle_tensor::{Tensor, Values};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::parameters::{Parameters, choose_outputs};
use crate::tfs::signature_outputs;
use crate::unknown::{self, UnknownNames};
use crate::v2::{RANK_MAX, TensorHead, TensorName, read_nested};
use crate::{Call, DecodeContext, Layout, RequestError};

#[derive(Deserialize)]
#[serde(expecting = "an object with \"instances\"")]
struct Request<'a> {
    #[serde(borrow, default)]
    instances: Option<&'a RawValue>,
    #[serde(borrow, default)]
    dataframe_records: Option<&'a RawValue>,
    #[serde(borrow, default)]
    dataframe_split: Option<&'a RawValue>,
    #[serde(borrow, default)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signature_name: Option<Cow<'a, str>>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// An instance with a value for each input.
type Instance<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Decodes a body whose `instances` (or `inputs`) are values of the model's only input, or objects with a value for each
/// input by name. A value is a number, a string, or lists of them as deep as the input's shape.
///
/// # Errors
/// Code `InvalidArgument` naming the input at fault.
pub(super) fn decode(body: &[u8], ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))?;
    let lists = [
        ("instances", request.instances, Layout::Rows),
        ("inputs", request.inputs, Layout::Both),
        ("dataframe_records", request.dataframe_records, Layout::Rows),
    ];
    let mut lists = lists
        .into_iter()
        .filter_map(|(key, json, layout)| Some((key, json?.get(), layout)));
    let (key, json, layout) = match (lists.next(), lists.next()) {
        (Some((one, ..)), _) if request.dataframe_split.is_some() => {
            let message =
                format!("the request has \"{one}\" and \"dataframe_split\"; send one of them");
            return Err(RequestError::invalid(message));
        }
        (Some(list), None) => list,
        (None, _) if request.dataframe_split.is_some() => {
            let message =
                "the model takes no table that \"dataframe_split\" could be; send \"instances\"";
            return Err(RequestError::invalid(message));
        }
        (None, _) => {
            let message = "the request has neither \"instances\" nor \"inputs\"; send {\"instances\": [...]}, or MLflow's \"dataframe_records\"";
            return Err(RequestError::invalid(message));
        }
        (Some((one, ..)), Some((other, ..))) => {
            let message = format!("the request has \"{one}\" and \"{other}\"; send one of them");
            return Err(RequestError::invalid(message));
        }
    };
    let parameters = request.parameters.unwrap_or_default();
    let outputs = match &request.signature_name {
        Some(name) => signature_outputs(ctx, name)?,
        None => choose_outputs(ctx, parameters.method.as_deref())?,
    };
    let specs = ctx.signature.inputs.as_slice();
    let inputs = match specs {
        [spec] if is_unnamed(ctx, spec, json) => {
            let list = listed(ctx, spec, key, json);
            let name = TensorName::Instances { key, input: None };
            let tensor = tensor(ctx, (0, spec), name, &list)?;
            // What came as it is has no dimensions.
            vec![match list {
                Cow::Owned(_) => only_number(tensor)?,
                Cow::Borrowed(_) => tensor,
            }]
        }
        specs => by_name(ctx, specs, key, json)?,
    };
    let n_rows = inputs.first().map_or(0, Tensor::n_rows);
    let has_items = inputs.iter().any(|input| !input.values().is_empty());
    if n_rows == 0 && !has_items {
        let message = format!("\"{key}\" is empty; at least one instance is needed");
        return Err(RequestError::invalid(message));
    }
    Ok(Call {
        n_rows,
        inputs,
        outputs,
        layout,
        timeout: parameters.timeout(),
        priority: parameters.priority(),
        ..Call::default()
    })
}

/// Tells whether instances are values of the model's only input, and not objects with that by name.
fn is_unnamed(ctx: &DecodeContext<'_>, spec: &TensorSpec, json: &str) -> bool {
    let mut bytes = json.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let begins_with_object = bytes.next() == Some(b'[') && bytes.next() == Some(b'{');
    if !begins_with_object || ctx.signature.keyed_inputs.is_empty() {
        return !begins_with_object;
    }
    // An object may be the value itself; one that has the input's name, and under it no plain value, is not.
    let first: Result<Vec<Instance<'_>>, _> = serde_json::from_str(json);
    let first = first
        .ok()
        .and_then(|instances| instances.into_iter().next());
    let named = first.filter(|instance| instance.len() == 1);
    let value = named.and_then(|instance| instance.get(spec.name.as_str()).copied());
    !value.is_some_and(|value| value.get().starts_with(['{', '[']))
}

/// Returns the only value of an input that may have no dimensions as a list; `inputs` may have it as it is.
fn listed<'j>(
    ctx: &DecodeContext<'_>,
    spec: &TensorSpec,
    key: &str,
    json: &'j str,
) -> Cow<'j, str> {
    let is_unranked = !ctx.signature.unranked_inputs.is_empty();
    let may_be_plain = spec.shape.is_empty() || is_unranked;
    let is_plain = may_be_plain && ctx.signature.keyed_inputs.is_empty();
    match is_plain && key == "inputs" && !json.starts_with(['[', '{']) {
        true => Cow::Owned(format!("[{json}]")),
        false => Cow::Borrowed(json),
    }
}

fn tensor(
    ctx: &DecodeContext<'_>,
    (index, spec): (usize, &TensorSpec),
    name: TensorName<'_>,
    json: &str,
) -> Result<Tensor, RequestError> {
    if ctx.signature.keyed_inputs.contains(&index) {
        return json_texts(spec, json, ctx.elements_max)
            .map_err(|error| RequestError::invalid(format!("{name}: {error}")));
    }
    let is_unranked = ctx.signature.unranked_inputs.contains(&index);
    let shape = match is_unranked {
        true => vec![-1; RANK_MAX],
        false => spec.wire_shape(),
    };
    let head = TensorHead {
        name,
        dtype: spec.dtype,
        shape: &shape,
        accepts_missing: spec.accepts_missing,
        elements_max: ctx.elements_max,
    };
    let tensor = read_nested(json, head)?;
    match (spec.shape.as_slice(), tensor.shape()) {
        // The only instance's number.
        ([], [1]) => only_number(tensor),
        _ => Ok(tensor),
    }
}

/// Returns a tensor of one number without dimensions.
fn only_number(tensor: Tensor) -> Result<Tensor, RequestError> {
    let (_, values) = tensor.into_parts();
    Tensor::try_new(Vec::new(), values).map_err(|error| RequestError::invalid(error.to_string()))
}

/// Returns the items of a list as the texts that they are; all of them as one, where the input has no dimension.
///
/// # Errors
/// Says what is no list, or has too many items.
fn json_texts(spec: &TensorSpec, json: &str, elements_max: usize) -> Result<Tensor, String> {
    let items: Vec<&RawValue> =
        serde_json::from_str(json).map_err(|_other| "a list belongs there".to_owned())?;
    if items.len() > elements_max {
        return Err(format!(
            "more than {elements_max} values; send smaller batches"
        ));
    }
    let texts = Values::Bytes(items.iter().map(|item| item.get()).collect());
    match (spec.shape.is_empty(), items.len()) {
        (false, _) => Ok(Tensor::from_values(texts)),
        (true, 1) => Tensor::try_new(Vec::new(), texts).map_err(|error| error.to_string()),
        (true, n) => Err(format!("{n} values, the model takes one")),
    }
}

/// Collects the values of each input over all instances.
fn by_name(
    ctx: &DecodeContext<'_>,
    specs: &[TensorSpec],
    key: &str,
    json: &str,
) -> Result<Vec<Tensor>, RequestError> {
    let names = || unknown::listed(specs.iter().map(|spec| spec.name.as_str()));
    let instances: Vec<Instance<'_>> = serde_json::from_str(json).map_err(|_other| {
        RequestError::invalid(format!(
            "\"{key}\" is no list of objects with a value for each input: {}",
            names()
        ))
    })?;
    for (row, instance) in instances.iter().enumerate() {
        let known = |name: &str| specs.iter().any(|spec| spec.name == name);
        let keys = instance.keys().map(AsRef::as_ref);
        if let Some(unknown) = UnknownNames::among("input", keys, known) {
            return Err(RequestError::invalid(format!(
                "{key}[{row}]: {unknown}; the model has {}",
                names()
            )));
        }
        let own = specs.iter().map(|spec| spec.name.as_str());
        if let Some(missing) = unknown::missing("input", own, |name| instance.contains_key(name)) {
            let message = format!("{key}[{row}]: {missing}");
            return Err(RequestError::invalid(message));
        }
    }
    let tensors = specs.iter().enumerate().map(|(index, spec)| {
        let mut joined = String::from("[");
        for (row, instance) in instances.iter().enumerate() {
            if row > 0 {
                joined.push(',');
            }
            let value = instance.get(spec.name.as_str());
            joined.push_str(value.map_or("", |value| value.get()));
        }
        joined.push(']');
        let input = Some(spec.name.as_str());
        tensor(
            ctx,
            (index, spec),
            TensorName::Instances { key, input },
            &joined,
        )
    });
    tensors.collect()
}
