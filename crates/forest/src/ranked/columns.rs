//! The columns of a group of trees: their thresholds, and the ranks of values among them.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use std::collections::BTreeMap;

use super::batch::{LANES, Lanes};
use crate::instructions::Instructions;
use crate::traversal::Real;
use crate::tree::{Node, Rule, Tree};

/// The most thresholds of a column: ranks are bytes.
pub(super) const THRESHOLDS_MAX: usize = 255;

/// The columns that the splits of a group ask about.
#[derive(Debug)]
pub(super) struct Columns<T> {
    /// By feature.
    columns: Vec<Column>,
    /// The thresholds of all columns, each column's distinct and in order.
    thresholds: Vec<T>,
    n_planes: usize,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    feature: usize,
    /// Where its thresholds are.
    start: usize,
    end: usize,
    /// The plane of ranks in which a missing value goes left, if some split wants that.
    missing_left: Option<u16>,
    /// The plane in which it goes right.
    missing_right: Option<u16>,
}

/// A split in terms of ranks: a value goes right if its rank is above `rank`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RankSplit {
    /// The index of the column among the group's.
    pub(super) column: usize,
    /// The plane to look at.
    pub(super) plane: u16,
    pub(super) rank: u8,
}

/// What is known of a column while trees are looked at.
#[derive(Clone, Debug, Default)]
struct Found<T> {
    /// Distinct, in order.
    thresholds: Vec<T>,
    missing_left: bool,
    missing_right: bool,
}

impl<T: Real> Columns<T> {
    /// Returns the columns of as many of the first trees as fit, and their number; `None` if a split does not ask
    /// about a threshold, or the first tree does not fit.
    pub(super) fn of_first(trees: &[Tree]) -> Option<(Self, usize)> {
        let mut found = BTreeMap::new();
        let mut n_trees = 0;
        for tree in trees {
            if !add_tree(&mut found, tree)? {
                break;
            }
            n_trees += 1;
        }
        if n_trees == 0 {
            return None;
        }
        // The tree that did not fit has left thresholds behind: harmless, but they would be searched.
        if n_trees < trees.len() {
            found.clear();
            for tree in &trees[..n_trees] {
                add_tree(&mut found, tree)?;
            }
        }
        Some((Self::lay_out(found)?, n_trees))
    }

    fn lay_out(found: BTreeMap<u32, Found<T>>) -> Option<Self> {
        let mut columns = Self {
            columns: Vec::with_capacity(found.len()),
            thresholds: Vec::with_capacity(
                found.values().map(|found| found.thresholds.len()).sum(),
            ),
            n_planes: 0,
        };
        for (feature, found) in found {
            let start = columns.thresholds.len();
            columns.thresholds.extend_from_slice(&found.thresholds);
            let mut plane = |wanted: bool| -> Option<Option<u16>> {
                if !wanted {
                    return Some(None);
                }
                let plane = u16::try_from(columns.n_planes).ok()?;
                columns.n_planes += 1;
                Some(Some(plane))
            };
            let (missing_left, missing_right) =
                (plane(found.missing_left)?, plane(found.missing_right)?);
            columns.columns.push(Column {
                feature: feature as usize,
                start,
                end: columns.thresholds.len(),
                missing_left,
                missing_right,
            });
        }
        Some(columns)
    }

    /// Returns the number of planes of ranks.
    pub(super) fn n_planes(&self) -> usize {
        self.n_planes
    }

    /// Returns the number of columns.
    pub(super) fn n_columns(&self) -> usize {
        self.columns.len()
    }

    /// Returns the split of a node of the group's trees; `None` for leaves.
    pub(super) fn split(&self, node: &Node) -> Option<RankSplit> {
        let Node::Split {
            feature,
            rule: Rule::LessOrEqual(threshold),
            missing_left,
            ..
        } = node
        else {
            return None;
        };
        let feature = *feature as usize;
        let index = self
            .columns
            .binary_search_by_key(&feature, |column| column.feature)
            .ok()?;
        let column = &self.columns[index];
        let threshold = T::round(*threshold);
        let thresholds = &self.thresholds[column.start..column.end];
        let rank = thresholds.partition_point(|&other| threshold > other);
        Some(RankSplit {
            column: index,
            plane: if *missing_left {
                column.missing_left?
            } else {
                column.missing_right?
            },
            rank: u8::try_from(rank).ok()?,
        })
    }

