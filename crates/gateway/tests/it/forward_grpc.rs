//! What processes answer over gRPC: streamed both ways, with statuses, deadlines and cancellation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_protocol::grpc::inference::{ModelInferRequest, ModelReadyRequest};
use coracle_protocol::grpc::{frame, parse_timeout};
use coracle_serving::{
    Backends, Endpoints, FallbackSettings, HedgeAfter, ModelTable, RevisionId, RevisionLog, Route,
    ServedModel, ServiceId,
};
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use hyper::{HeaderMap, Request};

use crate::client::send as send_http;
use crate::fixture::{Running, config, start_with};
use crate::forward::{backends, nobody, start, start_waking};
use crate::upstream::Upstream;
use crate::upstream_grpc::{GrpcUpstream, framed};

const HOST: &str = "sum.n.example.com";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A request that has begun.
struct Call {
    request: SendStream<Bytes>,
    answer: h2::client::ResponseFuture,
}

/// How a request ended: its head, messages, and status.
#[derive(Debug)]
struct Ended {
    head: HeaderMap,
    messages: Vec<Bytes>,
    trailers: HeaderMap,
}

impl Ended {
    fn status(&self) -> &str {
        self.trailers["grpc-status"].to_str().unwrap()
    }

    fn message(&self) -> &str {
        self.trailers["grpc-message"].to_str().unwrap()
    }
}

/// Does something with a connection to a server; within a time that only a hang takes.
fn with<T>(address: SocketAddr, talk: impl AsyncFnOnce(SendRequest<Bytes>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let limit = Duration::from_secs(20);
        let talked = tokio::time::timeout(limit, talk(sender)).await;
        connection.abort();
        talked.expect("no answer")
    })
}

