//! Courses from what is seen to where they stand, second by second.

use coracle_api::rollout::RolloutSpec;
use coracle_base::Code;
use coracle_serving::experiment::DriftSummary;
use coracle_serving::{LoadFailure, LoadReport, RevisionId, RevisionLoad};
use serde_json::json;

use super::super::spec;
use super::super::totals::Watched;
use super::*;

mod again;
mod metrics;
mod time;
mod units;

/// A service with 100 requests a second, and its rollout.
struct Play {
    course: Course,
    wanted: Wanted,
    watched: Watched,
    now: Duration,
    /// By how much the machine's clock was set forward, and back.
    clock_set: (Duration, Duration),
    is_stopped: bool,
    stable_state: Option<RevisionState>,
    refusal: Option<&'static str>,
    stable: Option<&'static str>,
    newest: &'static str,
    state: RevisionState,
    is_paused: bool,
    stage: Option<StageSummary>,
    looks: Vec<(usize, QueryLook)>,
    has_program: bool,
    events: Vec<&'static str>,
}

fn id(name: &str) -> RevisionId {
    RevisionId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

fn ready() -> RevisionState {
    RevisionState::Ready {
        memory_bytes: 1,
        replicas: 1,
    }
}

/// Calls that took a millisecond, but for some that took a second.
fn load(requests: u64, errors: u64, slow: u64) -> RevisionLoad {
    let mut load = RevisionLoad {
        n_finished: requests,
        n_failed: errors,
        ..RevisionLoad::default()
    };
    load.latency[9] = requests - slow;
    load.latency[18] = slow;
    load
}

impl Play {
    fn new() -> Self {
        let spec: RolloutSpec = serde_json::from_value(json!({
            "inferenceService": "iris",
            "steps": [{"percent": 10, "duration": "5s"}, {"percent": 50, "duration": "5s"}],
            "analysis": {"requestsMin": 40}
        }))
        .unwrap();
        let mut watched = Watched::default();
        watched.watch(&[id("v1"), id("v2"), id("v3")].into());
        Self {
            course: Course::default(),
            wanted: spec::read(&spec).unwrap(),
            watched,
            now: Duration::from_secs(10_000),
            clock_set: (Duration::ZERO, Duration::ZERO),
            is_stopped: false,
            stable_state: Some(ready()),
            refusal: None,
            stable: Some("v1"),
            newest: "v1",
            state: ready(),
            is_paused: false,
            stage: None,
            looks: Vec::new(),
            has_program: false,
            events: Vec::new(),
        }
    }

    /// Returns the share of the newest revision.
    fn percent(&self) -> Option<u8> {
        self.course.percent(self.newest, self.stable)
    }

    fn seen(&self) -> Seen<'_> {
        Seen {
            wanted: &self.wanted,
            is_paused: self.is_paused,
            is_stopped: self.is_stopped,
            command: None,
            stable: self.stable,
            newest: Some(self.newest),
            newest_state: Some(&self.state).filter(|_| self.refusal.is_none()),
            stable_state: self.stable_state.as_ref(),
            refusal: self.refusal,
            is_split_by_hand: false,
            stable_totals: self.watched.of(&id(self.stable.unwrap_or_default())),
            newest_totals: self.watched.of(&id(self.newest)),
            stage: self.stage.as_ref(),
            looks: self.looks.clone(),
            has_program: self.has_program,
            now: self.now + self.clock_set.0 - self.clock_set.1,
            monotonic: self.now,
        }
    }

    fn look(&mut self, command: Option<Command>) {
        let mut course = std::mem::take(&mut self.course);
        let seen = Seen {
            command,
            ..self.seen()
        };
        let happened = course.look(&seen);
        self.course = course;
        self.looks.clear();
        self.events
            .extend(happened.iter().map(|event| event.reason));
    }

    /// Lets seconds pass; of 100 requests to the newest revision so many fail and so many are slow. Returns the phase.
    fn pass(&mut self, n_seconds: u32, (errors, slow): (u64, u64)) -> &str {
        for _ in 0..n_seconds {
            let percent = self.percent().map_or(0, u64::from);
            let of_newest = |per_hundred: u64| (per_hundred * percent).div_ceil(100);
            let newest = load(percent, of_newest(errors), of_newest(slow));
            let stable = load(100 - percent, 0, 0);
            let mut revisions = vec![(id("v1"), stable)];
            if self.newest != "v1" {
                revisions.push((id(self.newest), newest));
            }
            self.watched.take(&LoadReport {
                window: Duration::from_secs(1),
                revisions,
            });
            self.now += Duration::from_secs(1);
            self.look(None);
        }
        &self.course.status.phase
    }
}

