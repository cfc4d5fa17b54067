//! What operators see of requests: metrics in both text formats, and payloads for the record.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_gateway::{Limits, PayloadConfig, PayloadTarget, ServerConfig};
use coracle_serving::PayloadMode;

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

// --- payloads --------------------------------------------------------------------------------------------------------

/// What a receiver got: head and body.
type Got = (String, Vec<u8>);

/// A receiver of events. `answers` is what it answers, one status after another, then 200s; none at all for 0.
fn receiver(answers: Vec<u16>) -> (SocketAddr, Receiver<Got>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, got) = channel();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (sender, answers) = (sender.clone(), Arc::clone(&answers));
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some(event) = read_post(&mut stream) {
                    let status = answers.lock().unwrap().next().unwrap_or(200);
                    if sender.send(event).is_err() {
                        return;
                    }
                    if status == 0 {
                        // Holds the connection for as long as its client does.
                        drop(stream.read_to_end(&mut Vec::new()));
                        return;
                    }
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, got)
}

fn read_post(stream: &mut BufReader<TcpStream>) -> Option<Got> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn recorded_to(target: PayloadTarget) -> ServerConfig {
    let mut config = config(Limits::default());
    config.outlets.payloads = Some(PayloadConfig {
        target: Some(target),
        mode: PayloadMode::All,
        headers: vec!["X-User".to_owned()],
        memory_max: "64KiB".parse().unwrap(),
        file_max: "1MiB".parse().unwrap(),
        n_files_max: 2,
    });
    config
}

/// Returns the next event, as its header's values and its body.
fn next(got: &Receiver<Got>) -> Got {
    got.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn check_header(head: &str, name: &str, value: &str) {
    let line = format!("{name}: {value}");
    assert!(
        head.lines().any(|shown| shown == line),
        "{line} is not in\n{head}"
    );
}

#[test]
fn requests_and_answers_are_recorded_as_cloud_events_failures_too() {
    let (address, got) = receiver(vec![503]);
    let server = start(recorded_to(PayloadTarget::Url(format!(
        "http://{address}/sink"
    ))));
    let headers = [
        JSON,
        ("x-request-id", "r-1"),
        ("x-user", "me"),
        ("x-other", "no"),
    ];
    send(server.address, "POST", PREDICT, &headers, ROW);
    // The first try is answered with 503, and tried again.
    let mut events = [next(&got), next(&got), next(&got)];
    events.sort_by_key(|(head, _)| head.contains("inference.response"));
    let (request, response) = (&events[0], &events[2]);
    assert_eq!(request.1, ROW);
    assert_eq!(response.1, br#"{"predictions":[3.0]}"#);
    for (part, (head, _)) in [("request", request), ("response", response)] {
        assert!(head.starts_with("POST /sink HTTP/1.1\r\n"), "{head}");
        check_header(
            head,
            "ce-type",
            &format!("org.kubeflow.serving.inference.{part}"),
        );
        check_header(head, "ce-id", "r-1");
        check_header(head, "ce-inferenceservicename", "sum");
        check_header(head, "ce-component", "predictor");
        check_header(head, "ce-source", &format!("http://{}/", server.address));
        check_header(head, "ce-metadata", r#"{"X-User":["me"]}"#);
        check_header(head, "content-type", "application/json");
    }
    check_header(&response.0, "ce-statuscode", "200");
    // A failure of the model; the caller names the event.
    let headers = [JSON, ("ce-id", "e-9")];
    let negative = br#"{"instances": [[-1, 0]]}"#;
    send(server.address, "POST", PREDICT, &headers, negative);
    let mut events = [next(&got), next(&got)];
    events.sort_by_key(|(head, _)| head.contains("inference.response"));
    assert_eq!(events[0].1, negative);
    check_header(&events[1].0, "ce-id", "e-9");
    check_header(&events[1].0, "ce-statuscode", "500");
    assert!(events[1].1.starts_with(b"{\"error\":"));
}

#[test]
fn a_receiver_that_hangs_delays_nobody_and_memory_is_bounded() {
    let (address, got) = receiver(vec![0; 64]);
    let mut config = recorded_to(PayloadTarget::Url(format!("http://{address}/")));
    config.shutdown_timeout = Duration::from_millis(50);
    let server = start(config);
    // Half of 64 KiB for this receiver: some of 100 events of 1.5 KiB fit.
    let row = format!("{{\"instances\": [[1, 2]]{}}}", " ".repeat(1_000));
    for _ in 0..50 {
        let answer = send(server.address, "POST", PREDICT, &[JSON], row.as_bytes());
        assert_eq!(answer.status, 200);
    }
    next(&got);
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let number = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    let lost = number("coracle_payloads_lost_total{reason=\"queue_full\"}");
    let waiting = number("coracle_payloads_waiting_bytes");
    assert!((40..100).contains(&lost), "{lost}");
    assert!(waiting > 0 && waiting <= 64 << 10, "{waiting}");
    assert_eq!(number("coracle_payloads_logged_total"), 0);
}

#[test]
fn files_get_a_line_for_each_payload() {
    let directory = tempfile::tempdir().unwrap();
    let target = PayloadTarget::Directory(directory.path().to_path_buf());
    let mut server = start(recorded_to(target));
    send(
        server.address,
        "POST",
        PREDICT,
        &[JSON, ("x-request-id", "a")],
        ROW,
    );
    send(
        server.address,
        "POST",
        PREDICT,
        &[JSON, ("x-request-id", "b")],
        b"{",
    );
    server.tell_to_stop();
    server.wait();
    let text = std::fs::read_to_string(directory.path().join("payloads.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    assert_eq!(lines.len(), 4, "{text}");
    let ids: Vec<_> = lines
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["a", "a", "b", "b"]);
    assert_eq!(lines[0]["data"], serde_json::json!({"instances": [[1, 2]]}));
    assert_eq!(lines[1]["data"], serde_json::json!({"predictions": [3.0]}));
    // What is no JSON is kept as it came.
    assert_eq!(lines[2]["data_base64"], "ew==");
    assert_eq!(lines[3]["statuscode"], "400");
}
