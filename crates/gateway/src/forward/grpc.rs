//! One gRPC request that a process answers: streamed both ways, its end told in a status.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::code_of_grpc;
use coracle_protocol::grpc::{Compression, FrameHead, PREFIX_BYTES};
use coracle_serving::{Fallback, Outcome, ProcessLease, Protocol, ServedModel};
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::body::{BoundedBody, CallEnd, Limit, Wanted};
use super::call::{Forwarding, Kind, NoAnswer, Outgoing, answer};
use super::guarded::{self, Guarded, Passed, Sent};
use super::keeping::Keeping;
use super::{Fault, ForwardedBody};
use crate::body::{ReplyBody, RequestBody};
use crate::codec::Encoded;
use crate::connection::Handler;
use crate::experiment::Part;
use crate::grpc::{
    self, GRPC_STATUS, Noted, compression_of, failure, is_grpc, timeout_of, trailers_only,
};
use crate::infer::{Failure, too_late};
use crate::respond::FALLBACK;

/// What is answered.
enum Told {
    /// What a process answers.
    Answered(Answered),
    /// What another one answers in its place, with how its message is compressed.
    StoodIn(Encoded, Compression),
}

/// An answer that has begun.
struct Answered {
    response: Response<Incoming>,
    lease: ProcessLease,
    limit: Limit,
    /// Of a request that was sent on as it came; one that was sent whole needs none.
    wanted: Option<Wanted>,
    /// Where it is kept as its caller's last good one.
    keeping: Option<Box<Keeping>>,
}

impl Handler {
    /// Passes a gRPC request on to a process of `model`, and its answer back; returns what is to be logged, too.
    ///
    /// The wait for the beginning of an answer is bounded as for HTTP, the whole of it by the caller's deadline alone: a
    /// stream may be silent for as long as both ends like.
    pub(crate) async fn forward_grpc(
        &self,
        Forwarding { model, path, part }: Forwarding,
        (head, body): (Parts, RequestBody),
        request_id: HeaderValue,
        started: Duration,
    ) -> (Response<ReplyBody>, Noted) {
        let call = model.start_call(self.calls.worker, started, &self.shared.clock);
        let n_bytes_in = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let protocol = protocol(&path);
        let Part { mark, pending } = part;
        let result = self
            .answer_of_process(&model, &path, (&head, body), &request_id, started)
            .await;
        let mut noted = Noted {
            n_bytes_in,
            model: Some(Arc::clone(&model)),
            ..Noted::default()
        };
        let mut response = match result {
            Ok(Told::StoodIn(encoded, compression)) => {
                // What is counted is what the model did.
                let stood_in = encoded.fallback;
                let outcome = stood_in.map_or(Ok(()), |stood_in| Err(stood_in.code));
                call.finish(protocol, outcome);
                if let Some(pending) = pending {
                    pending.end(outcome);
                }
                noted.stood_in = stood_in.map(|stood_in| stood_in.by);
                let mut response = grpc::whole(encoded.body, compression, request_id);
                if let Some(by) = noted.stood_in {
                    let name = HeaderValue::from_static(by.name());
                    response.headers_mut().insert(FALLBACK, name);
                }
                response
            }
            Ok(Told::Answered(answered)) => {
                let Answered {
                    response,
                    lease,
                    limit,
                    wanted,
                    keeping,
                } = answered;
                let outcome = outcome_in(response.headers());
                noted.code = outcome.and_then(Outcome::err);
                let end = CallEnd {
                    call,
                    lease,
                    protocol,
                    outcome,
                    pending,
                    keeping,
                };
                let (head, body) = answer(response, request_id);
                let body = ForwardedBody::new(body, end, limit, wanted);
                Response::from_parts(head, ReplyBody::forwarded(body))
            }
            Err(failure) => {
                noted.code = Some(failure.code);
                model.log(&format!("no answer: {}", failure.message));
                call.finish(protocol, Err(failure.code));
                if let Some(pending) = pending {
                    pending.end(Err(failure.code));
                }
                trailers_only(&failure, request_id)
            }
        };
        if let Some(mark) = mark {
            mark.put(response.headers_mut());
        }
        (response, noted)
    }

