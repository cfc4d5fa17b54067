//! A canary that is tried once more.

use super::*;

impl Play {
    /// A second in which the canary has had these, of the trial `trial`; those that hang do so for a second.
    fn hear(&mut self, trial: u64, canary: RevisionLoad, n_hanging: u64) {
        let mut canary = RevisionLoad {
            trial: Some(trial),
            ..canary
        };
        canary.in_work[18] = n_hanging;
        let stable = RevisionLoad {
            trial: Some(trial),
            ..load(100, 0, 0)
        };
        self.watched.take(&LoadReport {
            window: Duration::from_secs(1),
            revisions: vec![(id("v1"), stable), (id("v2"), canary)],
        });
        self.now += Duration::from_secs(1);
        self.look(None);
    }
}

/// What hung in the trial before counts neither while it hangs nor when it ends; what hangs in this one does.
#[test]
fn what_an_earlier_trial_left_behind_is_none_of_the_next_one_s() {
    let mut play = Play::new();
    play.pass(5, (0, 0));
    play.newest = "v2";
    play.look(None);
    let first = play.course.trial();
    play.hear(first, load(10, 0, 0), 20);
    play.look(Some(Command::Abort));
    assert_eq!(play.course.trial(), 0);
    play.now += Duration::from_secs(1);
    play.look(Some(Command::Retry));
    let second = play.course.trial();
    assert!(second > first);
    // The serving process has not heard of it yet, and then it has.
    play.hear(first, load(20, 20, 20), 30);
    play.hear(second, load(10, 0, 0), 0);
    let progress = |play: &Play| play.course.status.progress.as_ref().unwrap().canary;
    assert_eq!(progress(&play), [10, 0, 0]);
    assert_eq!(play.course.status.phase, PROGRESSING);
    for _ in 0..3 {
        play.hear(second, load(0, 0, 0), 40);
    }
    assert_eq!(play.course.status.phase, ROLLED_BACK);
    let message = &play.course.status.message;
    assert!(message.contains("slow requests"), "{message}");
}
