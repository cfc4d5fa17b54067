//! Experiments in which processes answer: who is asked, by what name, what the answer says, and what is noted of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_protocol::compression::{Encoding, compress};
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    ParameterChoice,
};
use coracle_protocol::grpc::tensorflow::ModelSpec;
use coracle_protocol::tfs::SpecHead;
use coracle_serving::experiment::{
    Allocation, BanditStrategy, Experiments, PlannedExperiment, PlannedFeature, RouteExperiments,
    Split, SplitTarget, UnitSource, VariantTarget,
};
use coracle_serving::{ModelTable, RevisionId, RevisionLog, Route, ServedModel, ServiceId, Teller};
use serde_json::{Value, json};

use crate::client::{Answer, connect, send, write_request};
use crate::experiments::{OUTCOMES, PREDICT, id, json_of, planned, told};
use crate::fixture::{Running, config, start_experimenting, sum_model};
use crate::forward::backends;
use crate::gone::{leave, wait_for_loops};
use crate::grpc;
use crate::routes::JSON;
use crate::upstream::Upstream;
use crate::upstream_grpc::GrpcUpstream;

/// Who answers for a service: a process, or this server.
#[derive(Clone, Copy)]
enum By {
    Process(SocketAddr),
    Here,
}

/// A server with an experiment on `sum`, whose treatment is the service `next`.
struct Stage {
    server: Running,
    experiments: Experiments,
    directory: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.experiments.stop();
    }
}

fn served(name: &str, by: By) -> Arc<ServedModel> {
    let revision = RevisionId {
        namespace: "ml".to_owned(),
        name: format!("{name}-predictor-00001"),
    };
    let log = RevisionLog::none(Arc::new(SystemClock::new()));
    Arc::new(match by {
        By::Process(address) => ServedModel::unloaded(name.to_owned(), 2)
            .with_revision(&revision, log, Box::new(|| ()))
            .with_backends(backends(&[address])),
        By::Here => {
            let (model, _entered, _gate) = sum_model();
            let phases = coracle_serving::LoadPhases::default();
            let loaded =
                coracle_serving::LoadedModel::new(name.to_owned(), Box::new(model), phases);
            ServedModel::new(loaded, 2)
        }
    })
}

fn start(planned: &PlannedExperiment, (sum, next): (By, By)) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let form = coracle_gateway::EXPERIMENT_LINES;
    let clock = Arc::new(SystemClock::new());
    let experiments =
        Experiments::start(directory.path().to_owned(), form, clock, Teller::nobody()).unwrap();
    let books = experiments.clone();
    let limits = config(Limits::default());
    let server = start_experimenting(limits, Some(experiments.clone()), |_| {
        let book = books.open("ml", planned);
        let revision = served("sum", next);
        let split = Split::try_new(planned, book, |target| match target {
            VariantTarget::Service(name) => SplitTarget::Service(id(name)),
            VariantTarget::Revision(_) => SplitTarget::Revision(Arc::clone(&revision)),
            VariantTarget::Own => SplitTarget::Own,
        });
        let on_sum = RouteExperiments::new(vec![split.unwrap()]);
        let sum = Route::single(served("sum", sum)).with_experiments(Some(on_sum));
        let next = Route::single(served("next", next));
        let routes: BTreeMap<ServiceId, Arc<Route>> =
            [(id("sum"), Arc::new(sum)), (id("next"), Arc::new(next))].into();
        ModelTable::from_routes(routes)
    });
    Stage {
        server,
        experiments,
        directory,
    }
}

fn by_user() -> PlannedExperiment {
    planned(UnitSource::Header("x-user".to_owned()))
}

impl Stage {
    fn ask(&self, (method, path): (&str, &str), headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(self.server.address, method, path, headers, body)
    }

    fn predict(&self, user: &str) -> Answer {
        let headers = [JSON, ("x-user", user)];
        self.ask(("POST", PREDICT), &headers, ROWS.as_bytes())
    }

    /// Returns the exposures that were noted, once those before are.
    fn exposures(&self) -> Vec<Value> {
        let body = json!({"unit": "nobody", "metric": "clicked", "value": 1}).to_string();
        let path = "/experiments/ab/outcomes";
        assert_eq!(
            self.ask(("POST", path), &[JSON], body.as_bytes()).status,
            400
        );
        let mut files = std::fs::read_dir(self.directory.path().join("ml")).unwrap();
        let path = files.next().unwrap().unwrap().path();
        let lines = std::fs::read_to_string(path).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["type"] == "exposure")
            .collect()
    }
}

