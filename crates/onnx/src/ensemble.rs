//! Tree ensembles as ONNX writes them: flat lists of nodes, read into trees that have passed every check of indices.

use std::collections::HashMap;

use coracle_model::{LoadError, Scorer};

use crate::attributes::{Attributes, real_tensor};
use crate::error::{limit, malformed, unsupported};

/// Makes kernels of trees; the crates of kernels do not know each other.
pub trait TreeKernels {
    /// Returns the sums of leaves, target by target, that rows reach; in the ensemble's precision.
    ///
    /// # Errors
    /// Kind `Malformed` where the trees contradict themselves.
    fn compile(&self, trees: &TreeEnsemble) -> Result<Box<dyn Scorer>, LoadError>;
}

/// Trees and the targets that their leaves add to.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEnsemble {
    /// The number of columns that are read; at least one.
    pub n_features: usize,
    /// The number of targets or classes.
    pub n_targets: usize,
    /// Whether values are compared and added in double precision; in single otherwise.
    pub is_double: bool,
    /// The trees, in the order in which their leaves are added.
    pub trees: Vec<EnsembleTree>,
}

/// One tree; its root is node 0.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleTree {
    /// The nodes, each but the root a child of one other.
    pub nodes: Vec<EnsembleNode>,
}

/// One node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum EnsembleNode {
    /// An end: targets and what is added to each, in order.
    Leaf(Vec<(usize, f64)>),
    /// A question.
    Split {
        /// The column.
        feature: u32,
        /// The question.
        test: Test,
        /// Whether NaN answers it with yes, whatever the question.
        missing_yes: bool,
        /// The node for yes.
        yes: u32,
        /// The node for no.
        no: u32,
    },
}

/// The question of a split.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is the comparison of its name")]
pub enum Test {
    LessOrEqual(f64),
    Less(f64),
    GreaterOrEqual(f64),
    Greater(f64),
    Equal(f64),
    NotEqual(f64),
    /// Is the value one of these?
    Member(Vec<f64>),
}

impl Test {
    /// Answers the question for a value that is in the ensemble's precision.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        match self {
            Self::LessOrEqual(threshold) => value <= *threshold,
            Self::Less(threshold) => value < *threshold,
            Self::GreaterOrEqual(threshold) => value >= *threshold,
            Self::Greater(threshold) => value > *threshold,
            Self::Equal(threshold) => value == *threshold,
            Self::NotEqual(threshold) => value != *threshold,
            Self::Member(members) => members.contains(&value),
        }
    }
}

/// How leaves become the score of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// The most weights of leaves that a dense table may have, zeros included.
const TABLE_MAX: usize = 1 << 28;
/// The largest feature index: rows are not wider.
const FEATURE_MAX: i64 = 1 << 24;
/// How often the nodes of a tree may be shared, on average.
const COPIES_MAX: usize = 16;
/// The most targets or classes.
const TARGETS_MAX: usize = 1 << 16;

impl TreeEnsemble {
    /// Tells whether some leaf adds to no target.
    pub(crate) fn has_empty_leaf(&self) -> bool {
        let mut nodes = self.trees.iter().flat_map(|tree| &tree.nodes);
        nodes.any(|node| matches!(node, EnsembleNode::Leaf(weights) if weights.is_empty()))
    }

