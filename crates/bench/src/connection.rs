//! A connection to the server, and one request at a time over it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http1::Http1;
use crate::http2::Http2;
use crate::payload::Payload;
use crate::record::{Failure, FailureKind};
use crate::tls::{TlsOptions, client_config};
use crate::{BenchError, Target};

/// What is needed to connect; made once, used by all threads.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    addresses: Arc<[SocketAddr]>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    is_http2: bool,
    timeout: Duration,
}

/// What of an answer's body is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// That of failures, for their message.
    Failures,
    /// Every body.
    All,
}

/// An answer that is a success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The body, if it was to be kept.
    pub(crate) body: Vec<u8>,
    /// How many bytes came, heads and all.
    pub(crate) n_bytes: u64,
}

impl Connector {
    /// Looks the server up.
    pub(crate) fn new(
        target: &Target,
        tls: &TlsOptions,
        timeout: Duration,
    ) -> Result<Self, BenchError> {
        use std::net::ToSocketAddrs as _;
        let unreachable = |reason: String| BenchError::Unreachable {
            url: target.base_url(),
            reason,
        };
        let addresses: Arc<[SocketAddr]> = (target.host.as_str(), target.port)
            .to_socket_addrs()
            .map_err(|error| unreachable(error.to_string()))?
            .collect();
        if addresses.is_empty() {
            return Err(unreachable("its name has no address".to_owned()));
        }
        let is_http2 = target.protocol().is_grpc();
        let tls = if target.is_tls {
            let name = ServerName::try_from(target.host.clone())
                .map_err(|error| BenchError::Tls(format!("{}: {error}", target.host)))?;
            Some((client_config(tls, is_http2)?, name))
        } else {
            None
        };
        Ok(Self {
            addresses,
            tls,
            is_http2,
            timeout,
        })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        match tokio::time::timeout(self.timeout, self.open()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Failure::new(FailureKind::Connect, error)),
            Err(_elapsed) => Err(Failure::new(FailureKind::Connect, "no connection in time")),
        }
    }

    async fn open(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(&*self.addresses).await?;
        stream.set_nodelay(true)?;
        let stream = match &self.tls {
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                Stream::Tls(Box::new(connector.connect(name.clone(), stream).await?))
            }
            None => Stream::Plain(stream),
        };
        if self.is_http2 {
            Http2::start(stream).await.map(Connection::Http2)
        } else {
            Ok(Connection::Http1(Http1::new(stream)))
        }
    }

    /// Returns how long a request may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) enum Connection {
    Http1(Http1),
    Http2(Http2),
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// With an answer; whether the connection can be used again.
    Answered(Result<Answer, Failure>, bool),
    /// The connection ended before any byte of an answer came: it may have been idle for too long.
    Stale(Failure),
}

impl Connection {
    /// Sends `payload` and reads the answer. After a failure of the connection it must not be used again.
    pub(crate) async fn exchange(&mut self, payload: &Payload, keep: Keep) -> Exchange {
        match (self, payload) {
            (Self::Http1(http1), Payload::Http1(request)) => http1.exchange(request, keep).await,
            (Self::Http2(http2), Payload::Http2 { head, body }) => {
                http2.exchange(head, Bytes::clone(body), keep).await
            }
            _ => Exchange::Answered(
                Err(Failure::new(
                    FailureKind::Answer,
                    "the request is for another kind of connection",
                )),
                false,
            ),
        }
    }
}

/// Bytes to and from the server, encrypted or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(ctx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(ctx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(ctx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(ctx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(ctx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(ctx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(ctx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(ctx),
        }
    }
}
