//! The sums of an experiment, by unit: what its records come to, live and read again alike.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_policy::experiment::Moments;

use super::folded::Folded;
use super::linear;
use super::record::{Counters, Record};
use super::series::Series;
use super::settled::late_ratios;
use super::stage_units::Loose;
use super::tally::{Arm, Ids, Request, Requests, Rewards, Unit, hash};
use super::{MetricForm, NewOutcome, OutcomeFault, PlannedExperiment, Taken, UnitRef, UnitSource};

/// The most variants that are told apart: a number of them is kept for each unit.
const ARMS_MAX: usize = 64;
/// The first look is after so many events.
const FIRST_LOOK: u64 = 50;

/// Room for the units of all experiments, or of all rollouts: neither take the other's, in whatever order their files are read again.
#[derive(Debug)]
pub(super) struct Room {
    used: AtomicUsize,
    most: usize,
    most_of_one: usize,
}

impl Room {
    /// Returns room for so many units, of which one book may have `most_of_one`.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most,
            most_of_one,
        }
    }

    fn take(&self) -> bool {
        let one_more = |used| (used < self.most).then_some(used + 1);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok()
    }

    pub(super) fn give_back(&self, n: usize) {
        self.used.fetch_sub(n, Ordering::Relaxed);
    }
}

/// The sums of an experiment.
#[derive(Debug)]
pub(super) struct Ledger {
    room: Arc<Room>,
    /// When the stage of a rollout began, in ms since 1970.
    pub(super) stage_since: u64,
    pub(super) arms: Vec<Arm>,
    /// The names of metrics, in the order of units' cells.
    pub(super) metrics: Vec<String>,
    shares: Vec<(String, f64)>,
    /// Whether units came in several shares.
    pub(super) is_reweighted: bool,
    pub(super) units: HashMap<Arc<str>, Unit>,
    /// What the units came to that gave their places to later ones.
    pub(super) folded: Folded,
    /// What the requests of a rollout's stage met that had no unit.
    pub(super) loose: Loose,
    pub(super) requests: Requests,
    pub(super) ids: Ids,
    pub(super) rewards: Rewards,
    pub(super) series: Vec<Series>,
    pub(super) n_outcomes: u64,
    /// Units for which there was no room.
    pub(super) n_units_lost: u64,
    /// When the first unit came, in ms since 1970.
    pub(super) since: Option<u64>,
    n_events: u64,
    next_look: u64,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.room.give_back(self.units.len());
    }
}

