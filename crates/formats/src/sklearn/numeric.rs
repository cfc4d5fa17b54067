//! Which function converts which class: estimators over tables of numbers.

use coracle_model::LoadError;

use super::convert::Part;
use super::fitted::Fitted;
use super::{linear, svm};

/// A function that converts a fitted object.
type Converter = fn(&Fitted<'_>) -> Result<Part, LoadError>;

/// Returns the function that converts `class`.
pub(super) fn converter(class: &str) -> Option<Converter> {
    let found = CONVERTERS.iter().find(|(name, _)| *name == class);
    found.map(|(_, converter)| *converter)
}

#[rustfmt::skip] // one line per class
static CONVERTERS: &[(&str, Converter)] = &[
    ("sklearn.linear_model._bayes.ARDRegression", linear::regressor),
    ("sklearn.linear_model._bayes.BayesianRidge", linear::regressor),
    ("sklearn.linear_model._coordinate_descent.ElasticNetCV", linear::regressor),
    ("sklearn.linear_model._coordinate_descent.LassoCV", linear::regressor),
    ("sklearn.linear_model._coordinate_descent.MultiTaskElasticNet", linear::regressor),
    ("sklearn.linear_model._coordinate_descent.MultiTaskElasticNetCV", linear::regressor),
    ("sklearn.linear_model._coordinate_descent.MultiTaskLasso", linear::regressor),
    ("sklearn.linear_model._coordinate_descent.MultiTaskLassoCV", linear::regressor),
    ("sklearn.linear_model._glm.glm.GammaRegressor", linear::generalized),
    ("sklearn.linear_model._glm.glm.PoissonRegressor", linear::generalized),
    ("sklearn.linear_model._glm.glm.TweedieRegressor", linear::generalized),
    ("sklearn.linear_model._huber.HuberRegressor", linear::regressor),
    ("sklearn.linear_model._least_angle.Lars", linear::regressor),
    ("sklearn.linear_model._least_angle.LarsCV", linear::regressor),
    ("sklearn.linear_model._least_angle.LassoLars", linear::regressor),
    ("sklearn.linear_model._least_angle.LassoLarsCV", linear::regressor),
    ("sklearn.linear_model._least_angle.LassoLarsIC", linear::regressor),
    ("sklearn.linear_model._omp.OrthogonalMatchingPursuit", linear::regressor),
    ("sklearn.linear_model._omp.OrthogonalMatchingPursuitCV", linear::regressor),
    ("sklearn.linear_model._passive_aggressive.PassiveAggressiveClassifier", linear::plain_classifier),
    ("sklearn.linear_model._passive_aggressive.PassiveAggressiveRegressor", linear::regressor),
    ("sklearn.linear_model._perceptron.Perceptron", linear::plain_classifier),
    ("sklearn.linear_model._quantile.QuantileRegressor", linear::regressor),
    ("sklearn.linear_model._ransac.RANSACRegressor", linear::ransac),
    ("sklearn.linear_model._ridge.RidgeCV", linear::regressor),
    ("sklearn.linear_model._ridge.RidgeClassifierCV", linear::ridge_classifier),
    ("sklearn.linear_model._stochastic_gradient.SGDOneClassSVM", linear::one_class),
    ("sklearn.linear_model._theil_sen.TheilSenRegressor", linear::regressor),
    ("sklearn.isotonic.IsotonicRegression", linear::isotonic),
    ("sklearn.svm._classes.LinearSVC", linear::plain_classifier),
    ("sklearn.svm._classes.LinearSVR", linear::regressor),
    ("sklearn.svm._classes.NuSVC", svm::classifier),
    ("sklearn.svm._classes.NuSVR", svm::regressor),
    ("sklearn.svm._classes.OneClassSVM", svm::one_class),
    ("sklearn.svm._classes.SVC", svm::classifier),
    ("sklearn.svm._classes.SVR", svm::regressor),
];
