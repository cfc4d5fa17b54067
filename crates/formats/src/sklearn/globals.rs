//! The closed list of names that scikit-learn files may use, from a survey of files of fifteen releases.
//!
//! It holds far more classes than are served: a file of another class then parses, and the refusal can name
//! the class and where it sits. So it is with what people keep beside a model: dates, data frames. Names beyond
//! this list and the reader's own are refused by the reader.

use coracle_pickle::{GlobalForm, KnownGlobal};

macro_rules! globals {
    ($($form:ident $module:literal [$($name:literal)*])*) => {
        &[$($(KnownGlobal {
            module: $module,
            name: $name,
            canonical: concat!($module, ".", $name),
            form: GlobalForm::$form,
        },)*)*]
    };
}

/// Every name, by module.
pub(crate) static GLOBALS: &[KnownGlobal] = globals! {
    Value "builtins" ["DeprecationWarning" "FutureWarning"]
    Constructor "_loss" [
        "__pyx_unpickle_CyAbsoluteError" "__pyx_unpickle_CyExponentialLoss"
        "__pyx_unpickle_CyHalfBinomialLoss" "__pyx_unpickle_CyHalfGammaLoss"
        "__pyx_unpickle_CyHalfMultinomialLoss" "__pyx_unpickle_CyHalfPoissonLoss"
        "__pyx_unpickle_CyHalfSquaredError" "__pyx_unpickle_CyHalfTweedieLoss"
        "__pyx_unpickle_CyHalfTweedieLossIdentity" "__pyx_unpickle_CyHuberLoss"
        "__pyx_unpickle_CyPinballLoss"
    ]
    Record "_loss" [
        "CyAbsoluteError" "CyExponentialLoss" "CyHalfBinomialLoss" "CyHalfGammaLoss"
        "CyHalfMultinomialLoss" "CyHalfPoissonLoss" "CyHalfSquaredError" "CyHalfTweedieLoss"
        "CyHalfTweedieLossIdentity" "CyHuberLoss" "CyPinballLoss"
    ]
    Record "catboost.core" ["CatBoost" "CatBoostClassifier" "CatBoostRanker" "CatBoostRegressor"]
    Record "datetime" ["date" "datetime" "time" "timedelta" "timezone"]
    Record "decimal" ["Decimal"]
    Record "fractions" ["Fraction"]
    Constructor "functools" ["partial"]
    Record "imblearn.base" ["FunctionSampler"]
    Record "imblearn.combine._smote_enn" ["SMOTEENN"]
    Record "imblearn.combine._smote_tomek" ["SMOTETomek"]
    Record "imblearn.ensemble._bagging" ["BalancedBaggingClassifier"]
    Record "imblearn.ensemble._easy_ensemble" ["EasyEnsembleClassifier"]
    Record "imblearn.ensemble._forest" ["BalancedRandomForestClassifier"]
    Record "imblearn.ensemble._weight_boosting" ["RUSBoostClassifier"]
    Record "imblearn.over_sampling._adasyn" ["ADASYN"]
    Record "imblearn.over_sampling._random_over_sampler" ["RandomOverSampler"]
    Record "imblearn.over_sampling._smote.base" ["SMOTE" "SMOTEN" "SMOTENC"]
    Record "imblearn.over_sampling._smote.cluster" ["KMeansSMOTE"]
    Record "imblearn.over_sampling._smote.filter" ["BorderlineSMOTE" "SVMSMOTE"]
    Record "imblearn.pipeline" ["Pipeline"]
    Record "imblearn.under_sampling._prototype_generation._cluster_centroids" ["ClusterCentroids"]
    Record "imblearn.under_sampling._prototype_selection._condensed_nearest_neighbour" ["CondensedNearestNeighbour"]
    Record "imblearn.under_sampling._prototype_selection._edited_nearest_neighbours" [
        "AllKNN" "EditedNearestNeighbours" "RepeatedEditedNearestNeighbours"
    ]
    Record "imblearn.under_sampling._prototype_selection._instance_hardness_threshold" ["InstanceHardnessThreshold"]
    Record "imblearn.under_sampling._prototype_selection._nearmiss" ["NearMiss"]
    Record "imblearn.under_sampling._prototype_selection._neighbourhood_cleaning_rule" ["NeighbourhoodCleaningRule"]
    Record "imblearn.under_sampling._prototype_selection._one_sided_selection" ["OneSidedSelection"]
    Record "imblearn.under_sampling._prototype_selection._random_under_sampler" ["RandomUnderSampler"]
    Record "imblearn.under_sampling._prototype_selection._tomek_links" ["TomekLinks"]
    Record "lightgbm.basic" ["Booster" "_InnerPredictor"]
    Record "lightgbm.sklearn" ["LGBMClassifier" "LGBMModel" "LGBMRanker" "LGBMRegressor"]
    Value "numpy" [
        "amax" "amin" "max" "mean" "median" "min" "prod" "ptp" "std" "sum" "var"
        "around" "clip" "fix" "nan_to_num" "real" "round" "round_" "sinc"
        "abs" "absolute" "acos" "acosh" "arccos" "arccosh" "arcsin" "arcsinh" "arctan" "arctanh" "asin"
        "asinh" "atan" "atanh" "cbrt" "ceil" "conj" "conjugate" "cos" "cosh" "deg2rad" "degrees" "exp" "exp2"
        "expm1" "fabs" "floor" "isfinite" "isinf" "isnan" "log" "log10" "log1p" "log2" "logical_not"
        "negative" "positive" "rad2deg" "radians" "reciprocal" "rint" "sign" "signbit" "sin" "sinh" "spacing"
        "sqrt" "square" "tan" "tanh" "trunc"
    ]
    Value "numpy._core._multiarray_umath" [
        "abs" "absolute" "acos" "acosh" "arccos" "arccosh" "arcsin" "arcsinh" "arctan" "arctanh" "asin"
        "asinh" "atan" "atanh" "cbrt" "ceil" "conj" "conjugate" "cos" "cosh" "deg2rad" "degrees" "exp" "exp2"
        "expm1" "fabs" "floor" "isfinite" "isinf" "isnan" "log" "log10" "log1p" "log2" "logical_not"
        "negative" "positive" "rad2deg" "radians" "reciprocal" "rint" "sign" "signbit" "sin" "sinh" "spacing"
        "sqrt" "square" "tan" "tanh" "trunc"
    ]
    Value "numpy.core._multiarray_umath" [
        "abs" "absolute" "acos" "acosh" "arccos" "arccosh" "arcsin" "arcsinh" "arctan" "arctanh" "asin"
        "asinh" "atan" "atanh" "cbrt" "ceil" "conj" "conjugate" "cos" "cosh" "deg2rad" "degrees" "exp" "exp2"
        "expm1" "fabs" "floor" "isfinite" "isinf" "isnan" "log" "log10" "log1p" "log2" "logical_not"
        "negative" "positive" "rad2deg" "radians" "reciprocal" "rint" "sign" "signbit" "sin" "sinh" "spacing"
        "sqrt" "square" "tan" "tanh" "trunc"
    ]
    Record "numpy" ["vectorize"]
    Constructor "numpy.core" ["_ufunc_reconstruct"]
    Value "numpy.core.fromnumeric" ["amax" "amin" "around" "clip" "mean" "prod" "ptp" "round_" "std" "sum" "var"]
    Value "numpy.lib.function_base" ["median" "sinc"]
    Value "numpy.lib.type_check" ["nan_to_num" "real"]
    Value "numpy.lib.ufunclike" ["fix"]
    Record "joblib.memory" ["Memory"]
    Record "pandas" [
        "Categorical" "CategoricalDtype" "CategoricalIndex" "DataFrame" "DatetimeIndex" "DatetimeTZDtype" "Float64Dtype"
        "Index" "Int64Dtype" "Interval" "MultiIndex" "RangeIndex" "Series" "StringDtype" "TimedeltaIndex"
    ]
    Value "pandas" ["NA"]
    Record "pandas.arrays" [
        "BooleanArray" "DatetimeArray" "FloatingArray" "IntegerArray" "StringArray" "TimedeltaArray"
    ]
    Constructor "pandas._libs.arrays" ["__pyx_unpickle_NDArrayBacked"]
    Constructor "pandas._libs.internals" ["_unpickle_block"]
    Record "pandas._libs.interval" ["Interval"]
    Value "pandas._libs.missing" ["NA"]
    Constructor "pandas._libs.tslibs.nattype" ["__nat_unpickle" "_nat_unpickle"]
    Constructor "pandas._libs.tslibs.timedeltas" ["_timedelta_unpickle"]
    Constructor "pandas._libs.tslibs.timestamps" ["_unpickle_timestamp"]
    Record "pandas.core.arrays.boolean" ["BooleanArray" "BooleanDtype"]
    Record "pandas.core.arrays.categorical" ["Categorical"]
    Record "pandas.core.arrays.datetimes" ["DatetimeArray"]
    Record "pandas.core.arrays.floating" ["Float64Dtype" "FloatingArray"]
    Record "pandas.core.arrays.integer" ["Int64Dtype" "IntegerArray"]
    Record "pandas.core.arrays.string_" ["StringArray" "StringDtype"]
    Record "pandas.core.arrays.timedeltas" ["TimedeltaArray"]
    Record "pandas.core.dtypes.dtypes" ["CategoricalDtype" "DatetimeTZDtype"]
    Record "pandas.core.frame" ["DataFrame"]
    Record "pandas.core.indexes.base" ["Index"]
    Constructor "pandas.core.indexes.base" ["_new_Index"]
    Record "pandas.core.indexes.category" ["CategoricalIndex"]
    Record "pandas.core.indexes.datetimes" ["DatetimeIndex"]
    Constructor "pandas.core.indexes.datetimes" ["_new_DatetimeIndex"]
    Record "pandas.core.indexes.multi" ["MultiIndex"]
    Record "pandas.core.indexes.numeric" ["Float64Index" "Int64Index" "UInt64Index"]
    Record "pandas.core.indexes.range" ["RangeIndex"]
    Record "pandas.core.indexes.timedeltas" ["TimedeltaIndex"]
    Record "pandas.core.internals.managers" ["BlockManager" "SingleBlockManager"]
    Record "pandas.core.series" ["Series"]
    Record "pathlib" ["PosixPath" "PurePosixPath" "PureWindowsPath" "WindowsPath"]
    Record "pathlib._local" ["PosixPath" "PurePosixPath" "PureWindowsPath" "WindowsPath"]
    Constructor "pytz" ["_UTC" "_p"]
    Value "scipy._lib.array_api_compat.numpy._aliases" ["asarray"]
    Record "scipy.interpolate._bsplines" ["BSpline"]
    Value "scipy.special" ["cbrt" "erf" "exp10" "exp2" "expit" "expm1" "log1p" "log_expit" "logit" "ndtr"]
    Value "scipy.special._special_ufuncs" ["cbrt" "erf" "exp10" "exp2" "expit" "expm1" "log1p" "log_expit" "logit" "ndtr"]
    Value "scipy.special._ufuncs" ["cbrt" "erf" "exp10" "exp2" "expit" "expm1" "log1p" "log_expit" "logit" "ndtr"]
    Inert "scipy.stats._continuous_distns" [
        "alpha_gen" "anglit_gen" "arcsine_gen" "argus_gen" "beta_gen" "betaprime_gen" "bradford_gen"
        "burr12_gen" "burr_gen" "cauchy_gen" "chi2_gen" "chi_gen" "cosine_gen" "crystalball_gen"
        "dgamma_gen" "dpareto_lognorm_gen" "dweibull_gen" "erlang_gen" "expon_gen" "exponnorm_gen"
        "exponpow_gen" "exponweib_gen" "f_gen" "fatiguelife_gen" "fisk_gen" "foldcauchy_gen" "foldnorm_gen"
        "gamma_gen" "gausshyper_gen" "genexpon_gen" "genextreme_gen" "gengamma_gen" "genhalflogistic_gen"
        "genhyperbolic_gen" "geninvgauss_gen" "genlogistic_gen" "gennorm_gen" "genpareto_gen" "gibrat_gen"
        "gilbrat_gen" "gompertz_gen" "gumbel_l_gen" "gumbel_r_gen" "halfcauchy_gen" "halfgennorm_gen"
        "halflogistic_gen" "halfnorm_gen" "hypsecant_gen" "invgamma_gen" "invgauss_gen" "invweibull_gen"
        "irwinhall_gen" "jf_skew_t_gen" "johnsonsb_gen" "johnsonsu_gen" "kappa3_gen" "kappa4_gen"
        "ksone_gen" "kstwo_gen" "kstwobign_gen" "landau_gen" "laplace_asymmetric_gen" "laplace_gen"
        "levy_gen" "levy_l_gen" "loggamma_gen" "logistic_gen" "loglaplace_gen" "lognorm_gen" "lomax_gen"
        "maxwell_gen" "mielke_gen" "moyal_gen" "nakagami_gen" "ncf_gen" "nct_gen" "ncx2_gen" "norm_gen"
        "norminvgauss_gen" "pareto_gen" "pearson3_gen" "powerlaw_gen" "powerlognorm_gen" "powernorm_gen"
        "rayleigh_gen" "rdist_gen" "recipinvgauss_gen" "reciprocal_gen" "rel_breitwigner_gen" "rice_gen"
        "semicircular_gen" "skew_norm_gen" "skewcauchy_gen" "skewnorm_gen" "studentized_range_gen" "t_gen"
        "trapezoid_gen" "triang_gen" "truncexpon_gen" "truncnorm_gen" "truncpareto_gen"
        "truncweibull_min_gen" "tukeylambda_gen" "uniform_gen" "vonmises_gen" "wald_gen" "weibull_max_gen"
        "weibull_min_gen" "wrapcauchy_gen"
    ]
    Inert "scipy.stats._discrete_distns" [
        "bernoulli_gen" "betabinom_gen" "betanbinom_gen" "binom_gen" "boltzmann_gen" "dlaplace_gen"
        "geom_gen" "hypergeom_gen" "logser_gen" "nbinom_gen" "nchypergeom_fisher_gen"
        "nchypergeom_wallenius_gen" "nhypergeom_gen" "planck_gen" "poisson_binom_gen" "poisson_gen"
        "randint_gen" "skellam_gen" "yulesimon_gen" "zipf_gen" "zipfian_gen"
    ]
    Inert "scipy.stats._distn_infrastructure" ["rv_continuous_frozen" "rv_discrete_frozen" "rv_frozen"]
    Inert "scipy.stats._levy_stable" ["levy_stable_frozen" "levy_stable_gen"]
    Constructor "sklearn._loss._loss" [
        "__pyx_unpickle_CyAbsoluteError" "__pyx_unpickle_CyExponentialLoss"
        "__pyx_unpickle_CyHalfBinomialLoss" "__pyx_unpickle_CyHalfGammaLoss"
        "__pyx_unpickle_CyHalfMultinomialLoss" "__pyx_unpickle_CyHalfPoissonLoss"
        "__pyx_unpickle_CyHalfSquaredError" "__pyx_unpickle_CyHalfTweedieLoss"
        "__pyx_unpickle_CyHalfTweedieLossIdentity" "__pyx_unpickle_CyHuberLoss"
        "__pyx_unpickle_CyPinballLoss"
    ]
    Record "sklearn._loss._loss" [
        "CyAbsoluteError" "CyExponentialLoss" "CyHalfBinomialLoss" "CyHalfGammaLoss"
        "CyHalfMultinomialLoss" "CyHalfPoissonLoss" "CyHalfSquaredError" "CyHalfTweedieLoss"
        "CyHalfTweedieLossIdentity" "CyHuberLoss" "CyLossFunction" "CyPinballLoss"
    ]
    Record "sklearn._loss.glm_distribution" [
        "DistributionBoundary" "GammaDistribution" "PoissonDistribution" "TweedieDistribution"
    ]
    Record "sklearn._loss.link" [
        "HalfLogitLink" "IdentityLink" "Interval" "LogLink" "LogitLink" "MultinomialLogit"
    ]
    Record "sklearn._loss.loss" [
        "AbsoluteError" "ExponentialLoss" "HalfBinomialLoss" "HalfGammaLoss" "HalfMultinomialLoss"
        "HalfPoissonLoss" "HalfSquaredError" "HalfTweedieLoss" "HalfTweedieLossIdentity"
        "HuberLoss" "PinballLoss"
    ]
    Record "sklearn.calibration" [
        "CalibratedClassifierCV" "_CalibratedClassifier" "_SigmoidCalibration" "_TemperatureScaling"
    ]
    Record "sklearn.cluster._affinity_propagation" ["AffinityPropagation"]
    Record "sklearn.cluster._agglomerative" ["AgglomerativeClustering" "FeatureAgglomeration"]
    Record "sklearn.cluster._birch" ["Birch" "_CFNode" "_CFSubcluster"]
    Record "sklearn.cluster._bisect_k_means" ["BisectingKMeans" "_BisectingTree"]
    Record "sklearn.cluster._dbscan" ["DBSCAN"]
    Record "sklearn.cluster._hdbscan.hdbscan" ["HDBSCAN"]
    Record "sklearn.cluster._kmeans" ["KMeans" "MiniBatchKMeans"]
    Value "sklearn.cluster._kmeans" ["_kmeans_single_elkan" "_kmeans_single_lloyd"]
    Record "sklearn.cluster._mean_shift" ["MeanShift"]
    Record "sklearn.cluster._optics" ["OPTICS"]
    Record "sklearn.cluster._spectral" ["SpectralClustering"]
    Record "sklearn.compose._column_transformer" [
        "ColumnTransformer" "_RemainderColsList" "make_column_selector"
    ]
    Record "sklearn.compose._target" ["TransformedTargetRegressor"]
    Record "sklearn.covariance._elliptic_envelope" ["EllipticEnvelope"]
    Record "sklearn.cross_decomposition._pls" ["CCA" "PLSCanonical" "PLSRegression" "PLSSVD"]
    Record "sklearn.decomposition._dict_learning" [
        "DictionaryLearning" "MiniBatchDictionaryLearning" "SparseCoder"
    ]
    Record "sklearn.decomposition._factor_analysis" ["FactorAnalysis"]
    Record "sklearn.decomposition._fastica" ["FastICA"]
    Record "sklearn.decomposition._incremental_pca" ["IncrementalPCA"]
    Record "sklearn.decomposition._kernel_pca" ["KernelPCA"]
    Record "sklearn.decomposition._lda" ["LatentDirichletAllocation"]
    Record "sklearn.decomposition._nmf" ["MiniBatchNMF" "NMF"]
    Record "sklearn.decomposition._pca" ["PCA"]
    Record "sklearn.decomposition.pca" ["RandomizedPCA"]
    Record "sklearn.decomposition._sparse_pca" ["MiniBatchSparsePCA" "SparsePCA"]
    Record "sklearn.decomposition._truncated_svd" ["TruncatedSVD"]
    Record "sklearn.discriminant_analysis" [
        "LinearDiscriminantAnalysis" "QuadraticDiscriminantAnalysis"
    ]
    Record "sklearn.dummy" ["DummyClassifier" "DummyRegressor"]
    Record "sklearn.ensemble._bagging" ["BaggingClassifier" "BaggingRegressor"]
    Record "sklearn.ensemble._forest" [
        "ExtraTreesClassifier" "ExtraTreesRegressor" "RandomForestClassifier"
        "RandomForestRegressor" "RandomTreesEmbedding"
    ]
    Record "sklearn.ensemble._gb" ["GradientBoostingClassifier" "GradientBoostingRegressor"]
    Record "sklearn.ensemble.gradient_boosting" [
        "LogOddsEstimator" "MeanEstimator" "PriorProbabilityEstimator" "QuantileEstimator"
        "ScaledLogOddsEstimator" "ZeroEstimator"
    ]
    Record "sklearn.ensemble._gb_losses" [
        "BinomialDeviance" "ExponentialLoss" "HuberLossFunction" "LeastAbsoluteError"
        "LeastSquaresError" "MultinomialDeviance" "QuantileLossFunction"
    ]
    Record "sklearn.ensemble._hist_gradient_boosting.binning" ["_BinMapper"]
    Record "sklearn.ensemble._hist_gradient_boosting.gradient_boosting" [
        "HistGradientBoostingClassifier" "HistGradientBoostingRegressor"
    ]
    Record "sklearn.ensemble._hist_gradient_boosting.loss" [
        "BinaryCrossEntropy" "CategoricalCrossEntropy" "LeastAbsoluteDeviation" "LeastSquares"
        "Poisson"
    ]
    Record "sklearn.ensemble._hist_gradient_boosting.predictor" ["TreePredictor"]
    Record "sklearn.ensemble._iforest" ["IsolationForest"]
    Record "sklearn.ensemble._stacking" ["StackingClassifier" "StackingRegressor"]
    Record "sklearn.ensemble._voting" ["VotingClassifier" "VotingRegressor"]
    Record "sklearn.ensemble._weight_boosting" ["AdaBoostClassifier" "AdaBoostRegressor"]
    Record "sklearn.externals.joblib.memory" ["Memory"]
    Record "sklearn.feature_extraction._dict_vectorizer" ["DictVectorizer"]
    Record "sklearn.feature_extraction._hash" ["FeatureHasher"]
    Record "sklearn.feature_extraction.text" [
        "CountVectorizer" "HashingVectorizer" "TfidfTransformer" "TfidfVectorizer"
    ]
    Record "sklearn.feature_selection._from_model" ["SelectFromModel"]
    Record "sklearn.feature_selection._rfe" ["RFE" "RFECV"]
    Record "sklearn.feature_selection._sequential" ["SequentialFeatureSelector"]
    Record "sklearn.feature_selection._univariate_selection" [
        "GenericUnivariateSelect" "SelectFdr" "SelectFpr" "SelectFwe" "SelectKBest"
        "SelectPercentile"
    ]
    Value "sklearn.feature_selection._mutual_info" ["mutual_info_classif" "mutual_info_regression"]
    Value "sklearn.feature_selection._univariate_selection" [
        "chi2" "f_classif" "f_regression" "r_regression"
    ]
    Record "sklearn.feature_selection._variance_threshold" ["VarianceThreshold"]
    Record "sklearn.frozen._frozen" ["FrozenEstimator"]
    Record "sklearn.gaussian_process._gpc" [
        "GaussianProcessClassifier" "_BinaryGaussianProcessClassifierLaplace"
    ]
    Record "sklearn.gaussian_process._gpr" ["GaussianProcessRegressor"]
    Record "sklearn.gaussian_process.kernels" [
        "ConstantKernel" "DotProduct" "ExpSineSquared" "Exponentiation" "Matern" "Product" "RBF" "RationalQuadratic" "Sum"
        "WhiteKernel"
    ]
    Record "sklearn.impute._base" ["MissingIndicator" "SimpleImputer"]
    Record "sklearn.impute._iterative" ["IterativeImputer" "_ImputerTriplet"]
    Record "sklearn.impute._knn" ["KNNImputer"]
    Record "sklearn.isotonic" ["IsotonicRegression"]
    Record "sklearn.kernel_approximation" [
        "AdditiveChi2Sampler" "Nystroem" "PolynomialCountSketch" "RBFSampler" "SkewedChi2Sampler"
    ]
    Record "sklearn.kernel_ridge" ["KernelRidge"]
    Record "sklearn.linear_model._base" ["LinearRegression"]
    Record "sklearn.linear_model._bayes" ["ARDRegression" "BayesianRidge"]
    Record "sklearn.linear_model._coordinate_descent" [
        "ElasticNet" "ElasticNetCV" "Lasso" "LassoCV" "MultiTaskElasticNet"
        "MultiTaskElasticNetCV" "MultiTaskLasso" "MultiTaskLassoCV"
    ]
    Record "sklearn.linear_model._glm.glm" ["GammaRegressor" "PoissonRegressor" "TweedieRegressor"]
    Record "sklearn.linear_model._glm.link" ["IdentityLink" "LogLink"]
    Record "sklearn.linear_model._huber" ["HuberRegressor"]
    Record "sklearn.linear_model._least_angle" [
        "Lars" "LarsCV" "LassoLars" "LassoLarsCV" "LassoLarsIC"
    ]
    Record "sklearn.gaussian_process.gaussian_process" ["GaussianProcess"]
    Record "sklearn.lda" ["LDA"]
    Record "sklearn.linear_model.randomized_l1" ["RandomizedLasso" "RandomizedLogisticRegression"]
    Record "sklearn.mixture.dpgmm" ["DPGMM" "VBGMM"]
    Record "sklearn.mixture.gmm" ["GMM"]
    Record "sklearn.qda" ["QDA"]
    Record "sklearn.linear_model._logistic" ["LogisticRegression" "LogisticRegressionCV"]
    Record "sklearn.linear_model._omp" ["OrthogonalMatchingPursuit" "OrthogonalMatchingPursuitCV"]
    Record "sklearn.linear_model._passive_aggressive" [
        "PassiveAggressiveClassifier" "PassiveAggressiveRegressor"
    ]
    Record "sklearn.linear_model._perceptron" ["Perceptron"]
    Record "sklearn.linear_model._quantile" ["QuantileRegressor"]
    Record "sklearn.linear_model._ransac" ["RANSACRegressor"]
    Record "sklearn.linear_model._ridge" ["Ridge" "RidgeCV" "RidgeClassifier" "RidgeClassifierCV"]
    Record "sklearn.linear_model._sgd_fast" [
        "EpsilonInsensitive" "Hinge" "Huber" "Log" "ModifiedHuber" "SquaredEpsilonInsensitive"
        "SquaredHinge" "SquaredLoss"
    ]
    Record "sklearn.linear_model._stochastic_gradient" [
        "SGDClassifier" "SGDOneClassSVM" "SGDRegressor"
    ]
    Record "sklearn.linear_model._theil_sen" ["TheilSenRegressor"]
    Record "sklearn.feature_extraction.image" ["PatchExtractor"]
    Record "sklearn.manifold._classical_mds" ["ClassicalMDS"]
    Record "sklearn.manifold._isomap" ["Isomap"]
    Record "sklearn.manifold._locally_linear" ["LocallyLinearEmbedding"]
    Record "sklearn.manifold._mds" ["MDS"]
    Record "sklearn.manifold._spectral_embedding" ["SpectralEmbedding"]
    Record "sklearn.manifold._t_sne" ["TSNE"]
    Value "sklearn.metrics._classification" [
        "accuracy_score" "balanced_accuracy_score" "brier_score_loss" "class_likelihood_ratios"
        "cohen_kappa_score" "d2_log_loss_score" "f1_score" "fbeta_score" "hamming_loss" "hinge_loss"
        "jaccard_score" "log_loss" "matthews_corrcoef" "precision_score" "recall_score"
        "zero_one_loss"
    ]
    Constructor "sklearn.metrics._dist_metrics" ["newObj"]
    Record "sklearn.metrics._dist_metrics" [
        "BrayCurtisDistance" "BrayCurtisDistance32" "BrayCurtisDistance64" "CanberraDistance"
        "CanberraDistance32" "CanberraDistance64" "ChebyshevDistance" "ChebyshevDistance32"
        "ChebyshevDistance64" "EuclideanDistance" "EuclideanDistance32" "EuclideanDistance64"
        "HammingDistance" "HammingDistance32" "HammingDistance64" "HaversineDistance"
        "HaversineDistance32" "HaversineDistance64" "MahalanobisDistance" "MahalanobisDistance32"
        "MahalanobisDistance64" "ManhattanDistance" "ManhattanDistance32" "ManhattanDistance64"
        "MinkowskiDistance" "MinkowskiDistance32" "MinkowskiDistance64" "SEuclideanDistance"
        "SEuclideanDistance32" "SEuclideanDistance64"
        "DiceDistance" "DiceDistance32" "DiceDistance64" "JaccardDistance" "JaccardDistance32" "JaccardDistance64"
        "KulsinskiDistance" "KulsinskiDistance32" "KulsinskiDistance64" "MatchingDistance" "MatchingDistance32"
        "MatchingDistance64" "RogersTanimotoDistance" "RogersTanimotoDistance32" "RogersTanimotoDistance64"
        "RussellRaoDistance" "RussellRaoDistance32" "RussellRaoDistance64" "SokalMichenerDistance"
        "SokalMichenerDistance32" "SokalMichenerDistance64" "SokalSneathDistance" "SokalSneathDistance32"
        "SokalSneathDistance64"
    ]
    Record "sklearn.metrics._scorer" [
        "_CurveScorer" "_MultimetricScorer" "_PassthroughScorer" "_PredictScorer" "_ProbaScorer"
        "_Scorer" "_ThresholdScorer"
    ]
    Value "sklearn.metrics._scorer" ["_passthrough_scorer"]
    Record "sklearn.mixture._bayesian_mixture" ["BayesianGaussianMixture"]
    Record "sklearn.mixture._gaussian_mixture" ["GaussianMixture"]
    Record "sklearn.model_selection._classification_threshold" [
        "FixedThresholdClassifier" "TunedThresholdClassifierCV" "_CurveScorer"
    ]
    Record "sklearn.grid_search" ["_CVScoreTuple"]
    Record "sklearn.model_selection._search" ["GridSearchCV" "RandomizedSearchCV"]
    Record "sklearn.model_selection._search_successive_halving" [
        "HalvingGridSearchCV" "HalvingRandomSearchCV"
    ]
    Value "sklearn.model_selection._search_successive_halving" ["_refit_callable"]
    Record "sklearn.model_selection._split" [
        "GroupKFold" "GroupShuffleSplit" "KFold" "LeaveOneGroupOut" "LeaveOneOut" "LeavePGroupsOut"
        "LeavePOut" "PredefinedSplit" "RepeatedKFold" "RepeatedStratifiedKFold" "ShuffleSplit"
        "StratifiedGroupKFold" "StratifiedKFold" "StratifiedShuffleSplit" "TimeSeriesSplit"
        "_CVIterableWrapper"
    ]
    Record "sklearn.multiclass" [
        "OneVsOneClassifier" "OneVsRestClassifier" "OutputCodeClassifier" "_ConstantPredictor"
    ]
    Record "sklearn.multioutput" [
        "ClassifierChain" "MultiOutputClassifier" "MultiOutputRegressor" "RegressorChain"
        "_BaseChain"
    ]
    Record "sklearn.naive_bayes" [
        "BernoulliNB" "CategoricalNB" "ComplementNB" "GaussianNB" "MultinomialNB"
    ]
    Constructor "sklearn.neighbors._ball_tree" ["newObj"]
    Record "sklearn.neighbors._ball_tree" [
        "BallTree" "BallTree32" "BallTree64" "BinaryTree"
    ]
    Record "sklearn.neighbors._classification" ["KNeighborsClassifier" "RadiusNeighborsClassifier"]
    Record "sklearn.neighbors._graph" ["KNeighborsTransformer" "RadiusNeighborsTransformer"]
    Constructor "sklearn.neighbors._kd_tree" ["newObj"]
    Record "sklearn.neighbors._kd_tree" [
        "BinaryTree" "KDTree" "KDTree32" "KDTree64"
    ]
    Record "sklearn.neighbors._kde" ["KernelDensity"]
    Record "sklearn.neighbors._lof" ["LocalOutlierFactor"]
    Record "sklearn.neighbors._nca" ["NeighborhoodComponentsAnalysis"]
    Record "sklearn.neighbors._nearest_centroid" ["NearestCentroid"]
    Record "sklearn.neighbors._regression" ["KNeighborsRegressor" "RadiusNeighborsRegressor"]
    Record "sklearn.neighbors._unsupervised" ["NearestNeighbors"]
    Record "sklearn.neural_network._multilayer_perceptron" ["MLPClassifier" "MLPRegressor"]
    Record "sklearn.neural_network._rbm" ["BernoulliRBM"]
    Record "sklearn.neural_network._stochastic_optimizers" [
        "AdamOptimizer" "SGDOptimizer"
    ]
    Record "sklearn.pipeline" ["FeatureUnion" "Pipeline"]
    Record "sklearn.preprocessing._data" [
        "Binarizer" "KernelCenterer" "MaxAbsScaler" "MinMaxScaler" "Normalizer"
        "PolynomialFeatures" "PowerTransformer" "QuantileTransformer" "RobustScaler"
        "StandardScaler"
    ]
    Record "sklearn.preprocessing._discretization" ["KBinsDiscretizer"]
    Record "sklearn.preprocessing._encoders" ["OneHotEncoder" "OrdinalEncoder"]
    Record "sklearn.preprocessing._function_transformer" ["FunctionTransformer"]
    Record "sklearn.preprocessing.imputation" ["Imputer"]
    Record "sklearn.preprocessing._label" ["LabelBinarizer" "LabelEncoder" "MultiLabelBinarizer"]
    Record "sklearn.preprocessing._polynomial" ["PolynomialFeatures" "SplineTransformer"]
    Record "sklearn.preprocessing._target_encoder" ["TargetEncoder"]
    Record "sklearn.random_projection" ["GaussianRandomProjection" "SparseRandomProjection"]
    Record "sklearn.semi_supervised._label_propagation" ["LabelPropagation" "LabelSpreading"]
    Record "sklearn.semi_supervised._self_training" ["SelfTrainingClassifier"]
    Record "sklearn.svm._classes" [
        "LinearSVC" "LinearSVR" "NuSVC" "NuSVR" "OneClassSVM" "SVC" "SVR"
    ]
    Record "sklearn.tree._classes" [
        "DecisionTreeClassifier" "DecisionTreeRegressor" "ExtraTreeClassifier"
        "ExtraTreeRegressor"
    ]
    Record "sklearn.tree._tree" ["Tree"]
    Record "sklearn.utils" ["Bunch"]
    Record "sklearn.utils._bunch" ["Bunch"]
    Record "sklearn.utils.deprecation" ["DeprecationDict"]
    Record "sklearn.utils._metadata_requests" ["MetadataRequest" "MethodMetadataRequest"]
    Value "sklearn.utils.validation" ["check_array"]
    Value "sklearn.metrics._ranking" [
        "average_precision_score" "coverage_error" "dcg_score"
        "label_ranking_average_precision_score" "ndcg_score" "roc_auc_score" "top_k_accuracy_score"
    ]
    Value "sklearn.metrics._regression" [
        "d2_absolute_error_score" "d2_pinball_score" "d2_tweedie_score" "explained_variance_score"
        "max_error" "mean_absolute_error" "mean_absolute_percentage_error" "mean_gamma_deviance"
        "mean_pinball_loss" "mean_poisson_deviance" "mean_squared_error" "mean_squared_log_error"
        "mean_tweedie_deviance" "median_absolute_error" "r2_score" "root_mean_squared_error"
        "root_mean_squared_log_error"
    ]
    Value "sklearn.metrics.cluster._supervised" [
        "adjusted_mutual_info_score" "adjusted_rand_score" "completeness_score"
        "fowlkes_mallows_score" "homogeneity_score" "mutual_info_score"
        "normalized_mutual_info_score" "rand_score" "v_measure_score"
    ]
    Record "xgboost.compat" ["XGBoostLabelEncoder"]
    Record "xgboost.core" ["Booster"]
    Record "xgboost.sklearn" [
        "XGBClassifier" "XGBModel" "XGBRFClassifier" "XGBRFRegressor" "XGBRanker" "XGBRegressor"
    ]
};
