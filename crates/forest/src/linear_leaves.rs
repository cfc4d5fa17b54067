//! Trees that are walked one after another: whose leaves are linear functions (LightGBM's linear trees), or of which a row is not shown all.

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

/// When a row is shown no further trees: its scores are clear enough (LightGBM's `pred_early_stop`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStop {
    /// After how many trees the scores are looked at, again and again.
    pub n_trees: usize,
    /// What twice the only score, or the largest one's lead, must be above.
    pub margin: f64,
}

impl EarlyStop {
    fn is_now(self, n_shown: usize, scores: &[f64]) -> bool {
        n_shown.is_multiple_of(self.n_trees) && lead(scores) > self.margin
    }
}

/// Returns how far the largest score is before the next one; of one score, how far it is from its opposite.
fn lead(scores: &[f64]) -> f64 {
    if let [only] = scores {
        return 2.0 * only.abs();
    }
    let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for &score in scores {
        if score > first {
            second = std::mem::replace(&mut first, score);
        } else if score > second {
            second = score;
        }
    }
    first - second
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
    stop: Option<EarlyStop>,
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
            stop: None,
        })
    }

    /// Returns the forest as one that does not show a row the trees after `stop`.
    ///
    /// # Errors
    /// If `stop` never looks.
    pub fn stopping(self, stop: EarlyStop) -> Result<Self, ForestError> {
        if stop.n_trees == 0 {
            return Err(ForestError::new("the scores are looked at after 0 trees"));
        }
        Ok(Self {
            stop: Some(stop),
            ..self
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
            for (n_before, (tree, leaves)) in self.trees.iter().zip(&self.leaves).enumerate() {
                let score = match tree.target {
                    Target::OneScore(score) => score,
                    Target::AllScores => 0,
                };
                scores[score] += leaves[leaf(tree, row)].value(row);
                if let Some(stop) = self.stop
                    && stop.is_now(n_before + 1, scores)
                {
                    break;
                }
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
    fn a_row_is_shown_no_more_trees_once_its_lead_is_above_the_margin() {
        let mut two = spec();
        two.trees = vec![two.trees.remove(0); 4];
        two.base = vec![0.0];
        let leaves = || leaves(1).into_iter().cycle().take(4).collect();
        // A tree gives 20 to the left and 10 to the right; looks come after the second and the fourth.
        let scores = |margin| {
            let forest = LinearForest::try_new(&two, leaves()).unwrap();
            let stop = EarlyStop { n_trees: 2, margin };
            let mut scores = [0.0; 2];
            let rows = [-1.0, 0.0, 1.0, 0.0];
            let forest = forest.stopping(stop).unwrap();
            forest.score(Rows::try_new(&rows, 2).unwrap(), &mut scores);
            scores
        };
        assert_eq!(scores(39.0), [40.0, 20.0]);
        assert_eq!(scores(40.0), [40.0, 40.0]);
        assert_eq!(scores(80.0), [80.0, 40.0]);
        let never = EarlyStop {
            n_trees: 0,
            margin: 1.0,
        };
        let forest = LinearForest::try_new(&two, leaves()).unwrap();
        assert!(forest.stopping(never).is_err());
        assert_eq!(lead(&[1.0, 4.0, 2.5]), 1.5);
        assert_eq!(lead(&[3.0, 3.0]), 0.0);
        assert_eq!(lead(&[-2.0]), 4.0);
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
