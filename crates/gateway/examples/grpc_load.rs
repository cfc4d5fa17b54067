//! Load for `cargo xtask bench wire`: one-row predictions over gRPC, each connection with one request at a time.
//!
//! `grpc_load ADDRESS CONNECTIONS SECONDS`; prints `REQUESTS_PER_S P50_US P99_US ANSWER_BYTES`. Any answer without status 0 ends it.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use coracle_protocol::grpc::inference::{InferInputTensor, ModelInferRequest};
use coracle_protocol::grpc::{PREFIX_BYTES, frame};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::Instant;

type Failure = Box<dyn Error + Send + Sync>;

#[expect(clippy::print_stdout, reason = "this is its result")]
fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, n_connections, seconds] = arguments.as_slice() else {
        return Err("usage: grpc_load ADDRESS CONNECTIONS SECONDS".into());
    };
    let address: SocketAddr = address.parse()?;
    let n_connections: usize = n_connections.parse()?;
    let time = Duration::from_secs(seconds.parse()?);
    // As wrk in the other benchmark: two threads for many connections, one for one.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(n_connections.min(2))
        .enable_all()
        .build()?;
    let (mut latencies, n_bytes) = runtime.block_on(async {
        let clients = (0..n_connections).map(|_| tokio::spawn(drive(address, time)));
        let (mut all, mut answer_bytes) = (Vec::new(), 0);
        for client in clients.collect::<Vec<_>>() {
            let (latencies, n_bytes) = client.await??;
            all.extend(latencies);
            answer_bytes = n_bytes;
        }
        Ok::<_, Failure>((all, answer_bytes))
    })?;
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() * share / 100).min(latencies.len() - 1)];
    let per_second = latencies.len() as f64 / time.as_secs_f64();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{per_second:.1} {:.1} {:.1} {n_bytes}",
        micros(at(50)),
        micros(at(99))
    );
    Ok(())
}

fn row() -> Bytes {
    let numbers = [5.1_f64, 3.5, 1.4, 0.2];
    let request = ModelInferRequest {
        model_name: "iris".to_owned(),
        inputs: vec![InferInputTensor {
            name: "X".to_owned(),
            datatype: "FP64".to_owned(),
            shape: vec![1, 4],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![numbers.map(f64::to_le_bytes).concat().into()],
        ..ModelInferRequest::default()
    };
    Bytes::from(frame(&request))
}

/// Asks again and again on one connection; returns how long each answer took, and how long its message was.
async fn drive(address: SocketAddr, time: Duration) -> Result<(Vec<Duration>, usize), Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await?;
    tokio::spawn(connection);
    let (row, mut latencies, mut n_bytes) = (row(), Vec::new(), 0);
    let end = Instant::now() + time;
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok((latencies, n_bytes));
        }
        let request = Request::post(format!(
            "http://{address}/inference.GRPCInferenceService/ModelInfer"
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(row.clone()))?;
        let body = sender.send_request(request).await?.into_body();
        let body = body.collect().await?;
        let status = body
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status"));
        let is_well = status.is_some_and(|status| status == "0");
        let message = body.to_bytes();
        if !is_well || message.len() < PREFIX_BYTES {
            return Err("an answer without status 0".into());
        }
        n_bytes = message.len() - PREFIX_BYTES;
        latencies.push(started.elapsed());
    }
}
