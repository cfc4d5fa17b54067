//! Feature selection: which columns stay.

use std::sync::Arc;

use coracle_estimators::{Facet, Selected, TableFn};
use coracle_model::{Accepts, Component, Estimator, LoadError, Method};

use super::arrays::columns_where;
use super::convert::Part;
use super::fitted::Fitted;
use super::importance;

/// The most columns that are selected from by importance.
const FEATURES_MAX: usize = 1 << 24;

/// Returns the selection of `columns` as a function.
fn selected(
    fitted: &Fitted<'_>,
    columns: Vec<usize>,
    accepts: Accepts,
) -> Result<Arc<dyn TableFn>, LoadError> {
    if columns.is_empty() {
        return Err(fitted.unsupported("a selection of no columns is not supported"));
    }
    let selected = Selected::try_new(fitted.n_features()?, columns, accepts);
    Ok(Arc::new(selected.map_err(|error| fitted.spec(error))?))
}

fn selector(fitted: &Fitted<'_>, columns: Vec<usize>, accepts: Accepts) -> Result<Part, LoadError> {
    let facts = vec![("columns kept".to_owned(), columns.len().to_string())];
    let function = selected(fitted, columns, accepts)?;
    let part = fitted.faceted(vec![Facet::table(Method::Transform, function)])?;
    Ok(Part { facts, ..part })
}

/// Converts VarianceThreshold.
pub(super) fn variance_threshold(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let variances = fitted.vector("variances_", fitted.n_features()?)?;
    let threshold = fitted.number("threshold")?;
    let kept = variances.into_iter().map(|variance| variance > threshold);
    selector(fitted, columns_where(kept.collect()), Accepts::ANY)
}

/// Converts the univariate selections.
pub(super) fn univariate(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let (rule, parameter) = match fitted.short_class() {
        "SelectKBest" => ("k_best".to_owned(), "k"),
        "SelectPercentile" => ("percentile".to_owned(), "percentile"),
        "SelectFpr" => ("fpr".to_owned(), "alpha"),
        "SelectFdr" => ("fdr".to_owned(), "alpha"),
        "SelectFwe" => ("fwe".to_owned(), "alpha"),
        _ => (fitted.text("mode")?, "param"),
    };
    let n_features = fitted.n_features()?;
    let kept = match rule.as_str() {
        "k_best" => {
            let scores = clean(fitted.vector("scores_", n_features)?);
            match fitted.text_if(parameter).as_deref() {
                Some("all") => vec![true; n_features],
                Some(other) => return Err(fitted.unknown(parameter, other)),
                None => largest(&scores, fitted.count(parameter)?),
            }
        }
        "percentile" => {
            let scores = clean(fitted.vector("scores_", n_features)?);
            percentile(&scores, fitted.number(parameter)?)
        }
        "fpr" | "fwe" | "fdr" => {
            let values = fitted.vector("pvalues_", n_features)?;
            significant(&values, &rule, fitted.number(parameter)?)
        }
        other => return Err(fitted.unknown("mode", other)),
    };
    selector(fitted, columns_where(kept), Accepts::FINITE)
}

/// NaN becomes the smallest number, as scikit-learn has it.
fn clean(mut scores: Vec<f64>) -> Vec<f64> {
    for score in scores.iter_mut().filter(|score| score.is_nan()) {
        *score = f64::MIN;
    }
    scores
}

/// Returns which are the `k` largest; of equal ones the later.
fn largest(scores: &[f64], k: usize) -> Vec<bool> {
    let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
    order.sort_by(|(_, left), (_, right)| left.total_cmp(right));
    let mut kept = vec![false; scores.len()];
    for (index, _) in order.into_iter().rev().take(k) {
        if let Some(kept) = kept.get_mut(index) {
            *kept = true;
        }
    }
    kept
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "counts of columns; ties are exact"
)]
fn percentile(scores: &[f64], percentile: f64) -> Vec<bool> {
    if percentile >= 100.0 || percentile <= 0.0 {
        return vec![percentile >= 100.0; scores.len()];
    }
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len().saturating_sub(1)) as f64 * (100.0 - percentile) / 100.0;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    let share = place - place.floor();
    // numpy's interpolation, from the nearer end.
    let threshold = match share >= 0.5 {
        true => high - (high - low) * (1.0 - share),
        false => low + (high - low) * share,
    };
    let mut kept: Vec<bool> = scores.iter().map(|&score| score > threshold).collect();
    let wanted = (scores.len() as f64 * percentile / 100.0) as usize;
    let mut n_kept = kept.iter().filter(|&&kept| kept).count();
    for (kept, score) in kept.iter_mut().zip(scores) {
        if *score == threshold && n_kept < wanted {
            *kept = true;
            n_kept = n_kept.saturating_add(1);
        }
    }
    kept
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "counts of columns"
)]
fn significant(values: &[f64], rule: &str, alpha: f64) -> Vec<bool> {
    let n = values.len() as f64;
    match rule {
        "fpr" => values.iter().map(|&value| value < alpha).collect(),
        "fwe" => values.iter().map(|&value| value < alpha / n).collect(),
        _ => {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            let under = sorted
                .iter()
                .enumerate()
                .filter(|(index, value)| **value <= alpha / n * (index.saturating_add(1) as f64));
            let limit = under
                .map(|(_, &value)| value)
                .fold(f64::NEG_INFINITY, f64::max);
            values.iter().map(|&value| value <= limit).collect()
        }
    }
}

