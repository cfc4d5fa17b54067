//! XGBoost's models: JSON, UBJSON and the old binary form; the boosters gbtree, dart and gblinear.
//!
//! [`Ensemble`] is what a file holds; [`boosted`] makes an estimator of it whose `predict` is what
//! `Booster.predict` gives: every tree, the objective's link, single precision.

mod categories;
mod classes;
mod ensemble;
mod importance;
mod legacy;
mod objective;
mod tree;

use coracle_estimators::{
    Boosted, BoostedAnswer, BoostedLinear, BoostedLink, BoostedMissing, BoostedPrecision,
    BoostedSpec,
};
use coracle_forest::{Forest, ForestSpec, Precision};
use coracle_model::{Component, Estimator, LoadError, LoadErrorKind, Method, Scorer};

pub(crate) use classes::{class_answers, n_iterations};
pub(crate) use ensemble::{Booster, Ensemble, is_ubjson};
pub(crate) use importance::importances;
pub(crate) use legacy::is_legacy;

/// What a model file of boosted trees becomes.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) estimator: Box<dyn Estimator>,
    pub(crate) feature_names: Option<Vec<String>>,
    pub(crate) component: Component,
    pub(crate) version: Option<String>,
}

/// Converts a model on its own, as `Booster.predict` and `Booster.predict(output_margin=True)` answer.
///
/// # Errors
/// Kind `Unsupported` for what is not served, by name; `Malformed` where the file contradicts itself.
pub(crate) fn boosted(ensemble: &Ensemble) -> Result<Converted, LoadError> {
    let answers = vec![
        (Method::Predict, BoostedAnswer::Values),
        (Method::DecisionFunction, BoostedAnswer::Scores),
    ];
    let options = Options {
        n_iterations: None,
        missing: BoostedMissing::Nan,
        link: None,
        answers,
    };
    let (estimator, facts) = estimator(ensemble, options)?;
    Ok(Converted {
        estimator,
        feature_names: ensemble.feature_names.clone(),
        component: Component {
            class: "Booster".to_owned(),
            parameters: vec![("booster".to_owned(), ensemble.booster.name().to_owned())],
            facts,
            ..Component::default()
        },
        version: ensemble.version.clone(),
    })
}

/// Converts a model as an estimator of `class` answers that read it with `load_model`; as [`boosted`] for a booster.
///
/// # Errors
/// As [`boosted`], and `Unsupported` if the class is not known.
pub(crate) fn of_class(ensemble: &Ensemble, class: Option<&str>) -> Result<Converted, LoadError> {
    let name = match class {
        None => return boosted(ensemble),
        Some(class) => class.rsplit('.').next().unwrap_or(class),
    };
    let (link, answers) = match name {
        "Booster" => return boosted(ensemble),
        "XGBClassifier" | "XGBRFClassifier" => class_answers(ensemble, None)?,
        "XGBRegressor" | "XGBRFRegressor" | "XGBRanker" => {
            (None, vec![(Method::Predict, BoostedAnswer::Values)])
        }
        name => {
            let name = crate::document::quoted(name);
            return Err(unsupported(format!(
                "XGBoost class {name} is not supported"
            )));
        }
    };
    let options = Options {
        n_iterations: n_iterations(ensemble)?,
        missing: BoostedMissing::Nan,
        link,
        answers,
    };
    let (estimator, facts) = estimator(ensemble, options)?;
    Ok(Converted {
        estimator,
        feature_names: ensemble.feature_names.clone(),
        component: Component {
            class: name.to_owned(),
            facts,
            ..Component::default()
        },
        version: ensemble.version.clone(),
    })
}

/// What an estimator adds to the model it holds.
#[derive(Debug)]
pub(crate) struct Options {
    /// How many iterations are used; all, if `None`.
    pub(crate) n_iterations: Option<usize>,
    pub(crate) missing: BoostedMissing,
    /// The link; the objective's, if `None`.
    pub(crate) link: Option<BoostedLink>,
    /// The methods, the default one first.
    pub(crate) answers: Vec<(Method, BoostedAnswer)>,
}

/// Makes an estimator of an ensemble, and tells facts of it.
///
/// # Errors
/// As [`boosted`].
pub(crate) fn estimator(
    ensemble: &Ensemble,
    options: Options,
) -> Result<(Box<dyn Estimator>, Vec<(String, String)>), LoadError> {
    let objective = objective::known(&ensemble.objective, ensemble.n_groups)?;
    let base = objective.margins(&ensemble.base_scores, ensemble.n_groups)?;
    let (scorer, mut facts) = scorer(ensemble, options.n_iterations, base)?;
    facts.insert(0, ("objective".to_owned(), ensemble.objective.clone()));
    let spec = BoostedSpec {
        scorer,
        precision: BoostedPrecision::Single,
        missing: options.missing,
        divisor: 1.0,
        link: options.link.unwrap_or(objective.link),
        answers: options.answers,
    };
    let estimator = Boosted::try_new(spec).map_err(|error| malformed(error.to_string()))?;
    let names = ensemble.feature_names.as_deref();
    // XGBoost refuses a category that it was not trained with.
    let estimator =
        crate::coded::with_codes(Box::new(estimator), &ensemble.categories, names, true)?;
    Ok((estimator, facts))
}

/// A kernel, and what is told of it.
type Scoring = (Box<dyn Scorer>, Vec<(String, String)>);

fn scorer(
    ensemble: &Ensemble,
    n_iterations: Option<usize>,
    base: Vec<f32>,
) -> Result<Scoring, LoadError> {
    match &ensemble.booster {
        Booster::Trees(trees) => {
            let trees = trees.of_iterations(n_iterations, ensemble.n_groups)?;
            let spec = ForestSpec {
                n_features: ensemble.n_features,
                n_scores: ensemble.n_groups,
                precision: Precision::Single,
                summation: Precision::Single,
                base: base.into_iter().map(f64::from).collect(),
                divisor: None,
                accepts_missing: true,
                accepts_infinite: false,
                trees,
            };
            let forest = Forest::try_new(&spec).map_err(|error| malformed(error.to_string()))?;
            let facts = vec![
                ("trees".to_owned(), forest.n_trees().to_string()),
                ("nodes".to_owned(), forest.n_nodes().to_string()),
                ("kernel".to_owned(), forest.kernel().as_str().to_owned()),
            ];
            Ok((Box::new(forest), facts))
        }
        Booster::Linear(weights) => {
            let n_weights = ensemble.n_features.saturating_mul(ensemble.n_groups);
            let (weights, biases) = match weights.split_at_checked(n_weights) {
                Some((weights, biases)) if biases.len() == ensemble.n_groups => (weights, biases),
                _ => {
                    let message = format!(
                        "{} weights for {} features and {} scores",
                        weights.len(),
                        ensemble.n_features,
                        ensemble.n_groups
                    );
                    return Err(malformed(message));
                }
            };
            // XGBoost starts every linear score from the first base score.
            let base = base.first().copied().unwrap_or(0.0);
            let intercepts = biases.iter().map(|&bias| bias + base);
            let linear =
                BoostedLinear::try_new(weights.to_vec(), intercepts.collect(), ensemble.n_features)
                    .map_err(|error| malformed(error.to_string()))?;
            Ok((Box::new(linear), Vec::new()))
        }
    }
}

fn malformed(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Malformed, message)
}

fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}
