//! One request that a process answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Code;
use coracle_serving::{ModelCall, ProcessLease, Protocol, ServedModel};
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};
use tokio::time::Instant;

use super::body::{BoundedBody, CallEnd};
use super::{Fault, ForwardedBody, Pool, headers, outcome};
use crate::body::ReplyBody;
use crate::connection::Handler;
use crate::log::Answer;
use crate::respond::Reply;
use crate::trace::Trace;

/// How long to wait before a process that no connection could be made to is tried again, unless there is another.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What is passed on.
struct Outgoing<'a> {
    head: &'a Parts,
    /// The path with its query, as the process is to see it.
    target: &'a str,
    request_id: &'a HeaderValue,
}

/// An answer, and how it is counted.
type Answered = (Response<Incoming>, ProcessLease);

impl Handler {
    /// Passes a request on to a process of `model`, and its answer back.
    pub(crate) async fn forward(
        &self,
        model: Arc<ServedModel>,
        path: &str,
        (head, body): (Parts, Incoming),
        request_id: HeaderValue,
        started: Duration,
    ) -> Response<ReplyBody> {
        let call = model.start_call(self.calls.worker, started);
        let n_bytes_in = body.size_hint().lower();
        let target = match head.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let outgoing = Outgoing {
            head: &head,
            target: &target,
            request_id: &request_id,
        };
        let timeout = model.timeout().unwrap_or(self.calls.request_timeout);
        let result = self.pass_on(&model, &outgoing, body, timeout).await;
        let trace = Trace::of(&head.headers);
        let mut response = self.respond(&model, call, (path, timeout), result, request_id.clone());
        self.shared.http.respond(response.status().as_u16());
        self.log.answer(
            Answer {
                method: head.method.as_str(),
                path: head.uri.path(),
                status: response.status().as_u16(),
                elapsed: self.shared.clock.monotonic().saturating_sub(started),
                n_bytes_in: usize::try_from(n_bytes_in).unwrap_or(usize::MAX),
                n_bytes_out: response.body().len_known(),
                request_id: request_id.to_str().unwrap_or_default(),
                trace_id: trace.as_ref().map(Trace::id),
            },
            &self.shared.http,
            Some(&model),
        );
        self.mark_trace(trace.as_ref(), &mut response);
        self.shared.cors.mark(&head.headers, &mut response);
        response
    }

    /// Sends the request to a process that takes it.
    async fn pass_on(
        &self,
        model: &ServedModel,
        outgoing: &Outgoing<'_>,
        body: Incoming,
        timeout: Duration,
    ) -> Result<Answered, Reply> {
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
        let mut body = Some(BoundedBody::new(body, bytes_max, limits.body_timeout));
        let mut except = Vec::new();
        loop {
            let time_left = deadline.saturating_duration_since(Instant::now());
            let lease = model
                .enter_process(time_left, &except)
                .await
                .map_err(|refusal| Reply::failure(refusal.code(), &refusal.message()))?;
            let address = lease.address();
            match send(&self.pool, address, outgoing, &mut body, deadline).await {
                Ok(response) => return Ok((response, lease)),
                Err(Fault::NotConnected(_)) if body.is_some() && Instant::now() < deadline => {
                    // Nothing of the request was used. A process that is gone is soon known to be.
                    if except.contains(&address) {
                        tokio::time::sleep(AGAIN_AFTER).await;
                        except.clear();
                    } else {
                        except.push(address);
                    }
                }
                Err(fault) => {
                    let message = fault.message(model.name(), timeout);
                    return Err(match fault.code() {
                        Code::Unavailable if fault.status() == StatusCode::SERVICE_UNAVAILABLE => {
                            Reply::failure(Code::Unavailable, &message)
                        }
                        _ => Reply::error(fault.status(), &message),
                    });
                }
            }
        }
    }

    /// Returns what the caller gets; the call ends with its body.
    fn respond(
        &self,
        model: &ServedModel,
        call: ModelCall,
        (path, timeout): (&str, Duration),
        result: Result<Answered, Reply>,
        request_id: HeaderValue,
    ) -> Response<ReplyBody> {
        let protocol = protocol(path);
        match result {
            Ok((response, lease)) => {
                let end = CallEnd {
                    call,
                    lease,
                    protocol,
                    outcome: outcome(response.status()),
                    clock: Arc::clone(&self.shared.clock),
                };
                let (head, body) = answer(response, request_id);
                let body = ForwardedBody::new(body, end, timeout);
                Response::from_parts(head, ReplyBody::forwarded(body))
            }
            Err(reply) => {
                model.log(&format!("no answer: {}", reply.status));
                call.finish(
                    protocol,
                    outcome(reply.status),
                    self.shared.clock.monotonic(),
                );
                reply.into_response(request_id)
            }
        }
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
async fn send(
    pool: &Pool,
    address: SocketAddr,
    outgoing: &Outgoing<'_>,
    body: &mut Option<BoundedBody>,
    deadline: Instant,
) -> Result<Response<Incoming>, Fault> {
    let head = head(outgoing)?;
    let sent = pool.send(address, head, body);
    match tokio::time::timeout_at(deadline, sent).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Fault::Late),
    }
}

/// Returns the head of the request to a process.
fn head(outgoing: &Outgoing<'_>) -> Result<Request<()>, Fault> {
    let malformed = |error: &dyn std::error::Error| Fault::Malformed(error.to_string());
    let mut request = Request::new(());
    *request.method_mut() = outgoing.head.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = outgoing
        .target
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| malformed(&error))?;
    *request.headers_mut() = headers::to_process(outgoing.head, outgoing.request_id);
    Ok(request)
}

/// Returns the answer with the headers that callers get.
fn answer(
    response: Response<Incoming>,
    request_id: HeaderValue,
) -> (hyper::http::response::Parts, Incoming) {
    let (mut head, body) = response.into_parts();
    headers::from_process(&mut head.headers, request_id);
    head.version = Version::default();
    (head, body)
}
