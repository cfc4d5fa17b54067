//! Trees whose leaves are linear functions (LightGBM's linear trees): a plain walk, then a short sum.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::spec::{ForestError, ForestSpec, Precision, Target};
use crate::tree::{Node, Tree};

/// A leaf: a constant plus weighted columns.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearLeaf {
    /// The constant.
    pub constant: f64,
    /// Columns with their weights, in the order in which they are added.
    pub terms: Vec<(u32, f64)>,
    /// What the leaf gives if a value of its columns is missing.
    pub otherwise: f64,
}

impl LinearLeaf {
    fn value(&self, row: &[f64]) -> f64 {
        let mut sum = self.constant;
        for &(feature, weight) in &self.terms {
            let value = row[feature as usize];
            if value.is_nan() {
                return self.otherwise;
            }
            sum += weight * value;
        }
        sum
    }
}

/// A forest with linear leaves, in double precision.
#[derive(Debug)]
pub struct LinearForest {
    trees: Vec<Tree>,
    /// For each tree its leaves, in the order of the file.
    leaves: Vec<Vec<LinearLeaf>>,
    n_features: usize,
    base: Vec<f64>,
    divisor: Option<f64>,
}

impl LinearForest {
    /// Checks `spec`, in which each leaf's value is its index in `leaves` of its tree, every tree with one target.
    ///
    /// # Errors
    /// As [`crate::Forest::try_new`], and if a leaf or a leaf's column does not exist.
    pub fn try_new(spec: &ForestSpec, leaves: Vec<Vec<LinearLeaf>>) -> Result<Self, ForestError> {
        let trees = crate::forest::validate(spec)?;
        if spec.precision != Precision::Double || spec.summation != Precision::Double {
            return Err(ForestError::new(
                "linear leaves are added in double precision",
            ));
        }
        if trees.len() != leaves.len() {
            return Err(ForestError::new(
                "another number of trees than of lists of leaves",
            ));
        }
        for (index, (tree, leaves)) in trees.iter().zip(&leaves).enumerate() {
            let error = |message: &str| ForestError::in_tree(index, message);
            if tree.target == Target::AllScores && spec.n_scores > 1 {
                return Err(error("linear leaves add to one score"));
            }
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^32 leaves")]
            let exists =
                |&leaf: &f64| leaf >= 0.0 && leaf < leaves.len() as f64 && leaf.fract() == 0.0;
            if !tree.leaf_values.iter().all(exists) {
                return Err(error("a leaf does not exist"));
            }
            let mut terms = leaves.iter().flat_map(|leaf| &leaf.terms);
            if terms.any(|&(feature, _)| feature as usize >= spec.n_features) {
                return Err(error("a leaf's feature does not exist"));
            }
        }
        Ok(Self {
            trees,
            leaves,
            n_features: spec.n_features,
            base: spec.base.clone(),
            divisor: spec.divisor,
        })
    }
}

/// Returns the index of the leaf that `row` reaches, as the file numbers them.
fn leaf(tree: &Tree, row: &[f64]) -> usize {
    let mut at = 0;
    loop {
        match &tree.nodes[at] {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be an index"
            )]
            Node::Leaf(number) => return tree.leaf_values[*number as usize] as usize,
            Node::Split {
                feature,
                rule,
                missing_left,
                left,
            } => {
                let goes_left = rule.goes_left(row[*feature as usize], *missing_left);
                at = *left as usize + usize::from(!goes_left);
            }
        }
    }
}

impl Scorer for LinearForest {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.base.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::ANY
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.base.len())) {
            scores.copy_from_slice(&self.base);
            for (tree, leaves) in self.trees.iter().zip(&self.leaves) {
                let score = match tree.target {
                    Target::OneScore(score) => score,
                    Target::AllScores => 0,
                };
                scores[score] += leaves[leaf(tree, row)].value(row);
            }
            if let Some(divisor) = self.divisor {
                scores.iter_mut().for_each(|score| *score /= divisor);
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let nodes: usize = self.trees.iter().map(|tree| tree.nodes.capacity()).sum();
        let leaves = self.leaves.iter().flatten();
        let terms: usize = leaves.clone().map(|leaf| leaf.terms.capacity()).sum();
        nodes * size_of::<Node>()
            + leaves.count() * size_of::<LinearLeaf>()
            + terms * size_of::<(u32, f64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeSpec, SplitRule, TreeSpec};

    fn spec() -> ForestSpec {
        let split = NodeSpec::Split {
            feature: 0,
            rule: SplitRule::LessOrEqual(0.0),
            missing_left: true,
            left: 1,
            right: 2,
        };
        ForestSpec {
            n_features: 2,
            n_scores: 1,
            precision: Precision::Double,
            summation: Precision::Double,
            base: vec![1.0],
            divisor: None,
            accepts_missing: true,
            accepts_infinite: true,
            trees: vec![TreeSpec {
                nodes: vec![split, NodeSpec::Leaf, NodeSpec::Leaf],
                values: vec![0.0, 1.0, 0.0],
                target: Target::OneScore(0),
            }],
        }
    }

    fn leaves(feature: u32) -> Vec<Vec<LinearLeaf>> {
        let leaf = |constant, terms| LinearLeaf {
            constant,
            terms,
            otherwise: 7.0,
        };
        vec![vec![
            leaf(10.0, vec![(feature, 2.0)]),
            leaf(20.0, Vec::new()),
        ]]
    }

    #[test]
    fn leaves_are_evaluated_and_missing_values_fall_back() {
        let forest = LinearForest::try_new(&spec(), leaves(1)).unwrap();
        let rows = [1.0, 3.0, 1.0, f64::NAN, f64::NAN, f64::NAN];
        let mut scores = [0.0; 3];
        forest.score(Rows::try_new(&rows, 2).unwrap(), &mut scores);
        assert_eq!(scores, [17.0, 8.0, 21.0]);
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let message = |spec: &ForestSpec, leaves| {
            LinearForest::try_new(spec, leaves).unwrap_err().to_string()
        };
        assert_eq!(
            message(&spec(), leaves(2)),
            "tree 0: a leaf's feature does not exist"
        );
        assert_eq!(
            message(&spec(), vec![Vec::new()]),
            "tree 0: a leaf does not exist"
        );
        assert!(LinearForest::try_new(&spec(), Vec::new()).is_err());
    }
}
