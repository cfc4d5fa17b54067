//! Shadows: copies of requests, and that the worst of shadows changes no answer.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_gateway::Limits;
use coracle_model::{Description, Model, RunError, RunErrorKind, Signature, TensorSpec};
use coracle_serving::{
    LoadPhases, LoadedModel, ModelTable, Route, ServedModel, ServiceId, ShadowKept, ShadowSettings,
    ShadowTap,
};
use coracle_tensor::{DType, Tensor, Values};
use serde_json::Value;

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start_with};
use crate::routes::JSON;

const PREDICT: &str = "/serving/ml/sum/v1/models/sum:predict";

/// What a shadow does with a request.
#[derive(Debug)]
enum Manner {
    /// Answers as the service does, but a row that begins with 7 gets one more.
    AlmostSame,
    Panics,
    Fails,
    /// Gives another shape and datatype.
    Garbage,
    /// Never comes back.
    Hangs(Mutex<Receiver<()>>),
    /// Is at each request until it is told to go on.
    Slow(Mutex<Receiver<()>>),
    /// The same, at requests that begin with 7.
    SlowAtSevens(Mutex<Receiver<()>>),
}

#[derive(Debug)]
struct Shadow {
    manner: Manner,
    /// Told of every request.
    asked: Sender<()>,
    signature: Signature,
    description: Description,
}

impl Model for Shadow {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let _told = self.asked.send(());
        let values = inputs[0].values().to_f64s().unwrap();
        let sums = |more: f64| -> Vec<f64> {
            let rows = values.chunks_exact(2);
            rows.map(|row| row[0] + row[1] + if row[0] == 7.0 { more } else { 0.0 })
                .collect()
        };
        let values = match &self.manner {
            Manner::AlmostSame => Values::F64(sums(1.0).into()),
            Manner::Panics => panic!("as it was told to"),
            Manner::Fails => {
                return Err(RunError::new(RunErrorKind::Internal, "as it was told to"));
            }
            Manner::Garbage => Values::U8(vec![0; 3 * values.len() + 1].into()),
            Manner::SlowAtSevens(_) if values[0] != 7.0 => Values::F64(sums(0.0).into()),
            Manner::Hangs(gate) | Manner::Slow(gate) | Manner::SlowAtSevens(gate) => {
                let _opened = gate.lock().unwrap().recv();
                Values::F64(sums(0.0).into())
            }
        };
        Ok(vec![Tensor::from_values(values)])
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

fn shadow(manner: Manner, asked: Sender<()>) -> ServedModel {
    let spec = |name: &str, shape| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape,
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let model = Shadow {
        manner,
        asked,
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![spec("X", vec![None, Some(2)])],
            outputs: vec![spec("predict", vec![None])],
            default_outputs: vec![0],
            columns: None,
        },
        description: Description::default(),
    };
    let loaded = LoadedModel::new("next".to_owned(), Box::new(model), LoadPhases::default());
    ServedModel::new(loaded, 2)
}

fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

/// Starts a server whose service `sum` has a shadow of this manner.
fn start(manner: Manner, percent: u8, kept: ShadowKept) -> (Running, Receiver<()>) {
    let (asked, is_asked) = channel();
    let server = start_with(config(Limits::default()), |sum| {
        let settings = ShadowSettings {
            service: "next".to_owned(),
            percent,
            kept,
        };
        sum.set_shadow(Some(Arc::new(ShadowTap::new(id("sum"), settings))));
        let mut routes = BTreeMap::new();
        let next = shadow(manner, asked);
        next.set_concurrency(Some(1));
        for (name, model) in [("sum", sum), ("next", next)] {
            routes.insert(id(name), Arc::new(Route::single(Arc::new(model))));
        }
        ModelTable::from_routes(routes)
    });
    (server, is_asked)
}

/// Asks for the sums of `row`; fails if the answer is any other than the one without a shadow.
fn ask(server: &Running, row: [f64; 2]) {
    let body = format!("{{\"instances\": [[{}, {}]]}}", row[0], row[1]);
    let answer = send(server.address, "POST", PREDICT, &[JSON], body.as_bytes());
    let expected = serde_json::json!({"predictions": [row[0] + row[1]]});
    let found: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, found), (200, expected));
}

fn report(server: &Running) -> Answer {
    send(server.address, "GET", "/serving/ml/sum/shadow", &[], b"")
}

