//! What is kept of a unit, and what is remembered of requests and ids, each bounded in number.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::linear::Learnt;

/// All that is known of a unit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unit {
    /// The number of the variant that it was shown first.
    pub(super) variant: u8,
    /// The one that it was shown last, with the probability with which it was drawn, or [`Request::NOT_DRAWN`].
    pub(super) last_variant: u8,
    pub(super) last_propensity: f32,
    /// When that was, in ms since 1970, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_at: Option<u64>,
    /// Whether it was shown several, or one by hand: then it is not analysed.
    pub(super) is_mixed: bool,
    pub(super) is_override: bool,
    /// When it was first, if it was and that is known, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mixed_at: Option<u64>,
    /// Whether it came again while a winner took all: once that is over it is not analysed either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) saw_winner: bool,
    /// When it did first, if that is known, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) winner_at: Option<u64>,
    /// Whether what it was shown last is the winner's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_winners: bool,
    /// In ms since 1970.
    pub(super) first_at: u64,
    pub(super) requests: u32,
    pub(super) errors: u32,
    /// Those that were slow, of a rollout's stage.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) slow: u32,
    /// Which of its requests failed first, and was slow first, from 1 on; 0 if none did, or that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) first_error: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) first_slow: u32,
    #[serde(with = "super::number")]
    pub(super) seconds: f64,
    /// By metric.
    pub(super) cells: Vec<Cell>,
    /// What the last variant was chosen by, where that is so.
    #[serde(default, skip_serializing_if = "<[f64]>::is_empty")]
    pub(super) last_features: Box<[f64]>,
}

impl Unit {
    /// Notes that it was shown a variant, be it by hand: one that was shown several is not analysed.
    pub(super) fn show(&mut self, at: u64, (arm, is_override): (u8, bool)) {
        let is_other = self.variant != arm || self.saw_winner;
        if (is_other || is_override) && !(self.is_mixed || self.is_override) {
            self.mixed_at = Some(at);
        }
        self.is_mixed |= is_other;
        self.is_override |= is_override;
    }

    /// Returns its cell of a metric.
    pub(super) fn cell(&mut self, metric: usize) -> Option<&mut Cell> {
        if self.cells.len() <= metric {
            self.cells.resize(metric + 1, Cell::default());
        }
        self.cells.get_mut(metric)
    }

    /// Counts a request that took so long.
    pub(super) fn count(&mut self, seconds: f64, (is_error, is_slow): (bool, bool)) {
        self.requests = self.requests.saturating_add(1);
        let struck = [
            (is_error, &mut self.errors, &mut self.first_error),
            (is_slow, &mut self.slow, &mut self.first_slow),
        ];
        for (is_struck, n, first) in struck {
            if is_struck && *n == 0 {
                *first = self.requests;
            }
            *n = n.saturating_add(u32::from(is_struck));
        }
        self.seconds += seconds;
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A unit's outcomes in one metric.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Cell {
    /// How many there are: none is not the same as zeros.
    pub(super) n: u32,
    #[serde(with = "super::number")]
    pub(super) sum: f64,
    #[serde(with = "super::number")]
    pub(super) last: f64,
    #[serde(with = "super::number")]
    pub(super) most: f64,
    /// Requests of the unit that came after the metric's window, of a ratio to requests.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) late_requests: u32,
}

impl Cell {
    pub(super) fn push(&mut self, value: f64) {
        self.most = match self.n {
            0 => value,
            _ => self.most.max(value),
        };
        self.n = self.n.saturating_add(1);
        self.sum += value;
        self.last = value;
    }
}

/// What is counted of a variant.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Arm {
    pub(super) name: String,
    /// How many of the units it should have had, by the shares when each of them came.
    pub(super) expected: f64,
    pub(super) requests: u64,
    pub(super) errors: u64,
}

/// Requests that outcomes may still name.
#[derive(Debug, Default)]
pub(super) struct Requests {
    by_hash: HashMap<u64, Request>,
    order: VecDeque<u64>,
}

/// A request that outcomes may name.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// When it came, in ms since 1970; 0 if that is not known.
    pub(super) at: u64,
    pub(super) unit: Arc<str>,
    pub(super) variant: u8,
    /// The probability with which the variant was drawn, or [`Self::NOT_DRAWN`].
    pub(super) propensity: f32,
    /// What it was chosen by, where that is so.
    pub(super) features: Box<[f64]>,
}

impl Request {
    /// The propensity of what was not drawn. No draw has it.
    pub(super) const NOT_DRAWN: f32 = 0.0;
}

impl Requests {
    /// The most that are remembered of an experiment.
    pub(super) const MOST: usize = 1 << 18;

    pub(super) fn insert(&mut self, hash: u64, request: Request) {
        if self.by_hash.insert(hash, request).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_hash.remove(&oldest);
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Request> {
        self.by_hash.get(&hash(id))
    }

    /// Forgets what they were chosen by.
    pub(super) fn forget_features(&mut self) {
        let requests = self.by_hash.values_mut();
        requests.for_each(|request| request.features = Box::default());
    }

    /// Visits them, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Request)> {
        let hashes = self.order.iter();
        hashes.filter_map(|hash| Some((*hash, self.by_hash.get(hash)?)))
    }
}

/// The ids of outcomes that were taken.
#[derive(Debug, Default)]
pub(super) struct Ids {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Ids {
    /// The most that are remembered of an experiment.
    pub(super) const MOST: usize = 1 << 20;

    pub(super) fn contains(&self, id: &str) -> bool {
        self.known.contains(&hash(id))
    }

    pub(super) fn insert(&mut self, id: &str) {
        self.insert_hash(hash(id));
    }

    pub(super) fn insert_hash(&mut self, hash: u64) {
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Visits their hashes, oldest first.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        self.order.iter().copied()
    }
}

/// What a bandit has earned, by variant, and its last choices with their rewards.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Rewards {
    /// Number, mean and sum of squared distances.
    pub(super) arms: Vec<(u64, f64, f64)>,
    /// Variant, propensity, reward.
    pub(super) log: VecDeque<(u8, f32, f32)>,
    /// What was expected of each variant before the reward, of the last choices of the log; empty where choices are not made by features.
    #[serde(default)]
    pub(super) expected: VecDeque<Box<[f32]>>,
    /// What features are worth.
    #[serde(default)]
    pub(super) learnt: Learnt,
}

impl Rewards {
    /// The most choices that are kept.
    pub(super) const LOG_MOST: usize = 100_000;

    /// Logs a choice, with what was expected of each variant before its reward came.
    pub(super) fn log(&mut self, choice: (u8, f32, f32), expected: Box<[f32]>) {
        if self.log.len() >= Self::LOG_MOST {
            self.log.pop_front();
        }
        self.log.push_back(choice);
        self.expected.push_back(expected);
        while self.expected.len() > self.log.len() {
            self.expected.pop_front();
        }
    }

    /// Visits the log, each choice with what was expected of each variant.
    pub(super) fn choices(&self) -> impl Iterator<Item = ((u8, f32, f32), &[f32])> {
        // Of the first ones, from before that was kept, nothing is known.
        let n_unknown = self.log.len().saturating_sub(self.expected.len());
        let unknown = std::iter::repeat_n(&[][..], n_unknown);
        let expected = self.expected.iter().map(AsRef::as_ref);
        self.log.iter().copied().zip(unknown.chain(expected))
    }
}

/// Hashes an id: FNV-1a, then the finaliser of splitmix64; the same on every machine, since files hold it.
pub(super) fn hash(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
