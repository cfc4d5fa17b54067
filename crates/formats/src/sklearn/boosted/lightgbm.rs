//! LightGBM's estimators and boosters in pickles.

use coracle_estimators::{BoostedAnswer, ClassRule, Labels};
use coracle_model::{LoadError, Method};

use super::{BoostedPart, Importances, at};
use crate::lightgbm::{self, Ensemble, PredictionStop};
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
    let stop = match handle(&booster) {
        "_handle" if lightgbm::may_stop_early(&ensemble) => early_stop(fitted)?,
        _heeded_by_none => None,
    };
    let answers = match fitted.class() {
        "lightgbm.sklearn.LGBMClassifier" => class_answers(fitted, &ensemble)?,
        _ => vec![(Method::Predict, BoostedAnswer::Values)],
    };
    let (estimator, facts) = at(
        fitted,
        lightgbm::estimator(&ensemble, n_iterations, answers, stop),
    )?;
    Ok(BoostedPart {
        part: Part::boxed(estimator, facts),
        feature_names: ensemble.feature_names(),
        library: "LightGBM",
        version: None,
    })
}

/// Returns when a row is shown no further trees, where the estimator was made so: releases from 4.0 on heed it, where scores are compared.
fn early_stop(fitted: &Fitted<'_>) -> Result<Option<PredictionStop>, LoadError> {
    const NAME: &str = "pred_early_stop";
    const FREQ: &str = "pred_early_stop_freq";
    const MARGIN: &str = "pred_early_stop_margin";
    let Some(set) = fitted.attr(NAME).filter(|_| !fitted.is_none(NAME)) else {
        return Ok(None);
    };
    let word = fitted.graph.string(set);
    match word.map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("true" | "+") => {}
        Some("false" | "-" | "") => return Ok(None),
        None if fitted.graph.bool(set) == Some(true) => {}
        None if fitted.graph.bool(set) == Some(false) => return Ok(None),
        _ => return Err(fitted.expected(NAME, "a truth value")),
    }
    let n_iterations = match fitted.attr(FREQ).is_some() {
        true => fitted.count(FREQ)?,
        false => 10,
    };
    let margin = match fitted.attr(MARGIN).is_some() {
        true => fitted.number(MARGIN)?,
        false => 10.0,
    };
    if n_iterations == 0 || margin.is_nan() || margin < 0.0 {
        let message = format!("'{FREQ}' is above 0 and '{MARGIN}' not below it");
        return Err(fitted.malformed(message));
    }
    Ok(Some(PredictionStop {
        n_iterations,
        margin,
    }))
}

/// Returns the name of the model text that a booster holds: up to 3.3, or from 4.0 on.
fn handle(booster: &Fitted<'_>) -> &'static str {
    match booster.is_none("handle") {
        true => "_handle",
        false => "handle",
    }
}

/// Reads the model text that a booster holds.
fn ensemble(booster: &Fitted<'_>) -> Result<Ensemble, LoadError> {
    at(booster, Ensemble::parse(&booster.text(handle(booster))?))
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
