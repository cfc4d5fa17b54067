//! Estimators of boosted-tree libraries, on their own and inside scikit-learn's.
//!
//! Each holds the library's own model file as bytes or text; what the estimator adds are the labels, the meaning of
//! missing values, and the number of iterations to use.

mod catboost;
mod lightgbm;
mod xgboost;

use coracle_estimators::Labels;
use coracle_model::LoadError;

use super::convert::Part;
use super::fitted::Fitted;
use super::{Converted, describe};

/// What of an estimator or booster is known besides its [`Part`].
pub(super) struct BoostedPart {
    pub(super) part: Part,
    feature_names: Option<Vec<String>>,
    library: &'static str,
    version: Option<String>,
}

/// Tells whether `class` is one of these libraries'.
pub(super) fn is_known(class: &str) -> bool {
    xgboost::is_known(class) || lightgbm::is_known(class) || catboost::is_known(class)
}

/// Converts an estimator or a booster.
pub(super) fn convert(fitted: &Fitted<'_>) -> Result<BoostedPart, LoadError> {
    match fitted.class() {
        class if lightgbm::is_known(class) => lightgbm::convert(fitted),
        class if catboost::is_known(class) => catboost::convert(fitted),
        _ => xgboost::convert(fitted),
    }
}

/// Returns the names of the features that an estimator was fitted with, if it was with any.
pub(super) fn feature_names(fitted: &Fitted<'_>) -> Result<Option<Vec<String>>, LoadError> {
    match fitted.class() {
        class if lightgbm::is_known(class) => lightgbm::feature_names(fitted),
        class if catboost::is_known(class) => catboost::feature_names(fitted),
        _ => xgboost::feature_names(fitted),
    }
}

/// Returns the labels of a classifier, which it keeps elsewhere than scikit-learn's own.
pub(super) fn class_labels(fitted: &Fitted<'_>) -> Result<Labels, LoadError> {
    match fitted.class() {
        class if lightgbm::is_known(class) => lightgbm::class_labels(fitted),
        class if catboost::is_known(class) => catboost::class_labels(fitted),
        _ => xgboost::class_labels(fitted),
    }
}

/// How much each feature counts, in the precision in which the library tells it.
pub(super) enum Importances {
    Singles(Vec<f32>),
    Doubles(Vec<f64>),
}

/// Returns how much each of `n_features` features counts in an estimator: its `feature_importances_`.
pub(super) fn importances(
    fitted: &Fitted<'_>,
    n_features: usize,
) -> Result<Importances, LoadError> {
    match fitted.class() {
        class if lightgbm::is_known(class) => lightgbm::importances(fitted),
        class if catboost::is_known(class) => catboost::importances(fitted),
        _ => xgboost::importances(fitted, n_features),
    }
}

/// Converts the root of a file.
pub(super) fn root(fitted: &Fitted<'_>) -> Result<Converted, LoadError> {
    let boosted = convert(fitted)?;
    Ok(Converted {
        component: coracle_model::Component {
            name: String::new(),
            class: fitted.short_class().to_owned(),
            parameters: describe::parameters(fitted),
            facts: boosted.part.facts,
            children: boosted.part.children,
        },
        estimator: boosted.part.estimator,
        feature_names: boosted.feature_names,
        library: boosted.library,
        version: boosted.version,
    })
}

/// Puts the place of `fitted` before an error of its model.
fn at<T>(fitted: &Fitted<'_>, result: Result<T, LoadError>) -> Result<T, LoadError> {
    result.map_err(|error| fitted.error(error.kind(), error.to_string()))
}
