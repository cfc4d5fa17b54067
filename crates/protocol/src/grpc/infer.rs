//! Inference over gRPC.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_tensor::{Tensor, Values};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::frame::frame_with;
use super::inference::{
    InferInputTensor, InferOutputTensor, InferParameter, InferTensorContents, ModelInferRequest,
    ModelInferResponse, ModelStreamInferResponse, ParameterChoice,
};
use super::{frame, scan};
use crate::content::Content;
use crate::error::quoted;
use crate::parameters::Parameters;
use crate::raw::{self, Buffer};
use crate::v2::{self, Data, Input, InputPlace, Output};
use crate::{Call, DecodeContext, EncodeContext, OutputForm, RequestError};

/// The field `raw_output_contents` of a ModelInferResponse, its last.
const RAW_OUTPUT_TAG: u32 = 6;
/// The most bytes that go before one of its entries: key and length.
const RAW_HEAD_BYTES_MAX: usize = 11;

/// The fields of a ModelInferRequest that say which model is asked.
#[derive(Clone, PartialEq, Message)]
pub struct InferHead {
    /// The model's name.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// The version asked for; empty for any.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// The caller's id of the request.
    #[prost(string, tag = "3")]
    pub id: String,
}

impl InferHead {
    /// Reads these fields of a ModelInferRequest alone, which costs little however large the rest is.
    ///
    /// # Errors
    /// Code `InvalidArgument` if `message` is none.
    pub fn read(message: &Bytes) -> Result<Self, RequestError> {
        scan::check_fields(message)?;
        super::decode(message.clone())
    }
}

/// Decodes a ModelInferRequest. Tensors are in `raw_input_contents`, in typed contents or in shared memory.
///
/// The answer's outputs will be raw unless the request had typed contents.
///
/// # Errors
/// Code `InvalidArgument` naming the input at fault.
pub fn decode_infer(message: &Bytes, ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    scan::check_fields(message)?;
    let mut request: ModelInferRequest = super::decode(message.clone())?;
    let mut parameters = parameters(&request.parameters)?;
    let has_typed = request.inputs.iter().any(|input| input.contents.is_some());
    if has_typed && !request.raw_input_contents.is_empty() {
        return Err(RequestError::invalid(
            "raw_input_contents and typed contents exclude each other",
        ));
    }
    parameters.binary_data_output.get_or_insert(!has_typed);
    let mut asked = Vec::with_capacity(request.outputs.len());
    for output in &request.outputs {
        asked.push(Output {
            name: Cow::Borrowed(&output.name),
            parameters: self::parameters(&output.parameters)?,
        });
    }
    let (outputs, forms) = v2::requested_outputs(ctx, &asked, &parameters)?;
    let inputs = attach_contents(ctx, &mut request.inputs, &request.raw_input_contents)?;
    let inputs = v2::tensors(ctx, &inputs)?;
    Ok(Call {
        n_rows: inputs.first().map_or(0, Tensor::n_rows),
        inputs,
        outputs,
        forms,
        id: (!request.id.is_empty()).then_some(request.id),
        timeout: parameters.timeout(),
        priority: parameters.priority(),
        ..Call::default()
    })
}

/// Gives each input its data: shared memory, the next of the raw contents, or its own typed contents.
fn attach_contents<'a>(
    ctx: &DecodeContext<'_>,
    inputs: &'a mut [InferInputTensor],
    raw_input_contents: &'a [Bytes],
) -> Result<Vec<Input<'a>>, RequestError> {
    let mut raw_contents = raw_input_contents.iter();
    let mut n_raw = 0_usize;
    let mut attached = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter_mut().enumerate() {
        let place = InputPlace(index);
        let sent = parameters(&input.parameters)?;
        let region = sent.region(place)?;
        let data = match (region, &mut input.contents) {
            (Some(slice), None) => v2::read_region(ctx, place, &slice)?,
            (Some(_), Some(_)) => {
                return Err(RequestError::invalid(format!(
                    "{place}: contents and shared_memory_region exclude each other"
                )));
            }
            (None, Some(contents)) => Data::Typed(Cell::new(Some(contents))),
            (None, None) if raw_input_contents.is_empty() => {
                return Err(RequestError::invalid(format!(
                    "{place}: no contents and no raw_input_contents"
                )));
            }
            (None, None) => {
                n_raw = n_raw.saturating_add(1);
                raw_data(place, raw_contents.next())?
            }
        };
        attached.push(Input {
            name: Cow::Borrowed(&input.name),
            shape: Cow::Borrowed(&input.shape),
            datatype: Cow::Borrowed(&input.datatype),
            content: sent.content,
            data,
        });
    }
    if raw_contents.next().is_some() {
        return Err(RequestError::invalid(format!(
            "{} raw_input_contents, {n_raw} inputs are without data of their own",
            raw_input_contents.len()
        )));
    }
    Ok(attached)
}

