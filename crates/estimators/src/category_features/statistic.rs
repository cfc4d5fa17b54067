//! What training saw of each combination of categories, and the number that follows from it.

use crate::spec_error::SpecError;

/// How a number follows from what was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatisticKind {
    /// The share of targets above the border (`Borders`).
    AboveBorder(usize),
    /// The share of targets in the class (`Buckets`).
    InClass(usize),
    /// The mean of targets (`BinarizedTargetMeanValue`, `FloatTargetMeanValue`).
    Mean,
    /// How often the combination occurs (`Counter`, `FeatureFreq`).
    Frequency,
}

/// What was counted for each combination.
#[derive(Clone, Debug, PartialEq)]
pub enum StatisticCounts {
    /// `(combinations, classes)`: how many targets were in each class.
    Classes {
        /// Row-major.
        counts: Vec<i32>,
        /// The number of classes.
        n_classes: usize,
    },
    /// The sum of targets, and their number.
    Means(Vec<(f32, i32)>),
    /// How often each occurs, out of how many.
    Totals {
        /// One for each combination.
        counts: Vec<i32>,
        /// What they are shares of.
        denominator: i32,
    },
}

impl StatisticCounts {
    fn len(&self) -> usize {
        match self {
            Self::Classes { counts, n_classes } => counts.len() / n_classes.max(&1),
            Self::Means(means) => means.len(),
            Self::Totals { counts, .. } => counts.len(),
        }
    }
}

/// The combinations that training saw, by their hashes.
#[derive(Debug)]
pub struct StatisticTable {
    /// Open addressing: a place is empty if its index is [`EMPTY`].
    places: Vec<(u64, u32)>,
    counts: StatisticCounts,
}

const EMPTY: u32 = u32::MAX;

impl StatisticTable {
    /// Returns a table of what `counts` holds; `indices` says for each hash where.
    ///
    /// # Errors
    /// [`SpecError`] if an index is out of range.
    pub fn try_new(indices: &[(u64, u32)], counts: StatisticCounts) -> Result<Self, SpecError> {
        let n_places = indices.len().max(1).saturating_mul(2).next_power_of_two();
        let mut table = Self {
            places: vec![(0, EMPTY); n_places],
            counts,
        };
        for &(hash, index) in indices {
            if index as usize >= table.counts.len() {
                let n_counts = table.counts.len();
                return Err(SpecError::new(format!(
                    "a combination is counted at {index} of {n_counts}"
                )));
            }
            let place = table.place(hash);
            // The first of two equal hashes is the one that is found.
            if table.places[place].1 == EMPTY {
                table.places[place] = (hash, index);
            }
        }
        Ok(table)
    }

    /// Returns the place of a hash, or the empty one where it would be; at most half of the places are taken.
    fn place(&self, hash: u64) -> usize {
        let mask = self.places.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "masked")]
        let mut place = hash as usize & mask;
        while self.places[place].1 != EMPTY && self.places[place].0 != hash {
            place = (place + 1) & mask;
        }
        place
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let counts = match &self.counts {
            StatisticCounts::Classes { counts, .. } | StatisticCounts::Totals { counts, .. } => {
                size_of_val(counts.as_slice())
            }
            StatisticCounts::Means(means) => size_of_val(means.as_slice()),
        };
        size_of_val(self.places.as_slice()) + counts
    }
}

/// A feature computed from a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistic {
    /// The index of the combination of categories.
    pub combination: usize,
    /// The index of the table.
    pub table: usize,
    /// How it follows from the counts.
    pub kind: StatisticKind,
    /// Added to what is counted.
    pub prior: f32,
    /// Added to what it is a share of.
    pub prior_denominator: f32,
    /// Added to the share.
    pub shift: f32,
    /// What that is multiplied by.
    pub scale: f32,
}

impl Statistic {
    /// Checks that `table` holds what this is computed from.
    pub(super) fn check(&self, table: &StatisticTable) -> Result<(), SpecError> {
        let fits = match (self.kind, &table.counts) {
            (StatisticKind::AboveBorder(at), StatisticCounts::Classes { counts, n_classes }) => {
                *n_classes >= 2 && at + 1 < *n_classes && counts.len() % n_classes == 0
            }
            (StatisticKind::InClass(class), StatisticCounts::Classes { counts, n_classes }) => {
                class < *n_classes && counts.len() % n_classes == 0
            }
            (StatisticKind::Mean, StatisticCounts::Means(_))
            | (StatisticKind::Frequency, StatisticCounts::Totals { .. }) => true,
            _ => false,
        };
        match fits {
            true => Ok(()),
            false => Err(SpecError::new(format!(
                "{:?} of targets that were not counted so",
                self.kind
            ))),
        }
    }

    /// Returns the feature of the combination of this hash; one that was not seen has counts of zero.
    pub(super) fn value(&self, table: &StatisticTable, hash: u64) -> f32 {
        let index = Some(table.places[table.place(hash)].1).filter(|&index| index != EMPTY);
        let index = index.map(|index| index as usize);
        let (counted, total) = match &table.counts {
            StatisticCounts::Classes { counts, n_classes } => {
                let row = index.map_or(&[][..], |at| &counts[at * n_classes..][..*n_classes]);
                let sum = |counts: &[i32]| counts.iter().fold(0_i32, |sum, n| sum.wrapping_add(*n));
                let counted = match self.kind {
                    StatisticKind::InClass(class) => row.get(class).copied().unwrap_or(0),
                    StatisticKind::AboveBorder(border) => sum(row.get(border + 1..).unwrap_or(&[])),
                    StatisticKind::Mean | StatisticKind::Frequency => 0,
                };
                (single(counted), single(sum(row)))
            }
            StatisticCounts::Means(means) => {
                let (sum, count) = index.map_or((0.0, 0), |index| means[index]);
                (sum, single(count))
            }
            StatisticCounts::Totals {
                counts,
                denominator,
            } => {
                let count = index.map_or(0, |index| counts[index]);
                (single(count), single(*denominator))
            }
        };
        let share = (counted + self.prior) / (total + self.prior_denominator);
        (share + self.shift) * self.scale
    }
}

#[expect(clippy::cast_precision_loss, reason = "as CatBoost rounds counts")]
fn single(count: i32) -> f32 {
    count as f32
}
