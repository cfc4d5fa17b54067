//! gRPC on the server's HTTP/2: one message in, one out, or a stream of both; statuses in trailers.
//!
//! Start at `Handler::grpc`. `target` finds out who answers: a process, which `forward` passes the request on to, or this
//! server: `services` answers the methods, `stream` those that stream.

mod flows;
mod services;
mod stream;
mod target;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code};
use coracle_protocol::grpc::{
    self, Compression, FrameHead, PREFIX_BYTES, parse_timeout, percent_encode,
};
use coracle_protocol::{grpc_status, http_status};
use coracle_serving::{Priority, ServedModel};
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use std::sync::Arc;

use crate::body::{ReplyBody, RequestBody};
use crate::codec::{Encoded, StandIn};
use crate::connection::Handler;
use crate::experiment::{Held, Turn, VariantMark};
use crate::gather::{BodyFault, gather};
use crate::infer::Failure;
use crate::patience::Patience;
use crate::payload;
use crate::respond::{CACHE, CACHE_HIT, FALLBACK, REQUEST_ID};
use crate::terms::Terms;
use crate::trace::Trace;
pub(crate) use services::{INFER, PREDICTION};
use target::Target;
pub(crate) use target::{codec_of, named as message_to};

const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
const ACCEPT: HeaderValue = HeaderValue::from_static(Compression::NAMES);
const STATUS_OK: HeaderValue = HeaderValue::from_static("0");
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The most bytes of a status message; it travels in a header.
const MESSAGE_BYTES_MAX: usize = 2_048;

/// Tells whether a request is one of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|text| match text.strip_prefix(b"application/grpc") {
        Some(rest) => rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"),
        None => false,
    })
}

/// What the head of a gRPC request says.
pub(crate) struct Caller {
    head: Parts,
    /// How long the caller waits, and since when.
    timeout: Option<Duration>,
    started: Duration,
    /// How urgent the caller says that it is.
    priority: Option<Priority>,
    /// The revision whose turn it is, where that is settled already.
    chosen: Option<Arc<ServedModel>>,
    /// The variant of an experiment that takes its one message, where that is settled already.
    turn: Turn<Held>,
    /// The trace that it is part of.
    trace: Option<Trace>,
    /// Its id; messages that are recorded, or take part in experiments, have it.
    request_id: HeaderValue,
    /// The messages of a stream so far.
    n_messages: Cell<u64>,
    /// How its messages are compressed; ours are the same way.
    compression: Compression,
    /// What is noted for the access log.
    seen: RefCell<Noted>,
}

/// What the access log is told of a gRPC request.
#[derive(Default)]
pub(crate) struct Noted {
    pub(crate) n_bytes_in: usize,
    pub(crate) model: Option<Arc<ServedModel>>,
    pub(crate) code: Option<Code>,
    /// Whether the answer was kept from an earlier request.
    pub(crate) from_cache: bool,
    /// What gave the answer, if it is not the model's.
    pub(crate) stood_in: Option<StandIn>,
    /// The variant of an experiment that answered.
    pub(crate) variant: Option<Box<VariantMark>>,
}

impl Noted {
    /// Returns the HTTP status that the outcome would have.
    pub(crate) fn http_status(&self) -> u16 {
        self.code.map_or(200, http_status)
    }
}

impl Caller {
    fn read(
        head: Parts,
        (chosen, turn): (Option<Arc<ServedModel>>, Turn<Held>),
        started: Duration,
    ) -> Result<Self, Failure> {
        const NO_ID: HeaderValue = HeaderValue::from_static("");
        let terms = Terms::of(&head.headers)?;
        Ok(Self {
            timeout: timeout_of(&head.headers)?
                .into_iter()
                .chain(terms.timeout)
                .min(),
            priority: terms.priority,
            compression: compression_of(&head.headers)?,
            trace: Trace::of(&head.headers),
            request_id: NO_ID,
            n_messages: Cell::new(0),
            head,
            started,
            chosen,
            turn,
            seen: RefCell::default(),
        })
    }

