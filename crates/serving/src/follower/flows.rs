//! The flows that a follower switches to, and the table of them and of the routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Follower;
use crate::ModelTable;
use crate::flow::{Flow, PlannedFlow};
use crate::plan::{RevisionId, ServiceId};

impl Follower {
    /// Switches every flow whose revisions are all there; tells whether any changed.
    pub(super) fn switch_flows(&mut self) -> bool {
        let mut changed = false;
        for (id, planned) in &self.plan.flows {
            let before = self.flows.get(id);
            let find = |revision: &RevisionId| self.slots.get(revision)?.served.clone();
            if before.is_some_and(|(current, flow)| current == planned && flow.is_current(&find)) {
                continue;
            }
            let before = before.map(|(_, flow)| flow.as_ref());
            let known = (before, self.config.routers.as_ref());
            if let Some(flow) = Flow::try_remembering(id, planned, &find, known) {
                let switched = (planned.clone(), Arc::new(flow));
                self.flows.insert(id.clone(), switched);
                changed = true;
            }
        }
        let n_flows = self.flows.len();
        let (flows, memory) = (&self.plan.flows, self.config.routers.as_ref());
        self.flows.retain(|id, _| {
            let is_planned = flows.contains_key(id);
            if let Some(memory) = memory.filter(|_| !is_planned) {
                memory.forget(id);
            }
            is_planned
        });
        changed | (self.flows.len() != n_flows)
    }

    /// Returns the table of what requests can be sent to by now.
    pub(super) fn table(&self) -> ModelTable {
        let routes = self.routes.iter();
        let routes = routes.map(|(id, (_, route))| (id.clone(), Arc::clone(route)));
        let flows = self.flows.iter();
        let flows = flows.map(|(id, (_, flow))| (id.clone(), Arc::clone(flow)));
        let table = ModelTable::from_routes(routes.collect()).with_flows(flows.collect());
        match &self.coming {
            Some(coming) => table.with_coming(coming.clone()),
            None => table,
        }
    }

    pub(super) fn observed_flows(&self) -> BTreeMap<ServiceId, PlannedFlow> {
        let flows = self.flows.iter();
        let planned = flows.map(|(id, (planned, _))| (id.clone(), planned.clone()));
        planned.collect()
    }
}
