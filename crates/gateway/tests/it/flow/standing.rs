//! What stands in for a whole graph, and how many of its requests there may be at a time.

use coracle_serving::BulkheadSettings;

use super::*;
use crate::client::{connect, read_answer, write_request};

fn value(value: &str) -> FallbackSettings {
    FallbackSettings {
        value: Some(value.to_owned()),
        ..FallbackSettings::default()
    }
}

fn service(name: &str) -> FallbackSettings {
    FallbackSettings {
        service: Some(id(name)),
        ..FallbackSettings::default()
    }
}

/// Starts a server with the flow `iris` for which this is done.
fn start_with_fallback(root: Step, fallback: FallbackSettings) -> Running {
    start_with(config(Limits::default()), move |_| {
        let models = MODELS
            .into_iter()
            .map(|(name, of)| (name.to_owned(), model(name, of)))
            .collect();
        table_with(root, &models, Some(fallback))
    })
}

fn chain() -> Step {
    Step::Chain(vec![ask("double"), ask("bad")])
}

const V1: &str = "/seldon/ml/iris/v1/models/iris:predict";
const V2: &str = "/serving/ml/iris/v2/models/iris/infer";

fn inputs() -> Value {
    json!({"id": "7", "inputs": [{"name": "X", "datatype": "FP64", "shape": [2, 2], "data": [1, 2, 3, 4]}]})
}

/// Sends rows in each protocol; returns the header and the numbers of the answers.
fn asked(server: &Running) -> Vec<(String, Value)> {
    let rows = json!([[1, 2], [3, 4]]);
    let bodies = [
        (PREDICT, json!({"data": {"ndarray": rows}})),
        (V1, json!({"instances": rows})),
        (V2, inputs()),
    ];
    let answers = bodies.into_iter().map(|(path, body)| {
        let body = body.to_string();
        let answer = send(server.address, "POST", path, &[JSON], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.body);
        let by = answer.header("x-coracle-fallback").unwrap_or_default();
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let said = match path {
            PREDICT => &body["meta"]["tags"]["fallback"],
            V2 => &body["parameters"]["fallback"],
            _ => &Value::Null,
        };
        if path != V1 {
            assert_eq!(said.as_str().unwrap_or_default(), by, "{body}");
        }
        let numbers = [
            &body["data"]["ndarray"],
            &body["predictions"],
            &body["outputs"][0]["data"],
        ];
        let numbers = numbers.into_iter().find(|one| !one.is_null()).unwrap();
        (by.to_owned(), numbers.clone())
    });
    answers.collect()
}

#[test]
fn a_default_prediction_stands_in_for_a_graph_in_each_protocol() {
    let server = start_with_fallback(chain(), value("[0.25, 0.75]"));
    // The graph's models are known from their own being in memory.
    let rows = json!([[0.25, 0.75], [0.25, 0.75]]);
    let flat = json!([0.25, 0.75, 0.25, 0.75]);
    let by = || "constant".to_owned();
    assert_eq!(
        asked(&server),
        [(by(), rows.clone()), (by(), rows), (by(), flat)]
    );
    has_line(
        &server,
        r#"coracle_graph_requests_total{namespace="ml",service="iris",code="internal"} 3"#,
    );
    has_line(
        &server,
        r#"coracle_graph_fallbacks_total{namespace="ml",service="iris"} 3"#,
    );
    // What is the caller's fault stays it.
    let (status, answer) = predict(&server, &json!([[1, 2, 3]]));
    assert_eq!(status, 400, "{answer}");
    // V2 says whose answer it is by the name that was asked, and gives the id back; raw data goes the same way.
    let (_, answer) = post(&server, V2, &inputs());
    assert_eq!(
        (&answer["id"], &answer["outputs"][0]["name"]),
        (&json!("7"), &json!("transform"))
    );
    let mut wanted = inputs();
    wanted["outputs"] = json!([{"name": "transform"}]);
    let (status, answer) = post(&server, V2, &wanted);
    assert_eq!(
        (
            status,
            &answer["outputs"][0]["data"],
            &answer["parameters"]["fallback"]
        ),
        (200, &json!([0.25, 0.75, 0.25, 0.75]), &json!("constant"))
    );
    // A value that is none for the outputs leaves the failure as it is.
    let server = start_with_fallback(chain(), value("\"no\""));
    assert_eq!(predict(&server, &json!([[1, 2]])).0, 500);
}

