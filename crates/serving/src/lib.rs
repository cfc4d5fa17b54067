//! Models under names: the table, the panic boundary, where calls run, and what is counted.
//!
//! Sees only [`dyn Model`](coracle_model::Model). Knows no protocol and owns no thread. Start at [`ServedModel`].
#![forbid(unsafe_code)]

mod metric;
mod model_table;
mod placement;
mod statistics;

pub use metric::{Metric, MetricKind, MetricsText};
pub use model_table::{DuplicateModel, LoadPhases, ModelTable, ServedModel};
pub use placement::{CallCost, Placement};
pub use statistics::{HttpStatistics, ModelStatistics, Outcome, Protocol};
