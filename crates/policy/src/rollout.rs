//! Whether a canary goes on, waits or goes back, from what it and the stable revision did at the same time.
//!
//! A [`Rollout`] walks steps of rising traffic. In each interval (a second, say) it is told how many requests either revision
//! had, how many failed and how many were slow, and it gathers [evidence](RateEvidence) that the canary is worse. The evidence may be looked at any time:
//! however often one looks, a canary that is not worse is rolled back with probability `alpha` at most, over the whole rollout. What strikes both
//! revisions alike, such as a broken network, is no evidence. Where users are split instead of requests, what they met is judged by user (`units`).
//!
//! It moves no traffic and reads no clock. Start reading at [`Rollout::decide`].

mod evidence;
mod predictions;
mod query;
mod units;
mod verdict;

use std::time::Duration;

use crate::SpecError;
use crate::experiment::{Moments, Proportion, Sides, log_evidence, mixture_for};

pub use evidence::RateEvidence;
pub use predictions::{Predicted, PredictionDrift, Predictions, Side};
pub use query::{Against, QueryLook, QueryRule, QueryState};
pub use units::{Met, UNITS_MIN, UnitEvents, UnitSide};
pub use verdict::{Check, CheckKind, CheckState, Hold, Verdict};

/// One stage of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The canary's share of requests, above 0 and below 100.
    pub percent: f64,
    /// How long the stage lasts at least.
    pub duration: Duration,
}

/// Which way a metric is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// A metric of units (users, orders) that a canary must not make worse.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRule {
    /// Its name.
    pub name: String,
    /// Which way it is good.
    pub better: Better,
    /// Whether its values are 0 or 1: each unit did or did not.
    pub is_share: bool,
    /// By how much the canary's mean may be worse, above 0; also the size of difference that is looked for.
    pub margin: f64,
    /// Units that each revision must have had in a stage before the canary goes on, or back for its mean; of shares it goes back as soon as they prove it.
    pub units_min: u64,
}

/// What a canary must live up to. Rates are shares of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutSpec {
    /// The stages, in order; after the last the canary is promoted.
    pub steps: Vec<Step>,
    /// The most probable that a canary that is not worse may be rolled back by the evidence, in `(0, 1)`. Default: 0.01.
    pub alpha: f64,
    /// Requests that the canary must have had in a stage before it goes on. Default: 100.
    pub requests_min: u64,
    /// How many times the stable revision's rate is still no regression, at least 1. Default: 1.25.
    pub ratio_tolerated: f64,
    /// By how much the canary's error rate may exceed the stable one's. Default: 0.005.
    pub error_rate_margin: f64,
    /// The share of requests that may be slow whatever the stable revision does: 0.01 watches the 99th percentile. Default: 0.01.
    pub slow_rate_allowed: f64,
    /// Metrics of outcomes that the canary must not make worse. Default: none.
    pub metrics: Vec<MetricRule>,
    /// Numbers that are asked for elsewhere. Default: none.
    pub queries: Vec<QueryRule>,
    /// The largest population stability index of predictions that is no difference that matters. Default: predictions may be any.
    pub stability_index_max: Option<f64>,
    /// Units (users) of either revision that a stage needs, where units are split: errors and latency are judged by unit then. Default: requests are split.
    pub units_min: Option<u64>,
    /// How long a stage may last beyond its duration before the canary goes back for want of a result. Default: never.
    pub deadline: Option<Duration>,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        let step = |percent, minutes: u64| Step {
            percent,
            duration: Duration::from_secs(minutes * 60),
        };
        Self {
            steps: vec![step(5.0, 5), step(25.0, 5), step(50.0, 5)],
            alpha: 0.01,
            requests_min: 100,
            ratio_tolerated: 1.25,
            error_rate_margin: 0.005,
            slow_rate_allowed: 0.01,
            metrics: Vec::new(),
            queries: Vec::new(),
            stability_index_max: None,
            units_min: None,
            deadline: None,
        }
    }
}

