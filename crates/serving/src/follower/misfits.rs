//! Default predictions that no answer of a service's models, or of a flow, could be: told as soon as the models are known, since they would help nobody.
//!
//! They are checked where the value, or what is known of the models, is another than before: what is told is put together after every change of anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_model::Signature;

use super::{Follower, Slot};
use crate::flow::{Flow, FlowAsk, FlowTarget};
use crate::plan::{PlannedRoute, RevisionId, ServiceId};

/// What is known of a model's outputs.
pub type KnownOutputs = Arc<Signature>;

/// Tells default predictions that no answer could be; each says why it is none.
#[derive(Clone, Copy, Debug)]
pub struct FitsOutputs {
    /// Of a model with these outputs.
    pub model: fn(&str, &Signature) -> Result<(), String>,
    /// Of a flow, by what is known of its models; `None` if that is not enough.
    pub flow: FitsFlow,
}

/// What is known of the models of a flow.
pub type KnownOf<'k> = dyn Fn(&FlowAsk) -> Option<KnownOutputs> + 'k;

/// Checks a default prediction of a flow.
pub type FitsFlow = fn(&str, &Flow, &KnownOf<'_>) -> Option<Result<(), String>>;

/// What was found of the default predictions.
#[derive(Default)]
pub(super) struct Misfits {
    routes: BTreeMap<ServiceId, Checked>,
    flows: BTreeMap<ServiceId, Checked>,
}

/// A default prediction that was checked.
struct Checked {
    value: String,
    /// What was known of the models, in their order.
    outputs: Vec<Option<KnownOutputs>>,
    why: Option<String>,
}

impl Checked {
    /// Tells whether it was this value, with the same known of the models.
    fn is_of(&self, value: &str, outputs: &[Option<KnownOutputs>]) -> bool {
        let is_same =
            |(one, other): (&Option<KnownOutputs>, &Option<KnownOutputs>)| match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
        self.value == value
            && self.outputs.len() == outputs.len()
            && self.outputs.iter().zip(outputs).all(is_same)
    }
}

/// Returns as much of a signature as default predictions are checked against, which is known of a model that is let go of, too; `before` if that says the same.
pub(super) fn outputs_of(signature: &Signature, before: Option<KnownOutputs>) -> KnownOutputs {
    let same = before.filter(|before| {
        before.outputs == signature.outputs && before.default_outputs == signature.default_outputs
    });
    same.unwrap_or_else(|| {
        Arc::new(Signature {
            name_rules: Default::default(),
            inputs: Vec::new(),
            outputs: signature.outputs.clone(),
            default_outputs: signature.default_outputs.clone(),
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            columns: None,
        })
    })
}

impl Follower {
    /// Returns why default predictions are none, by the services, or flows, that say them.
    pub(super) fn misfits(&mut self) -> BTreeMap<ServiceId, String> {
        let Some(fits) = self.config.fits else {
            return BTreeMap::new();
        };
        let mut before = std::mem::take(&mut self.misfits);
        let mut now = Misfits::default();
        for (id, (planned, _)) in &self.routes {
            let fallback = planned.fallback.as_ref();
            if let Some(value) = fallback.and_then(|fallback| fallback.value.as_deref()) {
                let outputs = self.outputs_of_route(id, planned);
                let checked = before.routes.remove(id);
                let checked = checked.filter(|checked| checked.is_of(value, &outputs));
                let new = || self.checked_route(planned, (value, outputs), fits);
                now.routes.insert(id.clone(), checked.unwrap_or_else(new));
            }
        }
        for (id, (planned, flow)) in &self.flows {
            let fallback = planned.fallback.as_ref();
            if let Some(value) = fallback.and_then(|fallback| fallback.value.as_deref()) {
                let outputs = flow.asks().into_iter();
                let outputs: Vec<_> = outputs.map(|ask| self.outputs_of_ask(ask)).collect();
                let checked = before.flows.remove(id);
                let checked = checked.filter(|checked| checked.is_of(value, &outputs));
                let new = || {
                    let known = |ask: &FlowAsk| self.outputs_of_ask(ask);
                    let fits = (fits.flow)(value, flow, &known);
                    Checked {
                        value: value.to_owned(),
                        outputs,
                        why: fits.and_then(Result::err),
                    }
                };
                now.flows.insert(id.clone(), checked.unwrap_or_else(new));
            }
        }
        self.misfits = now;
        let all = self.misfits.routes.iter().chain(&self.misfits.flows);
        let told = all.filter_map(|(id, checked)| Some((id.clone(), checked.why.clone()?)));
        told.collect()
    }

    fn checked_route(
        &self,
        planned: &PlannedRoute,
        (value, outputs): (&str, Vec<Option<KnownOutputs>>),
        fits: FitsOutputs,
    ) -> Checked {
        let mut targets = planned.targets.iter().zip(&outputs);
        let why = targets.find_map(|(target, outputs)| {
            let why = (fits.model)(value, outputs.as_deref()?).err()?;
            Some(format!("revision {}: {why}", target.revision))
        });
        Checked {
            value: value.to_owned(),
            outputs,
            why,
        }
    }

    fn outputs_of_route(
        &self,
        id: &ServiceId,
        planned: &PlannedRoute,
    ) -> Vec<Option<KnownOutputs>> {
        let targets = planned.targets.iter().map(|target| {
            let revision = RevisionId {
                namespace: id.namespace.clone(),
                name: target.revision.clone(),
            };
            self.slots.get(&revision).and_then(Slot::outputs)
        });
        targets.collect()
    }

    /// Returns what is known of the model of a node: of a service's, of that which its description is taken from.
    fn outputs_of_ask(&self, ask: &FlowAsk) -> Option<KnownOutputs> {
        let revision = match &ask.target {
            FlowTarget::Revision(model) => model.revision(),
            FlowTarget::Service(id) => {
                let (_planned, route) = self.routes.get(id)?;
                route.targets().first()?.model.revision()
            }
        };
        self.slots.get(revision?)?.outputs()
    }
}
