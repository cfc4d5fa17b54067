//! Rollouts that split users.

use coracle_policy::rollout::{Met, UnitEvents, UnitSide};
use coracle_serving::experiment::StageUnits;

use super::*;

fn by_user() -> Play {
    let spec: RolloutSpec = serde_json::from_value(json!({
        "inferenceService": "iris",
        "steps": [{"percent": 10, "duration": "5s"}, {"percent": 50, "duration": "5s"}],
        "analysis": {"requestsMin": 40, "latencyMax": "1s", "unit": {"header": "x-user"}}
    }))
    .unwrap();
    let mut play = Play {
        wanted: spec::read(&spec).unwrap(),
        ..Play::new()
    };
    play.pass(1, (0, 0));
    play.newest = "v2";
    play.pass(1, (0, 0));
    play
}

/// What the serving process tells of a stage: users with ten requests each, and so many of the canary's whose thousand requests all fail.
fn told(play: &Play, (n_stable, n_canary, n_failing): (u64, u64, u64)) -> StageSummary {
    let side = |n_users: u64, n_failing: u64| {
        let met = |struck, requests| Met {
            struck,
            requests,
            first: struck.min(1),
        };
        let mut events = UnitEvents::default();
        (0..n_users).for_each(|_| events.push(met(0, 10)));
        (0..n_failing).for_each(|_| events.push(met(1_000, 1_000)));
        let mut slow = UnitEvents::default();
        (0..n_users + n_failing).for_each(|_| slow.push(met(0, 10)));
        UnitSide {
            errors: events,
            slow,
        }
    };
    StageSummary {
        stage: coracle_serving::experiment::PlannedStage {
            since_ms: play.course.stage_since_ms().unwrap(),
            by_unit: true,
            ..Default::default()
        },
        units: Some(StageUnits {
            stable: side(n_stable, 0).into(),
            canary: side(n_canary, n_failing).into(),
        }),
        ..StageSummary::default()
    }
}

/// A user who fails always and asks more than all others takes no canary back, however bad its requests look; one that fails for everybody goes back.
#[test]
fn a_busy_user_who_always_fails_takes_no_canary_back() {
    let mut play = by_user();
    let seen = play.seen();
    let rollout = json!({"metadata": {"name": "iris", "uid": "u"}});
    let stage = play.course.planned_book(&seen, &rollout).unwrap().stage;
    assert_eq!(
        stage.map(|stage| (stage.by_unit, stage.slow_ns)),
        Some((true, Some(1_000_000_000)))
    );
    // Nobody has told anything yet.
    assert_eq!(play.pass(6, (90, 0)), "Progressing");
    let message = &play.course.status.message;
    assert!(
        message.contains("0 of the canary and 0 of the stable revision, 20 needed of each"),
        "{message}"
    );
    // One of 31 users of the canary, with nearly all its requests.
    play.stage = Some(told(&play, (270, 30, 1)));
    play.pass(1, (90, 0));
    assert_eq!(
        play.course.status.step,
        Some(2),
        "{}",
        play.course.status.message
    );
    let check = &play.course.status.checks[0];
    let shown = check.message.as_deref().unwrap();
    assert!(
        shown
            .ends_with("by unit (cluster-robust), 31 of the canary and 270 of the stable revision"),
        "{shown}"
    );
    assert!(check.canary > 0.03, "{shown}");
    // In the next stage everybody's requests fail.
    play.stage = Some(told(&play, (30, 0, 30)));
    assert_eq!(play.pass(1, (100, 0)), "RolledBack");
    let message = &play.course.status.message;
    assert!(
        message.contains("errors 100.00 % of the canary") && message.contains("by unit"),
        "{message}"
    );
}
