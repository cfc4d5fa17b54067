//! CatBoost's estimators in pickles: each holds a `.cbm` file.

use coracle_estimators::Labels;
use coracle_model::LoadError;
use coracle_pickle::Node;

use super::{BoostedPart, Importances, at};
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
        _ if fitted.short_class() == catboost::BASE => catboost::base(ensemble),
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

/// Returns the names of the features.
pub(super) fn feature_names(fitted: &Fitted<'_>) -> Result<Option<Vec<String>>, LoadError> {
    Ok(ensemble(fitted)?.feature_names())
}

/// Returns how much each feature counts, which was computed when it was fitted.
pub(super) fn importances(fitted: &Fitted<'_>) -> Result<Importances, LoadError> {
    const NAME: &str = "_prediction_values_change";
    if fitted.is_none(NAME) {
        return Err(fitted.unsupported("the importance of its features is not in the file"));
    }
    if fitted.attr("_loss_value_change").is_some() && !fitted.is_none("_loss_value_change") {
        return Err(
            fitted.unsupported("the importance of features by a loss of ranking is not supported")
        );
    }
    let values = match fitted.array(NAME) {
        Ok(_) => fitted.flat(NAME)?,
        Err(_no_array) => {
            let numbers = fitted.list(NAME)?.iter().map(|&id| fitted.graph.float(id));
            let numbers: Option<Vec<f64>> = numbers.collect();
            numbers.ok_or_else(|| fitted.malformed(format!("'{NAME}' holds no numbers")))?
        }
    };
    Ok(Importances::Doubles(values))
}

/// Returns the labels of a classifier.
pub(super) fn class_labels(fitted: &Fitted<'_>) -> Result<Labels, LoadError> {
    at(fitted, catboost::class_labels(&ensemble(fitted)?))
}
