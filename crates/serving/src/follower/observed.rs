//! What is told of what is served.

use super::Follower;
use crate::plan::Observed;

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
