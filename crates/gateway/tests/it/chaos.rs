//! Faults on purpose: who may set them, what they do, and that users need not notice.

use std::sync::Arc;

use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_serving::{
    Backends, FallbackSettings, HedgeAfter, LoadPhases, LoadedModel, ModelTable, RevisionId,
    RevisionLog, Route, RouteTarget, ServedModel, ServiceId,
};
use serde_json::{Value, json};

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start, start_in_chaos, sum_model};
use crate::forward::backends;
use crate::routes::JSON;
use crate::upstream::Upstream;

const PREDICT: &str = "/serving/ml/sum/v1/models/sum:predict";

fn post(server: &Running, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    send(server.address, "POST", path, &[JSON], body.as_bytes())
}

fn ask(server: &Running) -> Answer {
    post(server, PREDICT, &json!({"instances": [[1, 2]]}))
}

fn set(server: &Running, faults: &Value) -> Answer {
    let answer = post(server, "/chaos/set", faults);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

fn revision(model: ServedModel, name: &str) -> ServedModel {
    let id = RevisionId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    };
    let log = RevisionLog::none(Arc::new(SystemClock::new()));
    model.with_revision(&id, log, Box::new(|| ()))
}

fn table(models: Vec<ServedModel>) -> ModelTable {
    let percent = u8::try_from(100 / models.len()).unwrap();
    let targets = models.into_iter().map(|model| RouteTarget {
        model: Arc::new(model),
        percent,
        tags: Vec::new(),
    });
    let route = Arc::new(Route::try_new(targets.collect(), None).unwrap());
    let service = ServiceId {
        namespace: "ml".to_owned(),
        name: "sum".to_owned(),
    };
    ModelTable::from_routes([(service, route)].into())
}

/// Half of the requests are a canary's, which has the same fallback as the revision that serves.
fn with_canary(fallback: &FallbackSettings) -> Running {
    start_in_chaos(config(Limits::default()), |stable| {
        let (canary, _entered, _gate) = sum_model();
        let canary = LoadedModel::new("sum".to_owned(), Box::new(canary), LoadPhases::default());
        let models = [(stable, "sum-1"), (ServedModel::new(canary, 2), "sum-2")];
        let models = models.map(|(model, name)| {
            let model = revision(model, name);
            model.set_fallback(Some(fallback));
            model
        });
        table(models.into())
    })
}

#[test]
fn a_server_without_the_flag_refuses_and_names_it() {
    let server = start(config(Limits::default()));
    let faults = json!({"target": "sum", "errorRate": 1});
    for (method, path) in [
        ("GET", "/chaos"),
        ("POST", "/chaos/set"),
        ("POST", "/chaos/clear"),
    ] {
        let body = faults.to_string();
        let answer = send(server.address, method, path, &[JSON], body.as_bytes());
        assert_eq!(answer.status, 403, "{path}");
        assert!(
            answer.body.contains("start it with --chaos"),
            "{}",
            answer.body
        );
    }
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    assert!(!metrics.contains("\ncoracle_chaos_targets "), "{metrics}");
}

#[test]
fn faults_are_set_told_and_cleared() {
    let server = with_canary(&FallbackSettings::default());
    let faults =
        json!({"target": "ml/sum-2", "errorRate": 1, "errorCode": "internal", "for": "1h"});
    set(&server, &faults);
    let mut statuses: Vec<u16> = (0..10).map(|_| ask(&server).status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 5], [500; 5]].concat());
    let told = send(server.address, "GET", "/chaos", &[], b"").body;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["chaos"][0]["target"], "ml/sum-2");
    assert_eq!(told["chaos"][0]["struck"], 5);
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    for line in [
        "coracle_chaos_targets 1\n",
        "coracle_chaos_faults_total{kind=\"error\"} 5\n",
        "coracle_chaos_faults_total{kind=\"panic\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let cleared = post(&server, "/chaos/clear", &json!({"target": "ml/sum-2"})).body;
    assert!(cleared.contains("\"cleared\":1"), "{cleared}");
    assert!((0..10).all(|_| ask(&server).status == 200));
    let wrong = post(
        &server,
        "/chaos/set",
        &json!({"target": "ml/sum", "latency": "x"}),
    );
    assert_eq!(wrong.status, 400);
    let page = [JSON, ("origin", "http://evil.example")];
    let body = faults.to_string();
    let foreign = send(server.address, "POST", "/chaos/set", &page, body.as_bytes());
    assert_ne!(foreign.status, 200);
}

#[test]
fn a_canary_under_chaos_fails_nobody_who_has_a_fallback() {
    let fallback = FallbackSettings {
        value: Some("0".to_owned()),
        timeout: Some(std::time::Duration::from_secs(5)),
        retries: 1,
        breaker_failures: Some(5),
        ..FallbackSettings::default()
    };
    let server = with_canary(&fallback);
    let faults = json!({"target": "ml/sum-2", "latency": "1ms", "jitter": "1ms", "errorRate": 0.6, "panicRate": 0.2});
    set(&server, &faults);
    let answers: Vec<Answer> = (0..200).map(|_| ask(&server)).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let stood_in = |answer: &&Answer| answer.header("x-coracle-fallback") == Some("constant");
    let n_stood_in = answers.iter().filter(stood_in).count();
    assert!((1..=100).contains(&n_stood_in), "{n_stood_in}");
    let own = answers.iter().filter(|answer| !stood_in(answer));
    assert!(
        own.into_iter()
            .all(|answer| answer.body == "{\"predictions\":[3.0]}")
    );
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    for kind in ["latency", "error", "panic"] {
        let none = format!("coracle_chaos_faults_total{{kind=\"{kind}\"}} 0\n");
        assert!(!metrics.contains(&none), "{metrics}");
    }
    // The revision that serves was never struck.
    assert!(metrics.contains(
        "coracle_fallbacks_total{model=\"sum\",namespace=\"ml\",revision=\"sum-1\"} 0\n"
    ));
}

#[test]
fn panics_and_errors_strike_as_those_of_a_model() {
    let server = with_canary(&FallbackSettings::default());
    set(&server, &json!({"target": "ml/sum", "panicRate": 1}));
    let answer = ask(&server);
    assert_eq!(answer.status, 500, "{}", answer.body);
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    assert!(
        metrics.contains("revision=\"sum-1\"} 1\n") || metrics.contains("revision=\"sum-2\"} 1\n")
    );
}

#[test]
fn processes_are_struck_and_a_second_one_answers() {
    let upstreams = [Upstream::start(), Upstream::start()];
    let both: Arc<Backends> = backends(&[upstreams[0].address, upstreams[1].address]);
    let hedge = FallbackSettings {
        hedge: Some(HedgeAfter::Time(std::time::Duration::from_millis(5))),
        ..FallbackSettings::default()
    };
    let server = start_in_chaos(config(Limits::default()), |_| {
        let model = ServedModel::unloaded("sum".to_owned(), 2);
        let model = revision(model, "r").with_backends(both);
        model.set_fallback(Some(&hedge));
        table(vec![model])
    });
    set(&server, &json!({"target": "ml/r", "errorRate": 1}));
    assert_eq!(ask(&server).status, 503);
    // It would wait for longer than anybody does: the second process is what answers.
    set(&server, &json!({"target": "ml/r", "latency": "1h"}));
    assert_eq!(ask(&server).status, 203);
}
