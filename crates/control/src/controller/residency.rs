//! Models that the serving process lets go of to make room for others, and loads again: told in events, not in statuses.
//!
//! The service stays ready, and its replicas are what they were: the next request loads the model. An event is a write, so of one
//! service they are told now and then only.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_serving::{RevisionId, RevisionState};

/// The least time between two events of one revision.
const PAUSE: Duration = Duration::from_secs(60);

/// What has been told.
#[derive(Debug, Default)]
pub(crate) struct Residency {
    told: BTreeMap<RevisionId, Duration>,
}

/// Tells whether the model of a revision is in memory; `None` if it is not to be, or not yet.
fn is_resident(state: Option<&RevisionState>) -> Option<bool> {
    match state? {
        RevisionState::Ready {
            memory_bytes,
            replicas: 1..,
        } => Some(*memory_bytes > 0),
        _ => None,
    }
}

/// Tells whether two states differ in nothing but whether the model is in memory.
pub(crate) fn differ_in_residency_only(before: &RevisionState, now: &RevisionState) -> bool {
    match (before, now) {
        (RevisionState::Ready { replicas: a, .. }, RevisionState::Ready { replicas: b, .. }) => {
            a == b
        }
        _ => false,
    }
}

impl Residency {
    /// Returns the revisions whose models came or went, with the reason and message of an event.
    pub(crate) fn changes(
        &mut self,
        before: &BTreeMap<RevisionId, RevisionState>,
        now: &BTreeMap<RevisionId, RevisionState>,
        at: Duration,
    ) -> Vec<(RevisionId, &'static str, String)> {
        self.told.retain(|id, _| now.contains_key(id));
        let mut changes = Vec::new();
        for (id, state) in now {
            let is_now = is_resident(Some(state));
            let (reason, what) = match (is_resident(before.get(id)), is_now) {
                (Some(true), Some(false)) => (
                    "Evicted",
                    "let go of the model to make room for others; the next request loads it",
                ),
                (Some(false), Some(true)) => ("Loaded", "loaded the model again"),
                _ => continue,
            };
            let last = self.told.get(id);
            if last.is_some_and(|last| at.saturating_sub(*last) < PAUSE) {
                continue;
            }
            self.told.insert(id.clone(), at);
            changes.push((id.clone(), reason, format!("Revision {}: {what}", id.name)));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_for_want_of_memory_is_told_now_and_then() {
        let id = RevisionId {
            namespace: "n".to_owned(),
            name: "r".to_owned(),
        };
        let state = |memory_bytes, replicas| {
            let state = RevisionState::Ready {
                memory_bytes,
                replicas,
            };
            BTreeMap::from([(id.clone(), state)])
        };
        let mut residency = Residency::default();
        let mut reasons = |before: &_, now: &_, second| {
            let changes = residency.changes(before, now, Duration::from_secs(second));
            changes
                .into_iter()
                .map(|(_, reason, _)| reason)
                .collect::<Vec<_>>()
        };
        let (there, gone, asleep) = (state(7, 1), state(0, 1), state(0, 0));
        assert_eq!(reasons(&BTreeMap::new(), &there, 0), [""; 0]);
        assert_eq!(reasons(&there, &gone, 0), ["Evicted"]);
        assert_eq!(reasons(&gone, &there, 59), [""; 0]);
        assert_eq!(reasons(&gone, &there, 60), ["Loaded"]);
        // Scaling to zero is told elsewhere.
        assert_eq!(reasons(&there, &asleep, 600), [""; 0]);
        assert_eq!(reasons(&asleep, &there, 600), [""; 0]);
        let pairs = [(&there, &gone, true), (&there, &asleep, false)];
        for (before, now, expected) in pairs {
            assert_eq!(differ_in_residency_only(&before[&id], &now[&id]), expected);
        }
    }
}
