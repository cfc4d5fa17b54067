//! Decoding a V2 inference request.

use std::borrow::Cow;

use coracle_model::TensorSpec;
use coracle_tensor::{DType, Tensor, Values};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::data::{self, TensorHead};
use crate::error::quoted;
use crate::parameters::{Parameters, choose_outputs};
use crate::{Call, DecodeContext, RequestError};

/// The name under which KServe's own servers give their output; stands for the default outputs.
const KSERVE_OUTPUT: &str = "output-0";

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<Output<'a>>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<Parameters>,
    /// Kept as text until the datatype and shape are known, which may come after it.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// Decodes the body of `POST /v2/models/M/infer`.
///
/// Every datatype is accepted, flat or nested. A model of one input takes it under any name; a table with named
/// columns may come as one tensor per column. `outputs`, else `parameters.method`, choose the outputs.
///
/// # Errors
/// Code `InvalidArgument` naming the input and element at fault; `Unimplemented` for binary tensor data.
pub fn decode_infer(body: &[u8], ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        let message = "the request body is empty; send JSON such as {\"inputs\": [{\"name\": \"X\", \"shape\": [1, 2], \"datatype\": \"FP64\", \"data\": [1.0, 2.0]}]}";
        return Err(RequestError::invalid(message));
    }
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))?;
    let parameters = request.parameters.unwrap_or_default();
    parameters.refuse_binary()?;
    let outputs = requested_outputs(ctx, request.outputs.as_deref(), &parameters)?;
    if request.inputs.is_empty() {
        return Err(RequestError::invalid(
            "\"inputs\" is empty; send at least one tensor",
        ));
    }
    let inputs = match ctx.signature.inputs.as_slice() {
        [spec] => vec![single_input(ctx, spec, &request.inputs)?],
        specs => named_inputs(ctx, specs, &request.inputs)?,
    };
    Ok(Call {
        n_rows: inputs.first().map_or(0, Tensor::n_rows),
        inputs,
        outputs,
        id: request.id.map(Cow::into_owned),
    })
}

fn requested_outputs(
    ctx: &DecodeContext<'_>,
    outputs: Option<&[Output<'_>]>,
    parameters: &Parameters,
) -> Result<Vec<usize>, RequestError> {
    let default = || choose_outputs(ctx, parameters.method.as_deref());
    let outputs = outputs.unwrap_or_default();
    if outputs.is_empty() {
        return default();
    }
    let mut indices = Vec::with_capacity(outputs.len());
    for output in outputs {
        if let Some(parameters) = &output.parameters {
            parameters.refuse_binary()?;
        }
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
    }
    Ok(indices)
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
        ([input], Some(columns))
            if columns.len() == 1 && columns.contains(&input.name.to_string()) =>
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
    let names = || {
        specs
            .iter()
            .map(|spec| spec.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(unknown) = inputs
        .iter()
        .find(|input| specs.iter().all(|spec| spec.name != input.name))
    {
        let message = format!(
            "unknown input {}; the model has {}",
            quoted(&unknown.name),
            names()
        );
        return Err(RequestError::invalid(message));
    }
    let tensors = specs.iter().map(|spec| {
        let mut found = inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| input.name == spec.name);
        match (found.next(), found.next()) {
            (Some((index, input)), None) => read_input(ctx, spec, index, input),
            (None, _) => Err(RequestError::invalid(format!(
                "input {} is missing; the model has {}",
                quoted(&spec.name),
                names()
            ))),
            (Some(_), Some(_)) => Err(RequestError::invalid(format!(
                "input {} occurs twice",
                quoted(&spec.name)
            ))),
        }
    });
    tensors.collect()
}

fn read_input(
    ctx: &DecodeContext<'_>,
    spec: &TensorSpec,
    index: usize,
    input: &Input<'_>,
) -> Result<Tensor, RequestError> {
    if let Some(parameters) = &input.parameters {
        parameters.refuse_binary()?;
    }
    let dtype = DType::from_name(&input.datatype).ok_or_else(|| {
        let names: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
        RequestError::invalid(format!(
            "inputs[{index}]: unknown datatype {}; known are {}",
            quoted(&input.datatype),
            names.join(", ")
        ))
    })?;
    let data = input
        .data
        .ok_or_else(|| RequestError::invalid(format!("inputs[{index}]: \"data\" is missing")))?;
    let head = TensorHead {
        input: index,
        dtype,
        shape: &input.shape,
        accepts_missing: spec.accepts_missing,
        elements_max: ctx.elements_max,
    };
    data::read(data.get(), head)
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
        let column = columns
            .iter()
            .position(|column| *column == *input.name)
            .ok_or_else(|| {
                RequestError::invalid(format!(
                    "inputs[{index}]: unknown column {}; send one tensor {}, or one per column: {}",
                    quoted(&input.name),
                    quoted(&spec.name),
                    columns.join(", ")
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
        let n_elements = n_elements
            .ok_or_else(|| RequestError::invalid("too many elements; send smaller batches"))?;
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
    let absent = columns.iter().zip(&seen).filter(|(_, seen)| !**seen);
    let absent: Vec<&str> = absent.map(|(name, _)| name.as_str()).collect();
    if !absent.is_empty() {
        return Err(RequestError::invalid(format!(
            "columns missing: {}",
            absent.join(", ")
        )));
    }
    Tensor::try_new(vec![n_rows.unwrap_or(0), columns.len()], Values::F64(table))
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