    /// Returns the trees of the flat lists of `TreeEnsembleRegressor` and `TreeEnsembleClassifier`; `prefix` is `target` or
    /// `class`.
    pub(crate) fn read_flat(
        attributes: &Attributes<'_, '_>,
        prefix: &str,
        n_targets: usize,
    ) -> Result<Self, LoadError> {
        let tree_ids = attributes.ints("nodes_treeids")?;
        let node_ids = attributes.ints("nodes_nodeids")?;
        let lists = FlatLists {
            features: attributes.ints("nodes_featureids")?,
            modes: attributes.texts("nodes_modes")?,
            yes: attributes.ints("nodes_truenodeids")?,
            no: attributes.ints("nodes_falsenodeids")?,
            missing: attributes.ints("nodes_missing_value_tracks_true")?,
            values: attributes.reals("nodes_values")?,
        };
        attributes.ignore("nodes_hitrates");
        attributes.ignore("nodes_hitrates_as_tensor");
        lists.check(node_ids.len(), tree_ids.len())?;
        let mut places = HashMap::with_capacity(node_ids.len());
        let mut trees: Vec<Vec<usize>> = Vec::new();
        let mut previous = None;
        for (index, (&tree, &node)) in tree_ids.iter().zip(node_ids).enumerate() {
            if previous != Some(tree) {
                trees.push(Vec::new());
                previous = Some(tree);
            }
            let tree_index = trees.len().saturating_sub(1);
            let Some(members) = trees.last_mut() else {
                continue;
            };
            if places
                .insert((tree, node), (tree_index, members.len()))
                .is_some()
            {
                return Err(malformed(format!(
                    "node {node} of tree {tree} is there twice"
                )));
            }
            members.push(index);
        }
        let weights = read_weights(attributes, prefix, n_targets, &places)?;
        let is_double = lists.values.1 || weights.1;
        let mut weights = weights.0;
        let trees = trees.iter().enumerate().map(|(tree_index, members)| {
            let nodes = members.iter().enumerate().map(|(place, &index)| {
                let tree = tree_ids.get(index).copied().unwrap_or_default();
                let child = |id: i64| match places.get(&(tree, id)) {
                    Some(&(found, child)) if found == tree_index => index_u32(child),
                    _ => Err(malformed(format!("tree {tree} has no node {id}"))),
                };
                let leaf = || weights.remove(&(tree_index, place)).unwrap_or_default();
                lists.node(index, child, leaf)
            });
            nodes
                .collect::<Result<_, _>>()
                .map(|nodes| EnsembleTree { nodes })
        });
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        Self::checked(trees, n_targets, is_double)
    }

    /// Returns the trees of the lists of `TreeEnsemble`, version 5.
    pub(crate) fn read_v5(
        attributes: &Attributes<'_, '_>,
        n_targets: usize,
    ) -> Result<Self, LoadError> {
        let (splits, is_double) = tensor_reals(attributes, "nodes_splits")?;
        let (weights, _) = tensor_reals(attributes, "leaf_weights")?;
        let (members, _) = tensor_reals(attributes, "membership_values")?;
        attributes.ignore("nodes_hitrates");
        let modes = match attributes
            .tensor("nodes_modes")?
            .map(|tensor| tensor.values())
        {
            Some(coracle_tensor::Values::U8(modes)) => modes.as_slice(),
            _ => return Err(malformed("attribute 'nodes_modes' is no tensor of UINT8")),
        };
        let lists = ListsV5 {
            features: attributes.ints("nodes_featureids")?,
            yes: attributes.ints("nodes_truenodeids")?,
            no: attributes.ints("nodes_falsenodeids")?,
            yes_is_leaf: attributes.ints("nodes_trueleafs")?,
            no_is_leaf: attributes.ints("nodes_falseleafs")?,
            missing: attributes.ints("nodes_missing_value_tracks_true")?,
            targets: attributes.ints("leaf_targetids")?,
            tests: tests_v5(modes, &splits, &members)?,
            weights,
        };
        let roots = attributes.ints("tree_roots")?;
        let trees = roots.iter().map(|&root| lists.tree(root, n_targets));
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        Self::checked(trees, n_targets, is_double)
    }

    fn checked(
        trees: Vec<EnsembleTree>,
        n_targets: usize,
        is_double: bool,
    ) -> Result<Self, LoadError> {
        if n_targets == 0 || n_targets > TARGETS_MAX {
            return Err(limit(format!(
                "{n_targets} targets or classes, 1 to {TARGETS_MAX} are served"
            )));
        }
        if trees.is_empty() {
            return Err(malformed("the ensemble has no trees"));
        }
        let trees = trees.iter().map(EnsembleTree::unfolded);
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        let nodes = trees.iter().flat_map(|tree| &tree.nodes);
        let features = nodes.clone().filter_map(|node| match node {
            EnsembleNode::Split { feature, .. } => Some(*feature),
            EnsembleNode::Leaf(_) => None,
        });
        let widest = features.max().unwrap_or(0);
        let n_features = usize::try_from(widest)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let n_cells = nodes.count().checked_mul(n_targets);
        if n_cells.is_none_or(|n_cells| n_cells > TABLE_MAX) {
            return Err(limit(format!(
                "the leaves' weights for {n_targets} targets make more than {TABLE_MAX} numbers"
            )));
        }
        Ok(Self {
            n_features,
            n_targets,
            is_double,
            trees,
        })
    }

