//! Which function converts which class: estimators over tables of numbers.

use coracle_model::LoadError;

use super::convert::Part;
use super::fitted::Fitted;
use super::{clustering, decomposition, linear, preprocessing, selection, svm, transformers};

/// A function that converts a fitted object.
type Converter = fn(&Fitted<'_>) -> Result<Part, LoadError>;

/// Returns the function that converts `class`.
pub(super) fn converter(class: &str) -> Option<Converter> {
    let found = CONVERTERS.iter().find(|(name, _)| *name == class);
    found.map(|(_, converter)| *converter)
}

#[rustfmt::skip] // one line per class
static CONVERTERS: &[(&str, Converter)] = &[
    ("sklearn.cluster._affinity_propagation.AffinityPropagation", clustering::nearest_center),
    ("sklearn.cluster._birch.Birch", clustering::birch),
    ("sklearn.cluster._bisect_k_means.BisectingKMeans", clustering::bisecting),
    ("sklearn.cluster._kmeans.KMeans", clustering::k_means),
    ("sklearn.cluster._kmeans.MiniBatchKMeans", clustering::k_means),
    ("sklearn.cluster._mean_shift.MeanShift", clustering::nearest_center),
    ("sklearn.decomposition._factor_analysis.FactorAnalysis", decomposition::factor_analysis),
    ("sklearn.decomposition._fastica.FastICA", decomposition::fast_ica),
    ("sklearn.decomposition._incremental_pca.IncrementalPCA", decomposition::pca),
    ("sklearn.decomposition._kernel_pca.KernelPCA", decomposition::kernel_pca),
    ("sklearn.decomposition._pca.PCA", decomposition::pca),
    ("sklearn.decomposition._sparse_pca.MiniBatchSparsePCA", decomposition::sparse_pca),
    ("sklearn.decomposition._sparse_pca.SparsePCA", decomposition::sparse_pca),
    ("sklearn.decomposition._truncated_svd.TruncatedSVD", decomposition::components_only),
    ("sklearn.feature_selection._from_model.SelectFromModel", selection::from_model),
    ("sklearn.feature_selection._rfe.RFE", selection::elimination),
    ("sklearn.feature_selection._rfe.RFECV", selection::elimination),
    ("sklearn.feature_selection._sequential.SequentialFeatureSelector", selection::sequential),
    ("sklearn.feature_selection._univariate_selection.GenericUnivariateSelect", selection::univariate),
    ("sklearn.feature_selection._univariate_selection.SelectFdr", selection::univariate),
    ("sklearn.feature_selection._univariate_selection.SelectFpr", selection::univariate),
    ("sklearn.feature_selection._univariate_selection.SelectFwe", selection::univariate),
    ("sklearn.feature_selection._univariate_selection.SelectKBest", selection::univariate),
    ("sklearn.feature_selection._univariate_selection.SelectPercentile", selection::univariate),
    ("sklearn.feature_selection._variance_threshold.VarianceThreshold", selection::variance_threshold),
    ("sklearn.isotonic.IsotonicRegression", linear::isotonic),
    ("sklearn.kernel_approximation.Nystroem", decomposition::nystroem),
    ("sklearn.kernel_approximation.RBFSampler", decomposition::rbf_sampler),
    ("sklearn.kernel_ridge.KernelRidge", decomposition::kernel_ridge),
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
    ("sklearn.neighbors._nearest_centroid.NearestCentroid", clustering::nearest_centroid),
    ("sklearn.preprocessing._data.Binarizer", transformers::binarizer),
    ("sklearn.preprocessing._data.MaxAbsScaler", preprocessing::max_abs_scaler),
    ("sklearn.preprocessing._data.Normalizer", transformers::normalizer),
    ("sklearn.preprocessing._data.PowerTransformer", transformers::power),
    ("sklearn.preprocessing._data.QuantileTransformer", transformers::quantiles),
    ("sklearn.preprocessing._discretization.KBinsDiscretizer", transformers::bins),
    ("sklearn.preprocessing._function_transformer.FunctionTransformer", transformers::function),
    ("sklearn.preprocessing._polynomial.PolynomialFeatures", transformers::polynomial),
    ("sklearn.preprocessing._polynomial.SplineTransformer", transformers::splines),
    ("sklearn.random_projection.GaussianRandomProjection", decomposition::components_only),
    ("sklearn.random_projection.SparseRandomProjection", decomposition::components_only),
    ("sklearn.svm._classes.LinearSVC", linear::plain_classifier),
    ("sklearn.svm._classes.LinearSVR", linear::regressor),
    ("sklearn.svm._classes.NuSVC", svm::classifier),
    ("sklearn.svm._classes.NuSVR", svm::regressor),
    ("sklearn.svm._classes.OneClassSVM", svm::one_class),
    ("sklearn.svm._classes.SVC", svm::classifier),
    ("sklearn.svm._classes.SVR", svm::regressor),
];
