//! One request that a process answers.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_serving::{
    Endpoints, Fallback, ModelCall, ProcessLease, Protocol, Refusal, ServedModel,
};
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, InvalidUri, Scheme};
use hyper::{Request, Response, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::body::{BodyFault, BoundedBody, CallEnd, Limit};
use super::guarded::{self, Guarded, Passed, Sent};
use super::pool::Place;
use super::{Fault, ForwardedBody, Pool, headers, outcome};
use crate::arriving::{content_type, json_length};
use crate::body::{ReplyBody, RequestBody};
use crate::chaos::forward_in_chaos;
use crate::codec::Codec;
use crate::connection::Handler;
use crate::encoding;
use crate::experiment::Part;
use crate::hold;
use crate::infer::{Begun, Failure};
use crate::log::Answer;
use crate::respond::Reply;
use crate::route::{self, Route};
use crate::seldon;
use crate::terms::Terms;
use crate::trace::Trace;

/// How long to wait before a process that no connection could be made to is tried again, unless there is another.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Which model's process is asked, and what its answer is part of.
#[derive(Debug)]
pub(crate) struct Forwarding {
    pub(crate) model: Arc<ServedModel>,
    /// The path that it is asked at.
    pub(crate) path: String,
    pub(crate) part: Part,
}

impl Forwarding {
    /// Returns that of a request that is part of nothing.
    pub(crate) fn plain(model: &Arc<ServedModel>, path: &str) -> Self {
        Self {
            model: Arc::clone(model),
            path: path.to_owned(),
            part: Part::default(),
        }
    }
}

/// What is passed on.
pub(super) struct Outgoing<'a> {
    pub(super) head: &'a Parts,
    /// The path with its query, as the process is to see it.
    pub(super) target: &'a str,
    pub(super) request_id: &'a HeaderValue,
    pub(super) kind: Kind,
    /// The process that was asked last.
    pub(super) asked: Cell<Option<SocketAddr>>,
    /// Where it is told when a process was found for it, if somebody wants to know.
    pub(super) begun: RefCell<Begun>,
    /// Whether it ends once no process that is there can be reached, or those that there were are lost.
    pub(super) gives_up: Cell<bool>,
}

/// What a request is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Http,
    Grpc {
        /// How long the caller waits, if it says so.
        until: Option<Instant>,
    },
}

