//! V2's requests over REST as the messages that they are over gRPC, and answers back: for graphs of several models, which hand tensors on byte for byte.
//!
//! [`to_message`] needs no signature: datatypes and shapes are those that the request says. [`from_message`] gives each output as it was asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_tensor::{DType, Tensor, Values};
use prost::Message as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::InputPlace;
use super::data::{self, TensorHead, TensorName};
use super::decode::{JsonInput, KSERVE_OUTPUT, Request, split_binary};
use crate::error::quoted;
use crate::grpc::inference::{
    InferInputTensor, InferOutputTensor, InferParameter, InferRequestedOutputTensor,
    ModelInferRequest, ModelInferResponse, ParameterChoice,
};
use crate::grpc::{PREFIX_BYTES, decode};
use crate::raw::{self, Buffer};
use crate::{RequestError, render};

/// The parameters that say how tensors are sent, which messages say otherwise.
const OF_SENDING: [&str; 3] = ["binary_data", "binary_data_size", "binary_data_output"];

type Parameters = BTreeMap<String, Parameter>;

/// A parameter's value; what is none of these is passed over, as the originals do.
#[derive(Deserialize)]
#[serde(untagged)]
enum Parameter {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Parameter {
    fn into_message(self) -> Option<InferParameter> {
        let choice = match self {
            Self::Bool(flag) => ParameterChoice::BoolParam(flag),
            Self::Unsigned(number) => ParameterChoice::Uint64Param(number),
            Self::Signed(number) => ParameterChoice::Int64Param(number),
            Self::Double(number) => ParameterChoice::DoubleParam(number),
            Self::Text(text) => ParameterChoice::StringParam(text),
            Self::Other(_) => return None,
        };
        Some(InferParameter {
            parameter_choice: Some(choice),
        })
    }
}

/// How the outputs of an answer are to be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// Raw, unless an output says otherwise.
    raw: bool,
    /// What outputs say by name.
    by_name: BTreeMap<String, bool>,
}

impl Forms {
    fn is_raw(&self, output: &str) -> bool {
        let said = self.by_name.get(output);
        let said = said.or_else(|| self.by_name.get(KSERVE_OUTPUT));
        said.copied().unwrap_or(self.raw)
    }
}

/// Tells whether a request says how or which outputs it wants, which only [`to_message`] reads; the data that it has may look like that, too.
#[must_use]
pub fn asks_for_outputs(json: &[u8]) -> bool {
    let mut names = json.split(|byte| *byte == b'"');
    names.any(|name| name.starts_with(b"binary_data") || name == b"outputs")
}

/// Returns a request as a ModelInferRequest with raw contents, and how its answer is to be given.
///
/// `json_length` is as for [`super::decode_infer`].
///
/// # Errors
/// Code `InvalidArgument` naming the input and element at fault.
pub fn to_message(
    body: &Bytes,
    json_length: Option<usize>,
    elements_max: usize,
) -> Result<(Bytes, Forms), RequestError> {
    let (json, binary) = match json_length {
        None => (&**body, None),
        Some(0) => {
            return Err(RequestError::invalid(
                "Inference-Header-Content-Length is 0, but a graph needs the JSON that describes its inputs",
            ));
        }
        Some(length) => {
            let (json, binary) = body.split_at_checked(length).ok_or_else(|| {
                RequestError::invalid(format!(
                    "Inference-Header-Content-Length is {length}, the body has {} bytes",
                    body.len()
                ))
            })?;
            (json, Some(binary))
        }
    };
    let request: Request<'_, Parameters> =
        serde_json::from_slice(json).map_err(|error| RequestError::from_json(json, &error))?;
    let is_raw = |parameters: &Option<Parameters>, name: &str| match parameters.as_ref()?.get(name)
    {
        Some(Parameter::Bool(flag)) => Some(*flag),
        _ => None,
    };
    let mut forms = Forms {
        raw: is_raw(&request.parameters, "binary_data_output") == Some(true),
        ..Forms::default()
    };
    let outputs = request.outputs.unwrap_or_default().into_iter();
    let outputs = outputs.map(|output| {
        let name = output.name.into_owned();
        if let Some(raw) = is_raw(&output.parameters, "binary_data") {
            forms.by_name.insert(name.clone(), raw);
        }
        InferRequestedOutputTensor {
            name,
            parameters: messages(output.parameters),
        }
    });
    let outputs = outputs.collect();
    let mut message = ModelInferRequest {
        id: request.id.map(Cow::into_owned).unwrap_or_default(),
        parameters: messages(request.parameters),
        outputs,
        ..ModelInferRequest::default()
    };
    let mut rest = binary;
    for (index, input) in request.inputs.into_iter().enumerate() {
        let (input, contents) = sent(body, (index, input), &mut rest, elements_max)?;
        message.inputs.push(input);
        message.raw_input_contents.extend(contents);
    }
    match rest {
        Some(rest) if !rest.is_empty() => Err(RequestError::invalid(format!(
            "{} bytes follow the tensor data; the inputs' binary_data_size must add up to all that comes after the JSON",
            rest.len()
        ))),
        _ => Ok((message.encode_to_vec().into(), forms)),
    }
}