const ROWS: &str = r#"{"instances": [[1, 2]]}"#;

#[test]
fn a_caller_that_leaves_while_a_process_answers_was_shown_its_variant() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let process = By::Process(hanging.local_addr().unwrap());
    let stage = start(&by_user(), (By::Here, process));
    let mut stream = connect(stage.server.address);
    let headers = [JSON, ("x-user", "t")];
    write_request(&mut stream, "POST", PREDICT, &headers, ROWS.as_bytes());
    let (mut asked, _) = hanging.accept().unwrap();
    assert!(asked.read(&mut [0; 64]).unwrap() > 0);
    leave(stream);
    wait_for_loops(&stage.server);
    let exposures = stage.exposures();
    let [exposure] = exposures.as_slice() else {
        panic!("{exposures:?}");
    };
    let shown = ["variant", "ok", "left"].map(|name| exposure[name].clone());
    assert_eq!(shown, [json!("treatment"), json!(false), json!(true)]);
}

/// How the exposures ended: whether their answers were good, and whether their callers had left.
fn ends(exposures: &[Value]) -> Vec<(bool, bool)> {
    let ended = |line: &Value| (line["ok"] == true, line["left"] == true);
    exposures.iter().map(ended).collect()
}

#[test]
fn an_answer_that_is_not_sent_whole_is_not_answered() {
    for caller_leaves in [false, true] {
        let process = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = process.local_addr().unwrap();
        let stage = start(&by_user(), (By::Here, By::Process(address)));
        let mut stream = connect(stage.server.address);
        let headers = [JSON, ("x-user", "t")];
        write_request(&mut stream, "POST", PREDICT, &headers, ROWS.as_bytes());
        let (mut asked, _) = process.accept().unwrap();
        assert!(asked.read(&mut [0; 4096]).unwrap() > 0);
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it";
        asked.write_all(half).unwrap();
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while !answer.ends_with(b"half of it") {
            let n_read = stream.read(&mut part).unwrap();
            assert!(n_read > 0);
            answer.extend_from_slice(&part[..n_read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        match caller_leaves {
            true => stream.shutdown(Shutdown::Both).unwrap(),
            false => drop(asked.shutdown(Shutdown::Both)),
        }
        let gone = match caller_leaves {
            true => asked.read(&mut part).unwrap(),
            false => stream.read(&mut part).unwrap_or(0),
        };
        assert_eq!(gone, 0);
        wait_for_loops(&stage.server);
        assert_eq!(ends(&stage.exposures()), [(false, caller_leaves)]);
    }
}

#[test]
fn processes_answer_for_variants_by_their_own_names() {
    let (own, next) = (Upstream::start(), Upstream::start());
    let (sum, treatment) = (By::Process(own.address), By::Process(next.address));
    let stage = start(&by_user(), (sum, treatment));
    for (user, experiment, variant, name) in [
        ("c", Some("ab"), "control", "sum"),
        ("t", Some("ab"), "treatment", "next"),
        ("", None, "control", "sum"),
    ] {
        let answer = stage.predict(user);
        assert_eq!(answer.status, 203);
        assert_eq!(told(&answer), (experiment, Some(variant)));
        let line = format!("POST /v1/models/{name}:predict HTTP/1.1\r\n");
        assert!(answer.body.starts_with(&line), "{}", answer.body);
        assert!(answer.body.ends_with(ROWS), "{}", answer.body);
    }
    assert_eq!((own.n_connections(), next.n_connections()), (1, 1));
    // A path that only a process can know is one, too; what is not sent, or is no prediction, is none.
    let user = [JSON, ("x-user", "t")];
    for (method, path, takes_part) in [
        ("POST", "/predict", true),
        ("GET", "/predict", false),
        ("POST", "/v2/repository/index", false),
        ("GET", "/v2/models/sum", false),
    ] {
        let whole = format!("/serving/ml/sum{path}");
        let answer = stage.ask((method, &whole), &user, b"{}");
        assert_eq!(answer.status, 203, "{path}");
        let line = format!("{method} {path} HTTP/1.1\r\n");
        assert!(answer.body.starts_with(&line), "{}", answer.body);
        let expected = takes_part.then_some("treatment");
        assert_eq!(told(&answer).1, expected, "{method} {path}");
    }
    let exposures = stage.exposures();
    let seen = exposures.iter().map(|line| {
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        (text("unit"), text("variant"), text("revision"))
    });
    let seen: Vec<(String, String, String)> = seen.collect();
    let expected = [
        ("c", "control", "sum"),
        ("t", "treatment", "next"),
        ("t", "treatment", "next"),
    ];
    let expected = expected.map(|(unit, variant, service)| {
        let revision = format!("{service}-predictor-00001");
        (unit.to_owned(), variant.to_owned(), revision)
    });
    assert_eq!(seen, expected);
    assert!(
        exposures
            .iter()
            .all(|line| line["ok"] == true && line["seconds"].as_f64() > Some(0.0))
    );
}

#[test]
fn what_comes_of_a_process_is_told_and_reported_here() {
    let (own, next) = (Upstream::start(), Upstream::start());
    let services = (By::Process(own.address), By::Process(next.address));
    let stage = start(&by_user(), services);
    let good = stage.predict("c");
    let body = json!({"requestId": good.header("x-request-id"), "metric": "clicked", "value": 1});
    let answer = stage.ask(("POST", OUTCOMES), &[JSON], body.to_string().as_bytes());
    assert_eq!(
        (answer.status, json_of(&answer)["accepted"].as_u64()),
        (200, Some(1))
    );
    // A process that gives no answer is an exposure, too, and failed.
    let headers = [JSON, ("x-user", "t")];
    let bad = stage.ask(("POST", "/serving/ml/sum/close"), &headers, b"{}");
    let variant = (Some("ab"), Some("treatment"));
    assert_eq!((bad.status, told(&bad)), (502, variant));
    let failed: Vec<Value> = stage.exposures();
    let failed: Vec<(&str, bool)> = failed
        .iter()
        .map(|line| (line["unit"].as_str().unwrap(), line["ok"] == true))
        .collect();
    assert_eq!(failed, [("c", true), ("t", false)]);
    let report = json_of(&stage.ask(("GET", "/serving/ml/sum/experiments/ab"), &[], b""));
    assert_eq!(
        (&report["experiment"], &report["outcomes"]),
        (&json!("ab"), &json!(1))
    );
    assert_eq!(report["variants"][1]["errors"], 1);
    assert_eq!(own.n_connections(), 1);
}

#[test]
fn units_in_bodies_are_read_and_bodies_are_passed_on_as_they_are() {
    let (own, next) = (Upstream::start(), Upstream::start());
    let planned = planned(UnitSource::Field("who.id".to_owned()));
    let stage = start(
        &planned,
        (By::Process(own.address), By::Process(next.address)),
    );
    let body = r#"{"instances": [[1, 2]], "who": {"id": "t"}}"#;
    let answer = stage.ask(("POST", PREDICT), &[JSON], body.as_bytes());
    assert_eq!(told(&answer).1, Some("treatment"));
    assert!(answer.body.ends_with(body), "{}", answer.body);
    // Compressed, the unit is read all the same; the process gets what was sent.
    let mut packed = Vec::new();
    compress(Encoding::Gzip, body.as_bytes(), &mut packed).unwrap();
    let length = packed.len().to_string();
    let headers = [JSON, ("content-encoding", "gzip")];
    let answer = stage.ask(("POST", PREDICT), &headers, &packed);
    assert_eq!(told(&answer).1, Some("treatment"));
    let line = format!("content-length: {length}\r\n");
    assert!(answer.body.contains(&line), "{}", answer.body);
    let answer = stage.ask(("POST", PREDICT), &headers, b"no gzip");
    let unread = ((None, Some("control")), 203);
    assert_eq!((told(&answer), answer.status), unread);
    // Who answers says what is wrong with a length, too.
    let headers = [JSON, ("inference-header-content-length", "long")];
    let path = "/serving/ml/sum/v2/models/sum/infer";
    let answer = stage.ask(("POST", path), &headers, b"{}");
    assert_eq!((told(&answer), answer.status), unread);
    let answer = stage.ask(("POST", PREDICT), &[JSON], b"{}");
    assert_eq!((told(&answer), answer.status), unread);
}

#[test]
fn models_read_here_and_processes_share_an_experiment() {
    let process = Upstream::start();
    for process_is_control in [true, false] {
        let process = By::Process(process.address);
        let services = match process_is_control {
            true => (process, By::Here),
            false => (By::Here, process),
        };
        for winner in [None, Some("treatment".to_owned())] {
            let settled = winner.is_some();
            let planned = PlannedExperiment {
                winner,
                ..by_user()
            };
            let stage = start(&planned, services);
            for user in ["c", "t"] {
                let variant = match user == "t" || settled {
                    true => "treatment",
                    false => "control",
                };
                let answer = stage.predict(user);
                assert_eq!(told(&answer), (Some("ab"), Some(variant)));
                let is_process = (variant == "control") == process_is_control;
                match is_process {
                    true => assert_eq!(answer.status, 203),
                    false => assert_eq!(json_of(&answer), json!({"predictions": [3.0]})),
                }
            }
            let n_exposures = if settled { 0 } else { 2 };
            assert_eq!(stage.exposures().len(), n_exposures);
            if process_is_control {
                // Who asks for what only a process can know gets it, and takes no part: the other variant has no such path.
                let headers = [JSON, ("x-user", "t")];
                for (method, path) in [("GET", "/docs"), ("POST", "/v1/chat/completions")] {
                    let path = format!("/serving/ml/sum{path}");
                    let answer = stage.ask((method, &path), &headers, b"{}");
                    assert_eq!((answer.status, told(&answer)), (203, (None, None)));
                }
                assert_eq!(stage.exposures().len(), n_exposures);
            }
        }
    }
}

/// A bandit draws once for a request, whoever answers it, by its features, too.
#[test]
fn a_bandit_draws_once_for_each_request() {
    let process = Upstream::start();
    let strategies = [BanditStrategy::Thompson, BanditStrategy::LinUcb(1.0)];
    for strategy in strategies {
        let mut planned = by_user();
        planned.overrides.clear();
        planned.allocation = Allocation::Bandit {
            strategy,
            floor: 0.5,
        };
        if strategy != BanditStrategy::Thompson {
            let source = UnitSource::Field("night".to_owned());
            let name = "night".to_owned();
            planned.features = vec![PlannedFeature { name, source }];
        }
        let stage = start(&planned, (By::Here, By::Process(process.address)));
        let body = r#"{"instances": [[1, 2]], "night": 1}"#;
        let mut variants = BTreeMap::new();
        for index in 0..40 {
            let user = format!("u{index}");
            let headers = [JSON, ("x-user", user.as_str())];
            let answer = stage.ask(("POST", PREDICT), &headers, body.as_bytes());
            let variant = told(&answer).1.unwrap().to_owned();
            assert_eq!(variant == "treatment", answer.status == 203);
            variants.insert(user, variant);
        }
        let exposures = stage.exposures();
        let seen: BTreeMap<String, String> = exposures
            .iter()
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap().to_owned();
                assert_eq!(line["by"], "bandit");
                (text("unit"), text("variant"))
            })
            .collect();
        assert_eq!((exposures.len(), seen), (40, variants.clone()));
        let n_treated = variants
            .values()
            .filter(|name| *name == "treatment")
            .count();
        assert!((1..40).contains(&n_treated), "{n_treated}");
    }
}

/// Revisions of the service itself know the model by its name.
#[test]
fn processes_of_revisions_are_asked_by_the_services_name() {
    let (own, next) = (Upstream::start(), Upstream::start());
    let mut planned = by_user();
    planned.variants[1].target = VariantTarget::Revision("sum-predictor-00002".to_owned());
    let stage = start(
        &planned,
        (By::Process(own.address), By::Process(next.address)),
    );
    let answer = stage.predict("t");
    assert_eq!(told(&answer).1, Some("treatment"));
    assert!(
        answer.body.starts_with("POST /v1/models/sum:predict "),
        "{}",
        answer.body
    );
    assert_eq!((own.n_connections(), next.n_connections()), (0, 1));
}

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const TFS_PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";

#[test]
fn processes_answer_for_variants_over_grpc() {
    let (own, next) = (GrpcUpstream::start(), GrpcUpstream::start());
    let planned = planned(UnitSource::Parameter("user".to_owned()));
    let services = (By::Process(own.address), By::Process(next.address));
    let stage = start(&planned, services);
    for (unit, variant, name) in [("c", "control", "sum"), ("t", "treatment", "next")] {
        let mut message = grpc::row("sum", [1.0, 2.0]);
        let choice = ParameterChoice::StringParam(unit.to_owned());
        let parameter_choice = Some(choice);
        let parameter = InferParameter { parameter_choice };
        message.parameters.insert("user".to_owned(), parameter);
        let answer = grpc::call(&stage.server, INFER, &[], frame(&message));
        assert_eq!(answer.headers["x-coracle-variant"], variant);
        assert_eq!(answer.headers["x-coracle-experiment"], "ab");
        // The process says what it was asked.
        let asked: ModelInferRequest = answer.messages().pop().unwrap();
        message.model_name = name.to_owned();
        assert_eq!(asked, message);
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let body = json!({"requestId": id, "metric": "clicked", "value": 1}).to_string();
        let path = "/experiments/ab/outcomes";
        let answer = stage.ask(("POST", path), &[JSON], body.as_bytes());
        assert_eq!(
            (answer.status, json_of(&answer)["accepted"].as_u64()),
            (200, Some(1))
        );
    }
    // Methods that are no inference go as the service itself says, and so do streams.
    let message = frame(&grpc::row("sum", [1.0, 2.0]));
    for method in ["ModelReady", "ModelStreamInfer"] {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let answer = grpc::call(&stage.server, &path, &[], message.clone());
        assert!(
            !answer.headers.contains_key("x-coracle-variant"),
            "{method}"
        );
        assert_eq!(answer.headers["x-by"], "process");
    }
    assert_eq!(stage.exposures().len(), 2);
}

/// A process answers for the treatment, so a stream that this server answers takes no part: only its control would have units.
#[test]
fn streams_that_are_answered_here_beside_a_process_take_no_part() {
    let next = GrpcUpstream::start();
    let stage = start(&by_user(), (By::Here, By::Process(next.address)));
    let stream = "/inference.GRPCInferenceService/ModelStreamInfer";
    for user in ["c", "t"] {
        let message = frame(&grpc::row("sum", [1.0, 2.0]));
        let answer = grpc::call(&stage.server, stream, &[("x-user", user)], message);
        let answers: Vec<ModelStreamInferResponse> = answer.messages();
        let [answered] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        assert_eq!(answered.error_message, "");
        let response = answered.infer_response.as_ref().unwrap();
        assert_eq!(response.model_name, "sum");
        assert!(!response.parameters.contains_key("variant"));
    }
    assert_eq!(stage.exposures().len(), 0);
}

#[test]
fn tensorflow_servings_messages_name_the_variants_model() {
    let next = GrpcUpstream::start();
    let stage = start(&by_user(), (By::Here, By::Process(next.address)));
    let spec = ModelSpec {
        name: "sum".to_owned(),
        signature_name: "serving_default".to_owned(),
        ..ModelSpec::default()
    };
    let message = SpecHead {
        model_spec: Some(spec.clone()),
    };
    let headers = [("x-user", "t")];
    let answer = grpc::call(&stage.server, TFS_PREDICT, &headers, frame(&message));
    assert_eq!(answer.headers["x-coracle-variant"], "treatment");
    let asked: SpecHead = answer.messages().pop().unwrap();
    let name = "next".to_owned();
    assert_eq!(asked.model_spec, Some(ModelSpec { name, ..spec }));
}

/// Failures of processes over gRPC are failures of their variant, those in trailers too.
#[test]
fn failures_over_grpc_count_once_they_are_known() {
    for failing in ["Fails", "HasNoStatus", "IsAbsent"] {
        let next = GrpcUpstream::always(failing);
        let stage = start(&by_user(), (By::Here, By::Process(next.address)));
        let message = frame(&grpc::row("sum", [1.0, 2.0]));
        let ask = |user: &str| {
            let headers = [("x-user", user)];
            grpc::call(&stage.server, INFER, &headers, message.clone())
        };
        let answer = ask("t");
        assert_ne!(answer.status, 0, "{failing}");
        assert_eq!(
            answer.headers["x-coracle-variant"], "treatment",
            "{failing}"
        );
        let answer = ask("c");
        assert_eq!(answer.headers["x-coracle-variant"], "control");
        let response: ModelInferResponse = answer.message();
        assert_eq!(response.model_name, "sum");
        let exposures = stage.exposures();
        let seen: Vec<(&str, bool)> = exposures
            .iter()
            .map(|line| (line["unit"].as_str().unwrap(), line["ok"] == true))
            .collect();
        assert_eq!(seen, [("t", false), ("c", true)], "{failing}");
    }
}
