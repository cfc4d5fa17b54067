//! Graphs of several models, asked in Seldon's protocol, V1 and V2, and feedback on their answers.

mod failing;
mod shadow;
mod standing;
mod tensorflow;
mod told;
mod v2;

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_gateway::Limits;
use coracle_model::{Description, Model, RunError, Signature, TensorSpec};
use coracle_serving::flow::{
    AllStep, AskStep, Flow, Join, OneStep, PlannedBandit, PlannedFlow, Routing, Step,
};
use coracle_serving::{
    FallbackSettings, LoadPhases, LoadedModel, ModelTable, RevisionId, Route, ServedModel,
    ServiceId,
};
use coracle_tensor::{DType, Tensor, Values};
use serde_json::{Value, json};

use crate::client::send;
use crate::fixture::{Running, config, start_with};
use crate::routes::JSON;

/// Takes rows of two numbers, and gives what `of` makes of each.
#[derive(Debug)]
struct Rows {
    signature: Signature,
    description: Description,
    of: fn(f64, f64) -> Vec<f64>,
}

impl Model for Rows {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let values = inputs[0].values().to_f64s().unwrap();
        let rows: Vec<Vec<f64>> = values
            .chunks_exact(2)
            .map(|row| (self.of)(row[0], row[1]))
            .collect();
        let shape = vec![rows.len(), rows[0].len()];
        let values = Values::F64(rows.concat().into());
        Ok(vec![Tensor::try_new(shape, values).unwrap()])
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

const MODELS: [(&str, fn(f64, f64) -> Vec<f64>); 5] = [
    ("double", |a, b| vec![2.0 * a, 2.0 * b]),
    ("swap", |a, b| vec![b, a]),
    ("tenth", |a, b| vec![a / 10.0, b / 10.0]),
    ("wide", |a, b| vec![a, b, a + b]),
    ("bad", |a, _| {
        assert!(a < 0.0, "as it was told to");
        vec![a]
    }),
];

fn model(name: &str, of: fn(f64, f64) -> Vec<f64>) -> Arc<ServedModel> {
    let spec = |name: &str, shape| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape,
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let rows = Rows {
        signature: Signature {
            inputs: vec![spec("X", vec![None, Some(2)])],
            outputs: vec![spec("transform", vec![None, None])],
            default_outputs: vec![0],
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            columns: None,
        },
        description: Description::default(),
        of,
    };
    let loaded = LoadedModel::new(name.to_owned(), Box::new(rows), LoadPhases::default());
    Arc::new(ServedModel::new(loaded, 2))
}

fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

fn ask(node: &str) -> Step {
    Step::Ask(AskStep {
        node: node.to_owned(),
        service: node.to_owned(),
        revision: Some(node.to_owned()),
    })
}

fn one(node: &str, routing: Routing, branches: &[&str]) -> Step {
    let branches = branches.iter().map(|name| ((*name).to_owned(), ask(name)));
    Step::One(OneStep {
        node: node.to_owned(),
        routing,
        branches: branches.collect(),
    })
}

fn average(branches: &[&str]) -> Step {
    Step::All(AllStep {
        node: "mean".to_owned(),
        join: Join::Average,
        branches: branches.iter().map(|name| ask(name)).collect(),
    })
}

/// Starts a server with the flow `iris` over the models, each of which is a service, too.
fn start(root: Step) -> Running {
    start_where(root, |_models| {})
}

/// The same, once something is done to the models.
fn start_where(
    root: Step,
    prepare: impl FnOnce(&BTreeMap<String, Arc<ServedModel>>) + 'static,
) -> Running {
    start_with(config(Limits::default()), move |_| {
        let models = MODELS
            .into_iter()
            .map(|(name, of)| (name.to_owned(), model(name, of)))
            .collect();
        prepare(&models);
        table(root, &models)
    })
}

fn table(root: Step, models: &BTreeMap<String, Arc<ServedModel>>) -> ModelTable {
    table_with(root, models, None)
}

/// The table with the flow `iris`, for which this is done where it gives no answer.
fn table_with(
    root: Step,
    models: &BTreeMap<String, Arc<ServedModel>>,
    fallback: Option<FallbackSettings>,
) -> ModelTable {
    let find = |revision: &RevisionId| models.get(&revision.name).cloned();
    let planned = PlannedFlow {
        name: "first".to_owned(),
        root,
        shadow: None,
        fallback,
    };
    let flow = Flow::try_new(&id("iris"), &planned, &find, None).unwrap();
    let routes = models
        .iter()
        .map(|(name, model)| (id(name), Arc::new(Route::single(Arc::clone(model)))));
    ModelTable::from_routes(routes.collect()).with_flows([(id("iris"), Arc::new(flow))].into())
}

const PREDICT: &str = "/seldon/ml/iris/api/v1.0/predictions";
const FEEDBACK: &str = "/seldon/ml/iris/api/v1.0/feedback";

fn post(server: &Running, path: &str, body: &Value) -> (u16, Value) {
    let answer = send(
        server.address,
        "POST",
        path,
        &[JSON],
        body.to_string().as_bytes(),
    );
    let body = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, body)
}

