//! LightGBM's trees: columns of numbers, a value going left if it is at most the threshold.

use coracle_forest::{LinearLeaf, Members, NodeSpec, SplitRule, Target, TreeSpec};
use coracle_model::LoadError;

use super::text::Section;
use super::unsupported;
use crate::numbers::from_count;

/// The bits of a decision type.
const CATEGORICAL: i64 = 1;
const DEFAULT_LEFT: i64 = 2;

/// A tree, with its leaves if they are linear functions.
pub(super) struct Tree {
    pub(super) spec: TreeSpec,
    pub(super) linear: Option<Vec<LinearLeaf>>,
}

/// Which features' zeros are missing values: all splits on a feature must agree.
pub(super) struct ZeroColumns {
    /// For each feature whether some split takes zeros as missing, and whether some does not.
    seen: Vec<(bool, bool)>,
}

impl ZeroColumns {
    pub(super) fn new(n_features: usize) -> Self {
        Self {
            seen: vec![(false, false); n_features],
        }
    }

    fn see(&mut self, feature: u32, is_missing: bool) {
        let place = usize::try_from(feature).unwrap_or(usize::MAX);
        if let Some((missing, number)) = self.seen.get_mut(place) {
            *missing |= is_missing;
            *number |= !is_missing;
        }
    }

    pub(super) fn columns(self) -> Result<Vec<bool>, LoadError> {
        if let Some(feature) = self.seen.iter().position(|&seen| seen == (true, true)) {
            return Err(unsupported(format!(
                "feature {feature}: zeros are missing values in some trees and numbers in others"
            )));
        }
        Ok(self.seen.into_iter().map(|(missing, _)| missing).collect())
    }
}

impl Tree {
    /// Reads a tree that adds to `score`.
    pub(super) fn read(
        section: &Section<'_>,
        score: usize,
        zeros: &mut ZeroColumns,
    ) -> Result<Self, LoadError> {
        let n_leaves: usize = section.number("num_leaves")?;
        let leaf_values: Vec<f64> = section.exactly("leaf_value", n_leaves)?;
        let n_splits = n_leaves
            .checked_sub(1)
            .ok_or_else(|| section.malformed("has no leaves"))?;
        let mut nodes = Splits::read(section, n_splits)?.nodes(section, zeros)?;
        nodes.extend(std::iter::repeat_n(NodeSpec::Leaf, n_leaves));
        let mut values = vec![0.0; n_splits];
        values.extend_from_slice(&leaf_values);
        let is_linear = section.number_or("is_linear", 0)? != 0;
        let linear = match is_linear {
            true => Some(linear_leaves(section, &leaf_values)?),
            false => None,
        };
        let target = Target::OneScore(score);
        Ok(Self {
            spec: TreeSpec {
                nodes,
                values,
                target,
            },
            linear,
        })
    }
}

/// Returns the leaves of a tree without linear ones, as such.
pub(super) fn constant_leaves(tree: &TreeSpec) -> Vec<LinearLeaf> {
    let leaves = tree.nodes.iter().zip(&tree.values);
    let leaves = leaves.filter(|(node, _)| **node == NodeSpec::Leaf);
    leaves
        .map(|(_, &value)| LinearLeaf {
            constant: value,
            terms: Vec::new(),
            otherwise: value,
        })
        .collect()
}

/// Replaces the values of leaves by their indices among the leaves.
pub(super) fn number_leaves(tree: &mut TreeSpec) {
    let leaves = tree.nodes.iter().zip(&mut tree.values);
    let leaves = leaves.filter(|(node, _)| **node == NodeSpec::Leaf);
    for (index, (_, value)) in leaves.enumerate() {
        *value = from_count(index);
    }
}

/// The columns of a tree's splits.
struct Splits {
    features: Vec<u32>,
    thresholds: Vec<f64>,
    decisions: Vec<i64>,
    left: Vec<i64>,
    right: Vec<i64>,
    category_boundaries: Vec<usize>,
    category_words: Vec<u32>,
}

