//! The lines of an experiment's file.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::series::Series;
use super::tally::{Arm, Rewards, Unit};

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
        seconds: f64,
        /// `hash`, `override` or `bandit`.
        by: Cow<'a, str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        propensity: Option<f64>,
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
    },
    /// So many requests had no unit until then, and so many exposures were lost.
    Counters { unassigned: u64, lost: u64 },
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
        hash: u64,
        unit: Cow<'a, str>,
        variant: u8,
        propensity: f32,
    },
    /// The hashes of outcomes' ids.
    Ids { hashes: Vec<u64> },
    /// What a bandit has earned.
    Rewards { rewards: Rewards },
    /// What earlier looks have come to.
    Series { series: Series },
}
