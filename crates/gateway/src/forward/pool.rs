//! Connections to processes, kept for the next request; one pool for each event loop. In HTTP/1.1 a connection has one
//! request at a time; in HTTP/2 all requests to one place share one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use h2::Reason;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Fault;
use super::body::{BodyFault, BoundedBody};
use crate::transport::LocalTasks;

/// How long a connection is kept without a request: less than any server keeps its end (uvicorn 5 s, gunicorn 2 s), lest
/// a request meet the end that is being closed.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// The most connections that are kept for one process.
const IDLE_PER_PROCESS_MAX: usize = 64;

/// Where a request is sent, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// Whether it is asked in HTTP/2, without TLS and without asking for it first.
    pub(super) is_http2: bool,
}

struct Idle {
    sender: http1::SendRequest<BoundedBody>,
    since: Instant,
}

/// The connections of one event loop.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    idle: Rc<RefCell<HashMap<SocketAddr, Vec<Idle>>>>,
    shared: Rc<RefCell<HashMap<SocketAddr, http2::SendRequest<BoundedBody>>>>,
}

/// Sends requests on a connection.
enum Sender {
    Http1(http1::SendRequest<BoundedBody>),
    Http2(http2::SendRequest<BoundedBody>),
}

impl Sender {
    async fn try_send(
        &mut self,
        request: Request<BoundedBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<BoundedBody>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// Sends a request on a connection that is there or on a new one; `body` is taken only once there is one.
    pub(super) async fn send(
        &self,
        place: Place,
        head: Request<()>,
        body: &mut Option<BoundedBody>,
    ) -> Result<Response<Incoming>, Fault> {
        let mut sender = match self.take(place) {
            Some(sender) => sender,
            None => self.connect(place).await?,
        };
        let Some(taken) = body.take() else {
            return Err(Fault::Malformed("its body was used up".to_owned()));
        };
        let (parts, ()) = head.into_parts();
        let mut request = Request::from_parts(parts, taken);
        loop {
            match sender.try_send(request).await {
                Ok(response) => {
                    if let Sender::Http1(sender) = sender {
                        self.keep(place.address, sender);
                    }
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // The connection had been closed; nothing was sent, so another may take it.
                    Some(unsent) => {
                        sender = match self.connect(place).await {
                            Ok(sender) => sender,
                            Err(fault) => {
                                *body = Some(unsent.into_body());
                                return Err(fault);
                            }
                        };
                        request = unsent;
                    }
                    None => return Err(broken(&error.into_error(), place)),
                },
            }
        }
    }

    fn take(&self, place: Place) -> Option<Sender> {
        let address = place.address;
        if place.is_http2 {
            let shared = self.shared.borrow();
            let open = shared.get(&address).filter(|sender| !sender.is_closed());
            return open.cloned().map(Sender::Http2);
        }
        let mut idle = self.idle.borrow_mut();
        let of_process = idle.get_mut(&address)?;
        while let Some(Idle { sender, since }) = of_process.pop() {
            if sender.is_ready() && since.elapsed() < IDLE_MAX {
                return Some(Sender::Http1(sender));
            }
        }
        None
    }

    /// Keeps a connection for the next request once its answer has been read to the end.
    fn keep(&self, address: SocketAddr, mut sender: http1::SendRequest<BoundedBody>) {
        let pool = Rc::clone(&self.idle);
        tokio::task::spawn_local(async move {
            if sender.ready().await.is_err() {
                return;
            }
            let mut idle = pool.borrow_mut();
            // Those of processes that are gone go with the others that nobody needed.
            idle.retain(|_, of_process| {
                of_process.retain(|one| !one.sender.is_closed() && one.since.elapsed() < IDLE_MAX);
                !of_process.is_empty()
            });
            let of_process = idle.entry(address).or_default();
            if of_process.len() < IDLE_PER_PROCESS_MAX {
                let since = Instant::now();
                of_process.push(Idle { sender, since });
            }
        });
    }
}

impl Pool {
    async fn connect(&self, place: Place) -> Result<Sender, Fault> {
        let not_connected = |error: &dyn std::error::Error| Fault::NotConnected(error.to_string());
        let stream = TcpStream::connect(place.address)
            .await
            .map_err(|error| not_connected(&error))?;
        // Small requests must not wait for the acknowledgement of earlier ones.
        drop(stream.set_nodelay(true));
        let stream = TokioIo::new(stream);
        // How a connection ended is told to whoever waits for an answer.
        if !place.is_http2 {
            let (sender, connection) = http1::handshake(stream)
                .await
                .map_err(|error| not_connected(&error))?;
            tokio::task::spawn_local(async move { drop(connection.await) });
            return Ok(Sender::Http1(sender));
        }
        let (sender, connection) = http2::handshake(LocalTasks, stream)
            .await
            .map_err(|error| not_connected(&error))?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        let mut shared = self.shared.borrow_mut();
        // Those of processes that are gone go.
        shared.retain(|_, sender| !sender.is_closed());
        shared.insert(place.address, sender.clone());
        Ok(Sender::Http2(sender))
    }
}

/// Tells why an answer did not come.
fn broken(error: &hyper::Error, place: Place) -> Fault {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>()
            && error.is_library()
            && matches!(
                error.reason(),
                Some(Reason::FRAME_SIZE_ERROR | Reason::PROTOCOL_ERROR)
            )
        {
            // What came back was no HTTP/2.
            return Fault::NotHttp2(place.address.port());
        }
        if let Some(fault) = cause.downcast_ref::<BodyFault>() {
            return Fault::Malformed(fault.to_string());
        }
        source = cause.source();
    }
    Fault::Broken(error.to_string())
}
