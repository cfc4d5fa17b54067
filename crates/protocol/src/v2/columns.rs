//! The inputs of a model of columns: one tensor per column, or one for the whole table.

use coracle_model::{ColumnPlace, TensorSpec};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};

use super::decode::{Input, read_input, unknown_columns};
use crate::error::quoted;
use crate::{DecodeContext, RequestError, column_names, unknown};

/// Returns a tensor for each of the model's inputs.
///
/// Columns may come in any order; those that the model does not read may come or not. One tensor under any other name
/// is the whole table, of shape `[rows, columns]`; where the model has one column, `[rows]` will do.
///
/// # Errors
/// Code `InvalidArgument` naming the column at fault.
pub(super) fn read(
    ctx: &DecodeContext<'_>,
    inputs: &[Input<'_>],
) -> Result<Vec<Tensor>, RequestError> {
    let places = ctx.signature.columns.as_deref().unwrap_or_default();
    if let [input] = inputs
        && place_of(ctx, &input.name).is_none()
    {
        return whole_table(ctx, places, input);
    }
    by_name(ctx, places, inputs)
}

fn place_of<'p>(ctx: &DecodeContext<'p>, name: &str) -> Option<&'p ColumnPlace> {
    let places = ctx.signature.columns.as_deref()?;
    let names = places.iter().map(|place| place.name.as_str());
    places.get(column_names::position(
        names,
        name,
        ctx.signature.name_rules,
    )?)
}

fn names(places: &[ColumnPlace]) -> String {
    let read = places.iter().filter(|place| place.input.is_some());
    unknown::listed(read.map(|place| place.name.as_str()))
}

fn by_name(
    ctx: &DecodeContext<'_>,
    places: &[ColumnPlace],
    inputs: &[Input<'_>],
) -> Result<Vec<Tensor>, RequestError> {
    let specs = &ctx.signature.inputs;
    let mut tensors: Vec<Option<Tensor>> = vec![None; specs.len()];
    for (index, input) in inputs.iter().enumerate() {
        let place = place_of(ctx, &input.name);
        let place = place.ok_or_else(|| {
            RequestError::invalid(format!(
                "inputs[{index}]: {}; send one tensor per column: {}",
                unknown_columns(input, inputs, |name| place_of(ctx, name).is_some()),
                names(places)
            ))
        })?;
        let Some(at) = place.input else {
            continue;
        };
        let (Some(spec), Some(tensor)) = (specs.get(at), tensors.get_mut(at)) else {
            continue;
        };
        if tensor.is_some() {
            return Err(RequestError::invalid(format!(
                "inputs[{index}]: column {} occurs twice",
                quoted(&input.name)
            )));
        }
        *tensor = Some(one_column(ctx, spec, index, input)?);
    }
    let seen: Vec<bool> = tensors.iter().map(Option::is_some).collect();
    if let Some(absent) = unknown::absent(specs.iter().map(|spec| spec.name.as_str()), &seen) {
        let message = format!("columns missing: {absent}");
        return Err(RequestError::invalid(message));
    }
    let tensors: Vec<Tensor> = tensors.into_iter().flatten().collect();
    let n_rows = tensors.first().map_or(0, Tensor::n_rows);
    for (tensor, spec) in tensors.iter().zip(specs) {
        if tensor.n_rows() != n_rows {
            return Err(RequestError::invalid(format!(
                "column {}: {} rows, other columns have {n_rows}",
                quoted(&spec.name),
                tensor.n_rows()
            )));
        }
    }
    Ok(tensors)
}

/// Reads a tensor of shape `[n]` or `[n, 1]`.
fn one_column(
    ctx: &DecodeContext<'_>,
    spec: &TensorSpec,
    index: usize,
    input: &Input<'_>,
) -> Result<Tensor, RequestError> {
    let tensor = read_input(ctx, spec, index, input)?;
    let name = quoted(&spec.name);
    if !matches!(tensor.shape(), [_] | [_, 1]) {
        return Err(RequestError::invalid(format!(
            "inputs[{index}]: column {name} has shape {:?}, a column has shape [n] or [n, 1]",
            tensor.shape()
        )));
    }
    check_datatype(spec, index, tensor.dtype())?;
    Ok(Tensor::from_values(tensor.into_parts().1))
}

fn check_datatype(spec: &TensorSpec, index: usize, dtype: DType) -> Result<(), RequestError> {
    let expected = match (spec.dtype, dtype) {
        (DType::Bytes, DType::Bytes) => return Ok(()),
        (DType::Bytes, _) if spec.accepts_integers => return Ok(()),
        (DType::Bytes, _) => "strings (BYTES)",
        (_, DType::Bytes) => "numbers (FP64 or any other numeric datatype)",
        _ => return Ok(()),
    };
    let name = quoted(&spec.name);
    Err(RequestError::invalid(format!(
        "inputs[{index}]: column {name}: expected {expected}, got {dtype}"
    )))
}

/// Reads one tensor of all columns and takes it apart.
fn whole_table(
    ctx: &DecodeContext<'_>,
    places: &[ColumnPlace],
    input: &Input<'_>,
) -> Result<Vec<Tensor>, RequestError> {
    let spec = TensorSpec {
        name: input.name.to_string(),
        dtype: DType::Bytes,
        shape: vec![None, Some(places.len())],
        columns: None,
        // Each column's own rule is checked by the model.
        accepts_missing: true,
        accepts_integers: false,
    };
    let tensor = read_input(ctx, &spec, 0, input)?;
    let n_columns = places.len();
    let fits = match tensor.shape() {
        [_] => n_columns == 1,
        [_, width] => *width == n_columns,
        _ => false,
    };
    if !fits {
        return Err(RequestError::invalid(format!(
            "inputs[0]: unknown column {} of shape {:?}; send one tensor per column ({}), or one of shape [-1, {n_columns}]",
            quoted(&input.name),
            tensor.shape(),
            names(places)
        )));
    }
    for spec in &ctx.signature.inputs {
        check_datatype(spec, 0, tensor.dtype())?;
    }
    let columns = places.iter().enumerate();
    let read = columns.filter(|(_, place)| place.input.is_some());
    Ok(read
        .map(|(column, _)| column_of(tensor.values(), column, n_columns))
        .collect())
}

/// Copies one column of a row-major table.
fn column_of(values: &Values, column: usize, n_columns: usize) -> Tensor {
    let step = n_columns.max(1);
    Tensor::from_values(match values {
        Values::Bytes(texts) => {
            let mut picked = ByteStrings::new();
            for at in (column..texts.len()).step_by(step) {
                picked.push_optional(texts.get_present(at));
            }
            Values::Bytes(picked)
        }
        numbers => {
            let numbers = numbers.to_f64s().unwrap_or_default();
            Values::F64(numbers.iter().copied().skip(column).step_by(step).collect())
        }
    })
}
