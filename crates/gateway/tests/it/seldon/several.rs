//! Several predictors each of which is one model: who answered is told, and what comes of an answer is that one's.

use std::sync::Arc;

use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_model::Signature;
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{ModelMetadataRequest, ModelMetadataResponse};
use coracle_protocol::grpc::tensorflow::{
    GetModelMetadataRequest, GetModelMetadataResponse, SignatureDefMap,
};
use coracle_protocol::seldon::{request_json, response_message};
use coracle_serving::{
    BulkheadSettings, FallbackSettings, ModelTable, PlannedPredictor, RevisionId, RevisionLog,
    Route, RouteTarget, ServedModel, ServiceId,
};
use coracle_tensor::DType;
use serde_json::{Value, json};

use super::post;
use crate::client::send;
use crate::fallback::{magnitude, magnitude_with};
use crate::fixture::{Running, config, start_with};
use crate::forward::backends;
use crate::grpc;
use crate::tfs_grpc;
use crate::upstream::Telling;

const API: &str = "/seldon/ml/iris/api/v1.0";
const ROW: &str = r#"{"data": {"ndarray": [[1, 2]]}, "meta": {"puid": "p", "tags": {"x": 1}}}"#;

/// The predictors `a`, which fails where the sum of a row is negative, and `b`, which does not, with a half of the requests each.
fn start(fallback: Option<&FallbackSettings>) -> Running {
    start_beside(magnitude("sum"), fallback)
}

/// The same, with this model as `b`.
fn start_beside(b: ServedModel, fallback: Option<&FallbackSettings>) -> Running {
    start_with(config(Limits::default()), |sum| {
        let target = |model: ServedModel, name: &str| {
            let id = RevisionId {
                namespace: "ml".to_owned(),
                name: format!("iris-{name}"),
            };
            let log = RevisionLog::none(Arc::new(SystemClock::new()));
            RouteTarget {
                model: Arc::new(model.with_revision(&id, log, Box::new(|| ()))),
                percent: 50,
                tags: Vec::new(),
            }
        };
        let predictor = |name: &str| PlannedPredictor {
            name: name.to_owned(),
            node: "sum".to_owned(),
            revisions: vec![format!("iris-{name}")],
        };
        let targets = vec![target(b, "b"), target(sum, "a")];
        let route = Route::try_new(targets, None).unwrap();
        let route = route.with_feedback(("iris", &["a", "b"].map(predictor)), None);
        for target in route.targets() {
            target.model.set_branch(route.predictors());
            target.model.set_fallback(fallback);
        }
        let id = ServiceId {
            namespace: "ml".to_owned(),
            name: "iris".to_owned(),
        };
        ModelTable::from_routes([(id, Arc::new(route))].into())
    })
}

fn feedback(server: &Running, response: &Value) -> (u16, Value) {
    let body =
        json!({"request": {"data": {"ndarray": [[1, 2]]}}, "response": response, "reward": 0.5});
    post(server, &format!("{API}/feedback"), &body.to_string())
}

fn told(server: &Running) -> Vec<String> {
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let lines = text.lines().map(str::to_owned);
    lines
        .filter(|line| line.starts_with("coracle_feedback"))
        .collect()
}

#[test]
fn an_answer_says_which_predictor_gave_it_and_feedback_is_its() {
    let server = start(None);
    let mut rewarded = [0, 0];
    for _ in 0..4 {
        let (status, answer) = post(&server, &format!("{API}/predictions"), ROW);
        let number = answer["meta"]["routing"]["iris"].clone();
        let expected = json!({
            "data": {"names": [], "ndarray": [3.0]},
            "meta": {"puid": "p", "tags": {"x": 1}, "routing": {"iris": number}, "requestPath": {"sum": "coracle"}}
        });
        assert_eq!((status, &answer), (200, &expected));
        rewarded[number.as_u64().unwrap() as usize] += 1;
        let (status, taken) = feedback(&server, &answer);
        assert_eq!(status, 200, "{taken}");
        assert_eq!(taken["meta"]["requestPath"], json!({"sum": "coracle"}));
    }
    // By the share that each has.
    assert_eq!(rewarded, [2, 2]);
    let labels = |name: &str| format!("namespace=\"ml\",service=\"iris\",node=\"{name}/sum\"");
    let (a, b) = (labels("a"), labels("b"));
    let expected = [
        format!("coracle_feedback_total{{{a}}} 2"),
        format!("coracle_feedback_total{{{b}}} 2"),
        format!("coracle_feedback_reward_sum{{{a}}} 1"),
        format!("coracle_feedback_reward_sum{{{b}}} 1"),
    ];
    assert_eq!(told(&server), expected);
    for (response, words) in [
        (json!({}), "which branch of 'iris' answered"),
        (
            json!({"meta": {"routing": {"other": 0}}}),
            "which branch of 'iris' answered",
        ),
        (
            json!({"meta": {"routing": {"iris": 2}}}),
            "names branch 2 of 'iris', which has 2",
        ),
    ] {
        let (status, answer) = feedback(&server, &response);
        let info = answer["status"]["info"].as_str().unwrap_or_default();
        assert!(status == 400 && info.contains(words), "{answer}");
    }
    assert_eq!(told(&server), expected);
}

