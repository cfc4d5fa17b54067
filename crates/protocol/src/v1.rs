//! KServe's V1 protocol: `{"instances": [...]}` to `{"predictions": [...]}`.

mod columns;
mod decode;
mod plain;

use coracle_model::Signature;
use coracle_tensor::Tensor;

use crate::{Call, Layout, render};

pub use decode::decode_predict;

/// Appends the answer to a prediction.
///
/// One output gives a list of its rows; several give a list of objects, one per row, by output name.
/// Numbers that JSON cannot hold (NaN, infinity) become `null`.
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

/// Appends the outputs whole: the only one by itself, several by name.
fn columns(signature: &Signature, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"outputs\":");
    if let [output] = outputs {
        return render::tensor(output, out);
    }
    out.push(b'{');
    let named = call.outputs.iter().zip(outputs);
    render::separated(named, out, |(&index, output), out| {
        let spec = signature.outputs.get(index);
        render::string(spec.map_or("", |spec| spec.name.as_str()), out);
        out.push(b':');
        render::tensor(output, out);
    });
    out.push(b'}');
}

/// Appends the outputs row by row.
fn rows(signature: &Signature, call: &Call, outputs: &[Tensor], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"predictions\":[");
    render::separated(0..call.n_rows, out, |row, out| match outputs {
        [output] => render::row(output, row, out),
        _ => {
            out.push(b'{');
            let named = call.outputs.iter().zip(outputs);
            render::separated(named, out, |(&index, output), out| {
                let name = signature
                    .outputs
                    .get(index)
                    .map_or("", |spec| spec.name.as_str());
                render::string(name, out);
                out.push(b':');
                render::row(output, row, out);
            });
            out.push(b'}');
        }
    });
    out.push(b']');
}

/// Appends the list of models.
pub fn model_list<'a>(names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"models\":[");
    render::separated(names, out, render::string);
    out.extend_from_slice(b"]}");
}

/// Appends whether a model is ready.
pub fn model_status(name: &str, ready: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    render::string(name, out);
    out.extend_from_slice(if ready {
        b",\"ready\":true}"
    } else {
        b",\"ready\":false}"
    });
}

#[cfg(test)]
mod column_tests;
#[cfg(test)]
pub(crate) mod tests;
