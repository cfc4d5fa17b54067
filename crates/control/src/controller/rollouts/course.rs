//! One rollout: what becomes of its new revision, from what is seen of it and what people want. No I/O and no clock.

mod kept;
mod sight;

use std::time::Duration;

use coracle_api::rollout::{RolloutProgress, RolloutStatus};
use coracle_policy::rollout::{
    Check, CheckKind, CheckState, Counts, Hold, Interval, QueryLook, Rollout, Verdict,
};
use coracle_serving::experiment::{PlannedExperiment, StageSummary};
use coracle_serving::{RevisionState, ServiceId};

use self::kept::{describe, drift, lasted_before, outcomes, percent_of, restored, shown, to_ms};
use self::sight::{failure_of, is_alone, refusal_of, refused_by_sight, stable_failure};
use super::command::Command;
use super::metrics::{self, StageOf};
use super::queries::{Asking, QueryKey};
use super::spec::Wanted;
use super::totals::Totals;
use crate::controller::events::Happened;
use crate::object;

/// What is seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) wanted: &'a Wanted,
    pub(crate) is_paused: bool,
    /// Whether the service is told not to serve.
    pub(crate) is_stopped: bool,
    pub(crate) command: Option<Command>,
    /// The revision that serves.
    pub(crate) stable: Option<&'a str>,
    /// The newest revision.
    pub(crate) newest: Option<&'a str>,
    pub(crate) newest_state: Option<&'a RevisionState>,
    pub(crate) stable_state: Option<&'a RevisionState>,
    /// Why the service's spec is refused, which asks for the newest revision.
    pub(crate) refusal: Option<&'a str>,
    /// Whether the service's own spec splits its requests.
    pub(crate) is_split_by_hand: bool,
    pub(crate) stable_totals: Totals,
    pub(crate) newest_totals: Totals,
    /// What the serving process has told of a stage's outcomes and predictions.
    pub(crate) stage: Option<&'a StageSummary>,
    /// What was answered elsewhere since the last look, by the place of the question.
    pub(crate) looks: Vec<(usize, QueryLook)>,
    /// Whether either revision runs as a program.
    pub(crate) has_program: bool,
    /// Since 1970. The machine's clock may be set meanwhile: time that passes is told by the next one.
    pub(crate) now: Duration,
    /// On the monotonic clock.
    pub(crate) monotonic: Duration,
}

/// The reason of the event that tells that a command has no effect.
pub(super) const REFUSED: &str = "RolloutCommandRefused";

/// A new revision on trial.
#[derive(Clone, Debug)]
struct Trial {
    rollout: Rollout,
    slow: Option<Duration>,
    /// What both had done when they were looked at last.
    before: (Totals, Totals),
    /// The checks that people were told of that the stage waits for.
    told: Vec<CheckKind>,
    /// The mark of the metrics that the stage is held to, if that is known.
    metrics: Option<String>,
}

impl Trial {
    /// Returns when a stage begins now: after the one before, wherever the machine's clock was set, since stages are told apart by that.
    fn later(&self, now: Duration) -> Duration {
        let next = self
            .rollout
            .step_began
            .saturating_add(Duration::from_millis(1));
        now.max(next)
    }
}

/// A rollout.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    pub(crate) status: RolloutStatus,
    /// What is planned of the stage's book.
    pub(crate) book: Option<PlannedExperiment>,
    trial: Option<Trial>,
    /// How long the stage has lasted, or before the first one, since the canary is there; not known right after a restart.
    lasted: Option<Duration>,
    /// When it was looked last, on the monotonic clock.
    looked_at: Option<Duration>,
}

/// Why a rollout does not decide.
const BY_HAND: &str =
    "spec.predictor.canaryTrafficPercent or canary of the service says how requests are split";
/// Why nothing goes on of a service that is told not to serve.
const STOPPED: &str = "the service is stopped";
/// Where a message says that something outside is waited for.
pub(super) const WAITS: &str = " waits: ";
/// Where a message says that what it says comes later.
const ONCE_LOADED: &str = " once it is loaded";
pub(super) const WAITING: &str = "Waiting";
pub(super) const IDLE: &str = "Idle";
pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const PAUSED: &str = "Paused";
pub(super) const PROMOTED: &str = "Promoted";
pub(super) const ROLLED_BACK: &str = "RolledBack";

