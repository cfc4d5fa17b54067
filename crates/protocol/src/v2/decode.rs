//! Decoding a V2 inference request.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use coracle_model::TensorSpec;
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::columns;
use super::data::{self, TensorHead, TensorName};
use crate::column_names;
use crate::content::Content;
use crate::error::quoted;
use crate::grpc::inference::InferTensorContents;
use crate::grpc::typed;
use crate::parameters::{Parameters, choose_outputs};
use crate::raw::{self, Buffer};
use crate::unknown::{self, UnknownNames};
use crate::{Call, DecodeContext, OutputForm, RegionSlice, RequestError};

/// The name under which KServe's own servers give their output; stands for the default outputs.
pub(super) const KSERVE_OUTPUT: &str = "output-0";

/// The JSON of a request, with what its reader makes of parameters.
#[derive(Deserialize)]
#[serde(
    bound(deserialize = "P: Deserialize<'de>"),
    expecting = "an object with \"inputs\""
)]
pub(super) struct Request<'a, P> {
    #[serde(borrow, default)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) parameters: Option<P>,
    #[serde(borrow)]
    pub(super) inputs: Vec<JsonInput<'a, P>>,
    #[serde(borrow, default)]
    pub(super) outputs: Option<Vec<JsonOutput<'a, P>>>,
}

#[derive(Deserialize)]
#[serde(
    bound(deserialize = "P: Deserialize<'de>"),
    expecting = "an input: an object with name, shape, datatype and data"
)]
pub(super) struct JsonInput<'a, P> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    pub(super) shape: Vec<i64>,
    #[serde(borrow)]
    pub(super) datatype: Cow<'a, str>,
    #[serde(default)]
    pub(super) parameters: Option<P>,
    /// Kept as text until the datatype and shape are known, which may come after it.
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(
    bound(deserialize = "P: Deserialize<'de>"),
    expecting = "an output: an object with a name"
)]
pub(super) struct JsonOutput<'a, P> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(default)]
    pub(super) parameters: Option<P>,
}

/// A tensor as it was sent, in any of the protocol's forms.
pub(crate) struct Input<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) shape: Cow<'a, [i64]>,
    pub(crate) datatype: Cow<'a, str>,
    pub(crate) content: Content,
    pub(crate) data: Data<'a>,
}

/// The elements of a tensor as they were sent.
pub(crate) enum Data<'a> {
    /// JSON text.
    Json(&'a RawValue),
    /// Raw bytes.
    Raw(Buffer<'a>),
    /// Elements that are decoded already; whoever reads them takes them.
    Values(Cell<Option<Values>>),
    /// The typed contents of a message; whoever reads them takes them.
    Typed(Cell<Option<&'a mut InferTensorContents>>),
}

/// An output as it was asked for.
pub(crate) struct Output<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) parameters: Parameters,
}

