//! What revisions have done since they are watched: what a rollout compares.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_policy::rollout::Counts;
use coracle_serving::{LatencyCounts, LoadReport, RevisionId, RevisionLoad, latency_bounds};

/// What a revision has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    finished: u64,
    failed: u64,
    latency: LatencyCounts,
    /// What it has in work, by how long it is. What hangs is slow before it ends.
    in_work: LatencyCounts,
    /// Which trial it was in when that was told last, if that is known.
    trial: Option<u64>,
}

impl Totals {
    fn add(&mut self, load: &RevisionLoad) {
        self.join(&Self {
            finished: load.n_finished.saturating_sub(load.n_unjudged),
            failed: load.n_failed,
            latency: load.latency,
            in_work: load.in_work,
            trial: load.trial,
        });
    }

    fn join(&mut self, other: &Self) {
        self.finished = self.finished.saturating_add(other.finished);
        self.failed = self.failed.saturating_add(other.failed);
        for (sum, count) in self.latency.iter_mut().zip(other.latency) {
            *sum = sum.saturating_add(count);
        }
        // What is in work is no sum: what was told last counts.
        (self.in_work, self.trial) = (other.in_work, other.trial);
    }

    /// Tells whether what was told last may be of this trial: the serving process hears of one a little after it has begun.
    pub(crate) fn are_of(&self, trial: u64) -> bool {
        self.trial.is_none_or(|told| told == trial)
    }

    /// Returns how many requests it has had.
    pub(crate) fn requests(&self) -> u64 {
        self.finished
    }

    /// Returns what it has done since `before`; slow is what took longer than `slow`, a bound, or whose caller gave up. What is in work for longer than
    /// that counts as a slow request from then on, and not once more when it ends.
    pub(crate) fn since(&self, before: &Self, slow: Option<Duration>) -> Counts {
        let n_ended = self.finished.saturating_sub(before.finished);
        let counts = self.latency.iter().zip(before.latency);
        let counts: Vec<u64> = counts
            .map(|(now, before)| now.saturating_sub(before))
            .collect();
        let n_answered: u64 = counts.iter().sum();
        let n_given_up = n_ended.saturating_sub(n_answered);
        let Some(slow) = slow else {
            return Counts {
                requests: n_ended,
                errors: self.failed.saturating_sub(before.failed),
                slow: 0,
            };
        };
        let bounds = latency_bounds();
        let first_slow = bounds.iter().filter(|bound| **bound <= slow).count();
        let n_slow = counts.iter().skip(first_slow).sum::<u64>() + n_given_up;
        let late = |totals: &Self| totals.in_work.iter().skip(first_slow).sum::<u64>();
        let late_before = match self.trial == before.trial {
            true => late(before),
            // What another trial had in work is none of this one's, then and when it ends.
            false => 0,
        };
        let late = late(self);
        let with_late = |n: u64| n.saturating_add(late).saturating_sub(late_before);
        Counts {
            requests: with_late(n_ended),
            errors: self.failed.saturating_sub(before.failed),
            slow: with_late(n_slow),
        }
    }

    /// Returns the bound that so many of 100 requests took at most; the last one for what is beyond it, `None` without requests.
    pub(crate) fn percentile(&self, percent: u64) -> Option<Duration> {
        let n_ended: u64 = self.latency.iter().sum();
        let rank = n_ended.saturating_mul(percent).div_ceil(100);
        let mut n_seen = 0;
        let bucket = self.latency.iter().position(|count| {
            n_seen += count;
            n_seen >= rank
        })?;
        let bounds = latency_bounds();
        let [.., last] = bounds;
        (n_ended > 0).then(|| bounds.get(bucket).copied().unwrap_or(last))
    }
}

/// What the revisions have done that rollouts are about; others are not counted.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    revisions: BTreeMap<RevisionId, Totals>,
    /// What was told of a window that is not over.
    early: BTreeMap<RevisionId, Totals>,
}

impl Watched {
    /// Counts what these do from now on, or goes on doing so, and forgets others.
    pub(crate) fn watch(&mut self, revisions: &BTreeSet<RevisionId>) {
        self.revisions.retain(|id, _| revisions.contains(id));
        for id in revisions {
            if !self.revisions.contains_key(id) {
                self.revisions.insert(id.clone(), Totals::default());
            }
        }
    }

    /// Takes in a report of a window that is over; tells whether it is about any of them.
    pub(crate) fn take(&mut self, report: &LoadReport) -> bool {
        self.early.clear();
        // One that is not named does nothing.
        for totals in self.revisions.values_mut() {
            totals.in_work = LatencyCounts::default();
        }
        let mut is_watched = false;
        for (id, load) in &report.revisions {
            if let Some(totals) = self.revisions.get_mut(id) {
                totals.add(load);
                is_watched = true;
            }
        }
        is_watched
    }

    /// Takes in a report of a window that is not over, in place of an earlier one; tells whether it is about any of them.
    pub(crate) fn take_early(&mut self, report: &LoadReport) -> bool {
        self.early.clear();
        for (id, load) in &report.revisions {
            if self.revisions.contains_key(id) {
                self.early.entry(id.clone()).or_default().add(load);
            }
        }
        !self.early.is_empty()
    }

