//! A bare HTTP echo server: the floor that `cargo xtask bench http` compares with.
//!
//! Reads each request's body and answers a fixed body of a given size. The same HTTP library, runtime and
//! spread of connections over event loops as the gateway, and nothing else: no routing, limits, ids or log.
//!
//! With `--grpc` it is one of gRPC: HTTP/2, and a status in trailers after a message of the given size.
//!
//! `echo PORT [--bytes N] [--workers N] [--grpc]`

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        arguments.get(position + 1)?.parse::<usize>().ok()
    };
    let port = arguments
        .first()
        .and_then(|port| port.parse().ok())
        .unwrap_or(0);
    let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let n_workers = option("--workers").unwrap_or(n_cores);
    let mut body = vec![b'x'; option("--bytes").unwrap_or(19)];
    let is_grpc = arguments.iter().any(|argument| argument == "--grpc");
    if is_grpc {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let prefix = [&[0], &length.to_be_bytes()[..]].concat();
        body.splice(0..0, prefix);
    }
    let body = Bytes::from(body);

    let mut queues = Vec::new();
    for _ in 0..n_workers {
        let (queue, connections) = mpsc::channel::<std::net::TcpStream>(1_024);
        let body = body.clone();
        std::thread::spawn(move || work(connections, body, is_grpc));
        queues.push(queue);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        eprintln!("listening on http://{}", listener.local_addr()?);
        for queue in queues.iter().cycle() {
            let (stream, _peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            if queue.send(stream.into_std()?).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}

fn work(mut connections: mpsc::Receiver<std::net::TcpStream>, body: Bytes, is_grpc: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be started");
    LocalSet::new().block_on(&runtime, async move {
        while let Some(stream) = connections.recv().await {
            let stream = TcpStream::from_std(stream).expect("a socket of this process");
            let stream = TokioIo::new(stream);
            let body = body.clone();
            // A connection that ends early is the client's affair.
            if is_grpc {
                let service = service_fn(move |request| message(request, body.clone()));
                let connection = http2::Builder::new(LocalTasks).serve_connection(stream, service);
                tokio::task::spawn_local(async move { drop(connection.await) });
            } else {
                let service = service_fn(move |request| whole(request, body.clone()));
                let connection = http1::Builder::new().serve_connection(stream, service);
                tokio::task::spawn_local(async move { drop(connection.await) });
            }
        }
    });
}

async fn whole(
    request: Request<Incoming>,
    body: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    drop(request.into_body().collect().await);
    Ok(Response::new(Full::new(body)))
}

async fn message(
    request: Request<Incoming>,
    body: Bytes,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    drop(request.into_body().collect().await);
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    let mut response = Response::new(Full::new(body).with_trailers(trailers));
    let content = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, content);
    Ok(response)
}

/// Runs the tasks of HTTP/2 connections on the event loop that they belong to.
#[derive(Clone, Copy, Debug)]
struct LocalTasks;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