#[test]
fn another_service_goes_before_the_default_prediction() {
    let settings = FallbackSettings {
        service: Some(id("swap")),
        ..value("[0, 0]")
    };
    let server = start_with_fallback(chain(), settings.clone());
    let by = || "service".to_owned();
    let rows = json!([[2.0, 1.0], [4.0, 3.0]]);
    let flat = json!([2.0, 1.0, 4.0, 3.0]);
    assert_eq!(
        asked(&server),
        [(by(), rows.clone()), (by(), rows), (by(), flat)]
    );
    // One that fails, too, or is not there, leaves it to the default prediction.
    for other in ["bad", "gone"] {
        let settings = FallbackSettings {
            service: Some(id(other)),
            ..settings.clone()
        };
        let server = start_with_fallback(chain(), settings);
        assert!(asked(&server).iter().all(|(by, _)| by == "constant"));
    }
    let server = start_with_fallback(chain(), service("gone"));
    let (status, answer) = predict(&server, &json!([[1, 2]]));
    assert_eq!((status, &answer["status"]["code"]), (500, &json!(500)));
    let info = answer["status"]["info"].as_str().unwrap();
    assert!(info.contains("node bad"), "{info}");
}

#[test]
fn the_last_good_answer_of_the_same_caller_is_given_again() {
    let settings = FallbackSettings {
        key: Some("x-user".to_owned()),
        ..value("[9]")
    };
    // The last model takes negative numbers only.
    let server = start_with_fallback(Step::Chain(vec![ask("swap"), ask("bad")]), settings);
    let ask = |user: &'static str, path: &str, body: &Value| {
        let body = body.to_string();
        let headers = [JSON, ("x-user", user)];
        let answer = send(server.address, "POST", path, &headers, body.as_bytes());
        let by = answer.header("x-coracle-fallback").map(str::to_owned);
        (by, serde_json::from_str::<Value>(&answer.body).unwrap())
    };
    let seldon = |rows: Value| json!({"data": {"ndarray": rows}});
    let (by, answer) = ask("ann", PREDICT, &seldon(json!([[1, -2]])));
    assert_eq!((by, &answer["data"]["ndarray"]), (None, &json!([[-2.0]])));
    // In any protocol.
    let failing = json!([[1, 2]]);
    let last_good = || Some("last-good".to_owned());
    let (by, answer) = ask("ann", PREDICT, &seldon(failing.clone()));
    assert_eq!(
        (by, &answer["data"]["ndarray"]),
        (last_good(), &json!([[-2.0]]))
    );
    let (by, answer) = ask("ann", V1, &json!({"instances": failing}));
    assert_eq!(
        (by, &answer["predictions"]),
        (last_good(), &json!([[-2.0]]))
    );
    // Of others, or of other numbers of rows, none is known.
    let constant = || Some("constant".to_owned());
    assert_eq!(ask("bob", PREDICT, &seldon(failing)).0, constant());
    assert_eq!(ask("ann", V2, &inputs()).0, constant());
}