    /// Tells for each target whether every row gets a weight for it, from at least one tree.
    pub(crate) fn always_scored(&self) -> Vec<bool> {
        let mut always = vec![false; self.n_targets];
        for tree in &self.trees {
            let mut n_leaves = 0_usize;
            let mut counts = vec![0_usize; self.n_targets];
            for node in &tree.nodes {
                let EnsembleNode::Leaf(weights) = node else {
                    continue;
                };
                n_leaves = n_leaves.saturating_add(1);
                let mut targets: Vec<usize> = weights.iter().map(|&(target, _)| target).collect();
                targets.sort_unstable();
                targets.dedup();
                for target in targets {
                    if let Some(count) = counts.get_mut(target) {
                        *count = count.saturating_add(1);
                    }
                }
            }
            for (always, count) in always.iter_mut().zip(counts) {
                *always |= count >= n_leaves && n_leaves > 0;
            }
        }
        always
    }

    /// Tells for each target whether any leaf names it.
    pub(crate) fn named(&self) -> Vec<bool> {
        let mut named = vec![false; self.n_targets];
        for (target, _) in self.weights() {
            if let Some(named) = named.get_mut(target) {
                *named = true;
            }
        }
        named
    }

    /// Tells whether all weights of leaves are at least zero.
    pub(crate) fn all_positive(&self) -> bool {
        self.weights().all(|(_, weight)| weight >= 0.0)
    }

    fn weights(&self) -> impl Iterator<Item = (usize, f64)> {
        let nodes = self.trees.iter().flat_map(|tree| &tree.nodes);
        nodes.flat_map(|node| match node {
            EnsembleNode::Leaf(weights) => weights.iter().copied(),
            EnsembleNode::Split { .. } => [].iter().copied(),
        })
    }
}

impl EnsembleTree {
    /// Returns the tree level by level, with a copy of each node for each of its parents: exporters let the questions "is it
    /// this category, or that one?" share what follows.
    fn unfolded(&self) -> Result<Self, LoadError> {
        let most = self.nodes.len().saturating_mul(COPIES_MAX);
        let mut sources = vec![0_usize];
        let mut nodes = Vec::with_capacity(self.nodes.len());
        while let Some(&source) = sources.get(nodes.len()) {
            let node = match self.nodes.get(source) {
                Some(EnsembleNode::Split { .. }) => self.merged(source),
                Some(leaf) => Some(leaf.clone()),
                None => None,
            };
            let mut node = node.ok_or_else(|| malformed("a child that is not there"))?;
            if let EnsembleNode::Split { yes, no, .. } = &mut node {
                for child in [yes, no] {
                    let place = index_u32(sources.len())?;
                    sources.push(usize::try_from(*child).unwrap_or(usize::MAX));
                    *child = place;
                }
            }
            nodes.push(node);
            if sources.len() > most {
                return Err(malformed(format!(
                    "a tree has a cycle, or shares nodes more than {COPIES_MAX} times"
                )));
            }
        }
        Ok(Self { nodes })
    }

    /// Returns a split, together with those after it that ask for another value of the same column and go to the same node.
    fn merged(&self, source: usize) -> Option<EnsembleNode> {
        let mut merged = self.nodes.get(source)?.clone();
        let EnsembleNode::Split {
            feature,
            test,
            missing_yes,
            yes,
            no,
        } = &mut merged
        else {
            return Some(merged);
        };
        let Test::Equal(value) = *test else {
            return Some(merged);
        };
        let mut members = vec![value];
        // Not longer than all nodes: a cycle ends it too.
        while members.len() < self.nodes.len() {
            let next = usize::try_from(*no).ok().and_then(|no| self.nodes.get(no));
            match next {
                Some(EnsembleNode::Split {
                    feature: next_feature,
                    test: Test::Equal(value),
                    missing_yes: next_missing,
                    yes: next_yes,
                    no: next_no,
                }) if next_feature == feature && next_yes == yes => {
                    members.push(*value);
                    *missing_yes |= next_missing;
                    *no = *next_no;
                }
                _ => break,
            }
        }
        if members.len() > 1 {
            *test = Test::Member(members);
        }
        Some(merged)
    }
}

fn index_u32(index: usize) -> Result<u32, LoadError> {
    u32::try_from(index).map_err(|_too_many| limit("a tree of more than 2^32 nodes"))
}

