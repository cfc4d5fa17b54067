//! Root-to-leaf walks over compact breadth-first nodes, several at a time.
//!
//! A leaf is a node whose left child is itself and whose answer is always yes, so a step needs no
//! branch and walks of different lengths can go side by side until none of them moves. One row walks
//! several trees at once; many rows walk one tree at once, so that the tree stays in cache.
//! Where the processor has AVX-512, trees without category splits are walked for 32 rows at once with gathers
//! (`avx512`). NEON has no gather; the portable loop, which keeps several loads in flight, runs there.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::fmt::Debug;

use crate::instructions::Instructions;
#[cfg(target_arch = "x86_64")]
use crate::instructions::Level;
use crate::leaves::{Block, Leaves, Sum};
#[cfg(target_arch = "x86_64")]
use crate::ranked::rank_avx512;
use crate::ranked::{LANES, Lanes, rank_lanes_portable};
use crate::spec::{Categories, Members};
use crate::tree::{Node, Rule, Tree};

/// The number of walks that go side by side: enough to hide the latency of a load.
const WALKS: usize = 8;

/// A number that splits compare in: `f32` or `f64`.
pub(crate) trait Real: Copy + PartialOrd + Debug + Send + Sync + 'static {
    /// Positive infinity, the threshold of leaves.
    const INFINITY: Self;
    /// Zero, to fill scratch space.
    const ZERO: Self;
    /// Rounds to this precision.
    fn round(value: f64) -> Self;
    /// Widens to double.
    fn widen(self) -> f64;
    /// Tells whether this is NaN.
    fn is_missing(self) -> bool;
    /// Writes how many of `thresholds`, at most 255 in order, are below each value; none are below NaN.
    fn rank_lanes(
        instructions: Instructions,
        thresholds: &[Self],
        values: &[Self; LANES],
        ranks: &mut Lanes,
    ) where
        Self: Sized;
    /// The rows that [`Real::walk_many`] takes at once; 0 where there is no such thing.
    fn rows_at_once(_traversal: &Traversal<Self>, _n_values: usize) -> usize
    where
        Self: Sized,
    {
        0
    }
    /// Writes the node on which each of the rows at once ends, from `root` on.
    fn walk_many(
        _traversal: &Traversal<Self>,
        _root: u32,
        _rows: &[Self],
        _n_features: usize,
        _ends: &mut [u32; ROWS_AT_ONCE_MAX],
    ) where
        Self: Sized,
    {
    }
}

/// The most rows that are walked at once.
const ROWS_AT_ONCE_MAX: usize = 32;

impl Real for f32 {
    const INFINITY: Self = Self::INFINITY;
    const ZERO: Self = 0.0;

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
    fn round(value: f64) -> Self {
        value as Self
    }

    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn is_missing(self) -> bool {
        self.is_nan()
    }

    fn rank_lanes(
        instructions: Instructions,
        thresholds: &[Self],
        values: &[Self; LANES],
        ranks: &mut Lanes,
    ) {
        #[cfg(target_arch = "x86_64")]
        if instructions.level() >= Level::Avx512 {
            // SAFETY: the processor has them.
            return unsafe { rank_avx512::rank_single(thresholds, values, ranks) };
        }
        let _ = instructions;
        rank_lanes_portable(thresholds, values, ranks);
    }

    #[cfg(target_arch = "x86_64")]
    fn rows_at_once(traversal: &Traversal<Self>, n_values: usize) -> usize {
        let takes = traversal.categories.is_empty()
            && avx512::is_available(traversal.nodes.len(), n_values);
        if takes { avx512::ROWS } else { 0 }
    }

    #[cfg(target_arch = "x86_64")]
    fn walk_many(
        traversal: &Traversal<Self>,
        root: u32,
        rows: &[Self],
        n_features: usize,
        ends: &mut [u32; ROWS_AT_ONCE_MAX],
    ) {
        // SAFETY: called only where `rows_at_once` has said so, with a root of this traversal and that
        // many rows; validation has seen every feature below `n_features`.
        *ends = unsafe { avx512::walk(&traversal.nodes, root, rows, n_features) };
    }
}

impl Real for f64 {
    const INFINITY: Self = Self::INFINITY;
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn round(value: f64) -> Self {
        value
    }

    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn is_missing(self) -> bool {
        self.is_nan()
    }

