//! The values of all leaves in one table, and how they are added to scores.

use std::fmt::Debug;
use std::ops::{AddAssign, Range};

use crate::spec::Target;
use crate::tree::Tree;

/// A number that leaves are added in: `f32` or `f64`.
pub(crate) trait Sum: Copy + AddAssign + Debug + Default + Send + Sync + 'static {
    /// Whether this is `f32`; `f64` otherwise.
    #[cfg(target_arch = "x86_64")]
    const IS_SINGLE: bool;
    /// Rounds to this precision.
    fn round(value: f64) -> Self;
    /// Widens to double.
    fn widen(self) -> f64;
}

impl Sum for f32 {
    #[cfg(target_arch = "x86_64")]
    const IS_SINGLE: bool = true;

    #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
    fn round(value: f64) -> Self {
        value as Self
    }

    fn widen(self) -> f64 {
        f64::from(self)
    }
}

impl Sum for f64 {
    #[cfg(target_arch = "x86_64")]
    const IS_SINGLE: bool = false;

    fn round(value: f64) -> Self {
        value
    }

    fn widen(self) -> f64 {
        self
    }
}

/// Rows on their way through a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a, S> {
    /// The leaves to add from.
    pub(crate) leaves: &'a Leaves<S>,
    /// The rows' values, row-major.
    pub(crate) rows: &'a [f64],
    /// The number of values of a row.
    pub(crate) n_features: usize,
}

/// The leaves of every tree, and where each tree's begin.
#[derive(Debug)]
pub(crate) struct Leaves<S> {
    /// `(leaves of all trees, stride)`, row-major, padded with zeros.
    values: Vec<S>,
    /// For each tree the index of its first leaf.
    first: Vec<u32>,
    /// For each tree the score its leaves add to; empty if they add to all.
    scores: Vec<u32>,
    n_scores: usize,
    stride: usize,
}

impl<S: Sum> Leaves<S> {
    /// Collects the leaves of `trees`; `None` if there are more than 2^32.
    ///
    /// Trees that all add to all scores, or to the only one, get vector leaves padded to 1, 2, 4 or a
    /// multiple of 4 numbers. Where trees differ, each leaf is one number.
    pub(crate) fn collect(trees: &[Tree], n_scores: usize) -> Option<Self> {
        let is_vector = n_scores == 1 || trees.iter().all(|tree| tree.target == Target::AllScores);
        if !is_vector && trees.iter().any(|tree| tree.target == Target::AllScores) {
            return None;
        }
        let width = if is_vector { n_scores } else { 1 };
        let stride = match width {
            0..=2 => width,
            _ => width.next_multiple_of(4),
        };
        let n_values = trees.iter().map(|tree| match width {
            0 => 0,
            _ => tree.leaf_values.len() / width * stride,
        });
        let mut leaves = Self {
            values: Vec::with_capacity(n_values.sum()),
            first: Vec::with_capacity(trees.len()),
            scores: Vec::new(),
            n_scores,
            stride,
        };
        let mut n_leaves: usize = 0;
        for tree in trees {
            leaves.first.push(u32::try_from(n_leaves).ok()?);
            n_leaves += tree.n_leaves;
            for leaf in tree.leaf_values.chunks_exact(width) {
                leaves
                    .values
                    .extend(leaf.iter().map(|&value| S::round(value)));
                leaves
                    .values
                    .resize(leaves.values.len() + stride - width, S::default());
            }
            if let (Target::OneScore(score), false) = (tree.target, is_vector) {
                leaves.scores.push(u32::try_from(score).ok()?);
            }
        }
        u32::try_from(n_leaves).ok()?;
        Some(leaves)
    }

    /// Returns how many numbers a row of sums has: the scores, padded.
    pub(crate) fn stride(&self) -> usize {
        if self.scores.is_empty() {
            self.stride
        } else {
            self.n_scores
        }
    }

    /// Returns the fixed width that a kernel can be compiled for, 0 if none fits.
    pub(crate) fn fixed_width(&self) -> usize {
        match (self.scores.is_empty(), self.stride) {
            (true, 1 | 2 | 4) => self.stride,
            _ => 0,
        }
    }

    /// Tells whether a leaf is one number, so that each tree adds to one score.
    pub(crate) fn are_single_numbers(&self) -> bool {
        self.stride == 1
    }

    /// Returns the values of a tree's leaves.
    pub(crate) fn of_tree(&self, tree: usize) -> &[S] {
        let place = |leaf: &u32| *leaf as usize * self.stride;
        let end = self.first.get(tree + 1).map_or(self.values.len(), place);
        &self.values[place(&self.first[tree])..end]
    }

    /// Returns the score that a tree's single numbers add to.
    pub(crate) fn score_of(&self, tree: usize) -> usize {
        self.scores.get(tree).map_or(0, |&score| score as usize)
    }

    /// Adds one leaf per tree of `trees` to each of `ROWS` rows of sums, in tree order.
    ///
    /// `leaf_of(tree, row)` is the number of the leaf within its tree; `WIDTH` is
    /// [`Leaves::fixed_width`]; `sums` is `(ROWS, stride)`.
    ///
    /// # Safety
    /// Every tree of `trees` exists and `leaf_of` gives leaves that exist in it.
    #[inline(always)]
    pub(crate) unsafe fn add<const WIDTH: usize, const ROWS: usize>(
        &self,
        trees: Range<usize>,
        leaf_of: impl Fn(usize, usize) -> usize,
        sums: &mut [S],
    ) {
        if WIDTH == 0 {
            // SAFETY: the caller's contract.
            return unsafe { self.add_any_width(trees, ROWS, leaf_of, sums) };
        }
        let sums = &mut sums[..ROWS * WIDTH];
        // Local, so that the sums stay in registers.
        let mut totals = [[S::default(); WIDTH]; ROWS];
        for (row, total) in totals.iter_mut().enumerate() {
            total.copy_from_slice(&sums[row * WIDTH..(row + 1) * WIDTH]);
        }
        for tree in trees {
            // SAFETY: the caller's contract: the tree exists.
            let first = unsafe { *self.first.get_unchecked(tree) } as usize;
            for (row, total) in totals.iter_mut().enumerate() {
                let start = (first + leaf_of(tree, row)) * WIDTH;
                // SAFETY: the caller's contract: the leaf exists, and each leaf has WIDTH values.
                let values = unsafe { self.values.get_unchecked(start..start + WIDTH) };
                for (sum, value) in total.iter_mut().zip(values) {
                    *sum += *value;
                }
            }
        }
        for (row, total) in totals.iter().enumerate() {
            sums[row * WIDTH..(row + 1) * WIDTH].copy_from_slice(total);
        }
    }

    /// [`Leaves::add`] where the width is only known at run time.
    ///
    /// # Safety
    /// As for [`Leaves::add`].
    unsafe fn add_any_width(
        &self,
        trees: Range<usize>,
        n_rows: usize,
        leaf_of: impl Fn(usize, usize) -> usize,
        sums: &mut [S],
    ) {
        for tree in trees {
            let first = self.first[tree] as usize;
            for (row, sums) in sums
                .chunks_exact_mut(self.stride())
                .take(n_rows)
                .enumerate()
            {
                let leaf = first + leaf_of(tree, row);
                if let Some(&score) = self.scores.get(tree) {
                    sums[score as usize] += self.values[leaf];
                } else {
                    let values = &self.values[leaf * self.stride..(leaf + 1) * self.stride];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += *value;
                    }
                }
            }
        }
    }

    /// Returns the memory held, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<S>()
            + (self.first.capacity() + self.scores.capacity()) * 4
    }
}
