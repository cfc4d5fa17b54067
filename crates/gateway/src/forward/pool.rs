//! Connections to processes, kept for the next request; one pool for each event loop.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Fault;
use super::body::{BodyFault, BoundedBody};

/// How long a connection is kept without a request: less than any server keeps its end (uvicorn 5 s, gunicorn 2 s), lest
/// a request meet the end that is being closed.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// The most connections that are kept for one process.
const IDLE_PER_PROCESS_MAX: usize = 64;

struct Idle {
    sender: SendRequest<BoundedBody>,
    since: Instant,
}

/// The connections of one event loop.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    idle: Rc<RefCell<HashMap<SocketAddr, Vec<Idle>>>>,
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
        address: SocketAddr,
        head: Request<()>,
        body: &mut Option<BoundedBody>,
    ) -> Result<Response<Incoming>, Fault> {
        let mut sender = match self.take(address) {
            Some(sender) => sender,
            None => connect(address).await?,
        };
        let Some(taken) = body.take() else {
            return Err(Fault::Malformed("its body was used up".to_owned()));
        };
        let (parts, ()) = head.into_parts();
        let mut request = Request::from_parts(parts, taken);
        loop {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(address, sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // The connection had been closed; nothing was sent, so another may take it.
                    Some(unsent) => {
                        sender = match connect(address).await {
                            Ok(sender) => sender,
                            Err(fault) => {
                                *body = Some(unsent.into_body());
                                return Err(fault);
                            }
                        };
                        request = unsent;
                    }
                    None => return Err(broken(&error.into_error())),
                },
            }
        }
    }

    fn take(&self, address: SocketAddr) -> Option<SendRequest<BoundedBody>> {
        let mut idle = self.idle.borrow_mut();
        let of_process = idle.get_mut(&address)?;
        while let Some(Idle { sender, since }) = of_process.pop() {
            if sender.is_ready() && since.elapsed() < IDLE_MAX {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection for the next request once its answer has been read to the end.
    fn keep(&self, address: SocketAddr, mut sender: SendRequest<BoundedBody>) {
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

async fn connect(address: SocketAddr) -> Result<SendRequest<BoundedBody>, Fault> {
    let not_connected = |error: &dyn std::error::Error| Fault::NotConnected(error.to_string());
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| not_connected(&error))?;
    // Small requests must not wait for the acknowledgement of earlier ones.
    drop(stream.set_nodelay(true));
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| not_connected(&error))?;
    tokio::task::spawn_local(async move {
        // How it ended is told to whoever waits for an answer.
        drop(connection.await);
    });
    Ok(sender)
}

/// Tells why an answer did not come.
fn broken(error: &hyper::Error) -> Fault {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(fault) = cause.downcast_ref::<BodyFault>() {
            return Fault::Malformed(fault.to_string());
        }
        source = cause.source();
    }
    Fault::Broken(error.to_string())
}
