//! What stands in for a graph that gives no answer: another service, the last good answer to the same caller, or a default prediction; and how many of its
//! requests are in work at a time.
//!
//! Calls to its models have what their own services say; this is for what is left: a node that failed all the same, one that is late, a graph that is full.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_model::Signature;
use coracle_protocol::flow::{Dialect, Meta, outputs, request_meta, with_meta};
use coracle_serving::flow::{Flow, FlowAsk, NOBODY};
use coracle_serving::{Fallback, ModelTable, ServedModel};
use coracle_tensor::{DType, Tensor, Values};

use super::described::signature_by_now;
use super::walk::{Message, Walk};
use super::{FlowCall, Led, answer};
use crate::codec::Encoded;
use crate::encoding::off_loop;
use crate::fallback::{Deciding, Wanted, is_ours, last_good, only_value};
use crate::infer::{Arrival, Calls, Failure, OutputCopy, Request};
use crate::shadow::{Answered, ELEMENTS_MAX};
use crate::terms::Terms;

/// What there is to stand in for one request.
pub(super) struct Standing<'s, 'a> {
    calls: &'s Calls,
    flow: &'a Flow,
    fallback: Arc<Fallback>,
    deciding: Arc<Deciding>,
    /// The request as it came, which a stand-in is asked.
    request: Request,
    dialect: Dialect,
    /// How long the caller waits.
    terms: Terms,
}

impl Calls {
    /// Returns what stands in for a flow where it gives no answer, if there is anything, or a bound on its requests.
    pub(super) fn standing_in<'s, 'a>(
        &'s self,
        (table, flow): (&ModelTable, &'a Flow),
        call: &FlowCall<'_>,
        body: &Bytes,
    ) -> Option<Standing<'s, 'a>> {
        let fallback = flow.fallback()?;
        let deciding = Deciding::of(fallback)?;
        let settings = fallback.settings();
        if settings.value.is_some() || settings.key.is_some() {
            learn_signature(&deciding, (table, flow));
        }
        let (codec, dialect) = call.sent.clone();
        let key = settings.key.as_deref();
        let key = key.and_then(|name| only_value(call.caller.headers, name));
        let request = Request {
            timeout: call.terms.timeout,
            priority: call.terms.priority,
            trace: call.trace,
            key: key.cloned().map(Box::new),
            ..Request::plain(codec, body.clone(), call.arrived)
        };
        Some(Standing {
            calls: self,
            flow,
            fallback: Arc::clone(fallback),
            deciding,
            request,
            dialect,
            terms: call.terms,
        })
    }
}

impl<'a> Standing<'_, 'a> {
    /// Returns what the flow's own models may take of the caller's time.
    pub(super) fn terms(&self, of_caller: Terms) -> Terms {
        let is_key_given = self.request.key.is_some();
        let of = (None, self.fallback.as_ref());
        let own = self.calls.time_before_others(of, is_key_given);
        Terms {
            timeout: own.map_or(of_caller.timeout, |own| Some(of_caller.timeout_or(own))),
            ..of_caller
        }
    }

    /// Leads a request through the flow, once there is a place for it; what stands in answers where that fails by no fault of the caller's.
    pub(super) async fn lead(self, walk: &Walk<'_, 'a>, message: Message) -> Result<Led, Failure> {
        match self.led(walk, message).await {
            Err(failure) if is_ours(failure.code) => {
                let Some(encoded) = self.instead(&failure).await else {
                    return Err(failure);
                };
                let instead = encoded.fallback;
                let body = self.in_words(encoded)?;
                self.flow.count_fallback();
                Ok(Led { body, instead })
            }
            // What something stood in for on the way is no good answer.
            Ok(body) if walk.fallback().is_none() => self.kept(body).await.map(Led::own),
            Ok(body) => Ok(Led::own(body)),
            Err(failure) => Err(failure),
        }
    }

