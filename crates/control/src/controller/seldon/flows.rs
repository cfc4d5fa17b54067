//! The flow that a SeldonDeployment's graphs ask for: which model gets what, in the plan's words. [`planned`] is a pure function of the graphs and of the
//! revisions of their services.
//!
//! A flow names revisions, not services, so that what changes together in a manifest changes together for requests. Until the revisions that a manifest
//! asks for are known, and until its flow is in force, the one before stays, with all that it needs.

use coracle_api::seldon::graph::{self, Node, Role, service_name};
use coracle_api::seldon::{SeldonDeploymentSpec, SeldonPredictor};
use coracle_serving::ServiceId;
use coracle_serving::flow::{
    AllStep, AskStep, Join, OneStep, PlannedBandit, PlannedFlow, Routing, Step,
};
use serde_json::Value;

use super::children::parts;
use super::{changed, is_of};
use coracle_api::kind::INFERENCE_SERVICE;

use crate::controller::Controller;
use crate::controller::revisions::{self, STABLE};
use crate::controller::templates::Templates;
use crate::object;
use crate::store::{Key, Stored};

/// The graphs of the predictors that take requests.
pub(super) type Graphs<'a> = Vec<(&'a SeldonPredictor, Node)>;

/// Returns the graphs of a deployment; `None` if each of them is one model, which needs no flow.
pub(super) fn graphs<'a>(name: &str, spec: &'a SeldonDeploymentSpec) -> Option<Graphs<'a>> {
    let (taking, _) = parts(spec);
    let read = taking.into_iter().map(|predictor| {
        // What was stored passed the rules.
        let node = graph::read((name, "spec"), spec, predictor).ok()?;
        Some((predictor, node))
    });
    let graphs: Graphs<'_> = read.collect::<Option<_>>()?;
    let is_plain = graphs.iter().all(|(_, node)| node.is_plain());
    (!is_plain).then_some(graphs)
}

/// Returns the flow of graphs; `None` if `revision_of` a service is not known yet.
pub(super) fn planned(
    name: &str,
    graphs: &Graphs<'_>,
    revision_of: &dyn Fn(&str) -> Option<String>,
) -> Option<PlannedFlow> {
    let (_, first) = graphs.first()?;
    let steps = graphs.iter().map(|(predictor, node)| {
        let compiler = Compiler {
            deployment: name,
            predictor: &predictor.name,
            revision_of,
        };
        Some((predictor.name.clone(), compiler.step(node)?))
    });
    let mut branches: Vec<(String, Step)> = steps.collect::<Option<_>>()?;
    let root = match graphs.len() {
        1 => branches.pop()?.1,
        _ => {
            let shares = graphs.iter().map(|(predictor, _)| {
                let share = predictor.traffic.unwrap_or(0).clamp(0, 100);
                u8::try_from(share).unwrap_or(0)
            });
            Step::One(OneStep {
                node: name.to_owned(),
                routing: Routing::Shares(shares.collect()),
                branches,
            })
        }
    };
    Some(PlannedFlow {
        name: first.unit.name.clone(),
        root,
    })
}

struct Compiler<'a> {
    deployment: &'a str,
    predictor: &'a str,
    revision_of: &'a dyn Fn(&str) -> Option<String>,
}

