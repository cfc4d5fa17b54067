//! Every metric there is, and the Prometheus text that shows them.

use std::fmt::Write;
use std::time::Duration;

use coracle_base::VersionState;

use crate::served_model::escape;
use crate::statistics::{LATENCY_BOUNDS_NS, outcome_label, outcomes};
use crate::{HttpStatistics, LoadPhases, ModelTable, Protocol, ServedModel, VersionStatus};

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Finished calls by model, protocol and code.
    Requests,
    /// Latency of finished calls by model.
    RequestDuration,
    /// Calls in flight by model.
    RequestsInFlight,
    /// Memory held by model.
    ModelMemory,
    /// Time of loading by model and phase.
    ModelLoad,
    /// Whether a model is ready.
    ModelReady,
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
    /// HTTP answers by status class.
    HttpResponses,
    /// Open connections.
    Connections,
    /// Connections turned away.
    ConnectionsRefused,
    /// Log lines lost.
    LogLinesDropped,
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

impl Metric {
    /// Every metric, in the order in which it is shown.
    pub const ALL: [Self; 18] = [
        Self::Requests,
        Self::RequestDuration,
        Self::RequestsInFlight,
        Self::ModelMemory,
        Self::ModelLoad,
        Self::ModelReady,
        Self::ModelVersions,
        Self::ModelDecodeCost,
        Self::ModelRunCost,
        Self::ModelCalls,
        Self::ModelRuns,
        Self::ModelPanics,
        Self::ModelCompute,
        Self::HttpResponses,
        Self::Connections,
        Self::ConnectionsRefused,
        Self::LogLinesDropped,
        Self::BuildInfo,
    ];

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "coracle_requests_total",
            Self::RequestDuration => "coracle_request_duration_seconds",
            Self::RequestsInFlight => "coracle_requests_in_flight",
            Self::ModelMemory => "coracle_model_memory_bytes",
            Self::ModelLoad => "coracle_model_load_seconds",
            Self::ModelReady => "coracle_model_ready",
            Self::ModelVersions => "coracle_model_versions",
            Self::ModelDecodeCost => "coracle_model_decode_seconds_per_byte",
            Self::ModelRunCost => "coracle_model_run_seconds_per_row",
            Self::ModelCalls => "coracle_model_calls_total",
            Self::ModelRuns => "coracle_model_runs_total",
            Self::ModelPanics => "coracle_model_panics_total",
            Self::ModelCompute => "coracle_model_compute_seconds_total",
            Self::HttpResponses => "coracle_http_responses_total",
            Self::Connections => "coracle_connections",
            Self::ConnectionsRefused => "coracle_connections_refused_total",
            Self::LogLinesDropped => "coracle_log_lines_dropped_total",
            Self::BuildInfo => "coracle_build_info",
        }
    }

    /// Returns what the number means.
    #[must_use]
    pub fn kind(self) -> MetricKind {
        match self {
            Self::Requests
            | Self::ModelCalls
            | Self::ModelRuns
            | Self::ModelPanics
            | Self::ModelCompute
            | Self::HttpResponses
            | Self::ConnectionsRefused
            | Self::LogLinesDropped => MetricKind::Counter,
            Self::RequestDuration => MetricKind::Histogram,
            Self::RequestsInFlight
            | Self::ModelMemory
            | Self::ModelLoad
            | Self::ModelReady
            | Self::ModelVersions
            | Self::ModelDecodeCost
            | Self::ModelRunCost
            | Self::Connections
            | Self::BuildInfo => MetricKind::Gauge,
        }
    }

    /// Returns one sentence on it.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Requests => {
                "Finished inference calls by model, protocol and code (ok or the failure)."
            }
            Self::RequestDuration => {
                "Time from the complete request to the complete answer of inference calls."
            }
            Self::RequestsInFlight => "Inference calls that have started and not finished.",
            Self::ModelMemory => "Memory held by the loaded model, counted from its buffers.",
            Self::ModelLoad => "Time that loading the model took, by phase.",
            Self::ModelReady => "Whether the model takes requests (1) or not (0).",
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
            Self::HttpResponses => "HTTP answers by status class.",
            Self::Connections => "Open connections.",
            Self::ConnectionsRefused => "Connections turned away because there were too many.",
            Self::LogLinesDropped => "Log lines lost because the log could not keep up.",
            Self::BuildInfo => "The running version, as a label; always 1.",
        }
    }
}

