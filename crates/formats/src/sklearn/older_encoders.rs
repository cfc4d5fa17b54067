//! One-hot encoders of counts, as they were up to 0.19 and, unless told otherwise, up to 0.21.

use coracle_estimators::{
    Block, BlockAction, Categories, Category, ColumnTransformer, OneHotColumn, OneHotEncoder,
    Reading, Scaler, Unknown, shown_names,
};
use coracle_model::{Accepts, LoadError};

use super::arrays::columns_where;
use super::convert::Part;
use super::fitted::Fitted;
use super::numbers::exact;
use super::older;

/// The most numbers that one column may tell apart.
const VALUES_MAX: usize = 1 << 20;

/// Says whether an encoder is one of counts.
pub(super) fn is_of_counts(fitted: &Fitted<'_>) -> Result<bool, LoadError> {
    if !fitted.version.is_up_to_zero(21) {
        return Ok(false);
    }
    Ok(fitted.attr("n_values_").is_some() || fitted.flag_or("_legacy_mode", false)?)
}

/// How a column is encoded: the output of each count, which one that training did not see may lack.
pub(super) fn outputs(fitted: &Fitted<'_>) -> Result<Vec<Vec<Option<usize>>>, LoadError> {
    let named = |name: &'static str, older: &'static str| match fitted.attr(older) {
        Some(_) => older,
        None => name,
    };
    let sizes = fitted.counts(named("_n_values_", "n_values_"))?;
    let wrong = || fitted.malformed("the numbers of values of its columns do not fit");
    let total = sizes.iter().try_fold(0_usize, |sum, &n| sum.checked_add(n));
    if total.is_none_or(|total| total > VALUES_MAX) {
        return Err(wrong());
    }
    let way = named("n_values", "_n_values");
    let active = match fitted.text_if(way).as_deref() {
        Some("auto") => Some(fitted.counts(named("_active_features_", "active_features_"))?),
        Some(other) => return Err(fitted.unknown("n_values", other)),
        None => None,
    };
    let mut start = 0_usize;
    let mut columns = Vec::with_capacity(sizes.len());
    for size in sizes {
        let mut next = 0_usize;
        let of = (start..start.saturating_add(size)).map(|place| {
            let is_kept = match &active {
                Some(active) => active.binary_search(&place).is_ok(),
                None => true,
            };
            let output = is_kept.then_some(next);
            next = next.saturating_add(usize::from(is_kept));
            output
        });
        columns.push(of.collect());
        start = start.saturating_add(size);
    }
    Ok(columns)
}

/// Converts a one-hot encoder of counts.
pub(super) fn one_hot(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let unknown = match fitted.text("handle_unknown")?.as_str() {
        "error" => Unknown::Refuse,
        "ignore" => Unknown::Zeros,
        other => return Err(fitted.unknown("handle_unknown", other)),
    };
    let mut columns = Vec::new();
    for outputs in outputs(fitted)? {
        let counts: Vec<Category> = (0..outputs.len())
            .map(|count| Category::Number(exact(count)))
            .collect();
        columns.push(OneHotColumn {
            categories: Categories::try_new(&counts).map_err(|error| fitted.spec(error))?,
            width: outputs.iter().flatten().count(),
            outputs,
            unknown,
        });
    }
    let n_selected = columns.len();
    let n_encoded: usize = columns.iter().map(|column| column.width).sum();
    let encoder = OneHotEncoder::try_new(columns, shown_names(None, n_selected));
    let encoder = encoder.map_err(|error| fitted.spec(error))?;
    let encoder = encoder.reading(Reading::Counts);
    let facts = vec![("categories".to_owned(), n_encoded.to_string())];
    let Some((selected, n_features)) = selected(fitted, n_selected, n_encoded)? else {
        return Ok(Part::new(encoder, facts));
    };
    // The others come after those that are encoded.
    let others = (0..n_features).filter(|column| !selected.contains(column));
    let others: Vec<usize> = others.collect();
    let mut blocks = vec![Block {
        name: "counts".to_owned(),
        columns: selected,
        weight: None,
        action: BlockAction::Transform(Box::new(encoder)),
    }];
    if !others.is_empty() {
        let unchanged = Scaler::try_new(others.len(), Vec::new());
        blocks.push(Block {
            name: "others".to_owned(),
            columns: others,
            weight: None,
            action: BlockAction::Transform(Box::new(
                unchanged
                    .map_err(|error| fitted.spec(error))?
                    .narrowed(Accepts::FINITE),
            )),
        });
    }
    let whole = ColumnTransformer::try_new(n_features, blocks, None, &fitted.taken);
    let whole = whole.map_err(|error| fitted.spec(error))?;
    Ok(Part::new(whole, facts))
}

/// Returns the columns that are encoded, rising, and the number of all; `None` where those are the same.
fn selected(
    fitted: &Fitted<'_>,
    n_selected: usize,
    n_encoded: usize,
) -> Result<Option<(Vec<usize>, usize)>, LoadError> {
    const NAME: &str = "categorical_features";
    if fitted.is_none(NAME) || fitted.text_if(NAME).is_some() {
        return Ok(None);
    }
    let wrong = || fitted.malformed(format!("'{NAME}' is neither columns nor a mask"));
    let id = fitted.require(NAME)?;
    let graph = fitted.graph;
    let flags = match (graph.array(id), graph.list(id)) {
        (Some(array), _) => array.to_bools(),
        (None, Some(items)) if items.iter().all(|&item| graph.int(item).is_none()) => {
            items.iter().map(|&item| graph.bool(item)).collect()
        }
        _ => None,
    };
    let (mut columns, n_features) = match flags {
        Some(flags) => {
            let n_features = flags.len();
            (columns_where(flags), n_features)
        }
        None => {
            let numbers = match (graph.array(id), graph.list(id)) {
                (Some(array), _) => array.to_i64s(),
                (None, Some(items)) => items.iter().map(|&item| graph.int(item)).collect(),
                (None, None) => None,
            };
            let columns = numbers.ok_or_else(wrong)?.into_iter();
            let columns = columns.map(|column| usize::try_from(column).ok());
            let after = fitted
                .width_after
                .and_then(|after| after.checked_sub(n_encoded)?.checked_add(n_selected));
            let n_features = fitted.width.or(after);
            (
                columns.collect::<Option<Vec<usize>>>().ok_or_else(wrong)?,
                n_features.ok_or_else(|| older::unknown_width(fitted))?,
            )
        }
    };
    columns.sort_unstable();
    columns.dedup();
    if columns.len() != n_selected || columns.last().is_some_and(|&last| last >= n_features) {
        return Err(wrong());
    }
    Ok(Some((columns, n_features)))
}
