//! What the processes of revisions use, noted where what calls use is counted: for the autoscaler and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_serving::{ObservedCell, SharedTable, Writer};

/// Measures processes between one look and the next.
pub(crate) struct ProcessMeter {
    table: Arc<SharedTable>,
    /// Tells which processes there are.
    observed: Arc<ObservedCell>,
    /// The processor time that each had taken at the last look, by its number.
    before: BTreeMap<u32, Duration>,
}

impl ProcessMeter {
    pub(crate) fn new(table: Arc<SharedTable>, observed: Arc<ObservedCell>) -> Self {
        Self {
            table,
            observed,
            before: BTreeMap::new(),
        }
    }

    /// Notes what has been used since the last look. Looks at nothing where nothing is served by processes.
    pub(crate) fn look(&mut self) {
        let table = self.table.load();
        if !table.iter().any(|model| model.is_forwarded()) {
            return;
        }
        let observed = self.observed.get().processes;
        let states = observed.values().flatten();
        let pids: Vec<u32> = states.filter_map(|state| state.pid).collect();
        let measured: BTreeMap<u32, coracle_process::Usage> = pids
            .iter()
            .copied()
            .zip(coracle_process::usage(&pids))
            .collect();
        for model in table.iter().filter(|model| model.is_forwarded()) {
            let states = model.revision().and_then(|id| observed.get(id));
            let pids = states.into_iter().flatten().filter_map(|state| state.pid);
            let (mut cpu, mut memory_bytes) = (Duration::ZERO, 0_u64);
            for pid in pids {
                let now = measured.get(&pid).copied().unwrap_or_default();
                // What one used before it was first seen is its start.
                let before = self.before.get(&pid).copied().unwrap_or(now.cpu);
                cpu += now.cpu.saturating_sub(before);
                memory_bytes = memory_bytes.saturating_add(now.memory_bytes);
            }
            model.statistics().compute(Writer::Other, cpu);
            model.set_process_memory(memory_bytes);
        }
        self.before = measured
            .into_iter()
            .map(|(pid, usage)| (pid, usage.cpu))
            .collect();
    }
}