impl RolloutSpec {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// If a share is not above the one before and below 100, or another number is outside what its field says.
    pub fn validate(&self) -> Result<(), SpecError> {
        let mut reached = 0.0;
        for (index, step) in self.steps.iter().enumerate() {
            if !(step.percent > reached && step.percent < 100.0) {
                return Err(SpecError::new(format!(
                    "steps[{index}]: {} % is not above {reached} % and below 100 %",
                    step.percent
                )));
            }
            reached = step.percent;
        }
        let shares = [
            ("alpha", self.alpha),
            ("error rate margin", self.error_rate_margin),
            ("slow rate allowed", self.slow_rate_allowed),
        ];
        for (name, share) in shares {
            let is_positive = share > 0.0 || name != "alpha" && share == 0.0;
            if !(is_positive && share < 1.0) {
                return Err(SpecError::new(format!(
                    "{name} {share} is not between 0 and 1"
                )));
            }
        }
        self.validate_metrics()?;
        if self.ratio_tolerated >= 1.0 && self.ratio_tolerated.is_finite() {
            return Ok(());
        }
        Err(SpecError::new(format!(
            "ratio tolerated {} is not a number of at least 1",
            self.ratio_tolerated
        )))
    }

    fn validate_metrics(&self) -> Result<(), SpecError> {
        for metric in &self.metrics {
            if !(metric.margin > 0.0 && metric.margin.is_finite()) {
                return Err(SpecError::new(format!(
                    "metric {:?}: margin {} is not a number above 0",
                    metric.name, metric.margin
                )));
            }
        }
        for query in &self.queries {
            let name = &query.name;
            let is_sound = match query.against {
                Against::Stable(margin) => margin.is_finite() && margin >= 0.0,
                Against::Bound(bound) => bound.is_finite(),
            };
            if !is_sound || query.looks == 0 {
                return Err(SpecError::new(format!(
                    "metric {name:?}: a margin of at least 0 or a bound, and at least one look, are needed"
                )));
            }
        }
        match self.stability_index_max {
            Some(index) if !(index > 0.0 && index.is_finite()) => Err(SpecError::new(format!(
                "stability index {index} is not a number above 0"
            ))),
            _ => Ok(()),
        }
    }
}

/// What one revision did in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that ended, and those that have been in work for so long that they are slow whenever they end.
    pub requests: u64,
    /// Those of them that failed by the revision's fault. Of one that counts before it ends this is told later, maybe in another stage.
    pub errors: u64,
    /// Those that took longer than the threshold, which is fixed for the whole rollout: the stable revision's percentile before it, and some.
    pub slow: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.slow += other.slow;
    }

    fn rate(self, events: u64) -> f64 {
        events as f64 / self.requests.max(1) as f64
    }
}

/// What both revisions did in the same interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// The revision that serves.
    pub stable: Counts,
    /// The revision on trial.
    pub canary: Counts,
}

/// A canary on its way. Plain data: who keeps its public fields in a store can go on in the middle of a stage. What they do not say is lost by
/// that: events of requests that had been counted before, which wait for a request to be told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// The number of the stage, from 0.
    pub step: usize,
    /// When the stage began.
    pub step_began: Duration,
    /// What was done in this stage.
    pub in_step: Interval,
    /// Events that came when their requests had been counted, in an earlier stage or before.
    ahead: Interval,
    /// Outcomes of this stage, of the stable revision and of the canary, in the order of the spec's metrics. Those of other stages do not
    /// count: while shares change, drift of the metric would look like a difference.
    pub outcomes: Vec<(Moments, Moments)>,
    /// Looks at queried numbers in this stage, in the order of the spec's.
    pub queries: Vec<QueryState>,
    /// How far predictions of this stage are apart, by output.
    pub predictions: Vec<PredictionDrift>,
    /// What units of this stage met, of the stable revision and of the canary.
    pub units: (UnitSide, UnitSide),
    /// The evidence on errors, over all stages.
    pub errors: RateEvidence,
    /// The evidence on latency, over all stages.
    pub slowness: RateEvidence,
}

