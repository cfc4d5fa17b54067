//! LightGBM's text models: what its files, and its boosters in pickles, hold.
//!
//! [`Ensemble`] is what a text holds; [`boosted`] makes an estimator of it whose `predict` is what
//! `Booster.predict` gives, in double precision.

mod categories;
mod ensemble;
mod objective;
mod text;
mod tree;

use coracle_estimators::{
    Boosted, BoostedAnswer, BoostedLink, BoostedMissing, BoostedPrecision, BoostedSpec,
};
use coracle_forest::{EarlyStop, Forest, ForestSpec, LinearForest, Precision};
use coracle_model::{Component, Estimator, LoadError, LoadErrorKind, Method, Scorer};

pub(crate) use ensemble::{Ensemble, are_made_up, is_text};

use crate::numbers::from_count;
use crate::xgboost::Converted;

/// Values up to this magnitude are zeros to LightGBM.
#[expect(clippy::as_conversions, reason = "a constant")]
const ZERO_MAX: f64 = 1e-35_f32 as f64;

/// Converts a model on its own, as `Booster.predict` answers, and with `raw_score=True`.
///
/// # Errors
/// Kind `Unsupported` for what is not served, by name; `Malformed` where the text contradicts itself.
pub(crate) fn boosted(
    ensemble: &Ensemble,
    n_iterations: Option<usize>,
) -> Result<Converted, LoadError> {
    let answers = vec![
        (Method::Predict, BoostedAnswer::Values),
        // Of a forest these are sums, and means elsewhere.
        (Method::DecisionFunction, BoostedAnswer::Scores),
    ];
    let (estimator, facts) = estimator(ensemble, n_iterations, answers, None)?;
    Ok(Converted {
        estimator,
        feature_names: ensemble.feature_names(),
        component: Component {
            class: "Booster".to_owned(),
            facts,
            ..Component::default()
        },
        version: None,
    })
}

/// Makes an estimator of the first `n_iterations` of an ensemble (all, if `None`), and tells facts of it.
///
/// # Errors
/// As [`boosted`].
pub(crate) fn estimator(
    ensemble: &Ensemble,
    n_iterations: Option<usize>,
    answers: Vec<(Method, BoostedAnswer)>,
    stop: Option<PredictionStop>,
) -> Result<(Box<dyn Estimator>, Vec<(String, String)>), LoadError> {
    let link = objective::link(&ensemble.objective, ensemble.n_scores)?;
    let (scorer, mut facts) = scorer(ensemble, n_iterations, stop)?;
    facts.insert(0, ("objective".to_owned(), ensemble.objective.clone()));
    let missing = match ensemble.zero_columns.contains(&true) {
        true => BoostedMissing::Zeros {
            columns: ensemble.zero_columns.clone(),
            magnitude_max: ZERO_MAX,
        },
        false => BoostedMissing::Nan,
    };
    let spec = BoostedSpec {
        scorer,
        precision: BoostedPrecision::Double,
        missing,
        divisor: match ensemble.is_averaged {
            true => from_count(iterations(ensemble, n_iterations).max(1)),
            false => 1.0,
        },
        link,
        answers,
    };
    let estimator = Boosted::try_new(spec).map_err(|error| malformed(error.to_string()))?;
    let names = ensemble.feature_names();
    let estimator = crate::coded::with_codes(
        Box::new(estimator),
        &ensemble.categories,
        names.as_deref(),
        false,
    )?;
    Ok((estimator, facts))
}

/// Returns the labels-and-probabilities link of a classifier over this ensemble, if it has one.
pub(crate) fn has_probabilities(ensemble: &Ensemble) -> bool {
    let link = objective::link(&ensemble.objective, ensemble.n_scores);
    matches!(link, Ok(BoostedLink::Sigmoid { .. } | BoostedLink::Softmax))
}

/// What an estimator's `pred_early_stop` says: a row is shown no further trees once its scores are clear.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PredictionStop {
    /// After how many iterations the scores are looked at, again and again.
    pub(crate) n_iterations: usize,
    pub(crate) margin: f64,
}

/// Tells whether the library leaves out trees of this ensemble where it is asked to: only where scores are compared.
pub(crate) fn may_stop_early(ensemble: &Ensemble) -> bool {
    let objective = ensemble.objective.split(' ').next();
    let compared = [
        "binary",
        "multiclass",
        "multiclassova",
        "lambdarank",
        "rank_xendcg",
    ];
    objective.is_some_and(|objective| compared.contains(&objective))
}

/// A kernel, and what is told of it.
type Scoring = (Box<dyn Scorer>, Vec<(String, String)>);

/// Returns how many iterations there are, or are used.
fn iterations(ensemble: &Ensemble, n_iterations: Option<usize>) -> usize {
    let n_all = ensemble.trees.len().checked_div(ensemble.n_scores);
    let n_all = n_all.unwrap_or(0);
    n_iterations.unwrap_or(n_all).min(n_all)
}

fn scorer(
    ensemble: &Ensemble,
    n_iterations: Option<usize>,
    stop: Option<PredictionStop>,
) -> Result<Scoring, LoadError> {
    let n_scores = ensemble.n_scores;
    let n_iterations = iterations(ensemble, n_iterations);
    let n_trees = n_iterations.saturating_mul(n_scores);
    let trees = ensemble.trees.iter().take(n_trees);
    let spec = ForestSpec {
        n_features: ensemble.n_features,
        n_scores,
        precision: Precision::Double,
        summation: Precision::Double,
        base: vec![0.0; n_scores],
        divisor: None,
        accepts_missing: true,
        accepts_infinite: true,
        trees: trees.cloned().collect(),
    };
    if ensemble.is_linear() || stop.is_some() {
        let leaves = ensemble.linear_leaves(n_trees);
        let mut spec = spec;
        spec.trees.iter_mut().for_each(tree::number_leaves);
        let mut forest =
            LinearForest::try_new(&spec, leaves).map_err(|error| malformed(error.to_string()))?;
        let mut trees = n_trees.to_string();
        if ensemble.is_linear() {
            trees.push_str(", linear");
        }
        let mut facts = vec![("trees".to_owned(), trees)];
        if let Some(PredictionStop {
            n_iterations,
            margin,
        }) = stop
        {
            let stop = EarlyStop {
                n_trees: n_iterations.saturating_mul(n_scores),
                margin,
            };
            forest = forest
                .stopping(stop)
                .map_err(|error| malformed(error.to_string()))?;
            let when = format!("margin {margin}, looked at every {n_iterations} iterations");
            facts.push(("prediction stops early".to_owned(), when));
        }
        return Ok((Box::new(forest), facts));
    }
    let forest = Forest::try_new(&spec).map_err(|error| malformed(error.to_string()))?;
    let facts = vec![
        ("trees".to_owned(), forest.n_trees().to_string()),
        ("nodes".to_owned(), forest.n_nodes().to_string()),
        ("kernel".to_owned(), forest.kernel().as_str().to_owned()),
    ];
    Ok((Box::new(forest), facts))
}

fn malformed(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Malformed, message)
}

fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}
