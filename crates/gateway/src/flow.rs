//! Flows: requests that several models answer together. Which model gets what is in `walk`, what stands in where that gives no answer in `standing`; here is
//! how flows are asked in each protocol, and what is told of their answers afterwards.
//!
//! Where there are no flows a request costs one look at a flag of the table. A model of a flow is asked as by a request of its own: it has its turn, its
//! batcher, its counters and its record.

pub(crate) mod described;
mod standing;
mod walk;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Code, VersionState};
use coracle_protocol::facts::VersionEntry;
use coracle_protocol::flow::{Dialect, Meta, NO_VERSIONS, request_meta, with_meta};
use coracle_protocol::seldon::{self as messages, Feedback};
use coracle_protocol::v2::Forms;
use coracle_protocol::{RequestError, tfs, v1, v2};
use coracle_serving::flow::{Flow, FlowAsk, FlowStep, FlowTarget, Reward};
use coracle_serving::{ModelTable, ServedModel, VersionStatus};
use hyper::StatusCode;
use hyper::http::request::Parts;

pub use self::described::fits_flow;
use self::walk::{Message, Place, Walk};
use crate::arriving::Arriving;
use crate::arriving::{check_type, content_type};
use crate::codec::{Codec, Encoded, StoodIn};
use crate::connection::{Asked, Handler, Seen};
use crate::encoding::off_loop;
use crate::infer::{Calls, Failure, unknown_model};
use crate::models::version_entry;
use crate::payload;
use crate::respond::Reply;
use crate::route::{self, Named, Route};
use crate::scope::Scope;
use crate::seldon;
use crate::shadow::Sent;
use crate::terms::Terms;
use crate::trace::Trace;

impl<'a> Asked<'a> {
    /// Returns the flow that the request is for.
    pub(crate) fn flow(&self) -> Option<&'a Arc<Flow>> {
        match self.scope {
            Scope::Service { id, tag: None } => self.table.flow(id),
            _ => None,
        }
    }

    /// Tells whether a name is that of the flow's model.
    fn is_called(&self, flow: &Flow, name: &str) -> bool {
        let is_own = match self.scope {
            Scope::Service { id, .. } => id.name == name,
            Scope::All => false,
        };
        is_own || flow.name() == name || name.is_empty()
    }
}