    /// Returns what a revision has done.
    pub(crate) fn of(&self, id: &RevisionId) -> Totals {
        let mut totals = self.revisions.get(id).copied().unwrap_or_default();
        if let Some(early) = self.early.get(id) {
            totals.join(early);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(n_finished: u64, n_failed: u64, latency: &[(usize, u64)]) -> RevisionLoad {
        let mut load = RevisionLoad {
            n_finished,
            n_failed,
            ..RevisionLoad::default()
        };
        for (bucket, count) in latency {
            load.latency[*bucket] = *count;
        }
        load
    }

    #[test]
    fn slow_is_what_is_beyond_the_bound_or_was_given_up() {
        let mut totals = Totals::default();
        let before = totals;
        // Bucket 9 ends at 1 ms, 10 at 2.5 ms, 22 has no end.
        totals.add(&RevisionLoad {
            n_finished: 154,
            // Another service's requests: whatever became of them.
            n_unjudged: 50,
            ..load(0, 3, &[(9, 90), (10, 8), (22, 2)])
        });
        let slow = |ms| totals.since(&before, Some(Duration::from_millis(ms))).slow;
        assert_eq!((slow(1), slow(3), slow(10_000)), (8 + 2 + 4, 2 + 4, 2 + 4));
        let counts = totals.since(&before, None);
        assert_eq!((counts.requests, counts.errors, counts.slow), (104, 3, 0));
        let percentile = |percent| totals.percentile(percent).unwrap();
        assert_eq!(percentile(90), Duration::from_millis(1));
        assert_eq!(percentile(98), Duration::from_micros(2_500));
        assert_eq!(percentile(99), Duration::from_secs(10));
        assert_eq!(before.percentile(50), None);
    }

    /// What hangs counts as slow once it is beyond the bound, and once: whether it ends, or its caller gives up.
    #[test]
    fn what_hangs_is_slow_before_it_ends_and_counts_once() {
        let mut watched = Watched::default();
        watched.watch(&[id("a")].into());
        let mut before = Totals::default();
        let mut told = |load: RevisionLoad| {
            watched.take(&LoadReport {
                window: Duration::from_secs(1),
                revisions: vec![(id("a"), load)],
            });
            let totals = watched.of(&id("a"));
            let counts = totals.since(&before, Some(Duration::from_millis(250)));
            before = totals;
            (counts.requests, counts.errors, counts.slow)
        };
        let mut hanging = load(5, 0, &[(9, 5)]);
        // Bucket 16 ends at 250 ms, 19 at 2.5 s, 22 has no end.
        (hanging.in_work[12], hanging.in_work[17]) = (3, 4);
        assert_eq!(told(hanging), (9, 0, 4));
        hanging = load(0, 0, &[]);
        hanging.in_work[19] = 7;
        assert_eq!(told(hanging), (3, 0, 3));
        // Two fail late, one is given up, one is answered just before the bound beside them.
        hanging = load(4, 2, &[(22, 2), (16, 1)]);
        hanging.in_work[20] = 4;
        assert_eq!(told(hanging), (1, 2, 0));
        assert_eq!(told(load(4, 0, &[(22, 4)])), (0, 0, 0));
        assert_eq!(told(load(1, 0, &[(9, 1)])), (1, 0, 0));
        // A bound that nothing is beyond.
        let mut all = Totals::default();
        all.add(&hanging);
        assert_eq!(all.since(&Totals::default(), None).requests, 4);
    }

    fn id(name: &str) -> RevisionId {
        RevisionId {
            namespace: "ml".to_owned(),
            name: name.to_owned(),
        }
    }

    /// What is told of a window before it ends counts at once, and once.
    #[test]
    fn what_is_told_early_counts_once() {
        let report = |n, n_failed| LoadReport {
            window: Duration::from_secs(1),
            revisions: vec![
                (id("a"), load(n, n_failed, &[(3, n)])),
                (id("b"), load(1, 1, &[])),
            ],
        };
        let mut watched = Watched::default();
        assert!(!watched.take_early(&report(1, 1)));
        watched.watch(&[id("a")].into());
        let of = |watched: &Watched| watched.of(&id("a")).since(&Totals::default(), None);
        let counts = |requests, errors| Counts {
            requests,
            errors,
            slow: 0,
        };
        assert!(watched.take(&report(10, 0)));
        assert!(watched.take_early(&report(2, 1)));
        assert_eq!(of(&watched), counts(12, 1));
        assert!(watched.take_early(&report(5, 3)));
        assert_eq!(of(&watched), counts(15, 3));
        assert!(watched.take(&report(7, 4)));
        assert_eq!(of(&watched), counts(17, 4));
        assert_eq!(watched.of(&id("b")), Totals::default());
    }

    #[test]
    fn only_what_is_watched_is_counted() {
        let mut watched = Watched::default();
        let report = |n| LoadReport {
            window: Duration::from_secs(1),
            revisions: vec![(id("a"), load(n, 0, &[])), (id("b"), load(n, 0, &[]))],
        };
        let _ = watched.take(&report(1));
        watched.watch(&[id("a")].into());
        let _ = watched.take(&report(2));
        watched.watch(&[id("a"), id("b")].into());
        let _ = watched.take(&report(3));
        assert_eq!(watched.of(&id("a")).requests(), 5);
        assert_eq!(watched.of(&id("b")).requests(), 3);
    }
}
