//! The revision of a service that stands in for another one of it: which one that is now, and whether it can.

use coracle_serving::{FallbackSettings, PlannedRoute};

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
            Some(name) => not_ready(name),
        };
        Some(StandIn { revision, verdict })
    }

    /// Holds the route of a service that is refused to a revision that can take requests, if one stands in by it: nobody waits for one that cannot. Returns it with what that comes to,
    /// if one is to stand in.
    ///
    /// The route stays as it was, and so does whoever stands in, until that revision is not ready any more; from then on the one that the annotation names does, as soon as it is
    /// ready and in the route.
    pub(super) fn hold_stand_in(&self, mut route: PlannedRoute) -> (PlannedRoute, Option<Verdict>) {
        let before = route.fallback.clone();
        let before = before.and_then(|settings| settings.revision);
        if before.as_ref().is_some_and(|name| self.is_ready(name)) {
            return (route, Some(Verdict::True));
        }
        let named = self.stand_in(&self.wanted().1);
        let is_target = |name: &String| {
            let mut targets = route.targets.iter();
            targets.any(|target| target.revision == *name)
        };
        let ready = named.as_ref().and_then(StandIn::ready).filter(is_target);
        let verdict = match (&ready, before, named) {
            (Some(_), ..) => Some(Verdict::True),
            (None, Some(before), _) => Some(not_ready(&before)),
            (None, None, Some(named)) => named.revision.map(|name| not_ready(&name)),
            (None, None, None) => None,
        };
        let in_force = fallbacks::in_force(self.service).unwrap_or_default();
        let settings = route.fallback.take().unwrap_or_else(|| in_force.clone());
        let timeout = settings.timeout.or(in_force.timeout);
        let settings = FallbackSettings {
            revision: ready,
            ..settings
        };
        let settings = FallbackSettings {
            timeout: timeout.filter(|_| settings.stands_in()),
            ..settings
        };
        route.fallback = Some(settings).filter(|one| *one != FallbackSettings::default());
        (route, verdict)
    }
}

fn not_ready(revision: &str) -> Verdict {
    Verdict::no(
        "RevisionNotReady",
        format!(
            "annotation {REVISION}: revision {revision} is not ready; nothing stands in by it until it is"
        ),
    )
}
