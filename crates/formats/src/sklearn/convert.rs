//! Dispatch: from a class to the family that converts it.

use coracle_model::{Component, Estimator, LoadError, LoadErrorKind};
use coracle_pickle::{Graph, Node, NodeId};

use super::fitted::Fitted;
use super::nones::{self, NoneIs};
use super::{
    Converted, Version, boosted, boosting, columns, describe, encoders, hashed, hist_boosting,
    imbalanced, keyed, linear, names, numeric, objects, pipeline, preprocessing, text, tree,
};

/// An estimator and its description.
pub(super) struct Part {
    pub(super) estimator: Box<dyn Estimator>,
    /// What was learnt, for the description.
    pub(super) facts: Vec<(String, String)>,
    pub(super) children: Vec<Component>,
    /// What `None` is to what reads each column; empty where nothing says it.
    pub(super) nones: Vec<NoneIs>,
}

impl Part {
    /// Returns a part without parts of its own.
    pub(super) fn new(estimator: impl Estimator + 'static, facts: Vec<(String, String)>) -> Self {
        Self::boxed(Box::new(estimator), facts)
    }

    /// As [`Part::new`].
    pub(super) fn boxed(estimator: Box<dyn Estimator>, facts: Vec<(String, String)>) -> Self {
        Self {
            estimator,
            facts,
            children: Vec::new(),
            nones: Vec::new(),
        }
    }

    /// Returns the part with what `None` is to what reads each of its columns.
    pub(super) fn with_nones(self, nones: Vec<NoneIs>) -> Self {
        Self { nones, ..self }
    }
}

/// Converts the value of a file; see [`super::convert`].
pub(super) fn root(graph: &Graph, name: Option<&str>) -> Result<Converted, LoadError> {
    let chosen = objects::choose(graph, name)?;
    let mut converted = one(graph, chosen.id)?;
    converted.component.facts.extend(chosen.facts);
    Ok(converted)
}

/// Converts the estimator at `id`.
fn one(graph: &Graph, id: NodeId) -> Result<Converted, LoadError> {
    let object = match graph.node(id) {
        Node::Object(object) => object,
        other => {
            let message = format!(
                "holds {}, not a fitted scikit-learn estimator; save the estimator itself",
                describe::kind_of(other)
            );
            return Err(LoadError::new(LoadErrorKind::Unsupported, message));
        }
    };
    let recorded = match graph.attr(id, "_sklearn_version") {
        None if imbalanced::is_known(object.class) => Some(imbalanced::version(graph)?),
        recorded => recorded,
    };
    let version = match recorded {
        Some(version) => {
            let text = graph.string(version).ok_or_else(|| {
                LoadError::new(LoadErrorKind::Malformed, "'_sklearn_version' is not text")
            })?;
            Version::parse(&text)?
        }
        None if boosted::is_known(object.class) => {
            let version = Version::newest();
            return boosted::root(&Fitted::root(graph, id, object, &version));
        }
        None => return Err(not_an_estimator(object.class)),
    };
    let fitted = Fitted::root(graph, id, object, &version);
    let (estimator, component) = estimator(&fitted, String::new())?;
    let feature_names = names::of_columns(&fitted)?;
    Ok(Converted {
        estimator,
        feature_names,
        component,
        library: "scikit-learn",
        version: Some(version.to_string()),
    })
}

fn not_an_estimator(class: &str) -> LoadError {
    let message = format!("class '{class}' is not a fitted scikit-learn estimator");
    LoadError::new(LoadErrorKind::Unsupported, message)
}

/// Converts one estimator; `name` is what its parent calls it.
///
/// # Errors
/// As [`super::convert`].
pub(super) fn estimator(
    fitted: &Fitted<'_>,
    name: String,
) -> Result<(Box<dyn Estimator>, Component), LoadError> {
    let (estimator, component, _) = with_nones(fitted, name)?;
    Ok((estimator, component))
}

/// As [`estimator`], with what `None` is to what reads each column; empty where it is NaN to all.
///
/// # Errors
/// As [`super::convert`].
pub(super) fn read_after_others(
    fitted: &Fitted<'_>,
    name: String,
) -> Result<(Box<dyn Estimator>, Component, Vec<NoneIs>), LoadError> {
    let (estimator, component, known) = with_nones(fitted, name)?;
    let nones = match known.is_empty() {
        true => {
            let n_given = columns::transformed_width(estimator.as_ref());
            nones::beneath(fitted, estimator.n_features(), n_given)
        }
        false => known,
    };
    Ok((estimator, component, nones))
}

