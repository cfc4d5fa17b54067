//! What requests carry: bodies from a file, rows of a table, or numbers made up from the model's metadata.

mod generate;
mod table;
mod v2;

use std::path::Path;

use coracle_protocol::client::NamedTensor;
use serde_json::Value;

use crate::server::encode;
use crate::{BenchError, Protocol, Target, TensorMetadata};

pub use generate::generate;
pub use table::Table;

/// A body that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its bytes; with gRPC a framed message.
    pub bytes: Vec<u8>,
    /// The length of the JSON, where raw bytes follow it.
    pub json_length: Option<usize>,
}

impl Body {
    /// Returns a body without raw bytes.
    #[must_use]
    pub fn json(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            json_length: None,
        }
    }
}

/// The bodies of a load, which are sent in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bodies {
    /// The bodies; at least one.
    pub bodies: Vec<Body>,
    /// Rows of each, where that is known.
    pub n_rows: Option<usize>,
    /// Where they are from, in words.
    pub source: String,
}

/// How bodies are made.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Rows of a body.
    pub n_rows: usize,
    /// Shapes for inputs whose metadata leaves them open.
    pub shapes: &'a [(String, Vec<usize>)],
    /// Where random numbers begin.
    pub seed: u64,
}

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// The most bodies made of one source, and the most bytes of them together.
const BODIES_MAX: usize = 1_000;
const BODIES_BYTES_MAX: usize = 64 << 20;
/// So many different bodies are made up, so that no cache of the last answer flatters.
const GENERATED_BODIES: usize = 64;

/// Makes the bodies of a load from the file `data`, or from `metadata`.
///
/// # Errors
/// [`BenchError::Data`] with what is wrong with the data, and where.
pub fn bodies(
    target: &Target,
    data: Option<&Path>,
    metadata: Option<&[TensorMetadata]>,
    options: &Options<'_>,
) -> Result<Bodies, BenchError> {
    let Some(path) = data else {
        return generated(target, metadata, options);
    };
    let shown = path.display();
    let source = format!("{shown}");
    let fault = |what: String| BenchError::Data(format!("{shown}: {what}"));
    let extension = path.extension().and_then(|extension| extension.to_str());
    let bytes = read(path)?;
    let table = match extension.unwrap_or_default() {
        "json" => return given(target, &[&bytes], &source),
        "jsonl" | "ndjson" => {
            let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            let lines: Vec<&[u8]> = lines
                .into_iter()
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty())
                .collect();
            return given(target, &lines, &source);
        }
        "csv" => Table::from_csv(&bytes).map_err(fault)?,
        "npy" => Table::from_npy(&bytes).map_err(fault)?,
        _ => {
            let message = "the name must end in .json (a body), .jsonl (a body a line), .csv (rows) or .npy (rows)";
            return Err(fault(message.to_owned()));
        }
    };
    let n_chunks = (table.n_rows() / options.n_rows).clamp(1, BODIES_MAX);
    let mut bodies = Vec::new();
    let mut n_bytes = 0;
    for chunk in 0..n_chunks {
        let inputs = table.inputs(chunk * options.n_rows, options.n_rows, metadata);
        let body = encode(target, target.protocol(), &inputs.map_err(fault)?);
        n_bytes += body.bytes.len();
        if n_bytes > BODIES_BYTES_MAX && chunk > 0 {
            break;
        }
        bodies.push(body);
    }
    if metadata.is_none() && target.protocol() != Protocol::V1 {
        return Err(fault(
            "the server does not tell the names of the model's inputs; give bodies (.json)"
                .to_owned(),
        ));
    }
    Ok(Bodies {
        bodies,
        n_rows: Some(options.n_rows),
        source,
    })
}