    /// Returns how much of the caller's time is left.
    ///
    /// # Errors
    /// If none is.
    fn time_left(&self, clock: &dyn Clock) -> Result<Option<Duration>, Failure> {
        let Some(timeout) = self.timeout else {
            return Ok(None);
        };
        let elapsed = clock.monotonic().saturating_sub(self.started);
        match timeout.checked_sub(elapsed) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(crate::infer::too_late(timeout)),
        }
    }

    /// Returns whom messages are recorded of.
    fn recorded(&self) -> payload::Caller<'_> {
        payload::Caller {
            headers: &self.head.headers,
            request_id: &self.request_id,
            n_message: self.n_messages.get(),
        }
    }

    fn note_bytes(&self, n_bytes: usize) {
        self.seen.borrow_mut().n_bytes_in += n_bytes;
    }

    /// Notes where an answer is from, and returns its body.
    fn note_answer(&self, answer: Encoded) -> Vec<u8> {
        let mut seen = self.seen.borrow_mut();
        seen.from_cache = answer.from_cache;
        seen.stood_in = answer.fallback.map(|fallback| fallback.by);
        answer.body
    }

    fn note_model(&self, model: &Arc<ServedModel>) {
        self.seen.borrow_mut().model = Some(Arc::clone(model));
    }
}

/// Returns how long the caller waits, if it says so.
pub(crate) fn timeout_of(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else {
        return Ok(None);
    };
    let read = value.to_str().ok().and_then(parse_timeout);
    let refused = || {
        failure(
            Code::InvalidArgument,
            "grpc-timeout must be up to eight digits and one of H M S m u n",
        )
    };
    read.ok_or_else(refused).map(Some)
}

/// Returns how the caller's messages are compressed.
pub(crate) fn compression_of(headers: &HeaderMap) -> Result<Compression, Failure> {
    let Some(value) = headers.get(GRPC_ENCODING) else {
        return Ok(Compression::Identity);
    };
    let name = value.to_str().unwrap_or_default();
    Compression::from_name(name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let message = format!(
            "grpc-encoding '{shown}' is not supported; supported are {}",
            Compression::NAMES
        );
        failure(Code::Unimplemented, &message)
    })
}

pub(crate) fn failure(code: Code, message: &str) -> Failure {
    Failure::new(code, message)
}

impl Handler {
    /// Answers one gRPC request; returns what is to be logged, too.
    pub(crate) async fn grpc(
        self: Rc<Self>,
        mut head: Parts,
        body: Incoming,
        started: Duration,
        request_id: HeaderValue,
    ) -> (Response<ReplyBody>, Noted) {
        let mut body = RequestBody::from(body);
        let mut started = started;
        if self.calls.table.load().has_coming() {
            let held = self.hold_call(&mut head, &mut body, started);
            started = match Box::pin(held).await {
                Ok(taken) => taken,
                Err(failure) => return failed(&failure, request_id),
            };
        }
        let asked = (&head, &request_id);
        let (chosen, turn) = match self.target(asked, &mut body, started).await {
            Ok(Target::Here(chosen, turn)) => (chosen, turn),
            Ok(Target::Process(forwarding, _)) => {
                return self
                    .forward_grpc(forwarding, (head, body), request_id, started)
                    .await;
            }
            Err(failure) => return failed(&failure, request_id),
        };
        let mut caller = match Caller::read(head, (chosen, turn), started) {
            Ok(caller) => caller,
            Err(failure) => return failed(&failure, request_id),
        };
        if services::is_streaming(caller.head.uri.path()) {
            caller.request_id = request_id.clone();
            let response = self.stream(caller, body, request_id);
            return (response, Noted::default());
        }
        // Lent, not copied: a copy would be a write to memory that is shared.
        caller.request_id = request_id;
        let result = self.unary(&caller, body).await;
        let mut noted = caller.seen.take();
        let (request_id, compression) = (caller.request_id, caller.compression);
        let variant = noted.variant.take();
        let mut response = match result {
            Ok(message) => {
                let mut response = whole(message, compression, request_id);
                if noted.from_cache {
                    response.headers_mut().insert(CACHE, CACHE_HIT);
                }
                if let Some(stood_in) = noted.stood_in {
                    let name = HeaderValue::from_static(stood_in.name());
                    response.headers_mut().insert(FALLBACK, name);
                }
                response
            }
            Err(failure) => {
                noted.code = Some(failure.code);
                trailers_only(&failure, request_id)
            }
        };
        if let Some(variant) = variant {
            variant.put(response.headers_mut());
        }
        (response, noted)
    }

