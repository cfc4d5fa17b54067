//! The revision of a service that stands in for another one of it: which one that is now, and whether it can.

use super::View;
use crate::controller::conditions::Verdict;
use crate::controller::fallbacks::{self, PREVIOUS_REVISION, REVISION, STABLE_REVISION};
use crate::controller::templates::Canaries;
use crate::controller::traffic::Rollout;

/// What an annotation names comes to.
pub(super) struct StandIn {
    /// The revision, if it is there; it is to be kept ready.
    pub(super) revision: Option<String>,
    /// Whether it stands in.
    pub(super) verdict: Verdict,
}

impl StandIn {
    /// Returns the revision if it can take requests.
    pub(super) fn ready(&self) -> Option<String> {
        let is_ready = matches!(self.verdict, Verdict::True);
        self.revision.clone().filter(|_| is_ready)
    }
}

impl View<'_> {
    /// Returns the revision that stands in where another one fails, if one is to.
    pub(super) fn stand_in(&self, rollout: &Rollout) -> Option<StandIn> {
        let named = fallbacks::in_force(self.service)?.revision?;
        let by_revisions = matches!(self.templates.canaries, Canaries::Revisions(_));
        let (revision, missing) = match named.as_str() {
            STABLE_REVISION if by_revisions => (
                rollout.rolled_out.clone(),
                "no revision has had all requests yet".to_owned(),
            ),
            STABLE_REVISION => (
                rollout.latest_ready.clone(),
                "no revision is ready yet".to_owned(),
            ),
            PREVIOUS_REVISION => (
                rollout.previous.clone(),
                "no other revision had all requests before the one that has them".to_owned(),
            ),
            name => (
                Some(name.to_owned()).filter(|name| self.exists(name)),
                format!("the service has no revision {name}, or no longer"),
            ),
        };
        let verdict = match &revision {
            None => Verdict::no(
                "NoRevision",
                format!(
                    "annotation {REVISION}: {missing}; nothing stands in by it until there is one"
                ),
            ),
            Some(name) if self.is_ready(name) => Verdict::True,
            Some(name) => Verdict::no(
                "RevisionNotReady",
                format!(
                    "annotation {REVISION}: revision {name} is not ready; nothing stands in by it until it is"
                ),
            ),
        };
        Some(StandIn { revision, verdict })
    }
}
