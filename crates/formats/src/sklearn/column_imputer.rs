//! Simple imputers of texts, and of objects among which `None` is a value.

use coracle_estimators::{ColumnImputer, Fill, ImputedColumn, Marker};
use coracle_model::{ColumnKind, LoadError};
use coracle_pickle::{Node, NodeId};

use super::categories;
use super::convert::Part;
use super::fitted::Fitted;
use super::nones::NoneIs;
use super::preprocessing::indicator_columns;

/// Tells whether an imputer fills objects: texts, or columns in which `None` stays.
pub(super) fn fills_objects(fitted: &Fitted<'_>) -> Result<bool, LoadError> {
    let Some(ids) = fitted.array("statistics_")?.objects() else {
        return Ok(false);
    };
    let graph = fitted.graph;
    let is_object = |&id: &NodeId| graph.string(id).is_some() || is_none(fitted, id);
    let tells_none = |none: &NoneIs| matches!(none, NoneIs::Known | NoneIs::Untold);
    Ok(fitted.none_after.iter().any(tells_none) || ids.iter().any(is_object))
}

fn is_none(fitted: &Fitted<'_>, id: NodeId) -> bool {
    matches!(fitted.graph.node(id), Node::None)
}

/// Converts a simple imputer that [`fills_objects`].
pub(super) fn convert(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let statistics = fitted.array("statistics_")?;
    let n_features = fitted.n_features()?;
    if statistics.shape() != [n_features] {
        return Err(fitted.malformed("'statistics_' is not a value per feature"));
    }
    let indicators = indicator_columns(fitted)?;
    let mut columns = Vec::with_capacity(n_features);
    let fills_nan = fitted.number("missing_values").is_ok_and(f64::is_nan);
    let marked = fitted.graph.node(fitted.require("missing_values")?);
    let mut nones = Vec::with_capacity(n_features);
    let mut n_left = 0_usize;
    for (column, &id) in statistics.objects().unwrap_or_default().iter().enumerate() {
        let mut imputed = imputed_column(fitted, id, n_left)?;
        let none = match &imputed.fill {
            Some(_) => fitted.none_after.get(n_left).copied().unwrap_or_default(),
            None => NoneIs::Missing,
        };
        let is_filled = !matches!(imputed.fill, None | Some(Fill::Missing));
        if fills_nan && is_filled && none == NoneIs::Untold {
            let message = format!(
                "what 'None' is after it in column {column} cannot be told: an encoder in what follows has it as a category, another \
                 value than the NaN that is filled here, and whether it reads this column is not known"
            );
            return Err(fitted.unsupported(message));
        }
        // `None` is not NaN: where what comes after knows it, it went through in training.
        imputed.keeps_missing =
            fills_nan && none == NoneIs::Known || imputed.fill == Some(Fill::Missing);
        nones.push(match marked {
            Node::None => NoneIs::Known,
            // It marks `None`, too; whether there is any among numbers is not known.
            node if categories::is_na(node) => match imputed.kind {
                ColumnKind::Text => NoneIs::Known,
                _ => none.max(NoneIs::Untold),
            },
            _ => none,
        });
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
    Ok(Part::new(imputer, facts).with_nones(nones))
}

/// Reads how a column is filled that is column `place` of what the imputer gives.
fn imputed_column(
    fitted: &Fitted<'_>,
    statistic: NodeId,
    place: usize,
) -> Result<ImputedColumn, LoadError> {
    let (kind, fill) = if let Some(text) = fitted.graph.string(statistic) {
        (ColumnKind::Text, Some(Fill::Text(text)))
    } else if is_none(fitted, statistic) {
        // The mode is `None`; what the column holds beside it, the next step tells.
        let none_after = fitted.none_after.get(place).copied();
        let is_encoded = none_after.is_some_and(|none| none != NoneIs::Missing);
        let is_of_numbers = is_encoded || fitted.feeds_numbers;
        let of_numbers = is_of_numbers.then_some(ColumnKind::Numbers);
        let taken = fitted.taken.get(place).map(|spec| spec.kind);
        // What takes nothing but numbers takes a plain table.
        match taken.or(of_numbers) {
            Some(kind @ (ColumnKind::Numbers | ColumnKind::Text)) => (kind, Some(Fill::Missing)),
            _ => {
                let message = "'statistics_' has None, which is supported before another step only";
                return Err(fitted.unsupported(message));
            }
        }
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
    if categories::is_missing(fitted.graph, id) {
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
