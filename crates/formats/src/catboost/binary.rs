//! The `.cbm` form: `CBM1`, a length, and a FlatBuffer; tables of categories after it.

mod features;

use coracle_forest::{NodeSpec, TreeSpec};
use coracle_model::{LoadError, LoadErrorKind};

use super::ensemble::{Ensemble, Split, loss, symmetric, target};
use super::flatbuffer::Table;
use super::malformed;
use crate::document::parse_json;

const MAGIC: &[u8] = b"CBM1";
/// The most scores per row; more than any real model has.
const SCORES_MAX: usize = 1 << 16;

/// The fields of the schema's tables.
mod slot {
    pub(super) const TREES: usize = 1;
    pub(super) const INFO: usize = 2;
    pub(super) const DIMENSION: usize = 0;
    pub(super) const SPLITS: usize = 1;
    pub(super) const SIZES: usize = 2;
    pub(super) const LEAF_VALUES: usize = 8;
    pub(super) const STEPS: usize = 10;
    pub(super) const LEAF_IDS: usize = 11;
    pub(super) const SCALE: usize = 14;
    pub(super) const BIAS: usize = 15;
    pub(super) const BIASES: usize = 16;
}

/// Tells whether `bytes` begin as a `.cbm` file does.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Ensemble {
    /// Reads a `.cbm` file.
    ///
    /// # Errors
    /// Kind `Unsupported` for features of texts and embeddings, `Malformed` where the file contradicts itself.
    pub(crate) fn parse_binary(bytes: &[u8]) -> Result<Self, LoadError> {
        let short = || malformed("not a sound CatBoost model: the file ends too early");
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_large| short())?;
        let (core, parts) = rest.split_at_checked(length).ok_or_else(short)?;
        let core = Table::root(core)?;
        let trees = core
            .table(slot::TREES)?
            .ok_or_else(|| malformed("the model has no trees"))?;
        let n_scores = usize::try_from(trees.int(slot::DIMENSION, 0)?).unwrap_or(0);
        if n_scores == 0 || n_scores > SCORES_MAX {
            return Err(malformed(format!("{n_scores} scores per row")));
        }
        let features = features::read(&trees, parts)?;
        let info = info(&core)?;
        let find = |name: &str| {
            let mut entries = info.iter();
            entries
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let parsed = |name: &str| {
            let document = find(name).map(|text| parse_json(text.as_bytes()));
            document.transpose().map_err(|error| error.at(name))
        };
        Ok(Self {
            loss: loss(parsed)?,
            classes: parsed("class_params")?,
            probability_threshold: find("binclass_probability_threshold").map(str::to_owned),
            n_scores,
            trees: read_trees(&trees, &features.splits()?, n_scores)?,
            scale: trees.double(slot::SCALE, 1.0)?,
            biases: biases(&trees, n_scores)?,
            features,
        })
    }
}

fn info(core: &Table<'_>) -> Result<Vec<(String, String)>, LoadError> {
    let entries = core.vector(slot::INFO, 4)?.tables()?;
    let mut bytes = 0_usize;
    let mut info = Vec::new();
    for entry in entries {
        let pair = (entry.text(0)?, entry.text(1)?);
        // Entries may share their bytes, so that a small file could name much text.
        bytes = bytes
            .saturating_add(pair.0.len())
            .saturating_add(pair.1.len());
        if bytes > 1 << 28 {
            let message = "the model's metadata take more than 256 MiB";
            return Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
        }
        info.push(pair);
    }
    Ok(info)
}

fn biases(trees: &Table<'_>, n_scores: usize) -> Result<Vec<f64>, LoadError> {
    let several = trees.vector(slot::BIASES, 8)?;
    let several: Vec<f64> = several
        .items::<8>()
        .map(|&bytes| f64::from_le_bytes(bytes))
        .collect();
    let one = trees.double(slot::BIAS, 0.0)?;
    match several.len() {
        0 => Ok(vec![one; n_scores]),
        n if n == n_scores => Ok(several),
        n => Err(malformed(format!("{n} biases for {n_scores} scores"))),
    }
}

fn read_trees(
    trees: &Table<'_>,
    splits: &[Split],
    n_scores: usize,
) -> Result<Vec<TreeSpec>, LoadError> {
    let int = |bytes: &[u8; 4]| usize::try_from(i32::from_le_bytes(*bytes)).ok();
    let numbers = trees.vector(slot::SPLITS, 4)?;
    let numbers: Option<Vec<usize>> = numbers.items::<4>().map(int).collect();
    let sizes = trees.vector(slot::SIZES, 4)?;
    let sizes: Option<Vec<usize>> = sizes.items::<4>().map(int).collect();
    let (Some(numbers), Some(sizes)) = (numbers, sizes) else {
        return Err(malformed("a split or a tree's size is negative"));
    };
    let values = trees.vector(slot::LEAF_VALUES, 8)?;
    let values: Vec<f64> = values
        .items::<8>()
        .map(|&bytes| f64::from_le_bytes(bytes))
        .collect();
    let steps: Vec<[u8; 4]> = trees
        .vector(slot::STEPS, 4)?
        .items::<4>()
        .copied()
        .collect();
    let leaf_ids: Vec<u32> = trees
        .vector(slot::LEAF_IDS, 4)?
        .items::<4>()
        .map(|&bytes| u32::from_le_bytes(bytes))
        .collect();
    let reader = Reader {
        splits,
        numbers: &numbers,
        values: &values,
        steps: &steps,
        leaf_ids: &leaf_ids,
        n_scores,
    };
    match steps.is_empty() {
        true => reader.symmetric(&sizes),
        false => reader.any_shape(&sizes),
    }
}

