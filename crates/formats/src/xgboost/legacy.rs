//! XGBoost's old binary form: structs as they lay in memory, little-endian, with reserved space.
//!
//! It has no magic number of its own (some writers put `binf` before it): [`is_legacy`] goes by the name of the
//! booster, which stands at a fixed place.

use coracle_forest::{NodeSpec, SplitRule, Target, TreeSpec};
use coracle_model::LoadError;

use super::ensemble::{Booster, Ensemble, Trees};
use super::{malformed, unsupported};

/// The sizes of the structs, with their reserved space.
const LEARNER_BYTES: usize = 136;
const TREES_BYTES: usize = 160;
const TREE_BYTES: usize = 148;
const LINEAR_BYTES: usize = 136;
const NODE_BYTES: usize = 20;
const STATISTICS_BYTES: usize = 16;

/// The flag in a split's feature that sends missing values left.
const DEFAULT_LEFT: u32 = 1 << 31;

/// What the binary form holds.
#[derive(Debug)]
pub(super) struct Legacy {
    pub(super) version: Option<String>,
    pub(super) objective: String,
    pub(super) base_score: f32,
    pub(super) n_features: usize,
    pub(super) n_groups: usize,
    pub(super) booster: Booster,
    pub(super) attributes: Vec<(String, String)>,
}

/// Tells whether `bytes` begin as a model in the old binary form does.
pub(crate) fn is_legacy(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes);
    let name = || -> Result<String, LoadError> {
        cursor.take(LEARNER_BYTES)?;
        cursor.text()?;
        cursor.text()
    }();
    name.is_ok_and(|name| ["gbtree", "dart", "gblinear"].contains(&name.as_str()))
}

impl Ensemble {
    /// Reads the old binary form.
    ///
    /// # Errors
    /// Kind `Malformed` if the file ends too early or contradicts itself.
    pub(crate) fn parse_legacy(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::from_legacy(read(&mut Cursor::new(bytes))?)
    }
}

fn read(cursor: &mut Cursor<'_>) -> Result<Legacy, LoadError> {
    let mut header = Cursor::new(cursor.take(LEARNER_BYTES)?);
    let base_score = f32::from_le_bytes(header.array()?);
    let n_features = header.count()?;
    let n_classes = header.count()?;
    let has_attributes = header.count()? != 0;
    let _has_metrics = header.count()?;
    let (major, minor) = (header.count()?, header.count()?);
    let n_targets = header.count()?;
    let objective = cursor.text()?;
    let booster_name = cursor.text()?;
    let n_groups = n_classes.max(n_targets).max(1);
    let booster = match booster_name.as_str() {
        "gbtree" => Booster::Trees(read_trees(cursor, false)?),
        "dart" => Booster::Trees(read_trees(cursor, true)?),
        "gblinear" => {
            cursor.take(LINEAR_BYTES)?;
            Booster::Linear(cursor.singles()?)
        }
        name => {
            let name = crate::document::quoted(name);
            return Err(unsupported(format!("booster {name} is not supported")));
        }
    };
    let attributes = match has_attributes {
        true => read_attributes(cursor)?,
        false => Vec::new(),
    };
    Ok(Legacy {
        // Files of releases before 1.0 hold zeros there.
        version: (major > 0).then(|| format!("{major}.{minor}")),
        objective,
        base_score,
        n_features,
        n_groups,
        booster,
        attributes,
    })
}

