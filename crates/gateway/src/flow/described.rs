//! What a graph takes and gives, by what its models do: the first ones' inputs, the last ones' outputs.

use std::sync::Arc;

use coracle_base::Code;
use coracle_model::{Signature, TensorSpec};
use coracle_protocol::facts::{ModelFacts, ModelSettings};
use coracle_serving::flow::{Flow, FlowAsk, FlowStep, FlowTarget, Join};
use coracle_serving::{KnownOf, Lease, ModelTable, ServedModel};
use coracle_tensor::DType;

use crate::connection::{Asked, Handler};
use crate::fallback::fits_outputs;
use crate::infer::Failure;
use crate::respond::Reply;

/// A graph is one version.
pub(super) const VERSION: &str = "1";
/// What graphs are called where a model's library is.
const PLATFORM: &str = "graph";

impl Handler {
    /// Answers with what a graph, or the model of one of its nodes, takes and gives; those that were let go of are loaded for it.
    pub(super) async fn flow_described(
        &self,
        (asked, flow): (&Asked<'_>, &Flow),
        name: &str,
        render: fn(ModelFacts<'_>, &mut Vec<u8>),
    ) -> Reply {
        if !asked.is_called(flow, name)
            && let Some(ask) = node(flow.root(), name)
        {
            let rendered = |facts: ModelFacts<'_>| Reply::rendered(|out| render(facts, out));
            return match self.node_described((asked.table, ask), rendered).await {
                Ok(reply) => reply,
                Err(failure) => Reply::failure(failure.code, &failure.message),
            };
        }
        match self.flow_signature((asked.table, flow)).await {
            Ok(signature) => Reply::rendered(|out| render(self.flow_facts(flow, &signature), out)),
            Err(failure) => Reply::failure(failure.code, &failure.message),
        }
    }

    /// Returns what a node's model takes and gives, as `render` says it.
    ///
    /// # Errors
    /// If the model is not there, or cannot be loaded.
    pub(crate) async fn node_described<T>(
        &self,
        (table, ask): (&ModelTable, &FlowAsk),
        render: impl FnOnce(ModelFacts<'_>) -> T,
    ) -> Result<T, Failure> {
        let model = served(table, ask)?;
        let lease = self.node_entered(model, ask).await?;
        let versions = [model.version()];
        Ok(render(self.facts(model, &lease, &versions)))
    }

    /// Returns what a graph says of itself.
    pub(crate) fn flow_facts<'f>(
        &self,
        flow: &'f Flow,
        signature: &'f Signature,
    ) -> ModelFacts<'f> {
        ModelFacts {
            name: flow.name(),
            version: VERSION,
            versions: &[VERSION],
            platform: PLATFORM,
            signature,
            elements_max: self.calls.elements_max,
            settings: ModelSettings::default(),
        }
    }

    /// Returns what a graph takes and gives.
    ///
    /// # Errors
    /// If the models that requests come to first take different things, or those whose answers are the graph's give different ones.
    pub(crate) async fn flow_signature(
        &self,
        (table, flow): (&ModelTable, &Flow),
    ) -> Result<Signature, Failure> {
        let mut inputs = Common::default();
        for ask in firsts(flow.root()) {
            let given = self.signature(table, ask).await?;
            let added = inputs.add((ask, "takes"), given.inputs, false);
            added.map_err(no_metadata)?;
        }
        let mut outputs = Common::default();
        let (lasts, is_averaged) = lasts(flow.root());
        for ask in lasts {
            let given = self.signature(table, ask).await?;
            let added = outputs.add_outputs(ask, &given, is_averaged);
            added.map_err(no_metadata)?;
        }
        let outputs = outputs.specs.unwrap_or_default();
        Ok(Signature {
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: inputs.specs.unwrap_or_default(),
            default_outputs: (0..outputs.len()).collect(),
            outputs,
            keyed_outputs: Vec::new(),
            columns: None,
        })
    }

    async fn signature(&self, table: &ModelTable, ask: &FlowAsk) -> Result<Signature, Failure> {
        let lease = self.node_entered(served(table, ask)?, ask).await?;
        Ok(lease.model().signature().clone())
    }

    async fn node_entered(&self, model: &ServedModel, ask: &FlowAsk) -> Result<Lease, Failure> {
        let entered = model.enter(self.calls.request_timeout).await;
        entered.map_err(|refusal| {
            let message = format!("node {}: {}", ask.node, refusal.message());
            Failure::new(refusal.code(), message)
        })
    }
}

/// Returns what a graph takes and gives as far as its models are in memory: what the first one takes, and the last ones give. `None` if one is not; a failure
/// if they give different things.
pub(super) fn signature_by_now(
    (table, flow): (&ModelTable, &Flow),
) -> Option<Result<Signature, String>> {
    let of = |ask: &FlowAsk| {
        let loaded = served(table, ask).ok()?.loaded()?;
        Some(Arc::new(loaded.model().signature().clone()))
    };
    let first = of(firsts(flow.root()).first()?)?;
    let outputs = outputs_by(flow, &of)?;
    Some(outputs.map(|outputs| Signature {
        default_outputs: (0..outputs.len()).collect(),
        outputs,
        keyed_outputs: Vec::new(),
        ..Signature::clone(&first)
    }))
}

/// Returns what a graph gives, by what is known of its models; `None` if that is not enough, a failure if its last models give different things.
fn outputs_by(flow: &Flow, known: &KnownOf<'_>) -> Option<Result<Vec<TensorSpec>, String>> {
    let mut outputs = Common::default();
    let (lasts, is_averaged) = lasts(flow.root());
    for ask in lasts {
        let given = known(ask)?;
        if let Err(why) = outputs.add_outputs(ask, &given, is_averaged) {
            return Some(Err(why));
        }
    }
    Some(Ok(outputs.specs.unwrap_or_default()))
}

/// Checks that a default prediction is one that a graph could give, by what is known of its models; `None` if that is not enough.
///
/// # Errors
/// Says what it is none of.
pub fn fits_flow(value: &str, flow: &Flow, known: &KnownOf<'_>) -> Option<Result<(), String>> {
    let outputs = outputs_by(flow, known)?;
    let fits = outputs.map_err(|why| format!("the graph gives different things: {why}"));
    Some(fits.and_then(|outputs| {
        let given = Signature {
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: Vec::new(),
            default_outputs: (0..outputs.len()).collect(),
            outputs,
            keyed_outputs: Vec::new(),
            columns: None,
        };
        fits_outputs(value, &given)
    }))
}

fn no_metadata(why: String) -> Failure {
    let message = format!("the graph has no metadata of its own: {why}");
    Failure::new(Code::Unimplemented, message)
}

/// What all models at an end of a graph have.
#[derive(Default)]
struct Common<'f> {
    specs: Option<Vec<TensorSpec>>,
    first: Option<&'f FlowAsk>,
}

