//! Programs that stand in for models: asked as by a request of their own, whoever reads the caller's.
//!
//! Calls run on any thread, connections to processes belong to an event loop: each loop has a task that asks for those who may not.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::grpc::{FrameHead, PREFIX_BYTES};
use coracle_protocol::tfs::Question;
use coracle_serving::ServedModel;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::body::BoundedBody;
use super::call::{Kind, Outgoing};
use super::grpc::outcome_in;
use crate::arriving::{BINARY_TYPE, json_length};
use crate::codec::{Codec, Encoded};
use crate::connection::Handler;
use crate::grpc::{INFER, PREDICTION, message_to};
use crate::infer::{Arrival, Calls, Failure, Request};
use crate::respond::JSON_LENGTH;
use crate::trace::TRACEPARENT;

/// The most that wait for the task of one event loop: it takes them at once, and waits for no process.
const ASKS_MAX: usize = 1_024;
/// What stands in a path, or in its query, as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The way to the programs that stand in for models.
#[derive(Clone, Debug)]
pub(crate) struct Programs(mpsc::Sender<Ask>);

/// A program that is to be asked, and for what.
#[derive(Debug)]
pub(crate) struct Ask {
    model: Arc<ServedModel>,
    request: Request,
    arrival: Arrival,
    reply: oneshot::Sender<Result<Encoded, Failure>>,
}

impl Programs {
    /// Returns the way, and its end, which [`Handler::ask_programs`] takes.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(ASKS_MAX);
        (Self(sender), asks)
    }
}

impl Calls {
    /// Asks a program for what was asked of another model.
    ///
    /// # Errors
    /// With the code of the failure.
    pub(crate) async fn ask_program(
        &self,
        model: &Arc<ServedModel>,
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            model: Arc::clone(model),
            request,
            arrival,
            reply,
        };
        let is_taken = match &self.programs {
            Some(Programs(asks)) => asks.try_send(ask).is_ok(),
            None => false,
        };
        if !is_taken {
            let why = "too many requests are to be answered by programs that stand in";
            return Err(Failure::new(Code::ResourceExhausted, why));
        }
        let ended = || Failure::new(Code::Unavailable, "the server is shutting down");
        answer.await.unwrap_or_else(|_gone| Err(ended()))
    }
}

impl Handler {
    /// Asks programs for whoever wants it, until nobody can any more.
    pub(crate) async fn ask_programs(self: Rc<Self>, mut asks: mpsc::Receiver<Ask>) {
        while let Some(ask) = asks.recv().await {
            let handler = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                let Ask {
                    model,
                    request,
                    arrival,
                    mut reply,
                } = ask;
                tokio::select! {
                    // Whoever wanted it has gone.
                    () = reply.closed() => {}
                    answer = handler.ask(&model, request, arrival) => drop(reply.send(answer)),
                }
            });
        }
    }

    async fn ask(
        &self,
        model: &ServedModel,
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let not_asked = || {
            let why = "a program is not asked in this protocol in place of another";
            Failure::new(Code::Unimplemented, why)
        };
        let (target, body) = of_program(&request, model.name()).ok_or_else(not_asked)?;
        let time = arrival.time_left(self.shared.clock.monotonic());
        let deadline = Instant::now() + time;
        let is_grpc = is_grpc(&request.codec);
        let head = self.head_to_program(&request);
        let request_id = self.ids.of(&HeaderMap::new());
        let outgoing = Outgoing {
            head: &head,
            target: &target,
            request_id: &request_id,
            kind: match is_grpc {
                true => Kind::Grpc {
                    until: Some(deadline),
                },
                false => Kind::Http,
            },
            asked: Cell::default(),
            begun: RefCell::default(),
            gives_up: Cell::new(true),
        };
        let passed = self.pass_on(model, &outgoing, BoundedBody::whole(body), deadline);
        let (response, _lease) = passed
            .await
            .map_err(|no_answer| no_answer.failure(model, time))?;
        let most = self.shared.limits.body_max.as_usize();
        let read = answered(response, most, is_grpc);
        match tokio::time::timeout_at(deadline, read).await {
            Ok(read) => read,
            Err(_elapsed) => Err(crate::infer::too_late(time).begun(true)),
        }
    }

    /// Returns the head of the request to a program, but for its target.
    fn head_to_program(&self, request: &Request) -> Parts {
        let mut head = HttpRequest::new(());
        *head.method_mut() = Method::POST;
        let headers = head.headers_mut();
        let json_length = match request.codec {
            Codec::V2 { json_length, .. } => json_length,
            _ => None,
        };
        let content = match (is_grpc(&request.codec), json_length) {
            (true, _) => "application/grpc",
            (false, Some(_)) => BINARY_TYPE,
            (false, None) => "application/json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        if let Some(length) = json_length {
            headers.insert(JSON_LENGTH, HeaderValue::from(length));
        }
        let trace = request.trace.as_ref();
        if let Some(trace) = trace.and_then(|trace| trace.header(self.ids.unique())) {
            headers.insert(TRACEPARENT, trace);
        }
        head.into_parts().0
    }
}

/// Tells whether requests are asked in gRPC.
fn is_grpc(codec: &Codec) -> bool {
    matches!(
        codec,
        Codec::Grpc | Codec::PredictMessage | Codec::ExamplesMessage(_)
    )
}