fn read_trees(cursor: &mut Cursor<'_>, is_weighted: bool) -> Result<Trees, LoadError> {
    let mut header = Cursor::new(cursor.take(TREES_BYTES)?);
    let n_trees = header.count()?;
    // Unused since 1.0 in some releases, the number of parallel trees in others.
    let n_parallel = header.count()?.max(1);
    let mut trees = Vec::new();
    for _ in 0..n_trees {
        trees.push(read_tree(cursor)?);
    }
    for tree in &mut trees {
        tree.target = Target::OneScore(cursor.count()?);
    }
    if is_weighted && n_trees > 0 {
        let weights = cursor.singles()?;
        if weights.len() != trees.len() {
            return Err(malformed("another number of weights than trees"));
        }
        for (tree, weight) in trees.iter_mut().zip(weights) {
            for value in &mut tree.values {
                *value = f64::from(crate::numbers::to_single(*value) * weight);
            }
        }
    }
    Ok(Trees {
        trees,
        is_weighted,
        iteration_starts: Vec::new(),
        n_parallel,
    })
}

fn read_tree(cursor: &mut Cursor<'_>) -> Result<TreeSpec, LoadError> {
    let mut header = Cursor::new(cursor.take(TREE_BYTES)?);
    header.take(4)?;
    let n_nodes = header.count()?;
    header.take(12)?;
    let leaf_width = header.count()?;
    if leaf_width > 1 {
        return Err(unsupported(
            "trees of several outputs in the old binary form are not supported",
        ));
    }
    let n_bytes = n_nodes.saturating_mul(NODE_BYTES);
    let mut records = Cursor::new(cursor.take(n_bytes)?);
    let n_bytes = n_nodes.saturating_mul(STATISTICS_BYTES);
    cursor.take(n_bytes)?;
    let mut nodes = Vec::with_capacity(n_nodes);
    let mut values = Vec::with_capacity(n_nodes);
    for _ in 0..n_nodes {
        records.take(4)?;
        let left = i32::from_le_bytes(records.array()?);
        let right = i32::from_le_bytes(records.array()?);
        let feature = u32::from_le_bytes(records.array()?);
        let number = f32::from_le_bytes(records.array()?);
        let (Ok(left), Ok(right)) = (u32::try_from(left), u32::try_from(right)) else {
            nodes.push(NodeSpec::Leaf);
            values.push(f64::from(number));
            continue;
        };
        nodes.push(NodeSpec::Split {
            feature: feature & !DEFAULT_LEFT,
            rule: SplitRule::LessOrEqual(number.next_down().into()),
            missing_left: feature & DEFAULT_LEFT != 0,
            left,
            right,
        });
        values.push(0.0);
    }
    Ok(TreeSpec {
        nodes,
        values,
        target: Target::OneScore(0),
    })
}

fn read_attributes(cursor: &mut Cursor<'_>) -> Result<Vec<(String, String)>, LoadError> {
    let n_attributes = u64::from_le_bytes(cursor.array()?);
    let mut attributes = Vec::new();
    for _ in 0..n_attributes {
        attributes.push((cursor.text()?, cursor.text()?));
    }
    Ok(attributes)
}

/// Reads forward through bytes.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let rest = bytes.strip_prefix(b"binf").unwrap_or(bytes);
        Self { rest }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], LoadError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| malformed("not a sound XGBoost model: the file ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let bytes = self.take(N)?;
        let array = bytes.first_chunk().copied();
        array.ok_or_else(|| malformed("not a sound XGBoost model: the file ends too early"))
    }

    /// Reads a 32-bit count.
    fn count(&mut self) -> Result<usize, LoadError> {
        let count = i32::from_le_bytes(self.array()?);
        usize::try_from(count).map_err(|_negative| malformed(format!("a count is {count}")))
    }

    fn length(&mut self) -> Result<usize, LoadError> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_large| malformed(format!("a length is {length}")))
    }

    fn text(&mut self) -> Result<String, LoadError> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_invalid| malformed("text is not UTF-8"))
    }

    fn singles(&mut self) -> Result<Vec<f32>, LoadError> {
        let length = self.length()?;
        let bytes = self.take(length.saturating_mul(4))?;
        let (chunks, _rest) = bytes.as_chunks::<4>();
        Ok(chunks
            .iter()
            .map(|&chunk| f32::from_le_bytes(chunk))
            .collect())
    }
}
