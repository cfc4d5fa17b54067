//! Units whose values are final: those that are compared, and on which bets can be placed.
//!
//! A unit's value in a metric with a window is what was told until the window after its first request closed (of a ratio to requests, over those that came until then): what comes later is late, written down and not
//! counted. So once it has closed the value is final, whatever it is, and units close in the order in which they came. Bets on units that may still
//! change would be no bets: those who convert quickly are told first, and every rate looks like theirs; and a variant whose outcomes come later than
//! another's would look worse. Nor are bets taken back: whoever is shown the winner
//! after his window, or is set by hand, is not compared any more, but stays among them.

use coracle_policy::experiment::{Bounds, bounded_mean};

use super::ledger::Ledger;
use super::tally::Unit;
use super::{Allocation, MetricForm, NewOutcome, PlannedExperiment, PlannedMetric, UnitRef};

/// What is known of a rate by betting on the units whose windows have closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SettledRate {
    /// The units whose windows have closed and that have a value.
    pub units: u64,
    /// The rate among them.
    pub rate: f64,
    /// What holds the true rate, at all times at once.
    pub interval: Bounds,
}

/// Which values are final at some time.
#[derive(Debug)]
pub(super) struct Finality {
    now: u64,
    /// When a winner was shown to units that had been shown something before, in order.
    sightings: Vec<u64>,
}

/// Returns when what is told of a unit ceases to count, in ms since 1970.
fn closes_at(unit: &Unit, window_ms: u64) -> u64 {
    unit.first_at.saturating_add(window_ms)
}

/// Returns how long a metric's windows are, where units are compared by final values: not those of bandits, which gather by what was earned, nor of
/// rollouts, which judge elsewhere.
pub(super) fn compared_window(metric: &PlannedMetric, planned: &PlannedExperiment) -> Option<u64> {
    let is_judged = planned.allocation == Allocation::Fixed && planned.stage.is_none();
    metric.window_ms.filter(|_| is_judged)
}

/// Returns the ratios to requests for which a request of a unit at `at` comes too late.
pub(super) fn late_ratios<'p>(
    planned: &'p PlannedExperiment,
    unit: &Unit,
    at: u64,
) -> Vec<&'p str> {
    let ratios = planned.metrics.iter();
    let ratios = ratios.filter(|metric| metric.kind == MetricForm::Ratio(None));
    let is_late = |metric: &&PlannedMetric| {
        let window_ms = compared_window(metric, planned);
        window_ms.is_some_and(|window_ms| at >= closes_at(unit, window_ms))
    };
    let late = ratios.filter(is_late);
    late.map(|metric| metric.name.as_str()).collect()
}

impl Finality {
    /// Tells whether a unit's window has closed: its value changes no more.
    pub(super) fn is_closed(&self, unit: &Unit, window_ms: u64) -> bool {
        self.now >= closes_at(unit, window_ms)
    }

    /// Tells whether a unit's value has become final after a window of this length.
    ///
    /// What was final stays so, whatever the unit is shown later. Of units whose windows were open when a winner was shown to any of them none is ever
    /// bet on: of those who came back nothing is known, and they are others than those who did not.
    fn holds(&self, unit: &Unit, window_ms: u64) -> bool {
        let closed = closes_at(unit, window_ms);
        let is_mixed = unit.is_mixed || unit.is_override;
        let mixed_at = is_mixed.then(|| unit.mixed_at.unwrap_or(0));
        let winner_at = unit.saw_winner.then(|| unit.winner_at.unwrap_or(0));
        let later = self.sightings.partition_point(|at| *at < unit.first_at);
        let seen = [mixed_at, winner_at, self.sightings.get(later).copied()];
        self.now >= closed && seen.into_iter().flatten().all(|at| at >= closed)
    }
}

/// Settled values of a metric, as they are gathered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    window_ms: u64,
    units: u64,
    ones: u64,
}

impl Settling {
    /// Returns none of a metric yet; `None` where values are never final, or no rates, or gathered by what was earned, or judged elsewhere.
    pub(super) fn of(metric: &PlannedMetric, planned: &PlannedExperiment) -> Option<Self> {
        let is_rate = metric.kind == MetricForm::Conversion;
        let window_ms = compared_window(metric, planned).filter(|_| is_rate)?;
        Some(Self {
            window_ms,
            units: 0,
            ones: 0,
        })
    }

    /// Adds a unit's value, if it is final.
    pub(super) fn take(&mut self, unit: &Unit, is_one: bool, finality: &Finality) {
        if finality.holds(unit, self.window_ms) {
            self.units += 1;
            self.ones += u64::from(is_one);
        }
    }

    /// Returns what bets say.
    pub(super) fn rate(&self, alpha: f64) -> SettledRate {
        let ones = self.ones as f64;
        SettledRate {
            units: self.units,
            rate: ones / self.units.max(1) as f64,
            interval: bounded_mean(ones, self.units, 1.0 - alpha),
        }
    }
}

impl Ledger {
    /// Returns which values are final at `now`.
    pub(super) fn finality(&self, now: u64) -> Finality {
        let units = self.units.values();
        let mut sightings: Vec<u64> = units.filter_map(|unit| unit.winner_at).collect();
        sightings.sort_unstable();
        Finality { now, sightings }
    }

    /// Tells of each value of an outcome that is told at `at` whether it comes too late to count: after its window, or after the winner was shown to the
    /// unit, unless it is of a request of before.
    pub(super) fn late(
        &self,
        planned: &PlannedExperiment,
        (unit, outcome): (&str, &NewOutcome),
        at: u64,
    ) -> Vec<bool> {
        let state = self.units.get(unit);
        let is_winners = state.is_some_and(|unit| unit.is_winners);
        let is_winners = is_winners && matches!(outcome.about, UnitRef::Unit(_));
        let begin = self.window_begin(planned, unit, &outcome.about);
        let is_late = |name: &str| {
            let mut metrics = planned.metrics.iter().filter(|metric| metric.counts(name));
            let window_ms = metrics.find_map(|metric| metric.window_ms);
            let both = begin.zip(window_ms);
            is_winners
                || both.is_some_and(|(begin, window_ms)| at >= begin.saturating_add(window_ms))
        };
        let metrics = outcome.metrics.iter();
        metrics.map(|(name, _)| is_late(name)).collect()
    }

    /// Returns when windows of what is told of a unit begin: with its first request; of a bandit, each of whose draws earns for itself, with the one
    /// that is credited.
    fn window_begin(
        &self,
        planned: &PlannedExperiment,
        unit: &str,
        about: &UnitRef,
    ) -> Option<u64> {
        let unit = self.units.get(unit)?;
        if planned.allocation == Allocation::Fixed {
            return Some(unit.first_at);
        }
        let of_request = match about {
            UnitRef::Request(id) => self.requests.get(id),
            UnitRef::Unit(_) => None,
        };
        // Files of earlier releases do not say when.
        let of_request = of_request.map(|request| request.at).filter(|at| *at > 0);
        Some(of_request.or(unit.last_at).unwrap_or(unit.first_at))
    }
}