/// Decodes the body of `POST /v2/models/M/infer`.
///
/// Every datatype is accepted, flat or nested. A model of one input takes it under any name; a table with named
/// columns may come as one tensor per column. `outputs`, else `parameters.method`, choose the outputs.
///
/// `json_length` is the number of bytes of JSON where raw tensor data follows it (the header
/// `Inference-Header-Content-Length`); 0 means that the whole body is the raw data of the model's only input.
///
/// # Errors
/// Code `InvalidArgument` naming the input and element at fault; `Unimplemented` for classification of outputs.
pub fn decode_infer(
    body: &Bytes,
    json_length: Option<usize>,
    ctx: &DecodeContext<'_>,
) -> Result<Call, RequestError> {
    let (json, binary) = match json_length {
        None => (&**body, None),
        Some(0) => return decode_raw(body, ctx),
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
    if json.iter().all(u8::is_ascii_whitespace) {
        let message = "the request body is empty; send JSON such as {\"inputs\": [{\"name\": \"X\", \"shape\": [1, 2], \"datatype\": \"FP64\", \"data\": [1.0, 2.0]}]}";
        return Err(RequestError::invalid(message));
    }
    let request: Request<'_, Parameters> =
        serde_json::from_slice(json).map_err(|error| RequestError::from_json(json, &error))?;
    let parameters = request.parameters.unwrap_or_default();
    let asked = request.outputs.unwrap_or_default().into_iter();
    let asked: Vec<Output<'_>> = asked
        .map(|output| Output {
            name: output.name,
            parameters: output.parameters.unwrap_or_default(),
        })
        .collect();
    let (outputs, forms) = requested_outputs(ctx, &asked, &parameters)?;
    let inputs = attach_data(ctx, request.inputs, binary, body)?;
    let inputs = tensors(ctx, &inputs)?;
    Ok(Call {
        n_rows: inputs.first().map_or(0, Tensor::n_rows),
        inputs,
        outputs,
        forms,
        id: request.id.map(Cow::into_owned),
        timeout: parameters.timeout(),
        priority: parameters.priority(),
        ..Call::default()
    })
}

/// Decodes a body that is the raw data of the model's only input; the outputs are given raw.
fn decode_raw(body: &Bytes, ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    let [spec] = ctx.signature.inputs.as_slice() else {
        return Err(RequestError::invalid(format!(
            "Inference-Header-Content-Length is 0, but the model has {} inputs; send the JSON that describes them",
            ctx.signature.inputs.len()
        )));
    };
    let input = Input {
        name: Cow::Borrowed(&spec.name),
        shape: Cow::Owned(spec.wire_shape()),
        datatype: Cow::Borrowed(spec.dtype.name()),
        content: Content::Plain,
        data: Data::Raw(Buffer::of(body, body)),
    };
    let tensor = read_input(ctx, spec, 0, &input)?;
    let outputs = choose_outputs(ctx, None)?;
    Ok(Call {
        n_rows: tensor.n_rows(),
        inputs: vec![tensor],
        forms: vec![OutputForm::Raw; outputs.len()],
        outputs,
        ..Call::default()
    })
}

/// Gives each input its data: JSON, the next of the bytes after the JSON, or shared memory.
fn attach_data<'a>(
    ctx: &DecodeContext<'_>,
    inputs: Vec<JsonInput<'a, Parameters>>,
    binary: Option<&'a [u8]>,
    body: &Bytes,
) -> Result<Vec<Input<'a>>, RequestError> {
    let mut rest = binary;
    let mut attached = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let place = InputPlace(index);
        let parameters = input.parameters.unwrap_or_default();
        let region = parameters.region(place)?;
        let data = match (input.data, parameters.binary_data_size, region) {
            (Some(json), None, None) => Data::Json(json),
            (None, Some(size), None) => {
                let (data, tail) = split_binary(place, size, rest)?;
                rest = Some(tail);
                Data::Raw(Buffer::of(data, body))
            }
            (None, None, Some(slice)) => read_region(ctx, place, &slice)?,
            (None, None, None) => {
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
        attached.push(Input {
            name: input.name,
            shape: Cow::Owned(input.shape),
            datatype: input.datatype,
            content: parameters.content,
            data,
        });
    }
    match rest {
        Some(rest) if !rest.is_empty() => Err(RequestError::invalid(format!(
            "{} bytes follow the tensor data; the inputs' binary_data_size must add up to all that comes after the JSON",
            rest.len()
        ))),
        _ => Ok(attached),
    }
}

/// Takes the data of one input off the bytes after the JSON.
pub(super) fn split_binary(
    place: InputPlace,
    size: u64,
    rest: Option<&[u8]>,
) -> Result<(&[u8], &[u8]), RequestError> {
    let rest = rest.ok_or_else(|| {
        RequestError::invalid(format!(
            "{place}: binary_data_size without the header Inference-Header-Content-Length"
        ))
    })?;
    let split = usize::try_from(size)
        .ok()
        .and_then(|size| rest.split_at_checked(size));
    split.ok_or_else(|| {
        RequestError::invalid(format!(
            "{place}: binary_data_size is {size}, {} bytes are left of the body",
            rest.len()
        ))
    })
}

/// Reads a tensor's bytes from shared memory.
pub(crate) fn read_region<'a>(
    ctx: &DecodeContext<'_>,
    place: InputPlace,
    slice: &RegionSlice,
) -> Result<Data<'a>, RequestError> {
    // No element takes more than eight bytes; a bound before anything is allocated.
    let most = ctx.elements_max.saturating_mul(8);
    if usize::try_from(slice.byte_size).map_or(true, |size| size > most) {
        let message = format!(
            "{place}: {} bytes of shared memory, at most {most} are read",
            slice.byte_size
        );
        return Err(RequestError::invalid(message));
    }
    let bytes = ctx
        .regions
        .read(slice)
        .map_err(|error| RequestError::new(error.code(), format!("{place}: {error}")))?;
    Ok(Data::Raw(Buffer::Held(bytes.into())))
}

/// An input's place, for messages.
#[derive(Clone, Copy)]
pub(crate) struct InputPlace(pub(crate) usize);

impl fmt::Display for InputPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inputs[{}]", self.0)
    }
}

