//! KServe's V1 protocol: `{"instances": [...]}` to `{"predictions": [...]}`.

mod columns;
mod csv;
mod decode;
mod plain;
mod split;
mod tensors;

use coracle_model::Signature;
use coracle_tensor::{ByteStrings, Tensor, Values};

use crate::{Call, Layout, render};

pub use decode::{decode_csv, decode_invocations, decode_predict};

/// Appends the answer to a prediction.
///
/// One output gives a list of its rows; several give a list of objects, one per row, by output name.
/// Numbers that JSON cannot hold (NaN, infinity) become `null`. A row of a keyed output is an object by its columns'
/// names, or the JSON that it holds as a text. Where an output is not one row for each instance, the outputs are given whole.
pub fn encode_predict(signature: &Signature, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    out.push(b'{');
    if call.layout != Layout::Columns {
        rows(signature, call, outputs, out);
    }
    if call.layout == Layout::Both {
        out.push(b',');
    }
    if call.layout != Layout::Rows {
        columns(signature, call, outputs, out);
    }
    out.push(b'}');
}

/// Appends the answer to a prediction as MLflow's server gives it: `predictions` alone, whatever was sent, of which several outputs, and
/// those of graphs, are an object by name.
pub fn encode_invocations(
    signature: &Signature,
    call: &Call,
    outputs: &[Tensor],
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    if outputs.len() == 1 && !signature.name_rules.mlflow_names_outputs {
        rows(signature, call, outputs, out);
    } else {
        out.extend_from_slice(b"\"predictions\":");
        by_name(signature, call, outputs, out);
    }
    out.push(b'}');
}

/// Returns the body of an error answer at MLflow's path, as its server has it.
#[must_use]
pub fn invocations_error(status: u16, message: &str) -> Vec<u8> {
    // As `ERROR_CODE_TO_HTTP_STATUS` of MLflow has them.
    let code = match status {
        404 => "ENDPOINT_NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        501 => "NOT_IMPLEMENTED",
        503 => "TEMPORARILY_UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=499 => "BAD_REQUEST",
        _ => "INTERNAL_ERROR",
    };
    let mut body = format!("{{\"error_code\":\"{code}\",\"message\":").into_bytes();
    render::string(message, &mut body);
    body.push(b'}');
    body
}

/// Appends the outputs whole: the only one by itself, several by name.
fn columns(signature: &Signature, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"outputs\":");
    whole(signature, call, outputs, out);
}

fn whole(signature: &Signature, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    if let [output] = outputs {
        let index = call.outputs.first().copied();
        return all_of(signature, index, output, out);
    }
    by_name(signature, call, outputs, out);
}

fn by_name(signature: &Signature, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    out.push(b'{');
    let named = call.outputs.iter().zip(outputs);
    render::separated(named, out, |(&index, output), out| {
        let spec = signature.outputs.get(index);
        render::string(spec.map_or("", |spec| spec.name.as_str()), out);
        out.push(b':');
        all_of(signature, Some(index), output, out);
    });
    out.push(b'}');
}

/// Appends an output whole.
fn all_of(signature: &Signature, index: Option<usize>, output: &Tensor, out: &mut Vec<u8>) {
    match (json_texts(signature, index, output), output.shape()) {
        (Some(texts), [_]) => {
            out.push(b'[');
            render::separated(texts.iter(), out, json);
            out.push(b']');
        }
        (Some(texts), []) => json(texts.get(0).unwrap_or_default(), out),
        _ => render::tensor(output, out),
    }
}

/// Returns the texts of an output that are JSON.
fn json_texts<'t>(
    signature: &Signature,
    index: Option<usize>,
    output: &'t Tensor,
) -> Option<&'t ByteStrings> {
    let is_keyed = index.is_some_and(|index| signature.keyed_outputs.contains(&index));
    match output.values() {
        Values::Bytes(texts) if is_keyed => Some(texts),
        _ => None,
    }
}

/// Appends JSON that a model wrote.
fn json(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(if text.is_empty() { b"null" } else { text });
}

/// Appends the outputs row by row.
fn rows(signature: &Signature, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    let is_by_row = |output: &Tensor| output.shape().first() == Some(&call.n_rows);
    if !outputs.iter().all(is_by_row) {
        out.extend_from_slice(b"\"predictions\":");
        return whole(signature, call, outputs, out);
    }
    let keys_of = |index: usize| {
        let spec = signature.outputs.get(index)?;
        let is_keyed = signature.keyed_outputs.contains(&index);
        spec.columns.as_deref().filter(|_| is_keyed)
    };
    out.extend_from_slice(b"\"predictions\":[");
    render::separated(0..call.n_rows, out, |row, out| match outputs {
        [output] => {
            let index = call.outputs.first().copied();
            match json_texts(signature, index, output).filter(|_| output.shape().len() == 1) {
                Some(texts) => json(texts.get(row).unwrap_or_default(), out),
                None => named_row(index.and_then(keys_of), output, row, out),
            }
        }
        _ => {
            out.push(b'{');
            let named = call.outputs.iter().zip(outputs);
            render::separated(named, out, |(&index, output), out| {
                let spec = signature.outputs.get(index);
                render::string(spec.map_or("", |spec| spec.name.as_str()), out);
                out.push(b':');
                match json_texts(signature, Some(index), output) {
                    Some(texts) => json(texts.get(row).unwrap_or_default(), out),
                    None => named_row(keys_of(index), output, row, out),
                }
            });
            out.push(b'}');
        }
    });
    out.push(b']');
}

/// Appends a row of an output: an object where its columns have keys.
fn named_row(keys: Option<&[String]>, output: &Tensor, row: usize, out: &mut Vec<u8>) {
    let columns = keys.filter(|columns| output.shape().get(1..) == Some(&[columns.len()]));
    let Some(columns) = columns else {
        return render::row(output, row, out);
    };
    let first = row.saturating_mul(columns.len());
    out.push(b'{');
    render::separated(columns.iter().zip(first..), out, |(name, element), out| {
        render::string(name, out);
        out.push(b':');
        render::element(output.values(), element, out);
    });
    out.push(b'}');
}

/// Appends the list of models.
pub fn model_list<'a>(names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"models\":[");
    render::separated(names, out, render::string);
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod column_tests;
#[cfg(test)]
mod csv_tests;
#[cfg(test)]
mod tensor_tests;
#[cfg(test)]
pub(crate) mod tests;
