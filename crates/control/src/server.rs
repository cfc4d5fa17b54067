//! The API's listener: HTTP/1.1 on one address, under TLS where callers need credentials.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::failure::Failure;
use crate::rest::{Answer, Api, ApiReply, ApiRequest, Credentials, FollowedLog, Watch};

/// The largest body of a request.
const BODY_MAX: usize = 3 * 1024 * 1024;
/// Answers from this size on are compressed for clients that take it.
const GZIP_FROM: usize = 128 * 1024;
/// How long a connection may take to send a request's headers.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// How long a client may take to set TLS up.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Events that may wait for a slow watcher.
const WATCH_QUEUE: usize = 64;

/// The API on an address.
#[derive(Debug)]
pub struct ApiServer {
    listener: std::net::TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

/// TLS for the listener.
pub type Tls = Arc<tokio_rustls::rustls::ServerConfig>;

impl ApiServer {
    /// Takes `address`.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            tls: None,
        })
    }

    /// Returns the listener with TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Returns the address, with the port that the system chose if it was asked to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `api` until the future is dropped.
    ///
    /// # Errors
    /// If the listener cannot be used.
    pub async fn serve(self, api: Arc<Api>) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let tls = self.tls.map(TlsAcceptor::from);
        loop {
            match listener.accept().await {
                Ok((stream, _peer)) => {
                    let (api, tls) = (Arc::clone(&api), tls.clone());
                    drop(tokio::spawn(accept(stream, tls, api)))
                }
                // Out of file descriptors, or the one connection is gone; the next may do.
                Err(_error) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    }
}

async fn accept(stream: TcpStream, tls: Option<TlsAcceptor>, api: Arc<Api>) {
    drop(stream.set_nodelay(true));
    let Some(tls) = tls else {
        return serve_connection(stream, None, api).await;
    };
    // A handshake that fails is the client's affair: it is told by TLS.
    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        let (_, connection) = stream.get_ref();
        let certificates = connection.peer_certificates().unwrap_or_default();
        let certificate = certificates
            .first()
            .map(|first| Bytes::copy_from_slice(first));
        serve_connection(stream, certificate, api).await;
    }
}

/// Answers the requests of a connection; `certificate` is the client's, which TLS has verified.
async fn serve_connection<S>(stream: S, certificate: Option<Bytes>, api: Arc<Api>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| handle(Arc::clone(&api), certificate.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Errors here are the client's.
    drop(connection.await);
}

type ReplyBody = BoxBody<Bytes, Infallible>;

async fn handle(
    api: Arc<Api>,
    certificate: Option<Bytes>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    let (head, body) = request.into_parts();
    let takes_gzip = text(&head.headers, &header::ACCEPT_ENCODING).contains("gzip");
    let is_head = head.method == hyper::Method::HEAD;
    if let Some(why) = from_elsewhere(&head.headers, api.needs_credentials()) {
        return Ok(respond(
            ApiReply::failure(&Failure::forbidden(why)),
            false,
            is_head,
        ));
    }
    let credentials = Credentials {
        authorization: &text(&head.headers, &header::AUTHORIZATION),
        certificate: certificate.as_deref(),
    };
    let user = match api.identify(credentials) {
        Ok(user) => user,
        Err(failure) => return Ok(respond(ApiReply::failure(&failure), false, is_head)),
    };
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_too_large_or_cut) => {
            let reply = ApiReply::failure(&Failure::too_large(BODY_MAX));
            return Ok(respond(reply, false, false));
        }
    };
    let request = ApiRequest {
        user,
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        accept: text(&head.headers, &header::ACCEPT),
        content_type: text(&head.headers, &header::CONTENT_TYPE),
        user_agent: text(&head.headers, &header::USER_AGENT),
        if_none_match: text(&head.headers, &header::IF_NONE_MATCH),
        body,
    };
    // Writes wait for the disk, which must not hold up other connections.
    let answer = tokio::task::spawn_blocking(move || api.answer(&request)).await;
    Ok(match answer {
        Ok(Answer::Reply(reply)) => respond(reply, takes_gzip, is_head),
        Ok(Answer::Watch(watch)) => stream(Stream::Watch(watch), "application/json"),
        Ok(Answer::Log(log)) => stream(Stream::Log(log), "text/plain; charset=utf-8"),
        Err(_panicked) => {
            let failure = Failure::internal("the request failed; this is a defect of the server");
            respond(ApiReply::failure(&failure), false, is_head)
        }
    })
}

/// Tells why a request is refused whoever sends it: callers without credentials are trusted for being here,
/// and a web page must not borrow that trust by way of its reader's browser.
fn from_elsewhere(headers: &HeaderMap, needs_credentials: bool) -> Option<&'static str> {
    if headers.contains_key(header::ORIGIN) {
        return Some("requests of web pages are not answered");
    }
    if headers.contains_key("impersonate-user") {
        return Some("acting as another user is not supported; use that user's credentials");
    }
    if needs_credentials {
        return None;
    }
    let host = text(headers, &header::HOST);
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host.as_str(),
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_here =
        name.is_empty() || name == "localhost" || name.parse::<std::net::IpAddr>().is_ok();
    (!is_here)
        .then_some("the request names a host other than this one; use localhost or an address")
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let values: Vec<&str> = values.collect();
    values.join(",")
}

fn respond(reply: ApiReply, takes_gzip: bool, is_head: bool) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::default());
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(reply.content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    if let Some(etag) = reply.etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        headers.insert(header::ETAG, etag);
    }
    for warning in &reply.warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{quoted}\"")) {
            headers.append(header::WARNING, value);
        }
    }
    let mut body = reply.body;
    if takes_gzip
        && body.len() >= GZIP_FROM
        && let Ok(small) = compress(&body)
    {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        body = small;
    }
    if is_head {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        body.clear();
    }
    *response.body_mut() = Full::new(Bytes::from(body)).boxed();
    response
}

fn compress(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// What is answered bit by bit.
enum Stream {
    Watch(Box<Watch>),
    Log(Box<FollowedLog>),
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Watch(watch) => watch.next().await,
            Self::Log(log) => log.next().await,
        }
    }
}

/// Answers with what comes, as it comes.
fn stream(mut source: Stream, content_type: &'static str) -> Response<ReplyBody> {
    let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                event = source.next() => {
                    let Some(event) = event else { break };
                    // A watcher that does not read holds up its own watch only.
                    if sender.send(event).await.is_err() {
                        break;
                    }
                }
                () = sender.closed() => break,
            }
        }
    });
    let mut response = Response::new(Events(receiver).boxed());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// A body of events, each sent at once.
struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(ctx)
            .map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_pages_are_turned_away() {
        let cases = [
            (header::HOST, "127.0.0.1:6443", true),
            (header::HOST, "localhost:6443", true),
            (header::HOST, "[::1]:6443", true),
            (header::HOST, "evil.example:6443", false),
            (header::ORIGIN, "http://evil.example", false),
            (header::USER_AGENT, "kubectl", true),
        ];
        for (name, value, is_answered) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(
                from_elsewhere(&headers, false).is_none(),
                is_answered,
                "{value}"
            );
        }
    }
}
