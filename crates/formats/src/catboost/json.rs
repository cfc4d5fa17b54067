//! The JSON export.

mod features;

use coracle_forest::{NodeSpec, TreeSpec};
use coracle_model::LoadError;

use super::ensemble::{Ensemble, Split, loss, symmetric, target};
use super::features::Features;
use super::malformed;
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
    /// Kind `Unsupported` for features of texts and embeddings, `Malformed` where something is missing.
    pub(crate) fn read_document(root: &Entry<'_>) -> Result<Self, LoadError> {
        let features = features::read(root)?;
        let splits = Splits {
            numbered: features.splits()?,
            features: &features,
        };
        let (scale, biases) = scale_and_biases(&root.field("scale_and_bias")?)?;
        let n_scores = biases.len();
        let trees: Result<Vec<TreeSpec>, LoadError> = match root.find("oblivious_trees") {
            Some(trees) => {
                let trees = trees.items()?;
                trees
                    .iter()
                    .map(|tree| read_symmetric(tree, &splits, n_scores))
                    .collect()
            }
            None => {
                let trees = root.field("trees")?.items()?;
                trees
                    .iter()
                    .map(|tree| read_any_shape(tree, &splits, n_scores))
                    .collect()
            }
        };
        let info = root.field("model_info")?;
        let parsed = |name: &str| match info.find(name).map(|entry| entry.document()) {
            Some(Document::Text(text)) => parse_json(text.as_bytes()).map(Some),
            other => Ok(other.cloned()),
        };
        Ok(Self {
            loss: loss(parsed)?,
            classes: info
                .find("class_params")
                .map(|entry| entry.document().clone()),
            probability_threshold: info
                .find("binclass_probability_threshold")
                .map(|threshold| threshold.text().map(str::to_owned))
                .transpose()?,
            n_scores,
            trees: trees?,
            scale,
            biases,
            features,
        })
    }
}

/// The splits that trees may ask.
struct Splits<'f> {
    features: &'f Features,
    /// In the order of `split_index`.
    numbered: Vec<Split>,
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

fn read_split(entry: &Entry<'_>, splits: &Splits<'_>) -> Result<Split, LoadError> {
    let split = match entry.field("split_type")?.text()? {
        "FloatFeature" => {
            let feature = entry.field("float_feature_index")?.count()?;
            let border = to_single(entry.field("border")?.number()?);
            splits.features.numeric_split(feature, border)
        }
        // What these are of is not spelled out.
        "OneHotFeature" | "OnlineCtr" => {
            let number = entry.field("split_index")?.count()?;
            splits.numbered.get(number).copied()
        }
        kind => {
            let kind = crate::document::quoted(kind);
            return Err(entry.unsupported(format_args!("splits of type {kind} are not supported")));
        }
    };
    split.ok_or_else(|| entry.malformed("asks for a feature that does not exist"))
}

fn read_symmetric(
    tree: &Entry<'_>,
    known: &Splits<'_>,
    n_scores: usize,
) -> Result<TreeSpec, LoadError> {
    let splits = match tree.field("splits")?.document() {
        // A tree of one leaf.
        Document::Null => Vec::new(),
        _ => tree.field("splits")?.items()?,
    };
    let splits: Result<Vec<Split>, LoadError> = splits
        .iter()
        .map(|split| read_split(split, known))
        .collect();
    symmetric(&splits?, tree.field("leaf_values")?.numbers()?, n_scores)
}

/// Reads nested nodes; the document's own bound on nesting bounds the walk.
fn read_any_shape(
    root: &Entry<'_>,
    splits: &Splits<'_>,
    n_scores: usize,
) -> Result<TreeSpec, LoadError> {
    let mut nodes = vec![NodeSpec::Leaf];
    let mut values = vec![0.0; n_scores];
    let mut open = vec![(0_usize, root.clone())];
    while let Some((place, entry)) = open.pop() {
        if let Some(split) = entry.find("split") {
            let split = read_split(&split, splits)?;
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