/// Returns one tensor for each of the signature's inputs.
///
/// # Errors
/// Code `InvalidArgument` naming the input at fault.
pub(crate) fn tensors(
    ctx: &DecodeContext<'_>,
    inputs: &[Input<'_>],
) -> Result<Vec<Tensor>, RequestError> {
    if inputs.is_empty() {
        return Err(RequestError::invalid(
            "\"inputs\" is empty; send at least one tensor",
        ));
    }
    if ctx.signature.columns.is_some() {
        return columns::read(ctx, inputs);
    }
    match ctx.signature.inputs.as_slice() {
        [spec] => Ok(vec![single_input(ctx, spec, inputs)?]),
        specs => named_inputs(ctx, specs, inputs),
    }
}

/// Returns the outputs asked for, and how each is to be given. One that is asked for again is given once: otherwise a short request would have
/// an answer of any length.
pub(crate) fn requested_outputs(
    ctx: &DecodeContext<'_>,
    outputs: &[Output<'_>],
    parameters: &Parameters,
) -> Result<(Vec<usize>, Vec<OutputForm>), RequestError> {
    let default = || choose_outputs(ctx, parameters.method.as_deref());
    let default_form = match parameters.binary_data_output {
        Some(true) => OutputForm::Raw,
        _ => OutputForm::Typed,
    };
    if outputs.is_empty() {
        let indices = default()?;
        let forms = vec![default_form; indices.len()];
        return Ok((indices, forms));
    }
    let mut indices = Vec::new();
    let mut forms = Vec::new();
    // No more than the model has, and one.
    let mut seen: Vec<&str> = Vec::new();
    for output in outputs {
        if seen.contains(&&*output.name) {
            continue;
        }
        let place = format_args!("output {}", quoted(&output.name)).to_string();
        match ctx.signature.output_index(&output.name) {
            Some(index) => indices.push(index),
            None if output.name == KSERVE_OUTPUT => indices.extend(default()?),
            None => {
                return Err(RequestError::invalid(format!(
                    "unknown output {}; the model has {}",
                    quoted(&output.name),
                    ctx.signature.output_names()
                )));
            }
        }
        seen.push(&output.name);
        forms.resize(indices.len(), output.parameters.form(place, &default_form)?);
    }
    Ok((indices, forms))
}

fn single_input(
    ctx: &DecodeContext<'_>,
    spec: &TensorSpec,
    inputs: &[Input<'_>],
) -> Result<Tensor, RequestError> {
    match (inputs, &spec.columns) {
        ([input], Some(columns)) if columns.len() == 1 && *input.name == *spec.name => {
            read_input(ctx, spec, 0, input)
        }
        // A table under the name of one of its columns is a table, unless its shape is a column's.
        ([input], Some(columns))
            if (columns.len() == 1 || matches!(&*input.shape, [_] | [_, 1]))
                && position(ctx, columns, &input.name).is_some() =>
        {
            assemble(ctx, spec, columns, inputs)
        }
        ([input], _) => read_input(ctx, spec, 0, input),
        (_, Some(columns)) => assemble(ctx, spec, columns, inputs),
        (_, None) => Err(RequestError::invalid(format!(
            "{} input tensors, the model expects one, {}",
            inputs.len(),
            quoted(&spec.name)
        ))),
    }
}

fn named_inputs(
    ctx: &DecodeContext<'_>,
    specs: &[TensorSpec],
    inputs: &[Input<'_>],
) -> Result<Vec<Tensor>, RequestError> {
    let names = || unknown::listed(specs.iter().map(|spec| spec.name.as_str()));
    let given = inputs.iter().map(|input| input.name.as_ref());
    let is_known = |name: &str| specs.iter().any(|spec| spec.name == name);
    if let Some(unknown) = UnknownNames::among("input", given, is_known) {
        let message = format!("{unknown}; the model has {}", names());
        return Err(RequestError::invalid(message));
    }
    let is_given = |name: &str| inputs.iter().any(|input| input.name == name);
    let tensors = specs.iter().map(|spec| {
        let mut found = inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| input.name == spec.name);
        match (found.next(), found.next()) {
            (Some((index, input)), None) => read_input(ctx, spec, index, input),
            (None, _) => {
                let own = specs.iter().map(|spec| spec.name.as_str());
                let missing = unknown::missing("input", own, is_given).unwrap_or_default();
                let message = format!("{missing}; the model has {}", names());
                Err(RequestError::invalid(message))
            }
            (Some(_), Some(_)) => Err(RequestError::invalid(format!(
                "input {} occurs twice",
                quoted(&spec.name)
            ))),
        }
    });
    tensors.collect()
}

pub(super) fn read_input(
    ctx: &DecodeContext<'_>,
    spec: &TensorSpec,
    index: usize,
    input: &Input<'_>,
) -> Result<Tensor, RequestError> {
    let dtype = DType::from_name(&input.datatype).ok_or_else(|| {
        let names: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
        RequestError::invalid(format!(
            "inputs[{index}]: unknown datatype {}; known are {}",
            quoted(&input.datatype),
            names.join(", ")
        ))
    })?;
    let head = TensorHead {
        name: TensorName::Position(index),
        dtype,
        shape: &input.shape,
        accepts_missing: spec.accepts_missing,
        elements_max: ctx.elements_max,
    };
    let tensor = match &input.data {
        Data::Json(json) => data::read(json.get(), head),
        Data::Raw(bytes) => {
            let values = raw::decode(bytes, dtype, ctx.elements_max, InputPlace(index))?;
            data::shaped(values, head)
        }
        // Every input is read once.
        Data::Values(values) => {
            let none = || Values::Bytes(ByteStrings::new());
            data::shaped(values.take().unwrap_or_else(none), head)
        }
        Data::Typed(contents) => {
            let contents = contents.take().map(std::mem::take).unwrap_or_default();
            let values = typed::decode(contents, dtype, ctx.elements_max, InputPlace(index))?;
            data::shaped(values, head)
        }
    };
    input.content.decoded(tensor?, index)
}

/// Returns the refusal of a table beyond the bound on elements.
pub(crate) fn too_many_rows(
    ctx: &DecodeContext<'_>,
    n_rows: usize,
    n_columns: usize,
) -> RequestError {
    RequestError::invalid(format!(
        "{n_rows} rows of {n_columns} columns are more than {} elements; send smaller batches",
        ctx.elements_max
    ))
}

/// Returns the columns that are unknown: `first`, and whatever else is.
pub(super) fn unknown_columns(
    first: &Input<'_>,
    inputs: &[Input<'_>],
    is_known: impl Fn(&str) -> bool,
) -> UnknownNames {
    let given = inputs.iter().map(|input| input.name.as_ref());
    UnknownNames::among("column", given, is_known)
        .unwrap_or_else(|| UnknownNames::new("column", &first.name))
}

/// Returns which of a table's columns a name means.
fn position(ctx: &DecodeContext<'_>, columns: &[String], name: &str) -> Option<usize> {
    column_names::position_in(columns, name, ctx.signature.name_rules)
}

/// Puts one tensor per column together to a table of doubles.
fn assemble(
    ctx: &DecodeContext<'_>,
    spec: &TensorSpec,
    columns: &[String],
    inputs: &[Input<'_>],
) -> Result<Tensor, RequestError> {
    let mut table: Vec<f64> = Vec::new();
    let mut n_rows = None;
    let mut seen = vec![false; columns.len()];
    for (index, input) in inputs.iter().enumerate() {
        let column = position(ctx, columns, &input.name).ok_or_else(|| {
            let is_known = |name: &str| position(ctx, columns, name).is_some();
            RequestError::invalid(format!(
                "inputs[{index}]: {}; send one tensor {}, or one per column: {}",
                unknown_columns(input, inputs, is_known),
                quoted(&spec.name),
                unknown::listed(columns.iter().map(String::as_str))
            ))
        })?;
        if seen.get(column) == Some(&true) {
            return Err(RequestError::invalid(format!(
                "inputs[{index}]: column {} occurs twice",
                quoted(&input.name)
            )));
        }
        let tensor = read_input(ctx, spec, index, input)?;
        let values = column_values(index, &tensor)?;
        let expected = *n_rows.get_or_insert(values.len());
        if values.len() != expected {
            let message = format!(
                "inputs[{index}]: {} rows, the columns before have {expected}",
                values.len()
            );
            return Err(RequestError::invalid(message));
        }
        let n_elements = expected
            .checked_mul(columns.len())
            .filter(|&n| n <= ctx.elements_max);
        let n_elements = n_elements.ok_or_else(|| too_many_rows(ctx, expected, columns.len()))?;
        table.resize(n_elements, 0.0);
        for (row, value) in table.chunks_exact_mut(columns.len()).zip(values) {
            if let Some(cell) = row.get_mut(column) {
                *cell = value;
            }
        }
        if let Some(seen) = seen.get_mut(column) {
            *seen = true;
        }
    }
    if let Some(absent) = unknown::absent(columns.iter().map(String::as_str), &seen) {
        let message = format!("columns missing: {absent}");
        return Err(RequestError::invalid(message));
    }
    Tensor::try_new(
        vec![n_rows.unwrap_or(0), columns.len()],
        Values::F64(table.into()),
    )
    .map_err(|error| RequestError::invalid(error.to_string()))
}

/// Returns the numbers of a tensor of shape `[n]` or `[n, 1]`.
fn column_values(index: usize, tensor: &Tensor) -> Result<Vec<f64>, RequestError> {
    if !matches!(tensor.shape(), [_] | [_, 1]) {
        let message = format!(
            "inputs[{index}]: shape {:?}, a column has shape [n] or [n, 1]",
            tensor.shape()
        );
        return Err(RequestError::invalid(message));
    }
    let values = tensor.values().to_f64s().ok_or_else(|| {
        RequestError::invalid(format!(
            "inputs[{index}]: datatype BYTES, the column expects numbers"
        ))
    })?;
    Ok(values.into_owned())
}
