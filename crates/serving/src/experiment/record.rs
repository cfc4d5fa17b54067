//! The lines of an experiment's file.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};

use super::folded::Folded;
use super::series::Series;
use super::stage_units::Loose;
use super::tally::{Arm, Rewards, Unit};

/// How a line of an experiment's file is written and read. Which form it has is said by whoever knows forms: none is known here.
#[derive(Clone, Copy, Debug)]
pub struct LineForm {
    /// Returns a line, without its end.
    pub write: fn(&WrittenLine<'_>) -> io::Result<Vec<u8>>,
    /// Reads a line; `None` if it is none.
    pub read: fn(&[u8]) -> Option<ReadLine>,
}

/// A line that is to be written.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct WrittenLine<'r>(&'r Record<'r>);

/// A line that was read.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct ReadLine(Record<'static>);

impl LineForm {
    /// Returns a record as a line.
    pub(super) fn line(self, record: &Record<'_>) -> io::Result<Vec<u8>> {
        let mut line = (self.write)(&WrittenLine(record))?;
        line.push(b'\n');
        Ok(line)
    }

    /// Returns the record of a line, if it has one.
    pub(super) fn record(self, line: &[u8]) -> Option<Record<'static>> {
        (self.read)(line).map(|ReadLine(record)| record)
    }
}

/// What is counted beside units.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counters {
    /// Requests that had no unit.
    pub(super) unassigned: u64,
    /// Exposures that were lost.
    pub(super) lost: u64,
    /// Exposures of units for which there was no room.
    #[serde(default)]
    pub(super) units_lost: u64,
}

/// A line: what happened, or, in a file that was written anew, what had come of everything before.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(super) enum Record<'a> {
    /// A unit was shown a variant.
    Exposure {
        /// In ms since 1970.
        at: u64,
        experiment: Cow<'a, str>,
        variant: Cow<'a, str>,
        unit: Cow<'a, str>,
        request_id: Cow<'a, str>,
        revision: Cow<'a, str>,
        ok: bool,
        /// Whether its caller left before there was an answer: then it is not `ok`, and no error either.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        left: bool,
        seconds: f64,
        /// `hash`, `override` or `bandit`.
        by: Cow<'a, str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        propensity: Option<f64>,
        /// What it was chosen by, where that is so.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        features: Vec<(Cow<'a, str>, f64)>,
    },
    /// A unit that was known was shown the winner, which took all.
    Winner {
        /// In ms since 1970; files of earlier releases do not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<u64>,
        unit: Cow<'a, str>,
        variant: Cow<'a, str>,
    },
    /// Nobody has won any more: who was shown the winner is compared no more, whatever wins later.
    Resumed {
        /// In ms since 1970.
        at: u64,
    },
    /// From then on units are split in these shares.
    Shares { shares: Vec<(String, f64)> },
    /// Something came of a unit.
    Outcome {
        at: u64,
        unit: Cow<'a, str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<Cow<'a, str>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Cow<'a, str>>,
        metrics: Vec<(Cow<'a, str>, f64)>,
        /// What came after the window of its metric, and does not count.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        late: Vec<(Cow<'a, str>, f64)>,
    },
    /// What was counted until then.
    Counters(Counters),
    /// The names that units' numbers refer to, in a file that was written anew.
    Names {
        arms: Vec<Arm>,
        metrics: Vec<String>,
        outcomes: u64,
        is_reweighted: bool,
    },
    /// All that is known of a unit.
    Unit {
        unit: Cow<'a, str>,
        #[serde(flatten)]
        state: Unit,
    },
    /// A request that outcomes may still name, by the hash of its id.
    Request {
        #[serde(default)]
        at: u64,
        hash: u64,
        unit: Cow<'a, str>,
        variant: u8,
        propensity: f32,
        #[serde(default, skip_serializing_if = "<[f64]>::is_empty")]
        features: Box<[f64]>,
    },
    /// The hashes of outcomes' ids.
    Ids { hashes: Vec<u64> },
    /// What a bandit has earned.
    Rewards { rewards: Rewards },
    /// What requests without a unit met in a rollout's stage.
    Loose { loose: Loose },
    /// What units of a rollout's stage came to that are no longer known.
    Folded { folded: Folded },
    /// What earlier looks have come to.
    Series { series: Series },
}
