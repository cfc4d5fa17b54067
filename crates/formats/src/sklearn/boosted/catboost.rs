//! CatBoost's estimators in pickles: each holds a `.cbm` file.

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
    let id = fitted.require("__model")?;
    let Node::Bytes(bytes) = fitted.graph.node(id) else {
        return Err(fitted.malformed("attribute '__model' is not bytes"));
    };
    let ensemble = at(fitted, Ensemble::parse_binary(bytes))?;
    let converted = at(fitted, catboost::boosted(ensemble))?;
    Ok(BoostedPart {
        part: Part::boxed(converted.estimator, converted.component.facts),
        feature_names: converted.feature_names,
        library: "CatBoost",
        version: None,
    })
}
