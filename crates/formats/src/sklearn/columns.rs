//! Transformers of parts of a table: ColumnTransformer and FeatureUnion.

use coracle_estimators::{Block, BlockAction, ColumnTransformer};
use coracle_model::{Component, LoadError};
use coracle_pickle::{Array, Node, NodeId};

use super::convert::{self, Part};
use super::fitted::Fitted;
use super::older_columns;

/// Converts a column transformer.
pub(super) fn column_transformer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let mut blocks = Vec::new();
    let mut children = Vec::new();
    for &entry in fitted.list("transformers_")? {
        let Some(&[name, transformer, given]) = fitted.graph.list(entry) else {
            return Err(fitted.malformed("'transformers_' holds something else than triples"));
        };
        let name = text(fitted, name)?;
        let columns = input_columns(fitted, &name, given)?;
        if columns.is_empty() {
            continue;
        }
        let place = format!("transformer '{name}'");
        let width = Some(columns.len());
        let Some((action, child)) = action(fitted, transformer, &name, &place, width)? else {
            continue;
        };
        children.extend(child);
        blocks.push(Block {
            weight: weight(fitted, &name)?,
            name,
            columns,
            action,
        });
    }
    finish(fitted, n_features, blocks, children)
}

/// Converts a feature union: every part reads the whole table.
pub(super) fn feature_union(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let mut parts = Vec::new();
    let mut children = Vec::new();
    let mut n_features = None;
    for &entry in fitted.list("transformer_list")? {
        let Some(&[name, transformer]) = fitted.graph.list(entry) else {
            return Err(fitted.malformed("'transformer_list' holds something else than pairs"));
        };
        let name = text(fitted, name)?;
        let place = format!("transformer '{name}'");
        let width = fitted.width;
        let Some((action, child)) = action(fitted, transformer, &name, &place, width)? else {
            continue;
        };
        if let BlockAction::Transform(estimator) = &action {
            n_features = n_features.or(Some(estimator.n_features()));
        }
        children.extend(child);
        parts.push((name, action));
    }
    let n_features = n_features.ok_or_else(|| {
        fitted.unsupported("a union that only passes its input through is not supported")
    })?;
    let mut blocks = Vec::new();
    for (name, action) in parts {
        blocks.push(Block {
            weight: weight(fitted, &name)?,
            name,
            columns: (0..n_features).collect(),
            action,
        });
    }
    finish(fitted, n_features, blocks, children)
}

fn finish(
    fitted: &Fitted<'_>,
    n_features: usize,
    blocks: Vec<Block>,
    children: Vec<Component>,
) -> Result<Part, LoadError> {
    let names = fitted.feature_names()?;
    let transformer =
        ColumnTransformer::try_new(n_features, blocks, names.as_deref(), &fitted.taken)
            .map_err(|error| fitted.unsupported(error.to_string()))?;
    Ok(Part {
        children,
        ..Part::new(transformer, Vec::new())
    })
}

fn text(fitted: &Fitted<'_>, id: NodeId) -> Result<String, LoadError> {
    let text = fitted.graph.string(id);
    text.ok_or_else(|| fitted.malformed("a transformer's name is not text"))
}

/// Returns what a transformer does, and its description; `None` where it drops its columns.
fn action(
    fitted: &Fitted<'_>,
    id: NodeId,
    name: &str,
    place: &str,
    width: Option<usize>,
) -> Result<Option<(BlockAction, Option<Component>)>, LoadError> {
    match fitted.graph.node(id) {
        Node::None => return Ok(None),
        Node::Str(text) if text.as_ref() == "drop" => return Ok(None),
        Node::Str(text) if text.as_ref() == "passthrough" => {
            return Ok(Some((BlockAction::Passthrough, None)));
        }
        _ => {}
    }
    let mut part = fitted.part(id, place)?;
    part.width = width;
    part.feeds_numbers = fitted.feeds_numbers;
    // Newer releases write what passes through as a function transformer without a function.
    if part.class() == "sklearn.preprocessing._function_transformer.FunctionTransformer"
        && part.is_none("func")
    {
        return Ok(Some((BlockAction::Passthrough, None)));
    }
    let (estimator, component) = convert::estimator(&part, name.to_owned())?;
    Ok(Some((BlockAction::Transform(estimator), Some(component))))
}

/// Returns the columns of a transformer, which scikit-learn has resolved from names, slices, masks and selectors;
/// before 1.0 they are there as they were `given`.
pub(super) fn input_columns(
    fitted: &Fitted<'_>,
    name: &str,
    given: NodeId,
) -> Result<Vec<usize>, LoadError> {
    const NAME: &str = "_transformer_to_input_indices";
    if !fitted.version.is_from(0) {
        return older_columns::places(fitted, given, fitted.n_features()?);
    }
    let graph = fitted.graph;
    let wrong = || fitted.malformed(format!("'{NAME}' has no columns of '{name}'"));
    let id = graph
        .dict_get(fitted.require(NAME)?, name)
        .ok_or_else(wrong)?;
    let columns: Option<Vec<i64>> = match graph.list(id) {
        Some(items) => items.iter().map(|&item| graph.int(item)).collect(),
        None => graph.array(id).and_then(Array::to_i64s),
    };
    let columns = columns.and_then(|columns| {
        columns
            .into_iter()
            .map(|column| usize::try_from(column).ok())
            .collect()
    });
    columns.ok_or_else(wrong)
}

/// Returns what a transformer's results are multiplied by.
pub(super) fn weight(fitted: &Fitted<'_>, name: &str) -> Result<Option<f64>, LoadError> {
    const NAME: &str = "transformer_weights";
    if fitted.is_none(NAME) {
        return Ok(None);
    }
    let Some(id) = fitted.graph.dict_get(fitted.require(NAME)?, name) else {
        return Ok(None);
    };
    let weight = fitted.graph.float(id);
    match weight {
        Some(weight) => Ok(Some(weight)),
        None => Err(fitted.malformed(format!("'{NAME}' is not a number per transformer"))),
    }
}
