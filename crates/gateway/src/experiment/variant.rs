//! HTTP requests that are split by an experiment before it is known who answers them: a process, which they are passed on to, or this server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_serving::{Route as Split, ServedModel};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::part::only_forwards;
use super::{Sent, Turn, choose, is_split, renamed};
use crate::arriving::Arriving;
use crate::body::ReplyBody;
use crate::codec::Codec;
use crate::connection::{Answered, Handler, Place, Seen};
use crate::encoding;
use crate::forward::Forwarding;
use crate::payload;
use crate::respond::Reply;
use crate::route::Route;
use crate::trace::Trace;

/// Tells whether an experiment of its route may take a request: it is a prediction, or sent to a path that only a process can know where all variants are
/// processes.
pub(crate) fn may_take(split: &Split, place: &Place<'_>, method: &Method) -> bool {
    let is_prediction = match place.found {
        Ok(route) => matches!(
            route,
            Route::V1Predict(_) | Route::V1Examples(..) | Route::V2Infer(_) | Route::SeldonPredict
        ),
        Err(_) => method == Method::POST && only_forwards(place.table, split),
    };
    is_prediction && is_split(split, place.scope)
}

/// Tells whether a request is about experiments of its route, which processes know nothing of.
pub(crate) fn is_about(split: &Split, place: &Place<'_>) -> bool {
    let asks = matches!(place.found, Ok(Route::Experiment(_)));
    asks && split.experiments().is_some()
}

impl Handler {
    /// Answers a request of a route whose experiments may have processes answer it, or returns what is to be passed on, for which the table is needed no
    /// more; `own` is the revision whose turn it is in the route's own split.
    pub(crate) async fn answer_variant<'a>(
        &self,
        (own, place): (&'a Arc<ServedModel>, Place<'a>),
        (head, body): (&Parts, Arriving),
        request_id: HeaderValue,
    ) -> Result<(Forwarding, Arriving), Response<ReplyBody>> {
        let started = body.started;
        let experiments = place.scope.route(place.table, model_of(&place));
        let experiments = experiments.and_then(|route| route.experiments());
        let reads_body = experiments.is_some_and(|experiments| experiments.reads_bodies());
        let read = match reads_body {
            true => self.readable(head, body).await,
            false => Ok((body, Bytes::new())),
        };
        let (body, readable) = match read {
            Ok(read) => read,
            Err(reply) => return Err(self.refused(head, reply, request_id, started)),
        };
        let codec = codec_of(&place, head);
        // Who answers says what is wrong with its length.
        let readable = if codec.is_some() {
            readable
        } else {
            Bytes::new()
        };
        let codec = codec.unwrap_or(Codec::V1 { method: None });
        let sent = Sent {
            headers: &head.headers,
            codec: &codec,
            body: &readable,
        };
        let chosen = choose((place.table, place.scope), own, sent);
        let model = chosen.as_ref().map_or(own, |chosen| chosen.model);
        if !model.is_forwarded() {
            place.turn.set(Turn::Settled(chosen));
            let answered = self.answer_here(head, body, &place, request_id).await;
            return Err(self.to_http(head, answered));
        }
        let other = chosen.as_ref().and_then(|chosen| chosen.other_name());
        let path = match other {
            Some(name) => renamed(place.path, name),
            None => place.path.to_owned(),
        };
        let caller = payload::Caller {
            headers: &head.headers,
            request_id: &request_id,
            n_message: 0,
        };
        let clock = &self.shared.clock;
        let part = chosen.map(|chosen| chosen.part(caller, clock, started));
        let forwarding = Forwarding {
            part: part.unwrap_or_default(),
            ..Forwarding::plain(model, &path)
        };
        Ok((forwarding, body))
    }

    /// Reads the body of a request, which stays as it is; returns it as units are read from it, too. One that cannot be expanded has none: who answers
    /// says what is wrong with it.
    async fn readable(&self, head: &Parts, body: Arriving) -> Result<(Arriving, Bytes), Reply> {
        let encoding = encoding::of_request(&head.headers);
        let started = body.started;
        let (bytes, arrived) = self.read_body(body).await?;
        let readable = match encoding {
            Ok(None) => bytes.clone(),
            Ok(Some(encoding)) => {
                let expanded = self.expanded(encoding, bytes.clone()).await;
                expanded.unwrap_or_default()
            }
            Err(_unknown) => Bytes::new(),
        };
        Ok((Arriving::whole(bytes, (started, arrived)), readable))
    }

    /// Answers a request that cannot be read.
    fn refused(
        &self,
        head: &Parts,
        reply: Reply,
        request_id: HeaderValue,
        started: Duration,
    ) -> Response<ReplyBody> {
        let trace = Trace::of(&head.headers);
        let seen = Seen {
            request_id: &request_id,
            n_bytes_in: 0,
            model: None,
            trace,
        };
        self.count_and_log(head, &reply, &seen, started);
        let answered = Answered {
            reply,
            request_id,
            trace,
        };
        self.to_http(head, answered)
    }
}

fn model_of<'a>(place: &'a Place<'_>) -> Option<&'a str> {
    place.found.as_ref().ok().and_then(Route::model)
}

/// Returns how units are read from a body: as JSON, up to where a V2 request's ends; `None` if it does not say where that is.
fn codec_of(place: &Place<'_>, head: &Parts) -> Option<Codec> {
    let method = None;
    Some(match place.found {
        Ok(Route::V2Infer(_)) => Codec::V2 {
            method,
            json_length: crate::arriving::json_length(&head.headers).ok()?,
        },
        _ => Codec::V1 { method },
    })
}
