//! What processes answer: passed on both ways, within bounds, split with what is served here.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use coracle_base::{ByteCount, SystemClock};
use coracle_gateway::Limits;
use coracle_serving::{
    Backends, Endpoints, ModelTable, RevisionId, RevisionLog, Route, RouteTarget, ServedModel,
    ServiceId,
};

use crate::client::{connect, read_answer, send, write_request};
use crate::fixture::{Running, config, start_with};
use crate::upstream::Upstream;

/// A server with the service `n/sum`: `percent` of it by processes, the rest by the model `sum`.
pub(crate) fn start(limits: Limits, backends: &Arc<Backends>, percent: u8) -> Running {
    start_waking(limits, backends, percent, || ())
}

pub(crate) fn start_waking(
    limits: Limits,
    backends: &Arc<Backends>,
    percent: u8,
    wake: impl Fn() + Send + Sync + 'static,
) -> Running {
    let id = RevisionId {
        namespace: "n".to_owned(),
        name: "r".to_owned(),
    };
    let log = RevisionLog::none(Arc::new(SystemClock::new()));
    let forwarded = ServedModel::unloaded("sum".to_owned(), 2)
        .with_revision(&id, log, Box::new(wake))
        .with_backends(Arc::clone(backends));
    start_with(config(limits), |sum| {
        let target = |model: ServedModel, percent, tag: &str| RouteTarget {
            model: Arc::new(model),
            percent,
            tags: vec![tag.to_owned()],
        };
        let targets = vec![
            target(forwarded, percent, "latest"),
            target(sum, 100 - percent, "prev"),
        ];
        let service = ServiceId {
            namespace: "n".to_owned(),
            name: "sum".to_owned(),
        };
        let route = Arc::new(Route::try_new(targets, None).unwrap());
        ModelTable::from_routes([(service, route)].into())
    })
}

