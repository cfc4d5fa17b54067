//! The flow that a SeldonDeployment's graphs ask for: which model gets what, in the plan's words. [`planned`] is a pure function of the graphs and of the
//! revisions of their services.
//!
//! A flow names revisions, not services, so that what changes together in a manifest changes together for requests. Until the revisions that a manifest
//! asks for are known, and until its flow is in force, the one before stays, with all that it needs.

use coracle_api::seldon::graph::{self, Node, Role, service_name};
use coracle_api::seldon::{SeldonDeploymentSpec, SeldonPredictor};
use coracle_serving::flow::{
    AllStep, AskStep, Join, OneStep, PlannedBandit, PlannedFlow, Routing, Step,
};
use coracle_serving::{FallbackSettings, ServiceId, ShadowKept, ShadowSettings};
use serde_json::Value;

use super::children::{parts, shadow_name, shadow_percent};
use super::{changed, is_of};
use coracle_api::kind::INFERENCE_SERVICE;

use crate::controller::Controller;
use crate::controller::revisions::{self, STABLE};
use crate::controller::templates::Templates;
use crate::object;
use crate::store::{Key, Stored};

/// A predictor with its graph.
pub(super) type Graph<'a> = (&'a SeldonPredictor, Node);

/// The graphs of a deployment's predictors.
pub(super) struct Graphs<'a> {
    /// Those that take requests.
    pub(super) taking: Vec<Graph<'a>>,
    /// The one that gets copies.
    pub(super) shadow: Option<Graph<'a>>,
}

impl<'a> Graphs<'a> {
    /// Visits all of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Graph<'a>> {
        self.taking.iter().chain(&self.shadow)
    }
}

/// Returns the graphs of a deployment; `None` if each of them is one model, which needs no flow.
pub(super) fn graphs<'a>(name: &str, spec: &'a SeldonDeploymentSpec) -> Option<Graphs<'a>> {
    let (taking, shadow) = parts(spec);
    let read = |predictor: &'a SeldonPredictor| {
        // What was stored passed the rules.
        let node = graph::read((name, "spec"), spec, predictor).ok()?;
        Some((predictor, node))
    };
    let graphs = Graphs {
        taking: taking.into_iter().map(read).collect::<Option<_>>()?,
        shadow: match shadow {
            Some(shadow) => Some(read(shadow)?),
            None => None,
        },
    };
    let is_plain = graphs.all().all(|(_, node)| node.is_plain());
    (!is_plain).then_some(graphs)
}

