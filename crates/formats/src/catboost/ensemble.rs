//! What a CatBoost file holds, whatever its form.

use coracle_forest::{NodeSpec, SplitRule, Target, TreeSpec};
use coracle_model::LoadError;

use super::features::Features;
use super::{malformed, unsupported};
use crate::document::{Document, Entry};

/// The deepest symmetric tree: CatBoost's own bound.
const DEPTH_MAX: usize = 16;

/// A model as CatBoost stores it.
#[derive(Debug)]
pub(crate) struct Ensemble {
    pub(super) loss: Loss,
    /// The metadata of classes, if there are any.
    pub(super) classes: Option<Document>,
    pub(super) probability_threshold: Option<String>,
    pub(super) features: Features,
    pub(super) n_scores: usize,
    pub(super) trees: Vec<TreeSpec>,
    pub(super) scale: f64,
    /// One for each score.
    pub(super) biases: Vec<f64>,
}

/// What a model was trained for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The loss of this name.
    One(String),
    /// A sum of models that all had the loss of this name; no more of their training is kept.
    OfSum(String),
    /// A sum of models that had several.
    Several,
}

impl Loss {
    /// Returns its name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::One(name) | Self::OfSum(name) => name,
            Self::Several => "several (a sum of models)",
        }
    }
}

impl Ensemble {
    /// Returns the names of the features, if it was trained with any.
    pub(crate) fn feature_names(&self) -> Option<Vec<String>> {
        self.features.names()
    }
}

/// A question about a feature: is its value above a border?
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Split {
    pub(super) column: u32,
    pub(super) border: f32,
    /// Whether a missing value counts as above.
    pub(super) missing_above: bool,
}

impl Split {
    /// Returns the split as a node: up to the border left, above right.
    pub(super) fn node(self, left: u32, right: u32) -> NodeSpec {
        NodeSpec::Split {
            feature: self.column,
            rule: SplitRule::LessOrEqual(self.border.into()),
            missing_left: !self.missing_above,
            left,
            right,
        }
    }
}

/// Returns the tree of symmetric `splits`, each asked on a whole level: bit `d` of a leaf's index is the answer to
/// split `d`.
///
/// # Errors
/// Kind `Malformed` if the tree is too deep or there is another number of values than of leaves times scores.
pub(super) fn symmetric(
    splits: &[Split],
    values: &[f64],
    n_scores: usize,
) -> Result<TreeSpec, LoadError> {
    if splits.len() > DEPTH_MAX {
        return Err(malformed(format!("a tree has {} levels", splits.len())));
    }
    let n_leaves = 1_usize << splits.len();
    if n_leaves.checked_mul(n_scores) != Some(values.len()) {
        let message = format!(
            "{} values for {n_leaves} leaves of {n_scores}",
            values.len()
        );
        return Err(malformed(message));
    }
    // Level by level from the root; the last split, the highest bit, is asked first, so that leaves end up in order.
    let mut nodes = Vec::with_capacity(n_leaves.saturating_mul(2));
    for split in splits.iter().rev() {
        let width = nodes.len().saturating_add(1);
        for _ in 0..width {
            let left = nodes.len().saturating_mul(2).saturating_add(1);
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            nodes.push(split.node(left, left.saturating_add(1)));
        }
    }
    let n_splits = nodes.len();
    nodes.extend(std::iter::repeat_n(NodeSpec::Leaf, n_leaves));
    let mut all_values = vec![0.0; n_splits.saturating_mul(n_scores)];
    all_values.extend_from_slice(values);
    Ok(TreeSpec {
        nodes,
        values: all_values,
        target: target(n_scores),
    })
}

/// Returns what trees of this model add to.
pub(super) fn target(n_scores: usize) -> Target {
    match n_scores {
        1 => Target::OneScore(0),
        _ => Target::AllScores,
    }
}

/// Returns the loss of a model, whose entry of a name in its metadata is what `info` returns.
///
/// # Errors
/// Those of `info`; kind `Unsupported` where there is none.
pub(super) fn loss(
    info: impl Fn(&str) -> Result<Option<Document>, LoadError>,
) -> Result<Loss, LoadError> {
    if let Some(params) = info("params")? {
        let loss = Entry::root(&params).find("loss_function");
        if let Some(name) = loss.and_then(|loss| loss.find("type")) {
            return Ok(Loss::One(name.text()?.to_owned()));
        }
    } else if let Some(loss) = info("loss_function")? {
        let name = Entry::root(&loss).field("type")?.text()?.to_owned();
        return Ok(Loss::OfSum(name));
    } else if info("model0:params")?.is_some() {
        return Ok(Loss::Several);
    }
    let message = "the model does not say which loss it was trained with";
    Err(unsupported(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_of_symmetric_trees_are_numbered_by_answers() {
        let split = |column| Split {
            column,
            border: 0.0,
            missing_above: false,
        };
        let tree = symmetric(&[split(0), split(1)], &[0.0, 1.0, 2.0, 3.0], 1).unwrap();
        let feature = |node: &NodeSpec| match node {
            NodeSpec::Split { feature, .. } => Some(*feature),
            NodeSpec::Leaf => None,
        };
        let features: Vec<_> = tree.nodes.iter().map(feature).collect();
        assert_eq!(
            features,
            [Some(1), Some(0), Some(0), None, None, None, None]
        );
        assert_eq!(tree.values[3..], [0.0, 1.0, 2.0, 3.0]);
        assert!(symmetric(&[split(0)], &[0.0], 1).is_err());
        assert!(symmetric(&[split(0); 17], &[], 1).is_err());
    }
}
