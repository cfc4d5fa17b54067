//! Interval tables: for small trees, one table look-up per column replaces the walk.
//!
//! Every leaf of a tree is a bit. A split that sends a value right rules out the leaves of its left
//! subtree, and the leaf reached is the first one that no split on the way has ruled out; splits off the
//! way rule out only leaves after it or beside it (the idea of QuickScorer, Lucchese et al., 2015). Which
//! leaves a column's splits rule out depends only on the interval between thresholds in which the value
//! falls. So the sets of remaining leaves, of all trees, are precomputed for every interval of every
//! column, and a row costs one search and one AND per column, then one bit scan per tree.
//!
//! Missing values and categories are further entries of the same tables.

mod mask;
mod table;

use std::ops::BitAndAssign;

use crate::leaves::{Block, Sum};
use crate::spec::{ForestSpec, Precision};
use crate::tree::Tree;
use mask::Mask;
use table::{Column, build};

/// The most bytes of masks: beyond a core's own cache the walk is as good.
const TABLE_BYTES_MAX: usize = 1 << 20;
/// The most columns used by splits; their entries are found on the stack.
const COLUMNS_MAX: usize = 128;
/// The most leaves of a tree: the bits of a mask.
const LEAVES_MAX: usize = 64;
/// Trees whose masks are combined at a time, on the stack.
const TILE_TREES: usize = 128;
/// Rows that are added side by side, so that their sums do not wait for each other.
const ROWS: usize = 4;

/// The tables of a forest.
#[derive(Debug)]
pub(crate) struct IntervalTables {
    columns: Vec<Column>,
    masks: Masks,
    n_trees: usize,
    precision: Precision,
}

/// `(entries, n_trees)` masks, in the smallest integer that has a bit for every leaf.
#[derive(Debug)]
enum Masks {
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

impl IntervalTables {
    /// Compiles validated trees; `None` if they are too large for tables to pay.
    pub(crate) fn compile(spec: &ForestSpec, trees: &[Tree]) -> Option<Self> {
        let n_leaves_max = trees.iter().map(|tree| tree.n_leaves).max()?;
        if n_leaves_max > LEAVES_MAX {
            return None;
        }
        let columns = table::columns(trees)?;
        let n_entries = 1 + columns.iter().map(Column::n_entries).sum::<usize>();
        let mask_bytes = match n_leaves_max {
            0..=16 => 2,
            17..=32 => 4,
            _ => 8,
        };
        let table_bytes = n_entries
            .checked_mul(trees.len())?
            .checked_mul(mask_bytes)?;
        if columns.len() > COLUMNS_MAX || table_bytes > TABLE_BYTES_MAX {
            return None;
        }
        let masks = match mask_bytes {
            2 => Masks::U16(build(trees, &columns, n_entries)),
            4 => Masks::U32(build(trees, &columns, n_entries)),
            _ => Masks::U64(build(trees, &columns, n_entries)),
        };
        Some(Self {
            columns,
            masks,
            n_trees: trees.len(),
            precision: spec.precision,
        })
    }

    /// Adds the leaves that each row of `block` reaches to its row of `sums`.
    pub(crate) fn add<S: Sum>(&self, block: Block<'_, S>, sums: &mut [S]) {
        match &self.masks {
            Masks::U16(masks) => self.add_by_width(masks, block, sums),
            Masks::U32(masks) => self.add_by_width(masks, block, sums),
            Masks::U64(masks) => self.add_by_width(masks, block, sums),
        }
    }

    fn add_by_width<S: Sum, M: Mask>(&self, masks: &[M], block: Block<'_, S>, sums: &mut [S]) {
        match block.leaves.fixed_width() {
            1 => self.dispatch::<S, M, 1>(masks, block, sums),
            2 => self.dispatch::<S, M, 2>(masks, block, sums),
            4 => self.dispatch::<S, M, 4>(masks, block, sums),
            _ => self.dispatch::<S, M, 0>(masks, block, sums),
        }
    }