impl Rollout {
    /// Returns a rollout at the beginning of its first stage.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self {
            step: 0,
            step_began: now,
            in_step: Interval::default(),
            ahead: Interval::default(),
            outcomes: Vec::new(),
            queries: Vec::new(),
            predictions: Vec::new(),
            units: <(UnitSide, UnitSide)>::default(),
            errors: RateEvidence::default(),
            slowness: RateEvidence::default(),
        }
    }

    /// Takes what both revisions did since the last call. Counts that exceed the requests of the stage wait for more of them.
    pub fn observe(&mut self, spec: &RolloutSpec, interval: Interval) {
        let stable = held(interval.stable, self.in_step.stable, &mut self.ahead.stable);
        let canary = held(interval.canary, self.in_step.canary, &mut self.ahead.canary);
        if stable == Counts::default() && canary == Counts::default() {
            return;
        }
        self.in_step.stable.add(stable);
        self.in_step.canary.add(canary);
        let odds = self.odds(spec);
        let errors = (stable.errors, canary.errors);
        let slow = (stable.slow, canary.slow);
        self.errors
            .observe((odds, Allowed::errors(spec)), errors, canary.requests);
        self.slowness
            .observe((odds, Allowed::slow(spec)), slow, canary.requests);
    }

    /// Takes outcomes of units that were served in this stage, for the metric with this number in the spec.
    pub fn observe_outcomes(&mut self, metric: usize, stable: &Moments, canary: &Moments) {
        if self.outcomes.len() <= metric {
            self.outcomes
                .resize(metric + 1, <(Moments, Moments)>::default());
        }
        let (all_stable, all_canary) = &mut self.outcomes[metric];
        all_stable.merge(stable);
        all_canary.merge(canary);
    }

    /// Takes all outcomes of this stage so far, in place of those that it knew.
    pub fn outcomes_are(&mut self, outcomes: Vec<(Moments, Moments)>) {
        self.outcomes = outcomes;
    }

    /// Takes a look at the queried number with this place in the spec.
    pub fn observe_query(&mut self, spec: &RolloutSpec, query: usize, look: QueryLook) {
        let Some(rule) = spec.queries.get(query) else {
            return;
        };
        if self.queries.len() <= query {
            self.queries.resize(query + 1, QueryState::default());
        }
        if let Some(state) = self.queries.get_mut(query) {
            state.observe(rule, look);
        }
    }

    /// Returns the stage that it is in: the last one where there are fewer than there were; `None` if there is none at all.
    fn stage<'s>(&self, spec: &'s RolloutSpec) -> Option<&'s Step> {
        spec.steps.get(self.step).or(spec.steps.last())
    }

    /// Tells whether the stage has lasted longer than the deadline allows.
    #[must_use]
    pub fn is_overdue(&self, spec: &RolloutSpec, now: Duration) -> bool {
        let duration = self
            .stage(spec)
            .map_or(Duration::ZERO, |step| step.duration);
        let lasted = now.saturating_sub(self.step_began);
        spec.deadline
            .is_some_and(|deadline| lasted >= duration.saturating_add(deadline))
    }

    /// Returns the canary's share of requests to the stable revision's, as the stage says.
    fn odds_meant(&self, spec: &RolloutSpec) -> f64 {
        let percent = self.stage(spec).map_or(100.0, |step| step.percent);
        percent / (100.0 - percent).max(f64::MIN_POSITIVE)
    }

    /// Returns the canary's requests to the stable revision's: as the stage says, or as they came, whichever is more.
    fn odds(&self, spec: &RolloutSpec) -> f64 {
        let Interval { stable, canary } = self.in_step;
        let came = canary.requests as f64 / stable.requests.max(1) as f64;
        self.odds_meant(spec).max(came)
    }

    /// Says what is to become of the canary now.
    ///
    /// Goes back as soon as there is evidence of a regression that matters. Goes on when the stage has lasted, the
    /// canary has had its requests, and no rate looks bad. Waits otherwise.
    #[must_use]
    pub fn decide(&self, spec: &RolloutSpec, now: Duration) -> Verdict {
        let checks = self.checks(spec);
        let in_state = |state| move |check: &Check| check.state == state;
        if checks.iter().any(in_state(CheckState::Failed)) {
            let failed = checks.into_iter().filter(in_state(CheckState::Failed));
            return Verdict::RollBack(failed.collect());
        }
        let Some(step) = self.stage(spec) else {
            return Verdict::Promote;
        };
        let lasted = now.saturating_sub(self.step_began);
        let requests = self.in_step.canary.requests;
        let hold = if lasted < step.duration {
            Hold::Duration {
                remaining: step.duration - lasted,
            }
        } else if requests < spec.requests_min {
            Hold::Requests {
                had: requests,
                needed: spec.requests_min,
            }
        } else if let Some(check) = checks.iter().find(|c| in_state(CheckState::TooFew)(c)) {
            Hold::Outcomes(check.clone())
        } else if let Some(check) = checks.into_iter().find(in_state(CheckState::Doubtful)) {
            Hold::Doubt(check)
        } else {
            let next = spec.steps.get(self.step.saturating_add(1));
            return next.map_or(Verdict::Promote, |next| Verdict::Advance {
                percent: next.percent,
            });
        };
        if self.is_overdue(spec, now) {
            Verdict::Overdue(hold)
        } else {
            Verdict::Hold(hold)
        }
    }

    /// Goes to the next stage.
    pub fn advance(&mut self, now: Duration) {
        self.enter(self.step.saturating_add(1), now);
    }

    /// Begins the last stage anew if it is beyond it, as after the spec has lost some; tells whether it did.
    pub fn hold_to(&mut self, spec: &RolloutSpec, now: Duration) -> bool {
        let last = spec.steps.len().saturating_sub(1);
        let is_beyond = self.step > last;
        if is_beyond {
            self.enter(last, now);
        }
        is_beyond
    }

    /// Begins the stage anew, as after the spec looks at something else.
    pub fn begin_anew(&mut self, now: Duration) {
        self.enter(self.step, now);
    }

    fn enter(&mut self, step: usize, now: Duration) {
        self.step = step;
        self.step_began = now;
        self.in_step = Interval::default();
        self.outcomes.clear();
        self.queries.clear();
        self.predictions.clear();
        self.units = <(UnitSide, UnitSide)>::default();
    }

    /// Returns the state of every check.
    #[must_use]
    pub fn checks(&self, spec: &RolloutSpec) -> Vec<Check> {
        // All checks share the error that is allowed.
        let n_checks = 2 + spec.metrics.len() + usize::from(spec.stability_index_max.is_some());
        let needed = n_checks as f64 / spec.alpha;
        // What is of units, outcomes and predictions are judged anew in every stage.
        let of_stage = needed * spec.steps.len().max(1) as f64;
        let mut checks = match spec.units_min {
            Some(units_min) => self.checks_by_unit(spec, (units_min, of_stage)),
            None => self.checks_by_request(spec, needed),
        };
        let needed = of_stage;
        let outcomes = self.outcomes.iter().copied();
        let outcomes = outcomes.chain(std::iter::repeat(<(Moments, Moments)>::default()));
        for (metric, (stable, canary)) in spec.metrics.iter().zip(outcomes) {
            checks.push(check_metric(metric, (&stable, &canary), needed));
        }
        if let Some(index_max) = spec.stability_index_max {
            let enough = (spec.requests_min, needed);
            checks.push(predictions::check(&self.predictions, index_max, enough));
        }
        let unasked = QueryState::default();
        for (place, rule) in spec.queries.iter().enumerate() {
            checks.push(self.queries.get(place).unwrap_or(&unasked).check(rule));
        }
        checks
    }

    /// Judges errors and latency where any request may be either revision's.
    fn checks_by_request(&self, spec: &RolloutSpec, needed: f64) -> Vec<Check> {
        let Interval { stable, canary } = self.in_step;
        let errors = (stable.errors, canary.errors, &self.errors);
        let slow = (stable.slow, canary.slow, &self.slowness);
        let check = |kind, allowed: Allowed, (of_stable, of_canary, evidence)| {
            let evidence: &RateEvidence = evidence;
            let rates = (stable.rate(of_stable), canary.rate(of_canary));
            let worse = evidence.log_worse().exp();
            let is_worse = worse >= needed;
            // What is surely worse goes back as soon as more speaks for its being beyond what is allowed than against it.
            let speaks_beyond = evidence.log_value(allowed) > 0.0;
            let is_beyond = rates.1 > allowed.of(rates.0);
            let is_within = is_clearly_within(rates, self.in_step, allowed);
            // The evidence says by how much, and when: a rate over hours hides what has begun just now.
            let state = match is_worse && speaks_beyond {
                true => CheckState::Failed,
                false => judge(is_beyond || is_worse && !is_within, false),
            };
            Check {
                kind,
                state,
                stable: rates.0,
                canary: rates.1,
                evidence: worse,
                needed,
                note: None,
            }
        };
        vec![
            check(CheckKind::Errors, Allowed::errors(spec), errors),
            check(CheckKind::Latency, Allowed::slow(spec), slow),
        ]
    }

    /// Judges errors and latency where all requests of a unit are one revision's.
    fn checks_by_unit(&self, spec: &RolloutSpec, (units_min, needed): (u64, f64)) -> Vec<Check> {
        let (stable, canary) = &self.units;
        let terms = (self.odds_meant(spec), units_min, needed);
        let errors = (&stable.errors, &canary.errors);
        let slow = (&stable.slow, &canary.slow);
        vec![
            units::check(CheckKind::Errors, errors, Allowed::errors(spec), terms),
            units::check(CheckKind::Latency, slow, Allowed::slow(spec), terms),
        ]
    }
}

