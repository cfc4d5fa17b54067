//! A validated tree: breadth-first, siblings adjacent, leaves numbered from left to right.

use crate::spec::{
    Categories, ForestError, ForestSpec, Members, NodeSpec, Precision, SplitRule, Target, TreeSpec,
};

/// A tree that has passed every check; kernels are compiled from it.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Breadth-first; the root is first.
    pub(crate) nodes: Vec<Node>,
    /// `(leaves, width)`, row-major, in the order of [`Node::Leaf`] numbers: from left to right.
    pub(crate) leaf_values: Vec<f64>,
    pub(crate) n_leaves: usize,
    pub(crate) target: Target,
}

/// A node of a [`Tree`].
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// A leaf with its number.
    Leaf(u32),
    /// A split; the children are at `left` and `left + 1`.
    Split {
        feature: u32,
        rule: Rule,
        missing_left: bool,
        left: u32,
    },
}

/// The question of a split.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// For single precision the threshold is rounded down to single, which decides every comparison with a
    /// single-precision value as the original threshold does.
    LessOrEqual(f64),
    Categories(Box<Categories>),
    Members(Box<Members>),
    Values(Box<[f64]>),
}

impl Rule {
    /// Returns whether `value`, rounded to the forest's precision, goes left.
    pub(crate) fn goes_left(&self, value: f64, missing_left: bool) -> bool {
        match self {
            _ if value.is_nan() => missing_left,
            Self::LessOrEqual(threshold) => value <= *threshold,
            Self::Categories(categories) => categories.goes_left(value).unwrap_or(missing_left),
            Self::Members(members) => members.contains(value),
            Self::Values(values) => values.contains(&value),
        }
    }
}

/// Returns the largest single-precision number that is not above `threshold`.
pub(crate) fn round_down_to_single(threshold: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "corrected below")]
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold {
        nearest.next_down()
    } else {
        nearest
    }
}

/// Checks the tree at `index` of `spec` and brings it into breadth-first order.
pub(crate) fn validate(
    spec: &ForestSpec,
    index: usize,
    tree: &TreeSpec,
) -> Result<Tree, ForestError> {
    let error = |message: String| ForestError::in_tree(index, message);
    let width = match tree.target {
        Target::AllScores => spec.n_scores,
        Target::OneScore(score) if score < spec.n_scores => 1,
        Target::OneScore(score) => {
            return Err(error(format!("adds to score {score} of {}", spec.n_scores)));
        }
    };
    if tree.nodes.is_empty() {
        return Err(error("has no nodes".to_owned()));
    }
    if u32::try_from(tree.nodes.len()).is_err() {
        return Err(error(format!(
            "has {} nodes, more than 2^32",
            tree.nodes.len()
        )));
    }
    if tree.nodes.len().checked_mul(width) != Some(tree.values.len()) {
        return Err(error(format!(
            "{} values for {} nodes of width {width}",
            tree.values.len(),
            tree.nodes.len()
        )));
    }
    let order = breadth_first(spec, index, tree)?;
    Ok(arrange(spec.precision, tree, width, &order))
}

/// The place of a node in breadth-first order.
struct Placed {
    /// Its index in the file.
    source: usize,
    /// The breadth-first index of its left child, for splits.
    left: u32,
}