    async fn led(&self, walk: &Walk<'_, 'a>, message: Message) -> Result<Vec<u8>, Failure> {
        let priority = self.request.priority.unwrap_or_default();
        let allowed = self.terms(self.terms);
        let allowed = allowed.timeout_or(self.calls.request_timeout);
        let time = self.arrival(allowed).time_left(self.now());
        let entered = self.flow.enter(priority, time).await;
        let place = entered.map_err(|refusal| Failure::from(refusal).within(allowed))?;
        walk.hold(place.clone());
        let answered = answer(walk, self.flow, message).await;
        walk.hold(None);
        if let Some(place) = place
            && answered.is_ok()
            && walk.fallback().is_none()
        {
            // All that was asked has answered, and may be about to give it back; what was stood in for may still run.
            place.give_back();
        }
        answered
    }

    /// Keeps an answer as the last good one of the caller's key, if there is one; returns it.
    async fn kept(&self, body: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let Some(key) = self.request.key.clone() else {
            return Ok(body);
        };
        if self.deciding.signature().is_none() {
            return Ok(body);
        }
        let (fallback, deciding) = (Arc::clone(&self.fallback), Arc::clone(&self.deciding));
        let (dialect, now) = (self.dialect, self.now());
        let body = off_loop(body.len(), move || {
            let read = outputs(dialect, &body, ELEMENTS_MAX);
            let signature = deciding.signature();
            if let Some(outputs) = signature.and_then(|signature| as_declared(read, signature)) {
                let answered = Answered::of_outputs(outputs, Duration::ZERO);
                if answered.is_whole() {
                    last_good(&fallback).keep(&key, (Arc::new(answered), now));
                }
            }
            body
        });
        body.await.ok_or_else(|| {
            let message =
                "the answer could not be read; this is a defect of the server, not of the request";
            Failure::new(Code::Internal, message)
        })
    }

    fn now(&self) -> Duration {
        self.calls.clock.monotonic()
    }

    fn arrival(&self, time: Duration) -> Arrival {
        Arrival {
            at: self.request.arrived,
            time,
            copy: OutputCopy::Nothing,
        }
    }

    /// Returns the answer of what stands in for the flow; `None` if nothing gives one.
    async fn instead(&self, failure: &Failure) -> Option<Encoded> {
        let allowed = self.terms.timeout_or(self.calls.request_timeout);
        let arrival = self.arrival(allowed);
        let has_more = self.fallback.settings().value.is_some() || self.request.key.is_some();
        let asked = (arrival, failure.code, has_more);
        let other = self
            .calls
            .other_service(&self.fallback, &self.request, asked);
        if let Some(answer) = other.await {
            return Some(answer);
        }
        if !has_more {
            return None;
        }
        let wanted = Wanted {
            model: Arc::new(ServedModel::unloaded(self.flow.name().to_owned(), 1)),
            fallback: Arc::clone(&self.fallback),
            deciding: Arc::clone(&self.deciding),
            request: self.request.clone(),
            code: failure.code,
        };
        self.calls.stand_in(wanted, arrival).await
    }

    /// Puts an answer that is none of the flow's in the protocol's words: what comes of it is no branch's.
    fn in_words(&self, encoded: Encoded) -> Result<Vec<u8>, Failure> {
        if self.dialect != Dialect::Seldon {
            return Ok(encoded.body);
        }
        let asked = request_meta(&self.request.body)?;
        let mut routing: Vec<(&str, i64)> = self
            .flow
            .routers()
            .map(|(_, router)| (router.node(), NOBODY))
            .collect();
        routing.sort_unstable();
        routing.dedup();
        let meta = Meta {
            asked: &asked,
            routing: &routing,
            path: &[],
            fallback: encoded.fallback.map(|stood_in| stood_in.by.name()),
        };
        Ok(with_meta(&encoded.body, &meta)?)
    }
}

/// Keeps what a flow takes and gives, once that is known.
fn learn_signature(deciding: &Deciding, (table, flow): (&ModelTable, &Flow)) {
    if deciding.signature.get().is_some() {
        return;
    }
    let Some(signature) = signature_by_now((table, flow)) else {
        return;
    };
    // A service's may be another one's later; a revision's stays, and so does that there is none.
    if signature.is_ok() || flow.asks().into_iter().all(FlowAsk::is_revision) {
        let _kept = deciding.signature.get_or_init(|| signature.ok());
    }
}