fn messages(parameters: Option<Parameters>) -> BTreeMap<String, InferParameter> {
    let all = parameters.unwrap_or_default().into_iter();
    let kept = all.filter(|(name, _)| !OF_SENDING.contains(&name.as_str()));
    kept.filter_map(|(name, parameter)| Some((name, parameter.into_message()?)))
        .collect()
}

/// Returns an input with its raw contents; one in shared memory has none.
fn sent<'a>(
    body: &'a Bytes,
    (index, input): (usize, JsonInput<'a, Parameters>),
    rest: &mut Option<&'a [u8]>,
    elements_max: usize,
) -> Result<(InferInputTensor, Option<Bytes>), RequestError> {
    let place = InputPlace(index);
    let (size, has_region) = {
        let parameters = input.parameters.as_ref();
        let find = |name: &str| parameters.and_then(|all| all.get(name));
        let size = match find("binary_data_size") {
            Some(Parameter::Unsigned(size)) => Some(*size),
            _ => None,
        };
        (size, find("shared_memory_region").is_some())
    };
    let mut shape = input.shape;
    let contents = match (input.data, size, has_region) {
        (Some(json), None, false) => {
            let tensor = read(json, (index, &input.datatype, &shape), elements_max)?;
            let sizes = tensor.shape().iter().map(|size| i64::try_from(*size));
            shape = sizes
                .collect::<Result<_, _>>()
                .map_err(|error| RequestError::invalid(format!("{place}: {error}")))?;
            let mut bytes = Vec::new();
            raw::encode(tensor.values(), &mut bytes);
            Some(bytes.into())
        }
        (None, Some(size), false) => {
            let (data, tail) = split_binary(place, size, *rest)?;
            *rest = Some(tail);
            Some(body.slice_ref(data))
        }
        (None, None, true) => None,
        (None, None, false) => {
            return Err(RequestError::invalid(format!(
                "{place}: \"data\" is missing"
            )));
        }
        _ => {
            return Err(RequestError::invalid(format!(
                "{place}: \"data\", binary_data_size and shared_memory_region exclude each other"
            )));
        }
    };
    let tensor = InferInputTensor {
        name: input.name.into_owned(),
        datatype: input.datatype.into_owned(),
        shape,
        parameters: messages(input.parameters),
        contents: None,
    };
    Ok((tensor, contents))
}

fn read(
    json: &RawValue,
    (index, datatype, shape): (usize, &str, &[i64]),
    elements_max: usize,
) -> Result<Tensor, RequestError> {
    let dtype = DType::from_name(datatype).ok_or_else(|| {
        let datatype = quoted(datatype);
        RequestError::invalid(format!("inputs[{index}]: unknown datatype {datatype}"))
    })?;
    let head = TensorHead {
        name: TensorName::Position(index),
        dtype,
        shape,
        accepts_missing: true,
        elements_max,
    };
    let tensor = data::read(json.get(), head)?;
    match tensor.values() {
        Values::Bytes(texts) if (0..texts.len()).any(|at| texts.get_present(at).is_none()) => {
            Err(RequestError::invalid(format!(
                "inputs[{index}]: null among texts has no form beside outputs that are asked for by name or raw"
            )))
        }
        _ => Ok(tensor),
    }
}

