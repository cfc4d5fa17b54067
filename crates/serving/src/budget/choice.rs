//! Which models go to make room. Pure.

use std::time::Duration;

/// How long a model that has calls in flight stays at least: those who waited for it are answered before it may go.
pub(super) const RESIDENCE_MIN: Duration = Duration::from_millis(50);

/// A model that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: u64,
    pub(super) bytes: u64,
    /// Whether calls run on it or wait for it.
    pub(super) is_busy: bool,
    /// When it was loaded.
    pub(super) since: Duration,
    /// When a call began or ended last.
    pub(super) used_at: Duration,
}

/// Returns the models to let go of so that `missing` bytes become free: idle ones first, then busy ones, each the one that was
/// used longest ago first. Nothing if all together do not suffice: something will have to end first.
pub(super) fn choose(candidates: &mut [Candidate], missing: u64, now: Duration) -> Vec<u64> {
    candidates.sort_by_key(|one| (one.is_busy, one.used_at, one.id));
    let may_go = |one: &&Candidate| !one.is_busy || now.saturating_sub(one.since) >= RESIDENCE_MIN;
    let mut free = 0_u64;
    let mut chosen = Vec::new();
    for one in candidates.iter().filter(may_go) {
        if free >= missing {
            break;
        }
        free = free.saturating_add(one.bytes);
        chosen.push(one.id);
    }
    if free < missing {
        chosen.clear();
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: u64, bytes: u64, used_at: u64) -> Candidate {
        Candidate {
            id,
            bytes,
            is_busy: false,
            since: Duration::ZERO,
            used_at: Duration::from_secs(used_at),
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let now = Duration::from_secs(100);
        let all = [
            candidate(1, 10, 30),
            candidate(2, 10, 10),
            candidate(3, 10, 20),
        ];
        let goes = |missing| choose(&mut all.clone(), missing, now);
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
        let busy = |id, since: Duration| Candidate {
            is_busy: true,
            since,
            ..candidate(id, 10, 1)
        };
        let at = Duration::from_secs(50);
        let all = [busy(1, at), busy(2, Duration::ZERO), candidate(3, 10, 40)];
        let goes = |missing, now| choose(&mut all.clone(), missing, now);
        assert_eq!(goes(10, at), [3]);
        assert_eq!(goes(20, at), [3, 2]);
        assert_eq!(goes(30, at), [0_u64; 0]);
        assert_eq!(goes(30, at + RESIDENCE_MIN), [3, 1, 2]);
    }
}