fn raw_data(place: InputPlace, bytes: Option<&Bytes>) -> Result<Data<'_>, RequestError> {
    let bytes = bytes.ok_or_else(|| {
        RequestError::invalid(format!("{place}: raw_input_contents has no entry for it"))
    })?;
    Ok(Data::Raw(Buffer::of(bytes, bytes)))
}

/// Returns the parameters that are understood; others are ignored.
fn parameters(sent: &BTreeMap<String, InferParameter>) -> Result<Parameters, RequestError> {
    let mut known = Parameters::default();
    for (name, parameter) in sent {
        match name.as_str() {
            "method" => known.method = Some(text(name, parameter)?),
            "binary_data_output" => known.binary_data_output = Some(flag(name, parameter)?),
            "binary_data" => known.binary_data = Some(flag(name, parameter)?),
            "shared_memory_region" => known.shared_memory_region = Some(text(name, parameter)?),
            "shared_memory_offset" => known.shared_memory_offset = Some(count(name, parameter)?),
            "shared_memory_byte_size" => {
                known.shared_memory_byte_size = Some(count(name, parameter)?);
            }
            "classification" => known.classification = Some(count(name, parameter)?),
            "timeout" => known.timeout = Some(count(name, parameter)?),
            "priority" => known.priority = Some(count(name, parameter)?),
            "content_type" => {
                if let Some(ParameterChoice::StringParam(name)) = &parameter.parameter_choice {
                    known.content = Content::named(name);
                }
            }
            _ => {}
        }
    }
    Ok(known)
}

fn wrong_kind(name: &str, wanted: &str) -> RequestError {
    RequestError::invalid(format!(
        "parameter {}: {wanted} belongs there",
        quoted(name)
    ))
}

fn text(name: &str, parameter: &InferParameter) -> Result<String, RequestError> {
    match &parameter.parameter_choice {
        Some(ParameterChoice::StringParam(text)) => Ok(text.clone()),
        _ => Err(wrong_kind(name, "a string")),
    }
}

fn flag(name: &str, parameter: &InferParameter) -> Result<bool, RequestError> {
    match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(flag)) => Ok(flag),
        _ => Err(wrong_kind(name, "a truth value")),
    }
}

fn count(name: &str, parameter: &InferParameter) -> Result<u64, RequestError> {
    let count = match parameter.parameter_choice {
        Some(ParameterChoice::Uint64Param(count)) => Some(count),
        Some(ParameterChoice::Int64Param(count)) => u64::try_from(count).ok(),
        _ => None,
    };
    count.ok_or_else(|| wrong_kind(name, "a whole number, 0 or more,"))
}

/// Returns the framed answer to an inference.
///
/// # Errors
/// Code `InvalidArgument` if an output does not fit in the shared memory that is to take it.
pub fn encode_infer(
    ctx: &EncodeContext<'_>,
    call: &Call,
    outputs: &[Tensor],
) -> Result<Vec<u8>, RequestError> {
    // Raw contents stand for the outputs by position, so one that has no typed form makes all of them raw.
    let all_raw = (0..outputs.len()).any(|index| *call.form(index) == OutputForm::Raw)
        || outputs
            .iter()
            .any(|output| typed(output.values()).is_none());
    let mut response = ModelInferResponse {
        model_name: ctx.model_name.to_owned(),
        model_version: ctx.model_version.to_owned(),
        id: call.id.clone().unwrap_or_default(),
        ..ModelInferResponse::default()
    };
    let mut raw_contents = Vec::new();
    let indices = call.outputs.iter().zip(outputs).enumerate();
    for (position, (&index, output)) in indices {
        let spec = ctx.signature.outputs.get(index);
        let mut described = InferOutputTensor {
            name: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
            datatype: output.dtype().name().to_owned(),
            shape: wire_shape(output),
            ..InferOutputTensor::default()
        };
        match call.form(position) {
            OutputForm::Region(slice) => {
                let written = v2::write_region(ctx, slice, output)?;
                described.parameters = region_parameters(&slice.region, slice.offset, written);
                // Clients count raw contents by output.
                raw_contents.push(None);
            }
            _ if all_raw => raw_contents.push(Some(output.values())),
            _ => described.contents = typed(output.values()),
        }
        response.outputs.push(described);
    }
    Ok(frame_raw(&response, &raw_contents))
}

