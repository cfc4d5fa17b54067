//! What a forest costs in each way, by which the way for few rows is chosen.

use super::Group;
use crate::instructions::{Instructions, Level};
use crate::traversal::Real;
use crate::tree::Tree;

/// Costs in about nanoseconds; only their ratios matter. The factors fit forests of 30 to 1,000 trees, of 3 to 255 splits
/// a tree and 8 to 500 columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    /// A vector of rows: the same with few rows in it as with all.
    pub(super) vector: usize,
    /// One row by its own layout.
    pub(super) one_row: usize,
    /// One row by interval tables.
    pub(super) intervals: usize,
    /// One row by walking.
    pub(super) walk: usize,
}

impl Costs {
    pub(super) fn estimate<T: Real>(
        trees: &[Tree],
        groups: &[Group<T>],
        instructions: Instructions,
    ) -> Self {
        // Narrower vectors take more instructions.
        let slowness = match instructions.level() {
            Level::Portable => 3,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => 2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Bytes => 1,
        };
        let n_trees = trees.len();
        let n_splits: usize = trees.iter().map(|tree| tree.n_leaves - 1).sum();
        let n_columns: usize = groups.iter().map(|group| group.columns.n_columns()).sum();
        let levels = trees.iter().map(|tree| tree.n_leaves.ilog2() as usize + 1);
        Self {
            vector: slowness * (2 * n_splits + 110 * n_columns + 10 * n_trees),
            one_row: 3 * n_trees + 5 * n_columns + 60,
            intervals: n_trees + 13 * n_columns,
            walk: 2 * levels.sum::<usize>(),
        }
    }
}
