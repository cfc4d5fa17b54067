//! XGBoost's estimators and boosters in pickles.

use coracle_estimators::{BoostedAnswer, BoostedLink, BoostedMissing, Labels};
use coracle_model::{LoadError, Method};
use coracle_pickle::Node;
use coracle_tensor::Values;

use super::{BoostedPart, Importances, at};
use crate::numbers::to_single;
use crate::sklearn::convert::Part;
use crate::sklearn::fitted::Fitted;
use crate::sklearn::labels::labels;
use crate::sklearn::sparsity::Layout;
use crate::xgboost::{self, Ensemble};

const BOOSTER: &str = "xgboost.core.Booster";

pub(super) fn is_known(class: &str) -> bool {
    class == BOOSTER || class.starts_with("xgboost.sklearn.")
}

pub(super) fn convert(fitted: &Fitted<'_>) -> Result<BoostedPart, LoadError> {
    match fitted.class() {
        BOOSTER => booster(fitted),
        "xgboost.sklearn.XGBClassifier" | "xgboost.sklearn.XGBRFClassifier" => {
            let ensemble = ensemble(&fitted.part_in("_Booster")?)?;
            classifier(fitted, &ensemble)
        }
        _ => {
            let ensemble = ensemble(&fitted.part_in("_Booster")?)?;
            let answers = vec![(Method::Predict, BoostedAnswer::Values)];
            estimator(fitted, &ensemble, None, answers)
        }
    }
}

/// Reads the model that a booster holds.
fn ensemble(booster: &Fitted<'_>) -> Result<Ensemble, LoadError> {
    let id = booster.require("handle")?;
    match booster.graph.node(id) {
        Node::Bytes(bytes) => at(booster, Ensemble::parse(bytes)),
        Node::None => Err(booster.malformed("holds no model")),
        _ => Err(booster.malformed("attribute 'handle' is not bytes")),
    }
}

/// Returns how much each feature counts.
pub(super) fn importances(
    fitted: &Fitted<'_>,
    n_features: usize,
) -> Result<Importances, LoadError> {
    let kind = fitted.text_or("importance_type", "gain")?;
    let booster = fitted.part_in("_Booster")?;
    match booster.graph.node(booster.require("handle")?) {
        Node::Bytes(bytes) => {
            let singles = at(fitted, xgboost::importances(bytes, &kind, n_features))?;
            Ok(Importances::Singles(singles))
        }
        _ => Err(booster.malformed("attribute 'handle' is not bytes")),
    }
}

/// Returns the names of the features.
pub(super) fn feature_names(fitted: &Fitted<'_>) -> Result<Option<Vec<String>>, LoadError> {
    let booster = match fitted.class() {
        BOOSTER => fitted.clone(),
        _ => fitted.part_in("_Booster")?,
    };
    Ok(ensemble(&booster)?.feature_names)
}

fn booster(fitted: &Fitted<'_>) -> Result<BoostedPart, LoadError> {
    let ensemble = ensemble(fitted)?;
    let converted = at(fitted, xgboost::boosted(&ensemble))?;
    Ok(BoostedPart {
        part: Part::boxed(converted.estimator, converted.component.facts),
        feature_names: converted.feature_names,
        library: "XGBoost",
        version: converted.version,
    })
}

/// Returns the labels of a classifier; without an encoder they are 0, 1, ...
pub(super) fn class_labels(fitted: &Fitted<'_>) -> Result<Labels, LoadError> {
    if !fitted.is_none("_le") {
        return labels(&fitted.part_in("_le")?);
    }
    let n_classes = fitted.count("n_classes_")?;
    let n_groups = ensemble(&fitted.part_in("_Booster")?)?.n_groups.max(2);
    if n_classes > n_groups {
        let message = format!("'n_classes_' is {n_classes}, the booster tells {n_groups} apart");
        return Err(fitted.malformed(message));
    }
    let n_classes =
        i64::try_from(n_classes).map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Labels::new(Values::I64((0..n_classes).collect())))
}

fn classifier(fitted: &Fitted<'_>, ensemble: &Ensemble) -> Result<BoostedPart, LoadError> {
    let labels = match fitted.is_none("_le") {
        true => None,
        false => Some(labels(&fitted.part_in("_le")?)?),
    };
    let (link, answers) = at(fitted, xgboost::class_answers(ensemble, labels))?;
    estimator(fitted, ensemble, link, answers)
}

fn estimator(
    fitted: &Fitted<'_>,
    ensemble: &Ensemble,
    link: Option<BoostedLink>,
    answers: Vec<(Method, BoostedAnswer)>,
) -> Result<BoostedPart, LoadError> {
    let missing = match fitted.is_none("missing") {
        true => f64::NAN,
        false => fitted.number("missing")?,
    };
    let missing = match (missing.is_nan(), &fitted.reads) {
        (true, Layout::Dense) => BoostedMissing::Nan,
        (false, Layout::Dense) => BoostedMissing::Number(to_single(missing)),
        // What a sparse table does not store is missing, and that is zeros.
        (true, Layout::Sparse) => BoostedMissing::Zeros {
            columns: vec![true; ensemble.n_features],
            magnitude_max: 0.0,
        },
        (true, Layout::WithZeros) => BoostedMissing::Absent,
        (true, Layout::Uncertain(why)) => {
            let message = "XGBoost tells zeros that the sparse table before it stores from those that it does not";
            return Err(fitted.unsupported(format!("{message}, and {why}")));
        }
        (false, _) => {
            let message = "'missing' is a number, and the step before gives a sparse table";
            return Err(fitted.unsupported(message));
        }
    };
    let options = xgboost::Options {
        n_iterations: at(fitted, xgboost::n_iterations(ensemble))?,
        missing,
        link,
        answers,
    };
    let (estimator, facts) = at(fitted, xgboost::estimator(ensemble, options))?;
    Ok(BoostedPart {
        part: Part::boxed(estimator, facts),
        feature_names: ensemble.feature_names.clone(),
        library: "XGBoost",
        version: ensemble.version.clone(),
    })
}
