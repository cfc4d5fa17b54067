//! Decision trees and forests of them.

use std::sync::Arc;

use coracle_estimators::{
    Classifier, Decision, Facet, InverseLink, Labels, Link, Mapped, Pointwise, Regressor, Rule,
    TableFn,
};
use coracle_forest::{Forest, ForestSpec, NodeSpec, Precision, SplitRule, Target, TreeSpec};
use coracle_model::{Component, LoadError, LoadErrorKind, Method, Width};
use coracle_pickle::Array;
use coracle_tensor::Values;

use super::convert::Part;
use super::ensembles;
use super::fitted::Fitted;
use super::labels::{labels, labels_of_outputs};

/// What a leaf of a tree holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafKind {
    /// A probability per class.
    Probabilities { n_classes: usize },
    /// A value per output.
    Values { n_outputs: usize },
    /// A probability per class of each output; outputs of fewer classes are filled up.
    Table { n_outputs: usize, n_classes: usize },
}

impl LeafKind {
    fn width(self) -> usize {
        match self {
            Self::Probabilities { n_classes } => n_classes,
            Self::Values { n_outputs } => n_outputs,
            Self::Table {
                n_outputs,
                n_classes,
            } => n_outputs.saturating_mul(n_classes),
        }
    }
}

/// `sklearn.tree._tree.TREE_LEAF`: the child of a leaf.
const NO_CHILD: i64 = -1;

/// Converts a decision tree or extra tree classifier.
pub(super) fn classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if let Some(labels) = labels_of_outputs(fitted)? {
        let labels = as_older_releases_answer(fitted, labels)?;
        let forest = single(fitted, table_leaf(&labels))?;
        return table_classifier(fitted, forest, labels);
    }
    let labels = labels(fitted)?;
    let leaf = LeafKind::Probabilities {
        n_classes: labels.len(),
    };
    let forest = single(fitted, leaf)?;
    let facts = facts(&forest, Some(labels.len()));
    let classifier = Classifier::try_new(
        Box::new(forest),
        Some(Link::Identity),
        Decision::LargestProbability,
        labels,
    )
    .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part::new(classifier, facts))
}

/// Converts a decision tree or extra tree regressor.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_outputs = fitted.count("n_outputs_")?;
    let forest = single(fitted, LeafKind::Values { n_outputs })?;
    let facts = facts(&forest, None);
    let regressor = Regressor::new(Box::new(forest), InverseLink::Identity, width(n_outputs));
    Ok(Part::new(regressor, facts))
}

/// Converts a random forest or extra trees classifier.
pub(super) fn forest_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if let Some(labels) = labels_of_outputs(fitted)? {
        let labels = as_older_releases_answer(fitted, labels)?;
        let (forest, children) = averaged(fitted, table_leaf(&labels))?;
        let part = table_classifier(fitted, forest, labels)?;
        return Ok(Part { children, ..part });
    }
    let labels = labels(fitted)?;
    let leaf = LeafKind::Probabilities {
        n_classes: labels.len(),
    };
    let (forest, children) = averaged(fitted, leaf)?;
    let facts = facts(&forest, Some(labels.len()));
    let classifier = Classifier::try_new(
        Box::new(forest),
        Some(Link::Identity),
        Decision::LargestProbability,
        labels,
    )
    .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part {
        children,
        ..Part::new(classifier, facts)
    })
}

/// Converts a random forest or extra trees regressor.
pub(super) fn forest_regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_outputs = fitted.count("n_outputs_")?;
    let (forest, children) = averaged(fitted, LeafKind::Values { n_outputs })?;
    let facts = facts(&forest, None);
    let regressor = Regressor::new(Box::new(forest), InverseLink::Identity, width(n_outputs));
    Ok(Part {
        children,
        ..Part::new(regressor, facts)
    })
}

/// Up to 0.20 the labels of several outputs were answered as doubles.
fn as_older_releases_answer(
    fitted: &Fitted<'_>,
    labels: Vec<Labels>,
) -> Result<Vec<Labels>, LoadError> {
    if !fitted.version.is_up_to_zero(20) {
        return Ok(labels);
    }
    let doubles = labels.into_iter().map(|labels| match labels.values() {
        Values::F64(_) => Some(labels),
        Values::I64(values) => {
            let doubles = values.iter().map(|value| value.to_string().parse().ok());
            let doubles: Option<Vec<f64>> = doubles.collect();
            Some(Labels::new(Values::F64(doubles?.into())))
        }
        Values::Bool(values) => {
            let doubles = values.iter().map(|&value| f64::from(u8::from(value)));
            Some(Labels::new(Values::F64(doubles.collect())))
        }
        _ => None,
    });
    let doubles: Option<Vec<Labels>> = doubles.collect();
    doubles.ok_or_else(|| {
        fitted
            .unsupported("several outputs up to 0.20 have labels that are numbers or truth values")
    })
}

fn table_leaf(labels: &[Labels]) -> LeafKind {
    LeafKind::Table {
        n_outputs: labels.len(),
        n_classes: labels.iter().map(Labels::len).max().unwrap_or_default(),
    }
}

