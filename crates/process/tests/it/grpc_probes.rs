//! Probes that ask `grpc.health.v1.Health/Check`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use coracle_serving::{ProbeAction, ProcessPhase, ProcessSpec};
use http::{HeaderMap, Response};
use tokio::net::TcpListener;

use crate::fixture::{Fixture, is_ready, probe, server, sh, until};

/// A HealthCheckRequest for the service `known`, and the answers SERVING and NOT_SERVING, as protobuf has them.
const KNOWN: &[u8] = b"\0\0\0\0\x07\x0a\x05known";
const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
const NOT_SERVING: &[u8] = b"\0\0\0\0\x02\x08\x02";

/// Starts a gRPC server with the health service; returns its port. It is well while `is_well`.
async fn health_server(is_well: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let is_well = Arc::clone(&is_well);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let is_well = is_well.load(Ordering::SeqCst);
                    tokio::spawn(async move {
                        let (head, mut body) = request.into_parts();
                        let asked = body.data().await.unwrap().unwrap();
                        let mut trailers = HeaderMap::new();
                        let is_check = head.uri.path() == "/grpc.health.v1.Health/Check"
                            && head.headers["content-type"] == "application/grpc"
                            && head.headers["te"] == "trailers";
                        let (status, answer) = match (is_check, &asked[..], is_well) {
                            (true, KNOWN, true) => ("0", SERVING),
                            (true, KNOWN, false) => ("0", NOT_SERVING),
                            (true, _, _) => ("5", &[][..]),
                            (false, ..) => ("3", &[][..]),
                        };
                        trailers.insert("grpc-status", status.parse().unwrap());
                        let head = Response::builder().header("content-type", "application/grpc");
                        let mut stream = respond
                            .send_response(head.body(()).unwrap(), false)
                            .unwrap();
                        stream.send_data(Bytes::from_static(answer), false).unwrap();
                        stream.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    port
}

/// A program beside which `port` is asked.
fn asking(port: u16, service: &str) -> ProcessSpec {
    let service = service.to_owned();
    ProcessSpec {
        readiness: Some(probe(ProbeAction::Grpc { port, service })),
        ..sh("sleep 1000")
    }
}

fn why(phase: &ProcessPhase) -> &str {
    match phase {
        ProcessPhase::Starting { why } | ProcessPhase::Unready { why } => why,
        _ => "",
    }
}

#[tokio::test]
async fn a_replica_is_ready_while_its_service_is_serving() {
    let fixture = Fixture::new();
    let is_well = Arc::new(AtomicBool::new(false));
    let port = health_server(Arc::clone(&is_well)).await;
    let replica = fixture.start(asking(port, "known"));
    let mut states = replica.subscribe();
    let not_serving = "readiness probe: grpc health of \"known\": NOT_SERVING";
    until(&mut states, |state| why(&state.phase) == not_serving).await;
    is_well.store(true, Ordering::SeqCst);
    until(&mut states, is_ready).await;
    is_well.store(false, Ordering::SeqCst);
    let state = until(&mut states, |state| !is_ready(state)).await;
    assert_eq!(why(&state.phase), not_serving);
    assert_eq!(state.n_restarts, 0);
    replica.stopped().await;
}

#[tokio::test]
async fn one_that_is_not_ready_in_time_is_overdue_until_it_is() {
    let fixture = Fixture::new();
    let is_well = Arc::new(AtomicBool::new(false));
    let port = health_server(Arc::clone(&is_well)).await;
    let spec = ProcessSpec {
        progress_seconds: Some(3),
        ..asking(port, "known")
    };
    let replica = fixture.start(spec);
    let mut states = replica.subscribe();
    let overdue = |phase: &ProcessPhase| matches!(phase, ProcessPhase::Overdue { why } if why == "not ready within 3 s: readiness probe: grpc health of \"known\": NOT_SERVING");
    until(&mut states, |state| overdue(&state.phase)).await;
    is_well.store(true, Ordering::SeqCst);
    let state = until(&mut states, is_ready).await;
    assert_eq!(state.n_restarts, 0);
    // Once it has been ready, it is never overdue again.
    is_well.store(false, Ordering::SeqCst);
    let state = until(&mut states, |state| !is_ready(state)).await;
    assert!(matches!(state.phase, ProcessPhase::Unready { .. }));
    replica.stopped().await;
}

#[tokio::test]
async fn what_is_no_health_service_says_so() {
    let fixture = Fixture::new();
    let port = health_server(Arc::new(AtomicBool::new(true))).await;
    let replica = fixture.start(asking(port, ""));
    let unknown = "readiness probe: grpc health: the server does not know the service";
    until(&mut replica.subscribe(), |state| {
        why(&state.phase) == unknown
    })
    .await;
    replica.stopped().await;
    // A server of HTTP/1.1.
    let service = String::new();
    let spec = ProcessSpec {
        readiness: Some(probe(ProbeAction::Grpc {
            port: 8080,
            service,
        })),
        ..server("")
    };
    let replica = fixture.start(spec);
    let no_http2 =
        "readiness probe: grpc health: what listens there speaks no HTTP/2, and so no gRPC";
    until(&mut replica.subscribe(), |state| {
        why(&state.phase) == no_http2
    })
    .await;
    replica.stopped().await;
}
