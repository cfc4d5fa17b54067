//! Answers about the server and its models.

use coracle_model::TensorSpec;

use crate::content::content_type;
use crate::facts::{EXTENSIONS, ModelFacts};
use crate::render;

/// Appends what the server is.
pub fn server_metadata(version: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":\"coracle\",\"version\":");
    render::string(version, out);
    out.extend_from_slice(b",\"extensions\":[");
    render::separated(EXTENSIONS.iter(), out, |name, out| {
        render::string(name, out)
    });
    out.extend_from_slice(b"]}");
}

/// Appends that the server lives.
pub fn health_live(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"live\":true}");
}

/// Appends whether the server is ready for requests.
pub fn health_ready(ready: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if ready {
        b"{\"ready\":true}"
    } else {
        b"{\"ready\":false}"
    });
}

/// Appends the list of models.
pub fn model_list<'a>(names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    crate::v1::model_list(names, out);
}

/// Appends whether a model is ready.
pub fn model_ready(name: &str, ready: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    render::string(name, out);
    out.extend_from_slice(if ready {
        b",\"ready\":true}"
    } else {
        b",\"ready\":false}"
    });
}

/// Appends what a model takes and gives.
///
/// The outputs are listed with the default ones first. Column names, where the model knows them, are the
/// input's parameter `columns`; what texts hold is `content_type`, in MLServer's words.
pub fn model_metadata(facts: ModelFacts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    render::string(facts.name, out);
    out.extend_from_slice(b",\"versions\":[");
    render::separated(facts.versions.iter(), out, |version, out| {
        render::string(version, out)
    });
    out.extend_from_slice(b"],\"platform\":");
    render::string(facts.platform, out);
    out.extend_from_slice(b",\"inputs\":[");
    let signature = facts.signature;
    let inputs = signature.inputs.iter().enumerate();
    render::separated(inputs, out, |(index, spec), out| {
        tensor(spec, signature.keyed_inputs.contains(&index), out)
    });
    out.extend_from_slice(b"],\"outputs\":[");
    render::separated(facts.indexed_outputs(), out, |(index, spec), out| {
        tensor(spec, signature.keyed_outputs.contains(&index), out)
    });
    out.extend_from_slice(b"]}");
}

fn tensor(spec: &TensorSpec, is_keyed: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    render::string(&spec.name, out);
    out.extend_from_slice(b",\"datatype\":");
    render::string(spec.dtype.name(), out);
    out.extend_from_slice(b",\"shape\":[");
    render::separated(spec.wire_shape().into_iter(), out, |size, out| {
        render::integer(size, out)
    });
    out.push(b']');
    let content = content_type(spec, is_keyed);
    if let Some(columns) = &spec.columns {
        out.extend_from_slice(b",\"parameters\":{\"columns\":[");
        render::separated(columns.iter(), out, |column, out| {
            render::string(column, out)
        });
        out.push(b']');
        if let Some(content) = content {
            out.extend_from_slice(b",\"content_type\":");
            render::string(content, out);
        }
        out.push(b'}');
    } else if let Some(content) = content {
        out.extend_from_slice(b",\"parameters\":{\"content_type\":");
        render::string(content, out);
        out.push(b'}');
    }
    out.push(b'}');
}