/// What stands in for a predictor earns nothing for it.
#[test]
fn what_comes_of_a_fallback_is_nobodys() {
    let server = start(Some(&FallbackSettings {
        value: Some("9".to_owned()),
        ..FallbackSettings::default()
    }));
    let bad = r#"{"data": {"ndarray": [[-5, 1]]}}"#;
    let asked = (0..2).map(|_| post(&server, &format!("{API}/predictions"), bad).1);
    let asked: Vec<Value> = asked.collect();
    let routing = |answer: &Value| answer["meta"]["routing"]["iris"].as_i64();
    let stood_in = asked.iter().find(|answer| routing(answer) == Some(-2));
    let stood_in = stood_in.unwrap_or_else(|| panic!("{asked:?}"));
    assert_eq!(stood_in["data"]["ndarray"], json!([9.0]));
    assert_eq!(stood_in["meta"]["tags"]["fallback"], "constant");
    assert!(asked.iter().any(|answer| routing(answer) == Some(1)));
    assert_eq!(feedback(&server, stood_in).0, 200);
    assert_eq!(told(&server), Vec::<String>::new());
}

#[test]
fn seldons_calls_tell_and_take_the_same() {
    let server = start(None);
    let of = |method: &str, message: Vec<u8>| {
        let path = format!("/seldon.protos.Seldon/{method}");
        let deployment = [("seldon", "iris"), ("namespace", "ml")];
        grpc::call(&server, &path, &deployment, message)
    };
    let asked = of("Predict", response_message(ROW.as_bytes()).unwrap());
    assert_eq!(asked.status, 0, "{}", asked.message);
    let answer = asked.body[5..].to_vec();
    let read: Value =
        serde_json::from_slice(&request_json(answer.clone().into()).unwrap()).unwrap();
    let number = read["meta"]["routing"]["iris"].as_u64().unwrap();
    // A `Feedback`: the answer is its second field, the reward its third.
    let feedback = |answer: &[u8]| {
        let length = u8::try_from(answer.len()).unwrap();
        assert!(length < 0x80, "a number of one byte");
        let message = [&[0x12, length], answer, &[0x1d], &1_f32.to_le_bytes()].concat();
        let length = u32::try_from(message.len()).unwrap();
        [&[0], &length.to_be_bytes()[..], &message].concat()
    };
    let taken = of("SendFeedback", feedback(&answer));
    assert_eq!(taken.status, 0, "{}", taken.message);
    let name = ["a", "b"][number as usize];
    let labels = format!("namespace=\"ml\",service=\"iris\",node=\"{name}/sum\"");
    let expected = [
        format!("coracle_feedback_total{{{labels}}} 1"),
        format!("coracle_feedback_reward_sum{{{labels}}} 1"),
    ];
    assert_eq!(told(&server), expected);
    let refused = of("SendFeedback", feedback(&[]));
    assert_eq!(refused.status, 3);
    assert!(refused.message.contains("'iris'"), "{}", refused.message);
}

