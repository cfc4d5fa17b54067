//! CatBoost's estimators in pickles: each holds a `.cbm` file.

use coracle_estimators::Labels;
use coracle_model::LoadError;
use coracle_pickle::Node;

use super::{BoostedPart, at};
use crate::catboost::{self, Ensemble};
use crate::sklearn::convert::Part;
use crate::sklearn::fitted::Fitted;

pub(super) fn is_known(class: &str) -> bool {
    class.starts_with("catboost.core.")
}

pub(super) fn convert(fitted: &Fitted<'_>) -> Result<BoostedPart, LoadError> {
    let ensemble = ensemble(fitted)?;
    // Others within scikit-learn prefer raw scores to probabilities where there are any.
    let converted = match fitted.place.is_empty() {
        true => catboost::boosted(ensemble),
        false => catboost::within_others(ensemble),
    };
    let converted = at(fitted, converted)?;
    Ok(BoostedPart {
        part: Part::boxed(converted.estimator, converted.component.facts),
        feature_names: converted.feature_names,
        library: "CatBoost",
        version: None,
    })
}

/// Reads the model that an estimator holds.
fn ensemble(fitted: &Fitted<'_>) -> Result<Ensemble, LoadError> {
    let id = fitted.require("__model")?;
    let Node::Bytes(bytes) = fitted.graph.node(id) else {
        return Err(fitted.malformed("attribute '__model' is not bytes"));
    };
    at(fitted, Ensemble::parse_binary(bytes))
}

/// Returns the labels of a classifier.
pub(super) fn class_labels(fitted: &Fitted<'_>) -> Result<Labels, LoadError> {
    at(fitted, catboost::class_labels(&ensemble(fitted)?))
}
