//! Greedy and slow clients.

use std::io::{Read, Write};
use std::time::Duration;

use coracle_base::ByteCount;
use coracle_gateway::Limits;

use crate::client::{connect, read_answer, send, write_request};
use crate::fixture::{config, start, start_limited};

const PREDICT: &str = "/v1/models/sum:predict";

#[test]
fn bodies_over_the_limit_are_refused_declared_or_not() {
    let limits = Limits {
        body_max: ByteCount::new(1024),
        ..Limits::default()
    };
    let server = start(config(limits));
    let fits = format!("{:1024}", r#"{"instances": [[1, 2]]}"#);
    assert_eq!(
        send(server.address, "POST", PREDICT, &[], fits.as_bytes()).status,
        200
    );
    let answer = send(server.address, "POST", PREDICT, &[], &[b' '; 1025]);
    assert_eq!(answer.status, 413);
    assert!(
        answer.body.contains("larger than 1024 bytes (1KiB)"),
        "{}",
        answer.body
    );
    assert_eq!(answer.header("connection"), Some("close"));
    // In chunks, the size shows only as it comes.
    let mut stream = connect(server.address);
    write!(
        stream,
        "POST {PREDICT} HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .unwrap();
    for _ in 0..3 {
        drop(write!(stream, "200\r\n{}\r\n", " ".repeat(512)));
    }
    assert_eq!(read_answer(&mut stream, false).unwrap().status, 413);
}

#[test]
fn chunked_bodies_are_put_together() {
    let server = start(config(Limits::default()));
    let mut stream = connect(server.address);
    write!(
        stream,
        "POST {PREDICT} HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .unwrap();
    for part in [r#"{"insta"#, r#"nces": [[1,"#, r#" 2]]}"#] {
        write!(stream, "{:x}\r\n{part}\r\n", part.len()).unwrap();
    }
    write!(stream, "0\r\n\r\n").unwrap();
    assert_eq!(
        read_answer(&mut stream, false).unwrap().body,
        r#"{"predictions":[3.0]}"#
    );
}

#[test]
fn clients_that_wait_to_be_asked_are_asked() {
    let server = start(config(Limits::default()));
    let mut stream = connect(server.address);
    let body = r#"{"instances": [[1, 2]]}"#;
    let length = body.len();
    write!(stream, "POST {PREDICT} HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream, true).unwrap().status, 100);
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream, false).unwrap().status, 200);
}

#[test]
fn too_large_heads_are_refused() {
    let limits = Limits {
        head_bytes_max: 8 << 10,
        headers_max: 20,
        ..Limits::default()
    };
    let server = start(config(limits));
    let long = "x".repeat(10_000);
    assert_eq!(
        send(server.address, "GET", "/healthz", &[("x-long", &long)], b"").status,
        431
    );
    let names: Vec<String> = (0..30).map(|index| format!("x-{index}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(
        send(server.address, "GET", "/healthz", &many, b"").status,
        431
    );
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = start(config(limits));
    let mut slow = connect(server.address);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost:").unwrap();
    let mut idle = connect(server.address);
    write_request(&mut idle, "GET", "/healthz", &[], b"");
    assert_eq!(read_answer(&mut idle, false).unwrap().status, 200);
    // Both reads end because the server hangs up, the first perhaps after a 408.
    for stream in [&mut slow, &mut idle] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(
            rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
            "{rest:?}"
        );
    }
}

#[test]
fn slow_bodies_are_answered_408() {
    let limits = Limits {
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = start(config(limits));
    let mut stream = connect(server.address);
    write!(
        stream,
        "POST {PREDICT} HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\n{{"
    )
    .unwrap();
    let answer = read_answer(&mut stream, false).unwrap();
    assert_eq!(answer.status, 408);
    assert!(
        answer.body.contains("the body did not arrive within 50ms"),
        "{}",
        answer.body
    );
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let server = start(config(limits));
    let mut first = connect(server.address);
    write_request(&mut first, "GET", "/healthz", &[], b"");
    assert_eq!(read_answer(&mut first, false).unwrap().status, 200);
    let mut second = connect(server.address);
    let mut rest = Vec::new();
    // Closed at once; what was not read may make it a reset.
    drop(second.read_to_end(&mut rest));
    assert!(rest.is_empty());
    write_request(&mut first, "GET", "/metrics", &[], b"");
    let metrics = read_answer(&mut first, false).unwrap().body;
    assert!(
        metrics.contains("coracle_connections_refused_total 1\n"),
        "{metrics}"
    );
}

#[test]
fn what_is_no_http_is_answered_400() {
    let server = start(config(Limits::default()));
    let mut stream = connect(server.address);
    stream.write_all(b"HELLO\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream, false).unwrap().status, 400);
}

/// A body so large that the call goes to the compute pool; `row` is its one row.
fn large(row: &str) -> String {
    format!("{{\"instances\": [{row}]{}}}", " ".repeat(64 << 10))
}

#[test]
fn costly_calls_run_on_the_pool_and_are_answered() {
    let server = start(config(Limits::default()));
    let answer = send(
        server.address,
        "POST",
        PREDICT,
        &[],
        large("[1, 2]").as_bytes(),
    );
    assert_eq!(answer.body, r#"{"predictions":[3.0]}"#);
}

#[test]
fn a_full_pool_is_answered_429_with_retry_after() {
    let limits = Limits {
        pool_calls_max: 0,
        ..Limits::default()
    };
    let server = start(config(limits));
    let answer = send(
        server.address,
        "POST",
        PREDICT,
        &[],
        large("[1, 2]").as_bytes(),
    );
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(
        answer.body.contains("too many calls are waiting"),
        "{}",
        answer.body
    );
}

#[test]
fn a_full_queue_is_answered_503_and_the_queue_in_turn() {
    let server = start_limited(config(Limits::default()), Some(1));
    let address = server.address;
    let post = move |row: &'static str| {
        std::thread::spawn(move || send(address, "POST", PREDICT, &[], large(row).as_bytes()))
    };
    let first = post("[1000, 0]");
    server.entered.recv().unwrap();
    // Ten wait for the one place; the eleventh is turned away, whichever that is.
    let others: Vec<_> = (0..11).map(|_| post("[1, 2]")).collect();
    let refused = loop {
        if let Some(refused) = others.iter().position(|call| call.is_finished()) {
            break refused;
        }
        std::thread::yield_now();
    };
    server.gate.send(()).unwrap();
    assert_eq!(first.join().unwrap().status, 200);
    for (index, call) in others.into_iter().enumerate() {
        let answer = call.join().unwrap();
        if index == refused {
            assert_eq!(answer.status, 503);
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert!(answer.body.contains("pending request queue full"));
        } else {
            assert_eq!(answer.body, r#"{"predictions":[3.0]}"#);
        }
    }
}

#[test]
fn calls_that_take_too_long_are_answered_504() {
    let limits = Limits {
        request_timeout: Duration::from_millis(20),
        ..Limits::default()
    };
    let server = start(config(limits));
    let answer = send(
        server.address,
        "POST",
        PREDICT,
        &[],
        large("[1000, 0]").as_bytes(),
    );
    assert_eq!(answer.status, 504);
    assert!(
        answer.body.contains("no answer within 20ms"),
        "{}",
        answer.body
    );
    // The call itself cannot be interrupted; it is let go.
    server.entered.recv().unwrap();
    server.gate.send(()).unwrap();
}

/// So many rows that the call goes to the compute pool; the first one is `row`.
fn many(row: &str) -> String {
    format!("{{\"instances\": [{row}{}]}}", ", [1, 2]".repeat(99))
}

#[test]
fn times_and_priorities_that_mean_nothing_are_answered_400() {
    let server = start(config(Limits::default()));
    let body = br#"{"instances": [[1, 2]]}"#;
    for header in [
        ("x-request-timeout", "soon"),
        ("x-request-timeout", "0"),
        ("x-request-priority", "high"),
    ] {
        let answer = send(server.address, "POST", PREDICT, &[header], body);
        assert_eq!(answer.status, 400, "{header:?}");
        assert!(answer.body.contains(header.0), "{}", answer.body);
    }
    let good = [("x-request-timeout", "1.5"), ("x-request-priority", "1")];
    let answer = send(server.address, "POST", PREDICT, &good, body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let wrong = br#"{"instances": [[1, 2]], "parameters": {"priority": -1}}"#;
    assert_eq!(
        send(server.address, "POST", PREDICT, &[], wrong).status,
        400
    );
}

#[test]
fn calls_whose_time_is_over_before_their_turn_do_not_run() {
    let server = start(config(Limits::default()));
    let address = server.address;
    let hold = || {
        std::thread::spawn(move || {
            send(address, "POST", PREDICT, &[], many("[1000, 0]").as_bytes())
        })
    };
    // As many as run at a time; one after the other, lest they run together.
    let held = [(); 2].map(|()| {
        let call = hold();
        server.entered.recv().unwrap();
        call
    });
    let short = [("x-request-timeout", "20ms")];
    let by_header = many("[1000, 0]");
    let answer = send(address, "POST", PREDICT, &short, by_header.as_bytes());
    assert_eq!(answer.status, 504);
    assert!(
        answer.body.contains("no answer within 20ms"),
        "{}",
        answer.body
    );
    let data = format!("[1000, 0{}]", ", 1, 2".repeat(99));
    let by_parameter = format!(
        r#"{{"parameters": {{"timeout": 20000}}, "inputs": [{{"name": "X", "shape": [100, 2], "datatype": "FP64", "data": {data}}}]}}"#
    );
    let path = "/v2/models/sum/infer";
    let answer = send(address, "POST", path, &[], by_parameter.as_bytes());
    assert_eq!(answer.status, 504, "{}", answer.body);
    for _ in 0..2 {
        server.gate.send(()).unwrap();
    }
    for call in held {
        assert_eq!(call.join().unwrap().status, 200);
    }
    let later = many("[1, 2]");
    let answer = send(address, "POST", PREDICT, &[], later.as_bytes());
    assert_eq!(answer.status, 200);
    // Had one of them run, it would have said so, and would wait for the gate.
    assert!(server.entered.try_recv().is_err());
}

#[test]
fn a_model_that_fails_again_and_again_is_not_ready() {
    let server = start(config(Limits::default()));
    let address = server.address;
    let predict = |row: &str| {
        let body = format!("{{\"instances\": [{row}]}}");
        send(address, "POST", PREDICT, &[], body.as_bytes())
    };
    let ready = || send(address, "GET", "/v2/models/sum/ready", &[], b"").status;
    for _ in 0..4 {
        assert_eq!(predict("[-1, 0]").status, 500);
    }
    // One that goes well ends the count.
    assert_eq!(predict("[1, 2]").status, 200);
    for _ in 0..5 {
        assert_eq!(ready(), 200);
        assert_eq!(predict("[-1, 0]").status, 500);
    }
    let answer = predict("[1, 2]");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert!(
        answer.body.contains("takes no requests for 30s"),
        "{}",
        answer.body
    );
    assert_eq!(ready(), 503);
    let metrics = send(address, "GET", "/metrics", &[], b"").body;
    for line in [
        "coracle_model_panics_total{model=\"sum\",version=\"1\"} 9",
        "coracle_model_ready{model=\"sum\",version=\"1\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let index = send(address, "POST", "/v2/repository/index", &[], b"").body;
    assert!(
        index.contains("\"UNAVAILABLE\"") && index.contains("again and again"),
        "{index}"
    );
}