/// A canary that answers nothing any more is as slow as can be, though no request of it ends.
#[test]
fn a_canary_that_hangs_goes_back_while_its_requests_hang() {
    let mut play = Play::new();
    play.pass(5, (0, 0));
    play.newest = "v2";
    assert_eq!(play.pass(2, (0, 0)), PROGRESSING);
    // Of all callers who wait for their answer before they ask again.
    let mut hanging = RevisionLoad::default();
    hanging.in_work[18] = 20;
    for _ in 0..3 {
        play.watched.take(&LoadReport {
            window: Duration::from_secs(1),
            revisions: vec![(id("v2"), hanging), (id("v1"), load(10, 0, 0))],
        });
        play.now += Duration::from_secs(1);
        play.look(None);
    }
    assert_eq!(play.course.status.phase, ROLLED_BACK);
    let message = &play.course.status.message;
    assert!(message.contains("slow requests"), "{message}");
}

#[test]
fn a_revision_that_is_as_good_is_promoted_stage_by_stage() {
    let mut play = Play::new();
    assert_eq!(play.pass(2, (0, 0)), "Idle");
    play.newest = "v2";
    // Nothing before the rollout has seen it.
    assert_eq!(play.percent(), Some(0));
    assert_eq!(play.pass(1, (0, 0)), "Progressing");
    assert_eq!(
        (play.percent(), play.course.status.step),
        (Some(10), Some(1))
    );
    play.pass(5, (0, 0));
    assert_eq!(
        (play.percent(), play.course.status.step),
        (Some(50), Some(2))
    );
    assert_eq!(play.pass(5, (0, 0)), "Promoted");
    assert_eq!(play.percent(), None);
    let expected = ["RolloutStarted", "RolloutAdvanced", "RolloutPromoted"];
    assert_eq!(play.events, expected);
    // In force.
    play.stable = Some("v2");
    assert_eq!(play.pass(3, (0, 0)), "Promoted");
    assert_eq!(play.course.status.canary_revision.as_deref(), Some("v2"));
}

#[test]
fn a_revision_that_fails_or_is_slow_goes_back_within_seconds() {
    for (manner, word) in [((100, 0), "errors"), ((0, 100), "slow requests")] {
        let mut play = Play::new();
        play.pass(2, (0, 0));
        play.newest = "v2";
        play.pass(1, (0, 0));
        assert_eq!(play.percent(), Some(10));
        assert_eq!(play.pass(2, manner), "RolledBack");
        assert_eq!(play.percent(), Some(0));
        let message = &play.course.status.message;
        assert!(message.contains(word), "{message}");
        assert!(
            play.course
                .status
                .checks
                .iter()
                .any(|check| check.state == "Failed")
        );
        // It stays so until there is another revision.
        assert_eq!(play.pass(50, (0, 0)), "RolledBack");
        play.newest = "v3";
        assert_eq!(play.percent(), Some(0));
        assert_eq!(play.pass(1, (0, 0)), "Progressing");
        assert_eq!(play.percent(), Some(10));
    }
}

#[test]
fn without_knowing_what_is_slow_nothing_begins() {
    let mut play = Play::new();
    play.newest = "v2";
    play.look(None);
    assert_eq!((play.percent(), play.course.status.step), (Some(0), None));
    assert!(play.course.status.message.contains("0 of 40 requests"));
    play.pass(1, (0, 0));
    assert_eq!(play.percent(), Some(10));
    // Who says it need not wait.
    let mut play = Play::new();
    play.wanted.slow = Some(Duration::from_millis(100));
    play.newest = "v2";
    play.look(None);
    assert_eq!(play.percent(), Some(10));
}