/// Returns a classifier of several outputs; outputs of fewer classes are filled up with probabilities of zero.
fn table_classifier(
    fitted: &Fitted<'_>,
    forest: Forest,
    labels: Vec<Labels>,
) -> Result<Part, LoadError> {
    let facts = facts(&forest, None);
    let spec = |error| fitted.spec(error);
    let width = labels.iter().map(Labels::len).max().unwrap_or_default();
    let sizes: Vec<usize> = labels.iter().map(Labels::len).collect();
    let shape = [labels.len(), width];
    let rule = Rule::LargestOfEach { width, sizes };
    let forest: Arc<dyn TableFn> = Arc::new(forest);
    let logarithms = Arc::new(Mapped::new(Arc::clone(&forest), Pointwise::Ln));
    let classes = ensembles::after(fitted, Arc::clone(&forest), rule)?;
    let facets = [
        Facet::class_table(classes, labels),
        Facet::outputs(Method::PredictProba, forest, shape),
        Facet::outputs(Method::PredictLogProba, logarithms, shape),
    ];
    let facets: Result<Vec<Facet>, LoadError> = facets
        .into_iter()
        .map(|facet| facet.map_err(spec))
        .collect();
    let part = fitted.faceted(facets?)?;
    Ok(Part { facts, ..part })
}

fn width(n_outputs: usize) -> Width {
    match n_outputs {
        1 => Width::Scalar,
        n_outputs => Width::Columns(n_outputs),
    }
}

/// Returns what a compiled forest is, for the description.
pub(super) fn facts(forest: &Forest, n_classes: Option<usize>) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    if let Some(n_classes) = n_classes {
        facts.push(("classes".to_owned(), n_classes.to_string()));
    }
    facts.push(("trees".to_owned(), forest.n_trees().to_string()));
    facts.push(("nodes".to_owned(), forest.n_nodes().to_string()));
    facts.push(("kernel".to_owned(), forest.kernel().as_str().to_owned()));
    facts
}

fn single(fitted: &Fitted<'_>, leaf: LeafKind) -> Result<Forest, LoadError> {
    let tree = read_tree(fitted, leaf, Target::AllScores, 1.0)?;
    compile(
        fitted,
        ForestSpec {
            n_features: fitted.n_features()?,
            n_scores: leaf.width(),
            precision: Precision::Single,
            summation: Precision::Double,
            base: vec![0.0; leaf.width()],
            divisor: None,
            accepts_missing: accepts_missing(fitted, 3)?,
            accepts_infinite: false,
            trees: vec![tree],
        },
    )
}

fn averaged(fitted: &Fitted<'_>, leaf: LeafKind) -> Result<(Forest, Vec<Component>), LoadError> {
    let members = fitted.list("estimators_")?;
    let mut trees = Vec::with_capacity(members.len());
    let mut missing = true;
    let mut summary = Vec::new();
    for (index, &member) in members.iter().enumerate() {
        let member = fitted.part(member, &format!("estimators_[{index}]"))?;
        missing = missing && accepts_missing(&member, 4)?;
        trees.push(read_tree(&member, leaf, Target::AllScores, 1.0)?);
        if summary.is_empty() {
            summary.push(member_summary(&member, members.len()));
        }
    }
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "a number of trees"
    )]
    let divisor = trees.len() as f64;
    if trees.is_empty() {
        return Err(fitted.malformed("there are no trees"));
    }
    let spec = ForestSpec {
        n_features: fitted.n_features()?,
        n_scores: leaf.width(),
        precision: Precision::Single,
        summation: Precision::Double,
        base: vec![0.0; leaf.width()],
        divisor: Some(divisor),
        accepts_missing: missing,
        accepts_infinite: false,
        trees,
    };
    Ok((compile(fitted, spec)?, summary))
}

/// Returns one child that stands for all trees of an ensemble.
pub(super) fn member_summary(member: &Fitted<'_>, n_members: usize) -> Component {
    Component {
        name: format!("{n_members} x"),
        class: member.short_class().to_owned(),
        parameters: super::describe::parameters(member),
        facts: Vec::new(),
        children: Vec::new(),
    }
}

/// Checks and compiles a forest.
pub(super) fn compile(fitted: &Fitted<'_>, spec: ForestSpec) -> Result<Forest, LoadError> {
    Forest::try_new(&spec).map_err(|error| fitted.malformed(error.to_string()))
}

/// Tells whether a tree takes missing values, as its release decides from its parameters.
///
/// `from_minor` is the release from which this kind of estimator takes them at all: 1.3 for a tree, 1.4 in a
/// forest; trees with random splits follow in 1.6, the remaining criteria and those with monotonic constraints in 1.9.
pub(super) fn accepts_missing(tree: &Fitted<'_>, from_minor: u32) -> Result<bool, LoadError> {
    let is_constrained = !tree.is_none("monotonic_cst") && !tree.version.is_from(9);
    if !tree.version.is_from(from_minor) || is_constrained {
        return Ok(false);
    }
    let splitter_does = match tree.text("splitter")?.as_str() {
        "best" => true,
        "random" => tree.version.is_from(6),
        _ => false,
    };
    let criteria = [
        "gini",
        "entropy",
        "log_loss",
        "squared_error",
        "friedman_mse",
        "poisson",
    ];
    let criterion_does =
        tree.version.is_from(9) || criteria.contains(&tree.text("criterion")?.as_str());
    Ok(splitter_does && criterion_does)
}

