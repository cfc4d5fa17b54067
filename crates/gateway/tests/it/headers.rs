//! What headers ask for: compression, cross-origin requests, traces.

use coracle_gateway::Limits;
use coracle_protocol::compression::{Encoding, compress, expand};

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start};

const PREDICT: &str = "/v1/models/sum:predict";
const JSON: (&str, &str) = ("content-type", "application/json");
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn rows(n: usize) -> Vec<u8> {
    let rows = vec!["[1, 2]"; n].join(",");
    format!("{{\"instances\": [{rows}]}}").into_bytes()
}

fn compressed(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(encoding, bytes, &mut out).unwrap();
    out
}

fn predict(server: &Running, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    send(server.address, "POST", PREDICT, headers, body)
}

#[test]
fn bodies_are_compressed_both_ways() {
    let server = start(config(Limits::default()));
    // A few rows are expanded on the event loop, many on the compute pool.
    for n_rows in [500, 20_000] {
        let body = rows(n_rows);
        let plain = predict(&server, &[JSON], &body);
        assert_eq!(
            (plain.status, plain.header("content-encoding")),
            (200, None)
        );
        for encoding in Encoding::ALL {
            let name = encoding.name();
            let headers = [JSON, ("content-encoding", name), ("accept-encoding", name)];
            let answer = predict(&server, &headers, &compressed(encoding, &body));
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.header("content-encoding"), Some(name));
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            let expanded = expand(encoding, &answer.bytes, 1 << 20).unwrap();
            assert_eq!(expanded, plain.bytes);
        }
    }
    // Small answers are not worth it.
    let small = predict(&server, &[JSON, ("accept-encoding", "gzip")], &rows(1));
    assert_eq!(small.header("content-encoding"), None);
}

#[test]
fn a_body_may_not_expand_beyond_the_limit() {
    let limits = Limits {
        body_max: coracle_base::ByteCount::new(4_096),
        ..Limits::default()
    };
    let server = start(config(limits));
    for encoding in Encoding::ALL {
        let bomb = compressed(encoding, &rows(2_000));
        assert!(bomb.len() < 4_096);
        let answer = predict(
            &server,
            &[JSON, ("content-encoding", encoding.name())],
            &bomb,
        );
        assert_eq!(answer.status, 413, "{}", answer.body);
        assert!(
            answer.body.contains("the body expands to more than 4KiB"),
            "{}",
            answer.body
        );
    }
}

#[test]
fn pages_of_allowed_origins_may_ask() {
    let server = start(config(Limits::default()));
    let (good, bad) = ("https://good.example", "https://bad.example");
    let answer = predict(&server, &[JSON, ("origin", good)], &rows(1));
    assert_eq!(answer.header("access-control-allow-origin"), Some(good));
    assert_eq!(answer.header("vary"), Some("origin"));
    let answer = predict(&server, &[JSON, ("origin", bad)], &rows(1));
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
    let preflight = |origin| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        send(server.address, "OPTIONS", PREDICT, &headers, b"")
    };
    let answer = preflight(good);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(good));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("content-type")
    );
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET, HEAD, POST")
    );
    let answer = preflight(bad);
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (405, None)
    );
}

#[test]
fn traces_are_given_back() {
    let server = start(config(Limits::default()));
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let answer = predict(&server, &[JSON, ("traceparent", &parent)], &rows(1));
    let given = answer.header("traceparent").unwrap();
    assert!(
        given.starts_with(&format!("00-{TRACE}-")) && given.ends_with("-01"),
        "{given}"
    );
    assert_ne!(given, parent);
    let answer = predict(&server, &[JSON, ("traceparent", "nonsense")], &rows(1));
    assert_eq!((answer.status, answer.header("traceparent")), (200, None));
}