fn generated(
    target: &Target,
    metadata: Option<&[TensorMetadata]>,
    options: &Options<'_>,
) -> Result<Bodies, BenchError> {
    let Some(metadata) = metadata else {
        return Err(BenchError::Data(
            "the server does not tell what the model takes, so no data can be made up; give some with --data".to_owned(),
        ));
    };
    let mut bodies = Vec::new();
    let mut n_bytes = 0;
    for index in 0..GENERATED_BODIES as u64 {
        let inputs = generate(metadata, options, options.seed.wrapping_add(index))?;
        let body = encode(target, target.protocol(), &inputs);
        n_bytes += body.bytes.len();
        if n_bytes > BODIES_BYTES_MAX && index > 0 {
            break;
        }
        bodies.push(body);
    }
    Ok(Bodies {
        bodies,
        n_rows: Some(options.n_rows),
        source: "made up".to_owned(),
    })
}

/// Returns bodies that were given as JSON; those of V2 become raw bytes where the protocol wants them.
fn given(target: &Target, texts: &[&[u8]], source: &str) -> Result<Bodies, BenchError> {
    let fault = |index: usize, what: String| {
        BenchError::Data(format!("{source}: body {}: {what}", index + 1))
    };
    if texts.is_empty() {
        return Err(BenchError::Data(format!("{source}: holds no body")));
    }
    let mut bodies = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let json: Value =
            serde_json::from_slice(text).map_err(|error| fault(index, error.to_string()))?;
        let protocol = target.protocol();
        let body = match protocol {
            Protocol::V1 if json.get("instances").or(json.get("inputs")).is_none() => {
                let message = "has neither \"instances\" nor \"inputs\", as V1 wants";
                return Err(fault(index, message.to_owned()));
            }
            Protocol::V2 if json["inputs"].as_array().is_none() => {
                let message =
                    "has no list of \"inputs\", as V2 wants; for bodies of V1 say --protocol v1";
                return Err(fault(index, message.to_owned()));
            }
            Protocol::V1 | Protocol::V2 => Body::json(text.to_vec()),
            Protocol::V2Binary | Protocol::Grpc => {
                let inputs: Vec<NamedTensor> =
                    v2::inputs(&json).map_err(|what| fault(index, what))?;
                encode(target, protocol, &inputs)
            }
        };
        bodies.push(body);
    }
    Ok(Bodies {
        bodies,
        n_rows: None,
        source: source.to_owned(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, BenchError> {
    let fault = |what: String| BenchError::Data(format!("{}: {what}", path.display()));
    let about = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?;
    if about.len() > FILE_BYTES_MAX {
        return Err(fault("larger than 1 GiB".to_owned()));
    }
    std::fs::read(path).map_err(|error| fault(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(protocol: Protocol) -> Target {
        let mut target = Target::parse("http://h/v2/models/m").unwrap();
        target.protocol = Some(protocol);
        target
    }

    #[test]
    fn given_bodies_go_as_they_are_or_as_raw_bytes() {
        let text = br#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2.5]]}]}"#;
        let plain = given(&target(Protocol::V2), &[text], "f").unwrap();
        assert_eq!(plain.bodies[0].bytes, text);
        let binary = given(&target(Protocol::V2Binary), &[text], "f").unwrap();
        let body = &binary.bodies[0];
        let raw = &body.bytes[body.json_length.unwrap()..];
        assert_eq!(raw, [1_f32.to_le_bytes(), 2.5_f32.to_le_bytes()].concat());
    }

    #[test]
    fn bodies_of_another_protocol_are_refused() {
        let cases = [
            (Protocol::V2, r#"{"instances": [[1]]}"#, "say --protocol v1"),
            (Protocol::V1, r#"{"rows": []}"#, "neither"),
            (Protocol::Grpc, r#"{"instances": [[1]]}"#, "\"inputs\""),
            (Protocol::V1, "{", "EOF"),
        ];
        for (protocol, text, words) in cases {
            let error = given(&target(protocol), &[text.as_bytes()], "f")
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("f: body 1: ") && error.contains(words),
                "{error}"
            );
        }
    }

    #[test]
    fn nothing_can_be_made_up_without_metadata() {
        let options = Options {
            n_rows: 1,
            shapes: &[],
            seed: 0,
        };
        let error = bodies(&target(Protocol::V1), None, None, &options).unwrap_err();
        assert!(error.to_string().contains("--data"));
    }
}
