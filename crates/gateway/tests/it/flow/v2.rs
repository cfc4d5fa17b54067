//! V2 of graphs over REST: metadata, raw tensors, outputs by name.

use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
};

use super::*;
use crate::grpc;

const INFER: &str = "/seldon/ml/iris/v2/models/first/infer";

fn get(server: &Running, path: &str) -> (u16, Value) {
    let path = format!("/seldon/ml/iris{path}");
    let answer = send(server.address, "GET", &path, &[], b"");
    let body = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, body)
}

fn doubles(values: &[f64]) -> Vec<u8> {
    let bytes = values.iter().map(|value| value.to_le_bytes());
    bytes.flatten().collect()
}

/// Sends raw rows of two numbers with what else the JSON says; returns the status, the JSON and the numbers after it.
fn infer_raw(server: &Running, rows: &[f64], more: &str) -> (u16, Value, Vec<f64>) {
    let raw = doubles(rows);
    let json = format!(
        r#"{{"id": "7", "inputs": [{{"name": "X", "datatype": "FP64", "shape": [{}, 2], "parameters": {{"binary_data_size": {}}}}}]{more}}}"#,
        rows.len() / 2,
        raw.len()
    );
    let length = json.len().to_string();
    let headers = [
        ("content-type", "application/octet-stream"),
        ("inference-header-content-length", &length),
    ];
    let body = [json.as_bytes(), &raw].concat();
    let answer = send(server.address, "POST", INFER, &headers, &body);
    let head = answer.header("inference-header-content-length");
    let json_length = head.map_or(answer.bytes.len(), |length| length.parse().unwrap());
    let (json, raw) = answer.bytes.split_at(json_length);
    let numbers = raw.as_chunks::<8>().0.iter();
    let numbers = numbers.map(|chunk| f64::from_le_bytes(*chunk));
    (
        answer.status,
        serde_json::from_slice(json).unwrap_or_default(),
        numbers.collect(),
    )
}

#[test]
fn a_graph_describes_itself_and_its_nodes() {
    let server = start(Step::Chain(vec![ask("double"), ask("swap")]));
    let expected = |name: &str, platform: &str| {
        json!({
            "name": name, "versions": ["1"], "platform": platform,
            "inputs": [{"name": "X", "datatype": "FP64", "shape": [-1, 2]}],
            "outputs": [{"name": "transform", "datatype": "FP64", "shape": [-1, -1]}]
        })
    };
    for name in ["first", "iris"] {
        let (status, answer) = get(&server, &format!("/v2/models/{name}"));
        assert_eq!((status, answer), (200, expected("first", "graph")));
    }
    let (status, answer) = get(&server, "/v2/models/swap");
    assert_eq!((status, answer), (200, expected("swap", "")));
    let (status, answer) = get(&server, "/v1/models/first/metadata");
    let signature = &answer["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(
        (status, &signature["inputs"]["X"]["name"]),
        (200, &json!("X:0"))
    );
    for path in ["/v2/models/swap/ready", "/v1/models/swap"] {
        assert_eq!(get(&server, path).0, 200, "{path}");
    }
    // Both the words of KServe and those of TensorFlow Serving.
    let expected = json!([{
        "version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}
    }]);
    for name in ["first", "swap"] {
        let (_, answer) = get(&server, &format!("/v1/models/{name}"));
        assert_eq!(
            (&answer["ready"], &answer["name"]),
            (&json!(true), &json!(name))
        );
        assert_eq!(answer["model_version_status"], expected, "{name}");
    }
    for path in ["/v2/models/other", "/v1/models/other/metadata"] {
        assert_eq!(get(&server, path).0, 404, "{path}");
    }
    // A mean is of doubles, whatever the models give.
    let server = start(average(&["double", "wide"]));
    assert_eq!(get(&server, "/v2/models/first").1["inputs"][0]["name"], "X");
}

#[test]
fn raw_tensors_go_through_a_graph() {
    let server = start(Step::Chain(vec![ask("double"), ask("swap")]));
    let (status, json, raw) = infer_raw(&server, &[1.0, 2.0, 0.1, -4.0], "");
    assert_eq!((status, raw.len()), (200, 0), "{json}");
    assert_eq!(
        json,
        json!({
            "model_name": "swap", "model_version": "1", "id": "7",
            "outputs": [{"name": "transform", "shape": [2, 2], "datatype": "FP64", "data": [4.0, 2.0, -8.0, 0.2]}]
        })
    );
    let wants = r#", "parameters": {"binary_data_output": true}"#;
    let (status, json, raw) = infer_raw(&server, &[1.0, 2.0], wants);
    assert_eq!((status, raw), (200, vec![4.0, 2.0]), "{json}");
    let output = &json["outputs"][0];
    assert_eq!(output["parameters"], json!({"binary_data_size": 16}));
    // Of a mean, too.
    let server = start(average(&["double", "swap"]));
    let (_, _, raw) = infer_raw(&server, &[1.0, 2.0], wants);
    assert_eq!(raw, [2.0, 2.5]);
    let (status, json, _) = infer_raw(&server, &[1.0, 2.0, 3.0], "");
    assert_eq!(status, 400, "{json}");
}

#[test]
fn outputs_that_are_asked_for_are_the_last_models() {
    let server = start(Step::Chain(vec![ask("double"), ask("swap")]));
    let inputs = json!([{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]);
    let outputs = |name: &str| json!([{"name": name, "parameters": {"binary_data": false}}]);
    for name in ["transform", "output-0"] {
        let sent = json!({"inputs": inputs, "outputs": outputs(name)});
        let (status, answer) = post(&server, INFER, &sent);
        assert_eq!(
            (status, &answer["outputs"][0]["data"]),
            (200, &json!([4.0, 2.0]))
        );
    }
    // It is the caller's mistake, though it is not the first node that is told.
    let sent = json!({"inputs": inputs, "outputs": outputs("other")});
    let (status, answer) = post(&server, INFER, &sent);
    assert_eq!(status, 400, "{answer}");
    let message = answer["error"].as_str().unwrap();
    assert!(message.contains("unknown output"), "{message}");
}

#[test]
fn nodes_tell_what_they_are_over_grpc_too() {
    let server = start(Step::Chain(vec![ask("double"), ask("wide")]));
    let headers = [("seldon", "iris"), ("namespace", "ml")];
    let metadata = |name: &str| {
        let asked = ModelMetadataRequest {
            name: name.to_owned(),
            ..ModelMetadataRequest::default()
        };
        let path = "/inference.GRPCInferenceService/ModelMetadata";
        grpc::call(&server, path, &headers, frame(&asked))
    };
    for name in ["double", "wide"] {
        let told: ModelMetadataResponse = metadata(name).message();
        assert_eq!(told.name, name);
        assert_eq!(
            (told.inputs[0].name.as_str(), &told.inputs[0].shape[..]),
            ("X", &[-1, 2][..])
        );
    }
    let graph: ModelMetadataResponse = metadata("first").message();
    assert_eq!(graph.platform, "graph");
    // `swap` is a service of its own, and no node of this graph.
    assert_eq!(metadata("swap").status, 5);
    for (name, expected) in [("wide", true), ("first", true), ("swap", false)] {
        let asked = ModelReadyRequest {
            name: name.to_owned(),
            ..ModelReadyRequest::default()
        };
        let path = "/inference.GRPCInferenceService/ModelReady";
        let ready: ModelReadyResponse =
            grpc::call(&server, path, &headers, frame(&asked)).message();
        assert_eq!(ready.ready, expected, "{name}");
    }
}
