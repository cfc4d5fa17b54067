//! What time counts for a stage and for a deadline, and what does not.

use super::*;

/// A revision that is being loaded, and is to be within an hour.
fn on_the_way() -> Play {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.wanted.rules.deadline = Some(Duration::from_secs(3_600));
    (play.newest, play.state) = ("v2", loading());
    play.pass(101, (0, 0));
    play
}

fn restart(play: &mut Play) {
    let status = serde_json::to_value(&play.course.status).unwrap();
    play.course = Course::new(serde_json::from_value(status).unwrap());
}

#[test]
fn before_the_first_stage_a_minute_of_what_passes_without_the_process_counts_at_most() {
    let down: fn(&mut Play) = |play| play.now += Duration::from_secs(7_200);
    let set_forward: fn(&mut Play) = |play| play.clock_set.0 = Duration::from_secs(7_200);
    let set_back: fn(&mut Play) = |play| play.clock_set.1 = Duration::from_secs(7_200);
    for (meanwhile, counts) in [(down, 60), (set_forward, 60), (set_back, 0)] {
        let mut play = on_the_way();
        meanwhile(&mut play);
        restart(&mut play);
        play.look(None);
        assert_eq!(play.course.status.phase, PROGRESSING);
        assert_eq!(play.course.lasted(), Duration::from_secs(100 + counts));
        play.now += Duration::from_secs(3_600 - 101 - counts);
        play.look(None);
        assert_eq!(play.course.status.phase, PROGRESSING);
        play.now += Duration::from_secs(1);
        play.look(None);
        assert_eq!(play.course.status.phase, ROLLED_BACK);
    }
}

#[test]
fn before_the_first_stage_what_a_service_was_stopped_for_does_not_count_after_a_restart() {
    let mut play = on_the_way();
    play.is_stopped = true;
    play.pass(2, (0, 0));
    play.now += Duration::from_secs(7_200);
    play.look(None);
    play.is_stopped = false;
    restart(&mut play);
    play.look(None);
    assert_eq!(play.course.status.phase, PROGRESSING);
    assert_eq!(play.course.lasted(), Duration::from_secs(160));
}

/// Between its crashes and after a restart it is not there to be compared with either.
#[test]
fn a_stage_does_not_last_while_the_stable_revision_is_loaded() {
    for (state, is_restarted) in [
        (Some(loading()), false),
        (Some(loading()), true),
        (None, true),
    ] {
        let mut play = Play::new();
        play.pass(1, (0, 0));
        play.wanted.rules.requests_min = 0;
        play.wanted.rules.deadline = Some(Duration::from_secs(60));
        play.newest = "v2";
        play.pass(3, (0, 0));
        assert_eq!(play.course.status.step, Some(1));
        let known = play.course.status.progress.clone().unwrap();
        if is_restarted {
            restart(&mut play);
        }
        play.stable_state = state;
        assert_eq!(play.pass(100, (100, 100)), PROGRESSING);
        assert_eq!(play.course.status.step, Some(1));
        let status = &play.course.status;
        assert_eq!(status.message, "v2 waits: v1 is being loaded");
        // What it did alone is no evidence.
        assert_eq!(status.progress.as_ref().unwrap().canary, known.canary);
        assert!(!play.events.contains(&"RolloutWaits"));
        play.look(Some(Command::Skip));
        assert_eq!(play.events.last(), Some(&REFUSED));
        play.stable_state = Some(ready());
        play.pass(1, (0, 0));
        assert_eq!(play.course.status.step, Some(1));
        play.pass(3, (0, 0));
        assert_eq!(play.course.status.step, Some(2));
    }
}

#[test]
fn nothing_begins_before_the_stable_revision_is_there() {
    let mut play = Play::new();
    play.wanted.rules.requests_min = 0;
    play.wanted.slow = Some(Duration::from_millis(100));
    (play.newest, play.stable_state) = ("v2", None);
    play.pass(100, (0, 0));
    assert_eq!((play.percent(), play.course.status.step), (Some(0), None));
    play.stable_state = Some(ready());
    play.pass(1, (0, 0));
    assert_eq!(play.percent(), Some(10));
}

/// Nothing takes requests then.
#[test]
fn that_neither_revision_can_be_loaded_is_told() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.newest = "v2";
    play.pass(3, (0, 0));
    (play.state, play.stable_state) = (failed_for_now(), Some(failed_for_now()));
    play.events.clear();
    play.pass(100, (0, 0));
    let told = play.events.iter().filter(|one| **one == "RolloutWaits");
    assert_eq!(told.count(), 1);
    let message = &play.course.status.message;
    let both = "v2 waits: it is being loaded again: ";
    assert!(
        message.starts_with(both) && message.contains("; v1 failed: "),
        "{message}"
    );
}
