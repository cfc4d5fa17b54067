//! One row: all splits of a tree are answered at once, and the leaf is read from the answers.
//!
//! The ranks of the row's values are in registers, so one permutation fetches those that 64 splits ask for, and one
//! comparison answers the splits. How the leaf is found depends on the trees. Trees of at most six levels are laid out
//! as heaps, in which the path is six shifts of the answers. Trees of at most 32 leaves: for each leaf it is known which
//! splits are on its path and how they must be answered, and all leaves are compared with the answers. Needs AVX-512
//! with permutations of bytes.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use super::batch::Lanes;
use super::columns::Columns;
use crate::instructions::Instructions;
use crate::leaves::{Leaves, Sum};
use crate::traversal::Real;
use crate::tree::{Node, Tree};

/// The splits that are answered at once.
const SPLITS: usize = 64;
/// The levels of splits of a heap; the first place is not used.
const HEAP_LEVELS: u32 = SPLITS.ilog2();
/// The most leaves of trees that are looked up by paths.
const PATHS: usize = 32;
/// The most columns: their numbers are bytes.
const COLUMNS_MAX: usize = 256;
/// A rank that none is above.
const NEVER: u8 = 255;

/// The trees of a group, laid out for one row.
#[derive(Debug)]
pub(super) struct OneRow {
    layout: Layout,
    /// For each set of splits those that send missing values right.
    missing_right: Vec<u64>,
    #[cfg(target_arch = "x86_64")]
    n_columns: usize,
}

#[derive(Debug)]
enum Layout {
    /// A tree each.
    Heaps(Vec<Heap>),
    /// Two trees each; the last one's second may be empty.
    Paths(Vec<Pair>),
}

/// Splits that are answered at once: a value goes right if its rank is above the split's.
#[derive(Clone, Debug)]
struct Splits {
    columns: Lanes,
    ranks: Lanes,
}

/// A tree whose node `n` has the children `2n` and `2n + 1`; its root is 1.
#[derive(Clone, Debug)]
struct Heap {
    splits: Splits,
    /// The leaf's number for each place below the last level.
    leaves: [u8; SPLITS],
}

/// Two trees of at most [`PATHS`] leaves.
#[derive(Clone, Debug)]
struct Pair {
    /// The first tree's in the lower half, the second's in the upper one.
    splits: Splits,
    paths: [Paths; 2],
}

/// For each leaf of a tree what leads to it.
#[derive(Clone, Debug)]
struct Paths {
    /// The splits on the way, bit by bit.
    asked: Numbers,
    /// Those of them that must be answered by going right.
    right: Numbers,
}

/// A number for each leaf.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Numbers([u32; PATHS]);

impl OneRow {
    /// Lays out the trees of the group that `columns` belongs to; `None` if their shapes or the processor do not suit.
    pub(super) fn compile<T: Real>(
        trees: &[Tree],
        columns: &Columns<T>,
        instructions: Instructions,
    ) -> Option<Self> {
        if columns.n_columns() > COLUMNS_MAX || !can_run(instructions) {
            return None;
        }
        let mut missing_right = Vec::new();
        let layout = if trees.iter().all(|tree| tree.n_leaves <= PATHS) {
            let pairs = trees.chunks(2).map(|pair| {
                let (pair, missing) = Pair::compile(pair, columns)?;
                missing_right.push(missing);
                Some(pair)
            });
            Layout::Paths(pairs.collect::<Option<_>>()?)
        } else {
            let heaps = trees.iter().map(|tree| {
                let (heap, missing) = Heap::compile(tree, columns)?;
                missing_right.push(missing);
                Some(heap)
            });
            Layout::Heaps(heaps.collect::<Option<_>>()?)
        };
        Some(Self {
            layout,
            missing_right,
            #[cfg(target_arch = "x86_64")]
            n_columns: columns.n_columns(),
        })
    }

