//! The JSON export.

use coracle_forest::{NodeSpec, TreeSpec};
use coracle_model::LoadError;

use super::ensemble::{Ensemble, Split, loss_in, symmetric, target};
use super::{malformed, unsupported};
use crate::document::{Document, Entry, parse_json};
use crate::numbers::to_single;

/// Tells whether a document is a CatBoost model.
pub(crate) fn is_document(root: &Entry<'_>) -> bool {
    root.find("features_info").is_some() && root.find("scale_and_bias").is_some()
}

impl Ensemble {
    /// Reads an exported document.
    ///
    /// # Errors
    /// Kind `Unsupported` for features other than numeric ones, `Malformed` where something is missing.
    pub(crate) fn read_document(root: &Entry<'_>) -> Result<Self, LoadError> {
        let features = root.field("features_info")?;
        for kind in [
            "categorical_features",
            "text_features",
            "embedding_features",
            "ctrs",
        ] {
            if features.find(kind).is_some() {
                let kind = kind.replace('_', " ");
                return Err(unsupported(format!("CatBoost's {kind} are not supported")));
            }
        }
        let columns = columns(&features)?;
        let (scale, biases) = scale_and_biases(&root.field("scale_and_bias")?)?;
        let n_scores = biases.len();
        let trees: Result<Vec<TreeSpec>, LoadError> = match root.find("oblivious_trees") {
            Some(trees) => {
                let trees = trees.items()?;
                trees
                    .iter()
                    .map(|tree| read_symmetric(tree, &columns, n_scores))
                    .collect()
            }
            None => {
                let trees = root.field("trees")?.items()?;
                trees
                    .iter()
                    .map(|tree| read_any_shape(tree, &columns, n_scores))
                    .collect()
            }
        };
        let info = root.field("model_info")?;
        let params = info.field("params")?;
        let n_features = columns
            .iter()
            .map(|column| column.place.saturating_add(1))
            .max();
        Ok(Self {
            loss: match params.document() {
                Document::Text(text) => {
                    let document = parse_json(text.as_bytes())?;
                    loss_in(&Entry::root(&document))?
                }
                _ => loss_in(&params)?,
            },
            classes: info
                .find("class_params")
                .map(|entry| entry.document().clone()),
            probability_threshold: info
                .find("binclass_probability_threshold")
                .map(|_| String::new()),
            n_features: n_features.unwrap_or(0),
            n_scores,
            trees: trees?,
            scale,
            biases,
            names: columns
                .into_iter()
                .map(|column| (column.place, column.name))
                .collect(),
        })
    }
}

/// A numeric feature.
struct Column {
    place: usize,
    name: String,
    missing_above: bool,
}

fn columns(features: &Entry<'_>) -> Result<Vec<Column>, LoadError> {
    let entries = features.field("float_features")?.items()?;
    let columns = entries.iter().map(|entry| {
        let treatment = entry.find("nan_value_treatment");
        Ok(Column {
            place: entry.field("flat_feature_index")?.count()?,
            name: entry.field("feature_id")?.text()?.to_owned(),
            missing_above: treatment.is_some_and(|entry| entry.text().ok() == Some("AsTrue")),
        })
    });
    columns.collect()
}

fn scale_and_biases(entry: &Entry<'_>) -> Result<(f64, Vec<f64>), LoadError> {
    let wrong = || entry.malformed("is not a scale with its biases");
    let items = match entry.document() {
        // Old files hold one bias beside the scale.
        Document::Numbers(numbers) => {
            return match numbers.as_slice() {
                [scale, bias] => Ok((*scale, vec![*bias])),
                _ => Err(wrong()),
            };
        }
        _ => entry.items()?,
    };
    match items.as_slice() {
        [scale, biases] => Ok((scale.number()?, biases.numbers()?.to_vec())),
        _ => Err(wrong()),
    }
}

fn read_split(entry: &Entry<'_>, columns: &[Column]) -> Result<Split, LoadError> {
    let kind = entry.field("split_type")?.text()?;
    if kind != "FloatFeature" {
        let kind = crate::document::quoted(kind);
        return Err(entry.unsupported(format_args!("splits of type {kind} are not supported")));
    }
    let index = entry.field("float_feature_index")?.count()?;
    let column = columns.get(index);
    let column = column.ok_or_else(|| entry.malformed("asks for a feature that does not exist"))?;
    let place = u32::try_from(column.place);
    Ok(Split {
        column: place.map_err(|_large| entry.malformed("asks for a column out of range"))?,
        border: to_single(entry.field("border")?.number()?),
        missing_above: column.missing_above,
    })
}

fn read_symmetric(
    tree: &Entry<'_>,
    columns: &[Column],
    n_scores: usize,
) -> Result<TreeSpec, LoadError> {
    let splits = match tree.field("splits")?.document() {
        // A tree of one leaf.
        Document::Null => Vec::new(),
        _ => tree.field("splits")?.items()?,
    };
    let splits: Result<Vec<Split>, LoadError> = splits
        .iter()
        .map(|split| read_split(split, columns))
        .collect();
    symmetric(&splits?, tree.field("leaf_values")?.numbers()?, n_scores)
}

/// Reads nested nodes; the document's own bound on nesting bounds the walk.
fn read_any_shape(
    root: &Entry<'_>,
    columns: &[Column],
    n_scores: usize,
) -> Result<TreeSpec, LoadError> {
    let mut nodes = vec![NodeSpec::Leaf];
    let mut values = vec![0.0; n_scores];
    let mut open = vec![(0_usize, root.clone())];
    while let Some((place, entry)) = open.pop() {
        if let Some(split) = entry.find("split") {
            let split = read_split(&split, columns)?;
            let left = nodes.len();
            let number = u32::try_from(left).map_err(|_large| malformed("a tree is too large"))?;
            if let Some(node) = nodes.get_mut(place) {
                *node = split.node(number, number.saturating_add(1));
            }
            nodes.extend([NodeSpec::Leaf, NodeSpec::Leaf]);
            values.extend(std::iter::repeat_n(0.0, n_scores.saturating_mul(2)));
            open.push((left, entry.field("left")?));
            open.push((left.saturating_add(1), entry.field("right")?));
            continue;
        }
        let value = entry.field("value")?;
        let leaf = match value.document() {
            Document::Number(number) => vec![*number],
            _ => value.numbers()?.to_vec(),
        };
        if leaf.len() != n_scores {
            return Err(
                entry.malformed(format_args!("{} values for {n_scores} scores", leaf.len()))
            );
        }
        let own = values.iter_mut().skip(place.saturating_mul(n_scores));
        for (value, leaf_value) in own.zip(leaf) {
            *value = leaf_value;
        }
    }
    Ok(TreeSpec {
        nodes,
        values,
        target: target(n_scores),
    })
}
