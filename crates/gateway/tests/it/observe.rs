//! What operators see of requests: metrics in both text formats.

use coracle_gateway::Limits;

use crate::client::send;
use crate::fixture::{config, start, start_limited};
use crate::routes::{JSON, ROW};

const PREDICT: &str = "/v1/models/sum:predict";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Fails if a line is not in a text.
fn check_line(text: &str, line: &str) {
    assert!(
        text.lines().any(|shown| shown == line),
        "{line} is not in\n{text}"
    );
}

#[test]
fn the_time_of_an_inference_is_told_by_phase() {
    let server = start(config(Limits::default()));
    let three = br#"{"instances": [[1, 2], [3, 4], [5, 6]]}"#;
    for body in [ROW, three.as_slice(), b"{"] {
        send(server.address, "POST", PREDICT, &[JSON], body);
    }
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let labels = r#"{model="sum",version="1"}"#;
    for phase in ["queue", "parse", "compute", "render"] {
        // One of the three was no inference.
        check_line(
            &metrics,
            &format!("coracle_{phase}_duration_seconds_count{labels} 2"),
        );
    }
    check_line(
        &metrics,
        &format!("coracle_request_duration_seconds_count{labels} 3"),
    );
    check_line(&metrics, &format!("coracle_batch_rows_count{labels} 2"));
    check_line(&metrics, &format!("coracle_batch_rows_sum{labels} 4"));
    let bucket =
        |bound| format!("coracle_batch_rows_bucket{{model=\"sum\",version=\"1\",le=\"{bound}\"}}");
    for (bound, count) in [("1.0", 1), ("2.0", 1), ("4.0", 2), ("+Inf", 2)] {
        check_line(&metrics, &format!("{} {count}", bucket(bound)));
    }
    check_line(&metrics, &format!("coracle_model_loaded{labels} 1"));
}

#[test]
fn recorded_traces_are_examples_of_latencies() {
    let server = start(config(Limits::default()));
    let unrecorded = format!("00-{}-b7ad6b7169203331-00", "b".repeat(32));
    let recorded = format!("00-{TRACE}-b7ad6b7169203331-01");
    for trace in [&unrecorded, &recorded] {
        let headers = [JSON, ("traceparent", trace.as_str())];
        send(server.address, "POST", PREDICT, &headers, ROW);
    }
    let accept = [(
        "accept",
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    )];
    let answer = send(server.address, "GET", "/metrics", &accept, b"");
    let kind = answer.header("content-type").unwrap();
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert_eq!(answer.body.matches(TRACE).count(), 1, "{}", answer.body);
    assert!(!answer.body.contains(&"b".repeat(32)));
    assert!(answer.body.ends_with("# EOF\n"));
    let plain = send(server.address, "GET", "/metrics", &[], b"").body;
    assert!(!plain.contains(TRACE) && !plain.contains("# EOF"));
}

#[test]
fn calls_that_are_turned_away_are_counted_by_reason() {
    let server = start_limited(config(Limits::default()), Some(0));
    let answer = send(server.address, "POST", PREDICT, &[JSON], ROW);
    assert_eq!(answer.status, 503, "{}", answer.body);
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let line = r#"coracle_rejections_total{model="sum",version="1",reason="queue_full"} 1"#;
    check_line(&metrics, line);
}