/// Walks the tree level by level; refuses children out of range, shared children and cycles.
fn breadth_first(
    spec: &ForestSpec,
    index: usize,
    tree: &TreeSpec,
) -> Result<Vec<Placed>, ForestError> {
    let mut seen = vec![false; tree.nodes.len()];
    seen[0] = true;
    let mut order = vec![Placed { source: 0, left: 0 }];
    let mut next = 0;
    while let Some(placed) = order.get(next) {
        let source = placed.source;
        if let NodeSpec::Split {
            feature,
            rule,
            left,
            right,
            ..
        } = &tree.nodes[source]
        {
            let error =
                |message: String| ForestError::in_tree(index, format!("node {source}: {message}"));
            if *feature as usize >= spec.n_features {
                return Err(error(format!(
                    "splits on feature {feature} of {}",
                    spec.n_features
                )));
            }
            if matches!(rule, SplitRule::LessOrEqual(threshold) if threshold.is_nan()) {
                return Err(error("threshold is NaN".to_owned()));
            }
            // Fewer nodes than 2^32, so the position fits.
            order[next].left = u32::try_from(order.len())
                .map_err(|_too_many| error("too many nodes".to_owned()))?;
            for child in [*left, *right] {
                let source = child as usize;
                match seen.get_mut(source) {
                    Some(seen) if !*seen => *seen = true,
                    Some(_) => return Err(error(format!("child {child} has another parent too"))),
                    None => {
                        let n_nodes = tree.nodes.len();
                        return Err(error(format!(
                            "child {child} does not exist; there are {n_nodes} nodes"
                        )));
                    }
                }
                order.push(Placed { source, left: 0 });
            }
        }
        next += 1;
    }
    Ok(order)
}

fn arrange(precision: Precision, tree: &TreeSpec, width: usize, order: &[Placed]) -> Tree {
    let numbers = number_leaves(tree, order);
    let n_leaves = numbers.iter().flatten().count();
    let mut leaf_values = vec![0.0; n_leaves * width];
    let mut nodes = Vec::with_capacity(order.len());
    for (placed, number) in order.iter().zip(&numbers) {
        nodes.push(match (&tree.nodes[placed.source], number) {
            (
                NodeSpec::Split {
                    feature,
                    rule,
                    missing_left,
                    ..
                },
                _,
            ) => Node::Split {
                feature: *feature,
                rule: compile_rule(precision, rule),
                missing_left: *missing_left,
                left: placed.left,
            },
            (NodeSpec::Leaf, number) => {
                let number = number.expect("every leaf has a number");
                let values = &tree.values[placed.source * width..][..width];
                leaf_values[number as usize * width..][..width].copy_from_slice(values);
                Node::Leaf(number)
            }
        });
    }
    Tree {
        nodes,
        leaf_values,
        n_leaves,
        target: tree.target,
    }
}

/// Numbers the leaves from left to right, in the order of `order`; splits have no number.
fn number_leaves(tree: &TreeSpec, order: &[Placed]) -> Vec<Option<u32>> {
    let mut numbers = vec![None; order.len()];
    let mut count = 0;
    let mut stack = vec![0_usize];
    while let Some(position) = stack.pop() {
        if matches!(tree.nodes[order[position].source], NodeSpec::Leaf) {
            numbers[position] = Some(count);
            count += 1;
        } else {
            let left = order[position].left as usize;
            stack.extend([left + 1, left]);
        }
    }
    numbers
}

fn compile_rule(precision: Precision, rule: &SplitRule) -> Rule {
    match rule {
        SplitRule::LessOrEqual(threshold) => Rule::LessOrEqual(match precision {
            Precision::Single => f64::from(round_down_to_single(*threshold)),
            Precision::Double => *threshold,
        }),
        SplitRule::Categories(categories) => Rule::Categories(categories.clone()),
        SplitRule::Members(members) => Rule::Members(members.clone()),
        SplitRule::Values(values) => Rule::Values(values.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::round_down_to_single;

    #[test]
    fn thresholds_round_down() {
        let above = 1.0 + f64::EPSILON;
        let below = 1.0 - f64::EPSILON;
        assert_eq!(round_down_to_single(1.0), 1.0);
        assert_eq!(round_down_to_single(above), 1.0);
        assert_eq!(round_down_to_single(below), 1.0_f32.next_down());
        assert_eq!(round_down_to_single(-above), (-1.0_f32).next_down());
        assert_eq!(round_down_to_single(1e300), f32::MAX);
        assert_eq!(round_down_to_single(-1e300), f32::NEG_INFINITY);
        assert_eq!(round_down_to_single(0.0), 0.0);
        assert_eq!(round_down_to_single(1e-60), 0.0);
        assert_eq!(round_down_to_single(-1e-60), -f32::from_bits(1));
    }
}
