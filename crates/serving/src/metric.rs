//! Every metric there is; `text` shows them.

mod budget;
mod cache;
mod experiment;
mod flow;
mod shadow;
mod text;

pub use text::{Exposition, MetricsText};

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Finished calls by model, protocol and code.
    Requests,
    /// Latency of finished calls by model.
    RequestDuration,
    /// Time that inferences waited, by model.
    QueueDuration,
    /// Time of decoding by model.
    ParseDuration,
    /// Time of running by model.
    ComputeDuration,
    /// Time of encoding by model.
    RenderDuration,
    /// Rows of each run by model.
    BatchRows,
    /// Calls turned away by model and reason.
    Rejections,
    /// Calls in flight by model.
    RequestsInFlight,
    /// Calls that wait for the model or for a place to run, by model.
    RequestsWaiting,
    /// Memory held by model.
    ModelMemory,
    /// Time of loading by model and phase.
    ModelLoad,
    /// Whether a model is ready.
    ModelReady,
    /// Whether a model is in memory.
    ModelLoaded,
    /// Versions by model and state.
    ModelVersions,
    /// Mean cost of decoding by model.
    ModelDecodeCost,
    /// Mean cost of running by model and number of rows.
    ModelRunCost,
    /// Calls by model and the place where they ran.
    ModelCalls,
    /// Runs by model, of one call or several.
    ModelRuns,
    /// Panics by model.
    ModelPanics,
    /// Time that the processors spent on calls, by model.
    ModelCompute,
    /// Answers that were kept, by model.
    ResponseCacheHits,
    /// Answers that were not, by model.
    ResponseCacheMisses,
    /// Kept answers that went for want of room, by model.
    ResponseCacheEvictions,
    /// The memory of kept answers, by model.
    ResponseCacheBytes,
    /// Answers that were not the model's, by model.
    Fallbacks,
    /// Requests tried again, by model.
    Retries,
    /// Second attempts at other processes, by model.
    Hedges,
    /// Those of them whose answer was the one, by model.
    HedgesWon,
    /// Faults on purpose, by kind.
    ChaosFaults,
    /// Services and revisions that have faults on purpose.
    ChaosTargets,
    /// Requests that took part in experiments, by variant.
    ExperimentExposures,
    /// Outcomes of experiments.
    ExperimentOutcomes,
    /// Requests without a unit, by experiment.
    ExperimentUnassigned,
    /// Exposures that are not in the books, by experiment.
    ExperimentLost,
    /// Whether an experiment runs, or has a winner.
    ExperimentState,
    /// Copies of requests for shadows, by how they ended.
    ShadowRequests,
    /// How often a shadow's labels are those that were given.
    ShadowAgreement,
    /// How far a shadow's numbers are distributed otherwise.
    ShadowDrift,
    /// What models were told of their answers.
    Feedback,
    /// The sum of it.
    FeedbackReward,
    /// Finished requests of graphs by code.
    GraphRequests,
    /// Answers that something else gave in place of a graph.
    GraphFallbacks,
    /// Requests of a graph's router by branch.
    GraphBranches,
    /// What a graph's router has learnt of a branch.
    GraphBranchReward,
    /// The bound on the memory of all models.
    MemoryBudget,
    /// What of it is used.
    MemoryBudgetUsed,
    /// Models in memory.
    ModelsResident,
    /// Models let go of to make room.
    ModelEvictions,
    /// Loads by reason.
    ModelLoads,
    /// Loads that failed.
    ModelLoadFailures,
    /// How long requests waited for a model that was not in memory.
    ModelReload,
    /// HTTP answers by status class.
    HttpResponses,
    /// Open connections.
    Connections,
    /// Connections turned away.
    ConnectionsRefused,
    /// Log lines lost.
    LogLinesDropped,
    /// Payloads recorded.
    Payloads,
    /// Payloads lost by reason.
    PayloadsLost,
    /// Memory of payloads that wait.
    PayloadsWaiting,
    /// Spans sent.
    Spans,
    /// Spans lost by reason.
    SpansLost,
    /// The version of the program.
    BuildInfo,
}

/// What a metric's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