impl Handler {
    /// Answers a request for a flow; `Err` with what came if it is none of the flow's.
    pub(crate) async fn ask_flow<'a>(
        &self,
        (asked, flow): (&Asked<'a>, &'a Arc<Flow>),
        route: &Route<'_>,
        (head, body): (&Parts, Arriving),
        seen: &mut Seen<'a>,
    ) -> Result<Reply, Arriving> {
        let name = route.model();
        if let Some(name) = name.filter(|name| !asked.is_called(flow, name)) {
            return Ok(self.ask_node((asked, flow), route, name).await);
        }
        Ok(match route {
            Route::SeldonPredict => {
                let sent = (Codec::Seldon, Dialect::Seldon);
                let reply = self.infer_flow((asked, flow), sent, (head, body), seen);
                match reply.await {
                    Ok(reply) => reply,
                    Err(failed) => seldon::in_other_words(failed),
                }
            }
            Route::V1Predict(Named { version: None, .. }) => {
                let sent = (Codec::V1 { method: None }, Dialect::V1);
                let reply = self.infer_flow((asked, flow), sent, (head, body), seen);
                reply.await.unwrap_or_else(|failed| failed)
            }
            Route::V2Infer(Named { version: None, .. }) => {
                let reply = self.infer_v2((asked, flow), (head, body), seen);
                reply.await.unwrap_or_else(|failed| failed)
            }
            Route::SeldonFeedback => {
                let take = |feedback: &Feedback| reward(flow, feedback);
                self.take_feedback((head, body), take).await
            }
            Route::V1Models => {
                Reply::rendered(|out| v1::model_list([flow.name()].into_iter(), out))
            }
            Route::V2Models => {
                Reply::rendered(|out| v2::model_list([flow.name()].into_iter(), out))
            }
            Route::V1Model(Named { version: None, .. }) => {
                self.flow_state(flow.name(), trouble(asked.table, flow.root()))
            }
            Route::V2Model(Named {
                model,
                version: None,
            }) => {
                let described = self.flow_described((asked, flow), model, v2::model_metadata);
                described.await
            }
            Route::V1Metadata(Named {
                model,
                version: None,
            }) => {
                let described = self.flow_described((asked, flow), model, tfs::metadata);
                described.await
            }
            Route::V2ModelReady(Named { version: None, .. }) => {
                match trouble(asked.table, flow.root()) {
                    None => Reply::rendered(|out| v2::model_ready(flow.name(), true, out)),
                    Some(why) => Reply::failure(Code::Unavailable, &why),
                }
            }
            _ if name.is_some() => Reply::failure(Code::Unimplemented, NO_VERSIONS),
            _ => return Err(body),
        })
    }

    /// Answers what is asked about the model of one of a flow's nodes, by the node's name, as Seldon's executor does.
    async fn ask_node(&self, of: (&Asked<'_>, &Flow), route: &Route<'_>, name: &str) -> Reply {
        let (asked, flow) = of;
        let Some(ask) = described::node(flow.root(), name) else {
            return Reply::failure(Code::NotFound, &unknown_model(name));
        };
        let trouble = || trouble_of(asked.table, ask);
        match route {
            Route::V2Model(Named { version: None, .. }) => {
                self.flow_described(of, name, v2::model_metadata).await
            }
            Route::V1Metadata(Named { version: None, .. }) => {
                self.flow_described(of, name, tfs::metadata).await
            }
            Route::V2ModelReady(Named { version: None, .. }) => match trouble() {
                None => Reply::rendered(|out| v2::model_ready(name, true, out)),
                Some(why) => Reply::failure(Code::Unavailable, &why),
            },
            Route::V1Model(Named { version: None, .. }) => self.flow_state(name, trouble()),
            _ => Reply::failure(Code::NotFound, &unknown_model(name)),
        }
    }

    /// Returns the state of the one version of a flow, or of the model of a node.
    pub(crate) fn flow_version(&self, trouble: Option<String>) -> VersionEntry {
        let status = VersionStatus {
            version: described::VERSION.to_owned(),
            state: match trouble {
                None => VersionState::Available,
                Some(_) => VersionState::End,
            },
            failure: trouble.map(|why| (Code::Internal, why)),
        };
        version_entry(status, self.shared.ready.load(Ordering::Acquire))
    }

    fn flow_state(&self, name: &str, trouble: Option<String>) -> Reply {
        let ready = trouble.is_none();
        let entry = self.flow_version(trouble);
        Reply::rendered(|out| tfs::model_status(name, &[entry], ready, out))
    }

    /// Answers a request of V2 for an inference.
    async fn infer_v2<'a>(
        &self,
        of: (&Asked<'a>, &'a Arc<Flow>),
        (head, body): (&Parts, Arriving),
        seen: &mut Seen<'a>,
    ) -> Result<Reply, Reply> {
        let codec = Codec::V2 {
            method: None,
            json_length: body.content.json_length(head)?,
        };
        let sent = (codec, Dialect::V2);
        self.infer_flow(of, sent, (head, body), seen).await
    }

    /// Answers a request for an inference.
    async fn infer_flow<'a>(
        &self,
        (asked, flow): (&Asked<'a>, &'a Arc<Flow>),
        (codec, dialect): (Codec, Dialect),
        (head, body): (&Parts, Arriving),
        seen: &mut Seen<'a>,
    ) -> Result<Reply, Reply> {
        check_type(body.content.media_type(&head.headers), &codec)?;
        let terms = Terms::of(&head.headers)
            .map_err(|failure| Reply::error_and_close(StatusCode::BAD_REQUEST, &failure.message))?;
        let (body, arrived) = self.read_whole(&head.headers, body).await?;
        seen.n_bytes_in = body.len();
        let caller = payload::Caller {
            headers: &head.headers,
            request_id: seen.request_id,
            n_message: 0,
        };
        let method = route::query_value(head.uri.query(), "method");
        if method.is_some() {
            let message =
                "the parameter method is not taken by graphs: each of its models has its own";
            flow.count(Err(Code::InvalidArgument));
            return Err(Reply::failure(Code::InvalidArgument, message));
        }
        let refused = |failure: Failure| Reply::failure(failure.code, &failure.message);
        let elements_max = self.calls.elements_max;
        let as_message = {
            let (codec, body) = (codec.clone(), body.clone());
            off_loop(body.len(), move || as_message(&codec, &body, elements_max))
        };
        let (sent, body, forms) = match whole(as_message.await)? {
            Ok(None) => ((codec, dialect), body, None),
            Ok(Some((message, forms))) => ((Codec::Grpc, Dialect::Grpc), message, Some(forms)),
            Err(error) => {
                flow.count(Err(error.code()));
                return Err(refused(error.into()));
            }
        };
        let call = FlowCall {
            caller,
            sent,
            arrived,
            terms,
            trace: seen.trace,
        };
        let led = self.calls.lead_noting((asked.table, flow), call, body);
        let (answered, model) = led.await;
        seen.model = model;
        let mut encoded = answered.map_err(refused)?;
        if let Some(forms) = forms {
            let message = std::mem::take(&mut encoded.body);
            let answer = off_loop(message.len(), move || {
                v2::from_message(&message, &forms, elements_max)
            });
            let answer = whole(answer.await)?;
            (encoded.body, encoded.json_length) = answer.map_err(|error| refused(error.into()))?;
        }
        Ok(Reply::encoded(encoded))
    }

    /// Takes what came of an answer; `take` gives it to whom it is for, and returns their nodes.
    pub(crate) async fn take_feedback<'n>(
        &self,
        (head, body): (&Parts, Arriving),
        take: impl FnOnce(&Feedback) -> Result<Vec<&'n str>, Failure>,
    ) -> Reply {
        let taken = async {
            check_type(content_type(&head.headers), &Codec::Seldon)?;
            let refused = |failure: Failure| Reply::failure(failure.code, &failure.message);
            let checked = self.shared.cors.check_change(&head.headers);
            checked.map_err(refused)?;
            let (body, _) = self.read_whole(&head.headers, body).await?;
            let feedback = messages::read_feedback(&body);
            let feedback = feedback.map_err(|error| refused(error.into()))?;
            let nodes = take(&feedback).map_err(refused)?;
            Ok(Reply::rendered(|out| {
                messages::encode_feedback(&feedback, &nodes, out);
            }))
        };
        taken.await.unwrap_or_else(seldon::in_other_words)
    }
}

