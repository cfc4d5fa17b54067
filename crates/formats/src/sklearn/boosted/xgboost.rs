//! XGBoost's estimators and boosters in pickles.

use coracle_estimators::{BoostedAnswer, BoostedLink, BoostedMissing, ClassRule, Labels};
use coracle_model::{LoadError, Method};
use coracle_pickle::Node;
use coracle_tensor::Values;

use super::{BoostedPart, at};
use crate::numbers::to_single;
use crate::sklearn::convert::Part;
use crate::sklearn::fitted::Fitted;
use crate::sklearn::labels::labels;
use crate::xgboost::{self, Booster, Ensemble};

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

fn booster(fitted: &Fitted<'_>) -> Result<BoostedPart, LoadError> {
    let ensemble = ensemble(fitted)?;
    let converted = at(fitted, xgboost::boosted(&ensemble))?;
    Ok(BoostedPart {
        part: Part::new(converted.estimator, converted.component.facts),
        feature_names: converted.feature_names,
        library: "XGBoost",
        version: converted.version,
    })
}

fn classifier(fitted: &Fitted<'_>, ensemble: &Ensemble) -> Result<BoostedPart, LoadError> {
    let objective = ensemble.objective.as_str();
    let is_multi = objective.starts_with("multi:");
    if ensemble.n_groups() > 1 && !is_multi {
        return Err(fitted.unsupported("classifiers of several outputs are not supported"));
    }
    let n_classes = ensemble.n_groups().max(2);
    let labels = match fitted.is_none("_le") {
        true => numbered(n_classes, objective),
        false => labels(&fitted.part_in("_le")?)?,
    };
    let (link, rule, probabilities) = match objective {
        // The library makes probabilities of margins itself, from 1.6 on.
        "multi:softmax" if ensemble.is_from(1, 6) => (
            Some(BoostedLink::Softmax),
            ClassRule::LargestProbability,
            BoostedAnswer::Probabilities,
        ),
        "multi:softmax" => (None, ClassRule::ScoreAbove(0.0), BoostedAnswer::Scores),
        _ => (
            None,
            ClassRule::ValueAboveHalf,
            BoostedAnswer::Probabilities,
        ),
    };
    let answers = vec![
        (Method::Predict, BoostedAnswer::Label(labels, rule)),
        (Method::PredictProba, probabilities),
    ];
    estimator(fitted, ensemble, link, answers)
}

/// Returns the labels 0, 1, ...: all that classifiers without a label encoder know.
fn numbered(n_classes: usize, objective: &str) -> Labels {
    let count = u16::try_from(n_classes).unwrap_or(u16::MAX);
    Labels::new(match objective {
        "multi:softmax" => Values::I32((0..count).map(i32::from).collect()),
        _ => Values::I64((0..count).map(i64::from).collect()),
    })
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
    let missing = match missing.is_nan() {
        true => BoostedMissing::Nan,
        false => BoostedMissing::Number(to_single(missing)),
    };
    let options = xgboost::Options {
        n_iterations: n_iterations(fitted, ensemble)?,
        missing,
        link,
        answers,
    };
    let (estimator, facts) = at(fitted, xgboost::estimator(ensemble, options))?;
    Ok(BoostedPart {
        part: Part::new(estimator, facts),
        feature_names: ensemble.feature_names.clone(),
        library: "XGBoost",
        version: ensemble.version.clone(),
    })
}

/// Returns how many iterations an estimator uses: up to the best one, if it was stopped early.
fn n_iterations(fitted: &Fitted<'_>, ensemble: &Ensemble) -> Result<Option<usize>, LoadError> {
    let best = match (&ensemble.booster, ensemble.attribute("best_iteration")) {
        (Booster::Trees(_), Some(best)) => best,
        _ => return Ok(None),
    };
    let best: Option<usize> = best.parse().ok();
    let n_iterations = best.and_then(|best| best.checked_add(1));
    let wrong = || fitted.malformed("attribute 'best_iteration' is not a count");
    n_iterations.map(Some).ok_or_else(wrong)
}
