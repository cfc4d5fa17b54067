//! The metrics of the memory budget; there are samples only where there is a budget.

use std::time::Duration;

use super::Metric;
use super::text::line;
use crate::budget::{LoadReason, MemoryBudget, RELOAD_BOUNDS_NS};

/// Returns one sentence on a metric of the memory budget.
pub(super) fn help(metric: Metric) -> &'static str {
    match metric {
        Metric::MemoryBudget => "The bound on the memory of all loaded models together.",
        Metric::MemoryBudgetUsed => "Memory of all loaded models and of loads under way.",
        Metric::ModelsResident => "Models in memory, of the memory budget.",
        Metric::ModelEvictions => "Models let go of to make room for others.",
        Metric::ModelLoads => "Models loaded, ahead of requests or for a request.",
        Metric::ModelLoadFailures => "Models that did not load within the memory budget.",
        _ => "Time from a request until the model that it woke was in memory.",
    }
}

/// Appends the samples of `metric`, if it is one of these.
pub(super) fn samples(metric: Metric, budget: &MemoryBudget, text: &mut String) {
    let name = metric.name();
    let counters = budget.counters();
    let number = match metric {
        Metric::MemoryBudget => budget.limit_bytes(),
        Metric::MemoryBudgetUsed => budget.used_bytes(),
        Metric::ModelsResident => u64::try_from(budget.n_resident()).unwrap_or(u64::MAX),
        Metric::ModelEvictions => counters.evictions(),
        Metric::ModelLoadFailures => counters.failures(),
        Metric::ModelLoads => {
            for reason in LoadReason::ALL {
                let (label, count) = (reason.as_str(), counters.loads(reason));
                line(text, format_args!("{name}{{reason=\"{label}\"}} {count}"));
            }
            return;
        }
        Metric::ModelReload => return reloads(name, budget, text),
        _ => return,
    };
    line(text, format_args!("{name} {number}"));
}

fn reloads(name: &str, budget: &MemoryBudget, text: &mut String) {
    let (counts, sum) = budget.counters().reloads();
    let mut cumulative = 0;
    for (index, count) in counts.iter().enumerate() {
        cumulative += count;
        let bound = RELOAD_BOUNDS_NS.get(index).map_or_else(
            || "+Inf".to_owned(),
            |&bound| Duration::from_nanos(bound).as_secs_f64().to_string(),
        );
        line(
            text,
            format_args!("{name}_bucket{{le=\"{bound}\"}} {cumulative}"),
        );
    }
    line(text, format_args!("{name}_sum {}", sum.as_secs_f64()));
    line(text, format_args!("{name}_count {cumulative}"));
}
