//! Seldon Core's protocol of the first generation over REST: `SeldonMessage` to tensors and back.
//!
//! `data` is read, as `ndarray` or `tensor`, and answered as it came; the other kinds of messages (`binData`, `strData`, `jsonData`, `customData`,
//! `tftensor`) mean what a container of their author's makes of them, and are refused by name.

mod feedback;
mod grpc;
mod metadata;

use std::borrow::Cow;

use coracle_tensor::{DType, Tensor, Values};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::content::Content;
use crate::error::quoted;
use crate::parameters::choose_outputs;
use crate::v2::{self, Data, Input};
use crate::{Call, DecodeContext, EncodeContext, Layout, RequestError, json_string, render, v1};

pub use feedback::{Feedback, encode_feedback, n_rows, read_feedback};
pub use grpc::{feedback_json, request_json, response_message};
pub use metadata::{
    encode_status, graph_metadata, graph_metadata_message, metadata_name, model_metadata_message,
};

#[derive(Deserialize)]
#[serde(expecting = "a SeldonMessage: an object with \"data\"")]
struct Message<'a> {
    #[serde(borrow, default)]
    data: Option<DefaultData<'a>>,
    #[serde(borrow, default)]
    meta: Option<Meta<'a>>,
    #[serde(default, rename = "binData")]
    bin_data: Option<IgnoredAny>,
    #[serde(default, rename = "strData")]
    str_data: Option<IgnoredAny>,
    #[serde(default, rename = "jsonData")]
    json_data: Option<IgnoredAny>,
    #[serde(default, rename = "customData")]
    custom_data: Option<IgnoredAny>,
}

/// The matrix of a message.
#[derive(Deserialize)]
#[serde(expecting = "an object with \"ndarray\" or \"tensor\"")]
struct DefaultData<'a> {
    #[serde(borrow, default)]
    names: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    ndarray: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tensor: Option<JsonTensor<'a>>,
    #[serde(default)]
    tftensor: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with \"shape\" and \"values\"")]
struct JsonTensor<'a> {
    shape: Vec<i64>,
    #[serde(borrow)]
    values: &'a RawValue,
}

#[derive(Default, Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default)]
    puid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
}

/// Decodes the body of `POST /api/v1.0/predictions`.
///
/// # Errors
/// Code `InvalidArgument` naming what is at fault and where; `Unimplemented` for messages that are no `ndarray` or `tensor`.
pub fn decode_message(body: &[u8], ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        let message =
            "the request body is empty; send JSON such as {\"data\": {\"ndarray\": [[1.0, 2.0]]}}";
        return Err(RequestError::invalid(message));
    }
    let message: Message<'_> =
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))?;
    let Some(data) = message.data else {
        let others = [
            ("binData", message.bin_data.is_some()),
            ("strData", message.str_data.is_some()),
            ("jsonData", message.json_data.is_some()),
            ("customData", message.custom_data.is_some()),
        ];
        return Err(match others.into_iter().find(|(_, is_sent)| *is_sent) {
            Some((name, _)) => not_read(name),
            None => {
                RequestError::invalid("the message has no \"data\" with \"ndarray\" or \"tensor\"")
            }
        });
    };
    check_names(&data.names.unwrap_or_default(), ctx)?;
    let outputs = choose_outputs(ctx, ctx.method)?;
    if outputs.len() != 1 {
        let message = format!(
            "the model has {} outputs, of which Seldon's protocol gives one; ask it with V2",
            outputs.len()
        );
        return Err(RequestError::unimplemented(message));
    }
    let call = match (data.ndarray, data.tensor, data.tftensor) {
        (Some(ndarray), None, None) => of_rows(ndarray, ctx)?,
        (None, Some(tensor), None) => of_tensor(tensor, ctx)?,
        (None, None, Some(_)) => return Err(not_read("data.tftensor")),
        _ => {
            let message = "\"data\" has none, or several, of \"ndarray\" and \"tensor\"";
            return Err(RequestError::invalid(message));
        }
    };
    let meta = message.meta.unwrap_or_default();
    let tags = meta.tags.map(RawValue::get);
    if tags.is_some_and(|tags| !tags.starts_with('{')) {
        return Err(RequestError::invalid("meta.tags must be an object"));
    }
    Ok(Call {
        outputs,
        id: meta.puid.map(Cow::into_owned),
        tags: tags.map(Box::from),
        ..call
    })
}

