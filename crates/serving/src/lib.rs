//! What serves: models under names, routes over revisions, the follower of plans, the panic boundary, where calls run,
//! and what is counted.
//!
//! Sees only [`dyn Model`](coracle_model::Model). Knows no protocol. Start at [`ServedModel`], then [`Plan`] and
//! [`Follower`].
#![forbid(unsafe_code)]

mod admission;
mod backends;
pub mod batch;
mod budget;
mod bulkhead;
mod chaos;
mod compute_pool;
mod declared;
mod exemplar;
pub mod experiment;
mod export_statistics;
mod fallback;
pub mod flow;
mod follower;
mod health;
mod histogram;
mod http_statistics;
mod in_work;
mod inference_counters;
mod load;
mod loaded_model;
mod metric;
mod model_table;
mod on_demand;
mod payload_logging;
mod per_thread;
mod placement;
mod plan;
mod predictors;
mod priority;
mod process;
mod rejection;
mod response_cache;
mod revision_log;
mod route;
mod served_model;
mod shadow;
mod statistics;
mod teller;
mod version;
mod warm_up;

pub use admission::Refusal;
pub use backends::{Backend, BackendCall, Backends};
pub use budget::{BudgetCounters, Evicted, LoadReason, MemoryBudget, NoRoom, Room, SizeEstimate};
pub use bulkhead::BulkheadSettings;
pub use chaos::{
    Chaos, ChaosCounts, ChaosDrawn, ChaosFault, ChaosStanding, ChaosTarget, ChaosThen,
};
pub use compute_pool::{ComputePool, OwnTurn, PoolCall, PoolLimits, QueueLimits, Ticket};
pub use declared::DeclaredConfig;
pub use exemplar::TraceId;
pub use export_statistics::{ExportCounters, ExportLoss, ExportStatistics};
pub use fallback::{Fallback, FallbackMemory, FallbackSettings, HedgeAfter, HedgeTo};
pub use follower::{
    FitsFlow, FitsOutputs, Follower, FollowerConfig, KnownOf, KnownOutputs, Loader, ObservedCell,
    PlanSender,
};
pub use http_statistics::HttpStatistics;
pub use inference_counters::{Inference, InferenceCounters, InferenceTotals};
pub use load::{LatencyCounts, LoadReport, LoadSampler, RevisionLoad, latency_bounds};
pub use loaded_model::{LoadPhases, LoadedModel};
pub use metric::{Exposition, Metric, MetricKind, MetricsText};
pub use model_table::{
    Coming, ComingKind, DuplicateModel, ModelTable, NoModel, SharedTable, TableGuard,
};
pub use on_demand::{ModelSource, OnDemand, OnDemandThreads, Sleeper};
pub use payload_logging::{PayloadLogging, PayloadMode};
pub use per_thread::Writer;
pub use placement::{CallCost, Placement};
pub use plan::{
    Absence, LoadFailure, Observed, Plan, PlannedPredictor, PlannedRevision, PlannedRoute,
    PlannedTarget, RevisionId, RevisionSource, RevisionState, ServiceId, SourcePlace, Sticky,
};
pub use predictors::{Branch, Predictors};
pub use priority::Priority;
pub use process::{
    Endpoints, MODEL_PATH, PORT_DEFAULT, Probe, ProbeAction, ProcessExit, ProcessLimits,
    ProcessOrder, ProcessPhase, ProcessRunner, ProcessSpec, ProcessState,
};
pub use rejection::Rejection;
pub use response_cache::{CacheKey, CacheSettings, CacheTotals, ResponseCache};
pub use revision_log::{LogSource, RevisionLog, log_path, replica_log_path, set_aside_path};
pub use route::{Draw, Route, RouteTarget};
pub use served_model::{Lease, ModelCall, ProcessLease, ServedModel, TellHealth, Wake};
pub use shadow::{SHADOWS_MAX, ShadowFigures, ShadowKept, ShadowSettings, ShadowTap};
pub use statistics::{InFlight, ModelStatistics, Outcome, Protocol};
pub use teller::Teller;
pub use version::{
    IdleReason, IdleVersion, VersionPolicy, VersionSets, VersionStatus, VersionStep, next_step,
    wanted_versions,
};
pub use warm_up::warm_up;
