//! What revisions use, measured from time to time, for `kubectl top pods`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use coracle_control::{Usage, UsageReport};
use coracle_serving::{ObservedCell, RevisionId, SharedTable};

/// Measures what revisions use between one look and the next.
pub(crate) struct UsageSampler {
    table: Arc<SharedTable>,
    /// Tells which processes there are.
    observed: Arc<ObservedCell>,
    clock: Arc<dyn Clock>,
    /// At the last look: when it was, and the time that calls had taken.
    at: Duration,
    before: BTreeMap<RevisionId, Duration>,
    /// The time that processes had taken, by their numbers.
    before_of_processes: BTreeMap<u32, Duration>,
    last: UsageReport,
}

impl UsageSampler {
    pub(crate) fn new(
        table: Arc<SharedTable>,
        observed: Arc<ObservedCell>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            table,
            observed,
            at: clock.monotonic(),
            clock,
            before: BTreeMap::new(),
            before_of_processes: BTreeMap::new(),
            last: UsageReport::default(),
        }
    }

    /// Makes the next look tell everything: whoever is told now knows nothing yet.
    pub(crate) fn forget(&mut self) {
        self.last = UsageReport::default();
    }

    /// Returns what was used since the last look; `None` if it is what it was: a server at rest tells nothing.
    pub(crate) fn sample(&mut self) -> Option<UsageReport> {
        let now = self.clock.monotonic();
        let window = now.saturating_sub(self.at);
        let table = self.table.load();
        let mut after = BTreeMap::new();
        let mut revisions = Vec::new();
        for model in table.iter() {
            let Some(id) = model.revision().filter(|_| !model.is_forwarded()) else {
                continue;
            };
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
        let report = UsageReport {
            window: Duration::ZERO,
            revisions,
            processes: self.processes(),
        };
        if report == self.last {
            return None;
        }
        self.last.clone_from(&report);
        Some(UsageReport { window, ..report })
    }

    /// Returns what each process used since the last look.
    fn processes(&mut self) -> Vec<(RevisionId, Vec<Usage>)> {
        let observed = self.observed.get().processes;
        let pids: Vec<u32> = observed
            .values()
            .flatten()
            .filter_map(|state| state.pid)
            .collect();
        if pids.is_empty() {
            self.before_of_processes.clear();
            return Vec::new();
        }
        let measured: BTreeMap<u32, coracle_process::Usage> = pids
            .iter()
            .copied()
            .zip(coracle_process::usage(&pids))
            .collect();
        let usage = |pid: Option<u32>| {
            let now = pid
                .and_then(|pid| measured.get(&pid).copied())
                .unwrap_or_default();
            let before = pid.and_then(|pid| self.before_of_processes.get(&pid).copied());
            Usage {
                compute: now.cpu.saturating_sub(before.unwrap_or(now.cpu)),
                memory_bytes: now.memory_bytes,
            }
        };
        let processes = observed.iter().map(|(id, states)| {
            let usages = states.iter().map(|state| usage(state.pid));
            (id.clone(), usages.collect())
        });
        let processes = processes.collect();
        self.before_of_processes = measured
            .into_iter()
            .map(|(pid, usage)| (pid, usage.cpu))
            .collect();
        processes
    }
}