#[test]
fn a_revision_that_does_not_load_goes_back() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.newest = "v2";
    play.state = RevisionState::Loading {
        progress: "loading".to_owned(),
    };
    assert_eq!(play.pass(3, (0, 0)), "Progressing");
    assert_eq!(play.percent(), Some(0));
    play.state = RevisionState::Failed {
        attempt: 0,
        failure: LoadFailure {
            code: Code::NotFound,
            message: "nothing there".to_owned(),
            is_transient: false,
        },
    };
    assert_eq!(play.pass(1, (0, 0)), "RolledBack");
    assert!(play.course.status.message.contains("nothing there"));
}

#[test]
fn paused_stages_do_not_end_but_bad_revisions_go_back() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    (play.newest, play.is_paused) = ("v2", true);
    assert_eq!(play.pass(30, (0, 0)), "Paused");
    assert_eq!(play.percent(), Some(10));
    play.is_paused = false;
    assert_eq!(play.pass(1, (0, 0)), "Progressing");
    assert_eq!(play.percent(), Some(50));
    play.is_paused = true;
    assert_eq!(play.pass(2, (50, 0)), "RolledBack");
}

#[test]
fn people_may_skip_abort_retry_and_promote() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.newest = "v2";
    play.pass(1, (0, 0));
    play.look(Some(Command::Skip));
    assert_eq!(play.percent(), Some(50));
    play.look(Some(Command::Abort));
    assert_eq!(
        (play.percent(), play.course.status.phase.as_str()),
        (Some(0), "RolledBack")
    );
    play.look(Some(Command::Retry));
    assert_eq!(
        (play.percent(), play.course.status.phase.as_str()),
        (Some(10), "Progressing")
    );
    play.look(Some(Command::Skip));
    play.look(Some(Command::Skip));
    assert_eq!(
        (play.percent(), play.course.status.phase.as_str()),
        (None, "Promoted")
    );
    let mut play = Play::new();
    play.newest = "v2";
    play.look(Some(Command::Promote));
    assert_eq!(play.percent(), None);
    // Until it is in force.
    play.look(Some(Command::Abort));
    assert_eq!(play.percent(), Some(0));
    // Nothing is in a stage that could be skipped.
    play.look(Some(Command::Skip));
    assert_eq!(play.events.last(), Some(&REFUSED));
}

#[test]
fn a_restart_goes_on_in_the_middle_of_a_stage() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.newest = "v2";
    play.pass(4, (0, 0));
    assert_eq!(play.percent(), Some(10));
    let status = serde_json::to_value(&play.course.status).unwrap();
    let before = play.course.status.clone();
    play.course = Course::new(serde_json::from_value(status).unwrap());
    // What was counted is gone with the process; what was found out is not.
    play.watched = Watched::default();
    play.watched.watch(&[id("v1"), id("v2")].into());
    assert_eq!(play.percent(), Some(10));
    play.look(None);
    assert_eq!(play.course.status, before);
    play.pass(2, (0, 0));
    assert_eq!(play.percent(), Some(50));
}

/// A command has its effect or is refused, with what is in its way.
#[test]
fn commands_that_cannot_have_their_effect_are_refused() {
    let on_trial = || {
        let mut play = Play::new();
        play.pass(1, (0, 0));
        play.newest = "v2";
        play.pass(2, (0, 0));
        assert_eq!(play.course.status.step, Some(1));
        play
    };
    let refused = |play: &mut Play, command| {
        let before = play.course.status.phase.clone();
        let seen = Seen {
            command: Some(command),
            ..play.seen()
        };
        let happened = play.course.clone().look(&seen);
        let refused = happened.into_iter().find(|event| event.reason == REFUSED);
        play.look(Some(command));
        assert_eq!(play.course.status.phase, before);
        refused.unwrap().message
    };
    let bucket = "the bucket does not answer";
    let mut play = on_trial();
    play.state = failed_for_now();
    let message = refused(&mut play, Command::Promote);
    assert_eq!(message, format!("promote: v2 failed: {bucket}"));
    let message = refused(&mut play, Command::Skip);
    assert_eq!(message, "skip: v2 is not loaded");
    let mut play = on_trial();
    play.refusal = Some("there is no runtime");
    let message = refused(&mut play, Command::Promote);
    assert_eq!(message, "promote: v2 cannot be served: there is no runtime");
    play.look(None);
    let message = &play.course.status.message;
    assert_eq!(
        message,
        "v2 waits: it cannot be served: there is no runtime"
    );
    // What serves alone is not taken back, nor compared.
    let mut play = on_trial();
    play.stable_state = Some(failed_for_now());
    for command in [Command::Skip, Command::Abort] {
        let message = refused(&mut play, command);
        assert_eq!(
            message,
            format!("{}: v1 failed: {bucket}", command.as_str())
        );
    }
    play.look(Some(Command::Promote));
    assert_eq!(play.course.status.phase, PROMOTED);
}

