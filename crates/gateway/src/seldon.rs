//! Seldon's protocol: the service is named by the path before it, and failures are told in the words of Seldon's executor. What is told besides answers is in
//! `described`.

mod described;
mod several;

use std::sync::Arc;

use coracle_base::Code;
use coracle_protocol::flow::with_routing;
use coracle_protocol::seldon::{self, Feedback};
use coracle_serving::flow::{NOBODY, Reward};
use coracle_serving::{Route, ServedModel};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::arriving::Arriving;
use crate::codec::{Codec, Encoded};
use crate::connection::{Asked, Handler, Seen};
use crate::encoding::off_loop;
use crate::infer::Failure;
use crate::request_id::is_well_formed;
use crate::respond::{REQUEST_ID, Reply};

/// The header that carries a request's id with Seldon.
pub(crate) const PUID: HeaderName = HeaderName::from_static("seldon-puid");
/// What names a deployment in gRPC's metadata.
pub(crate) const DEPLOYMENT: &str = "seldon";

/// Returns the id that a request to a deployment was given by its caller.
fn own_puid(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(PUID).filter(|puid| is_well_formed(puid))
}

/// Tells whether a request came as Seldon's callers send theirs, in any protocol: where its ingress has deployments, to its own service over gRPC, or with
/// its metadata.
fn is_for_deployment(head: &Parts) -> bool {
    let path = head.uri.path();
    path.starts_with("/seldon/")
        || path.starts_with("/seldon.protos.")
        || (path.starts_with("/inference.") || path.starts_with("/tensorflow.serving."))
            && head.headers.contains_key(DEPLOYMENT)
}

/// Returns the `Seldon-Puid` of an answer: the caller's, else the request's id; `None` if it is for no deployment.
pub(crate) fn puid<'a>(head: &'a Parts, request_id: &'a HeaderValue) -> Option<&'a HeaderValue> {
    is_for_deployment(head).then(|| own_puid(&head.headers).unwrap_or(request_id))
}

/// Gives an answer its `Seldon-Puid`, if it has one.
pub(crate) fn mark<B>(puid: Option<HeaderValue>, response: &mut Response<B>) {
    if let Some(puid) = puid {
        response.headers_mut().insert(PUID, puid);
    }
}

impl Handler {
    /// Returns the id of a request: the caller's, be it by Seldon's header, else a new one.
    pub(crate) fn request_id(&self, head: &Parts) -> HeaderValue {
        if !head.headers.contains_key(REQUEST_ID)
            && is_for_deployment(head)
            && let Some(puid) = own_puid(&head.headers)
        {
            let mut puid = puid.clone();
            puid.set_sensitive(true);
            return puid;
        }
        self.ids.of(&head.headers)
    }

    /// Answers `POST /seldon/NAMESPACE/NAME/api/v1.0/predictions`.
    pub(crate) async fn seldon_predict<'a>(
        &self,
        asked: &Asked<'a>,
        head: &Parts,
        body: Arriving,
        seen: &mut Seen<'a>,
    ) -> Reply {
        let Some(model) = asked.service_model() else {
            return failure(
                StatusCode::NOT_FOUND,
                "no such service; ask one at /seldon/NAMESPACE/NAME/api/v1.0/predictions",
            );
        };
        seen.model = Some(model);
        let reply = self
            .infer((asked, model), Codec::Seldon, (head, body), seen)
            .await;
        match reply.status.is_success() {
            true => reply,
            false => in_other_words(reply),
        }
    }
}

impl Handler {
    /// Answers `POST /seldon/NAMESPACE/NAME/api/v1.0/feedback` of a service that is one model: nothing is learnt, and all is counted.
    pub(crate) async fn seldon_feedback(
        &self,
        asked: &Asked<'_>,
        sent: (&Parts, Arriving),
    ) -> Reply {
        let Some(route) = asked.scope.route(asked.table, None) else {
            return failure(
                StatusCode::NOT_FOUND,
                "no such service; tell one at /seldon/NAMESPACE/NAME/api/v1.0/feedback",
            );
        };
        let take = |feedback: &Feedback| reward(route, feedback);
        self.take_feedback(sent, take).await
    }
}

/// Gives a service what came of an answer; returns the node that it is for, if it is for one.
pub(crate) fn reward<'r>(route: &'r Route, feedback: &Feedback) -> Result<Vec<&'r str>, Failure> {
    let routing = |node: &str| feedback.routing.get(node).copied();
    let node = route.reward(&Reward {
        reward: feedback.reward,
        n_rows: feedback.n_rows,
        routing: &routing,
    });
    let node = node.map_err(|why| Failure::new(Code::InvalidArgument, why.to_string()))?;
    Ok(node.into_iter().collect())
}

/// Returns an answer that says which of several predictors the model is that gave it; what something else gave in its place is nobody's.
///
/// # Errors
/// That of `result`; code `Internal` if it is none of Seldon's answers.
#[cold]
pub(crate) async fn routed(
    model: &ServedModel,
    result: Result<Encoded, Failure>,
) -> Result<Encoded, Failure> {
    let encoded = result?;
    let Some(branch) = model.branch() else {
        return Ok(encoded);
    };
    let number = match encoded.fallback {
        None => branch.number,
        Some(_) => NOBODY,
    };
    let body = encoded.body;
    let routed = off_loop(body.len(), move || {
        with_routing(&body, (&branch.deployment, number))
    });
    let defect =
        "the answer could not be written; this is a defect of the server, not of the request";
    let body = routed
        .await
        .ok_or_else(|| Failure::new(Code::Internal, defect))??;
    Ok(Encoded { body, ..encoded })
}

impl<'a> Asked<'a> {
    /// Returns the model that takes a request for the service that the path or host names.
    fn service_model(&self) -> Option<&'a Arc<ServedModel>> {
        self.chosen.or_else(|| {
            let route = self.scope.route(self.table, None)?;
            self.scope.choose(route, self.headers)
        })
    }
}

fn failure(status: StatusCode, message: &str) -> Reply {
    Reply::with_status(status, seldon::error_body(status.as_u16(), message))
}

/// Returns a failure in the words of Seldon's executor.
pub(crate) fn in_other_words(reply: Reply) -> Reply {
    reply.in_words_of(seldon::error_body)
}
