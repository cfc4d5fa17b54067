//! Courses from what is seen to where they stand, second by second.

use coracle_api::rollout::RolloutSpec;
use coracle_base::Code;
use coracle_serving::{LoadFailure, LoadReport, RevisionId, RevisionLoad};
use serde_json::json;

use super::super::spec;
use super::super::totals::Watched;
use super::*;

/// A service with 100 requests a second, and its rollout.
struct Play {
    course: Course,
    wanted: Wanted,
    watched: Watched,
    now: Duration,
    stable: Option<&'static str>,
    newest: &'static str,
    state: RevisionState,
    is_paused: bool,
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
            now: Duration::from_secs(1_000),
            stable: Some("v1"),
            newest: "v1",
            state: ready(),
            is_paused: false,
            events: Vec::new(),
        }
    }

    /// Returns the share of the newest revision.
    fn percent(&self) -> Option<u8> {
        self.course.percent(self.newest, self.stable)
    }

    fn look(&mut self, command: Option<Command>) {
        let seen = Seen {
            wanted: &self.wanted,
            is_paused: self.is_paused,
            command,
            stable: self.stable,
            newest: Some(self.newest),
            newest_state: Some(&self.state),
            is_split_by_hand: false,
            stable_totals: self.watched.of(&id(self.stable.unwrap_or_default())),
            newest_totals: self.watched.of(&id(self.newest)),
            now: self.now,
        };
        let happened = self.course.look(&seen);
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

#[test]
fn a_deadline_sends_back_what_nobody_asks_for() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.wanted.rules.deadline = Some(Duration::from_secs(60));
    play.newest = "v2";
    play.look(None);
    assert_eq!(play.percent(), Some(10));
    play.now += Duration::from_secs(64);
    play.look(None);
    assert_eq!(play.course.status.phase, "Progressing");
    play.now += Duration::from_secs(1);
    play.look(None);
    assert_eq!(play.course.status.phase, "RolledBack");
    assert!(play.course.status.message.contains("0 of the 40 requests"));
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

#[test]
fn the_deadline_holds_for_what_is_not_loaded() {
    for (state, words) in [
        (loading(), "it is being loaded"),
        (failed_for_now(), "the bucket does not answer"),
    ] {
        for is_restarted in [false, true] {
            let mut play = Play::new();
            play.pass(1, (0, 0));
            play.wanted.rules.deadline = Some(Duration::from_secs(60));
            (play.newest, play.state) = ("v2", state.clone());
            assert_eq!(play.pass(60, (0, 0)), "Progressing");
            if is_restarted {
                play.course = Course::new(play.course.status.clone());
            }
            play.is_paused = true;
            assert_eq!(play.pass(100, (0, 0)), "Paused");
            play.is_paused = false;
            assert_eq!(play.pass(1, (0, 0)), "RolledBack");
            let message = &play.course.status.message;
            assert!(message.contains("the deadline is over") && message.contains(words));
        }
    }
}

#[test]
fn the_deadline_of_a_stage_holds_while_its_revision_is_loaded_again() {
    for is_restarted in [false, true] {
        let mut play = Play::new();
        play.pass(1, (0, 0));
        play.wanted.rules.deadline = Some(Duration::from_secs(60));
        play.newest = "v2";
        play.pass(2, (0, 0));
        assert_eq!(play.course.status.step, Some(1));
        play.state = loading();
        if is_restarted {
            play.course = Course::new(play.course.status.clone());
        }
        // The stage lasts 5 s, of which one is over.
        assert_eq!(play.pass(63, (0, 0)), "Progressing");
        assert_eq!(play.pass(1, (0, 0)), "RolledBack");
    }
}

#[test]
fn the_deadline_holds_while_nobody_knows_what_is_slow() {
    let mut play = Play::new();
    play.wanted.rules.deadline = Some(Duration::from_secs(60));
    play.newest = "v2";
    play.look(None);
    play.now += Duration::from_secs(59);
    play.look(None);
    assert_eq!(play.course.status.phase, "Progressing");
    play.now += Duration::from_secs(1);
    play.look(None);
    assert_eq!(play.course.status.phase, "RolledBack");
    assert!(play.course.status.message.contains("what is slow"));
}
