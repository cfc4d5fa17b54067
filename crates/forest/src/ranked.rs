//! Ranks: values become small integers once, then every split is a comparison of bytes.
//!
//! Which way a value goes at a split depends only on how many of the column's thresholds are below it: its rank.
//! With at most 255 thresholds to a column a rank is a byte, so one instruction compares the values of 64 rows with
//! a threshold (rows side by side as in V-`QuickScorer`, Lucchese et al., 2016; thresholds as small integers as in
//! `QuickScorer`'s quantised successors). Trees are taken in groups that keep every column within 255 thresholds; trees
//! that were boosted on histograms are one group. A missing value's rank is the lowest or the highest one, by where the
//! split sends it, so a column with splits of both kinds has its ranks written twice.
//!
//! Many rows: all splits of a tree are evaluated from the leaves up, without branches (`program`, `batch`). One row:
//! all splits of a tree are evaluated at once, and the leaf is read from their answers (`one_row`); where few columns
//! make interval tables cheaper they serve few rows, and where the processor or the trees' shapes allow neither, a walk
//! does (`costs`).

mod batch;
mod columns;
mod costs;
mod one_row;
mod program;

use std::ops::Range;

use crate::instructions::Instructions;
use crate::interval::IntervalTables;
use crate::leaves::{Block, Sum};
use crate::spec::ForestSpec;
use crate::traversal::{Real, Traversal};
use crate::tree::{Node, Rule, Tree};
pub(crate) use batch::{LANES, Lanes};
use batch::{Slots, Sums, Work};
use columns::Columns;
#[cfg(target_arch = "x86_64")]
pub(crate) use columns::avx512 as rank_avx512;
pub(crate) use columns::rank_lanes_portable;
use costs::Costs;
use one_row::OneRow;
use program::Program;

/// The most leaves of a tree: their numbers are bytes.
const LEAVES_MAX: usize = 256;
/// The least rows that are taken together.
const ROWS_MIN: usize = 4;
/// The most vectors of rows that are taken together.
const VECTORS_MAX: usize = 4;

/// The trees of a forest, in groups.
#[derive(Debug)]
pub(crate) struct Ranked<T> {
    groups: Vec<Group<T>>,
    few: Few<T>,
    /// Fewer rows than this are taken one by one.
    rows_min: usize,
    instructions: Instructions,
}

/// Consecutive trees that share ranks.
#[derive(Debug)]
struct Group<T> {
    trees: Range<usize>,
    columns: Columns<T>,
    program: Program,
}

/// How few rows are taken.
#[derive(Debug)]
enum Few<T> {
    /// For each group its trees, laid out for one row.
    OneRow(Vec<OneRow>),
    Intervals(IntervalTables),
    Walk(Traversal<T>),
}

impl<T: Real> Ranked<T> {
    /// Compiles validated trees; `None` if one has more than [`LEAVES_MAX`] leaves, or asks about categories.
    pub(crate) fn compile(
        spec: &ForestSpec,
        trees: &[Tree],
        instructions: Instructions,
    ) -> Option<Self> {
        if trees.is_empty() || !trees.iter().all(is_taken) {
            return None;
        }
        let mut groups = Vec::new();
        let mut start = 0;
        while start < trees.len() {
            let (columns, n_trees) = Columns::of_first(&trees[start..])?;
            let trees = &trees[start..start + n_trees];
            groups.push(Group {
                trees: start..start + n_trees,
                program: Program::compile(trees, &columns)?,
                columns,
            });
            start += n_trees;
        }
        let costs = Costs::estimate(trees, &groups, instructions);
        let (few, row_cost) = Few::compile(spec, trees, &groups, instructions, costs)?;
        Some(Self {
            rows_min: (costs.vector / row_cost.max(1)).clamp(ROWS_MIN, LANES),
            groups,
            few,
            instructions,
        })
    }

