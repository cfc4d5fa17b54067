//! What a round of the controller puts off: its writes, made with one wait for the disk.

use std::collections::BTreeSet;

use coracle_serving::ServiceId;

use super::{Controller, experiments, rollouts};
use crate::store::Write;

impl Controller {
    /// Writes what the round has put off, with one wait for the disk; returns the services of what failed.
    pub(super) fn write_pending(&mut self) -> BTreeSet<ServiceId> {
        self.prune_events();
        if std::mem::take(&mut self.is_any_gone) {
            self.drop_events_of_gone();
        }
        let (services, writes): (Vec<ServiceId>, Vec<Write>) =
            std::mem::take(&mut self.pending).into_iter().unzip();
        if writes.is_empty() {
            return BTreeSet::new();
        }
        let rollouts: Vec<Option<String>> = writes.iter().map(rollouts::shown_by).collect();
        let experiments: Vec<bool> = writes.iter().map(experiments::is_shown_by).collect();
        let results = self.store.write_all(writes);
        let mut failed = BTreeSet::new();
        let shown = rollouts.into_iter().zip(experiments);
        for ((service, (rollout, is_experiment)), result) in
            services.into_iter().zip(shown).zip(results)
        {
            match (result, rollout) {
                (Ok(_), Some(rollout)) => self.rollouts.note_written(&service, &rollout),
                (Ok(stored), None) if is_experiment => self.experiments.note_written(&stored),
                (Ok(_), None) => {}
                (Err(_), _) => drop(failed.insert(service)),
            }
        }
        failed
    }
}
