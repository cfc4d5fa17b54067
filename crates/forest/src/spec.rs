//! Trees as a file describes them, before anything is believed.

use std::fmt;

/// A tree ensemble as read from a file.
#[derive(Clone, Debug)]
pub struct ForestSpec {
    /// The number of columns of a row.
    pub n_features: usize,
    /// The number of scores per row.
    pub n_scores: usize,
    /// The precision in which values are compared with thresholds.
    pub precision: Precision,
    /// The precision in which leaves are added. In single precision the base and the leaves are rounded to it first.
    pub summation: Precision,
    /// The scores before any tree; `n_scores` numbers.
    pub base: Vec<f64>,
    /// What the summed scores are divided by at the end; forests average, boosting does not.
    pub divisor: Option<f64>,
    /// Whether NaN is accepted, as a missing value.
    pub accepts_missing: bool,
    /// Whether infinite values are accepted, and in single precision those that become infinite.
    pub accepts_infinite: bool,
    /// The trees, in the order in which their leaves are added.
    pub trees: Vec<TreeSpec>,
}

/// The precision of comparisons, and of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The value is rounded to single precision, then compared with the double-precision threshold.
    Single,
    /// The value is compared as it is.
    Double,
}

/// One tree; its root is node 0.
#[derive(Clone, Debug)]
pub struct TreeSpec {
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
    /// The values of each node, `(nodes, width)` row-major; read at leaves only. The width is `n_scores` for
    /// [`Target::AllScores`] and 1 for [`Target::OneScore`].
    pub values: Vec<f64>,
    /// The scores to which leaves add.
    pub target: Target,
}

/// The scores to which a tree's leaves add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every score (forests: a leaf holds a vector).
    AllScores,
    /// The score at this index (boosting).
    OneScore(usize),
}

/// One node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeSpec {
    /// An end of the walk.
    Leaf,
    /// A question about one column.
    Split {
        /// The column.
        feature: u32,
        /// The question.
        rule: SplitRule,
        /// Where NaN (and an unknown category) goes.
        missing_left: bool,
        /// The node to go to if the answer is yes.
        left: u32,
        /// The node to go to if it is no.
        right: u32,
    },
}

/// The question of a split.
#[derive(Clone, Debug, PartialEq)]
pub enum SplitRule {
    /// Is the value at most this threshold?
    LessOrEqual(f64),
    /// Is the value's category among these? A category that is not known goes where missing values go.
    Categories(Box<Categories>),
    /// Is the value's category among these? Any other value but NaN goes right.
    Members(Box<Members>),
    /// Is the value exactly one of these? Any other value but NaN goes right.
    Values(Box<[f64]>),
}

/// A set of categories from 0 on; any number of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Bit `c % 32` of word `c / 32` stands for category `c`.
    pub bits: Vec<u32>,
    /// Whether a value between -1 and 0 is category 0; otherwise it is none.
    pub truncates: bool,
}

impl Members {
    /// Tells whether `value`, cut to an integer, is in the set; NaN is not.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        let Some(category) = category(value, self.truncates) else {
            return false;
        };
        let word = self.bits.get(category / 32).copied().unwrap_or(0);
        word >> (category % 32) & 1 == 1
    }
}

/// Returns the category that `value` stands for: itself, cut to an integer; `None` for NaN, negative and huge values.
pub(crate) fn category(value: f64, truncates: bool) -> Option<usize> {
    let is_category = value >= 0.0 || truncates && value > -1.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in 0..2^31, or between -1 and 0, which is cut to 0"
    )]
    (is_category && value < 2_147_483_648.0).then_some(value as usize)
}

/// A set of categories 0 to 255, as 256 bits; bit `c % 32` of word `c / 32` stands for category `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Categories {
    /// Those that go left.
    pub left: [u32; 8],
    /// Those known at all; a category that is not known goes where missing values go.
    pub known: [u32; 8],
}

impl Categories {
    /// Returns where `value` goes: left, right, or `None` as a missing value would.
    ///
    /// The value is cut to an integer first; outside 0 to 255 it is unknown.
    #[must_use]
    pub fn goes_left(&self, value: f64) -> Option<bool> {
        if !(0.0..256.0).contains(&value) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in 0..256"
        )]
        let category = value as usize;
        let has = |bits: &[u32; 8]| bits[category / 32] >> (category % 32) & 1 == 1;
        if has(&self.left) {
            Some(true)
        } else if has(&self.known) {
            Some(false)
        } else {
            None
        }
    }
}

/// A tree ensemble that contradicts itself; names the tree and node at fault (0-based).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForestError {
    message: String,
}

impl ForestError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }

    pub(crate) fn in_tree(tree: usize, message: impl fmt::Display) -> Self {
        Self::new(format!("tree {tree}: {message}"))
    }
}

impl fmt::Display for ForestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ForestError {}