/// Returns a ModelInferResponse, which has gRPC's prefix before it, as the answer over REST; and the length of its JSON where raw data follows that.
///
/// # Errors
/// Code `Internal` if it is none.
pub fn from_message(
    answer: &[u8],
    forms: &Forms,
    elements_max: usize,
) -> Result<(Vec<u8>, Option<usize>), RequestError> {
    let internal = |what: &str| RequestError::new(coracle_base::Code::Internal, what.to_owned());
    let message = answer
        .get(PREFIX_BYTES..)
        .ok_or_else(|| internal("the graph's answer is no message"))?;
    let answer: ModelInferResponse = decode(Bytes::copy_from_slice(message))
        .map_err(|error| internal(&format!("the graph's answer: {error}")))?;
    let mut out = b"{".to_vec();
    if !answer.parameters.is_empty() {
        out.extend_from_slice(b"\"parameters\":{");
        write_parameters(&answer.parameters, &mut out);
        out.extend_from_slice(b"},");
    }
    out.extend_from_slice(b"\"model_name\":");
    render::string(&answer.model_name, &mut out);
    out.extend_from_slice(b",\"model_version\":");
    render::string(&answer.model_version, &mut out);
    if !answer.id.is_empty() {
        out.extend_from_slice(b",\"id\":");
        render::string(&answer.id, &mut out);
    }
    out.extend_from_slice(b",\"outputs\":[");
    let mut raw_data: Vec<&Bytes> = Vec::new();
    for (position, output) in answer.outputs.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        let contents = answer.raw_output_contents.get(position);
        if let Some(raw) = write_output(output, contents, (forms, elements_max), &mut out)? {
            raw_data.push(raw);
        }
    }
    out.extend_from_slice(b"]}");
    let json_length = out.len();
    raw_data.iter().for_each(|raw| out.extend_from_slice(raw));
    Ok((out, (!raw_data.is_empty()).then_some(json_length)))
}

/// Appends an output; returns its data if that comes after the JSON.
fn write_output<'a>(
    output: &InferOutputTensor,
    contents: Option<&'a Bytes>,
    (forms, elements_max): (&Forms, usize),
    out: &mut Vec<u8>,
) -> Result<Option<&'a Bytes>, RequestError> {
    out.extend_from_slice(b"{\"name\":");
    render::string(&output.name, out);
    out.extend_from_slice(b",\"shape\":[");
    render::separated(output.shape.iter(), out, |&size, out| {
        render::integer(size, out)
    });
    out.extend_from_slice(b"],\"datatype\":");
    render::string(&output.datatype, out);
    let mut raw_data = None;
    match contents {
        // It is in shared memory.
        _ if !output.parameters.is_empty() => {
            out.extend_from_slice(b",\"parameters\":{");
            write_parameters(&output.parameters, out);
            out.push(b'}');
        }
        Some(raw) if forms.is_raw(&output.name) => {
            out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
            render::integer(raw.len(), out);
            out.push(b'}');
            raw_data = Some(raw);
        }
        contents => {
            let name = quoted(&output.name);
            let no_data = |what: &str| {
                let message = format!("output {name} of the graph's answer: {what}");
                RequestError::new(coracle_base::Code::Internal, message)
            };
            let dtype = DType::from_name(&output.datatype);
            let dtype = dtype.ok_or_else(|| no_data("no datatype"))?;
            let raw = contents.ok_or_else(|| no_data("no data"))?;
            let buffer = Buffer::Held(raw.clone());
            let values = raw::decode(&buffer, dtype, elements_max, &name)
                .map_err(|error| no_data(&error.to_string()))?;
            out.extend_from_slice(b",\"data\":");
            render::flat(&values, out);
        }
    }
    out.push(b'}');
    Ok(raw_data)
}

fn write_parameters(parameters: &BTreeMap<String, InferParameter>, out: &mut Vec<u8>) {
    let choices = parameters
        .iter()
        .filter_map(|(name, parameter)| Some((name, parameter.parameter_choice.as_ref()?)));
    render::separated(choices, out, |(name, choice), out| {
        render::string(name, out);
        out.push(b':');
        match choice {
            ParameterChoice::BoolParam(true) => out.extend_from_slice(b"true"),
            ParameterChoice::BoolParam(false) => out.extend_from_slice(b"false"),
            ParameterChoice::Int64Param(number) => render::integer(*number, out),
            ParameterChoice::Uint64Param(number) => render::integer(*number, out),
            ParameterChoice::StringParam(text) => render::string(text, out),
            ParameterChoice::DoubleParam(number) => {
                render::double(*number, out);
            }
        }
    });
}

#[cfg(test)]
mod tests;
