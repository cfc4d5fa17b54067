//! The compiled forest: picks a kernel, runs rows through it in blocks.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::instructions::Instructions;
use crate::interval::IntervalTables;
use crate::leaves::{Block, Leaves, Sum};
use crate::ranked::Ranked;
use crate::spec::{ForestError, ForestSpec, Precision};
use crate::traversal::Traversal;
use crate::tree::{self, Tree};

/// A tree ensemble, ready to score.
#[derive(Debug)]
pub struct Forest {
    n_features: usize,
    n_scores: usize,
    accepts: Accepts,
    divisor: Option<f64>,
    addends: Addends,
    layout: Layout,
    n_trees: usize,
    n_nodes: usize,
}

/// What is added up, in the precision of the sums.
#[derive(Debug)]
enum Addends {
    Single(Terms<f32>),
    Double(Terms<f64>),
}

#[derive(Debug)]
struct Terms<S> {
    /// The initial scores, padded to the leaves' stride.
    base: Vec<S>,
    leaves: Leaves<S>,
}

impl<S: Sum> Terms<S> {
    fn collect(spec: &ForestSpec, trees: &[Tree]) -> Result<Self, ForestError> {
        let leaves = Leaves::collect(trees, spec.n_scores).ok_or_else(|| {
            ForestError::new(
                "the trees have more than 2^32 leaves, or add to different kinds of scores",
            )
        })?;
        let mut base: Vec<S> = spec.base.iter().map(|&score| S::round(score)).collect();
        base.resize(leaves.stride(), S::default());
        Ok(Self { base, leaves })
    }

    fn memory_bytes(&self) -> usize {
        self.leaves.memory_bytes() + self.base.capacity() * size_of::<S>()
    }
}

#[derive(Debug)]
enum Layout {
    Intervals(IntervalTables),
    SingleRanks(Ranked<f32>),
    DoubleRanks(Ranked<f64>),
    Single(Traversal<f32>),
    Double(Traversal<f64>),
}

impl Layout {
    /// Compiles for `kernel`; `None` if it does not take such trees.
    fn compile(
        spec: &ForestSpec,
        trees: &[Tree],
        kernel: Kernel,
        instructions: Instructions,
    ) -> Result<Option<Self>, ForestError> {
        Ok(match (kernel, spec.precision) {
            (Kernel::Intervals, _) => IntervalTables::compile(spec, trees).map(Self::Intervals),
            (Kernel::Ranks, Precision::Single) => {
                Ranked::compile(spec, trees, instructions).map(Self::SingleRanks)
            }
            (Kernel::Ranks, Precision::Double) => {
                Ranked::compile(spec, trees, instructions).map(Self::DoubleRanks)
            }
            (Kernel::Traversal, _) => Some(Self::walk(spec, trees)?),
        })
    }

    /// Compiles for the kernel that takes any tree.
    fn walk(spec: &ForestSpec, trees: &[Tree]) -> Result<Self, ForestError> {
        let too_large = || ForestError::new("the trees have more than 2^32 nodes in all");
        Ok(match spec.precision {
            Precision::Single => Self::Single(Traversal::compile(trees).ok_or_else(too_large)?),
            Precision::Double => Self::Double(Traversal::compile(trees).ok_or_else(too_large)?),
        })
    }
}

/// The kernels there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Tables of the leaves that remain possible for each interval between thresholds; small trees.
    Intervals,
    /// Comparisons of the values' ranks among thresholds, all splits of a tree at once; trees of at most 256 leaves.
    Ranks,
    /// Walks from root to leaf; any tree.
    Traversal,
}

impl Kernel {
    /// Returns the name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intervals => "interval tables",
            Self::Ranks => "ranks",
            Self::Traversal => "traversal",
        }
    }
}

/// Rows that are scored together, so that a tree is read once for all of them.
const BLOCK_ROWS: usize = 256;

/// The largest double that rounds to a finite single: half a unit above the largest single, exclusive.
const SINGLE_MAGNITUDE_MAX: f64 = f64::from_bits(0x47ef_ffff_efff_ffff);

impl Forest {
    /// Checks `spec` and compiles it for the kernel that suits it.
    ///
    /// # Errors
    /// [`ForestError`] naming the tree and node where the trees contradict themselves: a child or feature
    /// that does not exist, a node with two parents, values that do not match the nodes.
    pub fn try_new(spec: &ForestSpec) -> Result<Self, ForestError> {
        let trees = validate(spec)?;
        for kernel in [Kernel::Ranks, Kernel::Intervals] {
            if let Some(layout) = Layout::compile(spec, &trees, kernel, Instructions::detect())? {
                return Self::assemble(spec, &trees, layout);
            }
        }
        let layout = Layout::walk(spec, &trees)?;
        Self::assemble(spec, &trees, layout)
    }

    /// As [`Forest::try_new`], for one kernel; `None` if it does not take such trees.
    ///
    /// # Errors
    /// As [`Forest::try_new`].
    pub fn with_kernel(spec: &ForestSpec, kernel: Kernel) -> Result<Option<Self>, ForestError> {
        Self::with(spec, kernel, Instructions::detect())
    }

    fn with(
        spec: &ForestSpec,
        kernel: Kernel,
        instructions: Instructions,
    ) -> Result<Option<Self>, ForestError> {
        let trees = validate(spec)?;
        match Layout::compile(spec, &trees, kernel, instructions)? {
            Some(layout) => Self::assemble(spec, &trees, layout).map(Some),
            None => Ok(None),
        }
    }

