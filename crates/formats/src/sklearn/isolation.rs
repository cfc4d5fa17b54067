//! Isolation forests: how soon random splits set a row apart.

use std::sync::Arc;

use coracle_estimators::{Choice, Mapped, Pointwise, TableFn};
use coracle_forest::{ForestSpec, NodeSpec, Precision, Target, TreeSpec};
use coracle_model::LoadError;

use super::Version;
use super::convert::Part;
use super::ensembles;
use super::fitted::Fitted;
use super::numbers::exact;
use super::{svm, tree};

/// Converts IsolationForest.
pub(super) fn convert(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let columns = ensembles::feature_lists(fitted)?;
    let members = fitted.list("estimators_")?;
    if members.len() != columns.len() || members.is_empty() {
        return Err(fitted.malformed("'estimators_features_' has another length"));
    }
    if fitted.version.is_up_to_zero(18) && !reads_all_in_order(&columns, fitted.n_features()?) {
        return Err(
            fitted.unsupported("scikit-learn 0.18 has no answers with max_features below 1")
        );
    }
    let mut trees = Vec::with_capacity(members.len());
    let mut summary = Vec::new();
    for (index, (&member, columns)) in members.iter().zip(&columns).enumerate() {
        let member = fitted.part(member, &format!("estimators_[{index}]"))?;
        trees.push(isolation_tree(&member, columns)?);
        if summary.is_empty() {
            summary.push(tree::member_summary(&member, members.len()));
        }
    }
    let sample = match fitted.version.is_from(3) {
        true => fitted.count("_max_samples")?,
        false => fitted.count("max_samples_")?,
    };
    let depth = exact(trees.len()) * average_path_length(fitted.version, exact(sample));
    // From 1.6 on rows are not checked.
    let takes_all = fitted.version.is_from(6);
    let spec = ForestSpec {
        n_features: fitted.n_features()?,
        n_scores: 1,
        precision: Precision::Single,
        summation: Precision::Double,
        base: vec![0.0],
        divisor: None,
        accepts_missing: takes_all,
        accepts_infinite: takes_all,
        trees,
    };
    let forest = tree::compile(fitted, spec)?;
    let facts = tree::facts(&forest, None);
    let scores = Mapped::new(Arc::new(forest), Pointwise::Isolation(depth));
    let part = detector(fitted, Arc::new(scores))?;
    Ok(Part {
        facts,
        children: summary,
        ..part
    })
}

/// Says whether each of the trees reads every column, in order.
fn reads_all_in_order(columns: &[Vec<usize>], n_features: usize) -> bool {
    let is_all = |columns: &Vec<usize>| columns.iter().copied().eq(0..n_features);
    columns.iter().all(is_all)
}

/// Returns the detector; up to 0.21 (with `behaviour="old"`, if there is a choice) its decisions have a threshold other than zero.
fn detector(fitted: &Fitted<'_>, scores: Arc<dyn TableFn>) -> Result<Part, LoadError> {
    // The threshold may be the score of rows of the training data, which count as inliers (up to 0.19 as outliers): powers differ in the last bit
    // between releases of numpy.
    let snapped = |to| Arc::new(Mapped::new(scores, Pointwise::Snapped(to)));
    if fitted.version.is_up_to_zero(19) {
        let threshold = fitted.number("threshold_")?;
        let decision: Arc<dyn TableFn> =
            Arc::new(Mapped::new(snapped(threshold - 0.5), Pointwise::Add(0.5)));
        return svm::novelty_without_scores(fitted, decision, Choice::Above(threshold));
    }
    let has_choice = fitted.version.is_up_to_zero(21);
    let threshold = match has_choice && fitted.text("behaviour")? == "old" {
        true => fitted.number("_threshold_")?,
        false => 0.0,
    };
    let offset = fitted.number("offset_")?;
    svm::novelty_above(fitted, snapped(offset + threshold), offset, threshold)
}

/// Reads a tree whose leaves hold how many splits they stand for.
fn isolation_tree(member: &Fitted<'_>, columns: &[usize]) -> Result<TreeSpec, LoadError> {
    let mut nodes = tree::nodes_of(member)?;
    let inner = member.part_in("tree_")?;
    let sizes = inner
        .array("nodes")?
        .field("n_node_samples")
        .and_then(|column| column.to_i64s())
        .ok_or_else(|| inner.malformed("nodes have no field 'n_node_samples'"))?;
    let mut depths = vec![1.0_f64; nodes.len()];
    let mut values = Vec::with_capacity(nodes.len());
    for (index, (node, &size)) in nodes.iter_mut().zip(&sizes).enumerate() {
        let depth = depths.get(index).copied().unwrap_or_default();
        match node {
            NodeSpec::Leaf => {
                let size = exact(usize::try_from(size).unwrap_or_default());
                values.push(depth + average_path_length(member.version, size) - 1.0);
            }
            NodeSpec::Split {
                feature,
                left,
                right,
                ..
            } => {
                values.push(0.0);
                for child in [*left, *right] {
                    let child = usize::try_from(child).unwrap_or(usize::MAX);
                    if let Some(child) = depths.get_mut(child) {
                        *child = depth + 1.0;
                    }
                }
                let column = usize::try_from(*feature)
                    .ok()
                    .and_then(|at| columns.get(at));
                let column = column.and_then(|&column| u32::try_from(column).ok());
                *feature = column
                    .ok_or_else(|| inner.malformed(format!("node {index}: no such feature")))?;
            }
        }
    }
    if values.len() != nodes.len() {
        return Err(inner.malformed("nodes differ in number"));
    }
    Ok(TreeSpec {
        nodes,
        values,
        target: Target::AllScores,
    })
}

/// The mean number of splits that a tree of `n` rows needs to set one apart.
fn average_path_length(version: &Version, n: f64) -> f64 {
    const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;
    const EULER_GAMMA_TO_TEN_DIGITS: f64 = 0.577_215_664_9;
    if version.is_up_to_zero(20) {
        if n <= 1.0 {
            return 1.0;
        }
        let (others, gamma) = match version.is_up_to_zero(18) {
            true => (n, EULER_GAMMA_TO_TEN_DIGITS),
            false => (n - 1.0, EULER_GAMMA),
        };
        return 2.0 * (others.ln() + gamma) - 2.0 * (n - 1.0) / n;
    }
    if n <= 1.0 {
        0.0
    } else if n == 2.0 {
        1.0
    } else {
        2.0 * ((n - 1.0).ln() + EULER_GAMMA) - 2.0 * (n - 1.0) / n
    }
}