#[test]
fn what_comes_of_a_stand_in_is_no_branchs() {
    let bandit = PlannedBandit::EpsilonGreedy {
        epsilon: 0.0,
        start: Some(0),
        seed: 1,
    };
    let root = Step::Chain(vec![
        ask("bad"),
        one("eg", Routing::Bandit(bandit), &["double", "swap"]),
    ]);
    let server = start_with_fallback(root, service("swap"));
    let sent = json!({"meta": {"puid": "p", "tags": {"who": "me"}}, "data": {"ndarray": [[1, 2]]}});
    let (status, answer) = post(&server, PREDICT, &sent);
    let meta = json!({
        "puid": "p",
        "tags": {"who": "me", "fallback": "service"},
        "routing": {"eg": -2},
        "requestPath": {}
    });
    assert_eq!((status, &answer["meta"]), (200, &meta));
    let feedback = json!({"response": answer, "reward": 1});
    let (status, _) = post(&server, FEEDBACK, &feedback);
    assert_eq!(status, 200);
    // Nothing was earned, well or badly, before this.
    let feedback = json!({"response": {"meta": {"routing": {"eg": 0}}}, "reward": 1});
    assert_eq!(post(&server, FEEDBACK, &feedback).0, 200);
    has_line(
        &server,
        r#"coracle_graph_branch_reward_mean{namespace="ml",service="iris",node="eg",branch="double"} 1"#,
    );
}

/// The gate holds the model `sum`, which is the graph's.
fn start_gated(fallback: FallbackSettings) -> Running {
    start_with(config(Limits::default()), move |sum| {
        let models = BTreeMap::from([
            ("sum".to_owned(), Arc::new(sum)),
            ("swap".to_owned(), model("swap", |a, b| vec![b, a])),
        ]);
        table_with(ask("sum"), &models, Some(fallback))
    })
}

/// A request that the model waits for the gate at.
fn held(server: &Running) -> std::net::TcpStream {
    held_within(server, &[JSON])
}

fn held_within(server: &Running, headers: &[(&str, &str)]) -> std::net::TcpStream {
    let mut stream = connect(server.address);
    let body = format!(
        r#"{{"data": {{"ndarray": [[1000, 0]{}]}}}}"#,
        ", [1, 2]".repeat(98)
    );
    write_request(&mut stream, "POST", PREDICT, headers, body.as_bytes());
    server.entered.recv().unwrap();
    stream
}

#[test]
fn a_full_graph_is_stood_in_for_at_once() {
    let bulkhead = Some(BulkheadSettings {
        places: 1,
        queue: 0,
    });
    for (settings, expected) in [
        (FallbackSettings::default(), (503, Value::Null)),
        (service("swap"), (200, json!([[2.0, 1.0]]))),
    ] {
        let server = start_gated(FallbackSettings {
            bulkhead,
            ..settings
        });
        let mut stream = held(&server);
        let (status, answer) = predict(&server, &json!([[1, 2]]));
        assert_eq!((status, answer["data"]["ndarray"].clone()), expected);
        server.gate.send(()).unwrap();
        let answer = read_answer(&mut stream, false).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        // The place is free again.
        let (status, answer) = predict(&server, &json!([[1, 2]]));
        assert_eq!((status, answer["meta"].get("tags")), (200, None));
    }
}

