//! Calls over gRPC of a deployment that is one model, named by Seldon's metadata and the model by the name of its graph.

use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{
    ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse,
};
use coracle_protocol::grpc::tensorflow::{GetModelStatusResponse, PredictResponse};

use super::start;
use crate::fixture::Running;
use crate::grpc::{self, Answer};
use crate::tfs_grpc::{PREDICTION, STATUS, row_of, spec};

const INFERENCE: &str = "/inference.GRPCInferenceService/";
const IRIS: [(&str, &str); 2] = [("seldon", "iris"), ("namespace", "ml")];

/// Asks what each method answers of a model of this name.
fn asked(server: &Running, deployment: &[(&str, &str)], name: &str) -> [Answer; 5] {
    let call = |path: &str, message| grpc::call(server, path, deployment, message);
    let of = |method: &str, message| call(&format!("{INFERENCE}{method}"), message);
    let (name, version) = (name.to_owned(), String::new());
    let infer = grpc::row(&name, [1.0, 2.0]);
    let status = row_of(Some(spec(&name)), [1.0, 2.0]);
    let predict = frame(&status);
    let ready = ModelReadyRequest {
        name: name.clone(),
        version: version.clone(),
    };
    let metadata = ModelMetadataRequest { name, version };
    [
        of("ModelInfer", frame(&infer)),
        of("ModelReady", frame(&ready)),
        of("ModelMetadata", frame(&metadata)),
        call(&format!("{PREDICTION}Predict"), predict.clone()),
        // A status is asked for by the first field, which it has in common with a prediction.
        call(STATUS, predict),
    ]
}

#[test]
fn a_graph_of_one_model_is_asked_by_its_own_name() {
    let server = start();
    // The namespace may be left out where only one has the name.
    for deployment in [&IRIS[..], &IRIS[..1]] {
        for name in ["sum", "iris"] {
            let [infer, ready, metadata, predict, status] = asked(&server, deployment, name);
            assert_eq!(infer.status, 0, "{name}: {}", infer.message);
            assert_eq!(infer.message::<ModelInferResponse>().model_name, "sum");
            assert!(ready.message::<ModelReadyResponse>().ready, "{name}");
            assert_eq!(metadata.status, 0, "{name}: {}", metadata.message);
            assert_eq!(metadata.message::<ModelMetadataResponse>().name, "sum");
            assert_eq!(predict.status, 0, "{name}: {}", predict.message);
            let outputs = predict.message::<PredictResponse>().outputs;
            assert_eq!(outputs["predict"].double_val, [3.0]);
            assert_eq!(status.status, 0, "{name}: {}", status.message);
            let statuses = status.message::<GetModelStatusResponse>();
            assert_eq!(statuses.model_version_status.len(), 1);
        }
    }
}

#[test]
fn what_is_none_of_a_deployments_is_not_found() {
    let server = start();
    let nobody = [("seldon", "nobody"), ("namespace", "ml")];
    for (deployment, name) in [(&IRIS[..], "other"), (&nobody[..], "iris"), (&[], "sum")] {
        let [infer, ready, metadata, predict, status] = asked(&server, deployment, name);
        for answer in [infer, metadata, predict, status] {
            assert_eq!(
                answer.status, 5,
                "{deployment:?} {name}: {}",
                answer.message
            );
        }
        assert!(!ready.message::<ModelReadyResponse>().ready);
    }
}
