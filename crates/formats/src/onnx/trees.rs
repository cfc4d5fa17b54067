//! ONNX's trees to ours: every comparison becomes "at most" or "one of", with sides exchanged where that takes it.

use coracle_forest::{Forest, ForestSpec, NodeSpec, Precision, SplitRule, Target, TreeSpec};
use coracle_model::{LoadError, LoadErrorKind, Scorer};
use coracle_onnx::{EnsembleNode, EnsembleTree, Test, TreeEnsemble, TreeKernels};

/// The kernels of `coracle-forest`.
pub(super) struct Kernels;

impl TreeKernels for Kernels {
    fn compile(&self, ensemble: &TreeEnsemble) -> Result<Box<dyn Scorer>, LoadError> {
        let precision = match ensemble.is_double {
            true => Precision::Double,
            false => Precision::Single,
        };
        let targets: Option<Vec<usize>> = ensemble.trees.iter().map(only_target).collect();
        let trees = ensemble.trees.iter().enumerate().map(|(index, tree)| {
            let target = targets.as_ref().and_then(|targets| targets.get(index));
            convert(tree, target.copied(), ensemble)
        });
        let spec = ForestSpec {
            n_features: ensemble.n_features,
            n_scores: ensemble.n_targets,
            precision,
            summation: precision,
            base: vec![0.0; ensemble.n_targets],
            divisor: None,
            accepts_missing: true,
            accepts_infinite: true,
            trees: trees.collect(),
        };
        let forest = Forest::try_new(&spec)
            .map_err(|error| LoadError::new(LoadErrorKind::Malformed, error.to_string()))?;
        Ok(Box::new(forest))
    }
}

/// Returns the target of a tree whose leaves add to one target at most, once each.
fn only_target(tree: &EnsembleTree) -> Option<usize> {
    let mut only = None;
    for node in &tree.nodes {
        if let EnsembleNode::Leaf(weights) = node {
            match weights.as_slice() {
                [] => {}
                [(target, _)] if *only.get_or_insert(*target) == *target => {}
                _ => return None,
            }
        }
    }
    Some(only.unwrap_or(0))
}

/// Converts a tree whose leaves add to `target`, or to all.
fn convert(tree: &EnsembleTree, target: Option<usize>, ensemble: &TreeEnsemble) -> TreeSpec {
    let width = match target {
        Some(_) => 1,
        None => ensemble.n_targets,
    };
    let mut nodes = Vec::with_capacity(tree.nodes.len());
    let mut values = Vec::with_capacity(tree.nodes.len().saturating_mul(width));
    for node in &tree.nodes {
        let mut cells = vec![0.0; width];
        match node {
            EnsembleNode::Leaf(weights) => {
                for &(to, weight) in weights {
                    let place = if target.is_some() { 0 } else { to };
                    if let Some(cell) = cells.get_mut(place) {
                        *cell = sum(*cell, weight, ensemble.is_double);
                    }
                }
                nodes.push(NodeSpec::Leaf);
            }
            EnsembleNode::Split {
                feature,
                test,
                missing_yes,
                yes,
                no,
            } => nodes.push(split(
                *feature,
                Question::of(test, *missing_yes, ensemble.is_double),
                (*yes, *no),
            )),
        }
        values.append(&mut cells);
    }
    TreeSpec {
        nodes,
        values,
        target: target.map_or(Target::AllScores, Target::OneScore),
    }
}

/// Adds in the precision of the ensemble.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "rounding is the point"
)]
fn sum(a: f64, b: f64, is_double: bool) -> f64 {
    match is_double {
        true => a + b,
        false => f64::from(a as f32 + b as f32),
    }
}

/// A question in our terms.
struct Question {
    rule: SplitRule,
    /// Whether those of which the rule holds are those that answer yes; no, otherwise.
    holds_is_yes: bool,
    /// Whether NaN answers yes.
    missing_yes: bool,
}

impl Question {
    fn of(test: &Test, missing_yes: bool, is_double: bool) -> Self {
        let values = |values: &[f64]| SplitRule::Values(values.into());
        let never = || values(&[]);
        let at_most = |threshold: f64| match threshold.is_nan() {
            true => never(),
            false => SplitRule::LessOrEqual(threshold),
        };
        let below = |threshold: f64| match threshold.is_nan() || threshold == f64::NEG_INFINITY {
            true => never(),
            false => SplitRule::LessOrEqual(next_down(threshold, is_double)),
        };
        let (rule, holds_is_yes) = match test {
            Test::LessOrEqual(threshold) => (at_most(*threshold), true),
            Test::Less(threshold) => (below(*threshold), true),
            Test::GreaterOrEqual(threshold) | Test::Greater(threshold) if threshold.is_nan() => {
                (never(), true)
            }
            Test::GreaterOrEqual(threshold) => (below(*threshold), false),
            Test::Greater(threshold) => (at_most(*threshold), false),
            Test::Equal(value) => (values(&[*value]), true),
            Test::NotEqual(value) => (values(&[*value]), false),
            Test::Member(members) => (values(members), true),
        };
        // NaN is not equal to anything.
        let missing_yes = missing_yes || matches!(test, Test::NotEqual(_));
        Self {
            rule,
            holds_is_yes,
            missing_yes,
        }
    }
}

/// Returns the largest number of the ensemble's precision that is below a threshold of it.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the threshold is of the precision"
)]
fn next_down(threshold: f64, is_double: bool) -> f64 {
    match is_double {
        true => threshold.next_down(),
        false => f64::from((threshold as f32).next_down()),
    }
}

fn split(feature: u32, question: Question, (yes, no): (u32, u32)) -> NodeSpec {
    let (left, right, missing_left) = match question.holds_is_yes {
        true => (yes, no, question.missing_yes),
        false => (no, yes, !question.missing_yes),
    };
    NodeSpec::Split {
        feature,
        rule: question.rule,
        missing_left,
        left,
        right,
    }
}
