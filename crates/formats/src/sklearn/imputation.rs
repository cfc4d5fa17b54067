//! Imputers by neighbours and by rounds of regressions; the missing indicator.

use std::sync::Arc;

use coracle_estimators::{
    Facet, ImputationStep, IterativeImputer, IterativeImputerSpec, KnnImputer, KnnImputerSpec,
    MissingIndicator, MissingMarker, NeighborWeights,
};
use coracle_model::{LoadError, Method};

use super::convert::Part;
use super::ensembles::method_of;
use super::fitted::Fitted;
use super::preprocessing::{indicator_columns, missing_marker};

/// Converts KNNImputer.
pub(super) fn nearest(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let missing = missing_marker(fitted)?;
    let n_features = fitted.n_features()?;
    match fitted.text_if("metric").as_deref() {
        Some("nan_euclidean") => {}
        Some(other) => return Err(fitted.unknown("metric", other)),
        None => return Err(fitted.unsupported("a metric that is a function is not supported")),
    }
    let weights = match fitted.text_if("weights").as_deref() {
        Some("uniform") => NeighborWeights::Uniform,
        Some("distance") => NeighborWeights::Distance,
        Some(other) => return Err(fitted.unknown("weights", other)),
        None => return Err(fitted.unsupported("weights that are a function are not supported")),
    };
    let mut data = fitted.matrix("_fit_X")?;
    if data.n_columns != n_features {
        return Err(fitted.malformed("'_fit_X' has another width"));
    }
    if let MissingMarker::Number(marker) = missing {
        for value in data.values.iter_mut().filter(|value| **value == marker) {
            *value = f64::NAN;
        }
    }
    let indicator_columns = indicator_columns(fitted)?;
    if !indicator_columns.is_empty() && !fitted.version.is_from(2) {
        return Err(fitted.unsupported(
            "add_indicator up to 1.1 gives a table whose width depends on its values",
        ));
    }
    let imputer = KnnImputer::try_new(KnnImputerSpec {
        missing,
        data: data.values,
        n_features,
        n_neighbors: fitted.count("n_neighbors")?,
        weights,
        keeps_empty: fitted.flag_or("keep_empty_features", false)?,
        indicator_columns,
    });
    let imputer = Arc::new(imputer.map_err(|error| fitted.spec(error))?);
    fitted.faceted(vec![Facet::table(Method::Transform, imputer)])
}

/// Converts IterativeImputer.
pub(super) fn iterative(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if fitted.flag("sample_posterior")? {
        return Err(fitted.unsupported("sample_posterior=True draws at random"));
    }
    let initial = fitted.part_in("initial_imputer_")?;
    let statistics = initial.flat("statistics_")?;
    let keeps_empty = fitted.flag_or("keep_empty_features", false)?;
    let kept: Vec<usize> = statistics
        .iter()
        .enumerate()
        .filter_map(|(column, value)| (keeps_empty || !value.is_nan()).then_some(column))
        .collect();
    let (imputer, _) = fitted.estimator_in("initial_imputer_")?;
    let mut steps = Vec::new();
    let mut children = Vec::new();
    for (index, &id) in fitted.list("imputation_sequence_")?.iter().enumerate() {
        let (step, component) = step(fitted, id, index)?;
        steps.push(step);
        if children.is_empty() {
            children.push(component);
        }
    }
    let lows = bound(fitted, "_min_value", kept.len())?;
    let highs = bound(fitted, "_max_value", kept.len())?;
    let imputer = IterativeImputer::try_new(IterativeImputerSpec {
        missing: missing_marker(fitted)?,
        initial: method_of(fitted, &imputer, Method::Transform)?,
        kept,
        steps,
        bounds: lows.into_iter().zip(highs).collect(),
        indicator_columns: indicator_columns(fitted)?,
    });
    let imputer = Arc::new(imputer.map_err(|error| fitted.spec(error))?);
    let part = fitted.faceted(vec![Facet::table(Method::Transform, imputer)])?;
    Ok(Part { children, ..part })
}

/// Reads a bound for each column; up to 0.22 it is one number.
fn bound(fitted: &Fitted<'_>, name: &str, length: usize) -> Result<Vec<f64>, LoadError> {
    match fitted.version.is_up_to_zero(22) {
        true => Ok(vec![fitted.number(name)?; length]),
        false => fitted.vector(name, length),
    }
}

/// Reads one step: a named tuple of a column, the columns it is predicted from, and an estimator.
fn step(
    fitted: &Fitted<'_>,
    id: coracle_pickle::NodeId,
    index: usize,
) -> Result<(ImputationStep, coracle_model::Component), LoadError> {
    let place = format!("imputation_sequence_[{index}]");
    let wrong = || fitted.malformed(format!("{place} is no step"));
    let fields = match fitted.graph.object(id) {
        Some(object) => object.args.as_slice(),
        None => fitted.graph.list(id).unwrap_or_default(),
    };
    let &[column, from, estimator] = fields else {
        return Err(wrong());
    };
    let column = fitted
        .graph
        .int(column)
        .and_then(|column| usize::try_from(column).ok());
    let from = fitted.graph.array(from).and_then(|array| array.to_i64s());
    let from = from.and_then(|from| {
        let from = from.into_iter().map(|column| usize::try_from(column).ok());
        from.collect::<Option<Vec<usize>>>()
    });
    let (estimator, component) = fitted.estimator(estimator, &place)?;
    let step = ImputationStep {
        column: column.ok_or_else(wrong)?,
        from: from.ok_or_else(wrong)?,
        estimator,
    };
    Ok((step, component))
}

/// Converts MissingIndicator.
pub(super) fn indicator(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let columns = fitted.counts("features_")?;
    let refuses_new = match fitted.text("features")?.as_str() {
        "missing-only" => fitted.flag("error_on_new")?,
        "all" => false,
        other => return Err(fitted.unknown("features", other)),
    };
    let n_features = fitted.n_features()?;
    let indicator =
        MissingIndicator::try_new(missing_marker(fitted)?, n_features, columns, refuses_new);
    let indicator = Arc::new(indicator.map_err(|error| fitted.spec(error))?);
    fitted.faceted(vec![Facet::truths(Method::Transform, indicator)])
}
