//! Examples, which are features by name, to rows of a table.

use std::collections::BTreeMap;

use coracle_model::TensorSpec;
use coracle_tensor::{DType, Tensor, Values};

use crate::error::quoted;
use crate::unknown::{self, UnknownNames};
use crate::v2::too_many_rows;
use crate::{DecodeContext, RequestError};

/// The numbers of one example by feature.
pub(super) type Features = BTreeMap<String, Vec<f64>>;

/// Returns the table of `examples`; features that an example lacks are those of `common`.
///
/// A feature is a column of the model, or the whole row under the input's name.
///
/// # Errors
/// Code `InvalidArgument` naming the example and feature at fault; `Unimplemented` for models of something else than one table.
pub(super) fn table(
    ctx: &DecodeContext<'_>,
    examples: &[Features],
    common: &Features,
) -> Result<Tensor, RequestError> {
    let [spec] = ctx.signature.inputs.as_slice() else {
        return Err(not_a_table());
    };
    let n_columns = spec.n_columns().filter(|_| spec.dtype == DType::F64);
    let n_columns = n_columns.ok_or_else(not_a_table)?;
    if examples.is_empty() {
        return Err(RequestError::invalid(
            "\"examples\" is empty; send at least one",
        ));
    }
    let n_elements = examples.len().checked_mul(n_columns);
    if n_elements.is_none_or(|n_elements| n_elements > ctx.elements_max) {
        return Err(too_many_rows(ctx, examples.len(), n_columns));
    }
    let mut values = Vec::with_capacity(n_elements.unwrap_or(0));
    for (index, example) in examples.iter().enumerate() {
        append_row(index, example, common, spec, n_columns, &mut values)?;
    }
    Tensor::try_new(vec![examples.len(), n_columns], Values::F64(values.into()))
        .map_err(|error| RequestError::invalid(error.to_string()))
}

fn not_a_table() -> RequestError {
    RequestError::unimplemented(
        "examples are supported for models of one table of numbers; use predict for this one",
    )
}

fn append_row(
    index: usize,
    example: &Features,
    common: &Features,
    spec: &TensorSpec,
    n_columns: usize,
    values: &mut Vec<f64>,
) -> Result<(), RequestError> {
    let feature = |name: &str| example.get(name).or_else(|| common.get(name));
    if let Some(row) = feature(&spec.name) {
        if row.len() != n_columns {
            let message = format!(
                "examples[{index}]: feature {} has {} values, model expects {n_columns}",
                quoted(&spec.name),
                row.len()
            );
            return Err(RequestError::invalid(message));
        }
        values.extend_from_slice(row);
        return Ok(());
    }
    let Some(columns) = &spec.columns else {
        let message = format!(
            "examples[{index}]: the model knows no names of columns; send the row as feature {}",
            quoted(&spec.name)
        );
        return Err(RequestError::invalid(message));
    };
    let own = || columns.iter().map(String::as_str);
    let given = example.keys().chain(common.keys()).map(String::as_str);
    let is_known = |name: &str| own().any(|own| own == name);
    if let Some(unknown) = UnknownNames::among("feature", given, is_known) {
        let all = unknown::listed(own());
        let message = format!("examples[{index}]: {unknown}; the model has {all}");
        return Err(RequestError::invalid(message));
    }
    if let Some(missing) = unknown::missing("feature", own(), |name| feature(name).is_some()) {
        let message = format!("examples[{index}]: {missing}");
        return Err(RequestError::invalid(message));
    }
    for column in columns {
        match feature(column).map_or(&[][..], Vec::as_slice) {
            [value] => values.push(*value),
            several => {
                let message = format!(
                    "examples[{index}]: feature {} has {} values, a column has one",
                    quoted(column),
                    several.len()
                );
                return Err(RequestError::invalid(message));
            }
        }
    }
    Ok(())
}
