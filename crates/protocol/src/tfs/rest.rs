//! The dialect over REST.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use coracle_model::TensorSpec;
use coracle_tensor::{DType, Tensor};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::examples::{self, Features};
use super::{Question, class_name, examples_call, signature_outputs, signatures, tensorflow_type};
use crate::content::Content;
use crate::error::quoted;
use crate::facts::{ModelFacts, VersionEntry};
use crate::parameters::{Parameters, choose_outputs};
use crate::v2::{self, Data, Input, RANK_MAX};
use crate::{Call, DecodeContext, EncodeContext, Layout, RequestError, render};

#[derive(Deserialize)]
struct Columns<'a> {
    #[serde(borrow, default)]
    signature_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    inputs: BTreeMap<Cow<'a, str>, &'a RawValue>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// Decodes a prediction whose `inputs` is an object: tensors by input, or columns of the table by name.
///
/// # Errors
/// `otherwise` if the body is no such prediction, else code `InvalidArgument` naming the input at fault.
pub fn decode_columns(
    body: &[u8],
    ctx: &DecodeContext<'_>,
    otherwise: RequestError,
) -> Result<Call, RequestError> {
    let Ok(request) = serde_json::from_slice::<Columns<'_>>(body) else {
        return Err(otherwise);
    };
    let specs = &ctx.signature.inputs;
    let texts = as_lists(ctx, &request.inputs)?;
    let inputs = request.inputs.into_iter().map(|(name, sent)| {
        let json = texts.get(&name).map_or(sent, Box::as_ref);
        let index = specs.iter().position(|spec| spec.name == name);
        let spec = index.and_then(|index| specs.get(index));
        let is_unranked = index.is_some_and(|index| ctx.signature.unranked_inputs.contains(&index));
        Input {
            shape: Cow::Owned(match spec {
                Some(_) if is_unranked => nested_shape(sent.get()),
                Some(spec) => sent_shape(spec, sent.get()),
                // A column: flat, or a list for each row.
                None if depth(json.get()) > 1 => vec![-1, 1],
                None => vec![-1],
            }),
            datatype: Cow::Borrowed(column_datatype(spec, json.get()).name()),
            name,
            content: Content::Plain,
            data: Data::Json(json),
        }
    });
    let inputs = v2::tensors(ctx, &inputs.collect::<Vec<_>>())?;
    let parameters = request.parameters.unwrap_or_default();
    let outputs = match &request.signature_name {
        Some(name) => signature_outputs(ctx, name)?,
        None => choose_outputs(ctx, parameters.method.as_deref())?,
    };
    Ok(Call {
        n_rows: inputs.first().map_or(0, Tensor::n_rows),
        inputs,
        outputs,
        layout: Layout::Columns,
        timeout: parameters.timeout(),
        priority: parameters.priority(),
        ..Call::default()
    })
}

/// Returns what is sent as a list though it is none, by input: a number of an input without dimensions, and the texts of JSON that are
/// what is no tensor.
fn as_lists<'a>(
    ctx: &DecodeContext<'_>,
    inputs: &BTreeMap<Cow<'a, str>, &RawValue>,
) -> Result<BTreeMap<Cow<'a, str>, Box<RawValue>>, RequestError> {
    let mut lists = BTreeMap::new();
    for (index, spec) in ctx.signature.inputs.iter().enumerate() {
        let Some((name, json)) = inputs.get_key_value(spec.name.as_str()) else {
            continue;
        };
        let is_keyed = ctx.signature.keyed_inputs.contains(&index);
        let may_be_alone = spec.shape.is_empty() || ctx.signature.unranked_inputs.contains(&index);
        let is_alone = may_be_alone && (is_keyed || !json.get().starts_with('['));
        if !is_keyed && !is_alone {
            continue;
        }
        let items = match is_alone {
            true => vec![*json],
            false => serde_json::from_str(json.get()).map_err(|_other| {
                let name = quoted(name);
                RequestError::invalid(format!("input {name}: a list belongs there"))
            })?,
        };
        let mut list = vec![b'['];
        render::separated(items.iter(), &mut list, |item, out| match is_keyed {
            true => render::string(item.get(), out),
            false => out.extend_from_slice(item.get().as_bytes()),
        });
        list.push(b']');
        let list = RawValue::from_string(String::from_utf8_lossy(&list).into_owned());
        let list = list.map_err(|error| RequestError::invalid(error.to_string()))?;
        lists.insert(name.clone(), list);
    }
    Ok(lists)
}

