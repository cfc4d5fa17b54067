//! How many runs of a model the pool has at a time.
//!
//! Runs that have a processor each are best all at once. Those that take all processors themselves, or wait for the same memory, as
//! large graphs do, gain nothing from one another: fewer of them with more calls in each are over sooner. Which it is depends on the
//! model, the machine and the calls, so it is tried: now and then there may be half as many runs, or twice as many, for a moment and
//! again, and it stays so if calls are answered sooner, from when they came. Where callers wait for their answers before they ask
//! again, sooner is also more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_model::RunTime;

/// A look takes this many calls at least,
const CALLS: u32 = 24;
/// and this long.
const LOOK_MIN: Duration = Duration::from_millis(30);
/// A look that takes longer is given up: too little is to be done.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// How often both numbers of runs are looked at in turn.
const ROUNDS: usize = 2;
/// The share of the time until the answer with the number so far, in the mean over the rounds, that is not to be exceeded.
const BETTER: f64 = 0.9;
/// How long after a trial that changed nothing the next one comes: the first time, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// The number of runs of one model, and the search for it.
#[derive(Debug)]
pub(crate) struct Width {
    /// The most runs now.
    limit: AtomicUsize,
    is_searching: AtomicBool,
    search: Mutex<Search>,
}

#[derive(Debug)]
struct Search {
    /// The most runs as far as is known; what is beyond the pool's bound is that bound.
    kept: usize,
    trial: Option<Trial>,
    /// When the next trial may begin.
    next: Duration,
    pause: Duration,
    /// Whether the next trial is of more runs.
    is_wider_next: bool,
}

/// Two numbers of runs looked at in turn.
#[derive(Debug)]
struct Trial {
    /// The number so far, and the other.
    limits: [usize; 2],
    looks: [[Look; ROUNDS]; 2],
    /// Which of both is looked at, and for which time.
    at: (usize, usize),
}

/// The calls that came and were answered within a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    since: Duration,
    n_calls: u32,
    /// The time until their answers.
    sum: Duration,
    /// How many of them were not alone.
    n_beside: u32,
}

impl Look {
    fn mean_s(&self) -> f64 {
        self.sum.as_secs_f64() / f64::from(self.n_calls.max(1))
    }
}

impl Width {
    pub(crate) fn new() -> Self {
        Self {
            limit: AtomicUsize::new(usize::MAX),
            is_searching: AtomicBool::new(false),
            search: Mutex::new(Search::new()),
        }
    }

    /// Returns how many runs there may be at a time, where the pool allows `most`.
    pub(crate) fn limit(&self, most: usize) -> usize {
        self.limit.load(Ordering::Relaxed).min(most)
    }

    /// Begins anew: something else was loaded, of which a run may take more than its own processor, or not. Where runs share one device, the first
    /// number is one, and more are tried.
    pub(crate) fn begin_anew(&self, run_time: RunTime) {
        let is_searching = run_time != RunTime::Short;
        self.is_searching.store(is_searching, Ordering::Relaxed);
        let search = match run_time {
            RunTime::Elsewhere => Search::from_one(),
            RunTime::Short | RunTime::Unknown | RunTime::Any => Search::new(),
        };
        self.limit.store(search.kept, Ordering::Relaxed);
        *self.search() = search;
    }

