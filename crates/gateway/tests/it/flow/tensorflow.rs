//! TensorFlow Serving's calls of graphs.

use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::tensorflow::{
    Dim, GetModelMetadataResponse, GetModelStatusResponse, Int64Value, ModelSpec, PredictRequest,
    PredictResponse, TensorProto, TensorShapeProto, VersionChoice,
};

use super::*;
use crate::grpc::{self, Answer};
use crate::tfs_grpc::{PREDICTION, STATUS, row_of, spec};

const IRIS: [(&str, &str); 2] = [("seldon", "iris"), ("namespace", "ml")];
const FLOAT: i32 = 1;
const DOUBLE: i32 = 2;

fn call(server: &Running, method: &str, request: &PredictRequest) -> Answer {
    grpc::call(
        server,
        &format!("{PREDICTION}{method}"),
        &IRIS,
        frame(request),
    )
}

/// Asks for two rows, the second one by what stands for all that is left out.
fn floats(name: &str) -> PredictRequest {
    let dim = [2, 2].map(|size| Dim {
        size,
        name: String::new(),
    });
    let tensor = TensorProto {
        dtype: FLOAT,
        tensor_shape: Some(TensorShapeProto {
            dim: dim.into(),
            unknown_rank: false,
        }),
        float_val: vec![1.0, 2.0, 3.0],
        ..TensorProto::default()
    };
    PredictRequest {
        inputs: [("X".to_owned(), tensor)].into(),
        ..row_of(Some(spec(name)), [0.0, 0.0])
    }
}

#[test]
fn a_graph_answers_predictions_as_its_models_do() {
    let server = start(Step::Chain(vec![
        ask("double"),
        average(&["swap", "tenth"]),
    ]));
    for name in ["first", "iris"] {
        let answer = call(&server, "Predict", &row_of(Some(spec(name)), [10.0, 20.0]));
        assert_eq!(answer.status, 0, "{name}: {}", answer.message);
        let message: PredictResponse = answer.message();
        assert_eq!(message.model_spec.unwrap().name, "first");
        let output = &message.outputs["transform"];
        assert_eq!(output.dtype, DOUBLE);
        // The mean of (40, 20) and (2, 4).
        assert_eq!(output.double_val, [21.0, 12.0]);
        let answer = call(&server, "Predict", &floats(name));
        let message: PredictResponse = answer.message();
        let shape = message.outputs["transform"].tensor_shape.as_ref().unwrap();
        let sizes: Vec<i64> = shape.dim.iter().map(|dim| dim.size).collect();
        assert_eq!(sizes, [2, 2]);
        // (2, 4) and (6, 6), doubled: the means of (4, 2) and (0.2, 0.4), of (6, 6) and (0.6, 0.6).
        let expected = [2.1, 1.2, 3.3, 3.3];
        assert_eq!(message.outputs["transform"].double_val, expected);
    }
    has_line(
        &server,
        "coracle_graph_requests_total{namespace=\"ml\",service=\"iris\",code=\"ok\"} 4",
    );
}

/// What is repeated counts as if it were written: no body may be so large.
#[test]
fn a_short_message_is_no_long_request() {
    let server = start(Step::Chain(vec![ask("double"), ask("swap")]));
    let dim = [(32 << 20) / 8 + 1, 2].map(|size| Dim {
        size,
        name: String::new(),
    });
    let mut request = row_of(Some(spec("first")), [1.0, 2.0]);
    let tensor = request.inputs.get_mut("X").unwrap();
    tensor.tensor_shape.as_mut().unwrap().dim = dim.into();
    let answer = call(&server, "Predict", &request);
    assert_eq!(answer.status, 3, "{}", answer.message);
    let why = "inputs that are filled so may have 67108864 bytes in all";
    assert!(answer.message.contains(why), "{}", answer.message);
}

#[test]
fn outputs_that_are_asked_for_are_the_last_models() {
    let server = start(Step::Chain(vec![ask("double"), ask("swap")]));
    let filtered = |name: &str| PredictRequest {
        output_filter: vec![name.to_owned()],
        ..row_of(Some(spec("first")), [1.0, 2.0])
    };
    let answer = call(&server, "Predict", &filtered("transform"));
    let message: PredictResponse = answer.message();
    assert_eq!(message.outputs["transform"].double_val, [4.0, 2.0]);
    let answer = call(&server, "Predict", &filtered("other"));
    assert_eq!(answer.status, 3);
    assert!(answer.message.contains("other"), "{}", answer.message);
}

#[test]
fn a_graph_and_its_nodes_are_described() {
    let server = start(Step::Chain(vec![ask("double"), ask("swap")]));
    for (name, called) in [("first", "first"), ("iris", "first"), ("swap", "swap")] {
        let request = row_of(Some(spec(name)), [1.0, 2.0]);
        let answer = call(&server, "GetModelMetadata", &request);
        assert_eq!(answer.status, 0, "{name}: {}", answer.message);
        let message: GetModelMetadataResponse = answer.message();
        assert_eq!(message.model_spec.unwrap().name, called);
        let answer = grpc::call(&server, STATUS, &IRIS, frame(&request));
        assert_eq!(answer.status, 0, "{name}: {}", answer.message);
        let message: GetModelStatusResponse = answer.message();
        let states = message.model_version_status.iter();
        let states: Vec<(i64, i32)> = states.map(|one| (one.version, one.state)).collect();
        assert_eq!(states, [(1, 30)], "{name}");
    }
}

#[test]
fn what_graphs_do_not_answer_is_said() {
    let server = start(Step::Chain(vec![ask("double"), ask("bad")]));
    let of = |model_spec: ModelSpec| row_of(Some(model_spec), [1.0, 2.0]);
    let versioned = ModelSpec {
        version_choice: Some(VersionChoice::Version(Int64Value { value: 1 })),
        ..spec("first")
    };
    let signed = ModelSpec {
        signature_name: "other".to_owned(),
        ..spec("first")
    };
    for (method, request, status, message) in [
        ("Predict", of(spec("double")), 5, "double"),
        ("Predict", of(spec("nobody")), 5, "nobody"),
        ("Predict", of(versioned), 12, "no versions"),
        ("Predict", of(signed), 3, "serving_default"),
        ("Predict", of(spec("first")), 13, "node bad"),
        ("Classify", of(spec("first")), 12, "no Classify"),
        ("GetModelMetadata", of(spec("nobody")), 5, "nobody"),
    ] {
        let answer = call(&server, method, &request);
        assert_eq!(answer.status, status, "{method}: {}", answer.message);
        assert!(answer.message.contains(message), "{}", answer.message);
    }
}
