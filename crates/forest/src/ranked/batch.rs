//! Many rows side by side: a tree's steps for all of them, then the leaves they reach.

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::program::{N_SLOTS, Program, TreeSteps};
use crate::instructions::Instructions;
#[cfg(target_arch = "x86_64")]
use crate::instructions::Level;
use crate::leaves::{Leaves, Sum};
use crate::traversal::add_leaves;

/// The rows of a vector.
pub(crate) const LANES: usize = 64;

/// One byte for each row of a vector.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [u8; LANES]);

impl Lanes {
    pub(super) const ZERO: Self = Self([0; LANES]);
}

/// What steps read and write: leaf numbers of `V` vectors of rows. The first slot stays zero.
#[derive(Debug)]
pub(super) struct Slots<const V: usize>([[Lanes; V]; N_SLOTS]);

impl<const V: usize> Slots<V> {
    pub(super) const ZERO: Self = Self([[Lanes::ZERO; V]; N_SLOTS]);
}

/// The trees to evaluate, with the ranks of the rows' values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work<'a, S> {
    pub(super) program: &'a Program,
    /// The number of the program's first tree.
    pub(super) first_tree: usize,
    /// `(planes, V)`.
    pub(super) planes: &'a [Lanes],
    pub(super) leaves: &'a Leaves<S>,
}

/// The rows' sums on their way: score by score where a leaf is one number, otherwise as they are.
#[derive(Debug)]
pub(super) struct Sums<'a, S, const V: usize> {
    /// `(rows, stride)`.
    rows: &'a mut [S],
    stride: usize,
    /// `(scores, V vectors of rows)`, or empty.
    columns: Vec<S>,
}

impl<'a, S: Sum, const V: usize> Sums<'a, S, V> {
    pub(super) fn new(leaves: &Leaves<S>, rows: &'a mut [S]) -> Self {
        let stride = leaves.stride();
        let n_columns = if leaves.are_single_numbers() {
            stride
        } else {
            0
        };
        let mut columns = vec![S::default(); n_columns * V * LANES];
        for (score, column) in columns.chunks_exact_mut(V * LANES).enumerate() {
            for (sum, row) in column.iter_mut().zip(rows.chunks_exact(stride)) {
                *sum = row[score];
            }
        }
        Self {
            rows,
            stride,
            columns,
        }
    }

    /// Writes the sums to their rows.
    pub(super) fn finish(self) {
        for (score, column) in self.columns.chunks_exact(V * LANES).enumerate() {
            for (row, sum) in self.rows.chunks_exact_mut(self.stride).zip(column) {
                row[score] = *sum;
            }
        }
    }

    /// Adds the leaves of a tree that adds one number, whose numbers are `reached`.
    ///
    /// # Safety
    /// The tree exists, its leaves are single numbers, and it has the leaves in `reached`.
    #[inline(always)]
    unsafe fn add_numbers(&mut self, leaves: &Leaves<S>, tree: usize, reached: &[Lanes; V]) {
        let values = leaves.of_tree(tree);
        let (vectors, _) = self.column(leaves.score_of(tree)).as_chunks_mut::<LANES>();
        for (sums, reached) in vectors.iter_mut().zip(reached) {
            for (sum, &leaf) in sums.iter_mut().zip(&reached.0) {
                // SAFETY: the caller's contract.
                *sum += unsafe { *values.get_unchecked(usize::from(leaf)) };
            }
        }
    }

    /// Adds the leaves of a tree, whose numbers are `reached`, row by row.
    ///
    /// # Safety
    /// The tree exists and has the leaves in `reached`.
    #[inline(always)]
    unsafe fn add_rows(&mut self, leaves: &Leaves<S>, tree: usize, reached: &[Lanes; V]) {
        const ROWS: usize = 8;
        let mut sums = self.rows.chunks_exact_mut(self.stride * ROWS);
        let mut groups = reached
            .iter()
            .flat_map(|lanes| lanes.0.as_chunks::<ROWS>().0);
        for (sums, reached) in sums.by_ref().zip(groups.by_ref()) {
            // SAFETY: the caller's contract.
            unsafe {
                add_leaves::<S, ROWS>(
                    leaves,
                    tree..tree + 1,
                    |_, row| usize::from(reached[row]),
                    sums,
                );
            }
        }
        let rest = sums.into_remainder().chunks_exact_mut(self.stride);
        for (sums, &leaf) in rest.zip(groups.next().into_iter().flatten()) {
            // SAFETY: the caller's contract.
            unsafe { add_leaves::<S, 1>(leaves, tree..tree + 1, |_, _| usize::from(leaf), sums) };
        }
    }

    fn column(&mut self, score: usize) -> &mut [S] {
        &mut self.columns[score * V * LANES..(score + 1) * V * LANES]
    }
}

/// Evaluates the trees, compiled for the widest vectors this processor has; all give the same bits.
pub(super) fn run<S: Sum, const V: usize>(
    instructions: Instructions,
    work: Work<'_, S>,
    slots: &mut Slots<V>,
    sums: &mut Sums<'_, S, V>,
) {
    #[cfg(target_arch = "x86_64")]
    {
        if instructions.level() >= Level::Avx512 {
            // SAFETY: the processor has them.
            return unsafe { avx512::run(work, slots, sums) };
        }
        if instructions.level() >= Level::Avx2 {
            // SAFETY: the processor has them.
            return unsafe { run_avx2(work, slots, sums) };
        }
    }
    let _ = instructions;
    run_portable(work, slots, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<S: Sum, const V: usize>(
    work: Work<'_, S>,
    slots: &mut Slots<V>,
    sums: &mut Sums<'_, S, V>,
) {
    run_portable(work, slots, sums);
}

#[inline(always)]
fn run_portable<S: Sum, const V: usize>(
    work: Work<'_, S>,
    slots: &mut Slots<V>,
    sums: &mut Sums<'_, S, V>,
) {
    for (tree, steps) in (work.first_tree..).zip(work.program.trees()) {
        evaluate(&steps, work.planes, slots);
        let reached = &slots.0[steps.result];
        // SAFETY: the steps of a tree give numbers of its leaves.
        unsafe {
            if work.leaves.are_single_numbers() {
                sums.add_numbers(work.leaves, tree, reached);
            } else {
                sums.add_rows(work.leaves, tree, reached);
            }
        }
    }
}

#[inline(always)]
fn evaluate<const V: usize>(tree: &TreeSteps<'_>, planes: &[Lanes], slots: &mut Slots<V>) {
    for step in tree.steps {
        let plane = &planes[usize::from(step.plane) * V..][..V];
        for (vector, ranks) in plane.iter().enumerate() {
            let left = slots.0[usize::from(step.left)][vector];
            let right = slots.0[usize::from(step.right)][vector];
            let result = &mut slots.0[usize::from(step.result)][vector];
            for lane in 0..LANES {
                let past = right.0[lane].wrapping_add(step.left_leaves[0]);
                result.0[lane] = if ranks.0[lane] > step.rank[0] {
                    past
                } else {
                    left.0[lane]
                };
            }
        }
    }
}