/// Whichever of them would have answered, the same is said, and of each by its name.
#[test]
fn what_is_said_of_several_predictors_is_what_they_have_in_common() {
    let one_output = |signature: &mut Signature| signature.outputs.truncate(1);
    let server = start_beside(magnitude_with("sum", one_output), None);
    let get = |path: &str| {
        let answer = send(server.address, "GET", path, &[], b"");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status, body)
    };
    let (status, graph) = get(&format!("{API}/metadata"));
    assert_eq!((status, &graph["name"]), (200, &json!("iris")));
    let models = graph["models"].as_object().unwrap();
    let keys: Vec<&String> = models.keys().collect();
    assert_eq!(keys, ["a/sum", "b/sum"]);
    // Both add two numbers; one of them has a further output.
    assert_eq!(models["a/sum"]["outputs"][1]["name"], "twice");
    assert_eq!(models["b/sum"]["outputs"].as_array().map(Vec::len), Some(1));
    let of_b = &models["b/sum"];
    assert_eq!(graph["graphinputs"], of_b["inputs"]);
    assert_eq!(graph["graphoutputs"], of_b["outputs"]);
    for _ in 0..4 {
        let (status, found) = get("/seldon/ml/iris/v2/models/sum");
        assert_eq!(status, 200, "{found}");
        assert_eq!(
            (&found["inputs"], &found["outputs"]),
            (&of_b["inputs"], &of_b["outputs"])
        );
        let asked = ModelMetadataRequest {
            name: "iris".to_owned(),
            ..ModelMetadataRequest::default()
        };
        let path = "/inference.GRPCInferenceService/ModelMetadata";
        let answer = grpc::call(&server, path, &[], frame(&asked));
        let found = answer.message::<ModelMetadataResponse>();
        let names: Vec<&str> = found.outputs.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["predict"]);
        // As TensorFlow Serving tells it: each output has a signature, and there is the default one.
        let asked = GetModelMetadataRequest {
            model_spec: Some(tfs_grpc::spec("iris")),
            metadata_field: vec!["signature_def".to_owned()],
        };
        let path = format!("{}GetModelMetadata", tfs_grpc::PREDICTION);
        let answer = grpc::call(&server, &path, &[], frame(&asked));
        let found = answer.message::<GetModelMetadataResponse>();
        let map = found.metadata["signature_def"].value.clone();
        let map = coracle_protocol::grpc::decode::<SignatureDefMap>(map).unwrap();
        let names: Vec<&String> = map.signature_def.keys().collect();
        assert_eq!(names, ["predict", "serving_default"]);
    }
    assert_eq!(get(&format!("{API}/metadata/sum")).1, models["a/sum"]);
    assert_eq!(get(&format!("{API}/status")).0, 200);
    assert_eq!(get(&format!("{API}/metadata/other")).0, 404);
}

/// One place is enough for one call, which asks each of them in turn.
#[test]
fn what_is_said_of_several_predictors_needs_one_place_of_the_service() {
    let settings = FallbackSettings {
        bulkhead: Some(BulkheadSettings {
            places: 1,
            queue: 0,
        }),
        ..FallbackSettings::default()
    };
    let server = start(Some(&settings));
    let asked = ModelMetadataRequest {
        name: "iris".to_owned(),
        ..ModelMetadataRequest::default()
    };
    let path = "/inference.GRPCInferenceService/ModelMetadata";
    for _ in 0..4 {
        let answer = grpc::call(&server, path, &[], frame(&asked));
        assert_eq!(answer.status, 0, "{}", answer.message);
        let found = send(
            server.address,
            "GET",
            "/seldon/ml/iris/v2/models/sum",
            &[],
            b"",
        );
        assert_eq!(found.status, 200, "{found:?}");
    }
}

/// What a program takes and gives is not known here, and nothing against what the others do.
#[test]
fn a_predictor_that_is_a_program_leaves_the_others_their_metadata() {
    let process = Telling::always(404, "{}");
    let program = ServedModel::unloaded("sum".to_owned(), 1);
    let program = program.with_backends(backends(&[process.address]));
    let server = start_beside(program, None);
    let of_each = (0..4).map(|_| {
        let path = "/seldon/ml/iris/v2/models/sum";
        let answer = send(server.address, "GET", path, &[], b"");
        (answer.status, answer.body.contains("\"predict\""))
    });
    let mut of_each: Vec<(u16, bool)> = of_each.collect();
    of_each.sort_unstable();
    // Half of them are the program's own to answer.
    let (model, program) = ((200, true), (404, false));
    assert_eq!(of_each, [model, model, program, program]);
}

#[test]
fn predictors_that_give_different_things_have_no_metadata_in_common() {
    let of_integers = |signature: &mut Signature| signature.outputs[0].dtype = DType::I64;
    let server = start_beside(magnitude_with("sum", of_integers), None);
    let get = |path: &str| {
        let answer = send(server.address, "GET", path, &[], b"");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status, body)
    };
    for _ in 0..2 {
        let (status, found) = get("/seldon/ml/iris/v2/models/sum");
        let why = "the predictors have no metadata in common: predictor a/sum gives predict FP64 [-1], predictor b/sum gives predict INT64 [-1]";
        assert_eq!((status, &found["error"]), (501, &json!(why)));
    }
    // As of a graph, the first one's stand for all here, and of each it is said what it gives.
    let (_, graph) = get(&format!("{API}/metadata"));
    assert_eq!(graph["graphoutputs"], graph["models"]["a/sum"]["outputs"]);
    assert_eq!(graph["models"]["b/sum"]["outputs"][0]["datatype"], "INT64");
}
