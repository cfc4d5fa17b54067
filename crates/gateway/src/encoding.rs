//! Compressed bodies over HTTP, both ways.

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::RequestError;
use coracle_protocol::compression::{self, Encoding};
use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};

use crate::connection::Handler;
use crate::respond::Reply;

/// Bodies up to this size are expanded and compressed on the event loop.
pub(crate) const EVENT_LOOP_BYTES_MAX: usize = 16 * 1024;
/// Answers below this size are not worth compressing.
const COMPRESSED_BYTES_MIN: usize = 1_024;

/// Returns how a request's body is compressed.
pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Encoding>, Reply> {
    let Some(value) = headers.get(CONTENT_ENCODING) else {
        return Ok(None);
    };
    let name = value.to_str().unwrap_or_default().trim();
    if name.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    let encoding = Encoding::from_name(name).map(Some);
    encoding.ok_or_else(|| {
        let names = Encoding::ALL.map(Encoding::name).join(", ");
        let shown: String = name.chars().take(64).collect();
        let message = format!("content encoding '{shown}' is not supported; supported are {names}");
        Reply::error_and_close(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message)
    })
}

/// Tells whether an answer may be worth compressing.
pub(crate) fn is_worth_it(reply: &Reply) -> bool {
    reply.body.len() >= COMPRESSED_BYTES_MIN
}

impl Handler {
    /// Returns what a request's body expands to.
    pub(crate) async fn expanded(&self, encoding: Encoding, body: Bytes) -> Result<Bytes, Reply> {
        let most = self.shared.limits.body_max.as_usize();
        let expanded = off_loop(body.len(), move || {
            compression::expand(encoding, &body, most)
        });
        match expanded.await {
            Some(Ok(expanded)) => Ok(Bytes::from(expanded)),
            Some(Err(error)) => Err(refusal(&error, &self.shared.limits.body_max)),
            None => Err(Reply::failure(
                Code::Internal,
                "the body could not be expanded",
            )),
        }
    }

    /// Returns an answer compressed, if the client wants that and it is worth it.
    pub(crate) async fn compressed(&self, reply: Reply, headers: &HeaderMap) -> Reply {
        let accept = headers.get(ACCEPT_ENCODING);
        let accept = accept
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let Some(encoding) = Encoding::preferred(accept) else {
            return reply;
        };
        let Reply { body, .. } = &reply;
        let plain = Bytes::copy_from_slice(body);
        let compressed = off_loop(plain.len(), move || {
            let mut out = Vec::with_capacity(plain.len() / 4);
            compression::compress(encoding, &plain, &mut out).map(|()| out)
        });
        match compressed.await {
            Some(Ok(body)) if body.len() < reply.body.len() => reply.with_encoding(body, encoding),
            _ => reply,
        }
    }
}

/// Does `work` here if it is about few bytes, else on a thread for what blocks; `None` if it panicked.
pub(crate) async fn off_loop<T: Send + 'static>(
    n_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if n_bytes <= EVENT_LOOP_BYTES_MAX {
        return Some(work());
    }
    tokio::task::spawn_blocking(work).await.ok()
}

fn refusal(error: &RequestError, body_max: &coracle_base::ByteCount) -> Reply {
    match error.code() {
        Code::ResourceExhausted => {
            let message = format!("the body expands to more than {body_max}");
            Reply::error(StatusCode::PAYLOAD_TOO_LARGE, &message)
        }
        code => Reply::failure(code, &error.to_string()),
    }
}

/// Returns the header's value for an encoding.
pub(crate) fn header(encoding: Encoding) -> HeaderValue {
    HeaderValue::from_static(encoding.name())
}
