//! What the models of a deployment take and give: Seldon's metadata, with tensors as V2 has them, which is one of Seldon's two forms. Over gRPC they are
//! `SeldonModelMetadata` and `SeldonGraphMetadata` of `seldon.protos`, made of the JSON that REST has.

use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_base::Code;
use prost::Message;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::grpc::{Value, as_value};
use crate::RequestError;
use crate::grpc::{decode, frame};

#[derive(Clone, PartialEq, Message)]
struct MetadataRequest {
    #[prost(string, tag = "1")]
    name: String,
}

/// `SeldonMessageMetadata`.
#[derive(Clone, PartialEq, Message)]
struct TensorMessage {
    /// What the names of columns are in, where a model tells them apart.
    #[prost(message, optional, tag = "2")]
    schema: Option<Value>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    datatype: String,
    #[prost(int64, repeated, tag = "5")]
    shape: Vec<i64>,
}

/// `SeldonModelMetadata`.
#[derive(Clone, PartialEq, Message)]
struct ModelMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    versions: Vec<String>,
    #[prost(string, tag = "3")]
    platform: String,
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<TensorMessage>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<TensorMessage>,
}

/// `SeldonGraphMetadata`.
#[derive(Clone, PartialEq, Message)]
struct GraphMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(btree_map = "string, message", tag = "2")]
    models: BTreeMap<String, ModelMessage>,
    #[prost(message, repeated, tag = "3")]
    inputs: Vec<TensorMessage>,
    #[prost(message, repeated, tag = "4")]
    outputs: Vec<TensorMessage>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    columns: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    versions: Vec<String>,
    platform: String,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Graph {
    name: String,
    models: BTreeMap<String, Model>,
    graphinputs: Vec<Tensor>,
    graphoutputs: Vec<Tensor>,
}

impl From<Tensor> for TensorMessage {
    fn from(tensor: Tensor) -> Self {
        let columns = tensor.parameters.and_then(|all| all.columns);
        Self {
            schema: columns.map(|columns| as_value(json!({"names": columns}))),
            name: tensor.name,
            datatype: tensor.datatype,
            shape: tensor.shape,
        }
    }
}

impl From<Model> for ModelMessage {
    fn from(model: Model) -> Self {
        Self {
            name: model.name,
            versions: model.versions,
            platform: model.platform,
            inputs: model.inputs.into_iter().map(Into::into).collect(),
            outputs: model.outputs.into_iter().map(Into::into).collect(),
        }
    }
}

/// Appends what a model that takes requests says of its status, as Seldon's wrapper has it: a message without data.
pub fn encode_status(out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"{\"data\":{\"names\":[],\"tensor\":{\"shape\":[0],\"values\":[]}},\"meta\":{}}",
    );
}

/// Returns the metadata of a graph, given V2's of each of its models by its node, and of those whose inputs and outputs are the graph's.
///
/// # Errors
/// Code `Internal` if one is no metadata.
pub fn graph_metadata(
    name: &str,
    models: &[(String, Vec<u8>)],
    (first, last): (&[u8], &[u8]),
) -> Result<Vec<u8>, RequestError> {
    let models = models
        .iter()
        .map(|(node, of)| Ok((node.clone(), read(of)?)));
    let models: Map<String, Json> = models.collect::<Result<_, RequestError>>()?;
    let of = |metadata: &[u8], key: &str| -> Result<Json, RequestError> {
        let metadata: Json = read(metadata)?;
        Ok(metadata.get(key).cloned().unwrap_or_else(|| json!([])))
    };
    let graph = json!({
        "name": name,
        "models": models,
        "graphinputs": of(first, "inputs")?,
        "graphoutputs": of(last, "outputs")?
    });
    Ok(graph.to_string().into_bytes())
}

fn read<'a, T: Deserialize<'a>>(metadata: &'a [u8]) -> Result<T, RequestError> {
    serde_json::from_slice(metadata)
        .map_err(|error| RequestError::new(Code::Internal, format!("the metadata: {error}")))
}

/// Returns the name of a `SeldonModelMetadataRequest`.
///
/// # Errors
/// Code `InvalidArgument` if it is none.
pub fn metadata_name(message: Bytes) -> Result<String, RequestError> {
    let request: MetadataRequest = decode(message)?;
    Ok(request.name)
}

