//! XGBoost's trees: columns of numbers, a value going left if it is less than the threshold.

use coracle_forest::{Members, NodeSpec, SplitRule, Target, TreeSpec};
use coracle_model::{LoadError, LoadErrorKind};

use super::ensemble::Trees;
use crate::document::{Document, Entry, whole};
use crate::numbers::to_single;

/// XGBoost's bound on categories.
const CATEGORY_MAX: usize = 1 << 24;
/// The most 32-bit words that all category sets of a model may take: 64 MiB.
const CATEGORY_WORDS_MAX: usize = 1 << 24;

/// Reads the trees of a model; `weights` scale their leaves (dart).
pub(super) fn read(
    model: &Entry<'_>,
    weights: Option<Entry<'_>>,
    n_groups: usize,
) -> Result<Trees, LoadError> {
    let groups = model.field("tree_info")?.numbers()?;
    let entries = model.field("trees")?.items()?;
    if groups.len() != entries.len() {
        let message = format!(
            "{} trees, but 'tree_info' of {}",
            entries.len(),
            groups.len()
        );
        return Err(model.malformed(message));
    }
    let drop_weights = match &weights {
        Some(entry) if entry.numbers()?.len() == entries.len() => entry.numbers()?,
        Some(entry) => return Err(entry.malformed("another number of weights than trees")),
        None => &[],
    };
    let mut n_category_words = 0;
    let mut trees = Vec::with_capacity(entries.len());
    for (index, (entry, &group)) in entries.iter().zip(groups).enumerate() {
        let weight = drop_weights
            .get(index)
            .map_or(1.0, |&weight| to_single(weight));
        let group = whole(group).ok_or_else(|| model.malformed("'tree_info' holds no counts"))?;
        let reader = TreeReader::new(entry, n_groups)?;
        trees.push(reader.read(group, weight, &mut n_category_words)?);
    }
    let parameters = model.find("gbtree_model_param");
    let n_parallel = parameters.and_then(|entry| entry.find("num_parallel_tree"));
    Ok(Trees {
        trees,
        is_weighted: weights.is_some(),
        iteration_starts: counts(model, "iteration_indptr")?,
        n_parallel: n_parallel.map_or(Ok(1), |entry| entry.count())?.max(1),
    })
}

/// Reads a list of counts, empty if it is not there.
fn counts(entry: &Entry<'_>, key: &str) -> Result<Vec<usize>, LoadError> {
    let Some(entry) = entry.find(key) else {
        return Ok(Vec::new());
    };
    let counts: Option<Vec<usize>> = entry.numbers()?.iter().map(|&n| whole(n)).collect();
    counts.ok_or_else(|| entry.malformed("is not a list of counts"))
}

/// The columns of one tree.
struct TreeReader<'e, 'd> {
    entry: &'e Entry<'d>,
    left: &'d [f64],
    right: &'d [f64],
    features: &'d [f64],
    thresholds: &'d [f64],
    default_left: Vec<bool>,
    leaves: Leaves<'d>,
}