/// Weights by tree and node.
type Weights = HashMap<(usize, usize), Vec<(usize, f64)>>;

fn read_weights(
    attributes: &Attributes<'_, '_>,
    prefix: &str,
    n_targets: usize,
    places: &HashMap<(i64, i64), (usize, usize)>,
) -> Result<(Weights, bool), LoadError> {
    let ids = attributes.ints(&format!("{prefix}_ids"))?;
    let trees = attributes.ints(&format!("{prefix}_treeids"))?;
    let nodes = attributes.ints(&format!("{prefix}_nodeids"))?;
    let (weights, is_double) = attributes.reals(&format!("{prefix}_weights"))?;
    if [trees.len(), nodes.len(), weights.len()] != [ids.len(); 3] {
        return Err(malformed(format!(
            "{} {prefix}_ids, {} {prefix}_treeids, {} {prefix}_nodeids and {} {prefix}_weights; there must be as many of each",
            ids.len(),
            trees.len(),
            nodes.len(),
            weights.len()
        )));
    }
    let mut by_node = Weights::new();
    for (((&target, tree), node), &weight) in ids.iter().zip(trees).zip(nodes).zip(&weights) {
        let place = places.get(&(*tree, *node)).ok_or_else(|| {
            malformed(format!(
                "a weight of node {node} of tree {tree}, which is not there"
            ))
        })?;
        by_node
            .entry(*place)
            .or_default()
            .push((target_index(target, n_targets)?, weight));
    }
    Ok((by_node, is_double))
}

fn target_index(target: i64, n_targets: usize) -> Result<usize, LoadError> {
    let index = usize::try_from(target)
        .ok()
        .filter(|&index| index < n_targets);
    index.ok_or_else(|| malformed(format!("a leaf adds to target {target} of {n_targets}")))
}

fn feature_index(feature: i64) -> Result<u32, LoadError> {
    let index = Some(feature).filter(|feature| (0..=FEATURE_MAX).contains(feature));
    let index = index.and_then(|feature| u32::try_from(feature).ok());
    index.ok_or_else(|| {
        malformed(format!(
            "a split on feature {feature}; 0 to {FEATURE_MAX} are read"
        ))
    })
}

/// The lists of versions 1 and 3.
struct FlatLists<'n, 'a> {
    features: &'n [i64],
    modes: &'n [&'a [u8]],
    yes: &'n [i64],
    no: &'n [i64],
    missing: &'n [i64],
    values: (Vec<f64>, bool),
}

impl FlatLists<'_, '_> {
    fn check(&self, n_nodes: usize, n_tree_ids: usize) -> Result<(), LoadError> {
        let lengths = [
            n_tree_ids,
            self.features.len(),
            self.modes.len(),
            self.yes.len(),
            self.no.len(),
            self.values.0.len(),
        ];
        let is_sound = lengths.iter().all(|&length| length == n_nodes)
            && (self.missing.is_empty() || self.missing.len() == n_nodes);
        if is_sound {
            return Ok(());
        }
        Err(malformed(format!(
            "{n_nodes} nodes_nodeids, but other lists of nodes have {lengths:?} and {} items",
            self.missing.len()
        )))
    }

    fn node(
        &self,
        index: usize,
        child: impl Fn(i64) -> Result<u32, LoadError>,
        leaf: impl FnOnce() -> Vec<(usize, f64)>,
    ) -> Result<EnsembleNode, LoadError> {
        let at = |list: &[i64]| list.get(index).copied().unwrap_or_default();
        let value = self.values.0.get(index).copied().unwrap_or_default();
        let test = match self.modes.get(index).copied().unwrap_or_default() {
            b"LEAF" => return Ok(EnsembleNode::Leaf(leaf())),
            b"BRANCH_LEQ" => Test::LessOrEqual(value),
            b"BRANCH_LT" => Test::Less(value),
            b"BRANCH_GTE" => Test::GreaterOrEqual(value),
            b"BRANCH_GT" => Test::Greater(value),
            b"BRANCH_EQ" => Test::Equal(value),
            b"BRANCH_NEQ" => Test::NotEqual(value),
            other => {
                let mode = String::from_utf8_lossy(other).into_owned();
                return Err(unsupported(format!("nodes of mode '{mode}'")));
            }
        };
        Ok(EnsembleNode::Split {
            feature: feature_index(at(self.features))?,
            test,
            missing_yes: at(self.missing) == 1,
            yes: child(at(self.yes))?,
            no: child(at(self.no))?,
        })
    }
}