/// Returns the flow of graphs, for which `fallback` is done; `None` if `revision_of` a service is not known yet.
pub(super) fn planned(
    name: &str,
    (graphs, fallback): (&Graphs<'_>, Option<FallbackSettings>),
    revision_of: &dyn Fn(&str) -> Option<String>,
) -> Option<PlannedFlow> {
    let taking = &graphs.taking;
    let (_, first) = taking.first()?;
    let steps = taking.iter().map(|graph| {
        let step = compiled(name, graph, revision_of)?;
        Some((graph.0.name.clone(), step))
    });
    let mut branches: Vec<(String, Step)> = steps.collect::<Option<_>>()?;
    let root = match taking.len() {
        1 => branches.pop()?.1,
        _ => {
            let shares = taking.iter().map(|(predictor, _)| {
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
        shadow: graphs.shadow.as_ref().map(|(shadow, _)| ShadowSettings {
            service: shadow_name(name, shadow),
            percent: shadow_percent(shadow),
            kept: ShadowKept::default(),
        }),
        fallback,
    })
}

/// Returns the flow of a shadow's graph, which has a name of its own; `None` if `revision_of` a service is not known yet.
fn planned_shadow(
    name: &str,
    graph: &Graph<'_>,
    revision_of: &dyn Fn(&str) -> Option<String>,
) -> Option<PlannedFlow> {
    Some(PlannedFlow {
        name: graph.1.unit.name.clone(),
        root: compiled(name, graph, revision_of)?,
        shadow: None,
        fallback: None,
    })
}

fn compiled(
    name: &str,
    (predictor, node): &Graph<'_>,
    revision_of: &dyn Fn(&str) -> Option<String>,
) -> Option<Step> {
    let compiler = Compiler {
        deployment: name,
        predictor: &predictor.name,
        revision_of,
    };
    compiler.step(node)
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

/// How the flows of a deployment stand.
pub(super) struct FlowStanding {
    /// What is to be planned: the deployment's own, and its shadow's.
    pub(super) planned: Vec<(ServiceId, PlannedFlow)>,
    /// Whether requests go as the manifest says; what else there is goes only then.
    pub(super) in_force: bool,
}

impl FlowStanding {
    /// Leaves nothing but the flow of the deployment `id` itself.
    pub(super) fn drop_shadow(&mut self, id: &ServiceId) {
        self.planned.retain(|(name, _)| name == id);
        for (_, flow) in &mut self.planned {
            flow.shadow = None;
        }
    }
}

impl Controller {
    /// Returns how the flows of a deployment with these graphs, for which `fallback` is done, stand; `wanted` are its InferenceServices.
    pub(super) fn flow_standing(
        &self,
        id: &ServiceId,
        (deployment, wanted): (&Stored, &[Value]),
        graphs: Option<(&Graphs<'_>, Option<FallbackSettings>)>,
    ) -> FlowStanding {
        let observed = &self.last_observed.flows;
        let Some((graphs, fallback)) = graphs else {
            // The one before stays until the service that takes its place takes requests.
            let route = self.last_observed.routes.get(id);
            let is_replaced = route.is_some_and(|route| !route.targets.is_empty());
            let planned = match is_replaced {
                true => Vec::new(),
                false => self.flow_before(id).planned,
            };
            return FlowStanding {
                planned,
                in_force: !observed.contains_key(id),
            };
        };
        let revision_of = |service: &str| {
            let child = wanted.iter().find(|child| object::name(child) == service)?;
            self.settled_revision(deployment, child)
        };
        let own = planned(&id.name, (graphs, fallback), &revision_of);
        let mut all = vec![(id.clone(), own)];
        all.extend(graphs.shadow.as_ref().map(|shadow| {
            let flow = planned_shadow(&id.name, shadow, &revision_of);
            (beside(id, &shadow_name(&id.name, shadow.0)), flow)
        }));
        let is_in_force = |(id, flow): &(ServiceId, Option<PlannedFlow>)| {
            flow.is_some() && flow.as_ref() == observed.get(id)
        };
        let in_force = all.iter().all(is_in_force);
        let planned = all.into_iter().filter_map(|(id, flow)| {
            let flow = flow.or_else(|| self.before(&id))?;
            Some((id, flow))
        });
        FlowStanding {
            planned: planned.collect(),
            in_force,
        }
    }

    /// Returns the flows that a deployment had, for one that cannot be what it is to be: its own, and its shadow's.
    pub(super) fn flow_before(&self, id: &ServiceId) -> FlowStanding {
        let own = self.before(id);
        let shadow = own.as_ref().and_then(|flow| flow.shadow.as_ref());
        let shadow = shadow.and_then(|shadow| {
            let id = beside(id, &shadow.service);
            Some((id.clone(), self.before(&id)?))
        });
        let own = own.map(|flow| (id.clone(), flow));
        FlowStanding {
            planned: own.into_iter().chain(shadow).collect(),
            in_force: false,
        }
    }

    /// Returns the flow that there was.
    fn before(&self, id: &ServiceId) -> Option<PlannedFlow> {
        let observed = &self.last_observed.flows;
        self.plan.flows.get(id).or(observed.get(id)).cloned()
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

/// Returns a name beside a deployment's.
pub(super) fn beside(id: &ServiceId, name: &str) -> ServiceId {
    ServiceId {
        namespace: id.namespace.clone(),
        name: name.to_owned(),
    }
}