impl Splits {
    fn read(section: &Section<'_>, n: usize) -> Result<Self, LoadError> {
        Ok(Self {
            features: section.exactly("split_feature", n)?,
            thresholds: section.exactly("threshold", n)?,
            decisions: section.exactly("decision_type", n)?,
            left: section.exactly("left_child", n)?,
            right: section.exactly("right_child", n)?,
            category_boundaries: section.numbers("cat_boundaries")?,
            category_words: section.numbers("cat_threshold")?,
        })
    }

    fn nodes(
        &self,
        section: &Section<'_>,
        zeros: &mut ZeroColumns,
    ) -> Result<Vec<NodeSpec>, LoadError> {
        let n_splits = self.features.len();
        let child = |child: i64| {
            // A negative child is a leaf, counted from -1 down; the leaves follow the splits.
            let index = match usize::try_from(child) {
                Ok(split) => Some(split),
                Err(_) => usize::try_from(!child)
                    .ok()
                    .and_then(|leaf| leaf.checked_add(n_splits)),
            };
            let index = index.and_then(|index| u32::try_from(index).ok());
            index.ok_or_else(|| section.malformed("a child is out of range"))
        };
        let questions = self
            .features
            .iter()
            .zip(&self.thresholds)
            .zip(&self.decisions);
        let children = self.left.iter().zip(&self.right);
        let mut nodes = Vec::with_capacity(n_splits.saturating_mul(2));
        for (((&feature, &threshold), &decision), (&left, &right)) in questions.zip(children) {
            let (rule, missing_left) = match decision & CATEGORICAL {
                0 => {
                    let (is_zero_missing, missing_left) = missing(section, decision, threshold)?;
                    zeros.see(feature, is_zero_missing);
                    (SplitRule::LessOrEqual(threshold), missing_left)
                }
                // A missing category is in no list.
                _ => (self.categories(section, threshold)?, false),
            };
            nodes.push(NodeSpec::Split {
                feature,
                rule,
                missing_left,
                left: child(left)?,
                right: child(right)?,
            });
        }
        Ok(nodes)
    }

    /// Returns the rule of a category split, whose threshold is the index of its list.
    fn categories(&self, section: &Section<'_>, threshold: f64) -> Result<SplitRule, LoadError> {
        let index = crate::document::whole(threshold);
        let words = index.and_then(|index| {
            let start = *self.category_boundaries.get(index)?;
            let end = *self.category_boundaries.get(index.checked_add(1)?)?;
            self.category_words.get(start..end)
        });
        let words = words.ok_or_else(|| section.malformed("a category list is out of range"))?;
        Ok(SplitRule::Members(Box::new(Members {
            bits: words.to_vec(),
            truncates: true,
        })))
    }
}

/// Returns whether zeros count as missing at a split, and whether missing values go left.
fn missing(
    section: &Section<'_>,
    decision: i64,
    threshold: f64,
) -> Result<(bool, bool), LoadError> {
    let default_left = decision & DEFAULT_LEFT != 0;
    match decision >> 2 & 3 {
        // NaN counts as zero.
        0 => Ok((false, 0.0 <= threshold)),
        1 => Ok((true, default_left)),
        2 => Ok((false, default_left)),
        _ => Err(section.malformed(format_args!("decision type {decision} is unknown"))),
    }
}

fn linear_leaves(section: &Section<'_>, leaf_values: &[f64]) -> Result<Vec<LinearLeaf>, LoadError> {
    let constants: Vec<f64> = section.exactly("leaf_const", leaf_values.len())?;
    let lengths: Vec<usize> = section.exactly("num_features", leaf_values.len())?;
    let features: Vec<u32> = section.numbers("leaf_features")?;
    let weights: Vec<f64> = section.numbers("leaf_coeff")?;
    let mut terms = features.into_iter().zip(weights);
    let mut leaves = Vec::with_capacity(leaf_values.len());
    for ((&otherwise, constant), length) in leaf_values.iter().zip(constants).zip(lengths) {
        let terms: Vec<(u32, f64)> = terms.by_ref().take(length).collect();
        if terms.len() != length {
            return Err(section.malformed("a linear leaf has too few weights"));
        }
        leaves.push(LinearLeaf {
            constant,
            terms,
            otherwise,
        });
    }
    Ok(leaves)
}