    fn rank_lanes(
        instructions: Instructions,
        thresholds: &[Self],
        values: &[Self; LANES],
        ranks: &mut Lanes,
    ) {
        #[cfg(target_arch = "x86_64")]
        if instructions.level() >= Level::Avx512 {
            // SAFETY: the processor has them.
            return unsafe { rank_avx512::rank_double(thresholds, values, ranks) };
        }
        let _ = instructions;
        rank_lanes_portable(thresholds, values, ranks);
    }

    #[cfg(target_arch = "x86_64")]
    fn rows_at_once(traversal: &Traversal<Self>, n_values: usize) -> usize {
        let takes = traversal.categories.is_empty()
            && avx512::is_available(traversal.nodes.len(), n_values);
        if takes { avx512::ROWS } else { 0 }
    }

    #[cfg(target_arch = "x86_64")]
    fn walk_many(
        traversal: &Traversal<Self>,
        root: u32,
        rows: &[Self],
        n_features: usize,
        ends: &mut [u32; ROWS_AT_ONCE_MAX],
    ) {
        // SAFETY: called only where `rows_at_once` has said so, with a root of this traversal and that
        // many rows; validation has seen every feature below `n_features`.
        *ends = unsafe { avx512::walk_double(&traversal.nodes, root, rows, n_features) };
    }
}

/// One node: 12 bytes in single precision, 16 in double.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Compact<T> {
    /// Values up to this go left. For a category split unused.
    threshold: T,
    /// The index of the left child in `nodes`; the right one follows it.
    left: u32,
    /// The column, with the two flags in its upper bits.
    feature: u32,
}

const MISSING_LEFT: u32 = 1 << 31;
const CATEGORIES: u32 = 1 << 30;
const FEATURE_MASK: u32 = CATEGORIES - 1;

/// All trees in one array of nodes.
#[derive(Debug)]
pub(crate) struct Traversal<T> {
    nodes: Vec<Compact<T>>,
    /// For each node the leaf's number within its tree, or for a category split its index in `categories`.
    extra: Vec<u32>,
    roots: Vec<u32>,
    categories: Vec<CategorySplit>,
}

/// The question of a category split.
#[derive(Debug)]
enum CategorySplit {
    Known(Categories),
    Members(Members),
    Values(Box<[f64]>),
}

impl CategorySplit {
    fn goes_left(&self, value: f64, missing_left: bool) -> bool {
        match self {
            Self::Known(categories) => categories.goes_left(value).unwrap_or(missing_left),
            Self::Members(_) | Self::Values(_) if value.is_nan() => missing_left,
            Self::Members(members) => members.contains(value),
            Self::Values(values) => values.contains(&value),
        }
    }

    fn memory_bytes(&self) -> usize {
        let bits = match self {
            Self::Known(_) => 0,
            Self::Members(members) => members.bits.capacity() * size_of::<u32>(),
            Self::Values(values) => size_of_val(&**values),
        };
        size_of::<Self>() + bits
    }
}

impl<T: Real> Traversal<T> {
    /// Lays out validated trees; `None` if their nodes cannot be counted in 32 bits, features in 30.
    pub(crate) fn compile(trees: &[Tree]) -> Option<Self> {
        let mut traversal = Self {
            nodes: Vec::with_capacity(trees.iter().map(|tree| tree.nodes.len()).sum()),
            extra: Vec::new(),
            roots: Vec::with_capacity(trees.len()),
            categories: Vec::new(),
        };
        for tree in trees {
            let root = u32::try_from(traversal.nodes.len()).ok()?;
            u32::try_from(traversal.nodes.len() + tree.nodes.len()).ok()?;
            traversal.roots.push(root);
            for (index, node) in (root..).zip(&tree.nodes) {
                let (compact, extra) = traversal.compile_node(root, index, node)?;
                traversal.nodes.push(compact);
                traversal.extra.push(extra);
            }
        }
        Some(traversal)
    }