fn not_read(name: &str) -> RequestError {
    RequestError::unimplemented(format!(
        "{name} is not read; send \"data\" with \"ndarray\" or \"tensor\""
    ))
}

/// Checks names against the columns of a model that knows its columns by name; other models' are free, as they are with Seldon.
fn check_names(names: &[Cow<'_, str>], ctx: &DecodeContext<'_>) -> Result<(), RequestError> {
    let Some(columns) = ctx.signature.columns.as_ref().filter(|_| !names.is_empty()) else {
        return Ok(());
    };
    let mut pairs = names.iter().zip(columns);
    let wrong = pairs.find(|(name, column)| **name != column.name);
    Err(RequestError::invalid(match wrong {
        None if names.len() == columns.len() => return Ok(()),
        None => format!(
            "data.names has {} names, the model {} columns",
            names.len(),
            columns.len()
        ),
        Some((name, column)) => format!(
            "data.names has {} where the model's column is {}; the order is the model's",
            quoted(name),
            quoted(&column.name)
        ),
    }))
}

/// Returns an error of another protocol with the place as it is called here.
fn placed(error: &RequestError, theirs: &str, ours: &str) -> RequestError {
    RequestError::new(error.code(), error.to_string().replace(theirs, ours))
}

/// Rows are what V1 calls instances.
fn of_rows(ndarray: &RawValue, ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    let body = [b"{\"instances\":", ndarray.get().as_bytes(), b"}"].concat();
    let call = v1::decode_predict(&body, ctx)
        .map_err(|error| placed(&error, "instances", "data.ndarray"))?;
    Ok(Call {
        layout: Layout::Rows,
        ..call
    })
}

fn of_tensor(tensor: JsonTensor<'_>, ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    let input = Input {
        name: Cow::Borrowed("data.tensor"),
        shape: Cow::Owned(tensor.shape),
        datatype: Cow::Borrowed(DType::F64.name()),
        content: Content::Plain,
        data: Data::Json(tensor.values),
    };
    let inputs =
        v2::tensors(ctx, &[input]).map_err(|error| placed(&error, "inputs[0]", "data.tensor"))?;
    Ok(Call {
        n_rows: inputs.first().map_or(0, Tensor::n_rows),
        inputs,
        layout: Layout::Tensor,
        ..Call::default()
    })
}

/// Appends the answer to a prediction, in the form of the request; what is no number is an `ndarray`.
pub fn encode_message(ctx: &EncodeContext<'_>, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"data\":{\"names\":[");
    if let Some(output) = outputs.first() {
        // Seldon's names for the columns of a matrix whose author gives none.
        if let [_rows, width] = output.shape() {
            render::separated(0..*width, out, |column, out| {
                out.extend_from_slice(b"\"t:");
                render::integer(column, out);
                out.push(b'"');
            });
        }
        if call.layout == Layout::Tensor && !matches!(output.values(), Values::Bytes(_)) {
            out.extend_from_slice(b"],\"tensor\":{\"shape\":[");
            render::separated(output.shape().iter(), out, |size, out| {
                render::integer(*size, out)
            });
            out.extend_from_slice(b"],\"values\":");
            render::flat(output.values(), out);
            out.push(b'}');
        } else {
            out.extend_from_slice(b"],\"ndarray\":");
            render::tensor(output, out);
        }
    } else {
        out.push(b']');
    }
    out.extend_from_slice(b"},\"meta\":{");
    if let Some(puid) = &call.id {
        out.extend_from_slice(b"\"puid\":");
        json_string(puid, out);
        out.push(b',');
    }
    if let Some(tags) = &call.tags {
        out.extend_from_slice(b"\"tags\":");
        out.extend_from_slice(tags.as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(b"\"requestPath\":{");
    json_string(ctx.model_name, out);
    out.extend_from_slice(b":\"coracle\"}}}");
}

/// Returns the body of an error answer, as Seldon's executor has it.
#[must_use]
pub fn error_body(status: u16, message: &str) -> Vec<u8> {
    let mut body = b"{\"status\":{\"code\":".to_vec();
    render::integer(status, &mut body);
    body.extend_from_slice(b",\"info\":");
    json_string(message, &mut body);
    body.extend_from_slice(b",\"status\":\"FAILURE\"}}");
    body
}

#[cfg(test)]
mod tests;
