//! Seldon's protocol: the service is named by the path before it, and failures are told in the words of Seldon's executor.

use std::sync::Arc;

use coracle_protocol::seldon::{self, Feedback};
use coracle_serving::ServedModel;
use hyper::StatusCode;
use hyper::http::request::Parts;

use crate::arriving::Arriving;
use crate::codec::Codec;
use crate::connection::{Asked, Handler, Seen};
use crate::respond::Reply;

impl Handler {
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
        let take = |feedback: &Feedback| {
            route.feedback().add(feedback.reward);
            let first = route.targets().first();
            Ok(first
                .map(|target| target.model.name())
                .into_iter()
                .collect())
        };
        self.take_feedback(sent, take).await
    }
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

/// Returns a failure in the words of Seldon's executor; what else it says (that a retry may succeed, that the connection ends) stays.
pub(crate) fn in_other_words(reply: Reply) -> Reply {
    let error: Option<serde_json::Value> = serde_json::from_slice(&reply.body).ok();
    let message = error.as_ref().and_then(|error| error["error"].as_str());
    let body = seldon::error_body(reply.status.as_u16(), message.unwrap_or_default());
    reply.with_body(body)
}
