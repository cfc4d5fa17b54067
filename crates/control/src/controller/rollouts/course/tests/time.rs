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

#[test]
fn a_stage_lasts_as_long_as_it_is_meant_to_whatever_the_clock_is_set_to() {
    let hours = |n: u64| Duration::from_secs(3_600 * n);
    let forward = (hours(2), Duration::ZERO);
    let back = (Duration::ZERO, hours(1));
    for clock_set in [forward, back] {
        for is_restarted in [false, true] {
            let mut play = Play::new();
            play.pass(1, (0, 0));
            for step in &mut play.wanted.rules.steps {
                step.duration = Duration::from_secs(600);
            }
            play.newest = "v2";
            play.pass(100, (0, 0));
            assert_eq!(play.course.status.step, Some(1));
            play.clock_set = clock_set;
            if is_restarted {
                play.course = Course::new(play.course.status.clone());
            }
            // A minute, while the process may have been gone, is the most that the clock takes from it.
            play.pass(440, (0, 0));
            assert_eq!(play.course.status.step, Some(1), "{clock_set:?}");
            let since_ms = play.course.stage_since_ms();
            play.pass(62, (0, 0));
            assert_eq!(play.course.status.step, Some(2), "{clock_set:?}");
            assert!(play.course.stage_since_ms() > since_ms);
        }
    }
}

#[test]
fn a_stage_does_not_last_while_its_service_is_stopped() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.wanted.rules.deadline = Some(Duration::from_secs(60));
    play.newest = "v2";
    play.pass(3, (0, 0));
    let status = play.course.status.clone();
    play.is_stopped = true;
    play.now += Duration::from_secs(3_600);
    play.look(None);
    play.now += Duration::from_secs(3_600);
    play.look(None);
    play.is_stopped = false;
    play.look(None);
    assert_eq!(play.course.status.step, status.step);
    assert_eq!(play.course.status.message, status.message);
    play.pass(3, (0, 0));
    assert_eq!(play.course.status.step, Some(2));
}

#[test]
fn a_stage_does_not_last_while_the_stable_revision_has_failed() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.wanted.rules.deadline = Some(Duration::from_secs(60));
    play.newest = "v2";
    play.pass(3, (0, 0));
    play.stable_state = Some(failed_for_now());
    play.pass(100, (0, 0));
    play.stable_state = Some(ready());
    assert_eq!(play.pass(1, (0, 0)), PROGRESSING);
    assert_eq!(play.course.status.step, Some(1));
    play.pass(2, (0, 0));
    assert_eq!(play.course.status.step, Some(2));
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
fn the_deadline_begins_anew_after_a_split_by_hand() {
    let mut play = Play::new();
    play.pass(1, (0, 0));
    play.wanted.rules.deadline = Some(Duration::from_secs(60));
    (play.newest, play.state) = ("v2", loading());
    play.pass(50, (0, 0));
    let mut course = std::mem::take(&mut play.course);
    course.look(&Seen {
        is_split_by_hand: true,
        ..play.seen()
    });
    play.course = course;
    assert_eq!(play.course.status.phase, WAITING);
    assert_eq!(play.pass(59, (0, 0)), PROGRESSING);
    assert_eq!(play.pass(1, (0, 0)), ROLLED_BACK);
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