/// Returns a model's metadata, the JSON that it is over REST, as a framed `SeldonModelMetadata`.
///
/// # Errors
/// Code `Internal` if it is none.
pub fn model_metadata_message(metadata: &[u8]) -> Result<Vec<u8>, RequestError> {
    let model: Model = read(metadata)?;
    Ok(frame(&ModelMessage::from(model)))
}

/// Returns a graph's metadata, the JSON that it is over REST, as a framed `SeldonGraphMetadata`.
///
/// # Errors
/// Code `Internal` if it is none.
pub fn graph_metadata_message(metadata: &[u8]) -> Result<Vec<u8>, RequestError> {
    let graph: Graph = read(metadata)?;
    let models = graph.models.into_iter();
    Ok(frame(&GraphMessage {
        name: graph.name,
        models: models.map(|(node, model)| (node, model.into())).collect(),
        inputs: graph.graphinputs.into_iter().map(Into::into).collect(),
        outputs: graph.graphoutputs.into_iter().map(Into::into).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::PREFIX_BYTES;

    const MODEL: &str = r#"{"name":"scale","versions":["1"],"platform":"sklearn","inputs":[{"name":"X","datatype":"FP64","shape":[-1,2],"parameters":{"columns":["a","b"]}}],"outputs":[{"name":"transform","datatype":"FP64","shape":[-1,2]}]}"#;
    const LAST: &str = r#"{"name":"classify","versions":["1"],"platform":"sklearn","inputs":[{"name":"X","datatype":"FP64","shape":[-1,2]}],"outputs":[{"name":"predict","datatype":"INT64","shape":[-1]}]}"#;

    fn graph() -> Vec<u8> {
        let models = [("scale", MODEL), ("classify", LAST)]
            .map(|(node, of)| (node.to_owned(), of.as_bytes().to_vec()));
        graph_metadata("iris", &models, (MODEL.as_bytes(), LAST.as_bytes())).unwrap()
    }

    #[test]
    fn a_graph_takes_what_its_first_model_takes_and_gives_what_its_last_one_gives() {
        let graph: Json = serde_json::from_slice(&graph()).unwrap();
        let (first, last): (Json, Json) = (
            serde_json::from_str(MODEL).unwrap(),
            serde_json::from_str(LAST).unwrap(),
        );
        // As Seldon's documentation has it.
        let expected = json!({
            "name": "iris",
            "models": {"scale": first, "classify": last},
            "graphinputs": first["inputs"],
            "graphoutputs": last["outputs"]
        });
        assert_eq!(graph, expected);
        assert!(graph_metadata("iris", &[], (b"{", b"{}")).is_err());
    }

    #[test]
    fn metadata_go_over_grpc() {
        let framed = model_metadata_message(MODEL.as_bytes()).unwrap();
        let model: ModelMessage = decode(Bytes::copy_from_slice(&framed[PREFIX_BYTES..])).unwrap();
        let input = &model.inputs[0];
        assert_eq!(
            (model.name.as_str(), model.versions),
            ("scale", vec!["1".to_owned()])
        );
        assert_eq!(
            (input.name.as_str(), input.datatype.as_str(), &input.shape),
            ("X", "FP64", &vec![-1, 2])
        );
        assert_eq!(input.schema, Some(as_value(json!({"names": ["a", "b"]}))));
        assert_eq!(model.outputs[0].schema, None);
        let framed = graph_metadata_message(&graph()).unwrap();
        let graph: GraphMessage = decode(Bytes::copy_from_slice(&framed[PREFIX_BYTES..])).unwrap();
        assert_eq!(graph.models["scale"].inputs, graph.inputs);
        assert_eq!(graph.outputs[0].datatype, "INT64");
        assert!(model_metadata_message(b"{}").is_err());
    }

    #[test]
    fn damaged_requests_are_refused_or_read() {
        let whole = MetadataRequest {
            name: "classifier".to_owned(),
        };
        let whole = whole.encode_to_vec();
        assert_eq!(metadata_name(whole.clone().into()).unwrap(), "classifier");
        for at in 0..whole.len() {
            let _cut = metadata_name(Bytes::copy_from_slice(&whole[..at]));
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                let _outcome = metadata_name(damaged.into());
            }
        }
    }
}