    /// Adds the leaves that each row of `block` reaches to its row of `sums`.
    pub(crate) fn add<S: Sum>(&self, block: Block<'_, S>, sums: &mut [S]) {
        let stride = block.leaves.stride();
        if block.rows.len() < self.rows_min * block.n_features {
            return self.add_few(block, sums);
        }
        let rows_max = VECTORS_MAX * LANES;
        let blocks = block.rows.chunks(block.n_features * rows_max);
        for (rows, sums) in blocks.zip(sums.chunks_mut(stride * rows_max)) {
            let block = Block { rows, ..block };
            match (rows.len() / block.n_features).div_ceil(LANES) {
                0 | 1 => self.add_vectors::<S, 1>(block, sums),
                2 => self.add_vectors::<S, 2>(block, sums),
                _ => self.add_vectors::<S, VECTORS_MAX>(block, sums),
            }
        }
    }

    /// Adds for rows one by one.
    fn add_few<S: Sum>(&self, block: Block<'_, S>, sums: &mut [S]) {
        let one_row = match &self.few {
            Few::Walk(traversal) => return traversal.add(block, sums),
            Few::Intervals(tables) => return tables.add(block, sums),
            Few::OneRow(one_row) => one_row,
        };
        let rows = block.rows.chunks_exact(block.n_features);
        for (row, sums) in rows.zip(sums.chunks_exact_mut(block.leaves.stride())) {
            for (group, one_row) in self.groups.iter().zip(one_row) {
                one_row.add(&group.columns, row, block.leaves, group.trees.clone(), sums);
            }
        }
    }

    /// Adds for at most `V` vectors of rows.
    fn add_vectors<S: Sum, const V: usize>(&self, block: Block<'_, S>, sums: &mut [S]) {
        let n_planes = self.groups.iter().map(|group| group.columns.n_planes());
        let mut planes = vec![Lanes::ZERO; n_planes.max().unwrap_or(0) * V];
        let mut slots = Slots::<V>::ZERO;
        let mut sums = Sums::<S, V>::new(block.leaves, sums);
        for group in &self.groups {
            group.columns.rank_many::<V>(
                self.instructions,
                block.rows,
                block.n_features,
                &mut planes,
            );
            let work = Work {
                program: &group.program,
                first_tree: group.trees.start,
                planes: &planes,
                leaves: block.leaves,
            };
            batch::run::<S, V>(self.instructions, work, &mut slots, &mut sums);
        }
        sums.finish();
    }

    /// Returns the memory held, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let groups = self.groups.iter().map(|group| {
            size_of::<Group<T>>() + group.columns.memory_bytes() + group.program.memory_bytes()
        });
        let few = match &self.few {
            Few::OneRow(one_row) => one_row.iter().map(OneRow::memory_bytes).sum(),
            Few::Intervals(tables) => tables.memory_bytes(),
            Few::Walk(traversal) => traversal.memory_bytes(),
        };
        groups.sum::<usize>() + few
    }
}

/// Tells whether the tree is small enough and asks about thresholds only.
fn is_taken(tree: &Tree) -> bool {
    let has_thresholds_only = |node: &Node| match node {
        Node::Leaf(_) => true,
        Node::Split { rule, .. } => matches!(rule, Rule::LessOrEqual(_)),
    };
    tree.n_leaves <= LEAVES_MAX && tree.nodes.iter().all(has_thresholds_only)
}

impl<T: Real> Few<T> {
    /// Compiles the cheapest way there is; returns its cost, too.
    fn compile(
        spec: &ForestSpec,
        trees: &[Tree],
        groups: &[Group<T>],
        instructions: Instructions,
        costs: Costs,
    ) -> Option<(Self, usize)> {
        let one_row = groups.iter().map(|group| {
            let trees = &trees[group.trees.clone()];
            OneRow::compile(trees, &group.columns, instructions)
        });
        let one_row: Option<Vec<OneRow>> = one_row.collect();
        let other = match one_row {
            Some(_) => costs.one_row,
            None => costs.walk,
        };
        if costs.intervals < other
            && let Some(tables) = IntervalTables::compile(spec, trees)
        {
            return Some((Self::Intervals(tables), costs.intervals));
        }
        match one_row {
            Some(one_row) => Some((Self::OneRow(one_row), other)),
            None => Some((Self::Walk(Traversal::compile(trees)?), other)),
        }
    }
}
