//! A bare HTTP echo server: the floor that `cargo xtask bench http` compares with.
//!
//! Reads each request's body and answers a fixed body of a given size. The same HTTP library, runtime and
//! spread of connections over event loops as the gateway, and nothing else: no routing, limits, ids or log.
//!
//! `echo PORT [--bytes N] [--workers N]`

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
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
    let body = Bytes::from(vec![b'x'; option("--bytes").unwrap_or(19)]);

    let mut queues = Vec::new();
    for _ in 0..n_workers {
        let (queue, connections) = mpsc::channel::<std::net::TcpStream>(1_024);
        let body = body.clone();
        std::thread::spawn(move || work(connections, body));
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

fn work(mut connections: mpsc::Receiver<std::net::TcpStream>, body: Bytes) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be started");
    LocalSet::new().block_on(&runtime, async move {
        while let Some(stream) = connections.recv().await {
            let stream = TcpStream::from_std(stream).expect("a socket of this process");
            let body = body.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let body = body.clone();
                async move {
                    let received = request.into_body().collect().await;
                    drop(received);
                    Ok::<_, Infallible>(Response::new(Full::new(body)))
                }
            });
            tokio::task::spawn_local(async move {
                // A connection that ends early is the client's affair.
                drop(
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
}
