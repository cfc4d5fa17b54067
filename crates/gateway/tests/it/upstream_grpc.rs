//! A process that speaks gRPC, as the gateway sees one: a server of HTTP/2 that does what the method says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// A server; it ends with the test.
pub(crate) struct GrpcUpstream {
    pub(crate) address: SocketAddr,
    /// What it was asked: the head of each request.
    pub(crate) heads: mpsc::UnboundedReceiver<Parts>,
    /// Told of each request that its caller has cancelled.
    pub(crate) cancelled: mpsc::UnboundedReceiver<Reason>,
    n_connections: Arc<AtomicUsize>,
    _runtime: Runtime,
}

/// What a request is told by.
#[derive(Clone)]
struct Told {
    heads: mpsc::UnboundedSender<Parts>,
    cancelled: mpsc::UnboundedSender<Reason>,
}

impl GrpcUpstream {
    pub(crate) fn start() -> Self {
        Self::doing(None)
    }

    /// Returns one that does this, whatever the method says.
    pub(crate) fn always(method: &'static str) -> Self {
        Self::doing(Some(method))
    }

    fn doing(always: Option<&'static str>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, all_heads) = mpsc::unbounded_channel();
        let (cancelled, all_cancelled) = mpsc::unbounded_channel();
        let told = Told { heads, cancelled };
        let n_connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&n_connections);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let told = told.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let (head, body) = request.into_parts();
                        let named = head.uri.path().rsplit('/').next().unwrap();
                        let method = always.unwrap_or(named).to_owned();
                        told.heads.send(head).unwrap();
                        if method == "Dies" {
                            return;
                        }
                        tokio::spawn(answer(method, body, respond, told.clone()));
                    }
                });
            }
        });
        Self {
            address,
            heads: all_heads,
            cancelled: all_cancelled,
            n_connections,
            _runtime: runtime,
        }
    }

    /// How many connections have been made to it.
    pub(crate) fn n_connections(&self) -> usize {
        self.n_connections.load(Ordering::SeqCst)
    }
}

/// Returns a message with what stands before it.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.extend_from_slice(message);
    framed.freeze()
}

fn trailers(status: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", "what%20it%20says".parse().unwrap());
    trailers.insert("x-its-own", "1".parse().unwrap());
    trailers
}

fn begin(respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .header("x-by", "process");
    respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap()
}

/// Does what the method says.
async fn answer(
    method: String,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    told: Told,
) {
    match method.as_str() {
        // Until the caller goes.
        "Hangs" => {
            let reason = std::future::poll_fn(|ctx| respond.poll_reset(ctx)).await;
            told.cancelled.send(reason.unwrap()).unwrap();
        }
        "HangsAfterOne" => {
            let mut stream = begin(&mut respond);
            stream.send_data(framed(b"one"), false).unwrap();
            let reason = std::future::poll_fn(|ctx| stream.poll_reset(ctx)).await;
            told.cancelled.send(reason.unwrap()).unwrap();
        }
        "BreaksAfterTwo" => {
            let mut stream = begin(&mut respond);
            let one = body.data().await.unwrap().unwrap();
            stream.send_data(one, false).unwrap();
            // So that the first message is not overtaken.
            body.data().await.unwrap().unwrap();
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        "HasNoStatus" => {
            begin(&mut respond).send_data(framed(b"one"), true).unwrap();
        }
        "IsAbsent" => {
            let head = Response::builder().status(404).body(()).unwrap();
            respond.send_response(head, true).unwrap();
        }
        "Fails" => {
            let mut head = Response::builder().header("content-type", "application/grpc");
            head.headers_mut().unwrap().extend(trailers("9"));
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        }
        // A path of HTTP.
        "sum:predict" => {
            let data = body.data().await.unwrap().unwrap();
            let head = Response::builder().header("content-length", data.len());
            let mut stream = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            stream.send_data(data, true).unwrap();
        }
        // Every part of the request as it comes, then the trailers.
        _ => {
            let mut stream = begin(&mut respond);
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                stream.send_data(data, false).unwrap();
            }
            stream.send_trailers(trailers("0")).unwrap();
        }
    }
}