/// What a caller asked for runs on when he has gone, and keeps its place for as long; so does what is late.
#[test]
fn a_place_is_held_until_the_work_ends_that_nobody_waits_for() {
    let bulkhead = Some(BulkheadSettings {
        places: 1,
        queue: 0,
    });
    for timeout in [None, Some(std::time::Duration::from_millis(50))] {
        let server = start_gated(FallbackSettings {
            bulkhead,
            timeout,
            ..service("swap")
        });
        let mut stream = held(&server);
        if timeout.is_some() {
            let answer = read_answer(&mut stream, false).unwrap();
            assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
        }
        drop(stream);
        // The other end has been told, and the call is let go of, once these are answered.
        for _ in 0..100 {
            let (status, answer) = predict(&server, &json!([[1, 2]]));
            let by = &answer["meta"]["tags"]["fallback"];
            assert_eq!((status, by), (200, &json!("service")), "{answer}");
        }
        server.gate.send(()).unwrap();
        let by_its_own = || {
            predict(&server, &json!([[1, 2]])).1["meta"]
                .get("tags")
                .is_none()
        };
        while !by_its_own() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_graph_that_is_late_is_stood_in_for() {
    let server = start_gated(FallbackSettings {
        timeout: Some(std::time::Duration::from_millis(50)),
        ..service("swap")
    });
    let mut stream = held(&server);
    let answer = read_answer(&mut stream, false).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
    has_line(
        &server,
        r#"coracle_graph_requests_total{namespace="ml",service="iris",code="deadline_exceeded"} 1"#,
    );
    server.gate.send(()).unwrap();
}

#[test]
fn a_graph_that_nobody_stands_in_for_has_the_time_of_its_caller() {
    let server = start_gated(FallbackSettings {
        timeout: Some(std::time::Duration::from_millis(50)),
        ..service("gone")
    });
    let mut stream = held_within(&server, &[JSON, ("x-request-timeout", "350ms")]);
    let answer = read_answer(&mut stream, false).unwrap();
    assert_eq!(answer.status, 504, "{}", answer.body);
    assert!(answer.body.contains("350ms"), "{}", answer.body);
    server.gate.send(()).unwrap();
}

/// What is wrong with how a graph is asked is no failure of the graph's.
#[test]
fn who_asks_in_a_form_that_graphs_do_not_take_is_told_so() {
    let path = "/serving/ml/iris/v1/models/first:predict";
    for root in [chain(), average(&["double", "swap"])] {
        let server = start_with_fallback(root, value("[1, 2]"));
        // The form of a long one is looked at off the event loop.
        for n_rows in [1, 5_000] {
            let rows = vec![[1, 2]; n_rows];
            let (status, answer) = post(&server, path, &json!({"inputs": {"X": rows}}));
            assert_eq!(status, 400, "{answer}");
            let told = answer["error"].as_str().unwrap_or_default();
            assert!(told.contains("\"instances\""), "{answer}");
        }
    }
    // What hands nothing on takes it.
    let server = start_with_fallback(super::ask("swap"), value("[1, 2]"));
    let (status, answer) = post(&server, path, &json!({"inputs": {"X": [[1, 2]]}}));
    assert_eq!((status, &answer["outputs"]), (200, &json!([[2.0, 1.0]])));
}

/// As after a restart: its requests wait for the graph, by each protocol.
#[test]
fn requests_wait_for_a_graph_that_is_still_being_loaded() {
    let coming = |until| {
        let failure = None;
        let kind = coracle_serving::ComingKind::Graph;
        let one = coracle_serving::Coming {
            kind,
            until,
            failure,
        };
        ModelTable::default().with_coming([(id("iris"), one)].into())
    };
    let asked = [
        (PREDICT, json!({"data": {"ndarray": [[1, 2]]}})),
        (V1, json!({"instances": [[1, 2]]})),
        (
            "/serving/ml/iris/v2/models/first/infer",
            json!({"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}),
        ),
    ];
    let hour = std::time::Duration::from_secs(3_600);
    let server = start_with(config(Limits::default()), move |_| coming(hour));
    let begun = asked.clone().map(|(path, body)| {
        let mut stream = connect(server.address);
        let body = body.to_string();
        write_request(&mut stream, "POST", path, &[JSON], body.as_bytes());
        (path, stream)
    });
    for (path, body) in &asked {
        let headers = [JSON, ("x-request-timeout", "20ms")];
        let body = body.to_string();
        let answer = send(server.address, "POST", path, &headers, body.as_bytes());
        assert_eq!(answer.status, 504, "{path}: {}", answer.body);
    }
    let models = MODELS
        .into_iter()
        .map(|(name, of)| (name.to_owned(), model(name, of)))
        .collect();
    server
        .table
        .store(table(average(&["double", "swap"]), &models));
    for (path, mut stream) in begun {
        let answer = read_answer(&mut stream, false).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
}