/// Returns what was made of a request or an answer, unless that panicked.
fn whole<T>(made: Option<T>) -> Result<T, Reply> {
    let message = "the request could not be read or answered; this is a defect of the server, not of the request";
    made.ok_or_else(|| Reply::failure(Code::Internal, message))
}

/// Returns a request of V2 as the message that its graph is led through by, if it has raw data or says which outputs it wants, and how: tensors go from node
/// to node byte for byte then. Others go as the JSON that they are.
fn as_message(
    codec: &Codec,
    body: &Bytes,
    elements_max: usize,
) -> Result<Option<(Bytes, Forms)>, RequestError> {
    match codec {
        Codec::V2 { json_length, .. } if json_length.is_some() || v2::asks_for_outputs(body) => {
            v2::to_message(body, *json_length, elements_max).map(Some)
        }
        _ => Ok(None),
    }
}

/// A request for a flow.
pub(crate) struct FlowCall<'c> {
    pub(crate) caller: payload::Caller<'c>,
    /// The form of the request, and in which its models are asked.
    pub(crate) sent: (Codec, Dialect),
    pub(crate) arrived: Duration,
    pub(crate) terms: Terms,
    pub(crate) trace: Option<Trace>,
}

impl Calls {
    /// Leads a request through a flow, and counts how it ended.
    pub(crate) async fn lead(
        &self,
        of: (&ModelTable, &Flow),
        call: FlowCall<'_>,
        body: Bytes,
    ) -> Result<Encoded, Failure> {
        self.lead_noting(of, call, body).await.0
    }

    /// The same; returns the model that was asked last, too.
    async fn lead_noting<'a>(
        &self,
        (table, flow): (&'a ModelTable, &'a Flow),
        call: FlowCall<'_>,
        body: Bytes,
    ) -> (Result<Encoded, Failure>, Option<&'a ServedModel>) {
        let copied = flow.shadow().and_then(|tap| {
            let (codec, dialect) = &call.sent;
            let sent = Sent {
                codec,
                dialect: Some(*dialect),
                body: &body,
                arrived: call.arrived,
                trace: call.trace.as_ref(),
            };
            self.shadows.begin_copy(tap, sent)
        });
        let arrived = call.arrived;
        let standing = self.standing_in((table, flow), &call, &body);
        let terms = match &standing {
            Some(standing) => standing.terms(call.terms),
            None => call.terms,
        };
        let walk = Walk::new(self, table, call.caller, call.sent)
            .at(call.arrived, terms)
            .traced(call.trace);
        let begun = walk.begun(body);
        let (walk, message) = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                flow.count(Err(failure.code));
                return (Err(failure), None);
            }
        };
        let answered = match standing {
            None => answer(&walk, flow, message).await.map(Led::own),
            Some(standing) => Box::pin(standing.lead(&walk, message)).await,
        };
        if let Some(copied) = copied {
            let elapsed = self.clock.monotonic().saturating_sub(arrived);
            let given = to_compare(&answered, walk.fallback());
            let given = given.map(|body| Some((body?, elapsed)));
            self.shadows.finish_graph(*copied, flow, given);
        }
        // What is counted is what the graph did.
        flow.count(match &answered {
            Ok(led) => led.instead.map_or(Ok(()), |stood_in| Err(stood_in.code)),
            Err(failure) => Err(failure.code),
        });
        let encoded = answered.map(|led| Encoded {
            body: led.body,
            json_length: None,
            phases: None,
            answered: None,
            fallback: led.instead.or(walk.fallback()),
            from_cache: false,
        });
        (encoded, walk.last_model())
    }
}

