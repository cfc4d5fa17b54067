//! Requests for services that are still being loaded, as after a restart: each waits for its own, and for no other.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_protocol::grpc::inference::{
    ModelReadyRequest, ModelReadyResponse, ModelStreamInferResponse,
};
use coracle_protocol::grpc::{frame, parse_timeout};
use coracle_serving::{
    Coming, ComingKind, LoadPhases, LoadedModel, ModelTable, RevisionId, RevisionLog, Route,
    ServedModel, ServiceId,
};
use serde_json::Value;

use crate::client::{Answer, connect, read_answer, send, write_request};
use crate::fixture::{Running, config, start_with, sum_model};
use crate::forward::backends;
use crate::grpc;
use crate::routes::JSON;
use crate::tfs_grpc::{PREDICTION, STATUS, row_of, spec};
use crate::upstream::Upstream;
use crate::upstream_grpc::GrpcUpstream;

const INFERENCE: &str = "/inference.GRPCInferenceService/";
const HOUR: Duration = Duration::from_secs(3_600);
const V1: &str = r#"{"instances": [[1, 2]]}"#;
const V2: &str =
    r#"{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}"#;
const SELDON: &str = r#"{"data": {"ndarray": [[1, 2]]}}"#;

/// Method, path and body of requests for the service `late` that need its model.
const ASKED: [(&str, &str, &str); 9] = [
    ("POST", "/v1/models/late:predict", V1),
    ("POST", "/serving/ml/late/v1/models/late:predict", V1),
    ("POST", "/v2/models/late/infer", V2),
    (
        "POST",
        "/serving/ml/late-predictor/v2/models/late/infer",
        V2,
    ),
    ("GET", "/v1/models/late/metadata", ""),
    ("GET", "/serving/ml/late/v2/models/late", ""),
    ("GET", "/serving/ml/late/v2/models/late/config", ""),
    ("POST", "/seldon/ml/late/api/v1.0/predictions", SELDON),
    ("GET", "/seldon/ml/late/api/v1.0/metadata", ""),
];

fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

fn until(until: Duration) -> Coming {
    Coming {
        kind: ComingKind::Models,
        until,
        failure: None,
    }
}

/// The same of a service that programs answer.
fn program_until(end: Duration) -> Coming {
    Coming {
        kind: ComingKind::Programs,
        ..until(end)
    }
}

/// A service whose model adds up two columns.
fn loaded(name: &str) -> (ServiceId, Arc<Route>) {
    let (model, _, _) = sum_model();
    let loaded = LoadedModel::new(name.to_owned(), Box::new(model), LoadPhases::default());
    let served = ServedModel::new(loaded, 2);
    (id(name), Arc::new(Route::single(Arc::new(served))))
}

/// The services `there` and `late`, the second one perhaps still to come.
fn table(late: Option<Coming>) -> ModelTable {
    let mut routes = BTreeMap::from([loaded("there")]);
    let mut coming = BTreeMap::new();
    match late {
        Some(late) => drop(coming.insert(id("late"), late)),
        None => routes.extend([loaded("late")]),
    }
    ModelTable::from_routes(routes).with_coming(coming)
}

fn start(late: Coming) -> Running {
    let mut config = config(Limits::default());
    config.n_workers = 1;
    start_with(config, |_| table(Some(late)))
}

fn ask(server: &Running, (method, path, body): (&str, &str, &str)) -> Answer {
    send(server.address, method, path, &[JSON], body.as_bytes())
}

/// What is there answers, and what is not known is not found: at once, whatever others wait for.
fn others_answer(server: &Running) {
    for path in [
        "/v1/models/there:predict",
        "/serving/ml/there/v1/models/there:predict",
    ] {
        let answer = ask(server, ("POST", path, V1));
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"predictions":[3.0]}"#)
        );
    }
    for path in [
        "/v1/models/nobody:predict",
        "/serving/ml/nobody/v1/models/nobody:predict",
    ] {
        assert_eq!(ask(server, ("POST", path, V1)).status, 404, "{path}");
    }
    let answer = grpc::ask(server, "ModelInfer", &grpc::row("there", [1.0, 2.0]));
    assert_eq!(answer.status, 0, "{}", answer.message);
    let answer = grpc::ask(server, "ModelInfer", &grpc::row("nobody", [1.0, 2.0]));
    assert_eq!(answer.status, 5, "{}", answer.message);
}