    /// Writes the rank of each column's value in `row`, that of a missing value being 0; returns whether one is missing.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn rank_row(&self, row: &[f64], ranks: &mut [Lanes]) -> bool {
        let mut is_missing = false;
        for (column, rank) in self
            .columns
            .iter()
            .zip(ranks.iter_mut().flat_map(|lanes| &mut lanes.0))
        {
            let value = T::round(row[column.feature]);
            is_missing |= value.is_missing();
            *rank = rank_of(&self.thresholds[column.start..column.end], value);
        }
        is_missing
    }

    /// Writes which columns' values are missing in `row`, 255 for yes.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn missing_row(&self, row: &[f64], missing: &mut [Lanes]) {
        for (column, missing) in self
            .columns
            .iter()
            .zip(missing.iter_mut().flat_map(|lanes| &mut lanes.0))
        {
            *missing = if row[column.feature].is_nan() { 255 } else { 0 };
        }
    }

    /// Writes the ranks of at most `V` vectors of rows, plane by plane.
    pub(super) fn rank_many<const V: usize>(
        &self,
        instructions: Instructions,
        rows: &[f64],
        n_features: usize,
        planes: &mut [Lanes],
    ) {
        let mut values = [[T::ZERO; LANES]; V];
        for column in &self.columns {
            let values_of_rows = values.as_flattened_mut().iter_mut();
            for (value, row) in values_of_rows.zip(rows.chunks_exact(n_features)) {
                *value = T::round(row[column.feature]);
            }
            let thresholds = &self.thresholds[column.start..column.end];
            for (vector, values) in values.iter().enumerate() {
                let mut ranks = Lanes::ZERO;
                T::rank_lanes(instructions, thresholds, values, &mut ranks);
                if let Some(plane) = column.missing_left {
                    planes[usize::from(plane) * V + vector] = ranks;
                }
                if let Some(plane) = column.missing_right {
                    for (rank, value) in ranks.0.iter_mut().zip(values) {
                        // At most 255 thresholds.
                        if value.is_missing() {
                            *rank = thresholds.len() as u8;
                        }
                    }
                    planes[usize::from(plane) * V + vector] = ranks;
                }
            }
        }
    }

    /// Returns the memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.columns.capacity() * size_of::<Column>() + self.thresholds.capacity() * size_of::<T>()
    }
}

/// Adds the splits of a tree to what has been found; `Some(false)` if a column would get too many thresholds.
fn add_tree<T: Real>(found: &mut BTreeMap<u32, Found<T>>, tree: &Tree) -> Option<bool> {
    for node in &tree.nodes {
        let (feature, threshold, missing_left) = match node {
            Node::Leaf(_) => continue,
            Node::Split {
                feature,
                rule: Rule::LessOrEqual(threshold),
                missing_left,
                ..
            } => (*feature, T::round(*threshold), *missing_left),
            Node::Split { .. } => return None,
        };
        let column = found.entry(feature).or_insert_with(|| Found {
            thresholds: Vec::new(),
            missing_left: false,
            missing_right: false,
        });
        column.missing_left |= missing_left;
        column.missing_right |= !missing_left;
        let place = column
            .thresholds
            .partition_point(|&other| threshold > other);
        // Zero and minus zero are one threshold.
        if column.thresholds.get(place) != Some(&threshold) {
            column.thresholds.insert(place, threshold);
        }
        if column.thresholds.len() > THRESHOLDS_MAX {
            return Some(false);
        }
    }
    Some(true)
}

/// Returns how many of `thresholds`, which are in order and not empty, are below `value`; none are below NaN.
#[inline(always)]
fn rank_of<T: Real>(thresholds: &[T], value: T) -> u8 {
    let mut below = 0;
    let mut n_left = thresholds.len();
    while n_left > 1 {
        let half = n_left / 2;
        // SAFETY: `below + n_left` is at most the number of thresholds, throughout.
        let threshold = unsafe { *thresholds.get_unchecked(below + half - 1) };
        below = std::hint::select_unpredictable(value > threshold, below + half, below);
        n_left -= half;
    }
    // At most 255 thresholds.
    (below
        + usize::from(
            thresholds
                .get(below)
                .is_some_and(|&threshold| value > threshold),
        )) as u8
}

/// Ranks the values of rows side by side, without processor features of its own.
#[inline(always)]
pub(crate) fn rank_lanes_portable<T: Real>(
    thresholds: &[T],
    values: &[T; LANES],
    ranks: &mut Lanes,
) {
    for (rank, &value) in ranks.0.iter_mut().zip(values) {
        *rank = rank_of(thresholds, value);
    }
}