impl Compiler<'_> {
    /// Returns what a node and those below it do; their depth is bounded by the rules.
    fn step(&self, node: &Node) -> Option<Step> {
        let one = |routing: Routing| self.one(node, routing);
        match node.role {
            Role::Model(_) => {
                let ask = self.ask(node)?;
                Some(match self.below(node)? {
                    None => ask,
                    Some(below) => Step::Chain(vec![ask, below]),
                })
            }
            Role::OutputTransformer(_) => {
                let ask = self.ask(node)?;
                Some(match self.below(node)? {
                    None => ask,
                    Some(below) => Step::Chain(vec![below, ask]),
                })
            }
            Role::Fixed => Some(Step::Fixed {
                node: node.unit.name.clone(),
            }),
            Role::Average => self.all(node, Join::Average),
            Role::AbTest { ratio_a } => one(Routing::Random { first: ratio_a }),
            Role::First => one(Routing::First),
            Role::EpsilonGreedy {
                epsilon,
                best_branch,
                seed,
            } => one(Routing::Bandit(PlannedBandit::EpsilonGreedy {
                epsilon,
                start: best_branch,
                seed,
            })),
            Role::Thompson { seed } => one(Routing::Bandit(PlannedBandit::Thompson { seed })),
        }
    }

    fn ask(&self, node: &Node) -> Option<Step> {
        let service = service_name(self.deployment, self.predictor, &node.unit.name);
        Some(Step::Ask(AskStep {
            node: node.unit.name.clone(),
            revision: Some((self.revision_of)(&service)?),
            service,
        }))
    }

    /// Returns what the nodes below a model do: of several the first one's answer counts, as with Seldon's executor.
    fn below(&self, node: &Node) -> Option<Option<Step>> {
        Some(match node.children.as_slice() {
            [] => None,
            [child] => Some(self.step(child)?),
            _ => Some(self.all(node, Join::First)?),
        })
    }

    fn all(&self, node: &Node, join: Join) -> Option<Step> {
        let branches = node.children.iter().map(|child| self.step(child));
        Some(Step::All(AllStep {
            node: node.unit.name.clone(),
            join,
            branches: branches.collect::<Option<_>>()?,
        }))
    }

    fn one(&self, node: &Node, routing: Routing) -> Option<Step> {
        let branches = node.children.iter().map(|child| {
            let step = self.step(child)?;
            Some((child.unit.name.clone(), step))
        });
        Some(Step::One(OneStep {
            node: node.unit.name.clone(),
            routing,
            branches: branches.collect::<Option<_>>()?,
        }))
    }
}

/// How the flow of a deployment stands.
pub(super) struct FlowStanding {
    /// What is to be planned.
    pub(super) planned: Option<PlannedFlow>,
    /// Whether requests go as the manifest says; what else there is goes only then.
    pub(super) in_force: bool,
}

impl Controller {
    /// Returns how the flow of a deployment with these graphs stands; `wanted` are its InferenceServices.
    pub(super) fn flow_standing(
        &self,
        id: &ServiceId,
        (deployment, wanted): (&Stored, &[Value]),
        graphs: Option<&Graphs<'_>>,
    ) -> FlowStanding {
        let observed = self.last_observed.flows.get(id);
        let before = || self.plan.flows.get(id).or(observed).cloned();
        let Some(graphs) = graphs else {
            // The one before stays until the service that takes its place takes requests.
            let is_replaced = self.last_observed.routes.contains_key(id);
            return FlowStanding {
                planned: before().filter(|_| !is_replaced),
                in_force: observed.is_none(),
            };
        };
        let revision_of = |service: &str| {
            let child = wanted.iter().find(|child| object::name(child) == service)?;
            self.settled_revision(deployment, child)
        };
        let planned = planned(&id.name, graphs, &revision_of);
        FlowStanding {
            in_force: planned.is_some() && planned.as_ref() == observed,
            planned: planned.or_else(before),
        }
    }

    /// Returns the revision of an InferenceService that is as it should be; `None` until there is one.
    fn settled_revision(&self, deployment: &Stored, child: &Value) -> Option<String> {
        let key = Key::new(
            &INFERENCE_SERVICE,
            deployment.key.namespace(),
            object::name(child),
        );
        let live = self.store.get(&key)?;
        if !is_of(&deployment.object, &live.object) || changed(&live, child).is_some() {
            return None;
        }
        let template = live
            .object
            .get("spec")
            .and_then(Templates::read)?
            .stable
            .spec;
        let all = revisions::of(&self.store, &live.object);
        let newest = revisions::newest(&all, STABLE)?;
        (newest.template == template).then(|| newest.name.clone())
    }
}
