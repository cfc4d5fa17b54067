//! Which revisions share a service's requests, and whether they fail: by that a rollout decides, and it cannot wait for the end of a window.

use std::sync::{Arc, Weak};

use crate::ServedModel;
use crate::model_table::{ModelTable, TableGuard};

/// The models of the routes that are split, with how many requests they had failed when it was looked last.
#[derive(Debug, Default)]
pub(super) struct SplitModels {
    /// The table that they are of. Keeps neither it nor its models in memory.
    table: Weak<ModelTable>,
    models: Vec<(Weak<ServedModel>, u64)>,
}

impl SplitModels {
    /// Finds them anew if the table is another one; what those that stay had failed is still known.
    pub(super) fn follow(&mut self, table: &TableGuard) {
        let mark = table.mark();
        if self.table.ptr_eq(&mark) {
            return;
        }
        self.table = mark;
        let before = std::mem::take(&mut self.models);
        let targets = table.routes().flat_map(|(_, route)| route.targets());
        let sharing = targets.filter(|target| (1..100).contains(&target.percent));
        for model in sharing.map(|target| &target.model) {
            let weak = Arc::downgrade(model);
            let known = before.iter().find(|(other, _)| other.ptr_eq(&weak));
            let n_failed = known.map_or_else(|| n_failed(model), |(_, n_failed)| *n_failed);
            self.models.push((weak, n_failed));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Tells whether one of them has failed more requests than when it was looked last.
    pub(super) fn has_failed_more(&mut self) -> bool {
        let mut has_failed_more = false;
        for (model, before) in &mut self.models {
            let Some(model) = model.upgrade() else {
                continue;
            };
            let now = n_failed(&model);
            has_failed_more |= now > *before;
            *before = now;
        }
        has_failed_more
    }

    pub(super) fn models(&self) -> impl Iterator<Item = Arc<ServedModel>> {
        self.models.iter().filter_map(|(model, _)| model.upgrade())
    }
}

fn n_failed(model: &ServedModel) -> u64 {
    model.statistics().judged().n_failed
}