    /// Reads the one message of a request, and answers it.
    async fn unary(&self, caller: &Caller, body: RequestBody) -> Result<Vec<u8>, Failure> {
        let limits = &self.shared.limits;
        let most = limits.body_max.as_usize();
        let left = caller.time_left(self.shared.clock.as_ref())?;
        let wait = left.map_or(limits.body_timeout, |left| left.min(limits.body_timeout));
        let gathered = gather(body, most.saturating_add(PREFIX_BYTES), |first| {
            let head = FrameHead::read(*first.first_chunk()?, most).ok()?;
            head.length.checked_add(PREFIX_BYTES)
        });
        let (body, has_waited) = match Patience::default().wait(wait, gathered).await {
            Some((Ok(body), has_waited)) => (body, has_waited),
            Some((Err(BodyFault::TooLarge), _)) => {
                let message = format!("the message is larger than {most} bytes");
                return Err(failure(Code::ResourceExhausted, &message));
            }
            Some((Err(BodyFault::Broken), _)) => {
                return Err(failure(
                    Code::InvalidArgument,
                    "the request ended before its end",
                ));
            }
            None => return Err(crate::infer::too_late(wait)),
        };
        let arrived = match has_waited {
            true => self.shared.clock.monotonic(),
            false => caller.started,
        };
        caller.note_bytes(body.len());
        let message = only_message(&body, caller.compression, most)?;
        let answer = self.answer_message(caller, message, arrived).await?;
        // A call on the event loop cannot be cut short; its answer may still come too late.
        caller.time_left(self.shared.clock.as_ref())?;
        Ok(answer)
    }
}

/// Returns the message of a request that has exactly one.
pub(crate) fn only_message(
    body: &Bytes,
    compression: Compression,
    most: usize,
) -> Result<Bytes, Failure> {
    let Some(prefix) = body.first_chunk::<PREFIX_BYTES>() else {
        return Err(failure(Code::InvalidArgument, "the request has no message"));
    };
    let head = FrameHead::read(*prefix, most)?;
    let message = body.slice(PREFIX_BYTES..);
    if message.len() != head.length {
        let message = format!(
            "the message is {} bytes, its head says {}",
            message.len(),
            head.length
        );
        return Err(failure(Code::InvalidArgument, &message));
    }
    expanded(message, head, compression, most)
}

fn expanded(
    message: Bytes,
    head: FrameHead,
    compression: Compression,
    most: usize,
) -> Result<Bytes, Failure> {
    if head.is_compressed {
        return Ok(Bytes::from(compression.expand(&message, most)?));
    }
    Ok(message)
}

/// Returns the head of every answer.
fn response(body: ReplyBody, request_id: HeaderValue) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, CONTENT);
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPT);
    headers.insert(REQUEST_ID, request_id);
    response
}

fn encoding_header(response: &mut Response<ReplyBody>, compression: Compression) {
    if compression != Compression::Identity {
        let name = HeaderValue::from_static(compression.name());
        response.headers_mut().insert(GRPC_ENCODING, name);
    }
}

/// Returns the answer of one message, which is framed.
pub(crate) fn whole(
    message: Vec<u8>,
    compression: Compression,
    request_id: HeaderValue,
) -> Response<ReplyBody> {
    let message = grpc::framed(message, compression);
    let body = ReplyBody::with_trailers(Bytes::from(message), status_trailers(None));
    let mut response = response(body, request_id);
    encoding_header(&mut response, compression);
    response
}

/// Returns the answer to a request that nobody answers, with what is noted of it.
fn failed(failure: &Failure, request_id: HeaderValue) -> (Response<ReplyBody>, Noted) {
    let noted = Noted {
        code: Some(failure.code),
        ..Noted::default()
    };
    (trailers_only(failure, request_id), noted)
}

/// Returns the answer to a request that failed before any message.
pub(crate) fn trailers_only(failure: &Failure, request_id: HeaderValue) -> Response<ReplyBody> {
    let mut response = response(ReplyBody::full(Bytes::new()), request_id);
    response
        .headers_mut()
        .extend(status_trailers(Some(failure)));
    response
}

/// Returns the trailers that say how a request ended.
pub(crate) fn status_trailers(failure: Option<&Failure>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    let Some(failure) = failure else {
        trailers.insert(GRPC_STATUS, STATUS_OK);
        return trailers;
    };
    trailers.insert(GRPC_STATUS, HeaderValue::from(grpc_status(failure.code)));
    let mut end = failure.message.len().min(MESSAGE_BYTES_MAX);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    if let Ok(message) = HeaderValue::try_from(percent_encode(&failure.message[..end])) {
        trailers.insert(GRPC_MESSAGE, message);
    }
    trailers
}