/// What a leaf holds.
enum Leaves<'d> {
    /// The number in place of a threshold.
    Scalar,
    /// A vector at its node.
    AtNode { values: &'d [f64], width: usize },
    /// A vector at the index that stands in place of the right child.
    AtIndex { values: &'d [f64], width: usize },
}

impl<'e, 'd> TreeReader<'e, 'd> {
    fn new(entry: &'e Entry<'d>, n_groups: usize) -> Result<Self, LoadError> {
        let column = |key: &str| entry.field(key)?.numbers();
        let left = column("left_children")?;
        let width = match entry.find("tree_param") {
            Some(parameters) => parameters.field("size_leaf_vector")?.count()?,
            None => 0,
        };
        let leaves = match (width, entry.find("leaf_weights")) {
            (0 | 1, _) => Leaves::Scalar,
            (width, _) if width != n_groups => {
                let message = format!("leaves of {width} numbers for {n_groups} scores");
                return Err(entry.malformed(message));
            }
            (width, Some(weights)) => Leaves::AtIndex {
                values: weights.numbers()?,
                width,
            },
            (width, None) => Leaves::AtNode {
                values: column("base_weights")?,
                width,
            },
        };
        let reader = Self {
            entry,
            left,
            right: column("right_children")?,
            features: column("split_indices")?,
            thresholds: column("split_conditions")?,
            default_left: flags(&entry.field("default_left")?)?,
            leaves,
        };
        let n_nodes = left.len();
        let lengths = [
            reader.right.len(),
            reader.features.len(),
            reader.thresholds.len(),
        ];
        if lengths.iter().any(|&length| length != n_nodes) || reader.default_left.len() != n_nodes {
            return Err(entry.malformed("its columns differ in length"));
        }
        Ok(reader)
    }

    fn read(
        &self,
        group: usize,
        weight: f32,
        n_category_words: &mut usize,
    ) -> Result<TreeSpec, LoadError> {
        let mut nodes = Vec::with_capacity(self.left.len());
        let mut values = Vec::new();
        let columns = self
            .left
            .iter()
            .zip(self.right)
            .zip(self.features)
            .zip(self.thresholds);
        for ((((left, right), feature), threshold), &default_left) in
            columns.zip(&self.default_left)
        {
            let is_leaf = *left == -1.0;
            self.push_values(
                &mut values,
                nodes.len(),
                is_leaf,
                (*right, *threshold),
                weight,
            )?;
            if is_leaf {
                nodes.push(NodeSpec::Leaf);
                continue;
            }
            let index = |value: f64| {
                let index = whole(value).and_then(|value| u32::try_from(value).ok());
                index.ok_or_else(|| self.entry.malformed("a child or feature is out of range"))
            };
            nodes.push(NodeSpec::Split {
                feature: index(*feature)?,
                // Less than a single is at most the single before it.
                rule: SplitRule::LessOrEqual(to_single(*threshold).next_down().into()),
                missing_left: default_left,
                left: index(*left)?,
                right: index(*right)?,
            });
        }
        self.read_categories(&mut nodes, n_category_words)?;
        let target = match self.leaves {
            Leaves::Scalar => Target::OneScore(group),
            Leaves::AtNode { .. } | Leaves::AtIndex { .. } => Target::AllScores,
        };
        Ok(TreeSpec {
            nodes,
            values,
            target,
        })
    }

    /// Adds the values of the next node.
    fn push_values(
        &self,
        values: &mut Vec<f64>,
        node: usize,
        is_leaf: bool,
        (right, threshold): (f64, f64),
        weight: f32,
    ) -> Result<(), LoadError> {
        let scaled = |value: f64| f64::from(to_single(value) * weight);
        let (vectors, width, index) = match self.leaves {
            Leaves::Scalar => {
                values.push(if is_leaf { scaled(threshold) } else { 0.0 });
                return Ok(());
            }
            Leaves::AtNode { values, width } => (values, width, Some(node)),
            Leaves::AtIndex { values, width } => (values, width, whole(right)),
        };
        if !is_leaf {
            values.extend(std::iter::repeat_n(0.0, width));
            return Ok(());
        }
        let vector = index
            .and_then(|index| index.checked_mul(width))
            .and_then(|start| vectors.get(start..)?.get(..width));
        let vector = vector.ok_or_else(|| self.entry.malformed("a leaf has no values"))?;
        values.extend(vector.iter().map(|&value| scaled(value)));
        Ok(())
    }

    /// Turns the splits that ask for a category into such; categories in the list go right.
    fn read_categories(
        &self,
        nodes: &mut [NodeSpec],
        n_category_words: &mut usize,
    ) -> Result<(), LoadError> {
        let places = counts(self.entry, "categories_nodes")?;
        let starts = counts(self.entry, "categories_segments")?;
        let sizes = counts(self.entry, "categories_sizes")?;
        let all = counts(self.entry, "categories")?;
        if starts.len() != places.len() || sizes.len() != places.len() {
            return Err(self
                .entry
                .malformed("its category columns differ in length"));
        }
        for ((place, start), size) in places.into_iter().zip(starts).zip(sizes) {
            let categories = start
                .checked_add(size)
                .and_then(|end| all.get(start..end))
                .ok_or_else(|| self.entry.malformed("a category list is out of range"))?;
            let bits = self.bits(categories, n_category_words)?;
            let Some(NodeSpec::Split {
                rule,
                missing_left,
                left,
                right,
                ..
            }) = nodes.get_mut(place)
            else {
                return Err(self.entry.malformed("categories belong to no split"));
            };
            *rule = SplitRule::Members(Box::new(Members {
                bits,
                truncates: false,
            }));
            std::mem::swap(left, right);
            *missing_left = !*missing_left;
        }
        let types = counts(self.entry, "split_type")?;
        let is_category = |node: &NodeSpec| {
            matches!(
                node,
                NodeSpec::Split {
                    rule: SplitRule::Members(_),
                    ..
                }
            )
        };
        if nodes
            .iter()
            .zip(types)
            .any(|(node, kind)| kind == 1 && !is_category(node))
        {
            return Err(self.entry.malformed("a category split has no categories"));
        }
        Ok(())
    }

    fn bits(
        &self,
        categories: &[usize],
        n_category_words: &mut usize,
    ) -> Result<Vec<u32>, LoadError> {
        let largest = categories.iter().max().copied().unwrap_or(0);
        if largest >= CATEGORY_MAX {
            return Err(self
                .entry
                .malformed(format_args!("category {largest} is too large")));
        }
        let n_words = (largest / 32).saturating_add(1);
        *n_category_words = n_category_words.saturating_add(n_words);
        if *n_category_words > CATEGORY_WORDS_MAX {
            let message = "the category sets take more than 64 MiB";
            return Err(self.entry.error(LoadErrorKind::LimitExceeded, message));
        }
        let mut bits = vec![0_u32; n_words];
        for category in categories {
            if let Some(word) = bits.get_mut(category / 32) {
                *word |= 1 << (category % 32);
            }
        }
        Ok(bits)
    }
}

/// Reads a list of truth values, also written as 0 and 1.
fn flags(entry: &Entry<'_>) -> Result<Vec<bool>, LoadError> {
    match entry.document() {
        Document::Array(items) => {
            let flags = items.iter().map(|item| match item {
                Document::Bool(flag) => Some(*flag),
                _ => None,
            });
            let flags: Option<Vec<bool>> = flags.collect();
            flags.ok_or_else(|| entry.malformed("is not a list of truth values"))
        }
        _ => Ok(entry.numbers()?.iter().map(|&flag| flag != 0.0).collect()),
    }
}