/// Returns what counts of a stage now: no more events than requests in all of it. A request that is slow before it ends counts then, and its error when it ends, maybe
/// among no others; what is more than the stage's requests is kept in `ahead`.
fn held(now: Counts, in_step: Counts, ahead: &mut Counts) -> Counts {
    let all = in_step.requests.saturating_add(now.requests);
    let hold = |before: u64, now: u64, ahead: &mut u64| {
        let due = ahead.saturating_add(now);
        let counted = due.min(all.saturating_sub(before));
        *ahead = due - counted;
        counted
    };
    Counts {
        requests: now.requests,
        errors: hold(in_step.errors, now.errors, &mut ahead.errors),
        slow: hold(in_step.slow, now.slow, &mut ahead.slow),
    }
}

/// What is allowed of the canary's rate.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    /// How many times the stable revision's it may be.
    ratio: f64,
    /// By how much it may exceed the stable revision's.
    margin: f64,
    /// What it may be whatever the stable revision's is.
    floor: f64,
}

impl Allowed {
    fn errors(spec: &RolloutSpec) -> Self {
        Self {
            ratio: spec.ratio_tolerated,
            margin: spec.error_rate_margin,
            floor: 0.0,
        }
    }

    fn slow(spec: &RolloutSpec) -> Self {
        Self {
            ratio: spec.ratio_tolerated,
            margin: 0.0,
            floor: spec.slow_rate_allowed,
        }
    }