/// Returns how many lists the first element is within.
fn depth(json: &str) -> usize {
    let mut bytes = json.bytes().filter(|byte| !byte.is_ascii_whitespace());
    bytes.position(|byte| byte != b'[').unwrap_or(0)
}

/// Returns the shape of what is sent for an input. One size that is open follows from the number of elements; several do from how the lists are nested.
fn sent_shape(spec: &TensorSpec, json: &str) -> Vec<i64> {
    let shape = spec.wire_shape();
    if shape.iter().filter(|&&size| size < 0).count() < 2 {
        return shape;
    }
    let mut lengths = nested_shape(json);
    if lengths.last() == Some(&0) {
        // An empty list does not show what would be in it.
        let inner = shape.get(lengths.len()..).unwrap_or_default();
        lengths.extend(inner.iter().map(|&size| size.max(0)));
    }
    lengths
}

/// Returns the lengths of the first list and of the first lists in it: the shape of lists that all have the same.
fn nested_shape(json: &str) -> Vec<i64> {
    let mut lengths = Vec::new();
    let mut items: Vec<&RawValue>;
    let mut rest = json;
    while rest.starts_with('[') && lengths.len() <= RANK_MAX {
        items = serde_json::from_str(rest).unwrap_or_default();
        lengths.push(i64::try_from(items.len()).unwrap_or(i64::MAX));
        rest = items.first().map_or("", |item| item.get());
    }
    lengths
}

fn column_datatype(spec: Option<&TensorSpec>, json: &str) -> DType {
    let holds_text = json
        .bytes()
        .find(|byte| !byte.is_ascii_whitespace() && *byte != b'[')
        == Some(b'"');
    match spec {
        Some(spec) => spec.dtype,
        None if holds_text => DType::Bytes,
        None => DType::F64,
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with \"examples\"")]
struct Examples<'a> {
    #[serde(borrow, default)]
    signature_name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    context: Option<JsonFeatures<'a>>,
    #[serde(borrow)]
    examples: Vec<JsonFeatures<'a>>,
}

/// Features as they were sent; their values are read once their names can be told.
type JsonFeatures<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Option<f64>),
    Many(Vec<Option<f64>>),
}

impl OneOrMany {
    fn into_values(self) -> Vec<f64> {
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        match self {
            Self::One(value) => vec![number(value)],
            Self::Many(values) => values.into_iter().map(number).collect(),
        }
    }
}

/// Reads the values of the features at `place`.
fn features(place: impl fmt::Display, sent: JsonFeatures<'_>) -> Result<Features, RequestError> {
    let mut all = Features::new();
    for (name, json) in sent {
        let values: OneOrMany = serde_json::from_str(json.get()).map_err(|_other| {
            let name = quoted(&name);
            RequestError::invalid(format!(
                "{place}: feature {name} is neither a number nor a list of numbers"
            ))
        })?;
        all.insert(name.into_owned(), values.into_values());
    }
    Ok(all)
}

/// Decodes the body of `POST /v1/models/M:classify` and `:regress`.
///
/// # Errors
/// Code `InvalidArgument` naming the example and feature at fault.
pub fn decode_examples(
    body: &[u8],
    question: Question,
    ctx: &DecodeContext<'_>,
) -> Result<Call, RequestError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        let message = "the request body is empty; send JSON such as {\"examples\": [{\"x\": 1.0}]}";
        return Err(RequestError::invalid(message));
    }
    let request: Examples<'_> =
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))?;
    // The signature must be there, though the question alone says which output answers.
    signature_outputs(ctx, request.signature_name.as_deref().unwrap_or_default())?;
    let sent = request.examples.into_iter().enumerate();
    let rows = sent.map(|(index, sent)| features(format_args!("examples[{index}]"), sent));
    let rows: Vec<Features> = rows.collect::<Result<_, _>>()?;
    let common = features("context", request.context.unwrap_or_default())?;
    let table = examples::table(ctx, &rows, &common)?;
    examples_call(ctx, question, table)
}

