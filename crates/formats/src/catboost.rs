//! CatBoost's models: the binary `.cbm` form and the JSON export; numeric and categorical features.
//!
//! [`Ensemble`] is what a file holds; [`boosted`] makes an estimator of it, a classifier where the loss is one of
//! classes, since the file does not say which class wrote it.

mod binary;
mod ensemble;
mod features;
mod flatbuffer;
mod json;
mod loss;

use coracle_estimators::{
    Boosted, BoostedAnswer, BoostedLink, BoostedMissing, BoostedPrecision, BoostedSpec, ClassRule,
    Labels, SpecError, WithCategories,
};
use coracle_forest::{Forest, ForestSpec, Precision};
use coracle_model::{Component, Estimator, LoadError, LoadErrorKind, Method};
use coracle_tensor::Values;

pub(crate) use binary::is_binary;
pub(crate) use ensemble::Ensemble;
pub(crate) use json::is_document;

use crate::xgboost::Converted;
use loss::Task;

/// The class of CatBoost's that is neither a classifier nor a regressor, as MLflow calls it.
pub(crate) const BASE: &str = "CatBoost";
/// CatBoost's classifier, as MLflow calls it.
pub(crate) const CLASSIFIER: &str = "CatBoostClassifier";

/// Converts a model.
///
/// # Errors
/// Kind `Unsupported` for losses and features that are not served, by name; `Malformed` where the file
/// contradicts itself.
pub(crate) fn boosted(ensemble: Ensemble) -> Result<Converted, LoadError> {
    let task = loss::task(&ensemble)?;
    converted(ensemble, task, |_| true)
}

/// Converts a model of the class [`BASE`], which answers raw scores whatever the loss is.
///
/// # Errors
/// As [`boosted`].
pub(crate) fn base(ensemble: Ensemble) -> Result<Converted, LoadError> {
    loss::task(&ensemble)?;
    converted(ensemble, Task::Values(BoostedLink::Identity), |_| true)
}

/// Converts a model as CatBoost's own classifier answers, which is [`CLASSIFIER`] in MLflow's words: labels of several classes come in a column.
///
/// # Errors
/// As [`boosted`].
pub(crate) fn classifier(ensemble: Ensemble) -> Result<Converted, LoadError> {
    let mut task = loss::task(&ensemble)?;
    if let Task::Classes { in_column, .. } = &mut task {
        *in_column = ensemble.n_scores > 1;
    }
    converted(ensemble, task, |_| true)
}

/// As [`boosted`], with the methods that CatBoost's estimators have in Python: raw scores are none.
///
/// # Errors
/// As [`boosted`].
pub(crate) fn within_others(ensemble: Ensemble) -> Result<Converted, LoadError> {
    let task = loss::task(&ensemble)?;
    converted(ensemble, task, |method| method != Method::DecisionFunction)
}

/// Returns the labels of a classifier.
///
/// # Errors
/// As [`boosted`], and where the model is none of one class among several.
pub(crate) fn class_labels(ensemble: &Ensemble) -> Result<Labels, LoadError> {
    match loss::task(ensemble)? {
        Task::Classes { labels, .. } => Ok(labels),
        Task::Values(_) | Task::Outputs { .. } => Err(unsupported("the model is no classifier")),
    }
}

fn converted(
    mut ensemble: Ensemble,
    task: Task,
    has: impl Fn(Method) -> bool,
) -> Result<Converted, LoadError> {
    let scale = ensemble.scale;
    let mut trees = std::mem::take(&mut ensemble.trees);
    for tree in trees.iter_mut().filter(|_| scale != 1.0) {
        tree.values.iter_mut().for_each(|value| *value *= scale);
    }
    let spec = ForestSpec {
        n_features: ensemble.features.width(),
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
    let mut facts = vec![
        ("loss".to_owned(), ensemble.loss.name().to_owned()),
        ("trees".to_owned(), forest.n_trees().to_string()),
        ("nodes".to_owned(), forest.n_nodes().to_string()),
        ("kernel".to_owned(), forest.kernel().as_str().to_owned()),
    ];
    let (link, mut answers) = answers(task);
    answers.retain(|(method, _)| has(*method));
    let spec = BoostedSpec {
        scorer: Box::new(forest),
        precision: BoostedPrecision::Double,
        missing: BoostedMissing::Nan,
        divisor: 1.0,
        link,
        answers,
    };
    let contradiction = |error: SpecError| malformed(error.to_string());
    let boosted = Box::new(Boosted::try_new(spec).map_err(contradiction)?);
    let feature_names = ensemble.features.names();
    let estimator: Box<dyn Estimator> = match ensemble.features.has_others() {
        false => boosted,
        true => {
            let features = ensemble.features.into_category_features()?;
            facts.push((
                "statistics of categories".to_owned(),
                features.statistics.len().to_string(),
            ));
            Box::new(WithCategories::try_new(features, boosted).map_err(contradiction)?)
        }
    };
    Ok(Converted {
        estimator,
        feature_names,
        component: Component {
            class: "CatBoost".to_owned(),
            facts,
            ..Component::default()
        },
        version: None,
    })
}

/// Returns the link of a task, and the methods that a model of it has, the default one first.
fn answers(task: Task) -> (BoostedLink, Vec<(Method, BoostedAnswer)>) {
    match task {
        Task::Values(link) => {
            let mut answers = vec![(Method::Predict, BoostedAnswer::Values)];
            if link != BoostedLink::Identity {
                answers.push((Method::DecisionFunction, BoostedAnswer::Scores));
            }
            (link, answers)
        }
        Task::Outputs { threshold } => {
            let labels = Labels::new(Values::I64(vec![0, 1].into()));
            let rule = ClassRule::ScoreAbove(threshold);
            let answers = vec![
                (Method::Predict, BoostedAnswer::LabelOfEach(labels, rule)),
                (Method::PredictProba, BoostedAnswer::Values),
                (Method::PredictLogProba, BoostedAnswer::LogProbabilities),
                (Method::DecisionFunction, BoostedAnswer::Scores),
            ];
            (BoostedLink::Sigmoid { scale: 1.0 }, answers)
        }
        Task::Classes {
            link,
            labels,
            threshold,
            in_column,
        } => {
            let rule = ClassRule::ScoreAbove(threshold);
            let label = match in_column {
                true => BoostedAnswer::LabelColumn(labels, rule),
                false => BoostedAnswer::Label(labels, rule),
            };
            let answers = vec![
                (Method::Predict, label),
                (Method::PredictProba, BoostedAnswer::Probabilities),
                (Method::PredictLogProba, BoostedAnswer::LogProbabilities),
                (Method::DecisionFunction, BoostedAnswer::Scores),
            ];
            (link, answers)
        }
    }
}

fn malformed(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Malformed, message)
}

fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}
