//! Building the tables: the intervals of each column, and which leaves each leaves possible.

use super::mask::Mask;
use crate::spec::{self, Precision};
use crate::tree::{Node, Rule, Tree};

/// A column that some split asks about.
#[derive(Debug)]
pub(super) struct Column {
    feature: u32,
    /// The row of masks of the first entry.
    first_entry: u32,
    kind: Kind,
}

/// What the entries of a column stand for; the last one is always "missing".
#[derive(Debug)]
enum Kind {
    /// Entry k: more than k thresholds are not below the value. Sorted, distinct.
    Intervals(Vec<f64>),
    /// Entries 0 to `n - 1`: the categories; entry `n`: any other value.
    Categories { n: usize, truncates: bool },
}

/// The most categories of a column: more would make the tables too large anyway.
const CATEGORIES_MAX: usize = 1 << 16;

/// The most thresholds that are counted one by one; more are searched by halves.
const COUNTED_MAX: usize = 48;

impl Column {
    /// Returns how many rows of masks the column has.
    pub(super) fn n_entries(&self) -> usize {
        match &self.kind {
            Kind::Intervals(thresholds) => thresholds.len() + 2,
            Kind::Categories { n, .. } => n + 2,
        }
    }

    /// Returns the row of masks for this column's value in `row`.
    #[inline(always)]
    pub(super) fn entry(&self, precision: Precision, row: &[f64]) -> u32 {
        let value = row[self.feature as usize];
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to single is the point"
        )]
        let value = match precision {
            Precision::Single => f64::from(value as f32),
            Precision::Double => value,
        };
        self.first_entry + self.offset(value)
    }

    #[inline(always)]
    fn offset(&self, value: f64) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "tables have fewer than 2^20 entries"
        )]
        let missing = || self.n_entries() as u32 - 1;
        match &self.kind {
            _ if value.is_nan() => missing(),
            Kind::Intervals(thresholds) if thresholds.len() <= COUNTED_MAX => thresholds
                .iter()
                .map(|&threshold| u32::from(value > threshold))
                .sum(),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "tables have fewer than 2^20 entries"
            )]
            Kind::Intervals(thresholds) => {
                thresholds.partition_point(|&threshold| value > threshold) as u32
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "tables have fewer than 2^20 entries"
            )]
            Kind::Categories { n, truncates } => {
                spec::category(value, *truncates).map_or(*n, |category| category.min(*n)) as u32
            }
        }
    }

    /// Returns a value that falls in entry `offset`.
    fn example(&self, offset: usize) -> f64 {
        if offset + 1 == self.n_entries() {
            return f64::NAN;
        }
        match &self.kind {
            // The interval up to and with threshold `offset`; above all of them after the last.
            Kind::Intervals(thresholds) => thresholds.get(offset).copied().unwrap_or(f64::INFINITY),
            Kind::Categories { n, .. } if offset == *n => -1.0,
            #[expect(clippy::cast_precision_loss, reason = "at most 2^16")]
            Kind::Categories { .. } => offset as f64,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let thresholds = match &self.kind {
            Kind::Intervals(thresholds) => thresholds.capacity() * size_of::<f64>(),
            Kind::Categories { .. } => 0,
        };
        thresholds + size_of::<Self>()
    }
}

/// Returns the columns that splits ask about; `None` if one is asked about both by threshold and by category,
/// or by category in two ways.
pub(super) fn columns(trees: &[Tree]) -> Option<Vec<Column>> {
    let mut questions: Vec<(u32, &Rule)> = Vec::new();
    for node in trees.iter().flat_map(|tree| &tree.nodes) {
        if let Node::Split { feature, rule, .. } = node {
            questions.push((*feature, rule));
        }
    }
    questions.sort_by_key(|question| question.0);
    let mut columns = Vec::new();
    let mut first_entry: usize = 1;
    for group in questions.chunk_by(|a, b| a.0 == b.0) {
        let column = Column {
            feature: group.first()?.0,
            first_entry: u32::try_from(first_entry).ok()?,
            kind: kind(group.iter().map(|question| question.1))?,
        };
        first_entry += column.n_entries();
        columns.push(column);
    }
    Some(columns)
}

/// Returns what the rules of one column ask about.
fn kind<'a>(rules: impl Iterator<Item = &'a Rule>) -> Option<Kind> {
    let mut thresholds = Vec::new();
    let mut categories: Option<(usize, bool)> = None;
    for rule in rules {
        let (n, truncates) = match rule {
            Rule::LessOrEqual(threshold) => {
                thresholds.push(*threshold);
                continue;
            }
            Rule::Categories(_) => (256, false),
            Rule::Members(members) => (members.bits.len() * 32, members.truncates),
            // Between two values lie others that are neither; walks are as good.
            Rule::Values(_) => return None,
        };
        let (n_before, truncates_before) = categories.unwrap_or((n, truncates));
        if truncates_before != truncates {
            return None;
        }
        categories = Some((n.max(n_before), truncates));
    }
    match categories {
        Some((n, truncates)) => (thresholds.is_empty() && n <= CATEGORIES_MAX)
            .then_some(Kind::Categories { n, truncates }),
        None => {
            thresholds.sort_by(f64::total_cmp);
            // Zero and minus zero are one threshold.
            thresholds.dedup_by(|a, b| a == b);
            Some(Kind::Intervals(thresholds))
        }
    }
}

/// Returns `(n_entries, trees)` masks: the leaves that the splits on an entry's column leave possible.
pub(super) fn build<M: Mask>(trees: &[Tree], columns: &[Column], n_entries: usize) -> Vec<M> {
    let mut masks = vec![M::NONE; n_entries * trees.len()];
    for (index, tree) in trees.iter().enumerate() {
        let all = leaf_range(0, tree.n_leaves);
        let left_leaves = left_subtrees(tree);
        masks[index] = M::from_u64(all);
        for column in columns {
            for offset in 0..column.n_entries() {
                let value = column.example(offset);
                let mut remaining = all;
                for (node, left_leaves) in tree.nodes.iter().zip(&left_leaves) {
                    if let Node::Split {
                        feature,
                        rule,
                        missing_left,
                        ..
                    } = node
                        && *feature == column.feature
                        && !rule.goes_left(value, *missing_left)
                    {
                        remaining &= !left_leaves;
                    }
                }
                let entry = column.first_entry as usize + offset;
                masks[entry * trees.len() + index] = M::from_u64(remaining);
            }
        }
    }
    masks
}

/// Returns for each node the leaves of its left subtree; 0 for leaves.
fn left_subtrees(tree: &Tree) -> Vec<u64> {
    // Children follow their parents, so going backwards meets children first.
    let mut below = vec![0_u64; tree.nodes.len()];
    let mut left_leaves = vec![0_u64; tree.nodes.len()];
    for (index, node) in tree.nodes.iter().enumerate().rev() {
        below[index] = match node {
            Node::Leaf(number) => 1 << number,
            Node::Split { left, .. } => {
                let left = *left as usize;
                left_leaves[index] = below[left];
                below[left] | below[left + 1]
            }
        };
    }
    left_leaves
}

/// Returns the set of leaves `start..end`.
fn leaf_range(start: usize, end: usize) -> u64 {
    (start..end).fold(0, |set, leaf| set | 1 << leaf)
}
