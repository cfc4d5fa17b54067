//! LightGBM's estimators and boosters in pickles.

use coracle_estimators::{BoostedAnswer, ClassRule, Labels};
use coracle_model::{LoadError, Method};

use super::{BoostedPart, Importances, at};
use crate::lightgbm::{self, Ensemble};
use crate::sklearn::convert::Part;
use crate::sklearn::fitted::Fitted;
use crate::sklearn::labels::labels;

const BOOSTER: &str = "lightgbm.basic.Booster";

pub(super) fn is_known(class: &str) -> bool {
    class == BOOSTER || class.starts_with("lightgbm.sklearn.")
}

pub(super) fn convert(fitted: &Fitted<'_>) -> Result<BoostedPart, LoadError> {
    if fitted.class() == BOOSTER {
        let ensemble = ensemble(fitted)?;
        let converted = at(fitted, lightgbm::boosted(&ensemble, n_iterations(fitted)?))?;
        return Ok(BoostedPart {
            part: Part::boxed(converted.estimator, converted.component.facts),
            feature_names: converted.feature_names,
            library: "LightGBM",
            version: None,
        });
    }
    let booster = fitted.part_in("_Booster")?;
    let ensemble = ensemble(&booster)?;
    let n_iterations = n_iterations(&booster)?;
    refuse_early_stop(fitted, &ensemble)?;
    let answers = match fitted.class() {
        "lightgbm.sklearn.LGBMClassifier" => class_answers(fitted, &ensemble)?,
        _ => vec![(Method::Predict, BoostedAnswer::Values)],
    };
    let (estimator, facts) = at(
        fitted,
        lightgbm::estimator(&ensemble, n_iterations, answers),
    )?;
    Ok(BoostedPart {
        part: Part::boxed(estimator, facts),
        feature_names: ensemble.feature_names(),
        library: "LightGBM",
        version: None,
    })
}

/// Refuses estimators that stop adding trees for a row once its answer is clear enough.
fn refuse_early_stop(fitted: &Fitted<'_>, ensemble: &Ensemble) -> Result<(), LoadError> {
    const NAME: &str = "pred_early_stop";
    let set = fitted.attr(NAME).filter(|_| !fitted.is_none(NAME));
    let is_off = set.is_none_or(|set| fitted.graph.bool(set) == Some(false));
    if is_off || !lightgbm::may_stop_early(ensemble) {
        return Ok(());
    }
    let what = "answers that stop before the last tree are not supported";
    Err(fitted.unsupported(format!("'{NAME}' is set: {what}")))
}

/// Reads the model text that a booster holds, under its name up to 3.3 or from 4.0 on.
fn ensemble(booster: &Fitted<'_>) -> Result<Ensemble, LoadError> {
    let name = match booster.is_none("handle") {
        true => "_handle",
        false => "handle",
    };
    at(booster, Ensemble::parse(&booster.text(name)?))
}

/// Returns how many iterations a booster uses: up to the best one, if it was stopped early.
fn n_iterations(booster: &Fitted<'_>) -> Result<Option<usize>, LoadError> {
    if booster.is_none("best_iteration") {
        return Ok(None);
    }
    let best = booster.number("best_iteration")?;
    Ok(crate::document::whole(best).filter(|&best| best > 0))
}

/// Returns the names of the features.
pub(super) fn feature_names(fitted: &Fitted<'_>) -> Result<Option<Vec<String>>, LoadError> {
    let booster = match fitted.class() {
        BOOSTER => fitted.clone(),
        _ => fitted.part_in("_Booster")?,
    };
    Ok(ensemble(&booster)?.feature_names())
}

/// Returns the labels of a classifier.
pub(super) fn class_labels(fitted: &Fitted<'_>) -> Result<Labels, LoadError> {
    labels(&fitted.part_in("_le")?)
}

/// Returns how much each feature counts.
pub(super) fn importances(fitted: &Fitted<'_>) -> Result<Importances, LoadError> {
    let by_gain = match fitted.text("importance_type")?.as_str() {
        "split" => false,
        "gain" => true,
        other => return Err(fitted.unknown("importance_type", other)),
    };
    let booster = fitted.part_in("_Booster")?;
    let n_iterations = n_iterations(&booster)?;
    let values = at(
        fitted,
        ensemble(&booster)?.importances(n_iterations, by_gain),
    )?;
    Ok(Importances::Doubles(values))
}

fn class_answers(
    fitted: &Fitted<'_>,
    ensemble: &Ensemble,
) -> Result<Vec<(Method, BoostedAnswer)>, LoadError> {
    if !lightgbm::has_probabilities(ensemble) {
        return Err(fitted
            .unsupported("a classifier whose objective gives no probabilities is not supported"));
    }
    let labels = class_labels(fitted)?;
    let rule = ClassRule::LargestProbability;
    let mut answers = vec![
        (Method::Predict, BoostedAnswer::Label(labels, rule)),
        (Method::PredictProba, BoostedAnswer::Probabilities),
    ];
    // The method came with 4.7, as did this attribute; others within scikit-learn prefer it to probabilities.
    if fitted.attr("_fitted_with_feature_names").is_some() {
        answers.push((Method::DecisionFunction, BoostedAnswer::Scores));
    }
    Ok(answers)
}