    fn compile_node(&mut self, root: u32, index: u32, node: &Node) -> Option<(Compact<T>, u32)> {
        let (feature, rule, missing_left, left) = match node {
            Node::Leaf(number) => {
                let leaf = Compact {
                    threshold: T::INFINITY,
                    left: index,
                    feature: MISSING_LEFT,
                };
                return Some((leaf, *number));
            }
            Node::Split {
                feature,
                rule,
                missing_left,
                left,
            } => (*feature, rule, *missing_left, *left),
        };
        if feature > FEATURE_MASK {
            return None;
        }
        let mut compact = Compact {
            threshold: T::INFINITY,
            left: root + left,
            feature: feature | if missing_left { MISSING_LEFT } else { 0 },
        };
        let mut extra = 0;
        match rule {
            Rule::LessOrEqual(threshold) => compact.threshold = T::round(*threshold),
            Rule::Categories(categories) => {
                compact.feature |= CATEGORIES;
                extra = self.push_categories(CategorySplit::Known(**categories))?;
            }
            Rule::Members(members) => {
                compact.feature |= CATEGORIES;
                extra = self.push_categories(CategorySplit::Members((**members).clone()))?;
            }
            Rule::Values(values) => {
                compact.feature |= CATEGORIES;
                extra = self.push_categories(CategorySplit::Values(values.clone()))?;
            }
        }
        Some((compact, extra))
    }

    fn push_categories(&mut self, split: CategorySplit) -> Option<u32> {
        let index = u32::try_from(self.categories.len()).ok()?;
        self.categories.push(split);
        Some(index)
    }

    /// Adds the leaves that each row of `block` reaches to its row of `sums`.
    pub(crate) fn add<S: Sum>(&self, block: Block<'_, S>, sums: &mut [S]) {
        let Block {
            leaves,
            rows,
            n_features,
        } = block;
        // Few columns are the rule; they are rounded without allocating.
        let mut few = [T::ZERO; 64];
        let many: Vec<T>;
        let rounded = if rows.len() <= few.len() {
            for (rounded, &value) in few.iter_mut().zip(rows) {
                *rounded = T::round(value);
            }
            &few[..rows.len()]
        } else {
            many = rows.iter().map(|&value| T::round(value)).collect();
            &many[..]
        };
        let stride = leaves.stride();
        if rounded.len() < n_features * WALKS {
            for (row, sums) in rounded
                .chunks_exact(n_features)
                .zip(sums.chunks_exact_mut(stride))
            {
                self.add_row(leaves, row, sums);
            }
            return;
        }
        let at_once = T::rows_at_once(self, rounded.len());
        let n_rows = rounded.len() / n_features;
        let n_vector_rows = n_rows.checked_div(at_once).unwrap_or(0) * at_once;
        let (vector_rows, rest) = rounded.split_at(n_vector_rows * n_features);
        let (vector_sums, rest_sums) = sums.split_at_mut(n_vector_rows * stride);
        for tree in 0..self.roots.len() {
            let groups = vector_rows.chunks_exact(n_features * at_once.max(1));
            for (rows, sums) in groups.zip(vector_sums.chunks_exact_mut(stride * at_once.max(1))) {
                self.add_tree_at_once(leaves, tree, rows, n_features, sums);
            }
            let groups = rest.chunks(n_features * WALKS);
            for (rows, sums) in groups.zip(rest_sums.chunks_mut(stride * WALKS)) {
                self.add_tree(leaves, tree, rows, n_features, sums);
            }
        }
    }

    /// Walks one tree for as many rows as the processor takes at once.
    fn add_tree_at_once<S: Sum>(
        &self,
        leaves: &Leaves<S>,
        tree: usize,
        rows: &[T],
        n_features: usize,
        sums: &mut [S],
    ) {
        let mut ends = [0; ROWS_AT_ONCE_MAX];
        T::walk_many(self, self.roots[tree], rows, n_features, &mut ends);
        for (ends, sums) in ends
            .chunks_exact(WALKS)
            .zip(sums.chunks_exact_mut(leaves.stride() * WALKS))
        {
            let leaf_of = |_tree: usize, row: usize| self.extra[ends[row] as usize] as usize;
            // SAFETY: the tree exists and the walks ended on leaves of it.
            unsafe { add_leaves::<S, WALKS>(leaves, tree..tree + 1, leaf_of, sums) };
        }
    }