/// The columns from which trees are read.
struct Reader<'r> {
    splits: &'r [Split],
    /// For each place of a tree the number of its split.
    numbers: &'r [usize],
    values: &'r [f64],
    steps: &'r [[u8; 4]],
    leaf_ids: &'r [u32],
    n_scores: usize,
}

impl Reader<'_> {
    fn symmetric(&self, sizes: &[usize]) -> Result<Vec<TreeSpec>, LoadError> {
        let (mut numbers, mut values) = (self.numbers, self.values);
        let mut trees = Vec::with_capacity(sizes.len());
        for &size in sizes {
            let (own, rest) = numbers
                .split_at_checked(size)
                .ok_or_else(|| malformed("a tree has too few splits"))?;
            numbers = rest;
            let n_values = u32::try_from(size)
                .ok()
                .and_then(|size| 1_usize.checked_shl(size))
                .and_then(|n_leaves| n_leaves.checked_mul(self.n_scores));
            let (own_values, rest) = n_values
                .and_then(|n_values| values.split_at_checked(n_values))
                .ok_or_else(|| malformed("a tree has too few leaf values"))?;
            values = rest;
            let splits: Result<Vec<Split>, LoadError> =
                own.iter().map(|&number| self.split(number)).collect();
            trees.push(symmetric(&splits?, own_values, self.n_scores)?);
        }
        Ok(trees)
    }

    fn split(&self, number: usize) -> Result<Split, LoadError> {
        let split = self.splits.get(number).copied();
        split.ok_or_else(|| malformed(format!("split {number} does not exist")))
    }

    /// Trees whose nodes say how far their subtrees are; a node with a side missing is itself the leaf there.
    fn any_shape(&self, sizes: &[usize]) -> Result<Vec<TreeSpec>, LoadError> {
        let mut trees = Vec::with_capacity(sizes.len());
        let mut start = 0_usize;
        for &size in sizes {
            let end = start.saturating_add(size);
            trees.push(self.nodes(start, end)?);
            start = end;
        }
        Ok(trees)
    }

    fn nodes(&self, start: usize, end: usize) -> Result<TreeSpec, LoadError> {
        let short = || malformed("a tree has too few nodes");
        let steps = self.steps.get(start..end).ok_or_else(short)?;
        let leaf_ids = self.leaf_ids.get(start..end).ok_or_else(short)?;
        let numbers = self.numbers.get(start..end).ok_or_else(short)?;
        let mut nodes = vec![NodeSpec::Leaf; steps.len()];
        let mut values = vec![0.0; steps.len().saturating_mul(self.n_scores)];
        for (place, (&[a, b, c, d], (&leaf, &number))) in
            steps.iter().zip(leaf_ids.iter().zip(numbers)).enumerate()
        {
            let distances = [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])];
            if distances != [0, 0] {
                let mut child = |distance: u16| {
                    let child = match distance {
                        0 => {
                            // The node's own leaf, put at the end.
                            nodes.push(NodeSpec::Leaf);
                            values.extend(self.leaf(leaf)?);
                            nodes.len().checked_sub(1)
                        }
                        distance => place.checked_add(usize::from(distance)),
                    };
                    let child = child.and_then(|child| u32::try_from(child).ok());
                    child.ok_or_else(|| malformed("a child is out of range"))
                };
                let [left, right] = distances;
                let (left, right) = (child(left)?, child(right)?);
                let split = self.split(number)?;
                if let Some(node) = nodes.get_mut(place) {
                    *node = split.node(left, right);
                }
                continue;
            }
            let first = place.saturating_mul(self.n_scores);
            let own = values.iter_mut().skip(first).take(self.n_scores);
            for (value, leaf_value) in own.zip(self.leaf(leaf)?) {
                *value = *leaf_value;
            }
        }
        Ok(TreeSpec {
            nodes,
            values,
            target: target(self.n_scores),
        })
    }

    /// Returns the values of a leaf: they begin at its id.
    fn leaf(&self, id: u32) -> Result<&[f64], LoadError> {
        let first = usize::try_from(id).unwrap_or(usize::MAX);
        let values = self
            .values
            .get(first..)
            .and_then(|rest| rest.get(..self.n_scores));
        values.ok_or_else(|| malformed(format!("leaf {id} does not exist")))
    }
}