#[test]
fn each_failure_of_a_stable_revision_is_told_of() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.newest = "v2";
    play.pass(1, (0, 0));
    play.is_paused = true;
    let n_told = |play: &Play| {
        let told = play.events.iter();
        told.filter(|event| **event == "RolloutWaits").count()
    };
    let fail = |play: &mut Play, n_restarts: u32| {
        let mut failed = failed_for_now();
        if let RevisionState::Failed { failure, .. } = &mut failed {
            failure.message = format!("it ended, restarted {n_restarts} times");
        }
        play.stable_state = Some(failed);
        play.pass(2, (0, 0));
        let words = format!("v2 waits: v1 failed: it ended, restarted {n_restarts} times");
        assert_eq!(play.course.status.message, words);
    };
    for n_restarts in 0..5 {
        fail(&mut play, n_restarts);
        play.stable_state = Some(loading());
        play.pass(30, (0, 0));
    }
    // One event counts them all.
    assert_eq!(n_told(&play), 5);
}

#[test]
fn a_rollout_that_loses_stages_begins_its_last_one_anew() {
    for is_restarted in [false, true] {
        let mut play = Play::new();
        play.pass(1, (0, 0));
        play.newest = "v2";
        play.pass(6, (0, 0));
        assert_eq!(
            (play.percent(), play.course.status.step),
            (Some(50), Some(2))
        );
        if is_restarted {
            play.course = Course::new(play.course.status.clone());
        }
        play.wanted.rules.steps.truncate(1);
        assert_eq!(play.pass(1, (0, 0)), "Progressing");
        assert_eq!(
            (play.percent(), play.course.status.step),
            (Some(10), Some(1))
        );
        // It is watched as any other.
        assert_eq!(play.pass(2, (100, 0)), "RolledBack");
    }
}

#[test]
fn another_share_of_the_stage_is_in_force_at_once_and_begins_it_anew() {
    for is_restarted in [false, true] {
        let mut play = Play::new();
        play.pass(1, (0, 0));
        play.newest = "v2";
        play.pass(3, (0, 0));
        assert_eq!(play.percent(), Some(10));
        if is_restarted {
            play.course = Course::new(play.course.status.clone());
        }
        play.is_paused = true;
        play.wanted.rules.steps[0].percent = 1.0;
        play.pass(1, (0, 0));
        assert_eq!(
            (play.percent(), play.course.status.step),
            (Some(1), Some(1))
        );
        assert_eq!(play.events.last(), Some(&"RolloutChanged"));
        play.is_paused = false;
        // It would have been over by now; its requests, too, are counted anew.
        play.pass(8, (0, 0));
        assert_eq!(play.percent(), Some(1));
        let n_changes = play
            .events
            .iter()
            .filter(|event| **event == "RolloutChanged");
        assert_eq!(n_changes.count(), 1);
        // What lasts longer, or comes later, changes nothing now.
        play.wanted.rules.steps[1].percent = 60.0;
        play.pass(1, (0, 0));
        assert_eq!(play.percent(), Some(1));
    }
}

fn loading() -> RevisionState {
    RevisionState::Loading {
        progress: "loading".to_owned(),
    }
}

fn failed_for_now() -> RevisionState {
    RevisionState::Failed {
        attempt: 3,
        failure: LoadFailure {
            code: Code::Unavailable,
            message: "the bucket does not answer".to_owned(),
            is_transient: true,
        },
    }
}