fn with_nones(
    fitted: &Fitted<'_>,
    name: String,
) -> Result<(Box<dyn Estimator>, Component, Vec<NoneIs>), LoadError> {
    let part = match imbalanced::answers_as(fitted.class()) {
        "sklearn.pipeline.Pipeline" => pipeline::convert(fitted)?,
        "sklearn.tree._classes.DecisionTreeClassifier"
        | "sklearn.tree._classes.ExtraTreeClassifier" => tree::classifier(fitted)?,
        "sklearn.tree._classes.DecisionTreeRegressor"
        | "sklearn.tree._classes.ExtraTreeRegressor" => tree::regressor(fitted)?,
        "sklearn.ensemble._forest.RandomForestClassifier"
        | "sklearn.ensemble._forest.ExtraTreesClassifier" => tree::forest_classifier(fitted)?,
        "sklearn.ensemble._forest.RandomForestRegressor"
        | "sklearn.ensemble._forest.ExtraTreesRegressor" => tree::forest_regressor(fitted)?,
        "sklearn.ensemble._gb.GradientBoostingClassifier" => boosting::classifier(fitted)?,
        "sklearn.ensemble._gb.GradientBoostingRegressor" => boosting::regressor(fitted)?,
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier" => {
            hist_boosting::classifier(fitted)?
        }
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor" => {
            hist_boosting::regressor(fitted)?
        }
        "sklearn.linear_model._logistic.LogisticRegression"
        | "sklearn.linear_model._logistic.LogisticRegressionCV" => linear::logistic(fitted)?,
        "sklearn.linear_model._ridge.RidgeClassifier" => linear::ridge_classifier(fitted)?,
        "sklearn.linear_model._stochastic_gradient.SGDClassifier" => {
            linear::sgd_classifier(fitted)?
        }
        "sklearn.linear_model._base.LinearRegression"
        | "sklearn.linear_model._ridge.Ridge"
        | "sklearn.linear_model._coordinate_descent.Lasso"
        | "sklearn.linear_model._coordinate_descent.ElasticNet"
        | "sklearn.linear_model._stochastic_gradient.SGDRegressor" => linear::regressor(fitted)?,
        "sklearn.preprocessing._data.StandardScaler" => preprocessing::standard_scaler(fitted)?,
        "sklearn.preprocessing._data.MinMaxScaler" => preprocessing::min_max_scaler(fitted)?,
        "sklearn.preprocessing._data.RobustScaler" => preprocessing::robust_scaler(fitted)?,
        "sklearn.impute._base.SimpleImputer" => preprocessing::simple_imputer(fitted)?,
        "sklearn.preprocessing._encoders.OneHotEncoder" => encoders::one_hot(fitted)?,
        "sklearn.preprocessing._encoders.OrdinalEncoder" => encoders::ordinal(fitted)?,
        "sklearn.preprocessing._target_encoder.TargetEncoder" => encoders::target(fitted)?,
        "sklearn.preprocessing._label.LabelEncoder" => encoders::label(fitted)?,
        "sklearn.preprocessing._label.LabelBinarizer" => encoders::label_binarizer(fitted)?,
        "sklearn.compose._column_transformer.ColumnTransformer" => {
            columns::column_transformer(fitted)?
        }
        "sklearn.pipeline.FeatureUnion" => columns::feature_union(fitted)?,
        keyed::CLASS => keyed::convert(fitted)?,
        "sklearn.feature_extraction.text.CountVectorizer" => text::count(fitted)?,
        "sklearn.feature_extraction.text.TfidfVectorizer" => text::tfidf(fitted)?,
        "sklearn.feature_extraction.text.HashingVectorizer" => text::hashing(fitted)?,
        "sklearn.feature_extraction._hash.FeatureHasher" => hashed::convert(fitted)?,
        "sklearn.feature_extraction.text.TfidfTransformer" => text::tfidf_transformer(fitted)?,
        class if boosted::is_known(class) => boosted::convert(fitted)?.part,
        class => match numeric::converter(class) {
            Some(convert) => convert(fitted)?,
            None => return Err(unsupported(fitted, class)),
        },
    };
    let mut facts = part.facts;
    facts.insert(
        0,
        (
            "features".to_owned(),
            part.estimator.n_features().to_string(),
        ),
    );
    let component = Component {
        name,
        class: fitted.short_class().to_owned(),
        parameters: describe::parameters(fitted),
        facts,
        children: part.children,
    };
    Ok((part.estimator, component, part.nones))
}

fn unsupported(fitted: &Fitted<'_>, class: &str) -> LoadError {
    let why = match class.rsplit('.').next().unwrap_or(class) {
        "AgglomerativeClustering"
        | "ClassicalMDS"
        | "DBSCAN"
        | "HDBSCAN"
        | "MDS"
        | "OPTICS"
        | "SpectralClustering"
        | "SpectralEmbedding"
        | "TSNE" => ": it has no answers for new rows",
        "PatchExtractor" => ": it makes rows of images",
        "MultiLabelBinarizer" => ": its rows are lists of any length",
        _ => "",
    };
    let message = format!("scikit-learn class '{class}' is not supported{why}");
    let error = LoadError::new(LoadErrorKind::Unsupported, message);
    match fitted.place.as_str() {
        "" => error,
        place => error.at(place),
    }
}
