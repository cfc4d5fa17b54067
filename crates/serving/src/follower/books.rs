//! The books of experiments that routes have, and those that nobody needs any more.

use super::Follower;
use crate::experiment::{RouteExperiments, Split, SplitTarget, VariantTarget};
use crate::plan::{PlannedRoute, RevisionId, ServiceId};

impl Follower {
    /// Returns the experiments of a route.
    pub(super) fn experiments(
        &self,
        id: &ServiceId,
        planned: &PlannedRoute,
    ) -> Option<RouteExperiments> {
        let books = self.config.experiments.as_ref()?;
        let find = |target: &VariantTarget| {
            let of_namespace = |name: &str| (id.namespace.clone(), name.to_owned());
            match target {
                VariantTarget::Own => SplitTarget::Own,
                VariantTarget::Revision(name) => {
                    let (namespace, name) = of_namespace(name);
                    let slot = self.slots.get(&RevisionId { namespace, name });
                    let served = slot.and_then(|slot| slot.served.clone());
                    // The control side plans none that is not there.
                    served.map_or(SplitTarget::Own, SplitTarget::Revision)
                }
                VariantTarget::Service(name) => {
                    let (namespace, name) = of_namespace(name);
                    SplitTarget::Service(ServiceId { namespace, name })
                }
            }
        };
        let splits = planned.experiments.iter().filter_map(|experiment| {
            let book = books.open(&id.namespace, experiment);
            // Validation has seen its numbers.
            Split::try_new(experiment, book, find).ok()
        });
        let splits: Vec<Split> = splits.collect();
        (!splits.is_empty()).then(|| RouteExperiments::new(splits))
    }

    /// Lets the books of experiments go that nobody needs any more.
    pub(super) fn keep_books(&mut self) {
        let needed = self.plan.books_needed();
        if needed != self.books {
            if let (Some(experiments), Some(needed)) = (&self.config.experiments, &needed) {
                experiments.keep(needed);
            }
            self.books = needed;
        }
    }
}