/// The metrics of a server in Prometheus' text format.
#[derive(Debug)]
pub struct MetricsText<'a> {
    /// The models.
    pub table: &'a ModelTable,
    /// The HTTP layer.
    pub http: &'a HttpStatistics,
    /// Whether the server takes requests.
    pub ready: bool,
    /// The version of the program.
    pub version: &'a str,
}

impl MetricsText<'_> {
    /// Returns the text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(4096);
        for metric in Metric::ALL {
            let kind = match metric.kind() {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            line(
                &mut text,
                format_args!("# HELP {} {}", metric.name(), metric.help()),
            );
            line(&mut text, format_args!("# TYPE {} {kind}", metric.name()));
            self.samples(metric, &mut text);
        }
        text
    }

    fn samples(&self, metric: Metric, text: &mut String) {
        let name = metric.name();
        match metric {
            Metric::HttpResponses => {
                for class in 1..=5 {
                    let count = self.http.responses(class);
                    line(text, format_args!("{name}{{status=\"{class}xx\"}} {count}"));
                }
            }
            Metric::Connections => line(text, format_args!("{name} {}", self.http.connections())),
            Metric::ConnectionsRefused => {
                line(text, format_args!("{name} {}", self.http.refused()))
            }
            Metric::LogLinesDropped => line(
                text,
                format_args!("{name} {}", self.http.log_lines_dropped()),
            ),
            Metric::BuildInfo => line(
                text,
                format_args!("{name}{{version=\"{}\"}} 1", self.version),
            ),
            Metric::ModelVersions => self.versions(name, text),
            _ => {
                for model in self.table.iter() {
                    self.model_samples(metric, model, text);
                }
            }
        }
    }

    /// Revisions are no versions: they have metrics of their own.
    fn versions(&self, metric: &str, text: &mut String) {
        let names = self.table.known_names();
        for name in names.filter(|_| !self.table.has_namespaces()) {
            let statuses = self.table.version_statuses(name);
            let name = escape(name);
            for state in ["available", "loading", "unloading", "failed"] {
                let is_in = |status: &&VersionStatus| state_label(status) == Some(state);
                let n_versions = statuses.iter().filter(is_in).count();
                line(
                    text,
                    format_args!("{metric}{{model=\"{name}\",state=\"{state}\"}} {n_versions}"),
                );
            }
        }
    }

    fn model_samples(&self, metric: Metric, model: &ServedModel, text: &mut String) {
        let name = metric.name();
        let labels = model.labels();
        let statistics = model.statistics();
        let loaded = model.loaded();
        match metric {
            Metric::Requests => {
                for protocol in Protocol::ALL {
                    for outcome in outcomes() {
                        let count = statistics.requests(protocol, outcome);
                        // A series appears with its first event; the successes are there from the start.
                        if count > 0 || outcome.is_ok() {
                            let (protocol, code) = (protocol.as_str(), outcome_label(outcome));
                            line(
                                text,
                                format_args!(
                                    "{name}{{{labels},protocol=\"{protocol}\",code=\"{code}\"}} {count}"
                                ),
                            );
                        }
                    }
                }
            }
            Metric::RequestDuration => histogram(name, model, text),
            Metric::RequestsInFlight => line(
                text,
                format_args!("{name}{{{labels}}} {}", statistics.in_flight()),
            ),
            Metric::ModelMemory => line(
                text,
                format_args!("{name}{{{labels}}} {}", model.memory_bytes()),
            ),
            Metric::ModelReady => line(
                text,
                format_args!(
                    "{name}{{{labels}}} {}",
                    u8::from(self.ready && model.trouble().is_none())
                ),
            ),
            Metric::ModelDecodeCost
            | Metric::ModelRunCost
            | Metric::ModelCalls
            | Metric::ModelRuns
            | Metric::ModelPanics => execution_samples(metric, model, text),
            Metric::ModelCompute => {
                let seconds = statistics.compute_time().as_secs_f64();
                line(text, format_args!("{name}{{{labels}}} {seconds}"));
            }
            Metric::ModelLoad => {
                let phases = loaded.map(|loaded| loaded.phases());
                for (phase, time) in phases.iter().flat_map(LoadPhases::named) {
                    let seconds = time.as_secs_f64();
                    line(
                        text,
                        format_args!("{name}{{{labels},phase=\"{phase}\"}} {seconds}"),
                    );
                }
            }
            Metric::HttpResponses
            | Metric::Connections
            | Metric::ConnectionsRefused
            | Metric::LogLinesDropped
            | Metric::ModelVersions
            | Metric::BuildInfo => {}
        }
    }
}

