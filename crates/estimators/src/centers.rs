//! Distances to centres: clusterings and nearest centroids.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::linear::dot;
use crate::metric::Metric;
use crate::spec_error::{SpecError, expect_length};

/// What is answered of the distances to centres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CenterAnswer {
    /// The distance to each centre.
    Distances,
    /// The number of the first nearest centre.
    Nearest,
}

/// Distances from each row to some centres.
#[derive(Debug)]
pub struct Centers {
    centers: Vec<f64>,
    /// The squared length of each centre.
    squares: Vec<f64>,
    n_features: usize,
    metric: Metric,
    answer: CenterAnswer,
}

impl Centers {
    /// Returns the distances to `centers`, `(n, n_features)` row-major.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, or lengths do not fit.
    pub fn try_new(
        centers: Vec<f64>,
        n_features: usize,
        metric: Metric,
        answer: CenterAnswer,
    ) -> Result<Self, SpecError> {
        let n_centers = centers.len().checked_div(n_features).unwrap_or_default();
        if n_centers == 0 {
            return Err(SpecError::new("there are no centres"));
        }
        expect_length("centres", centers.len(), n_centers * n_features)?;
        metric.check(n_features)?;
        let squares = centers.chunks_exact(n_features);
        Ok(Self {
            squares: squares.map(|center| dot(center, center)).collect(),
            centers,
            n_features,
            metric,
            answer,
        })
    }

    /// Returns the number of centres.
    #[must_use]
    pub fn n_centers(&self) -> usize {
        self.centers.len() / self.n_features
    }
}

impl Scorer for Centers {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        match self.answer {
            CenterAnswer::Distances => self.n_centers(),
            CenterAnswer::Nearest => 1,
        }
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.n_scores())) {
            let centers = self.centers.chunks_exact(self.n_features);
            let centers = centers.zip(&self.squares);
            // scikit-learn leaves the row's own square out of Euclidean comparisons.
            let is_expanded =
                self.answer == CenterAnswer::Nearest && self.metric == Metric::Euclidean;
            let distances = centers.map(|(center, square)| match is_expanded {
                true => square - 2.0 * dot(row, center),
                false => self.metric.of(row, center),
            });
            match self.answer {
                CenterAnswer::Distances => {
                    for (score, distance) in scores.iter_mut().zip(distances) {
                        *score = distance;
                    }
                }
                CenterAnswer::Nearest => {
                    let mut nearest = (0_u32, f64::INFINITY);
                    for (index, distance) in (0_u32..).zip(distances) {
                        if distance < nearest.1 {
                            nearest = (index, distance);
                        }
                    }
                    scores[0] = f64::from(nearest.0);
                }
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.centers.capacity() * size_of::<f64>()
    }
}

/// One node of a tree of clusters.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterNode {
    /// A cluster.
    Leaf {
        /// Its number.
        label: u32,
    },
    /// A row goes to the nearer of two children; to the left if as near.
    Split {
        /// The centre and the index of the left child.
        left: (Vec<f64>, usize),
        /// The centre and the index of the right child.
        right: (Vec<f64>, usize),
    },
}

/// A tree of clusters, walked from its root: bisecting k-means.
#[derive(Debug)]
pub struct ClusterTree {
    nodes: Vec<ClusterNode>,
    n_features: usize,
}

impl ClusterTree {
    /// Returns the tree of `nodes`; the first is the root.
    ///
    /// # Errors
    /// [`SpecError`] if a child does not come after its parent, or a centre has another length.
    pub fn try_new(nodes: Vec<ClusterNode>, n_features: usize) -> Result<Self, SpecError> {
        if nodes.is_empty() || n_features == 0 {
            return Err(SpecError::new("there are no clusters"));
        }
        for (index, node) in nodes.iter().enumerate() {
            if let ClusterNode::Split { left, right } = node {
                for (center, child) in [left, right] {
                    expect_length("a centre", center.len(), n_features)?;
                    if *child <= index || *child >= nodes.len() {
                        return Err(SpecError::new("a child of a cluster is out of order"));
                    }
                }
            }
        }
        Ok(Self { nodes, n_features })
    }

    fn label(&self, row: &[f64]) -> u32 {
        let mut node = 0;
        loop {
            match &self.nodes[node] {
                ClusterNode::Leaf { label } => return *label,
                ClusterNode::Split { left, right } => {
                    let reach = |center: &[f64]| dot(center, center) - 2.0 * dot(row, center);
                    let is_left = reach(&left.0) <= reach(&right.0);
                    node = if is_left { left.1 } else { right.1 };
                }
            }
        }
    }
}

impl Scorer for ClusterTree {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (row, score) in rows.iter().zip(scores) {
            *score = f64::from(self.label(row));
        }
    }

    fn memory_bytes(&self) -> usize {
        self.nodes.len() * (2 * self.n_features * size_of::<f64>() + size_of::<ClusterNode>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nearest_centre_counts() {
        let centers = |answer| Centers::try_new(vec![0.0, 2.0, 9.0], 1, Metric::Euclidean, answer);
        let rows = [1.0, 8.0];
        let rows = Rows::try_new(&rows, 1).unwrap();
        let mut nearest = [0.0; 2];
        let answer = centers(CenterAnswer::Nearest).unwrap();
        answer.score(rows, &mut nearest);
        assert_eq!(nearest, [0.0, 2.0]);
        let mut distances = [0.0; 6];
        let answer = centers(CenterAnswer::Distances).unwrap();
        answer.score(rows, &mut distances);
        assert_eq!(distances, [1.0, 1.0, 8.0, 8.0, 6.0, 1.0]);
        assert!(Centers::try_new(vec![], 1, Metric::Euclidean, CenterAnswer::Nearest).is_err());
    }

    #[test]
    fn a_cluster_tree_must_lead_downwards() {
        let leaf = ClusterNode::Leaf { label: 4 };
        let split = |left: usize, right: usize| ClusterNode::Split {
            left: (vec![0.0], left),
            right: (vec![1.0], right),
        };
        let tree = vec![split(1, 2), leaf.clone(), ClusterNode::Leaf { label: 7 }];
        let tree = ClusterTree::try_new(tree, 1).unwrap();
        assert_eq!((tree.label(&[0.5]), tree.label(&[0.6])), (4, 7));
        assert!(ClusterTree::try_new(vec![split(0, 1), leaf.clone()], 1).is_err());
        assert!(ClusterTree::try_new(vec![split(1, 2), leaf], 1).is_err());
    }
}