    /// Returns what a process answers, from its beginning on.
    async fn answer_of_process(
        &self,
        model: &Arc<ServedModel>,
        path: &str,
        (head, body): (&Parts, RequestBody),
        request_id: &HeaderValue,
        started: Duration,
    ) -> Result<Told, Failure> {
        let timeout = timeout_of(&head.headers)?;
        let elapsed = self.shared.clock.monotonic().saturating_sub(started);
        let now = Instant::now();
        let until = timeout
            .map(|timeout| (timeout, timeout.saturating_sub(elapsed)))
            .and_then(|(timeout, left)| Some((timeout, now.checked_add(left)?)));
        let wait = model.timeout().unwrap_or(self.calls.request_timeout);
        let deadline = now.checked_add(wait);
        let deadline = until.map(|(_, until)| until).into_iter().chain(deadline);
        let deadline = deadline.min().unwrap_or(now);
        let outgoing = Outgoing {
            head,
            target: path,
            request_id,
            kind: Kind::Grpc {
                until: until.map(|(_, until)| until),
            },
            asked: std::cell::Cell::default(),
            begun: std::cell::RefCell::default(),
            gives_up: std::cell::Cell::default(),
        };
        let wait = timeout.map_or(wait, |timeout| timeout.min(wait));
        let fallback = model.has_fallback().then(|| model.fallback()).flatten();
        let (passed, wanted) = match fallback {
            Some(fallback) => {
                let passed =
                    self.guarded_message((model, &fallback), path, &outgoing, (body, deadline));
                Box::pin(passed).await?
            }
            None => {
                let (body, wanted) = BoundedBody::unbounded(body);
                let passed = self.pass_on(model, &outgoing, body, deadline).await;
                (passed.map(Passed::plain), Some(wanted))
            }
        };
        let passed = passed.map_err(|no_answer| no_answer.failure(model, wait))?;
        let ((response, lease), keeping) = match passed {
            Passed::Answered(answered, keeping) => (answered, keeping),
            Passed::StoodIn(encoded) => {
                return Ok(Told::StoodIn(*encoded, compression_of(&head.headers)?));
            }
        };
        if response.status() != StatusCode::OK || !is_grpc(response.headers()) {
            return Err(not_grpc(model, response.status()));
        }
        Ok(Told::Answered(Answered {
            response,
            lease,
            limit: Limit::Until(until),
            wanted,
            keeping,
        }))
    }

    /// Passes a message on as its service's rules say, if it is a prediction that does not stream.
    async fn guarded_message(
        &self,
        (model, fallback): (&Arc<ServedModel>, &Fallback),
        path: &str,
        outgoing: &Outgoing<'_>,
        (mut body, deadline): (RequestBody, Instant),
    ) -> Result<(Result<Passed, NoAnswer>, Option<Wanted>), Failure> {
        let codec = grpc::codec_of(path);
        let (Some(codec), Some(guard)) = (codec, guarded::guard(fallback)) else {
            let (body, wanted) = BoundedBody::unbounded(body);
            let passed = self.pass_on(model, outgoing, body, deadline).await;
            return Ok((passed.map(Passed::plain), Some(wanted)));
        };
        let compression = compression_of(&outgoing.head.headers)?;
        let limits = &self.shared.limits;
        let most = limits.body_max.as_usize();
        let begun = tokio::time::timeout_at(deadline, body.look_ahead(PREFIX_BYTES)).await;
        let prefix = match &begun {
            Ok(Ok(begun)) => begun.first_chunk::<PREFIX_BYTES>(),
            _ => None,
        };
        let frame = prefix.and_then(|prefix| FrameHead::read(*prefix, most).ok());
        let n_bytes = frame.map(|frame| frame.length as u64);
        let is_copied = n_bytes.is_some() && guarded::is_copied(fallback.settings(), true, n_bytes);
        let (sent, wanted) = match is_copied {
            true => {
                let most = limits.body_max.as_u64().saturating_add(PREFIX_BYTES as u64);
                let body = BoundedBody::new(body, most, limits.body_timeout);
                match guarded::whole(body, deadline).await {
                    Ok(body) => (Sent::Whole(body), None),
                    Err(fault) => return Ok((Err(fault), None)),
                }
            }
            false => {
                let (body, wanted) = BoundedBody::unbounded(body);
                (Sent::Coming(body), Some(wanted))
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let guarded = Guarded {
            model,
            fallback,
            guard: &guard,
        };
        let read = async |body: Bytes| grpc::only_message(&body, compression, most).ok();
        let sent = (sent, left);
        let passed = self
            .guarded(guarded, outgoing, sent, (Some(codec), read))
            .await;
        Ok((passed, wanted))
    }
}

impl NoAnswer {
    /// Returns it as gRPC tells it, and with what it says of the model, which was allowed to take so long.
    pub(super) fn failure(&self, model: &ServedModel, wait: Duration) -> Failure {
        match self {
            Self::Refused(refusal) => Failure::from(refusal.clone()).within(wait),
            Self::Failed(failure) => failure.clone(),
            Self::Fault(Fault::Late) => too_late(wait).begun(true),
            Self::Fault(fault) => failure(fault.code(), &fault.message(model.name(), wait)),
        }
    }
}

/// Returns the failure that an answer in HTTP alone is, as gRPC maps its statuses.
pub(super) fn not_grpc(model: &ServedModel, status: StatusCode) -> Failure {
    let code = match status.as_u16() {
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Internal,
    };
    let message = format!(
        "the process of '{}' answered with the HTTP status {}, and not in gRPC",
        model.name(),
        status.as_u16()
    );
    failure(code, &message)
}

/// Returns how a call ended, from its trailers or from the head of an answer that is nothing else.
pub(super) fn outcome_in(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get(GRPC_STATUS)?;
    let status = status.to_str().ok().and_then(|status| status.parse().ok());
    Some(code_of_grpc(status.unwrap_or(-1)).map_or(Ok(()), Err))
}

/// Returns the protocol that a method is of, for the counts.
fn protocol(path: &str) -> Protocol {
    if path.starts_with("/inference.") {
        Protocol::Grpc
    } else if path.starts_with("/tensorflow.serving.") {
        Protocol::TfsGrpc
    } else {
        Protocol::Other
    }
}
