//! What is told of what is served.

use std::sync::{Mutex, PoisonError};

use super::Follower;
use crate::plan::Observed;

/// What is observed, and who wants to know.
pub struct ObservedCell {
    observed: Mutex<Observed>,
    changed: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for ObservedCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedCell").finish_non_exhaustive()
    }
}

impl ObservedCell {
    /// Returns a cell that calls `changed` after every change.
    #[must_use]
    pub fn new(changed: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            observed: Mutex::default(),
            changed,
        }
    }

    /// Returns what is observed now.
    #[must_use]
    pub fn get(&self) -> Observed {
        self.observed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces what is observed.
    pub fn set(&self, observed: Observed) {
        let mut current = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == observed {
            return;
        }
        *current = observed;
        drop(current);
        (self.changed)();
    }
}

impl Follower {
    /// Tells what there is now, after every change of anything.
    pub(super) fn report(&mut self) {
        let misfits = self.misfits();
        let revisions = self
            .slots
            .iter()
            .map(|(id, slot)| (id.clone(), slot.state.clone()));
        let routes = self
            .routes
            .iter()
            .map(|(id, (planned, _))| (id.clone(), planned.clone()));
        let processes = self.slots.iter().filter_map(|(id, slot)| {
            let states = slot.crew.as_ref()?.states.clone();
            Some((id.clone(), states))
        });
        self.config.observed.set(Observed {
            revisions: revisions.collect(),
            routes: routes.collect(),
            flows: self.observed_flows(),
            processes: processes.collect(),
            misfits,
        });
    }
}