/// Returns the frame of a response with raw contents, which are written where they belong at once: they may be large.
fn frame_raw(response: &ModelInferResponse, raw_contents: &[Option<&Values>]) -> Vec<u8> {
    let sizes = raw_contents
        .iter()
        .map(|values| values.map_or(0, raw::size_bytes));
    let n_bytes = sizes.fold(0_usize, |sum, size| {
        sum.saturating_add(size).saturating_add(RAW_HEAD_BYTES_MAX)
    });
    frame_with(response, n_bytes, |out| {
        for values in raw_contents {
            let size = values.map_or(0, raw::size_bytes);
            encode_key(RAW_OUTPUT_TAG, WireType::LengthDelimited, out);
            encode_varint(u64::try_from(size).unwrap_or(u64::MAX), out);
            if let Some(values) = values {
                raw::encode(values, out);
            }
        }
    })
}

fn wire_shape(output: &Tensor) -> Vec<i64> {
    let sizes = output.shape().iter();
    sizes
        .map(|&size| i64::try_from(size).unwrap_or(i64::MAX))
        .collect()
}

fn region_parameters(
    region: &str,
    offset: u64,
    byte_size: usize,
) -> BTreeMap<String, InferParameter> {
    let parameter = |choice| InferParameter {
        parameter_choice: Some(choice),
    };
    let number = |number: u64| {
        parameter(ParameterChoice::Int64Param(
            i64::try_from(number).unwrap_or(i64::MAX),
        ))
    };
    let byte_size = u64::try_from(byte_size).unwrap_or(u64::MAX);
    [
        (
            "shared_memory_region",
            parameter(ParameterChoice::StringParam(region.to_owned())),
        ),
        ("shared_memory_offset", number(offset)),
        ("shared_memory_byte_size", number(byte_size)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Returns the typed contents of an output; `None` for datatypes that have none.
fn typed(values: &Values) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    match values {
        Values::Bool(items) => contents.bool_contents.clone_from(items),
        Values::U8(items) => contents.uint_contents = items.iter().map(|&n| n.into()).collect(),
        Values::U16(items) => contents.uint_contents = items.iter().map(|&n| n.into()).collect(),
        Values::U32(items) => contents.uint_contents = items.to_vec(),
        Values::U64(items) => contents.uint64_contents = items.to_vec(),
        Values::I8(items) => contents.int_contents = items.iter().map(|&n| n.into()).collect(),
        Values::I16(items) => contents.int_contents = items.iter().map(|&n| n.into()).collect(),
        Values::I32(items) => contents.int_contents = items.to_vec(),
        Values::I64(items) => contents.int64_contents = items.to_vec(),
        Values::F32(items) => contents.fp32_contents = items.to_vec(),
        Values::F64(items) => contents.fp64_contents = items.to_vec(),
        Values::Bytes(strings) => {
            contents.bytes_contents = strings.iter().map(Bytes::copy_from_slice).collect();
        }
        Values::F16(_) | Values::BF16(_) => return None,
    }
    Some(contents)
}

/// What an answer of a stream says besides: names and texts. A stream has no metadata for each answer.
pub type Notes<'a> = &'a [(&'static str, &'a str)];

fn noted(parameters: &mut BTreeMap<String, InferParameter>, notes: Notes<'_>) {
    for (name, text) in notes {
        let parameter_choice = Some(ParameterChoice::StringParam((*text).to_owned()));
        parameters.insert((*name).to_owned(), InferParameter { parameter_choice });
    }
}

/// Returns a framed answer of ModelInfer as one of ModelStreamInfer, with `notes` among its parameters.
///
/// # Errors
/// Code `Internal` if `response` is none.
pub fn stream_response(response: Vec<u8>, notes: Notes<'_>) -> Result<Vec<u8>, RequestError> {
    let message = Bytes::from(response).slice(super::PREFIX_BYTES..);
    let mut infer_response: ModelInferResponse = super::decode(message)?;
    noted(&mut infer_response.parameters, notes);
    Ok(frame(&ModelStreamInferResponse {
        error_message: String::new(),
        infer_response: Some(infer_response),
    }))
}

/// Returns the framed answer to a request of a stream that failed; `id` is the request's own.
#[must_use]
pub fn stream_failure(message: &str, id: &str, notes: Notes<'_>) -> Vec<u8> {
    let mut parameters = BTreeMap::new();
    noted(&mut parameters, notes);
    frame(&ModelStreamInferResponse {
        error_message: message.to_owned(),
        infer_response: Some(ModelInferResponse {
            id: id.to_owned(),
            parameters,
            ..ModelInferResponse::default()
        }),
    })
}
