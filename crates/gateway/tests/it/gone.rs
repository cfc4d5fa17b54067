//! Clients that go before they are answered: their calls do not run, and the others' do.

use std::io::Read as _;
use std::net::{Shutdown, TcpStream};

use coracle_gateway::Limits;
use coracle_protocol::grpc::frame;
use http_body_util::BodyExt as _;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::client::{connect, send, write_request};
use crate::fixture::{Running, config, start};
use crate::grpc::{request, row};

const PREDICT: &str = "/v1/models/sum:predict";

/// So many rows that the call goes to the compute pool; the first one is `row`.
fn many(row: &str) -> String {
    format!("{{\"instances\": [{row}{}]}}", ", [1, 2]".repeat(99))
}

/// Runs `leave` while as many calls run as can at a time; what it sent must not run once they have ended.
fn while_all_are_busy(leave: impl FnOnce(&Running)) {
    let server = start(config(Limits::default()));
    let address = server.address;
    let held = [(); 2].map(|()| {
        let body = many("[1000, 0]");
        let call = std::thread::spawn(move || send(address, "POST", PREDICT, &[], body.as_bytes()));
        server.entered.recv().unwrap();
        call
    });
    leave(&server);
    for _ in 0..2 {
        server.gate.send(()).unwrap();
    }
    for call in held {
        assert_eq!(call.join().unwrap().status, 200);
    }
    // Queued after it, and answered: it would have had its turn by now.
    let later = many("[1, 2]");
    let answer = send(address, "POST", PREDICT, &[], later.as_bytes());
    assert_eq!(answer.status, 200);
    assert!(
        server.entered.try_recv().is_err(),
        "the call of a client that has gone ran"
    );
}

/// Sends a call of a hundred rows over gRPC and cancels it; `meanwhile` waits until it is where it is to be then.
pub(crate) fn cancel_over_grpc(
    server: &Running,
    headers: &[(&str, &str)],
    meanwhile: impl FnOnce(),
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let mut message = row("sum", [0.0, 0.0]);
        message.inputs[0].shape = vec![100, 2];
        let numbers = [1000.0, 0.0].repeat(100);
        message.raw_input_contents =
            vec![numbers.iter().flat_map(|n: &f64| n.to_le_bytes()).collect()];
        let infer = "/inference.GRPCInferenceService/ModelInfer";
        let waiting = sender.send_request(request(infer, headers, frame(&message)));
        // The connection's messages are read in order: each answer tells that what was sent before it was read.
        let mut ready = async || {
            let path = "/inference.GRPCInferenceService/ServerReady";
            let empty = request(path, &[], vec![0; 5]);
            let response = sender.send_request(empty).await.unwrap();
            assert_eq!(response.status(), 200);
            drop(response.into_body().collect().await.unwrap());
        };
        tokio::select! {
            biased;
            _answer = waiting => panic!("answered before it was cancelled"),
            () = ready() => {}
        }
        meanwhile();
        ready().await;
        connection.abort();
    });
}

/// Leaves while the server answers, which says nothing more.
pub(crate) fn leave(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

/// Waits until the server has let go of those that left: a socket is closed a moment before its call is. The event loops get connections in turn, and each
/// one's answer tells that it has done what it was at.
pub(crate) fn wait_for_loops(server: &Running) {
    for _ in 0..2 {
        let answer = send(server.address, "GET", "/readyz", &[], b"");
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn calls_over_http_of_clients_that_have_gone_do_not_run() {
    while_all_are_busy(|server| {
        // Sent whole, and in chunks: two readers of HTTP/1.1.
        let body = many("[1000, 0]");
        let mut whole = connect(server.address);
        write_request(&mut whole, "POST", PREDICT, &[], body.as_bytes());
        let mut chunked = connect(server.address);
        let head =
            format!("POST {PREDICT} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
        let message = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        std::io::Write::write_all(&mut chunked, message.as_bytes()).unwrap();
        leave(whole);
        leave(chunked);
        wait_for_loops(server);
    });
}

#[test]
fn cancelled_calls_over_grpc_do_not_run() {
    while_all_are_busy(|server| cancel_over_grpc(server, &[], || ()));
}