/// Returns what a shadow's answer is compared with, where something stood in `on_the_way`.
fn to_compare(
    answered: &Result<Led, Failure>,
    on_the_way: Option<StoodIn>,
) -> Result<Option<&[u8]>, Code> {
    match answered {
        Ok(led) => match led.instead.or(on_the_way) {
            None => Ok(Some(led.body.as_slice())),
            // As of a model: who was sooner says of nobody that he failed, and what else stood in does.
            Some(stood_in) if stood_in.was_sooner => Ok(None),
            Some(stood_in) => Err(stood_in.code),
        },
        Err(failure) => Err(failure.code),
    }
}

/// An answer to a request for a flow.
struct Led {
    body: Vec<u8>,
    /// What gave it in place of the flow, if something did.
    instead: Option<StoodIn>,
}

impl Led {
    fn own(body: Vec<u8>) -> Self {
        Self {
            body,
            instead: None,
        }
    }
}

/// Leads a request through a flow, and puts its answer in the protocol's words.
async fn answer<'a>(
    walk: &Walk<'_, 'a>,
    flow: &'a Flow,
    message: Message,
) -> Result<Vec<u8>, Failure> {
    let asked = match (walk.dialect(), &message) {
        (Dialect::Seldon, Message::Request(body)) => Some(request_meta(body)?),
        _ => None,
    };
    let led = walk.step((flow.root(), Place::Last), message);
    let body = led.await?.into_body();
    match asked {
        None => Ok(body.into()),
        Some(asked) => {
            let (routing, path) = walk.way();
            let fallback = walk.fallback().map(|stood_in| stood_in.by.name());
            let meta = Meta {
                asked: &asked,
                routing: &routing,
                path: &path,
                fallback,
            };
            Ok(with_meta(&body, &meta)?)
        }
    }
}

/// Gives a flow what came of an answer; returns the nodes that it is for.
pub(crate) fn reward<'f>(flow: &'f Flow, feedback: &Feedback) -> Result<Vec<&'f str>, Failure> {
    let routing = |node: &str| feedback.routing.get(node).copied();
    let rewarded = flow.reward(&Reward {
        reward: feedback.reward,
        n_rows: feedback.n_rows,
        routing: &routing,
    });
    rewarded.map_err(|why| Failure::new(Code::InvalidArgument, why.to_string()))
}

/// Returns why a flow takes no requests, if one of its models was set aside.
pub(crate) fn trouble(table: &ModelTable, step: &FlowStep) -> Option<String> {
    match step {
        FlowStep::Ask(ask) => trouble_of(table, ask),
        FlowStep::Fixed { .. } => None,
        FlowStep::Chain(steps)
        | FlowStep::One {
            branches: steps, ..
        }
        | FlowStep::All {
            branches: steps, ..
        } => steps.iter().find_map(|step| trouble(table, step)),
    }
}

/// Returns why a node's model takes no requests, if it was set aside.
pub(crate) fn trouble_of(table: &ModelTable, ask: &FlowAsk) -> Option<String> {
    match &ask.target {
        FlowTarget::Revision(model) => model.trouble(),
        FlowTarget::Service(id) => match table.service(id) {
            None => Some(format!("there is no service {id}")),
            Some(route) => {
                let mut targets = route.targets().iter();
                targets.find_map(|target| target.model.trouble())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::StandIn;

    #[test]
    fn a_node_that_another_was_sooner_than_is_no_failure() {
        let sooner = StoodIn {
            was_sooner: true,
            ..StoodIn::new(Code::DeadlineExceeded, StandIn::Service)
        };
        let failed = StoodIn::new(Code::Unavailable, StandIn::Constant);
        let led = |instead| {
            Ok(Led {
                body: vec![1],
                instead,
            })
        };
        for (answered, on_the_way, expected) in [
            (led(None), None, Ok(Some(&[1][..]))),
            (led(None), Some(sooner), Ok(None)),
            (led(None), Some(failed), Err(Code::Unavailable)),
            (led(Some(failed)), Some(sooner), Err(Code::Unavailable)),
            (
                Err(Failure::new(Code::Internal, "")),
                Some(sooner),
                Err(Code::Internal),
            ),
        ] {
            assert_eq!(to_compare(&answered, on_the_way), expected);
        }
    }
}
