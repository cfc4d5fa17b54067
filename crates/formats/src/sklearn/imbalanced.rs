//! imbalanced-learn: its pipelines and ensembles answer as scikit-learn's do. What differs is the rows they are trained on.

use coracle_model::{LoadError, LoadErrorKind};
use coracle_pickle::{Graph, NodeId};

/// Tells whether `class` is one of the library's; the list of names is closed (`globals`).
pub(super) fn is_known(class: &str) -> bool {
    class.starts_with("imblearn.")
}

/// Tells whether `class` changes the rows of training and nothing else; pipelines pass over it when they answer.
pub(super) fn is_sampler(class: &str) -> bool {
    let modules = [
        "imblearn.over_sampling.",
        "imblearn.under_sampling.",
        "imblearn.combine.",
    ];
    class == "imblearn.base.FunctionSampler"
        || modules.iter().any(|module| class.starts_with(module))
}

/// Returns the class of scikit-learn that computes the answers of `class`; itself for all others.
pub(super) fn answers_as(class: &'static str) -> &'static str {
    match class {
        "imblearn.pipeline.Pipeline" => "sklearn.pipeline.Pipeline",
        "imblearn.ensemble._bagging.BalancedBaggingClassifier"
        | "imblearn.ensemble._easy_ensemble.EasyEnsembleClassifier" => {
            "sklearn.ensemble._bagging.BaggingClassifier"
        }
        "imblearn.ensemble._forest.BalancedRandomForestClassifier" => {
            "sklearn.ensemble._forest.RandomForestClassifier"
        }
        "imblearn.ensemble._weight_boosting.RUSBoostClassifier" => {
            "sklearn.ensemble._weight_boosting.AdaBoostClassifier"
        }
        other => other,
    }
}

/// Returns where the file records scikit-learn's release: in the estimators within, as these classes record none.
///
/// # Errors
/// Kind `Unsupported` if it records none.
pub(super) fn version(graph: &Graph) -> Result<NodeId, LoadError> {
    let recorded = graph
        .ids()
        .find_map(|id| graph.attr(id, "_sklearn_version"));
    recorded.ok_or_else(|| {
        let message = "holds no fitted scikit-learn estimator within imbalanced-learn's";
        LoadError::new(LoadErrorKind::Unsupported, message)
    })
}