    /// Walks all trees for one row, several trees side by side.
    fn add_row<S: Sum>(&self, leaves: &Leaves<S>, row: &[T], sums: &mut [S]) {
        let mut tree = 0;
        while tree < self.roots.len() {
            let n_walks = WALKS.min(self.roots.len() - tree);
            // Walks beyond the last tree repeat it and are not added.
            let at = std::array::from_fn(|walk| self.roots[tree + walk.min(n_walks - 1)]);
            let ends = self.walk(at, |_walk| row);
            let leaf_of =
                |index: usize, _row: usize| self.extra[ends[index - tree] as usize] as usize;
            // SAFETY: the trees exist and the walk ended on leaves of theirs.
            unsafe { add_leaves::<S, 1>(leaves, tree..tree + n_walks, leaf_of, sums) };
            tree += n_walks;
        }
    }

    /// Walks one tree for up to [`WALKS`] rows side by side.
    fn add_tree<S: Sum>(
        &self,
        leaves: &Leaves<S>,
        tree: usize,
        rows: &[T],
        n_features: usize,
        sums: &mut [S],
    ) {
        let n_rows = rows.len() / n_features;
        let row = |walk: usize| {
            let start = walk.min(n_rows - 1) * n_features;
            &rows[start..start + n_features]
        };
        let ends = self.walk([self.roots[tree]; WALKS], row);
        let leaf_of = |_tree: usize, row: usize| self.extra[ends[row] as usize] as usize;
        // SAFETY: the tree exists and the walk ended on leaves of it.
        unsafe {
            if n_rows == WALKS {
                add_leaves::<S, WALKS>(leaves, tree..tree + 1, leaf_of, sums);
            } else {
                for (row, sums) in sums.chunks_exact_mut(leaves.stride()).enumerate() {
                    add_leaves::<S, 1>(
                        leaves,
                        tree..tree + 1,
                        |tree, _row| leaf_of(tree, row),
                        sums,
                    );
                }
            }
        }
    }

    /// Follows [`WALKS`] walks to their leaves; `row_of` gives the row of each.
    #[inline(always)]
    fn walk<'a>(&self, mut at: [u32; WALKS], row_of: impl Fn(usize) -> &'a [T]) -> [u32; WALKS] {
        let rows: [&[T]; WALKS] = std::array::from_fn(row_of);
        let has_categories = !self.categories.is_empty();
        loop {
            let mut moved = 0;
            for (at, row) in at.iter_mut().zip(rows) {
                // SAFETY: every index is a root or a child, which validation has seen in range, and
                // every feature is below the row's length.
                let (node, value) = unsafe {
                    let node = *self.nodes.get_unchecked(*at as usize);
                    (
                        node,
                        *row.get_unchecked((node.feature & FEATURE_MASK) as usize),
                    )
                };
                let missing_left = node.feature & MISSING_LEFT != 0;
                let goes_left = if has_categories && node.feature & CATEGORIES != 0 {
                    let categories = &self.categories[self.extra[*at as usize] as usize];
                    categories.goes_left(value.widen(), missing_left)
                } else {
                    value <= node.threshold || (value.is_missing() & missing_left)
                };
                let next = node.left + u32::from(!goes_left);
                moved |= next ^ *at;
                *at = next;
            }
            if moved == 0 {
                return at;
            }
        }
    }

    /// Returns the memory held, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Compact<T>>()
            + (self.extra.capacity() + self.roots.capacity()) * size_of::<u32>()
            + self
                .categories
                .iter()
                .map(CategorySplit::memory_bytes)
                .sum::<usize>()
    }
}

/// Calls [`Leaves::add`] compiled for the leaves' width.
///
/// # Safety
/// As for [`Leaves::add`].
#[inline(always)]
pub(crate) unsafe fn add_leaves<S: Sum, const ROWS: usize>(
    leaves: &Leaves<S>,
    trees: std::ops::Range<usize>,
    leaf_of: impl Fn(usize, usize) -> usize,
    sums: &mut [S],
) {
    // SAFETY: the caller's contract.
    unsafe {
        match leaves.fixed_width() {
            1 => leaves.add::<1, ROWS>(trees, leaf_of, sums),
            2 => leaves.add::<2, ROWS>(trees, leaf_of, sums),
            4 => leaves.add::<4, ROWS>(trees, leaf_of, sums),
            _ => leaves.add::<0, ROWS>(trees, leaf_of, sums),
        }
    }
}