impl MetricKind {
    /// Returns the name that both text formats have for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// Every metric, in the order in which it is shown.
    pub const ALL: [Self; 62] = [
        Self::Requests,
        Self::RequestDuration,
        Self::QueueDuration,
        Self::ParseDuration,
        Self::ComputeDuration,
        Self::RenderDuration,
        Self::BatchRows,
        Self::Rejections,
        Self::RequestsInFlight,
        Self::RequestsWaiting,
        Self::ModelMemory,
        Self::ModelLoad,
        Self::ModelReady,
        Self::ModelLoaded,
        Self::ModelVersions,
        Self::ModelDecodeCost,
        Self::ModelRunCost,
        Self::ModelCalls,
        Self::ModelRuns,
        Self::ModelPanics,
        Self::ModelCompute,
        Self::ResponseCacheHits,
        Self::ResponseCacheMisses,
        Self::ResponseCacheEvictions,
        Self::ResponseCacheBytes,
        Self::Fallbacks,
        Self::Retries,
        Self::Hedges,
        Self::HedgesWon,
        Self::ChaosFaults,
        Self::ChaosTargets,
        Self::ExperimentExposures,
        Self::ExperimentOutcomes,
        Self::ExperimentUnassigned,
        Self::ExperimentLost,
        Self::ExperimentState,
        Self::ShadowRequests,
        Self::ShadowAgreement,
        Self::ShadowDrift,
        Self::Feedback,
        Self::FeedbackReward,
        Self::GraphRequests,
        Self::GraphFallbacks,
        Self::GraphBranches,
        Self::GraphBranchReward,
        Self::MemoryBudget,
        Self::MemoryBudgetUsed,
        Self::ModelsResident,
        Self::ModelEvictions,
        Self::ModelLoads,
        Self::ModelLoadFailures,
        Self::ModelReload,
        Self::HttpResponses,
        Self::Connections,
        Self::ConnectionsRefused,
        Self::LogLinesDropped,
        Self::Payloads,
        Self::PayloadsLost,
        Self::PayloadsWaiting,
        Self::Spans,
        Self::SpansLost,
        Self::BuildInfo,
    ];

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "coracle_requests_total",
            Self::RequestDuration => "coracle_request_duration_seconds",
            Self::QueueDuration => "coracle_queue_duration_seconds",
            Self::ParseDuration => "coracle_parse_duration_seconds",
            Self::ComputeDuration => "coracle_compute_duration_seconds",
            Self::RenderDuration => "coracle_render_duration_seconds",
            Self::BatchRows => "coracle_batch_rows",
            Self::Rejections => "coracle_rejections_total",
            Self::RequestsInFlight => "coracle_requests_in_flight",
            Self::RequestsWaiting => "coracle_requests_waiting",
            Self::ModelMemory => "coracle_model_memory_bytes",
            Self::ModelLoad => "coracle_model_load_seconds",
            Self::ModelReady => "coracle_model_ready",
            Self::ModelLoaded => "coracle_model_loaded",
            Self::ModelVersions => "coracle_model_versions",
            Self::ModelDecodeCost => "coracle_model_decode_seconds_per_byte",
            Self::ModelRunCost => "coracle_model_run_seconds_per_row",
            Self::ModelCalls => "coracle_model_calls_total",
            Self::ModelRuns => "coracle_model_runs_total",
            Self::ModelPanics => "coracle_model_panics_total",
            Self::ModelCompute => "coracle_model_compute_seconds_total",
            Self::ResponseCacheHits => "coracle_response_cache_hits_total",
            Self::ResponseCacheMisses => "coracle_response_cache_misses_total",
            Self::ResponseCacheEvictions => "coracle_response_cache_evictions_total",
            Self::ResponseCacheBytes => "coracle_response_cache_bytes",
            Self::Fallbacks => "coracle_fallbacks_total",
            Self::Retries => "coracle_retries_total",
            Self::Hedges => "coracle_hedges_total",
            Self::HedgesWon => "coracle_hedges_won_total",
            Self::ChaosFaults => "coracle_chaos_faults_total",
            Self::ChaosTargets => "coracle_chaos_targets",
            Self::ExperimentExposures => "coracle_experiment_exposures_total",
            Self::ExperimentOutcomes => "coracle_experiment_outcomes_total",
            Self::ExperimentUnassigned => "coracle_experiment_unassigned_total",
            Self::ExperimentLost => "coracle_experiment_lost_total",
            Self::ExperimentState => "coracle_experiment_state",
            Self::ShadowRequests => "coracle_shadow_requests_total",
            Self::ShadowAgreement => "coracle_shadow_label_agreement_ratio",
            Self::ShadowDrift => "coracle_shadow_stability_index",
            Self::Feedback => "coracle_feedback_total",
            Self::FeedbackReward => "coracle_feedback_reward_sum",
            Self::GraphRequests => "coracle_graph_requests_total",
            Self::GraphFallbacks => "coracle_graph_fallbacks_total",
            Self::GraphBranches => "coracle_graph_branch_requests_total",
            Self::GraphBranchReward => "coracle_graph_branch_reward_mean",
            Self::MemoryBudget => "coracle_memory_budget_bytes",
            Self::MemoryBudgetUsed => "coracle_memory_budget_used_bytes",
            Self::ModelsResident => "coracle_models_resident",
            Self::ModelEvictions => "coracle_model_evictions_total",
            Self::ModelLoads => "coracle_model_loads_total",
            Self::ModelLoadFailures => "coracle_model_load_failures_total",
            Self::ModelReload => "coracle_model_reload_seconds",
            Self::HttpResponses => "coracle_http_responses_total",
            Self::Connections => "coracle_connections",
            Self::ConnectionsRefused => "coracle_connections_refused_total",
            Self::LogLinesDropped => "coracle_log_lines_dropped_total",
            Self::Payloads => "coracle_payloads_logged_total",
            Self::PayloadsLost => "coracle_payloads_lost_total",
            Self::PayloadsWaiting => "coracle_payloads_waiting_bytes",
            Self::Spans => "coracle_spans_exported_total",
            Self::SpansLost => "coracle_spans_lost_total",
            Self::BuildInfo => "coracle_build_info",
        }
    }

    /// Returns the name of OpenMetrics' family, which has no `_total`.
    #[must_use]
    pub fn family(self) -> &'static str {
        let name = self.name();
        name.strip_suffix("_total").unwrap_or(name)
    }

    /// Returns what the number means.
    #[must_use]
    pub fn kind(self) -> MetricKind {
        match self {
            Self::Requests
            | Self::Rejections
            | Self::ModelCalls
            | Self::ModelRuns
            | Self::ModelPanics
            | Self::ModelCompute
            | Self::ResponseCacheHits
            | Self::ResponseCacheMisses
            | Self::ResponseCacheEvictions
            | Self::Fallbacks
            | Self::Retries
            | Self::Hedges
            | Self::HedgesWon
            | Self::ChaosFaults
            | Self::ExperimentExposures
            | Self::ExperimentOutcomes
            | Self::ExperimentUnassigned
            | Self::ExperimentLost
            | Self::ShadowRequests
            | Self::Feedback
            | Self::GraphRequests
            | Self::GraphFallbacks
            | Self::GraphBranches
            | Self::ModelEvictions
            | Self::ModelLoads
            | Self::ModelLoadFailures
            | Self::HttpResponses
            | Self::ConnectionsRefused
            | Self::LogLinesDropped
            | Self::Payloads
            | Self::PayloadsLost
            | Self::Spans
            | Self::SpansLost => MetricKind::Counter,
            Self::RequestDuration
            | Self::QueueDuration
            | Self::ParseDuration
            | Self::ComputeDuration
            | Self::RenderDuration
            | Self::BatchRows
            | Self::ModelReload => MetricKind::Histogram,
            Self::RequestsInFlight
            | Self::RequestsWaiting
            | Self::ModelMemory
            | Self::ModelLoad
            | Self::ModelReady
            | Self::ModelLoaded
            | Self::ModelVersions
            | Self::ModelDecodeCost
            | Self::ModelRunCost
            | Self::ResponseCacheBytes
            | Self::ShadowAgreement
            | Self::ShadowDrift
            | Self::FeedbackReward
            | Self::GraphBranchReward
            | Self::ChaosTargets
            | Self::ExperimentState
            | Self::MemoryBudget
            | Self::MemoryBudgetUsed
            | Self::ModelsResident
            | Self::Connections
            | Self::PayloadsWaiting
            | Self::BuildInfo => MetricKind::Gauge,
        }
    }

    /// Tells whether its series have the label `model`.
    #[must_use]
    pub fn is_of_models(self) -> bool {
        match self {
            Self::HttpResponses
            | Self::Connections
            | Self::ConnectionsRefused
            | Self::LogLinesDropped
            | Self::Payloads
            | Self::PayloadsLost
            | Self::PayloadsWaiting
            | Self::Spans
            | Self::SpansLost
            | Self::ChaosFaults
            | Self::ChaosTargets
            | Self::ExperimentExposures
            | Self::ExperimentOutcomes
            | Self::ExperimentUnassigned
            | Self::ExperimentLost
            | Self::ExperimentState
            | Self::ShadowRequests
            | Self::ShadowAgreement
            | Self::ShadowDrift
            | Self::Feedback
            | Self::FeedbackReward
            | Self::GraphRequests
            | Self::GraphFallbacks
            | Self::GraphBranches
            | Self::GraphBranchReward
            | Self::MemoryBudget
            | Self::MemoryBudgetUsed
            | Self::ModelsResident
            | Self::ModelEvictions
            | Self::ModelLoads
            | Self::ModelLoadFailures
            | Self::ModelReload
            | Self::BuildInfo => false,
            Self::Requests
            | Self::RequestDuration
            | Self::QueueDuration
            | Self::ParseDuration
            | Self::ComputeDuration
            | Self::RenderDuration
            | Self::BatchRows
            | Self::Rejections
            | Self::RequestsInFlight
            | Self::RequestsWaiting
            | Self::ModelMemory
            | Self::ModelLoad
            | Self::ModelReady
            | Self::ModelLoaded
            | Self::ModelVersions
            | Self::ModelDecodeCost
            | Self::ModelRunCost
            | Self::ModelCalls
            | Self::ModelRuns
            | Self::ModelPanics
            | Self::ResponseCacheHits
            | Self::ResponseCacheMisses
            | Self::ResponseCacheEvictions
            | Self::ResponseCacheBytes
            | Self::Fallbacks
            | Self::Retries
            | Self::Hedges
            | Self::HedgesWon
            | Self::ModelCompute => true,
        }
    }

    /// Returns one sentence on it.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Fallbacks
            | Self::Retries
            | Self::Hedges
            | Self::HedgesWon
            | Self::ChaosFaults
            | Self::ChaosTargets
            | Self::ShadowRequests
            | Self::ShadowAgreement
            | Self::ShadowDrift => shadow::help(self),
            Self::ExperimentExposures
            | Self::ExperimentOutcomes
            | Self::ExperimentUnassigned
            | Self::ExperimentLost
            | Self::ExperimentState => experiment::help(self),
            Self::Feedback
            | Self::FeedbackReward
            | Self::GraphRequests
            | Self::GraphFallbacks
            | Self::GraphBranches
            | Self::GraphBranchReward => flow::help(self),
            Self::MemoryBudget
            | Self::MemoryBudgetUsed
            | Self::ModelsResident
            | Self::ModelEvictions
            | Self::ModelLoads
            | Self::ModelLoadFailures
            | Self::ModelReload => budget::help(self),
            _ => self.help_of_calls(),
        }
    }

    /// Returns one sentence on a metric of calls, models or the server.
    fn help_of_calls(self) -> &'static str {
        match self {
            Self::Requests => {
                "Finished inference calls by model, protocol and code (ok or the failure)."
            }
            Self::RequestDuration => "Time from whole request to whole answer of inference calls.",
            Self::QueueDuration => {
                "Time from the complete request until a thread took it, of inferences that went well."
            }
            Self::ParseDuration => "Time of decoding the request, of inferences that went well.",
            Self::ComputeDuration => "Time of running the model, of inferences that went well.",
            Self::RenderDuration => "Time of encoding the answer, of inferences that went well.",
            Self::BatchRows => "Rows of each run of the model, of one request or of several.",
            Self::Rejections => "Inference calls turned away before the model saw them, by reason.",
            Self::RequestsWaiting => {
                "Inference calls that wait for the model to be loaded or for a place to run."
            }
            Self::RequestsInFlight => "Inference calls that have started and not finished.",
            Self::ModelMemory => "Memory held by the loaded model, counted from its buffers.",
            Self::ModelLoad => "Time that loading the model took, by phase.",
            Self::ModelReady => "Whether the model takes requests (1) or not (0).",
            Self::ModelLoaded => {
                "Whether the model is in memory (1), or let go of until it is asked (0)."
            }
            Self::ModelVersions => {
                "Versions of the model by state: available, loading, unloading, or failed to load."
            }
            Self::ModelDecodeCost => {
                "Moving mean of the time of decoding per byte of request; decides where that is done."
            }
            Self::ModelRunCost => {
                "Moving mean of the time of a run per row, by the least number of rows of its size; decides where calls run."
            }
            Self::ModelCalls => {
                "Inference calls that went well, by the place where they ran: event_loop or compute_pool."
            }
            Self::ModelRuns => {
                "Runs of the model that went well; fewer than calls where calls were put together."
            }
            Self::ModelPanics => "Panics of the model, each of which failed its call only.",
            Self::ModelCompute => "Time spent on decoding, running and encoding inference calls.",
            Self::ResponseCacheHits => "Inference calls answered without running the model.",
            Self::ResponseCacheMisses => "Inference calls whose answer was kept after a run.",
            Self::ResponseCacheEvictions => "Kept answers that went to make room for others.",
            Self::ResponseCacheBytes => "Memory of kept answers and of what they are found by.",
            Self::HttpResponses => "HTTP answers by status class.",
            Self::Connections => "Open connections.",
            Self::ConnectionsRefused => "Connections turned away because there were too many.",
            Self::LogLinesDropped => "Log lines lost because the log could not keep up.",
            Self::Payloads => "Requests and answers that were recorded.",
            Self::PayloadsLost => {
                "Requests and answers lost on the way to their record: no room, or not taken."
            }
            Self::PayloadsWaiting => "Memory of requests and answers that wait to be recorded.",
            Self::Spans => "Spans of traces that were sent.",
            Self::SpansLost => "Spans of traces lost on their way: no room, or not taken.",
            _ => "The running version, as a label; always 1.",
        }
    }
}
