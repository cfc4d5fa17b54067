//! Answers that are kept for requests that come again.

use std::time::Duration;

use coracle_gateway::Limits;
use coracle_protocol::grpc::inference::ModelInferResponse;
use coracle_serving::{CacheSettings, ModelTable};
use serde_json::{Value, json};

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start, start_with};
use crate::grpc::{ask, row};

const JSON: (&str, &str) = ("content-type", "application/json");
const V1: &str = "/v1/models/sum:predict";
const V2: &str = "/v2/models/sum/infer";

fn cached(ttl: Option<Duration>) -> Running {
    start_with(config(Limits::default()), |sum| {
        let size_bytes = 1 << 20;
        let sum = sum.with_response_cache(Some(CacheSettings { size_bytes, ttl }));
        ModelTable::try_new([sum]).unwrap()
    })
}

fn post(server: &Running, path: &str, body: &str) -> Answer {
    send(server.address, "POST", path, &[JSON], body.as_bytes())
}

fn is_hit(answer: &Answer) -> bool {
    answer.header("x-coracle-cache") == Some("hit")
}

fn v2(id: &str, numbers: [f64; 2]) -> String {
    let input = json!({"name": "X", "shape": [1, 2], "datatype": "FP64", "data": numbers});
    json!({"id": id, "inputs": [input]}).to_string()
}

/// Returns how many answers were kept ones, how many were not, and how often the model has run.
fn counted(server: &Running) -> [u64; 3] {
    let answer = send(server.address, "GET", "/v2/models/sum/stats", &[], b"");
    let stats: Value = serde_json::from_str(&answer.body).unwrap();
    let stats = &stats["model_stats"][0];
    let count = |name: &str| stats["inference_stats"][name]["count"].as_u64().unwrap();
    let n_runs = stats["execution_count"].as_u64().unwrap();
    assert_eq!(count("cache_miss"), n_runs);
    [count("cache_hit"), count("cache_miss"), count("success")]
}

#[test]
fn a_request_that_comes_again_is_answered_without_the_model() {
    let server = cached(None);
    let first = post(&server, V1, r#"{"instances": [[1, 2]]}"#);
    assert_eq!(
        (first.body.as_str(), is_hit(&first)),
        (r#"{"predictions":[3.0]}"#, false)
    );
    // Blanks and the spelling of numbers decide nothing.
    let again = post(&server, V1, r#"{"instances":[[1.0,  2e0]]}"#);
    assert_eq!((&again.body, is_hit(&again)), (&first.body, true));
    assert!(!is_hit(&post(&server, V1, r#"{"instances": [[2, 1]]}"#)));
    assert_eq!(counted(&server), [1, 2, 3]);
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let hits = "coracle_response_cache_hits_total{model=\"sum\",version=\"1\"} 1\n";
    assert!(metrics.contains(hits), "{metrics}");
}

#[test]
fn callers_of_all_protocols_share_answers_and_keep_their_own_ids() {
    let server = cached(None);
    for (id, expected) in [("a", false), ("b", true), ("a", true)] {
        let answer = post(&server, V2, &v2(id, [4.0, 5.0]));
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (&body["id"], &body["outputs"][0]["data"]),
            (&json!(id), &json!([9.0]))
        );
        assert_eq!(is_hit(&answer), expected, "{id}");
    }
    assert!(is_hit(&post(&server, V1, r#"{"instances": [[4, 5]]}"#)));
    let answer = ask(&server, "ModelInfer", &row("sum", [4.0, 5.0]));
    let message: ModelInferResponse = answer.message();
    assert_eq!(
        message.raw_output_contents[0].as_ref(),
        9.0_f64.to_le_bytes()
    );
    assert_eq!(answer.headers["x-coracle-cache"], "hit");
    // Another output of the same rows is another answer.
    let twice = post(
        &server,
        &format!("{V1}?method=twice"),
        r#"{"instances": [[4, 5]]}"#,
    );
    assert!(!is_hit(&twice), "{}", twice.body);
    assert_eq!(counted(&server), [4, 2, 6]);
}

#[test]
fn failures_are_not_kept() {
    let server = cached(None);
    for _ in 0..2 {
        let panicked = post(&server, V1, r#"{"instances": [[-5, 2]]}"#);
        assert_eq!((panicked.status, is_hit(&panicked)), (500, false));
        let refused = post(&server, V1, r#"{"instances": [[1, 2, 3]]}"#);
        assert_eq!((refused.status, is_hit(&refused)), (400, false));
    }
    assert_eq!(counted(&server), [0, 0, 0]);
}

#[test]
fn answers_of_calls_on_the_compute_pool_are_kept_too() {
    let server = cached(None);
    let rows = vec!["[1, 2]"; 20_000].join(",");
    let body = format!("{{\"instances\": [{rows}]}}");
    let first = post(&server, V1, &body);
    let again = post(&server, V1, &body);
    assert_eq!((is_hit(&first), is_hit(&again)), (false, true));
    assert!(first.status == 200 && first.body == again.body);
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for_or_longer_than_allowed() {
    let over_at_once = cached(Some(Duration::ZERO));
    for server in [start(config(Limits::default())), over_at_once] {
        for _ in 0..2 {
            assert!(!is_hit(&post(&server, V1, r#"{"instances": [[1, 2]]}"#)));
        }
    }
}