/// Appends the answer to a classification: for each example its classes, each with its score.
pub fn encode_classes(ctx: &EncodeContext<'_>, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"results\":[");
    if let (Some(output), Some(&index)) = (outputs.first(), call.outputs.first()) {
        let spec = ctx.signature.outputs.get(index);
        let n_classes = output.shape().get(1).copied().unwrap_or(1);
        render::separated(0..call.n_rows, out, |row, out| {
            out.push(b'[');
            render::separated(0..n_classes, out, |column, out| {
                out.push(b'[');
                render::string(&class_name(spec, column), out);
                out.push(b',');
                let element = row.saturating_mul(n_classes).saturating_add(column);
                render::element(output.values(), element, out);
                out.push(b']');
            });
            out.push(b']');
        });
    }
    out.extend_from_slice(b"]}");
}

/// Appends the answer to a regression: a number for each example.
pub fn encode_values(outputs: &[Tensor], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"results\":");
    match outputs.first() {
        Some(output) => render::flat(output.values(), out),
        None => out.extend_from_slice(b"[]"),
    }
    out.push(b'}');
}

/// Appends where a model's versions are in their lives, in this dialect's words, and whether it is `ready`, in KServe's.
pub fn model_status(name: &str, versions: &[VersionEntry], ready: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    render::string(name, out);
    out.extend_from_slice(if ready {
        b",\"ready\":true,\"model_version_status\":["
    } else {
        b",\"ready\":false,\"model_version_status\":["
    });
    render::separated(versions.iter(), out, |entry, out| {
        out.extend_from_slice(b"{\"version\":");
        render::string(&entry.version, out);
        out.extend_from_slice(b",\"state\":");
        render::string(entry.state().0, out);
        let (code, message) = match &entry.failure {
            Some((code, message)) => (code.as_str().to_ascii_uppercase(), message.as_str()),
            None => ("OK".to_owned(), ""),
        };
        out.extend_from_slice(b",\"status\":{\"error_code\":");
        render::string(&code, out);
        out.extend_from_slice(b",\"error_message\":");
        render::string(message, out);
        out.extend_from_slice(b"}}");
    });
    out.extend_from_slice(b"]}");
}

/// Appends a model's signatures.
pub fn metadata(facts: ModelFacts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"model_spec\":{\"name\":");
    render::string(facts.name, out);
    out.extend_from_slice(b",\"signature_name\":\"\",\"version\":");
    render::string(facts.version, out);
    out.extend_from_slice(b"},\"metadata\":{\"signature_def\":{\"signature_def\":{");
    render::separated(
        signatures(facts).into_iter(),
        out,
        |(name, outputs), out| {
            render::string(&name, out);
            out.extend_from_slice(b":{\"inputs\":{");
            let unranked = &facts.signature.unranked_inputs;
            let inputs = facts.signature.inputs.iter().enumerate();
            render::separated(inputs, out, |(index, spec), out| {
                tensor(spec, unranked.contains(&index), out);
            });
            out.extend_from_slice(b"},\"outputs\":{");
            render::separated(outputs.into_iter(), out, |spec, out| {
                tensor(spec, false, out)
            });
            out.extend_from_slice(b"},\"method_name\":\"tensorflow/serving/predict\"}");
        },
    );
    out.extend_from_slice(b"}}}}");
}

fn tensor(spec: &TensorSpec, is_unranked: bool, out: &mut Vec<u8>) {
    render::string(&spec.name, out);
    out.extend_from_slice(b":{\"name\":");
    render::string(&format!("{}:0", spec.name), out);
    out.extend_from_slice(b",\"dtype\":\"");
    out.extend_from_slice(tensorflow_type(spec.dtype).0.as_bytes());
    out.extend_from_slice(b"\",\"tensor_shape\":{\"dim\":[");
    // What takes any number of dimensions has none to tell.
    let sizes = spec.wire_shape().into_iter().filter(|_| !is_unranked);
    render::separated(sizes, out, |size, out| {
        out.extend_from_slice(b"{\"size\":\"");
        render::integer(size, out);
        out.extend_from_slice(b"\",\"name\":\"\"}");
    });
    out.extend_from_slice(match is_unranked {
        true => b"],\"unknown_rank\":true}}",
        false => b"],\"unknown_rank\":false}}",
    });
}