    fn assemble(spec: &ForestSpec, trees: &[Tree], layout: Layout) -> Result<Self, ForestError> {
        let addends = match spec.summation {
            Precision::Single => Addends::Single(Terms::collect(spec, trees)?),
            Precision::Double => Addends::Double(Terms::collect(spec, trees)?),
        };
        Ok(Self {
            n_features: spec.n_features,
            n_scores: spec.n_scores,
            accepts: Accepts {
                missing: spec.accepts_missing,
                magnitude_max: match (spec.precision, spec.accepts_infinite) {
                    (_, true) => f64::INFINITY,
                    (Precision::Single, false) => SINGLE_MAGNITUDE_MAX,
                    (Precision::Double, false) => f64::MAX,
                },
            },
            divisor: spec.divisor,
            addends,
            layout,
            n_trees: trees.len(),
            n_nodes: trees.iter().map(|tree| tree.nodes.len()).sum(),
        })
    }

    /// Returns the kernel in use.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        match self.layout {
            Layout::Intervals(_) => Kernel::Intervals,
            Layout::SingleRanks(_) | Layout::DoubleRanks(_) => Kernel::Ranks,
            Layout::Single(_) | Layout::Double(_) => Kernel::Traversal,
        }
    }

    /// Returns the number of trees.
    #[must_use]
    pub fn n_trees(&self) -> usize {
        self.n_trees
    }

    /// Returns the number of nodes of all trees, leaves included.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        self.n_nodes
    }

    /// Scores rows block by block.
    fn score_with<S: Sum>(&self, terms: &Terms<S>, rows: Rows<'_>, scores: &mut [f64]) {
        let stride = terms.base.len();
        // One row of few scores, the commonest request, must not allocate.
        let mut few = [S::default(); 16];
        let mut many;
        let sums = if rows.n_rows() * stride <= few.len() {
            &mut few[..]
        } else {
            many = vec![S::default(); rows.n_rows().min(BLOCK_ROWS) * stride];
            &mut many[..]
        };
        let blocks = rows.values().chunks(BLOCK_ROWS * self.n_features);
        for (rows, scores) in blocks.zip(scores.chunks_mut(BLOCK_ROWS * self.n_scores)) {
            let n_rows = rows.len() / self.n_features;
            self.score_block(terms, rows, &mut sums[..n_rows * stride], scores);
        }
    }

    /// Scores at most [`BLOCK_ROWS`] rows; `sums` is `(rows, stride)`.
    fn score_block<S: Sum>(
        &self,
        terms: &Terms<S>,
        rows: &[f64],
        sums: &mut [S],
        scores: &mut [f64],
    ) {
        let stride = terms.base.len();
        for sums in sums.chunks_exact_mut(stride) {
            sums.copy_from_slice(&terms.base);
        }
        let block = Block {
            leaves: &terms.leaves,
            rows,
            n_features: self.n_features,
        };
        match &self.layout {
            Layout::Intervals(tables) => tables.add(block, sums),
            Layout::SingleRanks(ranked) => ranked.add(block, sums),
            Layout::DoubleRanks(ranked) => ranked.add(block, sums),
            Layout::Single(traversal) => traversal.add(block, sums),
            Layout::Double(traversal) => traversal.add(block, sums),
        }
        let rows_of_scores = scores.chunks_exact_mut(self.n_scores);
        for (sums, scores) in sums.chunks_exact(stride).zip(rows_of_scores) {
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score = match self.divisor {
                    Some(divisor) => sum.widen() / divisor,
                    None => sum.widen(),
                };
            }
        }
    }
}

pub(crate) fn validate(spec: &ForestSpec) -> Result<Vec<Tree>, ForestError> {
    if spec.n_features == 0 || spec.n_scores == 0 {
        return Err(ForestError::new("a forest needs features and scores"));
    }
    if spec.base.len() != spec.n_scores {
        return Err(ForestError::new(format!(
            "{} initial scores for {} scores",
            spec.base.len(),
            spec.n_scores
        )));
    }
    let trees = spec.trees.iter().enumerate();
    trees
        .map(|(index, tree)| tree::validate(spec, index, tree))
        .collect()
}

impl Scorer for Forest {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.n_scores
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        assert_eq!(rows.n_columns(), self.n_features, "width of rows");
        assert_eq!(
            scores.len(),
            rows.n_rows() * self.n_scores,
            "number of scores"
        );
        match &self.addends {
            Addends::Single(terms) => self.score_with(terms, rows, scores),
            Addends::Double(terms) => self.score_with(terms, rows, scores),
        }
    }

    fn memory_bytes(&self) -> usize {
        let layout = match &self.layout {
            Layout::Intervals(tables) => tables.memory_bytes(),
            Layout::SingleRanks(ranked) => ranked.memory_bytes(),
            Layout::DoubleRanks(ranked) => ranked.memory_bytes(),
            Layout::Single(traversal) => traversal.memory_bytes(),
            Layout::Double(traversal) => traversal.memory_bytes(),
        };
        let addends = match &self.addends {
            Addends::Single(terms) => terms.memory_bytes(),
            Addends::Double(terms) => terms.memory_bytes(),
        };
        layout + addends
    }
}

#[cfg(test)]
mod tests;