pub(crate) fn backends(addresses: &[SocketAddr]) -> Arc<Backends> {
    let backends = Arc::new(Backends::default());
    let all: Vec<Endpoints> = addresses.iter().copied().map(Endpoints::from).collect();
    backends.set(&all);
    backends
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn requests_and_answers_are_passed_on() {
    let upstream = Upstream::start();
    let server = start(Limits::default(), &backends(&[upstream.address]), 100);
    let headers = [
        ("content-type", "application/x-custom"),
        ("traceparent", "00-1-2-01"),
        ("x-request-id", "mine"),
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
    ];
    let answer = send(
        server.address,
        "PUT",
        "/serving/n/sum/any/path?a=1&b",
        &headers,
        b"the body",
    );
    assert_eq!(answer.status, 203, "{answer:?}");
    assert!(
        answer.body.starts_with("PUT /any/path?a=1&b HTTP/1.1\r\n"),
        "{}",
        answer.body
    );
    assert!(answer.body.ends_with("\r\n\r\nthe body"), "{}", answer.body);
    for line in [
        "content-type: application/x-custom",
        "traceparent: 00-1-2-01",
        "x-request-id: mine",
        "host: test",
    ] {
        assert!(answer.body.contains(line), "{}", answer.body);
    }
    assert!(!answer.body.contains("x-hop"), "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("text/x-echo"));
    assert_eq!(
        (answer.header("x-mine"), answer.header("keep-alive")),
        (Some("1"), None)
    );
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    // By the model's name alone, the path is the one that was asked.
    let answer = send(server.address, "POST", "/v1/models/sum:predict", &[], b"{}");
    assert!(
        answer
            .body
            .starts_with("POST /v1/models/sum:predict HTTP/1.1\r\n"),
        "{}",
        answer.body
    );
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    for (protocol, n) in [("v1", 1), ("other", 1)] {
        let line = format!("revision=\"r\",protocol=\"{protocol}\",code=\"ok\"}} {n}");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn a_connection_to_a_process_is_used_again() {
    let upstream = Upstream::start();
    let server = start(Limits::default(), &backends(&[upstream.address]), 100);
    let mut stream = connect(server.address);
    for _ in 0..20 {
        write_request(&mut stream, "POST", "/v1/models/sum:predict", &[], b"x");
        assert_eq!(read_answer(&mut stream, false).unwrap().status, 203);
    }
    assert_eq!(upstream.n_connections(), 1);
}

#[test]
fn what_a_process_does_not_answer_is_said() {
    let upstream = Upstream::start();
    let limits = Limits {
        request_timeout: Duration::from_millis(200),
        body_max: ByteCount::new(100),
        ..Limits::default()
    };
    let server = start(limits, &backends(&[upstream.address]), 100);
    let cases = [
        (
            "/serving/n/sum/close",
            502,
            "the process of 'sum' ended the connection without an answer",
        ),
        (
            "/serving/n/sum/hang",
            504,
            "the process of 'sum' gave no answer within 200ms",
        ),
    ];
    for (path, status, message) in cases {
        let answer = send(server.address, "POST", path, &[], b"x");
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(message), "{answer:?}");
    }
    let large = send(
        server.address,
        "POST",
        "/serving/n/sum/x",
        &[],
        &[b'x'; 101],
    );
    assert_eq!(large.status, 413);
    let down = start(limits, &backends(&[nobody()]), 100);
    let answer = send(down.address, "POST", "/v1/models/sum:predict", &[], b"x");
    assert!(matches!(answer.status, 503 | 504), "{answer:?}");
}

#[test]
fn a_process_that_cannot_be_reached_is_passed_over() {
    let upstream = Upstream::start();
    let server = start(
        Limits::default(),
        &backends(&[nobody(), upstream.address, nobody()]),
        100,
    );
    for _ in 0..6 {
        let answer = send(server.address, "POST", "/v1/models/sum:predict", &[], b"x");
        assert_eq!(answer.status, 203, "{answer:?}");
    }
}

#[test]
fn the_first_request_waits_for_the_process_it_wakes() {
    let upstream = Upstream::start();
    let none = backends(&[]);
    let (waking, address) = (Arc::clone(&none), upstream.address);
    let server = start_waking(Limits::default(), &none, 100, move || {
        waking.set(&[address.into()]);
    });
    let answer = send(server.address, "POST", "/v1/models/sum:predict", &[], b"x");
    assert_eq!(answer.status, 203, "{answer:?}");
}

#[test]
fn the_split_with_what_is_served_here_is_exact() {
    let upstream = Upstream::start();
    let server = start(Limits::default(), &backends(&[upstream.address]), 20);
    let row = br#"{"instances": [[1, 2]]}"#;
    for path in [
        "/v1/models/sum:predict",
        "/serving/n/sum/v1/models/sum:predict",
    ] {
        let statuses = (0..100).map(|_| send(server.address, "POST", path, &[], row).status);
        let statuses: Vec<u16> = statuses.collect();
        let count = |status| statuses.iter().filter(|&&one| one == status).count();
        assert_eq!((count(203), count(200)), (20, 80), "{path}");
    }
    for (tag, status) in [("latest", 203), ("prev", 200)] {
        let path = format!("/serving/n/{tag}-sum-predictor/v1/models/sum:predict");
        assert_eq!(send(server.address, "POST", &path, &[], row).status, status);
    }
}

#[test]
fn an_answer_comes_in_the_parts_in_which_it_is_made() {
    let upstream = Upstream::start();
    let server = start(Limits::default(), &backends(&[upstream.address]), 100);
    let mut stream = connect(server.address);
    write_request(&mut stream, "GET", "/serving/n/sum/stream", &[], b"");
    let mut text = String::new();
    let mut part = [0; 1024];
    let mut read_until = |end: &str| {
        while !text.ends_with(end) {
            let n_bytes = stream.read(&mut part).unwrap();
            assert!(n_bytes > 0, "{text}");
            text.push_str(std::str::from_utf8(&part[..n_bytes]).unwrap());
        }
    };
    read_until("3\r\none\r\n");
    upstream.gate.send(()).unwrap();
    read_until("3\r\ntwo\r\n0\r\n\r\n");
}