#[test]
fn requests_wait_until_their_own_service_is_there() {
    let server = start(until(HOUR));
    let begun = ASKED.map(|(method, path, body)| {
        let mut stream = connect(server.address);
        write_request(&mut stream, method, path, &[JSON], body.as_bytes());
        (path, stream)
    });
    // By the name of the host.
    let mut by_host = connect(server.address);
    let head = format!(
        "POST /v1/models/late:predict HTTP/1.1\r\nhost: late.ml.example.com\r\ncontent-length: {}\r\n\r\n",
        V1.len()
    );
    by_host.write_all(head.as_bytes()).unwrap();
    by_host.write_all(V1.as_bytes()).unwrap();
    others_answer(&server);
    server.table.store(table(None));
    for (path, mut stream) in begun.into_iter().chain([("by host", by_host)]) {
        let answer = read_answer(&mut stream, false).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        // The connection goes on.
        write_request(&mut stream, "POST", ASKED[0].1, &[JSON], V1.as_bytes());
        let answer = read_answer(&mut stream, false).unwrap();
        assert_eq!(answer.body, r#"{"predictions":[3.0]}"#, "{path}");
    }
}

/// Each is waited for, and not found to be nothing.
#[test]
fn a_caller_with_little_time_is_told_that_it_is_over() {
    let server = start(until(HOUR));
    for (method, path, body) in ASKED {
        let headers = [JSON, ("x-request-timeout", "20ms")];
        let answer = send(server.address, method, path, &headers, body.as_bytes());
        let told = r#"{"error":"no answer within 20ms"}"#;
        assert_eq!((answer.status, answer.body.as_str()), (504, told), "{path}");
    }
    let little = ("grpc-timeout", "20m");
    for (path, headers, message) in calls() {
        let headers = [&headers[..], &[little]].concat();
        let answer = grpc::call(&server, &path, &headers, message);
        assert_eq!(answer.status, 4, "{path}: {}", answer.message);
    }
    others_answer(&server);
}

/// Calls for `late`: by the name in the message, in a stream, and by metadata.
fn calls() -> Vec<(String, Vec<(&'static str, &'static str)>, Vec<u8>)> {
    let infer = || frame(&grpc::row("late", [1.0, 2.0]));
    let predict = || frame(&row_of(Some(spec("late")), [1.0, 2.0]));
    let deployment = vec![("seldon", "late")];
    vec![
        (format!("{INFERENCE}ModelInfer"), vec![], infer()),
        (
            format!("{INFERENCE}ModelStreamInfer"),
            vec![("triton_grpc_error", "true")],
            infer(),
        ),
        (format!("{PREDICTION}Predict"), vec![], predict()),
        (
            format!("{INFERENCE}ModelInfer"),
            vec![("mm-model-id", "late")],
            infer(),
        ),
        (
            format!("{INFERENCE}ModelInfer"),
            deployment.clone(),
            infer(),
        ),
        (format!("{PREDICTION}Predict"), deployment, predict()),
    ]
}

#[test]
fn calls_wait_until_their_own_service_is_there() {
    let server = start(until(HOUR));
    std::thread::scope(|scope| {
        let begun: Vec<_> = calls()
            .into_iter()
            .map(|(path, headers, message)| {
                let server = server.address;
                let called = path.clone();
                let call = scope.spawn(move || grpc::call_at(server, &called, &headers, message));
                (path, call)
            })
            .collect();
        others_answer(&server);
        server.table.store(table(None));
        for (path, call) in begun {
            let answer = call.join().unwrap();
            assert_eq!(answer.status, 0, "{path}: {}", answer.message);
        }
    });
}

#[test]
fn how_it_stands_is_told_at_once() {
    let server = start(until(HOUR));
    let told = r#"{"error":"model 'late' is being loaded"}"#;
    for path in [
        "/v2/models/late/ready",
        "/serving/ml/late/v2/models/late/ready",
        "/serving/ml/late/v1/models/late",
    ] {
        let answer = ask(&server, ("GET", path, ""));
        assert_eq!((answer.status, answer.body.as_str()), (503, told), "{path}");
    }
    let answer = ask(&server, ("GET", "/v1/models/late", ""));
    let status: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(status["model_version_status"][0]["state"], "LOADING");
    assert_eq!(ask(&server, ("GET", "/v2/health/ready", "")).status, 200);
    let ready = ModelReadyRequest {
        name: "late".to_owned(),
        version: String::new(),
    };
    let ready: ModelReadyResponse = grpc::ask(&server, "ModelReady", &ready).message();
    assert!(!ready.ready);
    let status = frame(&row_of(Some(spec("late")), [1.0, 2.0]));
    let deployment = [("seldon", "late")];
    let answer = grpc::call(&server, STATUS, &deployment, status);
    assert_eq!(
        (answer.status, answer.message.as_str()),
        (14, "model 'late' is being loaded")
    );
}

/// Nobody who asks whether the server is alive, or for what is not there, waits for a model.
#[test]
fn what_needs_no_model_is_answered_at_once() {
    let server = start(until(HOUR));
    for (path, status) in [
        ("/", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/health/ping", 200),
        ("/metrics", 200),
        ("/v2", 200),
        ("/v1/models", 200),
        ("/v2/models", 200),
        ("/v2/models/stats", 200),
        ("/api/v1.0/doc/", 200),
        ("/shadow", 404),
        ("/experiments/e", 404),
        ("/nothing/there", 404),
    ] {
        let mut by_host = connect(server.address);
        let head = format!("GET {path} HTTP/1.1\r\nhost: late.ml.example.com\r\n\r\n");
        by_host.write_all(head.as_bytes()).unwrap();
        let answer = read_answer(&mut by_host, false).unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        for prefix in ["/serving/ml/late", "/seldon/ml/late"] {
            let answer = ask(&server, ("GET", &format!("{prefix}{path}"), ""));
            assert_eq!(answer.status, status, "{prefix}{path}: {}", answer.body);
        }
    }
    for path in ["/nothing/there", "/v2/repository/index"] {
        let answer = ask(&server, ("POST", &format!("/serving/ml/late{path}"), "{}"));
        assert!(
            [200, 404].contains(&answer.status),
            "{path}: {}",
            answer.body
        );
    }
    for (path, status) in [
        ("/inference.GRPCInferenceService/ServerLive", 0),
        ("/inference.GRPCInferenceService/ServerReady", 0),
        ("/inference.GRPCInferenceService/ServerMetadata", 0),
        ("/inference.GRPCInferenceService/RepositoryIndex", 0),
        ("/inference.GRPCInferenceService/Nothing", 12),
        ("/grpc.health.v1.Health/Check", 0),
        ("/seldon.protos.Seldon/Nothing", 12),
        ("/nothing.There/Nothing", 12),
    ] {
        let answer = grpc::call(&server, path, &[("seldon", "late")], frame_of_nothing());
        assert_eq!(answer.status, status, "{path}: {}", answer.message);
    }
}

/// A message without fields.
fn frame_of_nothing() -> Vec<u8> {
    vec![0; 5]
}

/// Programs answer at paths that nobody else knows.
#[test]
fn the_paths_of_a_program_wait_for_it() {
    let server = start(program_until(Duration::ZERO));
    let place = |path: &str| format!("/serving/ml/late{path}");
    for (method, path, status) in [
        ("POST", "/v1/chat/completions", 503),
        ("PUT", "/anything", 503),
        ("GET", "/healthz", 200),
    ] {
        let answer = ask(&server, (method, &place(path), ""));
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    // What only reads is told at once, however long there is to wait.
    let patient = start(program_until(HOUR));
    let answer = ask(&patient, ("GET", &place("/anything"), ""));
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(
        answer.body.contains("'late' is being loaded"),
        "{}",
        answer.body
    );
    let deployment = [("seldon", "late")];
    for (path, status) in [
        ("/my.Own/Method", 14),
        ("/inference.GRPCInferenceService/ServerLive", 0),
        ("/grpc.health.v1.Health/Check", 0),
    ] {
        let answer = grpc::call(&server, path, &deployment, frame_of_nothing());
        assert_eq!(answer.status, status, "{path}: {}", answer.message);
    }
}

#[test]
fn what_does_not_come_says_why() {
    let failed = |until| Coming {
        kind: ComingKind::Models,
        until,
        failure: Some("late-1 failed: no such file".to_owned()),
    };
    for (late, told) in [
        (until(Duration::ZERO), "model 'late' is being loaded"),
        (
            failed(Duration::ZERO),
            "model 'late' is not loaded yet: late-1 failed: no such file",
        ),
    ] {
        let server = start(late);
        for asked in ASKED {
            let answer = ask(&server, asked);
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(
                (answer.status, &body["error"]),
                (503, &told.into()),
                "{asked:?}"
            );
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        for (path, headers, message) in calls() {
            let answer = grpc::call(&server, &path, &headers, message);
            assert_eq!(
                (answer.status, answer.message.as_str()),
                (14, told),
                "{path}"
            );
        }
        others_answer(&server);
    }
    // It is heard of while they wait.
    let server = start(until(HOUR));
    let mut stream = connect(server.address);
    write_request(&mut stream, "POST", ASKED[0].1, &[JSON], V1.as_bytes());
    others_answer(&server);
    server.table.store(table(Some(failed(Duration::ZERO))));
    assert_eq!(read_answer(&mut stream, false).unwrap().status, 503);
    // Another plan may not have it any more.
    let server = start(until(HOUR));
    let mut stream = connect(server.address);
    write_request(&mut stream, "POST", ASKED[0].1, &[JSON], V1.as_bytes());
    others_answer(&server);
    server.table.store(ModelTable::default());
    assert_eq!(read_answer(&mut stream, false).unwrap().status, 404);
}

#[test]
fn who_waits_does_not_keep_the_server() {
    let mut server = start(until(HOUR));
    let mut stream = connect(server.address);
    write_request(&mut stream, "POST", ASKED[0].1, &[JSON], V1.as_bytes());
    others_answer(&server);
    server.tell_to_stop();
    let answer = read_answer(&mut stream, false);
    assert!(answer.is_none_or(|answer| answer.status == 503));
    assert_eq!(server.wait().n_connections_cut, 0);
}

/// Whoever waits for the head of an answer before he sends is not kept by what others wait for.
#[test]
fn a_stream_begins_whatever_its_messages_wait_for() {
    let mut config = config(Limits {
        body_timeout: Duration::from_millis(100),
        ..Limits::default()
    });
    config.n_workers = 1;
    let server = start_with(config, |_| table(Some(until(HOUR))));
    let path = format!("{INFERENCE}ModelStreamInfer");
    let mut has_begun = false;
    // A message that does not end.
    let answer = grpc::begin(&server, &path, &[0; 3], || has_begun = true);
    assert_eq!((has_begun, answer.status), (true, 4), "{}", answer.message);
    // Each message waits for its own model.
    let server = start(until(Duration::ZERO));
    let messages = ["there", "late", "there"].map(|name| frame(&grpc::row(name, [1.0, 2.0])));
    let answer = grpc::call(&server, &path, &[], messages.concat());
    assert_eq!(answer.status, 0, "{}", answer.message);
    let answers: Vec<ModelStreamInferResponse> = answer.messages();
    let told = answers.iter().map(|one| one.error_message.as_str());
    let told: Vec<&str> = told.collect();
    assert_eq!(told, ["", "model 'late' is being loaded", ""]);
}

/// The service `late`, answered by a program there.
fn forwarded(address: SocketAddr, timeout: Option<Duration>) -> ModelTable {
    let log = RevisionLog::none(Arc::new(SystemClock::new()));
    let revision = RevisionId {
        namespace: "ml".to_owned(),
        name: "r".to_owned(),
    };
    let model = ServedModel::unloaded("late".to_owned(), 2)
        .with_revision(&revision, log, Box::new(|| ()))
        .with_backends(backends(&[address]))
        .with_timeout(timeout);
    let route = Arc::new(Route::single(Arc::new(model)));
    ModelTable::from_routes([(id("late"), route), loaded("there")].into())
}

/// What a caller waited for its service is part of the time that it waits for its answer.
#[test]
fn the_time_that_is_left_is_what_the_answer_may_take() {
    let upstream = Upstream::start();
    for (sent, own, most) in [
        (Some("50"), None, Some(50.0)),
        (None, None, Some(60.0)),
        (Some("50"), Some(HOUR), Some(50.0)),
        // Its own time begins once it takes the request.
        (None, Some(HOUR), None),
    ] {
        let server = start(until(HOUR));
        let mut stream = connect(server.address);
        let timeout = sent.map(|sent| ("x-request-timeout", sent));
        let headers: Vec<_> = timeout.into_iter().chain([JSON]).collect();
        let (method, path, body) = ASKED[0];
        write_request(&mut stream, method, path, &headers, body.as_bytes());
        others_answer(&server);
        server.table.store(forwarded(upstream.address, own));
        let echo = read_answer(&mut stream, false).unwrap();
        assert_eq!(echo.status, 203, "{}", echo.body);
        assert!(echo.body.ends_with(body), "{}", echo.body);
        let left = echo.body.lines().find_map(|line| {
            let left = line.strip_prefix("x-request-timeout: ")?;
            Some(left.parse::<f64>().unwrap())
        });
        assert_eq!(left.is_some(), most.is_some(), "{}", echo.body);
        let is_less = |(left, most)| 0.0 < left && left < most;
        assert!(left.zip(most).is_none_or(is_less), "{left:?} {most:?}");
    }
}

#[test]
fn the_time_that_is_left_is_what_a_call_may_take() {
    let mut upstream = GrpcUpstream::always("Echo");
    let infer = || frame(&grpc::row("late", [1.0, 2.0]));
    let by_name = ("mm-model-id", "late");
    for (method, headers, own, most) in [
        ("ModelInfer", vec![], None, Some(60)),
        ("ModelInfer", vec![by_name], None, Some(60)),
        (
            "ModelInfer",
            vec![("x-request-timeout", "50")],
            None,
            Some(50),
        ),
        (
            "ModelInfer",
            vec![("x-request-timeout", "50")],
            Some(HOUR),
            Some(50),
        ),
        ("ModelInfer", vec![], Some(HOUR), None),
        // It has no end but its caller's.
        ("ModelStreamInfer", vec![by_name], None, None),
        (
            "ModelStreamInfer",
            vec![by_name, ("grpc-timeout", "600S")],
            None,
            Some(600),
        ),
        // Who answers it is told by its first message.
        ("ModelStreamInfer", vec![], None, None),
        // A program's own method may be a stream.
        ("/my.Own/Chat", vec![("seldon", "late")], None, None),
        (
            "/my.Own/Chat",
            vec![("seldon", "late"), ("grpc-timeout", "600S")],
            None,
            Some(600),
        ),
    ] {
        let mut left_once = || {
            let server = start(program_until(HOUR));
            let path = match method.starts_with('/') {
                true => method.to_owned(),
                false => format!("{INFERENCE}{method}"),
            };
            let address = server.address;
            let head = std::thread::scope(|scope| {
                let call = scope.spawn(|| grpc::call_at(address, &path, &headers, infer()));
                others_answer(&server);
                server.table.store(forwarded(upstream.address, own));
                let head = upstream.heads.blocking_recv().unwrap();
                drop(call.join());
                head
            });
            let left = head.headers.get("grpc-timeout")?;
            parse_timeout(left.to_str().unwrap())
        };
        // One that is late itself has not waited.
        let left = (0..20).find_map(|_| left_once());
        assert_eq!(
            left.is_some(),
            most.is_some(),
            "{method} {headers:?} {own:?}"
        );
        let is_less = |(left, most): (Duration, u64)| {
            let most = Duration::from_secs(most);
            most / 2 < left && left < most
        };
        assert!(
            left.zip(most).is_none_or(is_less),
            "{method} {left:?} {most:?}"
        );
    }
}

/// More than so many do not wait, and who has gone waits no more.
#[test]
fn so_many_wait_for_a_service_and_no_more() {
    let server = start(until(HOUR));
    // Of more than one piece, so that the connection's end is behind what nobody has read.
    let body = format!("{V1}{}", " ".repeat(60_000));
    let asked = (ASKED[0].0, ASKED[0].1, body.as_str());
    let begun: Vec<_> = (0..256)
        .map(|_| {
            let mut stream = connect(server.address);
            let body = asked.2.as_bytes();
            write_request(&mut stream, asked.0, asked.1, &[JSON], body);
            stream
        })
        .collect();
    others_answer(&server);
    let answer = ask(&server, asked);
    let told = r#"{"error":"model 'late' is being loaded"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (503, told));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let (path, headers, message) = calls().swap_remove(0);
    assert_eq!(grpc::call(&server, &path, &headers, message).status, 14);
    others_answer(&server);
    drop(begun);
    let waits = |_| {
        let headers = [JSON, ("x-request-timeout", "100ms")];
        let answer = send(
            server.address,
            asked.0,
            asked.1,
            &headers,
            asked.2.as_bytes(),
        );
        answer.status == 504
    };
    assert!((0..10_000).any(waits), "nobody is seen to have gone");
}

/// A graph is found by no model's name, so it takes none away and keeps nobody waiting, neither before it is there nor then.
#[test]
fn a_graph_that_comes_does_not_change_what_a_name_means() {
    let graph = |until| Coming {
        kind: ComingKind::Graph,
        ..until
    };
    let server = start(graph(until(HOUR)));
    let answer = ask(&server, ("POST", "/invocations", V1));
    let told = r#"{"predictions":[3.0]}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, told));
    let answer = ask(&server, ("POST", "/v1/models/late:predict", V1));
    assert_eq!(answer.status, 404, "{}", answer.body);
    server
        .table
        .store(table(Some(graph(until(Duration::ZERO)))));
    let answer = ask(&server, ("POST", ASKED[1].1, V1));
    assert_eq!(answer.status, 503, "{}", answer.body);
}

/// A name of which there may be two is nobody's until both are there.
#[test]
fn the_only_model_is_not_the_only_one_while_another_comes() {
    let server = start(until(HOUR));
    let answer = ask(&server, ("POST", "/invocations", V1));
    assert_eq!(answer.status, 404, "{}", answer.body);
    let mut coming = BTreeMap::from([(id("late"), until(Duration::ZERO))]);
    server
        .table
        .store(ModelTable::default().with_coming(coming.clone()));
    let answer = ask(&server, ("POST", "/invocations", V1));
    assert_eq!(answer.status, 503, "{}", answer.body);
    let other = ServiceId {
        namespace: "other".to_owned(),
        name: "there".to_owned(),
    };
    coming.insert(other, until(HOUR));
    let routes = BTreeMap::from([loaded("there")]);
    server
        .table
        .store(ModelTable::from_routes(routes).with_coming(coming));
    let answer = ask(&server, ("POST", "/v1/models/there:predict", V1));
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("ml, other"), "{}", answer.body);
}