/// Returns an answer's outputs by the names and datatypes that the signature has for them: Seldon's messages and V1 say neither. `None` if they are no such.
fn as_declared(
    outputs: Vec<(String, Tensor)>,
    signature: &Signature,
) -> Option<Vec<(String, Tensor)>> {
    let is_only = outputs.len() == 1;
    let declared = outputs.into_iter().map(|(name, tensor)| {
        let mut specs = signature.outputs.iter();
        let named = specs.find(|spec| spec.name == name);
        let spec = named.or_else(|| signature.outputs.first().filter(|_| is_only))?;
        Some((spec.name.clone(), as_dtype(tensor, spec.dtype)?))
    });
    declared.collect()
}

/// Returns numbers as those of another datatype that were written the same way; `None` if they cannot have been.
fn as_dtype(tensor: Tensor, dtype: DType) -> Option<Tensor> {
    let values = match (tensor.values(), dtype) {
        (values, dtype) if values.dtype() == dtype => return Some(tensor),
        (Values::F64(doubles), DType::F32) => {
            let singles: Vec<f32> = doubles.iter().copied().map(single).collect();
            Values::F32(singles.into())
        }
        (Values::I64(integers), DType::I32) => {
            let small = integers.iter().map(|one| i32::try_from(*one).ok());
            Values::I32(small.collect::<Option<Vec<i32>>>()?.into())
        }
        _ => return None,
    };
    Tensor::try_new(tensor.shape().to_vec(), values).ok()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the number was written as a single"
)]
fn single(double: f64) -> f32 {
    double as f32
}

#[cfg(test)]
mod tests {
    use coracle_serving::FallbackSettings;
    use coracle_serving::flow::{AskStep, OneStep, PlannedFlow, Routing, Step};
    use coracle_serving::{LoadPhases, LoadedModel, RevisionId, Route, ServiceId};

    use super::*;
    use crate::shadow::tests::one_with;

    /// A model that answers with numbers of this datatype.
    fn model(dtype: DType) -> LoadedModel {
        let model = one_with(|signature| signature.outputs[0].dtype = dtype);
        LoadedModel::new("m".to_owned(), model, LoadPhases::default())
    }

    /// What is known of a flow that splits its requests: it is not looked for again with each of them.
    #[test]
    fn that_ends_differ_is_known_once_their_models_are() {
        let id = |name: &str| ServiceId {
            namespace: "ml".to_owned(),
            name: name.to_owned(),
        };
        let flow = |models: [&Arc<ServedModel>; 2], by_service: bool| {
            let ask = |name: &str| {
                Step::Ask(AskStep {
                    node: name.to_owned(),
                    service: name.to_owned(),
                    revision: (!by_service).then(|| name.to_owned()),
                })
            };
            let root = Step::One(OneStep {
                node: "split".to_owned(),
                routing: Routing::Shares(vec![50, 50]),
                branches: ["a", "b"].map(|name| (name.to_owned(), ask(name))).into(),
            });
            let planned = PlannedFlow {
                name: "a".to_owned(),
                root,
                shadow: None,
                fallback: Some(FallbackSettings::default()),
            };
            let find = |revision: &RevisionId| {
                let index = usize::from(revision.name == "b");
                models.get(index).map(|model| Arc::clone(model))
            };
            Flow::try_new(&id("graph"), &planned, &find, None).unwrap()
        };
        let unloaded = |name: &str| Arc::new(ServedModel::unloaded(name.to_owned(), 1));
        let (a, b) = (unloaded("a"), unloaded("b"));
        let routes = [("a", &a), ("b", &b)];
        let routes =
            routes.map(|(name, model)| (id(name), Arc::new(Route::single(Arc::clone(model)))));
        let table = ModelTable::from_routes(routes.into());
        let by_revision = flow([&a, &b], false);
        let deciding = |flow: &Flow| Deciding::of(flow.fallback().unwrap()).unwrap();
        let learnt = |flow: &Flow| {
            learn_signature(&deciding(flow), (&table, flow));
            let known = deciding(flow);
            known.signature.get().map(Option::is_some)
        };
        a.load(model(DType::F64));
        assert_eq!(learnt(&by_revision), None);
        b.load(model(DType::I64));
        assert_eq!(learnt(&by_revision), Some(false));
        // Of services others may come.
        let by_service = flow([&a, &b], true);
        assert_eq!(learnt(&by_service), None);
        b.load(model(DType::F64));
        assert_eq!(learnt(&by_service), Some(true));
    }
}
