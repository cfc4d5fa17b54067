//! The services of the plan of which nothing is there yet, as after a restart: their requests wait for them instead of being told that there is no such
//! model. Each waits for its own service, whatever becomes of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Follower;
use crate::experiment::PlannedExperiment;
use crate::plan::{PlannedRoute, RevisionId, RevisionState, ServiceId};
use crate::{Coming, ComingKind};

/// How long the requests of a service wait for it, from when it is first to be there.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long they go on waiting once nothing more of it is being loaded, and something could not be: another plan says then what answers instead.
const FAILED_WAIT_MAX: Duration = Duration::from_secs(2);

impl Follower {
    /// Notes which services are still to come; tells whether they are others than before.
    pub(super) fn note_coming(&mut self) -> bool {
        let routes = self.plan.routes.iter();
        let routes = routes.map(|(id, route)| (id, revisions_of(route)));
        let flows = self.plan.flows.iter();
        let flows = flows.map(|(id, flow)| (id, flow.revisions()));
        let mut coming: BTreeMap<ServiceId, Coming> = BTreeMap::new();
        for (id, revisions) in routes.chain(flows) {
            // What serves goes on until its successor is there.
            if self.routes.contains_key(id) || self.flows.contains_key(id) {
                continue;
            }
            let new = self.coming_of(id, &revisions);
            coming.insert(id.clone(), new);
        }
        let is_other = self.coming.as_ref() != Some(&coming);
        self.coming = Some(coming);
        is_other
    }

    fn coming_of(&self, id: &ServiceId, revisions: &[&str]) -> Coming {
        let now = self.config.clock.monotonic();
        let before = self.coming.as_ref().and_then(|coming| coming.get(id));
        let until = before.map_or(now.saturating_add(WAIT_MAX), |before| before.until);
        let states = revisions.iter().filter_map(|name| {
            let (namespace, name) = (id.namespace.clone(), (*name).to_owned());
            let slot = self.slots.get(&RevisionId { namespace, name })?;
            Some(&slot.state)
        });
        let is_loading = |state| matches!(state, &RevisionState::Loading { .. });
        let mut failures = states.clone().filter_map(|state| match state {
            RevisionState::Failed { failure, .. } => Some(failure.message.clone()),
            _ => None,
        });
        let failure = failures.next();
        // What is still being loaded may answer for the others.
        let is_over = failure.is_some() && !states.clone().any(is_loading);
        Coming {
            kind: self.kind_of(id, revisions),
            until: match is_over {
                true => until.min(now.saturating_add(FAILED_WAIT_MAX)),
                false => until,
            },
            failure,
        }
    }

    fn kind_of(&self, id: &ServiceId, revisions: &[&str]) -> ComingKind {
        if !self.plan.routes.contains_key(id) {
            return ComingKind::Graph;
        }
        let mut planned = revisions.iter().filter_map(|name| {
            let (namespace, name) = (id.namespace.clone(), (*name).to_owned());
            self.plan.revisions.get(&RevisionId { namespace, name })
        });
        match planned.any(|revision| revision.source.process.is_some()) {
            true => ComingKind::Programs,
            false => ComingKind::Models,
        }
    }
}

/// Returns the revisions that a route waits for.
fn revisions_of(route: &PlannedRoute) -> Vec<&str> {
    let taking = route.targets.iter().filter(|target| target.percent > 0);
    let taking = taking.map(|target| target.revision.as_str());
    let experiments = route.experiments.iter();
    let compared = experiments.flat_map(PlannedExperiment::revisions);
    taking.chain(compared).collect()
}