async fn begin(
    sender: &SendRequest<Bytes>,
    (host, path): (&str, &str),
    headers: &[(&str, &str)],
) -> Call {
    let mut request = Request::post(format!("http://{host}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut sender = sender.clone().ready().await.unwrap();
    let request = request.body(()).unwrap();
    let (answer, request) = sender.send_request(request, false).unwrap();
    Call { request, answer }
}

/// Reads the next message; `None` at the end of the answer.
async fn next(body: &mut RecvStream, buffer: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(prefix) = buffer.first_chunk::<5>() {
            assert_eq!(prefix[0], 0);
            let length = usize::try_from((&prefix[1..]).get_u32()).unwrap();
            if buffer.len() >= 5 + length {
                buffer.advance(5);
                return Some(buffer.split_to(length).freeze());
            }
        }
        let data = body.data().await?.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        buffer.extend_from_slice(&data);
    }
}

async fn end(call: Call) -> Ended {
    let (head, mut body) = call.answer.await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-type"], "application/grpc");
    let (mut messages, mut buffer) = (Vec::new(), BytesMut::new());
    while let Some(message) = next(&mut body, &mut buffer).await {
        messages.push(message);
    }
    let trailers = body.trailers().await.unwrap();
    Ended {
        trailers: trailers.unwrap_or_else(|| head.headers.clone()),
        head: head.headers,
        messages,
    }
}

/// Sends one message to a method of the service by its host.
fn ask(server: &Running, path: &str, headers: &[(&str, &str)], message: Bytes) -> Ended {
    ask_at(server, (HOST, path), headers, message)
}

fn ask_at(
    server: &Running,
    place: (&str, &str),
    headers: &[(&str, &str)],
    message: Bytes,
) -> Ended {
    with(server.address, async |sender| {
        let mut call = begin(&sender, place, headers).await;
        call.request.send_data(message, true).unwrap();
        end(call).await
    })
}

fn infer(model: &str) -> Bytes {
    let request = ModelInferRequest {
        model_name: model.to_owned(),
        ..ModelInferRequest::default()
    };
    frame(&request).into()
}

/// Sends a message of any size, as far as the other end takes it.
fn ask_slowly(server: &Running, path: &str, headers: &[(&str, &str)], mut message: Bytes) -> Ended {
    with(server.address, async |sender| {
        let mut call = begin(&sender, (HOST, path), headers).await;
        while !message.is_empty() {
            call.request.reserve_capacity(message.len());
            let room = std::future::poll_fn(|ctx| call.request.poll_capacity(ctx)).await;
            // An answer may come before all is taken.
            let Some(Ok(room)) = room else { break };
            let part = message.split_to(room.min(message.len()));
            if call.request.send_data(part, message.is_empty()).is_err() {
                break;
            }
        }
        end(call).await
    })
}

/// Starts a server whose model is answered for by processes, of which a second one is asked after a time.
fn hedging(backends: &Arc<Backends>, after: HedgeAfter) -> Running {
    let id = RevisionId {
        namespace: "n".to_owned(),
        name: "r".to_owned(),
    };
    let log = RevisionLog::none(Arc::new(SystemClock::new()));
    let model = ServedModel::unloaded("sum".to_owned(), 2)
        .with_revision(&id, log, Box::new(|| ()))
        .with_backends(Arc::clone(backends));
    model.set_fallback(Some(&FallbackSettings {
        hedge: Some(after),
        ..FallbackSettings::default()
    }));
    start_with(config(Limits::default()), |_| {
        let service = ServiceId {
            namespace: "n".to_owned(),
            name: "sum".to_owned(),
        };
        let route = Arc::new(Route::single(Arc::new(model)));
        ModelTable::from_routes([(service, route)].into())
    })
}

fn started(upstream: &GrpcUpstream) -> Running {
    start(Limits::default(), &backends(&[upstream.address]), 100)
}

/// Reads a number of the metrics.
fn metric(server: &Running, line: &str) -> u64 {
    let metrics = send_http(server.address, "GET", "/metrics", &[], b"").body;
    let mut lines = metrics.lines();
    let found = lines.find_map(|own| own.strip_prefix(line));
    let number = found.unwrap_or_else(|| panic!("no {line} in {metrics}"));
    number.trim().parse().unwrap()
}

fn n_requests(server: &Running, protocol: &str, code: &str) -> u64 {
    let labels = format!(
        "model=\"sum\",namespace=\"n\",revision=\"r\",protocol=\"{protocol}\",code=\"{code}\""
    );
    metric(server, &format!("coracle_requests_total{{{labels}}}"))
}

/// A prediction that a process does not answer is put to another one; the first attempt is cancelled.
#[test]
fn a_prediction_that_takes_long_is_put_to_a_second_process() {
    let (mut silent, mut well) = (GrpcUpstream::always("Hangs"), GrpcUpstream::start());
    let after = HedgeAfter::Time(Duration::from_millis(1));
    let server = hedging(&backends(&[silent.address, well.address]), after);
    let own = infer("sum");
    for _ in 0..4 {
        let ended = ask(&server, INFER, &[], own.clone());
        assert_eq!(ended.status(), "0", "{ended:?}");
        assert_eq!(framed(&ended.messages[0]), own);
    }
    // Two of them met the silent one first, which was let go of.
    for _ in 0..2 {
        silent.heads.blocking_recv().unwrap();
        assert_eq!(silent.cancelled.blocking_recv(), Some(Reason::CANCEL));
    }
    assert!(well.heads.blocking_recv().is_some());
    let labels = "{model=\"sum\",namespace=\"n\",revision=\"r\"}";
    assert!(metric(&server, &format!("coracle_hedges_total{labels}")) >= 2);
    assert!(metric(&server, &format!("coracle_hedges_won_total{labels}")) >= 2);
    assert_eq!(n_requests(&server, "grpc", "ok"), 4);
}

/// Who may be asked once is asked once: other methods, and messages that are large.
#[test]
fn what_is_no_small_prediction_has_one_attempt_over_grpc() {
    let (silent, well) = (GrpcUpstream::always("Hangs"), GrpcUpstream::start());
    let after = HedgeAfter::Time(Duration::from_millis(1));
    let large = framed(&vec![0; (1 << 20) + 1]);
    let short = [("grpc-timeout", "300m")];
    for (path, message) in [
        ("/any.Service/Echo", framed(b"hello")),
        ("/inference.GRPCInferenceService/ModelReady", framed(b"")),
        (INFER, large),
    ] {
        let server = hedging(&backends(&[silent.address, well.address]), after);
        let mut ended = Vec::new();
        for _ in 0..2 {
            ended.push(
                ask_slowly(&server, path, &short, message.clone())
                    .status()
                    .to_owned(),
            );
        }
        ended.sort_unstable();
        assert_eq!(ended, ["0", "4"], "{path}");
    }
}

#[test]
fn a_call_is_passed_on_with_its_metadata_and_trailers() {
    let mut upstream = GrpcUpstream::start();
    let server = started(&upstream);
    let headers = [
        ("x-mine", "1"),
        ("authorization", "Bearer t"),
        ("grpc-timeout", "20S"),
        ("grpc-encoding", "of-its-own"),
    ];
    let ended = ask(&server, "/any.Service/Echo", &headers, framed(b"hello"));
    assert_eq!(ended.messages, ["hello"]);
    assert_eq!(ended.head["x-by"], "process");
    assert!(ended.head.contains_key("x-request-id"));
    assert_eq!((ended.status(), ended.message()), ("0", "what%20it%20says"));
    assert_eq!(ended.trailers["x-its-own"], "1");
    let head = upstream.heads.blocking_recv().unwrap();
    assert_eq!(head.uri.path(), "/any.Service/Echo");
    assert_eq!(head.uri.authority().unwrap(), HOST);
    for (name, value) in [
        ("x-mine", "1"),
        ("authorization", "Bearer t"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-encoding", "of-its-own"),
        ("x-forwarded-host", HOST),
    ] {
        assert_eq!(head.headers[name], value, "{name}");
    }
    // What is left of the caller's time.
    let timeout = parse_timeout(head.headers["grpc-timeout"].to_str().unwrap()).unwrap();
    assert!(timeout <= Duration::from_secs(20) && timeout > Duration::ZERO);
    assert_eq!(n_requests(&server, "other", "ok"), 1);
}

#[test]
fn messages_go_both_ways_as_they_come_on_one_connection() {
    let upstream = GrpcUpstream::start();
    let server = started(&upstream);
    with(server.address, async |sender| {
        let mut calls = Vec::new();
        for _ in 0..3 {
            let mut call = begin(&sender, (HOST, "/any.Service/Chat"), &[]).await;
            call.request.send_data(framed(b"first"), false).unwrap();
            let (_, mut body) = call.answer.await.unwrap().into_parts();
            let mut buffer = BytesMut::new();
            assert_eq!(next(&mut body, &mut buffer).await.unwrap(), "first");
            calls.push((call.request, body, buffer));
        }
        for (request, body, buffer) in &mut calls {
            request.send_data(framed(b"second"), false).unwrap();
            assert_eq!(next(body, buffer).await.unwrap(), "second");
            request.send_data(framed(&vec![7; 200_000]), true).unwrap();
            assert_eq!(next(body, buffer).await.unwrap().len(), 200_000);
            assert!(next(body, buffer).await.is_none());
            assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        }
    });
    assert_eq!(upstream.n_connections(), 1);
    assert_eq!(n_requests(&server, "other", "ok"), 3);
}

#[test]
fn a_model_is_found_by_its_first_message_or_by_metadata() {
    let mut upstream = GrpcUpstream::start();
    let server = started(&upstream);
    let ready = ModelReadyRequest {
        name: "sum".to_owned(),
        version: String::new(),
    };
    let cases = [
        (INFER, infer("sum")),
        (
            "/inference.GRPCInferenceService/ModelStreamInfer",
            infer("sum"),
        ),
        (
            "/inference.GRPCInferenceService/ModelReady",
            frame(&ready).into(),
        ),
        // A TensorFlow Serving ModelSpec of the name, in field 1.
        (
            "/tensorflow.serving.PredictionService/Predict",
            framed(b"\x0a\x05\x0a\x03sum"),
        ),
    ];
    for (path, message) in cases {
        let ended = ask_at(&server, ("localhost", path), &[], message.clone());
        assert_eq!(ended.messages, [message.slice(5..)], "{path}");
        assert_eq!(upstream.heads.blocking_recv().unwrap().uri.path(), path);
    }
    let by_metadata = ask_at(
        &server,
        ("localhost", "/any.Service/Echo"),
        &[("mm-vmodel-id", "sum")],
        framed(b"x"),
    );
    assert_eq!(by_metadata.messages, ["x"]);
    assert_eq!(n_requests(&server, "grpc", "ok"), 3);
    // What is not the process's is answered here.
    let other = ask_at(&server, ("localhost", INFER), &[], infer("other"));
    assert_eq!(other.status(), "5");
    let live = "/inference.GRPCInferenceService/ServerLive";
    let live = ask_at(&server, ("localhost", live), &[], framed(b""));
    assert_eq!((live.status(), live.head.get("x-by")), ("0", None));
}

#[test]
fn a_first_message_may_come_in_parts() {
    let upstream = GrpcUpstream::start();
    let server = started(&upstream);
    let message = infer("sum");
    let ended = with(server.address, async |sender| {
        let mut call = begin(&sender, ("localhost", INFER), &[]).await;
        for part in message.chunks(3) {
            call.request
                .send_data(Bytes::copy_from_slice(part), false)
                .unwrap();
            tokio::task::yield_now().await;
        }
        call.request.send_data(Bytes::new(), true).unwrap();
        end(call).await
    });
    assert_eq!(ended.messages, [message.slice(5..)]);
    // A message that ends too early, and no message: said by whoever answers here.
    for body in [message.slice(..6), Bytes::new()] {
        let ended = ask_at(&server, ("localhost", INFER), &[], body);
        assert_eq!(ended.status(), "3", "{ended:?}");
    }
}

#[test]
fn failures_are_statuses_of_grpc() {
    let upstream = GrpcUpstream::start();
    let limits = Limits {
        request_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = start(limits, &backends(&[upstream.address]), 100);
    let cases: [(&str, &[(&str, &str)], &str, &str); 8] = [
        ("Fails", &[], "9", "what%20it%20says"),
        ("Hangs", &[], "4", "no answer within 300ms"),
        (
            "Hangs",
            &[("grpc-timeout", "50m")],
            "4",
            "no answer within 50ms",
        ),
        (
            "HangsAfterOne",
            &[("grpc-timeout", "100m")],
            "4",
            "no answer within 100ms",
        ),
        (
            "Echo",
            &[("grpc-timeout", "soon")],
            "3",
            "grpc-timeout must be",
        ),
        ("IsAbsent", &[], "12", "answered with the HTTP status 404"),
        ("HasNoStatus", &[], "13", "without a status"),
        ("Dies", &[], "14", "ended the connection without an answer"),
    ];
    for (method, headers, status, message) in cases {
        let path = format!("/any.Service/{method}");
        let ended = ask(&server, &path, headers, framed(b"x"));
        assert_eq!(ended.status(), status, "{method}: {ended:?}");
        assert!(ended.message().contains(message), "{method}: {ended:?}");
    }
    let broken = with(server.address, async |sender| {
        let place = (HOST, "/any.Service/BreaksAfterTwo");
        let mut call = begin(&sender, place, &[]).await;
        call.request.send_data(framed(b"one"), false).unwrap();
        let (_, mut body) = call.answer.await.unwrap().into_parts();
        let mut buffer = BytesMut::new();
        assert_eq!(next(&mut body, &mut buffer).await.unwrap(), "one");
        call.request.send_data(framed(b"two"), false).unwrap();
        assert!(next(&mut body, &mut buffer).await.is_none());
        body.trailers().await.unwrap().unwrap()
    });
    assert_eq!(broken["grpc-status"], "14");
    assert_eq!(broken["grpc-message"], "the process did not end its answer");
    assert_eq!(n_requests(&server, "other", "deadline_exceeded"), 3);
    assert_eq!(n_requests(&server, "other", "unavailable"), 2);
    let down = start(limits, &backends(&[nobody()]), 100);
    let ended = ask(&down, "/any.Service/Echo", &[], framed(b"x"));
    assert!(matches!(ended.status(), "14" | "4"), "{ended:?}");
}

#[test]
fn a_caller_that_goes_cancels_at_the_process_and_is_no_failure() {
    let mut upstream = GrpcUpstream::start();
    let server = started(&upstream);
    for method in ["Hangs", "HangsAfterOne"] {
        with(server.address, async |sender| {
            let path = format!("/any.Service/{method}");
            let mut call = begin(&sender, (HOST, &path), &[]).await;
            call.request.send_data(framed(b"x"), false).unwrap();
            upstream.heads.recv().await.unwrap();
            call.request.send_reset(Reason::CANCEL);
            assert_eq!(upstream.cancelled.recv().await, Some(Reason::CANCEL));
        });
    }
    // One whose time is over while its caller goes on sending.
    with(server.address, async |sender| {
        let headers = [("grpc-timeout", "500m")];
        let mut call = begin(&sender, (HOST, "/any.Service/Hangs"), &headers).await;
        call.request.send_data(framed(b"x"), false).unwrap();
        assert_eq!(upstream.cancelled.recv().await, Some(Reason::CANCEL));
    });
    // The connections, one for each event loop, are still good for the next.
    assert_eq!(ask(&server, "/a.B/Echo", &[], framed(b"x")).messages, ["x"]);
    assert!(upstream.n_connections() <= 2);
    // The process may hear of it a moment before it is counted.
    let in_flight = "coracle_requests_in_flight{model=\"sum\",namespace=\"n\",revision=\"r\"}";
    assert!((0..1_000).any(|_| metric(&server, in_flight) == 0));
}

#[test]
fn a_process_that_cannot_be_reached_is_passed_over_and_one_that_sleeps_is_woken() {
    let upstream = GrpcUpstream::start();
    let all = backends(&[nobody(), upstream.address, nobody()]);
    let server = start(Limits::default(), &all, 100);
    for _ in 0..6 {
        let ended = ask(&server, "/any.Service/Echo", &[], framed(b"x"));
        assert_eq!(ended.messages, ["x"]);
    }
    let none = backends(&[]);
    let (waking, address) = (std::sync::Arc::clone(&none), upstream.address);
    let server = start_waking(Limits::default(), &none, 100, move || {
        waking.set(&[address.into()]);
    });
    let ended = ask(&server, "/any.Service/Echo", &[], framed(b"x"));
    assert_eq!(ended.messages, ["x"]);
    // One that does not come within the caller's time.
    let asleep = start(Limits::default(), &backends(&[]), 100);
    let headers = [("grpc-timeout", "50m")];
    let ended = ask(&asleep, "/any.Service/Echo", &headers, framed(b"x"));
    assert_eq!(ended.status(), "4", "{ended:?}");
}

#[test]
fn the_split_with_what_is_served_here_is_exact_for_grpc() {
    let upstream = GrpcUpstream::start();
    let server = start(Limits::default(), &backends(&[upstream.address]), 20);
    let message = infer("sum");
    for host in [HOST, "localhost"] {
        // The model here has no such input, and says so.
        let n_passed_on = with(server.address, async |sender| {
            let mut n_passed_on = 0;
            for _ in 0..100 {
                let mut call = begin(&sender, (host, INFER), &[]).await;
                call.request.send_data(message.clone(), true).unwrap();
                let ended = end(call).await;
                let by_process = ended.head.contains_key("x-by");
                assert_eq!(ended.status(), if by_process { "0" } else { "3" });
                n_passed_on += u32::from(by_process);
            }
            n_passed_on
        });
        assert_eq!(n_passed_on, 20, "{host}");
    }
    for (host, by_process) in [
        ("latest-sum-predictor.n.example.com", true),
        ("prev-sum-predictor.n.example.com", false),
    ] {
        let ended = ask_at(&server, (host, INFER), &[], message.clone());
        assert_eq!(ended.head.contains_key("x-by"), by_process, "{host}");
    }
}

#[test]
fn a_process_without_http2_is_told_so() {
    let upstream = Upstream::start();
    let server = start(Limits::default(), &backends(&[upstream.address]), 100);
    let ended = ask(&server, "/any.Service/Echo", &[], framed(b"x"));
    assert_eq!(ended.status(), "12", "{ended:?}");
    assert!(
        ended
            .message()
            .contains("name its port for gRPC h2c or grpc")
    );
}

#[test]
fn each_protocol_has_its_port_and_http_goes_over_h2c_where_there_is_no_other() {
    let (http, mut grpc) = (Upstream::start(), GrpcUpstream::start());
    let all = std::sync::Arc::new(Backends::default());
    let server = start(Limits::default(), &all, 100);
    all.set(&[Endpoints {
        http: http.address,
        grpc: grpc.address,
        is_h2c: false,
    }]);
    let path = "/v1/models/sum:predict";
    assert_eq!(
        send_http(server.address, "POST", path, &[], b"x").status,
        203
    );
    assert_eq!(ask(&server, "/a.B/Echo", &[], framed(b"x")).messages, ["x"]);
    assert_eq!(grpc.heads.blocking_recv().unwrap().uri.path(), "/a.B/Echo");
    all.set(&[Endpoints {
        is_h2c: true,
        ..Endpoints::from(grpc.address)
    }]);
    let answer = send_http(server.address, "POST", path, &[("x-mine", "1")], b"x");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "x"),
        "{answer:?}"
    );
    let head = grpc.heads.blocking_recv().unwrap();
    assert_eq!(
        (head.uri.path(), &head.headers["x-mine"]),
        (path, &"1".parse().unwrap())
    );
    assert_eq!(head.uri.authority().unwrap(), "test");
}
