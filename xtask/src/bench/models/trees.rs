//! Random boosted trees as LightGBM writes them, and their predictions by a naive walk.

use std::fmt::Write as _;

/// The features of a row.
pub(super) const N_FEATURES: usize = 20;
/// Complete trees: so many decisions, one more leaf.
const N_DECISIONS: usize = 63;

/// A seeded generator (xorshift).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        usize::try_from((self.next() >> 11) % n).unwrap_or(0)
    }

    /// Returns a number from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

struct Tree {
    features: Vec<usize>,
    thresholds: Vec<f64>,
    /// Multiples of 1/1024, so that sums are exact in any order.
    leaves: Vec<f64>,
}

/// A sum of trees.
pub(super) struct Ensemble(Vec<Tree>);

impl Ensemble {
    pub(super) fn random(random: &mut Random, n_trees: usize) -> Self {
        let tree = |_| {
            let features = (0..N_DECISIONS).map(|_| random.below(N_FEATURES)).collect();
            let thresholds = (0..N_DECISIONS).map(|_| random.unit()).collect();
            let mut leaf = || f64::from(u16::try_from(random.below(2_048)).unwrap_or(0)) / 1024.0;
            Tree {
                features,
                thresholds,
                leaves: (0..=N_DECISIONS).map(|_| leaf()).collect(),
            }
        };
        Self((0..n_trees).map(tree).collect())
    }

    /// Returns the sum of the leaves that `row` reaches.
    pub(super) fn predict(&self, row: &[f64]) -> f64 {
        let leaf = |tree: &Tree| {
            let mut node = 0;
            while node < N_DECISIONS {
                let goes_right = row[tree.features[node]] > tree.thresholds[node];
                node = 2 * node + 1 + usize::from(goes_right);
            }
            tree.leaves[node - N_DECISIONS]
        };
        self.0.iter().map(leaf).sum()
    }

    /// Returns the model file.
    pub(super) fn to_text(&self) -> String {
        let names: Vec<String> = (0..N_FEATURES)
            .map(|feature| format!("f{feature}"))
            .collect();
        let mut text = format!(
            "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx={}\nobjective=regression\nfeature_names={}\nfeature_infos={}\n\n",
            N_FEATURES - 1,
            names.join(" "),
            vec!["[0:1]"; N_FEATURES].join(" "),
        );
        for (index, tree) in self.0.iter().enumerate() {
            let child = |node: usize| match node.checked_sub(N_DECISIONS) {
                Some(leaf) => format!("-{}", leaf + 1),
                None => node.to_string(),
            };
            let children =
                |side: usize| joined((0..N_DECISIONS).map(|node| child(2 * node + side)));
            let decisions = joined(std::iter::repeat_n("2", N_DECISIONS));
            let written = write!(
                text,
                "Tree={index}\nnum_leaves={}\nnum_cat=0\nsplit_feature={}\nthreshold={}\ndecision_type={decisions}\nleft_child={}\nright_child={}\nleaf_value={}\nis_linear=0\nshrinkage=1\n\n\n",
                N_DECISIONS + 1,
                joined(&tree.features),
                joined(&tree.thresholds),
                children(1),
                children(2),
                joined(&tree.leaves),
            );
            debug_assert!(written.is_ok(), "a String takes every write");
        }
        text.push_str("end of trees\n");
        text
    }
}

fn joined(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_follow_their_parents() {
        let ensemble = Ensemble::random(&mut Random::new(1), 1);
        let text = ensemble.to_text();
        let children = |side: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(side))
                .unwrap();
            let numbers = line.split(' ').map(|child| child.parse::<i64>().unwrap());
            numbers.collect::<Vec<_>>()
        };
        let (left, right) = (children("left_child="), children("right_child="));
        assert_eq!((left[0], right[0], left[62], right[62]), (1, 2, -63, -64));
    }
}