    /// Adds the leaves that `row` reaches in `trees` to its sums.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn add<T: Real, S: Sum>(
        &self,
        columns: &Columns<T>,
        row: &[f64],
        leaves: &Leaves<S>,
        trees: Range<usize>,
        sums: &mut [S],
    ) {
        match self.n_columns.div_ceil(super::batch::LANES) {
            0 | 1 => self.add_with::<T, S, 1>(columns, row, leaves, trees, sums),
            2 => self.add_with::<T, S, 2>(columns, row, leaves, trees, sums),
            _ => self.add_with::<T, S, 4>(columns, row, leaves, trees, sums),
        }
    }

    /// Never called: [`OneRow::compile`] gives nothing.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn add<T: Real, S: Sum>(
        &self,
        _columns: &Columns<T>,
        _row: &[f64],
        _leaves: &Leaves<S>,
        _trees: Range<usize>,
        _sums: &mut [S],
    ) {
    }

    /// Adds with the ranks of `N` vectors of columns.
    #[cfg(target_arch = "x86_64")]
    fn add_with<T: Real, S: Sum, const N: usize>(
        &self,
        columns: &Columns<T>,
        row: &[f64],
        leaves: &Leaves<S>,
        trees: Range<usize>,
        sums: &mut [S],
    ) {
        let mut ranks = [Lanes::ZERO; N];
        let mut missing = [Lanes::ZERO; N];
        let is_missing = columns.rank_row(row, &mut ranks);
        let row = if is_missing {
            columns.missing_row(row, &mut missing);
            avx512::Row {
                ranks: &ranks,
                missing: Some(&missing),
            }
        } else {
            avx512::Row {
                ranks: &ranks,
                missing: None,
            }
        };
        // SAFETY: `compile` has seen that the processor can.
        unsafe { avx512::add(self, row, leaves, trees, sums) };
    }

    /// Returns the memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let layout = match &self.layout {
            Layout::Heaps(heaps) => heaps.capacity() * size_of::<Heap>(),
            Layout::Paths(pairs) => pairs.capacity() * size_of::<Pair>(),
        };
        size_of::<Self>() + layout + self.missing_right.capacity() * size_of::<u64>()
    }
}

#[cfg(target_arch = "x86_64")]
fn can_run(instructions: Instructions) -> bool {
    instructions.level() >= crate::instructions::Level::Avx512Bytes
}

#[cfg(not(target_arch = "x86_64"))]
fn can_run(_instructions: Instructions) -> bool {
    false
}

impl Splits {
    /// Splits that every value passes on the left.
    const NONE: Self = Self {
        columns: Lanes::ZERO,
        ranks: Lanes([NEVER; SPLITS]),
    };

    /// Puts the split `node` at `place`; returns the place's bit if it sends missing values right.
    fn set<T: Real>(&mut self, place: usize, node: &Node, columns: &Columns<T>) -> Option<u64> {
        let split = columns.split(node)?;
        let Node::Split { missing_left, .. } = node else {
            return None;
        };
        *self.columns.0.get_mut(place)? = u8::try_from(split.column).ok()?;
        *self.ranks.0.get_mut(place)? = split.rank;
        Some(if *missing_left { 0 } else { 1 << place })
    }
}

impl Heap {
    /// Lays out a tree, and says which splits send missing values right; `None` if it has too many levels.
    fn compile<T: Real>(tree: &Tree, columns: &Columns<T>) -> Option<(Self, u64)> {
        let mut heap = Self {
            splits: Splits::NONE,
            leaves: [0; SPLITS],
        };
        let mut missing_right = 0;
        let mut stack = vec![(0_usize, 1_usize)];
        while let Some((at, place)) = stack.pop() {
            match &tree.nodes[at] {
                Node::Split { left, .. } => {
                    missing_right |= heap.splits.set(place, &tree.nodes[at], columns)?;
                    let left = *left as usize;
                    stack.extend([(left, 2 * place), (left + 1, 2 * place + 1)]);
                }
                Node::Leaf(number) => {
                    // From here every missing split is passed on the left.
                    let place = place << (HEAP_LEVELS - place.ilog2());
                    *heap.leaves.get_mut(place - SPLITS)? = u8::try_from(*number).ok()?;
                }
            }
        }
        Some((heap, missing_right))
    }
}

impl Pair {
    /// Lays out one tree or two, and says which splits send missing values right.
    fn compile<T: Real>(trees: &[Tree], columns: &Columns<T>) -> Option<(Self, u64)> {
        // No answers give `right` where nothing is asked.
        let none = Paths {
            asked: Numbers([0; PATHS]),
            right: Numbers([1; PATHS]),
        };
        let mut pair = Self {
            splits: Splits::NONE,
            paths: [none.clone(), none],
        };
        let mut missing_right = 0;
        for (half, (tree, paths)) in trees.iter().zip(&mut pair.paths).enumerate() {
            let mut n_splits = 0;
            let mut stack = vec![(0_usize, 0_u32, 0_u32)];
            while let Some((at, asked, right)) = stack.pop() {
                match &tree.nodes[at] {
                    Node::Split { left, .. } => {
                        let place = half * PATHS + n_splits;
                        missing_right |= pair.splits.set(place, &tree.nodes[at], columns)?;
                        let (left, bit) = (*left as usize, 1 << n_splits);
                        n_splits += 1;
                        stack.extend([
                            (left, asked | bit, right),
                            (left + 1, asked | bit, right | bit),
                        ]);
                    }
                    Node::Leaf(number) => {
                        *paths.asked.0.get_mut(*number as usize)? = asked;
                        *paths.right.0.get_mut(*number as usize)? = right;
                    }
                }
            }
        }
        Some((pair, missing_right))
    }
}