/// Waits until so many more copies have come to the shadow, and are compared; returns the report.
fn compared((server, is_asked): &(Running, Receiver<()>), n_copies: u64) -> Value {
    for _ in 0..n_copies {
        is_asked.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    report_of(server, n_copies)
}

/// Waits until so many copies are compared; returns the report.
fn report_of(server: &Running, n_copies: u64) -> Value {
    loop {
        let text = report(server).body;
        let report: Value = serde_json::from_str(&text).unwrap();
        let found = &report["shadows"][0];
        if found["comparisons"][0]["requests"].as_u64() >= Some(n_copies) {
            return found.clone();
        }
        std::thread::yield_now();
    }
}

fn outcome(report: &Value, name: &str) -> u64 {
    let outcomes = report["comparisons"][0]["outcomes"].as_array().unwrap();
    let found = outcomes.iter().find(|one| one["name"] == name).unwrap();
    found["count"].as_u64().unwrap()
}

#[test]
fn answers_are_compared_and_the_farthest_are_kept() {
    let server = start(Manner::AlmostSame, 100, ShadowKept::Requests);
    assert_eq!(report(&server.0).status, 404);
    for first in 0..10 {
        ask(&server.0, [f64::from(first), 1.0]);
    }
    let found = compared(&server, 10);
    assert_eq!(
        (outcome(&found, "agreed"), outcome(&found, "differed")),
        (9, 1)
    );
    let comparison = &found["comparisons"][0];
    let numbers = &comparison["outputs"][0]["numbers"];
    assert_eq!(comparison["outputs"][0]["sameRatio"], 0.9);
    assert_eq!(numbers["distanceMax"], 1.0);
    assert!((numbers["differenceMean"].as_f64().unwrap() - 0.1).abs() < 1e-12);
    let worst = comparison["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 1);
    assert_eq!(
        (&worst[0]["stable"], &worst[0]["shadow"]),
        (&"8".into(), &"9".into())
    );
    assert_eq!(worst[0]["request"], "{\"instances\": [[7, 1]]}");
    assert_eq!(comparison["latency"]["shadow"]["count"], 10);
    let metrics = send(server.0.address, "GET", "/metrics", &[], b"").body;
    let labels = r#"{namespace="ml",service="sum",shadow="next",outcome="differed"}"#;
    let line = format!("coracle_shadow_requests_total{labels} 1");
    assert!(metrics.lines().any(|shown| shown == line), "{metrics}");
    let page = send(
        server.0.address,
        "GET",
        "/serving/ml/sum/shadow/page",
        &[],
        b"",
    );
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.body.contains("<svg") && page.body.contains("{&quot;instances&quot;"));
}

#[test]
fn requests_are_not_kept_unless_somebody_says_so() {
    for (kept, n_kept) in [(ShadowKept::Answers, 1), (ShadowKept::Nothing, 0)] {
        let server = start(Manner::AlmostSame, 100, kept);
        ask(&server.0, [7.0, 1.0]);
        let found = compared(&server, 1);
        let worst = found["comparisons"][0]["worst"].as_array().unwrap();
        assert_eq!(worst.len(), n_kept);
        assert!(worst.iter().all(|far| far.get("request").is_none()));
    }
}

#[test]
fn a_share_of_the_requests_is_copied() {
    let server = start(Manner::AlmostSame, 20, ShadowKept::Nothing);
    for _ in 0..100 {
        ask(&server.0, [1.0, 1.0]);
    }
    let found = compared(&server, 20);
    assert_eq!((outcome(&found, "agreed"), &found["lost"]), (20, &0.into()));
}

/// The requests that are copied to a shadow that does wrong.
const N_ASKED: u32 = 10;

#[test]
fn shadows_that_panic_fail_or_give_garbage_change_no_answer() {
    for (manner, name) in [
        (Manner::Panics, "failed"),
        (Manner::Fails, "failed"),
        (Manner::Garbage, "incomparable"),
    ] {
        let server = start(manner, 100, ShadowKept::Answers);
        for first in 0..N_ASKED {
            ask(&server.0, [f64::from(first), 2.0]);
        }
        let found = compared(&server, u64::from(N_ASKED));
        assert_eq!(outcome(&found, name), u64::from(N_ASKED), "{found}");
    }
}

#[test]
fn a_shadow_that_is_slow_is_waited_for_by_nobody() {
    let (go_on, gate): (Sender<()>, _) = channel();
    let (server, is_asked) = start(Manner::Slow(Mutex::new(gate)), 100, ShadowKept::Answers);
    let n_lines = || {
        let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
        let lines = metrics.lines();
        lines
            .filter(|line| line.starts_with("coracle_shadow_requests_total{"))
            .count()
    };
    for first in 0..N_ASKED {
        // All of these come while the shadow is at the first request.
        ask(&server, [f64::from(first), 2.0]);
        if first == 0 {
            is_asked.recv().unwrap();
        }
        assert_eq!((report(&server).status, n_lines()), (200, 7));
    }
    let found: Value = serde_json::from_str(&report(&server).body).unwrap();
    assert_eq!(found["shadows"][0]["comparisons"], serde_json::json!([]));
    for _ in 0..N_ASKED {
        go_on.send(()).unwrap();
    }
    let found = report_of(&server, u64::from(N_ASKED));
    assert_eq!(outcome(&found, "agreed"), u64::from(N_ASKED));
}

#[test]
fn failures_of_both_are_told_apart() {
    let server = start(Manner::Fails, 100, ShadowKept::Answers);
    let body = br#"{"instances": [[-5, 1]]}"#;
    let answer = send(server.0.address, "POST", PREDICT, &[JSON], body);
    assert_eq!(answer.status, 500);
    assert_eq!(outcome(&compared(&server, 1), "both_failed"), 1);
}

#[test]
fn a_shadow_that_hangs_holds_up_nobody_and_loses_its_copies() {
    let (open, gate): (Sender<()>, _) = channel();
    let server = start(Manner::Hangs(Mutex::new(gate)), 100, ShadowKept::Answers);
    // One hangs, 1,024 wait for it, and there is no room for the rest.
    let mut stream = crate::client::connect(server.0.address);
    stream.set_nodelay(true).unwrap();
    let body = b"{\"instances\": [[1, 2]]}";
    for _ in 0..1_100 {
        crate::client::write_request(&mut stream, "POST", PREDICT, &[JSON], body);
        let answer = crate::client::read_answer(&mut stream, false).unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "{\"predictions\":[3.0]}")
        );
    }
    let text = report(&server.0).body;
    let found: Value = serde_json::from_str(&text).unwrap();
    let lost = found["shadows"][0]["lost"].as_u64().unwrap();
    assert!((75..=76).contains(&lost), "{lost}");
    assert_eq!(
        found["shadows"][0]["comparisons"].as_array().unwrap().len(),
        0
    );
    drop(open);
    compared(&server, 1_100 - lost);
}