fn predict(server: &Running, rows: &Value) -> (u16, Value) {
    post(server, PREDICT, &json!({"data": {"ndarray": rows}}))
}

fn metrics(server: &Running) -> String {
    send(server.address, "GET", "/metrics", &[], b"").body
}

fn has_line(server: &Running, line: &str) {
    let text = metrics(server);
    assert!(text.lines().any(|one| one == line), "{line}: {text}");
}

#[test]
fn a_chain_hands_on_what_each_gives() {
    let server = start(Step::Chain(vec![ask("double"), ask("swap"), ask("tenth")]));
    let sent = json!({
        "meta": {"puid": "p1", "tags": {"who": ["me"]}},
        "data": {"names": ["x", "y"], "ndarray": [[1, 2], [3.5, -4]]}
    });
    let expected = json!({
        "data": {"names": ["t:0", "t:1"], "ndarray": [[0.4, 0.2], [-0.8, 0.7]]},
        "meta": {
            "puid": "p1",
            "tags": {"who": ["me"]},
            "requestPath": {"double": "coracle", "swap": "coracle", "tenth": "coracle"}
        }
    });
    assert_eq!(post(&server, PREDICT, &sent), (200, expected));
    let tensor = json!({"data": {"tensor": {"shape": [1, 2], "values": [5, 10]}}});
    let (_, answer) = post(&server, PREDICT, &tensor);
    let expected = json!({"shape": [1, 2], "values": [2.0, 1.0]});
    assert_eq!(answer["data"]["tensor"], expected);
    // By the first node's name or the service's, with V1 and V2.
    for name in ["first", "iris"] {
        let path = format!("/seldon/ml/iris/v1/models/{name}:predict");
        let answer = post(&server, &path, &json!({"instances": [[5, 10]]}));
        assert_eq!(answer, (200, json!({"predictions": [[2.0, 1.0]]})));
        let path = format!("/serving/ml/iris/v2/models/{name}/infer");
        let inputs = json!([{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [5, 10]}]);
        let (status, answer) = post(&server, &path, &json!({"id": "7", "inputs": inputs}));
        assert_eq!((status, &answer["id"]), (200, &json!("7")));
        assert_eq!(answer["outputs"][0]["data"], json!([2.0, 1.0]));
    }
    for path in ["/v1/models:predict", "/v1/models/first/:predict"] {
        let path = format!("/seldon/ml/iris{path}");
        let (status, _) = post(&server, &path, &json!({"instances": [[5, 10]]}));
        assert_eq!(status, 200, "{path}");
    }
    // Each model was asked as by a request of its own.
    for name in ["double", "swap", "tenth"] {
        let labels = format!(r#"model="{name}",version="1",protocol="seldon",code="ok""#);
        has_line(&server, &format!("coracle_requests_total{{{labels}}} 2"));
    }
    has_line(
        &server,
        r#"coracle_graph_requests_total{namespace="ml",service="iris",code="ok"} 8"#,
    );
    let answer = send(
        server.address,
        "GET",
        "/seldon/ml/iris/v2/models/first/ready",
        &[],
        b"",
    );
    assert_eq!(answer.status, 200);
    for path in ["/seldon/ml/iris/v2/models", "/seldon/ml/iris/v1/models"] {
        let answer = send(server.address, "GET", path, &[], b"");
        assert!(answer.body.contains("first"), "{}", answer.body);
    }
    let ready = send(server.address, "GET", "/seldon/ml/iris/ready", &[], b"");
    assert_eq!(ready.status, 200);
}

#[test]
fn a_combiner_answers_with_the_mean() {
    let server = start(average(&["double", "swap"]));
    let (status, answer) = predict(&server, &json!([[1, 2], [0.1, 0.2]]));
    // numpy.mean([[[2, 4], [0.2, 0.4]], [[2, 1], [0.2, 0.1]]], axis=0)
    let expected = json!({
        "data": {"names": ["t:0", "t:1"], "ndarray": [[2.0, 2.5], [0.2, 0.25]]},
        "meta": {"requestPath": {"double": "coracle", "swap": "coracle"}}
    });
    assert_eq!((status, answer), (200, expected));
    let path = "/seldon/ml/iris/v2/models/iris/infer";
    let inputs = json!([{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]);
    let (_, answer) = post(&server, path, &json!({"inputs": inputs}));
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 2.5]));
    // What has no mean is no answer.
    let server = start(average(&["double", "wide"]));
    let (status, answer) = predict(&server, &json!([[1, 2]]));
    let info = answer["status"]["info"].as_str().unwrap();
    assert_eq!(status, 500);
    assert!(
        info.contains("node mean: answers to average have different shapes"),
        "{info}"
    );
    has_line(
        &server,
        r#"coracle_graph_requests_total{namespace="ml",service="iris",code="internal"} 1"#,
    );
}