impl Course {
    /// Returns a rollout that goes on from its status.
    pub(crate) fn new(status: RolloutStatus) -> Self {
        Self {
            status,
            book: None,
            trial: None,
            lasted: None,
            looked_at: None,
        }
    }

    /// Tells whether time alone may change something.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.status.phase.as_str(), PROGRESSING | PAUSED | WAITING)
    }

    /// Returns the share that the revision `newest` gets beside `stable`; `None` for all that there is.
    pub(crate) fn percent(&self, newest: &str, stable: Option<&str>) -> Option<u8> {
        if stable.is_none_or(|stable| stable == newest) {
            return None;
        }
        if self.status.canary_revision.as_deref() != Some(newest) {
            return Some(0);
        }
        match self.status.phase.as_str() {
            PROMOTED => None,
            PROGRESSING | PAUSED => Some(
                self.status
                    .percent
                    .and_then(|percent| u8::try_from(percent).ok())
                    .unwrap_or(0),
            ),
            _ => Some(0),
        }
    }

    /// Looks at what is seen, and goes on, waits or goes back.
    pub(crate) fn look(&mut self, seen: &Seen<'_>) -> Vec<Happened> {
        let mut happened = Vec::new();
        self.pass_time(seen);
        self.status.stable_revision = seen.stable.map(str::to_owned);
        let (Some(stable), Some(newest)) = (seen.stable, seen.newest) else {
            self.rest(WAITING, "the service serves nothing yet".to_owned());
            self.taken(seen, &mut happened);
            return happened;
        };
        if stable == newest {
            let is_promoted = self.status.phase == PROMOTED
                && self.status.canary_revision.as_deref() == Some(newest);
            if is_promoted {
                self.tell_loaded(&mut happened);
            } else {
                self.rest(IDLE, format!("{stable} takes all requests"));
                self.status.canary_revision = None;
            }
            self.taken(seen, &mut happened);
            return happened;
        }
        if seen.is_split_by_hand {
            // What went back is not tried again for that: it stays at 0 % once the spec says nothing.
            let went_back = self.status.phase == ROLLED_BACK
                && self.status.canary_revision.as_deref() == Some(newest);
            if !went_back {
                self.rest(
                    WAITING,
                    format!("{BY_HAND}; without them, this rollout does"),
                );
            }
            self.taken(seen, &mut happened);
            return happened;
        }
        if seen.is_stopped {
            self.hold_still(seen, &mut happened);
            return happened;
        }
        let is_known = self.status.canary_revision.as_deref() == Some(newest);
        let is_over = matches!(self.status.phase.as_str(), PROMOTED | ROLLED_BACK);
        if is_known && is_over {
            self.look_again(seen, newest, &mut happened);
            return happened;
        }
        if !is_known || is_over {
            self.meet(newest, seen.now);
        }
        let command = self.taken(seen, &mut happened);
        self.go_on((seen, command), newest, &mut happened);
        happened
    }

    /// Looks at a canary that was promoted or went back.
    fn look_again(&mut self, seen: &Seen<'_>, newest: &str, happened: &mut Vec<Happened>) {
        match self.taken(seen, happened) {
            Some(Command::Promote) => self.promote(seen, (newest, "by hand"), happened),
            Some(Command::Abort) => self.roll_back(newest, "by hand", happened),
            Some(Command::Retry) => {
                self.meet(newest, seen.now);
                self.go_on((seen, None), newest, happened);
            }
            Some(Command::Skip) | None => {}
        }
        // What was promoted while it was loaded, and does not load, takes nothing.
        let failure = failure_of(seen).or_else(|| refusal_of(seen));
        if let Some(why) = failure.filter(|_| self.status.phase == PROMOTED) {
            self.roll_back(newest, &format!("it {why}"), happened);
        }
    }

    /// Counts the time since the last look, unless nothing can go on: the service is stopped, or nothing is there to compare the canary with.
    fn pass_time(&mut self, seen: &Seen<'_>) {
        let passed = self.time_since_look(seen.now, seen.monotonic);
        let is_held = seen.is_stopped || is_alone(seen);
        let passed = if is_held { Duration::ZERO } else { passed };
        let lasted = self.lasted().saturating_add(passed);
        self.lasted = Some(lasted);
        let status = &mut self.status;
        if let Some(progress) = &mut status.progress {
            progress.lasted_ms = Some(to_ms(lasted));
        } else if status.canary_since_ms.is_some() {
            status.canary_lasted_ms = Some(to_ms(lasted));
        }
    }

    /// Lets time pass without counting it: `now` since 1970, and on the monotonic clock.
    pub(crate) fn skip_time(&mut self, now: Duration, monotonic: Duration) {
        let _not_counted = self.time_since_look(now, monotonic);
    }

    /// Returns how much time has passed since the last look, which is now; how long the stage has lasted by then is known afterwards.
    fn time_since_look(&mut self, now: Duration, monotonic: Duration) -> Duration {
        let lasted = self.lasted;
        self.lasted = Some(lasted.unwrap_or_else(|| lasted_before(&self.status, now)));
        let before = self.looked_at.replace(monotonic);
        before.map_or(Duration::ZERO, |at| monotonic.saturating_sub(at))
    }

    /// Returns how long the stage has lasted, or before the first one, since the canary is there.
    fn lasted(&self) -> Duration {
        self.lasted.unwrap_or_default()
    }

    /// Returns the command, if it has an effect; tells why it has none.
    fn taken(&self, seen: &Seen<'_>, happened: &mut Vec<Happened>) -> Option<Command> {
        let command = seen.command?;
        let refusal = command.refusal(&self.status);
        let Some(message) = refusal.or_else(|| refused_by_sight(command, seen)) else {
            return Some(command);
        };
        happened.push(Happened {
            is_warning: true,
            reason: REFUSED,
            message,
        });
        None
    }

    /// The service serves nothing for now: what was reached stays, and the canary may be taken back.
    fn hold_still(&mut self, seen: &Seen<'_>, happened: &mut Vec<Happened>) {
        let canary = self.status.canary_revision.clone().unwrap_or_default();
        if self.taken(seen, happened) == Some(Command::Abort) {
            self.roll_back(&canary, "by hand", happened);
        }
        if matches!(self.status.phase.as_str(), PROGRESSING | PAUSED) {
            let message = format!("{canary}{WAITS}{STOPPED}");
            self.tell_wait(message, happened);
        }
    }

    /// Shows why nothing goes on, and tells it once.
    fn tell_wait(&mut self, message: String, happened: &mut Vec<Happened>) {
        if self.status.message != message {
            happened.push(Happened {
                is_warning: true,
                reason: "RolloutWaits",
                message: message.clone(),
            });
            self.status.message = message;
        }
    }

    /// A new revision is there, or is to be tried once more.
    fn meet(&mut self, newest: &str, now: Duration) {
        self.rest(PROGRESSING, String::new());
        self.status.canary_revision = Some(newest.to_owned());
        self.status.canary_since_ms = Some(to_ms(now));
        self.status.canary_lasted_ms = Some(0);
        self.status.percent = Some(0);
    }

    /// Nothing is on trial.
    fn rest(&mut self, phase: &str, message: String) {
        self.trial = None;
        self.status.phase = phase.to_owned();
        self.status.message = message;
        self.status.step = None;
        self.status.percent = None;
        self.status.checks.clear();
        self.status.progress = None;
        self.status.canary_since_ms = None;
        self.status.canary_lasted_ms = None;
        self.lasted = Some(Duration::ZERO);
    }

    fn promote(
        &mut self,
        seen: &Seen<'_>,
        (newest, why): (&str, &str),
        happened: &mut Vec<Happened>,
    ) {
        let checks = std::mem::take(&mut self.status.checks);
        let once_loaded = match seen.newest_state {
            Some(RevisionState::Ready { .. }) => "",
            _ => ONCE_LOADED,
        };
        let message = format!("{newest} takes all requests{once_loaded}: {why}");
        self.rest(PROMOTED, message);
        self.status.checks = checks;
        happened.push(Happened {
            is_warning: false,
            reason: "RolloutPromoted",
            message: self.status.message.clone(),
        });
    }

    /// What was promoted before it was loaded takes all requests now.
    fn tell_loaded(&mut self, happened: &mut Vec<Happened>) {
        if self.status.message.contains(ONCE_LOADED) {
            self.status.message = self.status.message.replacen(ONCE_LOADED, "", 1);
            happened.push(Happened {
                is_warning: false,
                reason: "RolloutPromoted",
                message: self.status.message.clone(),
            });
        }
    }

    fn roll_back(&mut self, newest: &str, why: &str, happened: &mut Vec<Happened>) {
        let checks = std::mem::take(&mut self.status.checks);
        self.rest(ROLLED_BACK, format!("{newest} went back: {why}"));
        self.status.checks = checks;
        happened.push(Happened {
            is_warning: true,
            reason: "RolloutRolledBack",
            message: self.status.message.clone(),
        });
    }

    /// Goes on with a revision that is not through.
    fn go_on(
        &mut self,
        (seen, command): (&Seen<'_>, Option<Command>),
        newest: &str,
        happened: &mut Vec<Happened>,
    ) {
        self.status.phase = match seen.is_paused {
            true => PAUSED.to_owned(),
            false => PROGRESSING.to_owned(),
        };
        match command {
            Some(Command::Abort) => return self.roll_back(newest, "by hand", happened),
            Some(Command::Promote) => return self.promote(seen, (newest, "by hand"), happened),
            _ => {}
        }
        if let Some(why) = failure_of(seen) {
            return self.roll_back(newest, &format!("it {why}"), happened);
        }
        match seen.newest_state {
            Some(RevisionState::Ready { .. }) => {}
            state => {
                let why = match state {
                    Some(RevisionState::Failed { failure, .. }) => {
                        format!("it is being loaded again: {}", failure.message)
                    }
                    _ => match refusal_of(seen) {
                        Some(why) => format!("it {why}"),
                        None => "it is being loaded".to_owned(),
                    },
                };
                return self.wait(seen, (newest, why), happened);
            }
        }
        if is_alone(seen) {
            self.wait_for_stable(seen, newest, happened);
            // What it does alone is compared with nothing.
            if let Some(trial) = &mut self.trial {
                trial.before = (seen.stable_totals, seen.newest_totals);
            }
            return;
        }
        if seen.has_program && seen.wanted.rules.stability_index_max.is_some() {
            let why = "spec.analysis asks for predictions, which are not known of predictors that run as programs".to_owned();
            return self.wait(seen, (newest, why), happened);
        }
        if self.trial.is_none() && !self.begin(seen, newest, happened) {
            return;
        }
        self.hold_to_steps(seen, newest, happened);
        if !self.hold_to_metrics(seen) {
            self.take_in(seen);
        }
        let this = self.trial();
        let Some(trial) = &mut self.trial else { return };
        let (stable, canary) = (seen.stable_totals, seen.newest_totals);
        let slow = trial.slow;
        // What came of another trial is none of this one's.
        let since = |totals: &Totals, before: &Totals| match totals.are_of(this) {
            true => totals.since(before, slow),
            false => Counts::default(),
        };
        let interval = Interval {
            stable: since(&stable, &trial.before.0),
            canary: since(&canary, &trial.before.1),
        };
        trial.before = (stable, canary);
        trial.rollout.observe(&seen.wanted.rules, interval);
        let lasted = self.lasted.unwrap_or_default();
        let now = trial.rollout.step_began.saturating_add(lasted);
        let verdict = trial.rollout.decide(&seen.wanted.rules, now);
        self.note_checks(seen.wanted);
        self.act((seen, command), (newest, verdict), happened);
        self.note_progress();
    }

    /// Shows that the revision that serves is not there, and tells it if that does not pass by itself.
    fn wait_for_stable(&mut self, seen: &Seen<'_>, newest: &str, happened: &mut Vec<Happened>) {
        match stable_failure(seen) {
            Some(why) => self.tell_wait(format!("{newest}{WAITS}{why}"), happened),
            None => {
                let stable = seen.stable.unwrap_or_default();
                self.status.message = format!("{newest}{WAITS}{stable} is being loaded");
            }
        }
    }

    /// Takes what was told of this stage by others: outcomes, predictions and answers.
    fn take_in(&mut self, seen: &Seen<'_>) {
        let since_ms = self.stage_since_ms();
        let Some(trial) = &mut self.trial else { return };
        let of_this = |stage: &&StageSummary| Some(stage.stage.since_ms) == since_ms;
        if let Some(stage) = seen.stage.filter(of_this) {
            trial.rollout.outcomes_are(outcomes(stage));
            trial.rollout.predictions = stage.drifts.iter().map(drift).collect();
            let units = stage.units.unwrap_or_default();
            trial.rollout.units = (units.stable.into(), units.canary.into());
        }
        for (place, look) in &seen.looks {
            let rules = &seen.wanted.rules;
            trial.rollout.observe_query(rules, *place, look.clone());
        }
    }

    /// Returns which trial there is: when it began, in ms since 1970, and 0 without one.
    pub(crate) fn trial(&self) -> u64 {
        self.status.canary_since_ms.unwrap_or(0)
    }

    /// Returns when the stage began, if there is one.
    pub(crate) fn stage_since_ms(&self) -> Option<u64> {
        let trial = self.trial.as_ref()?;
        Some(to_ms(trial.rollout.step_began))
    }

    /// Returns the stage that there is, between the revision that serves and the one on trial.
    fn stage_of<'s>(&self, seen: &Seen<'s>) -> Option<(u64, &'s str, &'s str)> {
        let since_ms = self.stage_since_ms()?;
        Some((since_ms, seen.stable?, seen.newest?))
    }

    /// Returns what is planned of the stage's book, for the Rollout `rollout`.
    pub(crate) fn planned_book(
        &self,
        seen: &Seen<'_>,
        rollout: &serde_json::Value,
    ) -> Option<PlannedExperiment> {
        let (since_ms, stable, canary) = self.stage_of(seen)?;
        let stage = StageOf {
            rollout: (object::name(rollout), object::meta_str(rollout, "uid")),
            stable,
            canary,
            since_ms,
            trial_ms: self.trial(),
            predictions: seen.wanted.rules.stability_index_max.is_some(),
            slow_ns: self.trial.as_ref().and_then(|trial| {
                let slow = trial.slow?;
                u64::try_from(slow.as_nanos()).ok()
            }),
        };
        metrics::book(&seen.wanted.metrics, stage)
    }

    /// Returns what is to be asked elsewhere in this stage.
    pub(crate) fn asking(&self, seen: &Seen<'_>, service: &ServiceId) -> Vec<(QueryKey, Asking)> {
        let Some((since_ms, stable, canary)) = self.stage_of(seen) else {
            return Vec::new();
        };
        let questions = seen.wanted.metrics.queries.iter().enumerate();
        questions
            .map(|(place, (_, question))| {
                let key = QueryKey {
                    service: service.clone(),
                    since_ms,
                    place,
                };
                (key, question.about(service, (stable, canary)))
            })
            .collect()
    }

    /// Waits for what a stage cannot do without, for as long as the deadline allows.
    fn wait(
        &mut self,
        seen: &Seen<'_>,
        (newest, why): (&str, String),
        happened: &mut Vec<Happened>,
    ) {
        if !seen.is_paused && self.is_overdue(seen) {
            return self.roll_back(newest, &format!("the deadline is over: {why}"), happened);
        }
        let message = format!("{newest}{WAITS}{why}");
        match (seen.newest_state, stable_failure(seen)) {
            // Nothing takes the requests.
            (Some(RevisionState::Failed { .. }), Some(lost)) => {
                self.tell_wait(format!("{message}; {lost}"), happened);
            }
            _ => self.status.message = message,
        }
    }

    /// Tells whether the deadline is over: of the stage, or without one since the revision is there.
    fn is_overdue(&self, seen: &Seen<'_>) -> bool {
        let rules = &seen.wanted.rules;
        let lasted = self.lasted();
        let since = |rollout: &Rollout| {
            rollout.is_overdue(rules, rollout.step_began.saturating_add(lasted))
        };
        if let Some(trial) = &self.trial {
            return since(&trial.rollout);
        }
        if let Some(trial) = self.interrupted((Totals::default(), Totals::default())) {
            return since(&trial.rollout);
        }
        rules.deadline.is_some_and(|deadline| lasted >= deadline)
    }

    /// Returns the trial from before a restart, if there was one.
    fn interrupted(&self, before: (Totals, Totals)) -> Option<Trial> {
        let progress = self.status.progress.as_ref()?;
        let step = usize::try_from(self.status.step?).ok()?.checked_sub(1)?;
        Some(restored(progress, step, before))
    }

    /// Begins the trial, or goes on with one from before a restart; tells whether there is one.
    fn begin(&mut self, seen: &Seen<'_>, newest: &str, happened: &mut Vec<Happened>) -> bool {
        let before = (seen.stable_totals, seen.newest_totals);
        if let Some(trial) = self.interrupted(before) {
            self.trial = Some(trial);
            return true;
        }
        let (had, needed) = (
            seen.stable_totals.requests(),
            seen.wanted.rules.requests_min,
        );
        let slow = match seen.wanted.slow {
            Some(slow) => Some(slow),
            None if had < needed => {
                let stable = seen.stable.unwrap_or_default();
                let why = format!(
                    "{stable} has had {had} of {needed} requests by which it is known what is slow (spec.analysis.latencyMax says it at once)"
                );
                self.wait(seen, (newest, why), happened);
                return false;
            }
            None => seen.stable_totals.percentile(seen.wanted.percentile),
        };
        self.trial = Some(Trial {
            rollout: Rollout::new(seen.now),
            slow,
            before,
            told: Vec::new(),
            metrics: Some(seen.wanted.metrics.mark()),
        });
        self.lasted = Some(Duration::ZERO);
        self.enter_step(seen.wanted);
        let shown = slow.map_or_else(
            || "nothing is slow".to_owned(),
            |slow| {
                let slow = humantime::format_duration(slow);
                format!("what takes longer than {slow} is slow")
            },
        );
        let percent = self.status.percent.unwrap_or_default();
        happened.push(Happened {
            is_warning: false,
            reason: "RolloutStarted",
            message: format!("{newest} gets {percent} % of the requests; {shown}"),
        });
        true
    }

    /// Where the spec looks at other metrics than the stage did, it begins anew: what was told of the old ones says nothing of the
    /// new. Tells whether it did.
    fn hold_to_metrics(&mut self, seen: &Seen<'_>) -> bool {
        let mark = seen.wanted.metrics.mark();
        let Some(trial) = &mut self.trial else {
            return false;
        };
        let before = trial.metrics.replace(mark);
        let are_others = before.is_some() && before != trial.metrics;
        if are_others {
            trial.rollout.begin_anew(trial.later(seen.now));
            trial.told.clear();
            self.lasted = Some(Duration::ZERO);
        }
        are_others
    }

    /// Where the spec has fewer stages than the trial has reached, the last of them begins anew, and where it gives this one another
    /// share, this one does.
    fn hold_to_steps(&mut self, seen: &Seen<'_>, newest: &str, happened: &mut Vec<Happened>) {
        let rules = &seen.wanted.rules;
        let Some(trial) = &mut self.trial else { return };
        let later = trial.later(seen.now);
        let is_beyond = trial.rollout.hold_to(rules, later);
        let percent = percent_of(trial, seen.wanted);
        if !is_beyond && percent == self.status.percent {
            return;
        }
        if !is_beyond {
            trial.rollout.begin_anew(later);
        }
        trial.told.clear();
        self.lasted = Some(Duration::ZERO);
        self.enter_step(seen.wanted);
        let percent = self.status.percent.unwrap_or_default();
        happened.push(Happened {
            is_warning: false,
            reason: "RolloutChanged",
            message: format!("{newest} gets {percent} % of the requests: spec.steps was changed; the stage begins anew"),
        });
    }

    /// Shows the stage that the trial is in.
    fn enter_step(&mut self, wanted: &Wanted) {
        let Some(trial) = &self.trial else { return };
        self.status.step = i32::try_from(trial.rollout.step + 1).ok();
        self.status.percent = percent_of(trial, wanted);
    }

    fn act(
        &mut self,
        (seen, command): (&Seen<'_>, Option<Command>),
        (newest, verdict): (&str, Verdict),
        happened: &mut Vec<Happened>,
    ) {
        let n_steps = seen.wanted.rules.steps.len();
        let is_last = self
            .trial
            .as_ref()
            .is_some_and(|trial| trial.rollout.step + 1 >= n_steps);
        let is_skipped = command == Some(Command::Skip);
        match verdict {
            Verdict::RollBack(checks) => {
                let failed: Vec<String> = checks.iter().map(Check::to_string).collect();
                self.roll_back(newest, &failed.join("; "), happened);
            }
            Verdict::Overdue(hold) if !seen.is_paused && !is_skipped => {
                let why = format!("the deadline is over: {}", describe(&hold));
                self.roll_back(newest, &why, happened);
            }
            _ if is_skipped && is_last => self.promote(seen, (newest, "by hand"), happened),
            _ if is_skipped => self.advance(seen, (newest, "by hand"), happened),
            Verdict::Hold(hold) | Verdict::Overdue(hold) => {
                happened.extend(self.told_of_wait(newest, &hold));
                self.status.message = format!("{}{}", self.at(newest), describe(&hold));
            }
            Verdict::Advance { .. } | Verdict::Promote if seen.is_paused => {
                self.status.message = format!(
                    "{}the stage is passed; spec.paused holds it",
                    self.at(newest)
                );
            }
            Verdict::Advance { .. } => {
                self.advance(seen, (newest, "the stage is passed"), happened);
            }
            Verdict::Promote => self.promote(seen, (newest, "every stage is passed"), happened),
        }
    }

    /// Tells, once for each check, that a stage which has lasted waits for it.
    fn told_of_wait(&mut self, newest: &str, hold: &Hold) -> Option<Happened> {
        let (Hold::Outcomes(check) | Hold::Doubt(check)) = hold else {
            return None;
        };
        let at = self.at(newest);
        let trial = self.trial.as_mut()?;
        if trial.told.contains(&check.kind) {
            return None;
        }
        trial.told.push(check.kind.clone());
        Some(Happened {
            is_warning: check.state == CheckState::Doubtful,
            reason: "RolloutWaits",
            message: format!("{at}{}", describe(hold)),
        })
    }

    /// Returns the words for where a revision is.
    fn at(&self, newest: &str) -> String {
        let percent = self.status.percent.unwrap_or_default();
        format!("{newest} at {percent} %: ")
    }

    fn advance(
        &mut self,
        seen: &Seen<'_>,
        (newest, why): (&str, &str),
        happened: &mut Vec<Happened>,
    ) {
        if let Some(trial) = &mut self.trial {
            trial.rollout.advance(trial.later(seen.now));
            trial.told.clear();
        }
        self.lasted = Some(Duration::ZERO);
        self.enter_step(seen.wanted);
        let percent = self.status.percent.unwrap_or_default();
        self.status.message = format!("{newest} gets {percent} % of the requests: {why}");
        happened.push(Happened {
            is_warning: false,
            reason: "RolloutAdvanced",
            message: self.status.message.clone(),
        });
    }

    fn note_checks(&mut self, wanted: &Wanted) {
        let Some(trial) = &self.trial else { return };
        let checks = trial.rollout.checks(&wanted.rules);
        self.status.checks = checks.iter().map(shown).collect();
    }

    fn note_progress(&mut self) {
        let lasted = self.lasted();
        self.status.canary_lasted_ms = None;
        self.status.progress = self.trial.as_ref().map(|trial| {
            let Trial { rollout, slow, .. } = trial;
            let counts = |counts: Counts| [counts.requests, counts.errors, counts.slow];
            RolloutProgress {
                step_began_ms: to_ms(rollout.step_began),
                lasted_ms: Some(to_ms(lasted)),
                slow_ns: slow.and_then(|slow| u64::try_from(slow.as_nanos()).ok()),
                stable: counts(rollout.in_step.stable),
                canary: counts(rollout.in_step.canary),
                errors: rollout.errors.to_parts(),
                slowness: rollout.slowness.to_parts(),
                queries: rollout
                    .queries
                    .iter()
                    .map(|query| [query.n_looks, query.n_bad])
                    .collect(),
                metrics: trial.metrics.clone(),
            }
        });
    }
}

#[cfg(test)]
mod tests;