/// Asks the shadow as one of its own users does.
fn ask_shadow(server: &Running) -> u16 {
    let path = "/serving/ml/next/v1/models/next:predict";
    let headers = [JSON, ("x-request-timeout", "5s")];
    let body = br#"{"instances": [[1, 2]]}"#;
    send(server.address, "POST", path, &headers, body).status
}

#[test]
fn users_of_the_shadow_do_not_wait_for_a_copy() {
    let (go_on, gate): (Sender<()>, _) = channel();
    let manner = Manner::SlowAtSevens(Mutex::new(gate));
    let (server, is_asked) = start(manner, 100, ShadowKept::Nothing);
    ask(&server, [7.0, 1.0]);
    is_asked.recv().unwrap();
    // The shadow is at the copy; of its users' requests one may run at a time.
    assert_eq!(ask_shadow(&server), 200);
    go_on.send(()).unwrap();
}

#[test]
fn a_shadow_is_not_set_aside_for_what_its_users_did_not_ask() {
    let server = start(Manner::Panics, 100, ShadowKept::Nothing);
    for first in 0..10 {
        ask(&server.0, [f64::from(first), 1.0]);
    }
    assert_eq!(outcome(&compared(&server, 10), "failed"), 10);
    let metrics = send(server.0.address, "GET", "/metrics", &[], b"").body;
    let of_next = |line: &&str| line.contains("\"next\"") && line.contains("model=");
    let counted = metrics.lines().filter(of_next);
    let is_counted = |line: &&str| {
        let value = line.rsplit(' ').next().unwrap();
        line.contains("_total{") && value.parse::<f64>().unwrap() > 0.0
    };
    let counted = counted.filter(is_counted);
    assert_eq!(counted.collect::<Vec<_>>(), Vec::<&str>::new());
    // It panics for its users, too, but was not set aside before.
    assert_eq!(ask_shadow(&server.0), 500);
}
