//! What a LightGBM text holds.

use coracle_estimators::Category;
use coracle_forest::{LinearLeaf, NodeSpec, TreeSpec};
use coracle_model::LoadError;

use super::text::Section;
use super::tree::{Tree, ZeroColumns};
use super::{categories, malformed, unsupported};
use crate::document::quoted;

/// The most scores per row, and the most features; more than any real model has.
const SCORES_MAX: usize = 1 << 16;
const FEATURES_MAX: usize = 1 << 20;

/// A model as LightGBM stores it.
#[derive(Debug)]
pub(crate) struct Ensemble {
    pub(super) objective: String,
    pub(super) n_features: usize,
    pub(super) n_scores: usize,
    /// Whether the trees are averaged (random forests), not added.
    pub(super) is_averaged: bool,
    pub(super) trees: Vec<TreeSpec>,
    /// The gain of each split, for each tree.
    gains: Vec<Vec<f64>>,
    linear_leaves: Vec<Option<Vec<LinearLeaf>>>,
    /// For each feature whether its zeros are missing values.
    pub(super) zero_columns: Vec<bool>,
    names: Vec<String>,
    /// For each feature its categories, where the model was trained on a data frame that has other ones than codes.
    pub(super) categories: Vec<Option<Vec<Category>>>,
}

/// Tells whether `bytes` begin as a LightGBM text does.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    bytes.starts_with(b"tree\n") || bytes.starts_with(b"tree\r\n")
}

impl Ensemble {
    /// Reads a text.
    ///
    /// # Errors
    /// Kind `Unsupported` for a version or a form of trees that is not known, `Malformed` where something is
    /// missing or contradicts itself.
    pub(crate) fn parse(text: &str) -> Result<Self, LoadError> {
        let mut lines = text.lines();
        if lines.next() != Some("tree") {
            return Err(malformed(
                "not a LightGBM model: the first line is not 'tree'",
            ));
        }
        let mut head = Section::new(String::new());
        let mut trees: Vec<Section<'_>> = Vec::new();
        for line in lines.by_ref() {
            if line == "end of trees" {
                break;
            }
            if let Some(number) = line.strip_prefix("Tree=") {
                trees.push(Section::new(format!("tree {number}")));
            }
            trees.last_mut().unwrap_or(&mut head).push(line);
        }
        let mut ensemble = Self::read(&head, &trees)?;
        let infos = head.find("feature_infos").unwrap_or_default();
        ensemble.categories = categories::read(lines, ensemble.n_features, infos)?;
        Ok(ensemble)
    }

    fn read(head: &Section<'_>, sections: &[Section<'_>]) -> Result<Self, LoadError> {
        if let Some(version) = head
            .find("version")
            .filter(|version| !["v2", "v3", "v4"].contains(version))
        {
            let version = quoted(version);
            return Err(unsupported(format!(
                "LightGBM model version {version} is not supported"
            )));
        }
        let last: usize = head.number("max_feature_idx")?;
        let n_features = last.saturating_add(1);
        let n_scores: usize = head.number_or("num_tree_per_iteration", 1)?;
        if n_scores == 0 || n_scores > SCORES_MAX || n_features > FEATURES_MAX {
            let message = format!("{n_scores} scores per row, {n_features} features");
            return Err(malformed(message));
        }
        let mut zeros = ZeroColumns::new(n_features);
        let mut trees = Vec::with_capacity(sections.len());
        let mut linear_leaves = Vec::with_capacity(sections.len());
        let mut gains = Vec::with_capacity(sections.len());
        for (section, score) in sections.iter().zip((0..n_scores).cycle()) {
            let tree = Tree::read(section, score, &mut zeros)?;
            trees.push(tree.spec);
            gains.push(section.numbers("split_gain")?);
            linear_leaves.push(tree.linear);
        }
        if trees.len().checked_rem(n_scores) != Some(0) {
            let message = format!("{} trees for {n_scores} scores", trees.len());
            return Err(malformed(message));
        }
        let names: Vec<String> = head
            .find("feature_names")
            .unwrap_or_default()
            .split(' ')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        Ok(Self {
            objective: head.find("objective").unwrap_or_default().to_owned(),
            n_features,
            n_scores,
            is_averaged: head.find("average_output").is_some(),
            trees,
            gains,
            linear_leaves,
            zero_columns: zeros.columns()?,
            names,
            categories: Vec::new(),
        })
    }

    /// Returns the names, unless LightGBM made them up (`Column_0`, ...).
    pub(crate) fn feature_names(&self) -> Option<Vec<String>> {
        let is_known = !are_made_up(&self.names) && self.names.len() == self.n_features;
        is_known.then(|| self.names.clone())
    }

    /// Returns how much each feature counts in the first `n_iterations` (all, if `None`): how many splits ask for it,
    /// or, if `by_gain`, what they gain. Splits without a gain are passed over.
    ///
    /// # Errors
    /// Kind `Malformed` if splits and gains differ in number.
    pub(crate) fn importances(
        &self,
        n_iterations: Option<usize>,
        by_gain: bool,
    ) -> Result<Vec<f64>, LoadError> {
        let n_trees = super::iterations(self, n_iterations).saturating_mul(self.n_scores);
        let mut sums = vec![0.0; self.n_features];
        for (tree, gains) in self.trees.iter().zip(&self.gains).take(n_trees) {
            let splits = tree.nodes.iter().filter_map(|node| match node {
                NodeSpec::Split { feature, .. } => Some(*feature),
                NodeSpec::Leaf => None,
            });
            let splits: Vec<u32> = splits.collect();
            if splits.len() != gains.len() {
                return Err(malformed("'split_gain' is not a number for each split"));
            }
            for (feature, &gain) in splits.into_iter().zip(gains) {
                let sum = usize::try_from(feature).ok().and_then(|f| sums.get_mut(f));
                let sum = sum.ok_or_else(|| malformed("a feature is out of range"))?;
                if gain > 0.0 {
                    *sum += if by_gain { gain } else { 1.0 };
                }
            }
        }
        Ok(sums)
    }

    pub(super) fn is_linear(&self) -> bool {
        self.linear_leaves.iter().any(Option::is_some)
    }

    /// Returns the leaves of the first `n_trees`, the constant ones as linear ones without terms.
    pub(super) fn linear_leaves(&self, n_trees: usize) -> Vec<Vec<LinearLeaf>> {
        let trees = self.linear_leaves.iter().zip(&self.trees).take(n_trees);
        let leaves = trees.map(|(leaves, tree)| match leaves {
            Some(leaves) => leaves.clone(),
            None => super::tree::constant_leaves(tree),
        });
        leaves.collect()
    }
}

/// Tells whether names are those that LightGBM makes up: `Column_0`, `Column_1`, ...
pub(crate) fn are_made_up(names: &[String]) -> bool {
    let mut names = names.iter().enumerate();
    names.all(|(index, name)| *name == format!("Column_{index}"))
}
