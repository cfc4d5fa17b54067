//! Simple imputers of texts.

use coracle_estimators::{ColumnImputer, Fill, ImputedColumn, Marker};
use coracle_model::{ColumnKind, LoadError};
use coracle_pickle::NodeId;

use super::categories;
use super::convert::Part;
use super::fitted::Fitted;
use super::preprocessing::indicator_columns;

/// Tells whether an imputer fills texts.
pub(super) fn fills_texts(fitted: &Fitted<'_>) -> Result<bool, LoadError> {
    let ids = fitted.array("statistics_")?.objects().unwrap_or_default();
    Ok(ids.iter().any(|&id| fitted.graph.string(id).is_some()))
}

/// Converts a simple imputer of which at least one column holds texts.
pub(super) fn convert(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let statistics = fitted.array("statistics_")?;
    let n_features = fitted.n_features()?;
    if statistics.shape() != [n_features] {
        return Err(fitted.malformed("'statistics_' is not a value per feature"));
    }
    let indicators = indicator_columns(fitted)?;
    let mut columns = Vec::with_capacity(n_features);
    let fills_nan = fitted.number("missing_values").is_ok_and(f64::is_nan);
    let mut n_left = 0_usize;
    for (column, &id) in statistics.objects().unwrap_or_default().iter().enumerate() {
        let mut imputed = imputed_column(fitted, id)?;
        // `None` is not NaN: where the next step knows it, it went through in training.
        let is_known = fitted.none_after.get(n_left).copied().unwrap_or(false);
        imputed.keeps_missing = fills_nan && is_known;
        n_left = n_left.saturating_add(usize::from(imputed.fill.is_some()));
        if imputed.fill.is_none() && indicators.contains(&column) {
            return Err(fitted.unsupported(
                "an indicator of a column that was all missing in training is not supported",
            ));
        }
        columns.push(imputed);
    }
    let imputer = ColumnImputer::try_new(marker(fitted)?, columns, indicators)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    let facts = vec![("strategy".to_owned(), fitted.text("strategy")?)];
    Ok(Part::new(imputer, facts))
}

fn imputed_column(fitted: &Fitted<'_>, statistic: NodeId) -> Result<ImputedColumn, LoadError> {
    let (kind, fill) = if let Some(text) = fitted.graph.string(statistic) {
        (ColumnKind::Text, Some(Fill::Text(text)))
    } else {
        match fitted.graph.float(statistic) {
            // Columns that were all missing in training are dropped.
            Some(number) if number.is_nan() => (ColumnKind::Ignored, None),
            Some(number) => (ColumnKind::Numbers, Some(Fill::Number(number))),
            None => {
                let message = "statistics that are neither numbers nor texts are not supported";
                return Err(fitted.unsupported(message));
            }
        }
    };
    Ok(ImputedColumn {
        kind,
        fill,
        keeps_missing: false,
    })
}

fn marker(fitted: &Fitted<'_>) -> Result<Marker, LoadError> {
    let id = fitted.require("missing_values")?;
    if categories::is_missing(fitted, id) {
        return Ok(Marker::Missing);
    }
    if let Some(text) = fitted.graph.string(id) {
        return Ok(Marker::Text(text));
    }
    match fitted.graph.float(id) {
        Some(number) => Ok(Marker::Number(number)),
        None => Err(fitted.unsupported("missing_values of this kind are not supported")),
    }
}
