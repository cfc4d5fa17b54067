//! CatBoost's models: the binary `.cbm` form and the JSON export; numeric features.
//!
//! [`Ensemble`] is what a file holds; [`boosted`] makes an estimator of it, a classifier where the loss is one of
//! classes, since the file does not say which class wrote it.

mod binary;
mod ensemble;
mod flatbuffer;
mod json;
mod loss;

use coracle_estimators::{
    Boosted, BoostedAnswer, BoostedLink, BoostedMissing, BoostedPrecision, BoostedSpec, ClassRule,
};
use coracle_forest::{Forest, ForestSpec, Precision};
use coracle_model::{Component, LoadError, LoadErrorKind, Method};

pub(crate) use binary::is_binary;
pub(crate) use ensemble::Ensemble;
pub(crate) use json::is_document;

use crate::xgboost::Converted;
use loss::Task;

/// Converts a model.
///
/// # Errors
/// Kind `Unsupported` for losses and features that are not served, by name; `Malformed` where the file
/// contradicts itself.
pub(crate) fn boosted(ensemble: &Ensemble) -> Result<Converted, LoadError> {
    let task = loss::task(ensemble)?;
    let scale = ensemble.scale;
    let mut trees = ensemble.trees.clone();
    for tree in trees.iter_mut().filter(|_| scale != 1.0) {
        tree.values.iter_mut().for_each(|value| *value *= scale);
    }
    let spec = ForestSpec {
        n_features: ensemble.n_features,
        n_scores: ensemble.n_scores,
        precision: Precision::Single,
        summation: Precision::Double,
        base: ensemble.biases.clone(),
        divisor: None,
        accepts_missing: true,
        accepts_infinite: true,
        trees,
    };
    let forest = Forest::try_new(&spec).map_err(|error| malformed(error.to_string()))?;
    let facts = vec![
        ("loss".to_owned(), ensemble.loss.clone()),
        ("trees".to_owned(), forest.n_trees().to_string()),
        ("nodes".to_owned(), forest.n_nodes().to_string()),
        ("kernel".to_owned(), forest.kernel().as_str().to_owned()),
    ];
    let (link, answers) = match task {
        Task::Values(link) => {
            let mut answers = vec![(Method::Predict, BoostedAnswer::Values)];
            if link != BoostedLink::Identity {
                answers.push((Method::DecisionFunction, BoostedAnswer::Scores));
            }
            (link, answers)
        }
        Task::Classes { link, labels } => {
            let label = BoostedAnswer::Label(labels, ClassRule::ScoreAbove(0.0));
            let answers = vec![
                (Method::Predict, label),
                (Method::PredictProba, BoostedAnswer::Probabilities),
                (Method::PredictLogProba, BoostedAnswer::LogProbabilities),
                (Method::DecisionFunction, BoostedAnswer::Scores),
            ];
            (link, answers)
        }
    };
    let spec = BoostedSpec {
        scorer: Box::new(forest),
        precision: BoostedPrecision::Double,
        missing: BoostedMissing::Nan,
        link,
        answers,
    };
    let estimator = Boosted::try_new(spec).map_err(|error| malformed(error.to_string()))?;
    Ok(Converted {
        estimator,
        feature_names: ensemble.feature_names(),
        component: Component {
            class: "CatBoost".to_owned(),
            facts,
            ..Component::default()
        },
        version: None,
    })
}

fn malformed(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Malformed, message)
}

fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}