    /// Returns it beside a rate of the stable revision.
    fn of(self, stable: f64) -> f64 {
        let by_stable = (stable * self.ratio).max(stable + self.margin);
        by_stable.max(self.floor)
    }
}

/// Tells whether the canary's rate is below what is allowed by a standard error of what it is below by. One that is known to be worse than the stable revision's is not let go on by less: within what
/// is allowed is not what is just not proven to be beyond it.
fn is_clearly_within((stable, canary): (f64, f64), in_step: Interval, allowed: Allowed) -> bool {
    let limit = allowed.of(stable);
    let variance =
        |rate: f64, counts: Counts| (rate * (1.0 - rate)).max(0.0) / counts.requests.max(1) as f64;
    let of_limit = allowed.ratio * allowed.ratio * variance(stable, in_step.stable);
    let error = (variance(limit, in_step.canary) + of_limit).sqrt();
    canary + error <= limit
}

fn judge(matters: bool, is_believed: bool) -> CheckState {
    match (matters, is_believed) {
        (true, true) => CheckState::Failed,
        (true, false) => CheckState::Doubtful,
        (false, _) => CheckState::Passed,
    }
}

/// Compares the means of a metric by a sequential test on what exceeds the margin.
///
/// Too few units hold the stage, but what is proven goes back: of shares by an exact test.
fn check_metric(metric: &MetricRule, (stable, canary): (&Moments, &Moments), needed: f64) -> Check {
    let sides = match metric.is_share {
        true => Sides::Shares(Proportion::of(stable), Proportion::of(canary)),
        false => Sides::means(stable, canary),
    };
    let (excess, allowed) = match metric.better {
        Better::Higher => (stable.mean - canary.mean - metric.margin, -metric.margin),
        Better::Lower => (canary.mean - stable.mean - metric.margin, metric.margin),
    };
    let is_known = stable.units.min(canary.units) >= metric.units_min;
    let evidence = if excess > 0.0 && (is_known || metric.is_share) {
        log_evidence(&sides, allowed, mixture_for(metric.margin)).exp()
    } else {
        1.0
    };
    let is_proven = evidence >= needed;
    Check {
        kind: CheckKind::Metric(metric.name.clone()),
        state: if is_known || is_proven {
            judge(excess > 0.0, is_proven)
        } else {
            CheckState::TooFew
        },
        stable: stable.mean,
        canary: canary.mean,
        evidence,
        needed,
        note: (!is_known).then(|| {
            format!(
                "{} units of the canary and {} of the stable revision, {} needed of each",
                canary.units, stable.units, metric.units_min
            )
        }),
    }
}

#[cfg(test)]
mod tests;