/// Returns where a program takes a request for its model `name`, and as which body; `None` where it takes no such requests.
fn of_program(request: &Request, name: &str) -> Option<(String, Bytes)> {
    let plain = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    let body = || request.body.clone();
    let v1 = |verb: &str| format!("/v1/models/{}:{verb}", plain(name));
    let with_method = |path: String, method: &Option<String>| match method {
        Some(method) => format!("{path}?method={}", plain(method)),
        None => path,
    };
    Some(match &request.codec {
        Codec::V1 { method } | Codec::Invocations { method } => {
            (with_method(v1("predict"), method), body())
        }
        Codec::V2 { method, .. } => {
            let path = format!("/v2/models/{}/infer", plain(name));
            (with_method(path, method), body())
        }
        Codec::Examples(Question::Classify) => (v1("classify"), body()),
        Codec::Examples(Question::Regress) => (v1("regress"), body()),
        Codec::Grpc => (INFER.to_owned(), message_to(INFER, &request.body, name)),
        Codec::PredictMessage | Codec::ExamplesMessage(_) => {
            let method = match &request.codec {
                Codec::ExamplesMessage(Question::Classify) => "Classify",
                Codec::ExamplesMessage(Question::Regress) => "Regress",
                _ => "Predict",
            };
            let path = format!("{PREDICTION}{method}");
            let message = message_to(&path, &request.body, name);
            (path, message)
        }
        Codec::Csv { .. } | Codec::Seldon => return None,
    })
}

/// Reads the answer of a program to its end.
async fn answered(
    response: Response<Incoming>,
    most: usize,
    is_grpc: bool,
) -> Result<Encoded, Failure> {
    let unfit = |why: String| Failure::new(Code::Internal, format!("the program {why}"));
    let (head, body) = response.into_parts();
    let code = match is_grpc {
        true => outcome_in(&head.headers).and_then(Result::err),
        false => super::outcome(head.status).err(),
    };
    if let Some(code) = code {
        return Err(Failure::new(code, "the program that stands in failed, too"));
    }
    let is_answer = match is_grpc {
        true => head.status == StatusCode::OK && crate::grpc::is_grpc(&head.headers),
        false => head.status.is_success() && !head.headers.contains_key(CONTENT_ENCODING),
    };
    if !is_answer {
        return Err(unfit(format!("answered with the status {}", head.status)));
    }
    let read = Limited::new(body, most.saturating_add(PREFIX_BYTES))
        .collect()
        .await;
    let read = read.map_err(|error| unfit(format!("did not end its answer: {error}")))?;
    let json_length = match is_grpc {
        true => {
            let status = read.trailers().and_then(outcome_in);
            status
                .unwrap_or(Err(Code::Internal))
                .map_err(|code| Failure::new(code, "the program that stands in failed, too"))?;
            None
        }
        false => json_length(&head.headers)
            .map_err(|_reply| unfit("does not say how much of its answer is JSON".to_owned()))?,
    };
    let body = Vec::from(read.to_bytes());
    let is_whole = match is_grpc {
        true => is_one_message(&body, most),
        false => json_length.is_none_or(|length| length <= body.len()),
    };
    if !is_whole {
        return Err(unfit("gave an answer that is none".to_owned()));
    }
    Ok(Encoded {
        body,
        json_length,
        phases: None,
        answered: None,
        fallback: None,
        from_cache: false,
    })
}

/// Tells whether this is one message with its frame, which is not compressed.
pub(super) fn is_one_message(body: &[u8], most: usize) -> bool {
    let Some(prefix) = body.first_chunk::<PREFIX_BYTES>() else {
        return false;
    };
    FrameHead::read(*prefix, most).is_ok_and(|head| {
        !head.is_compressed && head.length.checked_add(PREFIX_BYTES) == Some(body.len())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(codec: Codec) -> Request {
        Request::plain(codec, Bytes::from_static(b"{}"), Duration::ZERO)
    }

    #[test]
    fn programs_are_asked_where_they_listen() {
        let method = || Some("predict proba".to_owned());
        for (codec, expected) in [
            (Codec::V1 { method: None }, "/v1/models/a%2Fb:predict"),
            (
                Codec::V1 { method: method() },
                "/v1/models/a%2Fb:predict?method=predict%20proba",
            ),
            (
                Codec::V2 {
                    method: None,
                    json_length: None,
                },
                "/v2/models/a%2Fb/infer",
            ),
            (
                Codec::Examples(Question::Regress),
                "/v1/models/a%2Fb:regress",
            ),
            (Codec::Grpc, INFER),
            (
                Codec::ExamplesMessage(Question::Classify),
                "/tensorflow.serving.PredictionService/Classify",
            ),
        ] {
            let (target, _body) = of_program(&request(codec), "a/b").unwrap();
            assert_eq!(target, expected);
        }
        assert!(of_program(&request(Codec::Seldon), "a").is_none());
    }

    #[test]
    fn a_message_is_whole_or_none() {
        let most = 100;
        assert!(is_one_message(b"\0\0\0\0\x02ab", most));
        for bad in [
            &b""[..],
            b"\0\0\0",
            b"\0\0\0\0\x03ab",
            b"\0\0\0\0\x01ab",
            b"\x01\0\0\0\x02ab",
            b"\x02\0\0\0\x02ab",
            b"\0\xff\xff\xff\xffab",
        ] {
            assert!(!is_one_message(bad, most), "{bad:?}");
        }
    }
}