impl Ledger {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            room,
            stage_since: 0,
            arms: Vec::new(),
            metrics: Vec::new(),
            shares: Vec::new(),
            is_reweighted: false,
            units: HashMap::new(),
            folded: Folded::default(),
            loose: Loose::default(),
            requests: Requests::default(),
            ids: Ids::default(),
            rewards: Rewards::default(),
            series: Vec::new(),
            n_outcomes: 0,
            n_units_lost: 0,
            since: None,
            n_events: 0,
            next_look: FIRST_LOOK,
        }
    }

    /// Gives room for so many units back.
    pub(super) fn give_back(&self, n: usize) {
        self.room.give_back(n);
    }

    /// Returns how many places are taken of the room that it has a part in.
    #[cfg(test)]
    pub(super) fn room_used(&self) -> usize {
        self.room.used.load(Ordering::Relaxed)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(Arc::clone(&self.room));
    }

    /// Returns the number of a variant; `None` if there are too many.
    pub(super) fn arm(&mut self, name: &str) -> Option<u8> {
        let found = self.arms.iter().position(|arm| arm.name == name);
        let index = found.or_else(|| {
            let index = self.arms.len();
            (index < ARMS_MAX).then(|| {
                self.arms.push(Arm {
                    name: name.to_owned(),
                    ..Arm::default()
                });
                index
            })
        })?;
        u8::try_from(index).ok()
    }

    fn metric(&mut self, name: &str) -> usize {
        let found = self.metrics.iter().position(|known| known == name);
        found.unwrap_or_else(|| {
            self.metrics.push(name.to_owned());
            self.metrics.len() - 1
        })
    }

    /// Returns the shares that units are split in now.
    pub(super) fn shares(&self) -> &[(String, f64)] {
        &self.shares
    }

    /// Finds the unit of an outcome, and whether it was there already.
    pub(super) fn find(&self, outcome: &NewOutcome) -> Result<(Arc<str>, Taken), OutcomeFault> {
        let unit = match &outcome.about {
            UnitRef::Unit(unit) => {
                let known = self.units.get_key_value(unit.as_str());
                let known = known.map(|(unit, _)| Arc::clone(unit));
                known.ok_or_else(|| OutcomeFault::UnknownUnit(unit.clone()))?
            }
            UnitRef::Request(id) => {
                let known = self.requests.get(id);
                let known = known.filter(|request| self.units.contains_key(&request.unit));
                let known = known.map(|request| Arc::clone(&request.unit));
                known.ok_or_else(|| OutcomeFault::UnknownRequest {
                    request: id.clone(),
                    kept: Requests::MOST,
                })?
            }
        };
        let is_known = |id: &String| self.ids.contains(id);
        let taken = match outcome.id.as_ref().is_some_and(is_known) {
            true => Taken::Duplicate,
            false => Taken::Counted,
        };
        Ok((unit, taken))
    }

    /// Takes a record.
    pub(super) fn apply(&mut self, record: Record<'_>, planned: &PlannedExperiment) {
        match record {
            Record::Exposure { at, seconds, .. } if is_of_another_trial(planned, (at, seconds)) => {
                self.begin_stage(planned);
            }
            Record::Exposure { .. } => self.expose(&record, planned),
            Record::Outcome { .. } => self.take_outcome(&record, planned),
            Record::Winner { at, unit, variant } => self.show_winner(at, (&unit, &variant)),
            Record::Resumed { at } => self.resume(at),
            Record::Shares { shares } => {
                self.is_reweighted |= !self.shares.is_empty() && self.shares != shares;
                self.shares = shares;
            }
            Record::Names {
                arms,
                metrics,
                outcomes,
                is_reweighted,
            } => {
                self.is_reweighted = is_reweighted;
                self.arms = arms;
                self.metrics = metrics;
                self.n_outcomes = outcomes;
            }
            Record::Unit { unit, state } => {
                if self.takes_one_more(planned) {
                    self.since = Some(self.since.unwrap_or(u64::MAX).min(state.first_at));
                    self.units.insert(Arc::from(unit.as_ref()), state);
                    self.n_events += 1;
                } else {
                    self.n_units_lost += 1;
                }
            }
            Record::Request {
                at,
                hash,
                unit,
                variant,
                propensity,
                features,
            } => {
                if let Some((unit, _)) = self.units.get_key_value(unit.as_ref()) {
                    let unit = Arc::clone(unit);
                    let request = Request {
                        at,
                        unit,
                        variant,
                        propensity,
                        features,
                    };
                    self.requests.insert(hash, request);
                }
            }
            Record::Ids { hashes } => hashes.into_iter().for_each(|id| self.ids.insert_hash(id)),
            Record::Rewards { rewards } => self.rewards = rewards,
            Record::Folded { folded } => self.folded.join(folded),
            Record::Loose { loose } => self.loose = loose,
            Record::Series { series } => self.series.push(series),
            // What was lost then stays lost, even if there would be room now.
            Record::Counters(counters) => {
                self.n_units_lost = self.n_units_lost.max(counters.units_lost);
            }
        }
    }

    /// Tells whether it says something new that a unit was shown the winner.
    pub(super) fn is_news_of_winner(&self, unit: &str) -> bool {
        let unit = self.units.get(unit);
        unit.is_some_and(|unit| !unit.is_winners)
    }

    fn show_winner(&mut self, at: Option<u64>, (unit, variant): (&str, &str)) {
        let Some(arm) = self.arm(variant) else { return };
        if let Some(unit) = self.units.get_mut(unit) {
            if !unit.saw_winner {
                (unit.saw_winner, unit.winner_at) = (true, at);
            }
            // What comes of it from now on comes of no draw.
            unit.is_winners = true;
            (unit.last_variant, unit.last_propensity) = (arm, Request::NOT_DRAWN);
            unit.last_features = Box::default();
        }
    }

    /// Tells whether units were shown a winner that may be compared yet: all is as it was when the winner won, until it is resumed.
    pub(super) fn has_winners_units(&self) -> bool {
        let mut units = self.units.values();
        units.any(|unit| unit.saw_winner && !unit.is_mixed)
    }

    fn resume(&mut self, at: u64) {
        let back = self.units.values_mut().filter(|unit| unit.saw_winner);
        for unit in back.filter(|unit| !unit.is_mixed) {
            if !unit.is_override {
                unit.mixed_at = unit.winner_at.or(Some(at));
            }
            unit.is_mixed = true;
        }
    }

    fn take_outcome(&mut self, record: &Record<'_>, planned: &PlannedExperiment) {
        let Record::Outcome {
            at,
            unit,
            request_id,
            id,
            metrics,
            late,
        } = record
        else {
            return;
        };
        if let Some(id) = id {
            self.ids.insert(id);
        }
        if metrics.is_empty() && !late.is_empty() {
            return;
        }
        self.n_outcomes += 1;
        let request = request_id.as_deref();
        if self.is_of_another_stage(unit, request, planned) {
            return;
        }
        for (name, value) in metrics {
            let metric = self.metric(name);
            self.note(unit, metric, *value);
            self.reward(planned, (unit, request), name, *value);
        }
        self.happened(*at, planned);
    }

    fn expose(&mut self, record: &Record<'_>, planned: &PlannedExperiment) {
        let Record::Exposure {
            at,
            variant,
            unit,
            request_id,
            ok,
            left,
            seconds,
            by,
            propensity,
            features,
            ..
        } = record
        else {
            return;
        };
        self.begin_stage(planned);
        self.hold_features(planned);
        let met = (!ok && !left, is_slow(planned, (*seconds, *left)));
        if unit.is_empty() {
            return self.expose_loose(planned, (*at, variant), met);
        }
        let Some(arm) = self.arm(variant) else { return };
        let is_override = by == "override";
        let is_new = !self.units.contains_key(unit.as_ref());
        if is_new && !self.takes_one_more(planned) {
            self.n_units_lost += 1;
            return;
        }
        let first = Unit {
            variant: arm,
            first_at: *at,
            is_override,
            ..Unit::default()
        };
        let (unit, state) = self.unit(unit, first, planned);
        let drawn = propensity.map_or(Request::NOT_DRAWN, |propensity| propensity as f32);
        // What a draw that was not answered has earned is known, and nothing comes of it later.
        let is_lost = drawn > Request::NOT_DRAWN && !ok;
        let propensity = if is_lost { Request::NOT_DRAWN } else { drawn };
        state.count(*seconds, met);
        state.show(*at, (arm, is_override));
        let late = late_ratios(planned, state, *at);
        let features = linear::planned_vector(planned, features).unwrap_or_default();
        // What comes of the unit later comes of what it was shown.
        if !is_lost {
            (state.last_variant, state.last_propensity) = (arm, propensity);
            (state.last_at, state.is_winners) = (Some(*at), false);
            state.last_features.clone_from(&features);
        }
        self.count_request(arm, met.0);
        if is_lost {
            self.earn(planned, (arm, drawn, &features), 0.0);
        }
        self.note_late(&unit, &late);
        let request = Request {
            at: *at,
            unit,
            variant: arm,
            propensity,
            features,
        };
        self.requests.insert(hash(request_id), request);
        if is_new {
            self.since = self.since.or(Some(*at));
            if !is_override {
                self.expect_one();
            }
            self.happened(*at, planned);
        }
    }

    /// Takes a request of a rollout's stage that has no unit.
    fn expose_loose(
        &mut self,
        planned: &PlannedExperiment,
        (at, variant): (u64, &str),
        met: (bool, bool),
    ) {
        if let Some(stage) = planned.stage.filter(|stage| at >= stage.since_ms) {
            self.loose.push(stage.since_ms, variant, met);
        }
    }

    fn count_request(&mut self, arm: u8, is_error: bool) {
        if let Some(counted) = self.arms.get_mut(usize::from(arm)) {
            counted.requests += 1;
            counted.errors += u64::from(is_error);
        }
    }

    /// Takes a place for a new unit; false if there is none.
    fn takes_one_more(&mut self, planned: &PlannedExperiment) -> bool {
        let is_too_many = self.units.len() >= self.room.most_of_one;
        if !is_too_many && self.room.take() {
            return true;
        }
        // A request comes once: of the oldest nothing more is to be known. A user may come again.
        if planned.stage.is_none() || planned.unit != UnitSource::Request {
            return false;
        }
        self.fold_oldest(planned);
        self.room.take()
    }

    /// Returns a unit, which is as `first` says if it was not shown anything yet, or not in the rollout's stage.
    fn unit(
        &mut self,
        name: &str,
        first: Unit,
        planned: &PlannedExperiment,
    ) -> (Arc<str>, &mut Unit) {
        let known = self.units.get_key_value(name);
        let name = known.map_or_else(|| Arc::from(name), |(known, _)| Arc::clone(known));
        match self.units.entry(Arc::clone(&name)) {
            Entry::Vacant(place) => (name, place.insert(first)),
            Entry::Occupied(known) => {
                let state = known.into_mut();
                if is_before(state, planned) && !is_earlier(first.first_at, planned) {
                    *state = first;
                }
                (name, state)
            }
        }
    }

    /// Tells whether an outcome is of a request that came in another stage of a rollout than its unit's last, or was answered by the other revision.
    fn is_of_another_stage(
        &self,
        unit: &str,
        request: Option<&str>,
        planned: &PlannedExperiment,
    ) -> bool {
        let request = request.and_then(|request| self.requests.get(request));
        let unit = self.units.get(unit);
        planned.stage.is_some()
            && request.is_some_and(|request| {
                is_earlier(request.at, planned)
                    || unit.is_some_and(|unit| unit.variant != request.variant)
            })
    }

    /// Notes in what shares a new unit was to be split.
    fn expect_one(&mut self) {
        for (name, share) in self.shares.clone() {
            if let Some(arm) = self.arm(&name)
                && let Some(arm) = self.arms.get_mut(usize::from(arm))
            {
                arm.expected += share;
            }
        }
    }

    fn note(&mut self, unit: &str, metric: usize, value: f64) {
        let unit = self.units.get_mut(unit);
        if let Some(cell) = unit.and_then(|unit| unit.cell(metric)) {
            cell.push(value);
        }
    }

    /// Notes that a unit's request came too late to be below the line of these ratios.
    fn note_late(&mut self, unit: &str, ratios: &[&str]) {
        for ratio in ratios {
            let metric = self.metric(ratio);
            let unit = self.units.get_mut(unit);
            if let Some(cell) = unit.and_then(|unit| unit.cell(metric)) {
                cell.late_requests = cell.late_requests.saturating_add(1);
            }
        }
    }

    /// Credits a bandit's choice with what came of it: that of the request, else the unit's last that was answered.
    ///
    /// What was not drawn is no bandit's choice, and one that was not answered has its reward already. How variants are chosen now does not matter: what is read again gives what it gave before.
    fn reward(
        &mut self,
        planned: &PlannedExperiment,
        (unit, request): (&str, Option<&str>),
        metric: &str,
        value: f64,
    ) {
        let rewarding = planned.metrics.first();
        if rewarding.is_none_or(|rewarding| rewarding.name != metric) {
            return;
        }
        let is_lower_better = rewarding.is_some_and(|metric| metric.is_lower_better);
        let is_conversion = rewarding.is_some_and(|metric| metric.kind == MetricForm::Conversion);
        self.hold_features(planned);
        let of_request = request.and_then(|request| self.requests.get(request));
        let of_request = of_request.map(|one| (one.variant, one.propensity, &one.features));
        let of_unit = self.units.get(unit);
        let of_unit =
            of_unit.map(|one| (one.last_variant, one.last_propensity, &one.last_features));
        let Some((variant, propensity, features)) = of_request.or(of_unit) else {
            return;
        };
        let features = features.clone();
        if propensity <= Request::NOT_DRAWN {
            return;
        }
        // Of a conversion counts whether it is above 0, as in its rate.
        let value = match is_conversion {
            true => f64::from(u8::from(value > 0.0)),
            false => value.clamp(0.0, 1.0),
        };
        let reward = if is_lower_better { 1.0 - value } else { value };
        self.earn(planned, (variant, propensity, &features), reward);
    }

    /// Credits a draw with its reward, and logs both.
    fn earn(
        &mut self,
        planned: &PlannedExperiment,
        (variant, propensity, features): (u8, f32, &[f64]),
        reward: f64,
    ) {
        let index = usize::from(variant);
        let expected = self.learn_linear(planned, (index, features), reward);
        let rewards = &mut self.rewards;
        if rewards.arms.len() <= index {
            rewards.arms.resize(index + 1, (0, 0.0, 0.0));
        }
        if let Some((units, mean, squares)) = rewards.arms.get_mut(index) {
            let mut moments = Moments {
                units: *units,
                mean: *mean,
                squares: *squares,
            };
            moments.push(reward);
            (*units, *mean, *squares) = (moments.units, moments.mean, moments.squares);
        }
        rewards.log((variant, propensity, reward as f32), expected);
    }

    /// Gives everything that is known to `write`, such that taking it gives the same sums.
    pub(super) fn each_record(
        &self,
        counters: Counters,
        write: &mut dyn FnMut(&Record<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        write(&Record::Names {
            arms: self.arms.clone(),
            metrics: self.metrics.clone(),
            outcomes: self.n_outcomes,
            is_reweighted: self.is_reweighted,
        })?;
        write(&Record::Shares {
            shares: self.shares.clone(),
        })?;
        write(&Record::Counters(counters))?;
        // Before the units: those that find no place when they are read again are added to it.
        if self.folded != Folded::default() {
            write(&Record::Folded {
                folded: self.folded.clone(),
            })?;
        }
        if self.loose != Loose::default() {
            write(&Record::Loose {
                loose: self.loose.clone(),
            })?;
        }
        for (unit, state) in &self.units {
            write(&Record::Unit {
                unit: Cow::Borrowed(unit),
                state: state.clone(),
            })?;
        }
        for (hash, request) in self.requests.iter() {
            write(&Record::Request {
                at: request.at,
                hash,
                unit: Cow::Borrowed(&request.unit),
                variant: request.variant,
                propensity: request.propensity,
                features: request.features.clone(),
            })?;
        }
        let hashes: Vec<u64> = self.ids.hashes().collect();
        for hashes in hashes.chunks(1_000) {
            write(&Record::Ids {
                hashes: hashes.to_vec(),
            })?;
        }
        write(&Record::Rewards {
            rewards: self.rewards.clone(),
        })?;
        for series in &self.series {
            write(&Record::Series {
                series: series.clone(),
            })?;
        }
        Ok(())
    }

    /// Looks at the comparisons every now and then: after a twentieth more events than at the last look.
    fn happened(&mut self, at: u64, planned: &PlannedExperiment) {
        self.n_events += 1;
        if self.n_events >= self.next_look {
            self.next_look = self.n_events + (self.n_events / 20).max(FIRST_LOOK);
            self.look(at, planned);
        }
    }
}

/// Tells whether a request of a rollout's stage was slow. Whoever left waited too long.
fn is_slow(planned: &PlannedExperiment, (seconds, has_left): (f64, bool)) -> bool {
    let slow_ns = planned.stage.and_then(|stage| stage.slow_ns);
    slow_ns.is_some_and(|slow_ns| has_left || seconds * 1e9 > slow_ns as f64)
}

/// Tells whether a request that took so many seconds until `at` came before the rollout's trial.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is beyond an integer saturates"
)]
fn is_of_another_trial(planned: &PlannedExperiment, (at, seconds): (u64, f64)) -> bool {
    let came = at.saturating_sub((seconds * 1e3) as u64);
    planned.stage.is_some_and(|stage| came < stage.trial_ms)
}

/// Tells whether a time is before the rollout's stage.
fn is_earlier(at: u64, planned: &PlannedExperiment) -> bool {
    planned.stage.is_some_and(|stage| at < stage.since_ms)
}

/// Tells whether a unit was shown nothing in the rollout's stage.
pub(super) fn is_before(unit: &Unit, planned: &PlannedExperiment) -> bool {
    is_earlier(unit.first_at, planned)
}
