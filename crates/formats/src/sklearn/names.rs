//! The names of the columns that an estimator was fitted with, wherever in a file they are.

use std::collections::HashSet;

use coracle_model::LoadError;

use super::fitted::Fitted;
use super::{boosted, columns, ensembles, imbalanced, keyed, pipeline, wrappers};

/// Returns the names of the columns that an estimator was fitted with: its own, or those of what it hands its table to.
///
/// # Errors
/// Kind `Malformed` if what should be names or parts is something else.
pub(super) fn of_columns(fitted: &Fitted<'_>) -> Result<Option<Vec<String>>, LoadError> {
    if let Some(names) = fitted.feature_names()? {
        return Ok(Some(names));
    }
    if fitted.class() == keyed::CLASS {
        return keyed::names(fitted).map(Some);
    }
    if boosted::is_known(fitted.class()) {
        return boosted::feature_names(fitted);
    }
    for part in handed(fitted)? {
        if let Some(names) = of_columns(&part)? {
            return Ok(Some(names));
        }
    }
    Ok(None)
}

/// Returns the parts that get the table of `fitted` as it is.
fn handed<'g>(fitted: &Fitted<'g>) -> Result<Vec<Fitted<'g>>, LoadError> {
    let within = |name: &str| match fitted.attr(name) {
        Some(_) => Ok(vec![fitted.part_in(name)?]),
        None => Ok(Vec::new()),
    };
    match imbalanced::answers_as(fitted.class()) {
        // Later steps see the first one's output, so its names are the user's.
        "sklearn.pipeline.Pipeline" => {
            let first = pipeline::named_steps(fitted)?.into_iter().next();
            let part = |(name, id)| fitted.part(id, &format!("step '{name}'"));
            return first.into_iter().map(part).collect();
        }
        "sklearn.pipeline.FeatureUnion" => {
            let parts = columns::union_parts(fitted)?.into_iter();
            let objects = parts.filter(|&(_, id)| fitted.graph.object(id).is_some());
            let part = |(name, id)| fitted.part(id, &format!("transformer '{name}'"));
            return objects.map(part).collect();
        }
        _ => {}
    }
    match fitted.short_class() {
        "TransformedTargetRegressor" => within("regressor_"),
        // All get the same table, and to look for names in boosted trees takes reading them: one of a class tells for all of it.
        "CalibratedClassifierCV" => parts_of(fitted, "calibrated_classifiers_"),
        "_CalibratedClassifier" if fitted.attr("estimator").is_some() => within("estimator"),
        "_CalibratedClassifier" => within("base_estimator"),
        "MultiOutputClassifier"
        | "MultiOutputRegressor"
        | "OneVsOneClassifier"
        | "OneVsRestClassifier"
        | "OutputCodeClassifier"
        | "StackingClassifier"
        | "StackingRegressor"
        | "VotingClassifier"
        | "VotingRegressor" => parts_of(fitted, "estimators_"),
        _ => wrappers::within(fitted).map_or(Ok(Vec::new()), within),
    }
}

fn parts_of<'g>(fitted: &Fitted<'g>, list: &str) -> Result<Vec<Fitted<'g>>, LoadError> {
    if fitted.attr(list).is_none() {
        return Ok(Vec::new());
    }
    let items = ensembles::items(fitted, list)?.iter();
    let mut parts = Vec::new();
    let mut boosted_classes = HashSet::new();
    for (index, &id) in items.enumerate() {
        let part = fitted.part(id, &format!("{list}[{index}]"))?;
        if !boosted::is_known(part.class()) || boosted_classes.insert(part.class()) {
            parts.push(part);
        }
    }
    Ok(parts)
}