#[test]
fn a_router_says_which_branch_it_took() {
    let server = start(one(
        "ab",
        Routing::Random { first: 0.25 },
        &["double", "swap"],
    ));
    let mut n_first = 0;
    for _ in 0..400 {
        let (status, answer) = predict(&server, &json!([[1, 3]]));
        assert_eq!(status, 200);
        let (branch, name, expected) = match answer["data"]["ndarray"][0][0].as_f64() {
            Some(2.0) => (0, "double", json!([[2.0, 6.0]])),
            _ => (1, "swap", json!([[3.0, 1.0]])),
        };
        assert_eq!(answer["data"]["ndarray"], expected);
        let meta = json!({"routing": {"ab": branch}, "requestPath": {name: "coracle"}});
        assert_eq!(answer["meta"], meta);
        n_first += i32::from(branch == 0);
    }
    // Four standard errors of 100.
    assert!((66..=134).contains(&n_first), "{n_first}");
    let line = |branch: &str, count: i32| {
        format!(
            r#"coracle_graph_branch_requests_total{{namespace="ml",service="iris",node="ab",branch="{branch}"}} {count}"#
        )
    };
    has_line(&server, &line("double", n_first));
    has_line(&server, &line("swap", 400 - n_first));
}

#[test]
fn a_bandit_learns_from_feedback() {
    let bandit = PlannedBandit::EpsilonGreedy {
        epsilon: 0.0,
        start: Some(0),
        seed: 1,
    };
    let server = start(Step::Chain(vec![
        ask("tenth"),
        one("eg", Routing::Bandit(bandit), &["double", "swap"]),
    ]));
    let branch = || {
        let (_, answer) = predict(&server, &json!([[1, 3]]));
        answer["meta"]["routing"]["eg"].as_i64().unwrap()
    };
    assert_eq!([branch(), branch(), branch()], [0, 0, 0]);
    let tell = |branch: i64, reward: f64| {
        let feedback = json!({
            "request": {"data": {"ndarray": [[1, 3]]}},
            "response": {"meta": {"routing": {"eg": branch}}, "data": {"ndarray": [[1, 1]]}},
            "reward": reward
        });
        post(&server, FEEDBACK, &feedback)
    };
    // The form of the answer is that of Seldon's wrapper.
    let expected = json!({
        "data": {"ndarray": []},
        "meta": {"requestPath": {"tenth": "coracle", "swap": "coracle"}}
    });
    assert_eq!(tell(1, 1.0), (200, expected));
    assert_eq!([branch(), branch(), branch()], [1, 1, 1]);
    for _ in 0..2 {
        assert_eq!(tell(1, 0.0).0, 200);
    }
    assert_eq!(tell(0, 1.0).0, 200);
    assert_eq!([branch(), branch(), branch()], [0, 0, 0]);
    let labels = |node: &str| format!(r#"{{namespace="ml",service="iris",node="{node}"}}"#);
    for (node, count, reward) in [("tenth", 4, 2), ("double", 1, 1), ("swap", 3, 1)] {
        let labels = labels(node);
        has_line(&server, &format!("coracle_feedback_total{labels} {count}"));
        has_line(
            &server,
            &format!("coracle_feedback_reward_sum{labels} {reward}"),
        );
    }
    has_line(
        &server,
        r#"coracle_graph_branch_reward_mean{namespace="ml",service="iris",node="eg",branch="double"} 1"#,
    );
    for (body, words) in [
        (json!({"reward": 1}), "does not say which branch of 'eg'"),
        (
            json!({"reward": 1, "response": {"meta": {"routing": {"eg": 2}}}}),
            "names branch 2 of 'eg', which has 2",
        ),
        (json!({"reward": "much"}), "is no number"),
    ] {
        let (status, answer) = post(&server, FEEDBACK, &body);
        let info = answer["status"]["info"].as_str().unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(info.contains(words), "{info}");
    }
    // A page of another site cannot teach it.
    let origin = ("Origin", "https://evil.example");
    let body = br#"{"reward": 1, "response": {"meta": {"routing": {"eg": 1}}}}"#;
    let answer = send(server.address, "POST", FEEDBACK, &[JSON, origin], body);
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    has_line(
        &server,
        &format!("coracle_feedback_total{} 3", labels("swap")),
    );
}

#[test]
fn failures_name_their_node() {
    let server = start(Step::Chain(vec![ask("wide"), ask("double")]));
    // The caller's mistake, and one of whoever made the graph.
    let (status, answer) = predict(&server, &json!([[1]]));
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["status"]["info"]
            .as_str()
            .unwrap()
            .starts_with("node wide: ")
    );
    let (status, answer) = predict(&server, &json!([[1, 2]]));
    assert_eq!(status, 500, "{answer}");
    let words = "node double does not take what node wide gives";
    assert!(
        answer["status"]["info"]
            .as_str()
            .unwrap()
            .starts_with(words)
    );
    let server = start(average(&["double", "bad"]));
    let (status, answer) = predict(&server, &json!([[1, 2]]));
    assert_eq!(status, 500, "{answer}");
    assert!(
        answer["status"]["info"]
            .as_str()
            .unwrap()
            .starts_with("node bad: ")
    );
    for (path, status) in [
        ("/seldon/ml/iris/v1/models/other:predict", 404),
        (
            "/seldon/ml/iris/v1/models/first:predict?method=predict",
            400,
        ),
        ("/seldon/ml/iris/v1/models/first:classify", 501),
        ("/seldon/ml/iris/v1/models/first/versions/1:predict", 501),
    ] {
        let (found, answer) = post(&server, path, &json!({"instances": [[1, 2]]}));
        assert_eq!(found, status, "{path}: {answer}");
    }
}

#[test]
fn a_fixed_model_answers_as_seldons_does() {
    let server = start(one("router", Routing::First, &["double"]));
    assert_eq!(predict(&server, &json!([[1, 2]])).0, 200);
    let server = start(Step::Fixed {
        node: "simple".to_owned(),
    });
    let (status, answer) = predict(&server, &json!([[1, 2]]));
    let expected = json!({
        "data": {"names": ["class0", "class1", "class2"], "tensor": {"shape": [1, 3], "values": [0.1, 0.9, 0.5]}},
        "meta": {"requestPath": {"simple": "coracle"}}
    });
    assert_eq!((status, answer), (200, expected));
    let path = "/seldon/ml/iris/v1/models/first:predict";
    let (status, _) = post(&server, path, &json!({"instances": [[1]]}));
    assert_eq!(status, 501);
}
