//! What revisions use, measured from time to time, for `kubectl top pods`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use coracle_control::{Usage, UsageReport};
use coracle_serving::{RevisionId, SharedTable};

/// Measures what revisions use between one look and the next.
pub(crate) struct UsageSampler {
    table: Arc<SharedTable>,
    clock: Arc<dyn Clock>,
    /// At the last look: when it was, and the time that calls had taken.
    at: Duration,
    before: BTreeMap<RevisionId, Duration>,
    last: Vec<(RevisionId, Usage)>,
}

impl UsageSampler {
    pub(crate) fn new(table: Arc<SharedTable>, clock: Arc<dyn Clock>) -> Self {
        Self {
            table,
            at: clock.monotonic(),
            clock,
            before: BTreeMap::new(),
            last: Vec::new(),
        }
    }

    /// Makes the next look tell everything: whoever is told now knows nothing yet.
    pub(crate) fn forget(&mut self) {
        self.last.clear();
    }

    /// Returns what was used since the last look; `None` if it is what it was: a server at rest tells nothing.
    pub(crate) fn sample(&mut self) -> Option<UsageReport> {
        let now = self.clock.monotonic();
        let window = now.saturating_sub(self.at);
        let table = self.table.load();
        let mut after = BTreeMap::new();
        let mut revisions = Vec::new();
        for model in table.iter() {
            let Some(id) = model.revision() else { continue };
            let total = model.statistics().compute_time();
            let before = self.before.get(id).copied().unwrap_or_default();
            let memory_bytes = model.loaded().map_or(0, |loaded| loaded.memory_bytes());
            let usage = Usage {
                compute: total.saturating_sub(before),
                memory_bytes: u64::try_from(memory_bytes).unwrap_or(u64::MAX),
            };
            if after.insert(id.clone(), total).is_none() {
                revisions.push((id.clone(), usage));
            }
        }
        (self.at, self.before) = (now, after);
        if revisions == self.last {
            return None;
        }
        self.last.clone_from(&revisions);
        Some(UsageReport { window, revisions })
    }
}
