//! What files of releases before 1.0 leave to be found out: chiefly the number of features.

use coracle_model::LoadError;

use super::fitted::Fitted;

/// Where the number of features is.
#[derive(Clone, Copy)]
enum Place {
    /// It is the attribute.
    Count,
    /// The attribute's last dimension.
    Last,
    /// The attribute's first dimension.
    First,
    /// The first dimension of the attribute's first array.
    FirstOfFirst,
    /// The attribute's number of items.
    Items,
    /// The second number of the attribute.
    Second,
}

/// Attributes that tell the number of features, of whatever class has them; the first that is there counts.
const PLACES: &[(&str, Place)] = &[
    ("n_features_", Place::Count),
    ("_n_features", Place::Count),
    ("n_input_features_", Place::Count),
    ("shape_fit_", Place::Second),
    ("_fit_X", Place::Last),
    ("x_mean_", Place::First),
    ("coef_", Place::Last),
    ("coefs_", Place::FirstOfFirst),
    ("statistics_", Place::First),
    ("scale_", Place::First),
    ("mean_", Place::First),
    ("var_", Place::First),
    ("center_", Place::First),
    ("theta_", Place::Last),
    ("feature_log_prob_", Place::Last),
    ("cluster_centers_", Place::Last),
    ("subcluster_centers_", Place::Last),
    ("centroids_", Place::Last),
    ("means_", Place::Last),
    ("location_", Place::First),
    ("components_", Place::Last),
    ("X_train_", Place::Last),
    ("X_fit_", Place::Last),
    ("X_", Place::Last),
    ("variances_", Place::First),
    ("scores_", Place::First),
    ("random_weights_", Place::First),
    ("lambdas_", Place::First),
    ("quantiles_", Place::Last),
    ("n_bins_", Place::First),
    ("n_values_", Place::First),
    ("categories_", Place::Items),
];

/// Returns the number of features of an estimator of a release before 1.0.
///
/// # Errors
/// Kind `Unsupported` if nothing in the file tells it.
pub(super) fn n_features(fitted: &Fitted<'_>) -> Result<usize, LoadError> {
    let first = match fitted.short_class() {
        "RFE" | "RFECV" => Some(("support_", Place::First)),
        "GradientBoostingClassifier" | "GradientBoostingRegressor"
            if fitted.version.is_up_to_zero(18) =>
        {
            Some(("n_features", Place::Count))
        }
        "FeatureAgglomeration" => Some(("labels_", Place::First)),
        _ => None,
    };
    let places = first
        .iter()
        .chain(PLACES)
        .filter(|(name, _)| !fitted.is_none(name));
    let mut counts = places.filter_map(|&(name, place)| read(fitted, name, place));
    counts
        .next()
        .or(fitted.width)
        .ok_or_else(|| unknown_width(fitted))
}

/// Returns the error of an estimator of which nothing tells how many columns it takes.
pub(super) fn unknown_width(fitted: &Fitted<'_>) -> LoadError {
    fitted.unsupported("the number of columns is not in the file")
}

fn read(fitted: &Fitted<'_>, name: &str, place: Place) -> Option<usize> {
    let graph = fitted.graph;
    let id = fitted.attr(name)?;
    let shape = |id| match graph.array(id) {
        Some(array) => Some(array.shape().to_vec()),
        None => {
            let sparse = graph.sparse(id).ok()??;
            Some(vec![sparse.n_rows, sparse.n_columns])
        }
    };
    let count = |id| usize::try_from(graph.int(id)?).ok();
    match place {
        Place::Count => count(id),
        Place::Last => shape(id)?.last().copied(),
        Place::First => shape(id)?.first().copied(),
        Place::FirstOfFirst => shape(*graph.list(id)?.first()?)?.first().copied(),
        Place::Items => Some(graph.list(id)?.len()),
        Place::Second => count(*graph.list(id)?.get(1)?),
    }
}