    /// Runs the loop compiled for the widest vectors this processor has; all give the same bits.
    fn dispatch<S: Sum, M: Mask, const WIDTH: usize>(
        &self,
        masks: &[M],
        block: Block<'_, S>,
        sums: &mut [S],
    ) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
        {
            // SAFETY: the processor has these features.
            return unsafe { self.add_avx2::<S, M, WIDTH>(masks, block, sums) };
        }
        self.add_all::<S, M, WIDTH>(masks, block, sums);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1")]
    fn add_avx2<S: Sum, M: Mask, const WIDTH: usize>(
        &self,
        masks: &[M],
        block: Block<'_, S>,
        sums: &mut [S],
    ) {
        self.add_all::<S, M, WIDTH>(masks, block, sums);
    }

    #[inline(always)]
    fn add_all<S: Sum, M: Mask, const WIDTH: usize>(
        &self,
        masks: &[M],
        block: Block<'_, S>,
        sums: &mut [S],
    ) {
        let Block {
            leaves,
            rows,
            n_features,
        } = block;
        let stride = leaves.stride();
        let mut groups = rows.chunks_exact(n_features * ROWS);
        let mut group_sums = sums.chunks_exact_mut(stride * ROWS);
        for (rows, sums) in groups.by_ref().zip(group_sums.by_ref()) {
            self.add_group::<S, M, WIDTH, ROWS>(masks, Block { rows, ..block }, sums);
        }
        let rest = groups.remainder().chunks_exact(n_features);
        for (rows, sums) in rest.zip(group_sums.into_remainder().chunks_exact_mut(stride)) {
            self.add_group::<S, M, WIDTH, 1>(masks, Block { rows, ..block }, sums);
        }
    }

    #[inline(always)]
    fn add_group<S: Sum, M: Mask, const WIDTH: usize, const N: usize>(
        &self,
        masks: &[M],
        block: Block<'_, S>,
        sums: &mut [S],
    ) {
        let mut entries = [[0_u32; COLUMNS_MAX]; N];
        for (entries, row) in entries
            .iter_mut()
            .zip(block.rows.chunks_exact(block.n_features))
        {
            for (entry, column) in entries.iter_mut().zip(&self.columns) {
                *entry = column.entry(self.precision, row);
            }
        }
        let mut remaining = [[M::NONE; TILE_TREES]; N];
        for start in (0..self.n_trees).step_by(TILE_TREES) {
            let n_trees = TILE_TREES.min(self.n_trees - start);
            for (remaining, entries) in remaining.iter_mut().zip(&entries) {
                let remaining = &mut remaining[..n_trees];
                let mask_row = |entry: u32| {
                    let first = entry as usize * self.n_trees + start;
                    &masks[first..first + n_trees]
                };
                let mut entries = entries[..self.columns.len()].iter();
                // Entry 0 rules nothing out; it serves forests without any split.
                remaining.copy_from_slice(mask_row(entries.next().copied().unwrap_or(0)));
                for &entry in entries {
                    and_assign(remaining, mask_row(entry));
                }
            }
            let leaf_of =
                |tree: usize, row: usize| remaining[row][(tree - start) % TILE_TREES].first_leaf();
            // SAFETY: the trees exist, and a mask keeps at least one bit, of a leaf of its tree: `build`
            // starts from the tree's leaves, and the leaf that a row reaches is never ruled out.
            unsafe {
                block
                    .leaves
                    .add::<WIDTH, N>(start..start + n_trees, leaf_of, sums)
            };
        }
    }

    /// Returns the memory held, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let masks = match &self.masks {
            Masks::U16(masks) => size_of_val(masks.as_slice()),
            Masks::U32(masks) => size_of_val(masks.as_slice()),
            Masks::U64(masks) => size_of_val(masks.as_slice()),
        };
        masks + self.columns.iter().map(Column::memory_bytes).sum::<usize>()
    }
}

#[inline(always)]
fn and_assign<M: Copy + BitAndAssign>(left: &mut [M], right: &[M]) {
    for (left, right) in left.iter_mut().zip(right) {
        *left &= *right;
    }
}
