//! Which models go to make room. Pure.

use std::time::Duration;

use super::holdings::{Holdings, Together};

/// How long a model that has calls in flight stays at least: those who waited for it are answered before it may go.
pub(super) const RESIDENCE_MIN: Duration = Duration::from_millis(50);

/// A model that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate<'h> {
    pub(super) id: u64,
    pub(super) holdings: &'h Holdings,
    /// Whether calls run on it or wait for it.
    pub(super) is_busy: bool,
    /// When it was loaded.
    pub(super) since: Duration,
    /// When a call began or ended last.
    pub(super) used_at: Duration,
}

/// Returns the models to let go of so that `missing` bytes become free: idle ones first, then busy ones, each the one that was
/// used longest ago first. Nothing if all together do not suffice: something will have to end first.
///
/// What several models hold becomes free with the last of them; `together` is what all of them hold that do not go already. Where any
/// of those that were chosen shares memory, they stay without which the rest suffices.
pub(super) fn choose(
    candidates: &mut [Candidate<'_>],
    together: &Together,
    missing: u64,
    now: Duration,
) -> Vec<u64> {
    candidates.sort_by_key(|one| (one.is_busy, one.used_at, one.id));
    let may_go =
        |one: &&Candidate<'_>| !one.is_busy || now.saturating_sub(one.since) >= RESIDENCE_MIN;
    let mut left = together.clone();
    let mut free = 0_u64;
    let mut chosen: Vec<Candidate<'_>> = Vec::new();
    for one in candidates.iter().filter(may_go) {
        if free >= missing {
            break;
        }
        free = free.saturating_add(left.release(one.holdings));
        chosen.push(*one);
    }
    if free < missing {
        return Vec::new();
    }
    let would_free = |going: &[Candidate<'_>], but: usize| {
        let mut left = together.clone();
        let others = going.iter().enumerate().filter(|(index, _)| *index != but);
        others.fold(0_u64, |free, (_, one)| {
            free.saturating_add(left.release(one.holdings))
        })
    };
    if chosen.iter().any(|one| !one.holdings.shared.is_empty()) {
        for index in (0..chosen.len()).rev() {
            if would_free(&chosen, index) >= missing {
                chosen.remove(index);
            }
        }
    }
    chosen.iter().map(|one| one.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(bytes: u64) -> Holdings {
        Holdings {
            own: bytes,
            shared: Vec::new(),
        }
    }

    fn candidate(id: u64, holdings: &Holdings, used_at: u64) -> Candidate<'_> {
        Candidate {
            id,
            holdings,
            is_busy: false,
            since: Duration::ZERO,
            used_at: Duration::from_secs(used_at),
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let now = Duration::from_secs(100);
        let ten = own(10);
        let all = [
            candidate(1, &ten, 30),
            candidate(2, &ten, 10),
            candidate(3, &ten, 20),
        ];
        let goes = |missing| choose(&mut all.clone(), &Together::default(), missing, now);
        assert_eq!(goes(0), [0_u64; 0]);
        assert_eq!(goes(1), [2]);
        assert_eq!(goes(10), [2]);
        assert_eq!(goes(11), [2, 3]);
        assert_eq!(goes(30), [2, 3, 1]);
        // All of them are not enough: nobody goes in vain.
        assert_eq!(goes(31), [0_u64; 0]);
    }

    #[test]
    fn busy_ones_go_last_and_not_before_they_have_answered() {
        let ten = own(10);
        let busy = |id, since: Duration| Candidate {
            is_busy: true,
            since,
            ..candidate(id, &ten, 1)
        };
        let at = Duration::from_secs(50);
        let all = [busy(1, at), busy(2, Duration::ZERO), candidate(3, &ten, 40)];
        let goes = |missing, now| choose(&mut all.clone(), &Together::default(), missing, now);
        assert_eq!(goes(10, at), [3]);
        assert_eq!(goes(20, at), [3, 2]);
        assert_eq!(goes(30, at), [0_u64; 0]);
        assert_eq!(goes(30, at + RESIDENCE_MIN), [3, 1, 2]);
    }

    #[test]
    fn what_others_hold_on_to_does_not_go_in_vain() {
        let now = Duration::from_secs(100);
        let revision = Holdings {
            own: 1,
            shared: vec![(7, 100)],
        };
        let fifty = own(50);
        let mut together = Together::default();
        for holdings in [&revision, &revision, &fifty] {
            together.hold(holdings);
        }
        // The first to go would be a revision whose weights stay for the other one.
        let all = [
            candidate(1, &revision, 10),
            candidate(2, &fifty, 20),
            candidate(3, &revision, 30),
        ];
        let goes = |missing| choose(&mut all.clone(), &together, missing, now);
        assert_eq!(goes(1), [1]);
        assert_eq!(goes(40), [2]);
        assert_eq!(goes(51), [1, 2]);
        assert_eq!(goes(60), [1, 3]);
        assert_eq!(goes(152), [1, 2, 3]);
        assert_eq!(goes(153), [0_u64; 0]);
    }
}
