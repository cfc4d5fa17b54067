//! Pipelines.

use coracle_estimators::{Pipeline, Step};
use coracle_model::LoadError;
use coracle_pickle::{Node, NodeId};

use super::convert::{self, Part};
use super::fitted::Fitted;
use super::sparsity;
use super::{imbalanced, transformers};

/// Converts a pipeline of supported steps.
pub(super) fn convert(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let mut steps = Vec::new();
    let mut children = Vec::new();
    let mut reads = fitted.reads.clone();
    let mut parts = Vec::new();
    let mut width = fitted.width;
    for (name, id) in named_steps(fitted)? {
        let mut step = fitted.part(id, &format!("step '{name}'"))?;
        step.width = width;
        width = width_kept(&step);
        step.reads = reads;
        reads = sparsity::layout(&step, &step.reads)?;
        parts.push((name, step));
    }
    // From the last to the first, so that each knows what the next one takes.
    let mut taken = fitted.taken.clone();
    let mut width_after = fitted.width_after;
    let mut feeds_numbers = fitted.feeds_numbers;
    let mut none_after = fitted.none_after.clone();
    for (name, mut step) in parts.into_iter().rev() {
        step.taken.clone_from(&taken);
        step.none_after.clone_from(&none_after);
        step.width_after = width_after;
        step.feeds_numbers = feeds_numbers;
        step.is_whole = fitted.is_whole && steps.is_empty();
        let (estimator, component, nones) = convert::read_after_others(&step, name.clone())?;
        children.push(component);
        if transformers::is_identity(&step)? && !steps.is_empty() {
            // The next step gets the table as it is, texts included.
            continue;
        }
        width_after = Some(estimator.n_features());
        feeds_numbers = estimator.columns().is_none();
        taken = estimator.columns().unwrap_or_default().to_vec();
        none_after = nones;
        steps.push(Step { name, estimator });
    }
    steps.reverse();
    children.reverse();
    let Some(last) = steps.pop() else {
        return Err(
            fitted.unsupported("a pipeline that only passes its input through is not supported")
        );
    };
    let pipeline =
        Pipeline::try_new(steps, last).map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part {
        children,
        ..Part::new(pipeline, Vec::new()).with_nones(none_after)
    })
}

/// Returns the number of columns that a transformer gives, if it is one that gives as many as it gets.
fn width_kept(step: &Fitted<'_>) -> Option<usize> {
    let keeps = [
        "Binarizer",
        "FunctionTransformer",
        "MaxAbsScaler",
        "MinMaxScaler",
        "Normalizer",
        "RobustScaler",
        "StandardScaler",
    ];
    match keeps.contains(&step.short_class()) {
        true => step.kept_width().ok(),
        false => None,
    }
}

/// Returns the steps that do something when the pipeline answers, with their names.
pub(super) fn named_steps(fitted: &Fitted<'_>) -> Result<Vec<(String, NodeId)>, LoadError> {
    let mut named = Vec::new();
    let mut last_samples = false;
    for &step in fitted.list("steps")? {
        let Some(&[name, id]) = fitted.graph.list(step) else {
            return Err(fitted.malformed("'steps' holds something else than pairs"));
        };
        let name = fitted
            .graph
            .string(name)
            .ok_or_else(|| fitted.malformed("a step's name is not text"))?;
        let passes_through = match fitted.graph.node(id) {
            Node::None => true,
            Node::Str(text) => text.as_ref() == "passthrough",
            _ => false,
        };
        let sampler = fitted.graph.object(id);
        last_samples = sampler.is_some_and(|object| imbalanced::is_sampler(object.class));
        if !passes_through && !last_samples {
            named.push((name, id));
        }
    }
    if last_samples {
        return Err(fitted.unsupported("a pipeline that ends with a sampler has no answers"));
    }
    Ok(named)
}
