//! What XGBoost's scikit-learn estimators make of a booster: labels, probabilities, early stopping.

use coracle_estimators::{BoostedAnswer, BoostedLink, ClassRule, Labels};
use coracle_model::{LoadError, Method};
use coracle_tensor::Values;

use super::ensemble::{Booster, Ensemble};
use super::{malformed, unsupported};

/// The link of a classifier, if it is not the objective's, and its methods.
pub(crate) type ClassAnswers = (Option<BoostedLink>, Vec<(Method, BoostedAnswer)>);

/// Returns how a classifier answers; without `labels` its classes are 0, 1, ...
///
/// # Errors
/// Kind `Unsupported` for a classifier of several outputs whose objective is not logistic.
pub(crate) fn class_answers(
    ensemble: &Ensemble,
    labels: Option<Labels>,
) -> Result<ClassAnswers, LoadError> {
    let objective = ensemble.objective.as_str();
    if ensemble.n_groups > 1 && !objective.starts_with("multi:") {
        return answers_of_outputs(objective);
    }
    let labels = labels.unwrap_or_else(|| numbered(ensemble.n_groups.max(2), objective));
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
    Ok((link, answers))
}

/// Returns how a classifier answers of which each output is there or not; its labels are the numbers 0 and 1.
fn answers_of_outputs(objective: &str) -> Result<ClassAnswers, LoadError> {
    if objective != "binary:logistic" {
        return Err(unsupported(format!(
            "a classifier of several outputs with objective {objective:?} is not supported"
        )));
    }
    let labels = Labels::new(Values::F64(vec![0.0, 1.0].into()));
    let rule = ClassRule::ValueAboveHalf;
    let answers = vec![
        (Method::Predict, BoostedAnswer::LabelOfEach(labels, rule)),
        (Method::PredictProba, BoostedAnswer::Values),
    ];
    Ok((None, answers))
}

/// Returns the labels 0, 1, ...: all that classifiers without a label encoder know.
fn numbered(n_classes: usize, objective: &str) -> Labels {
    let count = u16::try_from(n_classes).unwrap_or(u16::MAX);
    Labels::new(match objective {
        "multi:softmax" => Values::I32((0..count).map(i32::from).collect()),
        _ => Values::I64((0..count).map(i64::from).collect()),
    })
}

/// Returns how many iterations an estimator uses: up to the best one, if it was stopped early.
///
/// # Errors
/// Kind `Malformed` if the best iteration is no count.
pub(crate) fn n_iterations(ensemble: &Ensemble) -> Result<Option<usize>, LoadError> {
    let best = match (&ensemble.booster, ensemble.attribute("best_iteration")) {
        (Booster::Trees(_), Some(best)) => best,
        _ => return Ok(None),
    };
    let best: Option<usize> = best.parse().ok();
    let n_iterations = best.and_then(|best| best.checked_add(1));
    let wrong = || malformed("attribute 'best_iteration' is not a count");
    n_iterations.map(Some).ok_or_else(wrong)
}