impl<'f> Common<'f> {
    /// Adds what a model gives unless it is asked for something else.
    fn add_outputs(
        &mut self,
        ask: &'f FlowAsk,
        given: &Signature,
        is_averaged: bool,
    ) -> Result<(), String> {
        let defaults = given.default_outputs.iter();
        let defaults = defaults.filter_map(|index| given.outputs.get(*index).cloned());
        self.add((ask, "gives"), defaults.collect(), is_averaged)
    }

    /// Adds a model's tensors; `is_averaged` if their means are given, which are doubles.
    fn add(
        &mut self,
        (ask, does): (&'f FlowAsk, &str),
        mut specs: Vec<TensorSpec>,
        is_averaged: bool,
    ) -> Result<(), String> {
        if is_averaged {
            specs.iter_mut().for_each(|spec| spec.dtype = DType::F64);
        }
        let (Some(common), Some(first)) = (&mut self.specs, self.first) else {
            (self.specs, self.first) = (Some(specs), Some(ask));
            return Ok(());
        };
        let is_alike = |(one, other): (&TensorSpec, &TensorSpec)| {
            one.dtype == other.dtype && one.shape.len() == other.shape.len()
        };
        if common.len() != specs.len() || !common.iter().zip(&specs).all(is_alike) {
            return Err(format!(
                "node {} {does} {}, node {} {}",
                first.node,
                listed(common),
                ask.node,
                listed(&specs)
            ));
        }
        for (common, spec) in common.iter_mut().zip(specs) {
            for (size, other) in common.shape.iter_mut().zip(spec.shape) {
                *size = size.filter(|size| other == Some(*size));
            }
            if common.columns != spec.columns {
                common.columns = None;
            }
        }
        Ok(())
    }
}

/// Returns tensors in words.
pub(crate) fn listed(specs: &[TensorSpec]) -> String {
    let words = specs.iter().map(|spec| {
        let shape = spec.wire_shape();
        format!("{} {} {shape:?}", spec.name, spec.dtype.name())
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Returns the models that requests come to first; the depth of steps is bounded by whoever plans them.
pub(crate) fn firsts(step: &FlowStep) -> Vec<&FlowAsk> {
    match step {
        FlowStep::Ask(ask) => vec![ask],
        FlowStep::Fixed { .. } => Vec::new(),
        FlowStep::Chain(steps) => steps.first().map(firsts).unwrap_or_default(),
        FlowStep::One { branches, .. } | FlowStep::All { branches, .. } => {
            branches.iter().flat_map(firsts).collect()
        }
    }
}

/// Returns the models whose answers are the graph's, and whether it gives their mean.
pub(crate) fn lasts(step: &FlowStep) -> (Vec<&FlowAsk>, bool) {
    match step {
        FlowStep::Ask(ask) => (vec![ask], false),
        FlowStep::Fixed { .. } => (Vec::new(), false),
        FlowStep::Chain(steps) => steps.last().map(lasts).unwrap_or_default(),
        FlowStep::All {
            join: Join::First,
            branches,
            ..
        } => branches.first().map(lasts).unwrap_or_default(),
        FlowStep::One { branches, .. } | FlowStep::All { branches, .. } => {
            let is_mean = matches!(step, FlowStep::All { .. });
            let mut found = (Vec::new(), is_mean);
            for (mut asks, is_averaged) in branches.iter().map(lasts) {
                found.0.append(&mut asks);
                found.1 |= is_averaged;
            }
            found
        }
    }
}

/// Returns all nodes that have models, each once, with the keys that tell those of several predictors apart.
pub(crate) fn nodes(step: &FlowStep) -> Vec<(String, &FlowAsk)> {
    match step {
        FlowStep::Ask(ask) => vec![(ask.node.clone(), ask)],
        FlowStep::Fixed { .. } => Vec::new(),
        FlowStep::One { router, branches } if router.has_shares() => {
            let branches = router.names().iter().zip(branches);
            let keyed = branches.flat_map(|(name, branch)| {
                let found = nodes(branch).into_iter();
                found.map(move |(key, ask)| (format!("{name}/{key}"), ask))
            });
            keyed.collect()
        }
        FlowStep::Chain(steps)
        | FlowStep::One {
            branches: steps, ..
        }
        | FlowStep::All {
            branches: steps, ..
        } => steps.iter().flat_map(nodes).collect(),
    }
}

/// Returns the node of this name that has a model.
pub(crate) fn node<'f>(step: &'f FlowStep, name: &str) -> Option<&'f FlowAsk> {
    match step {
        FlowStep::Ask(ask) => (ask.node == name).then_some(ask),
        FlowStep::Fixed { .. } => None,
        FlowStep::Chain(steps)
        | FlowStep::One {
            branches: steps, ..
        }
        | FlowStep::All {
            branches: steps, ..
        } => steps.iter().find_map(|step| node(step, name)),
    }
}

/// Returns the model of a node.
fn served<'t>(table: &'t ModelTable, ask: &'t FlowAsk) -> Result<&'t ServedModel, Failure> {
    let model = match &ask.target {
        FlowTarget::Revision(model) => Some(model.as_ref()),
        FlowTarget::Service(id) => {
            let route = table.service(id);
            let target = route.and_then(|route| route.targets().first());
            target.map(|target| target.model.as_ref())
        }
    };
    model.ok_or_else(|| {
        let message = format!("node {}: its service is not there", ask.node);
        Failure::new(Code::Unavailable, message)
    })
}