fn tensor_reals(
    attributes: &Attributes<'_, '_>,
    name: &str,
) -> Result<(Vec<f64>, bool), LoadError> {
    match attributes.tensor(name)? {
        None => Ok((Vec::new(), false)),
        Some(tensor) => real_tensor(name, tensor),
    }
}

fn tests_v5(modes: &[u8], splits: &[f64], members: &[f64]) -> Result<Vec<Test>, LoadError> {
    if modes.len() != splits.len() {
        return Err(malformed(format!(
            "{} nodes_modes for {} nodes_splits",
            modes.len(),
            splits.len()
        )));
    }
    // The sets of one node after another, with NaN between them.
    let mut sets = members.split(|value| value.is_nan());
    let tests = modes.iter().zip(splits).map(|(&mode, &split)| {
        Ok(match mode {
            0 => Test::LessOrEqual(split),
            1 => Test::Less(split),
            2 => Test::GreaterOrEqual(split),
            3 => Test::Greater(split),
            4 => Test::Equal(split),
            5 => Test::NotEqual(split),
            6 => {
                let set = sets.next().filter(|set| !set.is_empty());
                let set = set.ok_or_else(|| malformed("a node of members has no members"))?;
                Test::Member(set.to_vec())
            }
            other => return Err(unsupported(format!("nodes of mode {other}"))),
        })
    });
    tests.collect()
}

/// The lists of version 5.
struct ListsV5<'n> {
    features: &'n [i64],
    yes: &'n [i64],
    no: &'n [i64],
    yes_is_leaf: &'n [i64],
    no_is_leaf: &'n [i64],
    missing: &'n [i64],
    targets: &'n [i64],
    tests: Vec<Test>,
    weights: Vec<f64>,
}

impl ListsV5<'_> {
    /// Collects the tree whose root is at `root`; a tree may not have more nodes than all lists.
    fn tree(&self, root: i64, n_targets: usize) -> Result<EnsembleTree, LoadError> {
        let at = |list: &[i64], index: usize| list.get(index).copied();
        let root_index = usize::try_from(root).unwrap_or(usize::MAX);
        // A tree of one leaf has a node whose children are the same leaf.
        let is_stump = at(self.yes_is_leaf, root_index) == Some(1)
            && at(self.no_is_leaf, root_index) == Some(1)
            && at(self.yes, root_index) == at(self.no, root_index);
        let mut pending = vec![(root, is_stump)];
        if let (true, Some(leaf)) = (is_stump, at(self.yes, root_index)) {
            pending = vec![(leaf, true)];
        }
        let most = self.tests.len().saturating_add(self.targets.len());
        let mut nodes = Vec::new();
        let mut next = 0_usize;
        while let Some(&(index, is_leaf)) = pending.get(next) {
            next = next.saturating_add(1);
            if next > most {
                return Err(malformed(format!(
                    "the tree at {root} has a cycle or shared nodes"
                )));
            }
            let missing_node =
                || malformed(format!("the tree at {root} has no node or leaf {index}"));
            let index = usize::try_from(index).map_err(|_negative| missing_node())?;
            if is_leaf {
                let target = at(self.targets, index).ok_or_else(missing_node)?;
                let weight = *self.weights.get(index).ok_or_else(missing_node)?;
                let target = target_index(target, n_targets)?;
                nodes.push(EnsembleNode::Leaf(vec![(target, weight)]));
                continue;
            }
            let list = |list: &[i64]| at(list, index).ok_or_else(missing_node);
            let yes = index_u32(pending.len())?;
            pending.push((list(self.yes)?, list(self.yes_is_leaf)? == 1));
            let no = index_u32(pending.len())?;
            pending.push((list(self.no)?, list(self.no_is_leaf)? == 1));
            nodes.push(EnsembleNode::Split {
                feature: feature_index(list(self.features)?)?,
                test: self.tests.get(index).ok_or_else(missing_node)?.clone(),
                missing_yes: at(self.missing, index) == Some(1),
                yes,
                no,
            });
        }
        Ok(EnsembleTree { nodes })
    }
}