    /// Takes in that the calls of a run, which came at `came`, are answered now; others of the model run or wait if `has_others`. The
    /// pool allows `most` runs.
    pub(crate) fn record(&self, now: Duration, came: &[Duration], has_others: bool, most: usize) {
        if !self.is_searching.load(Ordering::Relaxed) {
            return;
        }
        let is_beside = has_others || came.len() > 1;
        let mut search = self.search();
        let limit = search.record(now, came, is_beside, most);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Has at most `limit` runs from now on, and tries nothing.
    #[cfg(test)]
    pub(crate) fn hold(&self, limit: usize) {
        self.is_searching.store(false, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn search(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Search {
    fn new() -> Self {
        Self {
            kept: usize::MAX,
            trial: None,
            next: Duration::ZERO,
            pause: PAUSE,
            is_wider_next: false,
        }
    }

    fn from_one() -> Self {
        Self {
            kept: 1,
            is_wider_next: true,
            ..Self::new()
        }
    }

    /// Returns how many runs there may be from now on.
    fn record(&mut self, now: Duration, came: &[Duration], is_beside: bool, most: usize) -> usize {
        if self.trial.is_none() && now >= self.next && is_beside {
            self.trial = self.begin(now, most);
        }
        let Some(trial) = &mut self.trial else {
            return self.kept;
        };
        let (which, round) = trial.at;
        let look = &mut trial.looks[which][round];
        for came in came.iter().filter(|came| **came >= look.since) {
            look.n_calls += 1;
            look.sum += now.saturating_sub(*came);
            look.n_beside += u32::from(is_beside);
        }
        let took = now.saturating_sub(look.since);
        if look.n_calls >= CALLS && took >= LOOK_MIN {
            self.look_on(now);
        } else if took > LOOK_MAX {
            self.give_up(now);
        }
        let trial = self.trial.as_ref();
        trial.map_or(self.kept, |trial| trial.limits[trial.at.0])
    }

    /// Begins a trial of half as many runs or of twice as many.
    fn begin(&mut self, now: Duration, most: usize) -> Option<Trial> {
        let kept = self.kept.min(most);
        let narrower = (kept > 1).then_some(kept / 2);
        let wider = (kept < most).then(|| kept.saturating_mul(2).min(most));
        let other = match self.is_wider_next {
            true => wider.or(narrower),
            false => narrower.or(wider),
        }?;
        self.is_wider_next = other > kept;
        let mut trial = Trial {
            limits: [kept, other],
            looks: [[Look::default(); ROUNDS]; 2],
            at: (0, 0),
        };
        trial.looks[0][0].since = now;
        Some(trial)
    }

    /// Goes on to the next look, or decides after the last one.
    fn look_on(&mut self, now: Duration) {
        let Some(trial) = &mut self.trial else {
            return;
        };
        let (which, round) = trial.at;
        let look = trial.looks[which][round];
        // Who is alone is answered as soon with any number.
        if which == 0 && look.n_beside * 2 < look.n_calls {
            self.give_up(now);
            return;
        }
        trial.at = match which {
            0 => (1, round),
            _ => (0, round + 1),
        };
        let (which, round) = trial.at;
        if round < ROUNDS {
            trial.looks[which][round].since = now;
            return;
        }
        let [kept, other] = &trial.looks;
        let share = |(kept, other): (&Look, &Look)| other.mean_s() / kept.mean_s();
        let shares = [0, 1].map(|round| share((&kept[round], &other[round])));
        let is_sooner =
            shares.iter().all(|share| *share < 1.0) && shares.iter().sum::<f64>() <= BETTER * 2.0;
        if is_sooner {
            self.kept = trial.limits[1];
            self.pause = PAUSE;
            self.next = now;
            self.trial = None;
        } else {
            self.lose(now);
        }
    }

    /// Keeps the number so far; the next trial is of the other direction, and comes later each time.
    fn lose(&mut self, now: Duration) {
        self.trial = None;
        self.next = now.saturating_add(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.is_wider_next = !self.is_wider_next;
    }

    /// Ends a trial that tells nothing: too little is to be done. If that was with the other number, it may be why.
    fn give_up(&mut self, now: Duration) {
        if self.trial.as_ref().is_some_and(|trial| trial.at.0 == 1) {
            self.lose(now);
        } else {
            self.trial = None;
            self.next = now.saturating_add(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 16;

    /// A pool of [`MOST`] threads whose callers each ask again as soon as they are answered: how long a run of so many calls takes
    /// beside so many others, in microseconds.
    struct World<'w> {
        width: Width,
        now: Duration,
        waiting: Vec<Duration>,
        /// When each run is over, and when its calls came.
        running: Vec<(Duration, Vec<Duration>)>,
        takes_us: &'w dyn Fn(usize, usize) -> f64,
        /// The most calls that run together.
        batch_max: usize,
        n_answered: usize,
        noise: u64,
    }

    impl<'w> World<'w> {
        fn new(
            n_callers: usize,
            batch_max: usize,
            takes_us: &'w dyn Fn(usize, usize) -> f64,
        ) -> Self {
            let width = Width::new();
            width.begin_anew(RunTime::Unknown);
            Self {
                width,
                now: Duration::ZERO,
                waiting: vec![Duration::ZERO; n_callers],
                running: Vec::new(),
                takes_us,
                batch_max,
                n_answered: 0,
                noise: 1,
            }
        }

        /// Between 0.8 and 1.2.
        fn noise(&mut self) -> f64 {
            self.noise = self
                .noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            0.8 + (self.noise >> 40) as f64 / f64::from(1 << 24) * 0.4
        }

        fn begin(&mut self) {
            while !self.waiting.is_empty() && self.running.len() < self.width.limit(MOST) {
                let is_last = self.running.len() + 1 >= self.width.limit(MOST);
                // While threads are free each call has its own.
                let n = if is_last {
                    self.batch_max.min(self.waiting.len())
                } else {
                    1
                };
                let calls: Vec<Duration> = self.waiting.drain(..n).collect();
                let us = (self.takes_us)(calls.len(), self.running.len() + 1) * self.noise();
                let until = self.now + Duration::from_secs_f64(us / 1e6);
                self.running.push((until, calls));
            }
        }

        /// Runs for so long; returns how many calls were answered in a second.
        fn run(&mut self, time: Duration) -> f64 {
            let (end, n_before) = (self.now + time, self.n_answered);
            while self.now < end {
                self.begin();
                let first = (0..self.running.len())
                    .min_by_key(|index| self.running[*index].0)
                    .unwrap();
                let (until, calls) = self.running.swap_remove(first);
                self.now = until;
                self.n_answered += calls.len();
                let has_others = !self.running.is_empty() || !self.waiting.is_empty();
                self.waiting.extend(calls.iter().map(|_| until));
                self.width.record(until, &calls, has_others, MOST);
            }
            (self.n_answered - n_before) as f64 / time.as_secs_f64()
        }
    }

    #[test]
    fn runs_that_wait_for_the_same_memory_become_few() {
        // One run of 1 ms at a time, whoever else runs; a further row costs little.
        let shared =
            |n_calls: usize, n_runs: usize| 1_000.0 * n_runs as f64 * (0.9 + 0.1 * n_calls as f64);
        let mut world = World::new(16, 64, &shared);
        let at_first = world.run(Duration::from_millis(50));
        world.run(Duration::from_secs(20));
        assert!(world.width.search().kept <= 2, "{:?}", world.width);
        let then = world.run(Duration::from_secs(30));
        assert!(then > 4.0 * at_first, "{at_first} {then}");
    }

    #[test]
    fn runs_on_a_device_begin_with_one_and_become_more_where_that_is_sooner() {
        // The device computes one run at a time; or several, each as fast.
        let one_by_one =
            |n_calls: usize, n_runs: usize| 300.0 * n_runs as f64 * (0.95 + 0.05 * n_calls as f64);
        let apart = |n_calls: usize, _n_runs: usize| 300.0 * n_calls as f64;
        for (takes, is_wide) in [
            (&one_by_one as &dyn Fn(usize, usize) -> f64, false),
            (&apart, true),
        ] {
            let mut world = World::new(16, 64, takes);
            world.width.begin_anew(RunTime::Elsewhere);
            assert_eq!(world.width.limit(MOST), 1);
            world.run(Duration::from_secs(30));
            let kept = world.width.search().kept;
            assert_eq!(kept > 2, is_wide, "{kept}");
        }
        let world = World::new(1, 64, &apart);
        world.width.begin_anew(RunTime::Elsewhere);
        world.width.begin_anew(RunTime::Unknown);
        assert_eq!(world.width.limit(MOST), MOST);
    }

    #[test]
    fn runs_that_have_a_processor_each_stay_many() {
        for batch_max in [1, 64] {
            let alone = |n_calls: usize, _n_runs: usize| 1_000.0 * n_calls as f64;
            let mut world = World::new(16, batch_max, &alone);
            let at_first = world.run(Duration::from_millis(50));
            let then = world.run(Duration::from_secs(60));
            assert_eq!(world.width.limit(MOST), MOST);
            assert!(then > 0.97 * at_first, "{at_first} {then}");
        }
    }

    #[test]
    fn who_is_alone_is_left_alone() {
        let alone = |_n_calls: usize, _n_runs: usize| 1_000.0;
        let mut world = World::new(1, 64, &alone);
        world.run(Duration::from_secs(60));
        assert_eq!(world.width.limit(MOST), MOST);
        assert!(world.width.search().trial.is_none());
    }

    #[test]
    fn what_changes_is_found_again_and_another_model_begins_anew() {
        use std::cell::Cell;
        let is_shared = Cell::new(true);
        let takes = |n_calls: usize, n_runs: usize| match is_shared.get() {
            true => 1_000.0 * n_runs as f64 * (0.9 + 0.1 * n_calls as f64),
            false => 1_000.0 * n_calls as f64,
        };
        let mut world = World::new(16, 64, &takes);
        world.run(Duration::from_secs(60));
        assert!(world.width.search().kept <= 2);
        is_shared.set(false);
        world.run(Duration::from_secs(100));
        assert_eq!(world.width.search().kept.min(MOST), MOST);
        is_shared.set(true);
        world.run(Duration::from_secs(100));
        assert!(world.width.search().kept <= 2);
        world.width.begin_anew(RunTime::Any);
        assert_eq!(world.width.limit(MOST), MOST);
        assert_eq!(world.width.limit(1), 1);
    }

    #[test]
    fn long_runs_that_have_a_processor_each_are_seldom_fewer() {
        for (n_callers, us) in [(16, 1.5e6), (16, 1.8e6), (16, 2e6), (32, 1e6)] {
            let alone = |_n_calls: usize, _n_runs: usize| us;
            let mut world = World::new(n_callers, 1, &alone);
            let then = world.run(Duration::from_hours(1));
            assert!(then > 0.94 * 16.0 / (us / 1e6), "{n_callers} {us}: {then}");
        }
    }

    #[test]
    fn a_look_that_lasts_too_long_is_given_up() {
        let slow = |_n_calls: usize, n_runs: usize| 3e6 * n_runs as f64;
        let mut world = World::new(4, 1, &slow);
        world.run(Duration::from_secs(100));
        assert_eq!(world.width.limit(MOST), MOST);
    }
}
