//! Transformers of parts of a table: ColumnTransformer and FeatureUnion.

use coracle_estimators::{Block, BlockAction, ColumnTransformer};
use coracle_model::{ColumnSpec, Component, Estimator, LoadError, Method, Width};
use coracle_pickle::{Array, Node, NodeId};

use super::convert::{self, Part};
use super::fitted::Fitted;
use super::nones::{self, NoneIs};
use super::{names, older_columns};

/// Converts a column transformer.
pub(super) fn column_transformer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let mut blocks = Vec::new();
    let mut children = Vec::new();
    let mut known = vec![NoneIs::Missing; n_features];
    let mut start = Some(0);
    for &entry in fitted.list("transformers_")? {
        let Some(&[name, transformer, given]) = fitted.graph.list(entry) else {
            return Err(fitted.malformed("'transformers_' holds something else than triples"));
        };
        let name = text(fitted, name)?;
        let columns = input_columns(fitted, &name, given)?;
        if columns.is_empty() {
            continue;
        }
        let after = After::of(fitted, start);
        let Some(part) = part(fitted, transformer, &name, Some(columns.len()), after)? else {
            continue;
        };
        start = start
            .zip(part.width)
            .map(|(start, width)| start.saturating_add(width));
        nones::merge(&mut known, &columns, &part.nones);
        children.extend(part.component);
        blocks.push(Block {
            weight: weight(fitted, &name)?,
            name,
            columns,
            action: part.action,
        });
    }
    finish(fitted, n_features, blocks, children, known)
}

/// Converts a feature union: every part reads the whole table.
pub(super) fn feature_union(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let mut parts = Vec::new();
    let mut children = Vec::new();
    let mut n_features = None;
    let width = union_width(fitted)?;
    let mut start = Some(0);
    for (name, transformer) in union_parts(fitted)? {
        let after = After::of(fitted, start);
        let Some(part) = part(fitted, transformer, &name, width, after)? else {
            continue;
        };
        if let BlockAction::Transform(estimator) = &part.action {
            n_features = n_features.or(Some(estimator.n_features()));
        }
        start = start
            .zip(part.width)
            .map(|(start, width)| start.saturating_add(width));
        children.extend(part.component);
        parts.push((name, part.action, part.nones));
    }
    let n_features = n_features.ok_or_else(|| {
        fitted.unsupported("a union that only passes its input through is not supported")
    })?;
    let mut known = vec![NoneIs::Missing; n_features];
    let mut blocks = Vec::new();
    for (name, action, nones) in parts {
        let columns: Vec<usize> = (0..n_features).collect();
        nones::merge(&mut known, &columns, &nones);
        blocks.push(Block {
            weight: weight(fitted, &name)?,
            name,
            columns,
            action,
        });
    }
    finish(fitted, n_features, blocks, children, known)
}

/// Returns how many columns a union takes, where it or a part of it says so.
fn union_width(fitted: &Fitted<'_>) -> Result<Option<usize>, LoadError> {
    if fitted.width.is_some() {
        return Ok(fitted.width);
    }
    let graph = fitted.graph;
    let width = |&(_, id): &(String, NodeId)| graph.int(graph.attr(id, "n_features_in_")?);
    let width = union_parts(fitted)?.iter().find_map(width);
    Ok(width.and_then(|width| usize::try_from(width).ok()))
}

/// Returns the parts of a feature union with their names, those that drop or pass on what they get among them.
pub(super) fn union_parts(fitted: &Fitted<'_>) -> Result<Vec<(String, NodeId)>, LoadError> {
    let parts = fitted.list("transformer_list")?.iter();
    let named = parts.map(|&part| match fitted.graph.list(part) {
        Some(&[name, transformer]) => Ok((text(fitted, name)?, transformer)),
        _ => Err(fitted.malformed("'transformer_list' holds something else than pairs")),
    });
    named.collect()
}

fn finish(
    fitted: &Fitted<'_>,
    n_features: usize,
    blocks: Vec<Block>,
    children: Vec<Component>,
    known: Vec<NoneIs>,
) -> Result<Part, LoadError> {
    let names = names::of_columns(fitted)?;
    let transformer =
        ColumnTransformer::try_new(n_features, blocks, names.as_deref(), &fitted.taken)
            .map_err(|error| fitted.unsupported(error.to_string()))?;
    Ok(Part {
        children,
        ..Part::new(transformer, Vec::new()).with_nones(known)
    })
}

fn text(fitted: &Fitted<'_>, id: NodeId) -> Result<String, LoadError> {
    let text = fitted.graph.string(id);
    text.ok_or_else(|| fitted.malformed("a transformer's name is not text"))
}

/// What reads the columns that a part gives: the rest of what reads those of the whole, from its first one on.
struct After {
    taken: Vec<ColumnSpec>,
    nones: Vec<NoneIs>,
}

impl After {
    /// Returns what reads the columns of a part that begins at column `start`, where that is known.
    fn of(fitted: &Fitted<'_>, start: Option<usize>) -> Self {
        let Some(start) = start else {
            let untold = fitted.none_after.iter().map(|&none| match none {
                NoneIs::Known => NoneIs::Untold,
                other => other,
            });
            let untold = untold.max().into_iter().cycle();
            return Self {
                taken: Vec::new(),
                nones: untold.take(fitted.none_after.len()).collect(),
            };
        };
        Self {
            taken: fitted.taken.get(start..).unwrap_or_default().to_vec(),
            nones: fitted.none_after.get(start..).unwrap_or_default().to_vec(),
        }
    }
}

/// What a transformer of some columns does.
struct Transformation {
    action: BlockAction,
    /// Its description, where it does anything.
    component: Option<Component>,
    /// What `None` is to what reads its columns.
    nones: Vec<NoneIs>,
    /// The number of columns that it gives, where that is known.
    width: Option<usize>,
}

/// Returns what a transformer of `width` columns does; `None` where it drops them.
fn part(
    fitted: &Fitted<'_>,
    id: NodeId,
    name: &str,
    width: Option<usize>,
    after: After,
) -> Result<Option<Transformation>, LoadError> {
    let passed = |nones| Transformation {
        action: BlockAction::Passthrough,
        component: None,
        nones,
        width,
    };
    match fitted.graph.node(id) {
        Node::None => return Ok(None),
        Node::Str(text) if text.as_ref() == "drop" => return Ok(None),
        Node::Str(text) if text.as_ref() == "passthrough" => {
            return Ok(Some(passed(after.nones)));
        }
        _ => {}
    }
    let mut part = fitted.part(id, &format!("transformer '{name}'"))?;
    part.width = width;
    part.feeds_numbers = fitted.feeds_numbers;
    // Newer releases write what passes through as a function transformer without a function.
    if part.class() == "sklearn.preprocessing._function_transformer.FunctionTransformer"
        && part.is_none("func")
    {
        return Ok(Some(passed(after.nones)));
    }
    part.taken = after.taken;
    part.none_after = after.nones;
    let (estimator, component, nones) = convert::read_after_others(&part, name.to_owned())?;
    Ok(Some(Transformation {
        width: transformed_width(estimator.as_ref()),
        action: BlockAction::Transform(estimator),
        component: Some(component),
        nones,
    }))
}

/// Returns how many columns a transformer gives.
pub(super) fn transformed_width(estimator: &dyn Estimator) -> Option<usize> {
    let mut methods = estimator.methods().iter();
    let transform = methods.find(|spec| spec.method == Method::Transform)?;
    match transform.width {
        Width::Columns(width) => Some(width),
        Width::Scalar | Width::Outputs(..) => None,
    }
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