/// Reads the tree in attribute `tree_`; leaf values are multiplied by `scale`.
pub(super) fn read_tree(
    fitted: &Fitted<'_>,
    leaf: LeafKind,
    target: Target,
    scale: f64,
) -> Result<TreeSpec, LoadError> {
    let tree = fitted.part_in("tree_")?;
    if tree.class() != "sklearn.tree._tree.Tree" {
        return Err(tree.malformed("is not a tree"));
    }
    let columns = NodeColumns::read(&tree)?;
    let nodes = columns.nodes(&tree)?;
    let values = leaf_values(&tree, leaf, nodes.len(), scale)?;
    Ok(TreeSpec {
        nodes,
        values,
        target,
    })
}

/// Reads the nodes of the tree in attribute `tree_`.
pub(super) fn nodes_of(fitted: &Fitted<'_>) -> Result<Vec<NodeSpec>, LoadError> {
    let tree = fitted.part_in("tree_")?;
    NodeColumns::read(&tree)?.nodes(&tree)
}

/// The node array's fields, by column.
struct NodeColumns {
    left: Vec<i64>,
    right: Vec<i64>,
    feature: Vec<i64>,
    threshold: Vec<f64>,
    missing_left: Option<Vec<i64>>,
}

impl NodeColumns {
    fn read(tree: &Fitted<'_>) -> Result<Self, LoadError> {
        let nodes = tree.array("nodes")?;
        let field = |name: &str| {
            let missing = || tree.malformed(format!("nodes have no field '{name}' of numbers"));
            nodes.field(name).ok_or_else(missing)
        };
        let integers = |name: &str| {
            let wrong = || tree.malformed(format!("field '{name}' of nodes is not an integer"));
            field(name)?.to_i64s().ok_or_else(wrong)
        };
        let wrong = || tree.malformed("field 'threshold' of nodes is not a number");
        Ok(Self {
            left: integers("left_child")?,
            right: integers("right_child")?,
            feature: integers("feature")?,
            threshold: field("threshold")?.to_f64s().ok_or_else(wrong)?,
            missing_left: nodes
                .field("missing_go_to_left")
                .and_then(|column: Array| column.to_i64s()),
        })
    }

    fn nodes(&self, tree: &Fitted<'_>) -> Result<Vec<NodeSpec>, LoadError> {
        let children = self.left.iter().zip(&self.right);
        let questions = self.feature.iter().zip(&self.threshold);
        let mut missing_left = self.missing_left.iter().flatten();
        let mut nodes = Vec::with_capacity(self.left.len());
        for (index, ((&left, &right), (&feature, &threshold))) in
            children.zip(questions).enumerate()
        {
            let missing_left = missing_left.next().is_some_and(|&flag| flag != 0);
            if left == NO_CHILD {
                nodes.push(NodeSpec::Leaf);
                continue;
            }
            let in_range = |what: &str, value: i64| {
                let wrong =
                    || tree.malformed(format!("node {index}: {what} {value} is out of range"));
                u32::try_from(value).map_err(|_negative_or_large| wrong())
            };
            nodes.push(NodeSpec::Split {
                feature: in_range("feature", feature)?,
                rule: SplitRule::LessOrEqual(threshold),
                missing_left,
                left: in_range("left child", left)?,
                right: in_range("right child", right)?,
            });
        }
        Ok(nodes)
    }
}

/// Reads the `(nodes, outputs, classes)` array of values as `(nodes, width)`.
fn leaf_values(
    tree: &Fitted<'_>,
    leaf: LeafKind,
    n_nodes: usize,
    scale: f64,
) -> Result<Vec<f64>, LoadError> {
    let (shape, mut values) = tree.numbers("values")?;
    let expected = match leaf {
        LeafKind::Probabilities { n_classes } => [n_nodes, 1, n_classes],
        LeafKind::Values { n_outputs } => [n_nodes, n_outputs, 1],
        LeafKind::Table {
            n_outputs,
            n_classes,
        } => [n_nodes, n_outputs, n_classes],
    };
    if shape != expected {
        let message = format!("values have shape {shape:?}, expected {expected:?}");
        return Err(tree.error(LoadErrorKind::Malformed, message));
    }
    // Up to 1.3 leaves hold weighted counts, which scikit-learn divides by their sum at every call.
    let is_classifier = !matches!(leaf, LeafKind::Values { .. });
    if is_classifier && !tree.version.is_from(4) {
        let [_, _, n_classes] = expected;
        for counts in values.chunks_exact_mut(n_classes.max(1)) {
            let sum: f64 = counts.iter().sum();
            let divisor = if sum == 0.0 { 1.0 } else { sum };
            counts.iter_mut().for_each(|count| *count /= divisor);
        }
    }
    if scale != 1.0 {
        values.iter_mut().for_each(|value| *value *= scale);
    }
    Ok(values)
}