/// Converts RFE and RFECV: a selection with the estimator behind it.
pub(super) fn elimination(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let (estimator, component) = fitted.estimator_in("estimator_")?;
    let columns = fitted.mask("support_", fitted.n_features()?)?;
    let function = selected(fitted, columns, accepts_of(&estimator))?;
    let mut facets = Facet::delegated(Some(&function), &estimator)
        .map_err(|error| fitted.spec(error))?
        .into_iter()
        .filter(|facet| facet.method() != Method::Transform)
        .collect::<Vec<_>>();
    facets.push(Facet::table(Method::Transform, function));
    let mut part = fitted.faceted(facets)?;
    part.children.push(component);
    Ok(part)
}

/// Returns what a selection takes: where its estimator takes missing values, nothing is checked.
fn accepts_of(estimator: &Arc<dyn Estimator>) -> Accepts {
    match estimator.accepts().missing {
        true => Accepts::ANY,
        false => Accepts::FINITE,
    }
}

/// Converts SequentialFeatureSelector, which keeps no fitted estimator.
pub(super) fn sequential(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let columns = fitted.mask("support_", fitted.n_features()?)?;
    selector(fitted, columns, Accepts::FINITE)
}

/// Converts SelectFromModel.
pub(super) fn from_model(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let name = match fitted.attr("estimator_") {
        Some(_) => "estimator_",
        None => "estimator",
    };
    let model = fitted.part_in(name)?;
    let (estimator, component): (Arc<dyn Estimator>, Component) = fitted.estimator_in(name)?;
    let n_features = estimator.n_features();
    // Trees read few of the columns that they claim to have.
    if n_features > FEATURES_MAX {
        return Err(fitted.unsupported(format!("more than {FEATURES_MAX} columns")));
    }
    let getter = match fitted.attr("importance_getter") {
        None => "auto".to_owned(),
        Some(_) => fitted.text_if("importance_getter").ok_or_else(|| {
            fitted.unsupported("an 'importance_getter' that is a function is not supported")
        })?,
    };
    let source = importance::Source::find(&model, &getter)?;
    let order = fitted.number_or("norm_order", 1.0)?;
    let importances = source.importances(n_features, order)?;
    let threshold = importance::threshold(fitted, &model, &source, &importances)?;
    let mut kept = vec![true; n_features];
    if !fitted.is_none("max_features") {
        let count = match fitted.attr("max_features_") {
            Some(_) => "max_features_",
            None => "max_features",
        };
        let negated: Vec<f64> = importances.iter().rev().copied().collect();
        // Of equal importances the first columns stay: the largest, seen from the end.
        kept = largest(&negated, fitted.count(count)?);
        kept.reverse();
    }
    for (kept, importance) in kept.iter_mut().zip(&importances) {
        *kept = *kept && *importance >= threshold;
    }
    let columns = columns_where(kept);
    if columns.is_empty() {
        return Err(fitted.unsupported("a selection of no columns is not supported"));
    }
    let facts = vec![("columns kept".to_owned(), columns.len().to_string())];
    // What holds others does not say that it takes missing values.
    let accepts =
        match ["Pipeline", "GridSearchCV", "RandomizedSearchCV"].contains(&model.short_class()) {
            true => Accepts::FINITE,
            false => accepts_of(&estimator),
        };
    let function = Selected::try_new(n_features, columns, accepts);
    let function = Arc::new(function.map_err(|error| fitted.spec(error))?);
    let mut part = fitted.faceted(vec![Facet::table(Method::Transform, function)])?;
    part.children.push(component);
    Ok(Part { facts, ..part })
}