/// Returns what a version is counted as; one that was let go of is not.
fn state_label(status: &VersionStatus) -> Option<&'static str> {
    match (status.state, &status.failure) {
        (VersionState::Available, _) => Some("available"),
        (VersionState::Start | VersionState::Loading, _) => Some("loading"),
        (VersionState::Unloading, _) => Some("unloading"),
        (VersionState::End, Some(_)) => Some("failed"),
        (VersionState::End, None) => None,
    }
}

/// Appends what tells how and where calls run.
fn execution_samples(metric: Metric, model: &ServedModel, text: &mut String) {
    let (name, labels) = (metric.name(), model.labels());
    match metric {
        Metric::ModelDecodeCost => {
            let seconds = model.cost().decode_ns_per_byte() / 1e9;
            line(text, format_args!("{name}{{{labels}}} {seconds:e}"));
        }
        Metric::ModelRunCost => {
            for (n_rows, ns) in model.cost().run_ns_per_row() {
                let seconds = ns / 1e9;
                line(
                    text,
                    format_args!("{name}{{{labels},rows=\"{n_rows}\"}} {seconds:e}"),
                );
            }
        }
        Metric::ModelCalls => {
            let totals = model.statistics().inferences().totals();
            let places = [
                ("event_loop", totals.count.saturating_sub(totals.n_pooled)),
                ("compute_pool", totals.n_pooled),
            ];
            for (place, n_calls) in places {
                line(
                    text,
                    format_args!("{name}{{{labels},place=\"{place}\"}} {n_calls}"),
                );
            }
        }
        Metric::ModelRuns => {
            let n_runs = model.statistics().inferences().totals().n_runs();
            line(text, format_args!("{name}{{{labels}}} {n_runs}"));
        }
        _ => line(
            text,
            format_args!("{name}{{{labels}}} {}", model.n_panics()),
        ),
    }
}

fn histogram(name: &str, model: &ServedModel, text: &mut String) {
    let labels = model.labels();
    let buckets = model.statistics().latency_buckets();
    let mut cumulative = 0;
    for (index, count) in buckets.iter().enumerate() {
        cumulative += count;
        let bound = LATENCY_BOUNDS_NS.get(index).map_or_else(
            || "+Inf".to_owned(),
            |&bound| Duration::from_nanos(bound).as_secs_f64().to_string(),
        );
        line(
            text,
            format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {cumulative}"),
        );
    }
    let sum = model.statistics().latency_sum().as_secs_f64();
    line(text, format_args!("{name}_sum{{{labels}}} {sum}"));
    line(text, format_args!("{name}_count{{{labels}}} {cumulative}"));
}

/// Appends a line; writing to memory cannot fail.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{arguments}");
    debug_assert!(written.is_ok(), "a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_announced_once() {
        let text = MetricsText {
            table: &ModelTable::default(),
            http: &HttpStatistics::new(),
            ready: true,
            version: "1.2.3",
        }
        .render();
        for metric in Metric::ALL {
            let announcement = format!("# TYPE {} ", metric.name());
            assert_eq!(text.matches(&announcement).count(), 1, "{announcement}");
            assert!(metric.name().starts_with("coracle_"));
            assert_eq!(
                metric.name().ends_with("_total"),
                metric.kind() == MetricKind::Counter
            );
        }
        assert!(text.contains("coracle_build_info{version=\"1.2.3\"} 1\n"));
    }
}
