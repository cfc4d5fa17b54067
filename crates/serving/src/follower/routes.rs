//! The routes that a follower switches to, once all that they need is there.

use std::sync::Arc;

use super::Follower;
use crate::experiment::PlannedExperiment;
use crate::fallback::FallbackMemory;
use crate::plan::{PlannedRoute, RevisionId, ServiceId};
use crate::route::{Draw, Route, RouteTarget};
use crate::{ServedModel, ShadowTap};

impl Follower {
    /// Returns the route of a service as it is planned; `None` as long as something that it needs is not there.
    pub(super) fn build_route(&self, id: &ServiceId, planned: &PlannedRoute) -> Option<Route> {
        if planned.targets.is_empty() {
            let (name, why) = match (&planned.absence, &planned.fallback) {
                (Some(absence), _) => (&absence.model, absence.why.as_str()),
                (None, Some(_)) => (&id.name, "no revision of the service is up yet"),
                (None, None) => return None,
            };
            let absent = ServedModel::absent(name.clone(), self.config.n_workers, why);
            absent.set_fallback(planned.fallback.as_ref());
            return Some(Route::single(Arc::new(absent)));
        }
        let mut targets = Vec::new();
        for target in &planned.targets {
            let revision = RevisionId {
                namespace: id.namespace.clone(),
                name: target.revision.clone(),
            };
            let model = self
                .slots
                .get(&revision)
                .and_then(|slot| slot.served.as_ref());
            match model {
                Some(model) => targets.push(RouteTarget {
                    model: Arc::clone(model),
                    percent: target.percent,
                    tags: target.tags.clone(),
                }),
                // One that takes no requests may come later.
                None if target.percent == 0 => {}
                None => return None,
            }
        }
        let is_there = |name: &str| {
            let (namespace, name) = (id.namespace.clone(), name.to_owned());
            let slot = self.slots.get(&RevisionId { namespace, name });
            slot.is_some_and(|slot| slot.served.is_some())
        };
        if !planned
            .experiments
            .iter()
            .flat_map(PlannedExperiment::revisions)
            .all(is_there)
        {
            return None;
        }
        let mut route = Route::try_new(targets, planned.sticky.clone())?;
        if planned.is_compared {
            route = route.with_draw(Draw::unforeseen());
        }
        let before = self.routes.get(id).map(|(_, route)| route.as_ref());
        let route = route
            .with_feedback((&id.name, &planned.predictors), before)
            .with_experiments(self.experiments(id, planned));
        let settings = planned.shadow.clone();
        let tap = settings.map(|settings| Arc::new(ShadowTap::new(id.clone(), settings)));
        let fallback = planned.fallback.as_ref();
        let sharing = before.into_iter().chain([&route]).flat_map(Route::targets);
        let memory = FallbackMemory::of(fallback, sharing.map(|target| target.model.as_ref()));
        let stand_in = fallback.and_then(|fallback| fallback.revision.as_deref());
        let stand_in = stand_in.and_then(|name| route.revision(name));
        for target in route.targets() {
            let statistics = target.model.statistics();
            statistics.watch(planned.is_compared);
            statistics.begin_trial(planned.trial, self.config.clock.monotonic());
            target.model.set_shadow(tap.clone());
            target.model.set_branch(route.predictors());
            target.model.share_fallback(fallback, &memory);
            if let Some(own) = target.model.fallback() {
                own.set_revision(stand_in);
            }
        }
        Some(route)
    }
}