impl Kind {
    /// Returns where a process takes it, and how.
    pub(super) fn place(self, endpoints: Endpoints) -> Place {
        match self {
            Self::Http => Place {
                address: endpoints.http,
                is_http2: endpoints.is_h2c,
            },
            Self::Grpc { .. } => Place {
                address: endpoints.grpc,
                is_http2: true,
            },
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// No process was to be had.
    Refused(Refusal),
    /// The one that was asked gave none.
    Fault(Fault),
    /// It was made to fail, as faults on purpose say, or it was not to be asked.
    Failed(Failure),
}

impl NoAnswer {
    /// Returns that of a request whose own body could not be read.
    pub(super) fn unread(fault: &BodyFault) -> Self {
        Self::Fault(Fault::Malformed(fault.to_string()))
    }
}

/// An answer, and how it is counted.
pub(super) type Answered = (Response<Incoming>, ProcessLease);

impl Handler {
    /// Passes a request on to a process of a model, and its answer back.
    pub(crate) async fn forward(
        &self,
        Forwarding { model, path, part }: Forwarding,
        (head, body): (&Parts, RequestBody),
        request_id: HeaderValue,
        started: Duration,
    ) -> Response<ReplyBody> {
        let call = model.start_call(self.calls.worker, started, &self.shared.clock);
        let n_bytes_in = body.size_hint().lower();
        let target = match head.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        let outgoing = Outgoing {
            head,
            target: &target,
            request_id: &request_id,
            kind: Kind::Http,
            asked: Cell::default(),
            begun: RefCell::default(),
            gives_up: Cell::default(),
        };
        let timeout = model.timeout().unwrap_or(self.calls.request_timeout);
        let (timeout, result) = match Terms::of(&head.headers) {
            Ok(terms) => {
                let timeout = terms.timeout_or(timeout);
                let answer = self.http_answer((&model, &path), &outgoing, body, timeout);
                (timeout, answer.await)
            }
            Err(failure) => {
                let reply = Reply::error_and_close(StatusCode::BAD_REQUEST, &failure.message);
                (timeout, Err(reply))
            }
        };
        let trace = Trace::of(&head.headers);
        // What is left after a wait is for the answer's beginning; its parts may come as far apart as ever.
        let apart = timeout.saturating_add(hold::waited(head));
        let answering = (path.as_str(), apart, part);
        let mut response = self.respond(&model, call, answering, result, request_id.clone());
        self.count_response(response.status().as_u16());
        self.log.answer(
            Answer {
                method: head.method.as_str(),
                path: head.uri.path(),
                status: response.status().as_u16(),
                elapsed: self.elapsed(head, started),
                n_bytes_in: usize::try_from(n_bytes_in).unwrap_or(usize::MAX),
                n_bytes_out: response.body().len_known(),
                request_id: request_id.to_str().unwrap_or_default(),
                trace_id: trace.as_ref().map(Trace::id),
            },
            &self.shared.http,
            Some(&model),
        );
        self.mark_trace(trace.as_ref(), &mut response);
        seldon::mark(seldon::puid(head, &request_id).cloned(), &mut response);
        self.shared.cors.mark(&head.headers, &mut response);
        response
    }

    /// Returns a process's answer, or what the caller gets instead.
    async fn http_answer(
        &self,
        (model, path): (&Arc<ServedModel>, &str),
        outgoing: &Outgoing<'_>,
        body: RequestBody,
        timeout: Duration,
    ) -> Result<Passed, Reply> {
        let limits = &self.shared.limits;
        let bytes_max = limits.body_max.as_u64();
        if body.size_hint().lower() > bytes_max {
            let message = format!(
                "the body is larger than {bytes_max} bytes ({})",
                limits.body_max
            );
            return Err(Reply::error_and_close(
                StatusCode::PAYLOAD_TOO_LARGE,
                &message,
            ));
        }
        let deadline = Instant::now() + timeout;
        let fallback = model.has_fallback().then(|| model.fallback()).flatten();
        let passed = match fallback {
            Some(fallback) => {
                let sent = (path, body, timeout);
                Box::pin(self.guarded_http(model, &fallback, outgoing, sent)).await
            }
            None => {
                let body = BoundedBody::new(body, bytes_max, limits.body_timeout);
                let passed = self.pass_on(model, outgoing, body, deadline).await;
                passed.map(Passed::plain)
            }
        };
        passed.map_err(|no_answer| match no_answer {
            NoAnswer::Refused(refusal) => Reply::failure(refusal.code(), &refusal.message()),
            NoAnswer::Failed(failure) => Reply::failure(failure.code, &failure.message),
            NoAnswer::Fault(fault) => {
                let message = fault.message(model.name(), timeout);
                match fault {
                    Fault::NotConnected(_) => Reply::failure(Code::Unavailable, &message),
                    _ => Reply::error(fault.status(), &message),
                }
            }
        })
    }

    /// Passes a request on as its service's rules say, if it is a prediction.
    async fn guarded_http(
        &self,
        model: &Arc<ServedModel>,
        fallback: &Fallback,
        outgoing: &Outgoing<'_>,
        (path, body, timeout): (&str, RequestBody, Duration),
    ) -> Result<Passed, NoAnswer> {
        let limits = &self.shared.limits;
        let deadline = Instant::now() + timeout;
        let n_bytes = body.size_hint().upper();
        let body = BoundedBody::new(body, limits.body_max.as_u64(), limits.body_timeout);
        let codec = prediction(outgoing.head, path);
        let guard = guarded::guard(fallback);
        let (Some(codec), Some(guard)) = (codec, guard) else {
            let passed = self.pass_on(model, outgoing, body, deadline).await;
            return passed.map(Passed::plain);
        };
        let sent = match guarded::is_copied(fallback.settings(), true, n_bytes) {
            true => Sent::Whole(guarded::whole(body, deadline).await?),
            false => Sent::Coming(body),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let guarded = Guarded {
            model,
            fallback,
            guard: &guard,
        };
        let read = async |body: Bytes| match encoding::of_request(&outgoing.head.headers).ok()? {
            None => Some(body),
            Some(encoding) => self.expanded(encoding, body).await.ok(),
        };
        self.guarded(guarded, outgoing, (sent, left), (Some(codec), read))
            .await
    }

    /// Sends a request to a process that takes it.
    pub(super) async fn pass_on(
        &self,
        model: &ServedModel,
        outgoing: &Outgoing<'_>,
        body: BoundedBody,
        deadline: Instant,
    ) -> Result<Answered, NoAnswer> {
        let mut body = Some(body);
        // One that was asked before is asked again if there is no other.
        let mut except: Vec<SocketAddr> = outgoing.asked.get().into_iter().collect();
        let terms = Terms::of(&outgoing.head.headers).unwrap_or_default();
        let priority = terms.priority.unwrap_or_default();
        loop {
            let time_left = deadline.saturating_duration_since(Instant::now());
            let lease = model
                .enter_process(priority, time_left, (&except, || outgoing.gives_up.get()))
                .await
                .inspect_err(|refusal| model.statistics().reject(refusal.into()))
                .map_err(NoAnswer::Refused)?;
            let endpoints = lease.endpoints();
            let place = outgoing.kind.place(endpoints);
            outgoing.asked.set(Some(endpoints.http));
            if let Some(begun) = &*outgoing.begun.borrow() {
                let _first = begun.set(self.shared.clock.monotonic());
            }
            if let Some(chaos) = self.calls.chaos.as_ref().filter(|chaos| chaos.is_on()) {
                forward_in_chaos(chaos, model, deadline).await?;
            }
            match send(&self.pool, place, outgoing, &mut body, deadline).await {
                Ok(response) => return Ok((response, lease)),
                Err(fault @ Fault::NotConnected(_))
                    if body.is_some() && Instant::now() < deadline =>
                {
                    // Nothing of the request was used. A process that is gone is soon known to be.
                    if except.contains(&endpoints.http) {
                        if outgoing.gives_up.get() {
                            return Err(NoAnswer::Fault(fault));
                        }
                        tokio::time::sleep(AGAIN_AFTER).await;
                        except.clear();
                    } else {
                        except.push(endpoints.http);
                    }
                }
                Err(fault) => return Err(NoAnswer::Fault(fault)),
            }
        }
    }

    /// Returns what the caller gets; the call ends with its body.
    fn respond(
        &self,
        model: &ServedModel,
        call: ModelCall,
        (path, timeout, part): (&str, Duration, Part),
        result: Result<Passed, Reply>,
        request_id: HeaderValue,
    ) -> Response<ReplyBody> {
        let protocol = protocol(path);
        let Part { mark, pending } = part;
        match result {
            Ok(Passed::StoodIn(encoded)) => {
                // What is counted is what the model did.
                let outcome = encoded
                    .fallback
                    .map_or(Ok(()), |stood_in| Err(stood_in.code));
                call.finish(protocol, outcome);
                if let Some(pending) = pending {
                    pending.end(outcome);
                }
                let reply = Reply::encoded(*encoded);
                reply.with_variant(mark).into_response(request_id)
            }
            Ok(Passed::Answered((response, lease), keeping)) => {
                let end = CallEnd {
                    call,
                    lease,
                    protocol,
                    outcome: Some(outcome(response.status())),
                    pending,
                    keeping,
                };
                let (mut head, body) = answer(response, request_id);
                if let Some(mark) = mark {
                    mark.put(&mut head.headers);
                }
                let body = ForwardedBody::new(body, end, Limit::Parts(timeout), None);
                Response::from_parts(head, ReplyBody::forwarded(body))
            }
            Err(reply) => {
                model.log(&format!("no answer: {}", reply.status));
                call.finish(protocol, outcome(reply.status));
                if let Some(pending) = pending {
                    pending.end(outcome(reply.status));
                }
                reply.with_variant(mark).into_response(request_id)
            }
        }
    }
}

/// Returns how a request is read by others than the process that it is for, if it is a prediction.
fn prediction(head: &Parts, path: &str) -> Option<Codec> {
    let method = || route::query_value(head.uri.query(), "method").map(str::to_owned);
    match route::find(&head.method, path).ok()? {
        Route::V1Predict(_) => {
            let codec = Codec::of_v1(path, method());
            Some(codec.of_type(content_type(&head.headers)))
        }
        Route::V1Examples(question, _) => Some(Codec::Examples(question)),
        Route::V2Infer(_) => Some(Codec::V2 {
            method: method(),
            json_length: json_length(&head.headers).ok()?,
        }),
        _ => None,
    }
}

/// Returns the protocol that a path is of, for the counts.
fn protocol(path: &str) -> Protocol {
    let first = path.trim_start_matches('/').split('/').next();
    match first {
        Some("v1") => Protocol::V1,
        Some("v2") => Protocol::V2,
        _ => Protocol::Other,
    }
}

/// Sends a request and waits for the head of the answer.
pub(super) async fn send(
    pool: &Pool,
    place: Place,
    outgoing: &Outgoing<'_>,
    body: &mut Option<BoundedBody>,
    deadline: Instant,
) -> Result<Response<Incoming>, Fault> {
    let head = head(outgoing, place)?;
    let sent = pool.send(place, head, body);
    match tokio::time::timeout_at(deadline, sent).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Fault::Late),
    }
}

/// Returns the head of the request to a process.
fn head(outgoing: &Outgoing<'_>, place: Place) -> Result<Request<()>, Fault> {
    let malformed = |error: &dyn std::error::Error| Fault::Malformed(error.to_string());
    let mut request = Request::new(());
    *request.method_mut() = outgoing.head.method.clone();
    let mut headers = headers::to_process(outgoing.head, outgoing.request_id);
    if let Kind::Grpc { until } = outgoing.kind {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        headers::to_grpc(&mut headers, left);
    }
    let target: Uri = outgoing
        .target
        .parse()
        .map_err(|error: InvalidUri| malformed(&error))?;
    if place.is_http2 {
        let host = headers::to_http2(&mut headers);
        let mut whole = target.into_parts();
        whole.scheme = Some(Scheme::HTTP);
        let authority = Authority::try_from(host.as_bytes());
        whole.authority = Some(authority.map_err(|error| malformed(&error))?);
        *request.uri_mut() = Uri::from_parts(whole).map_err(|error| malformed(&error))?;
        *request.version_mut() = Version::HTTP_2;
    } else {
        *request.uri_mut() = target;
        *request.version_mut() = Version::HTTP_11;
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// Returns the answer with the headers that callers get.
pub(super) fn answer(
    response: Response<Incoming>,
    request_id: HeaderValue,
) -> (hyper::http::response::Parts, Incoming) {
    let (mut head, body) = response.into_parts();
    headers::from_process(&mut head.headers, request_id);
    head.version = Version::default();
    (head, body)
}
