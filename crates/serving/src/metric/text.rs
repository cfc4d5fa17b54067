//! The metrics as text: Prometheus' format, or OpenMetrics with exemplars.

use std::fmt::{self, Write};
use std::ops::Range;
use std::time::Duration;

use coracle_base::VersionState;

use super::{Metric, MetricKind, budget, cache, experiment, flow, shadow};
use crate::exemplar::Exemplar;
use crate::experiment::ExperimentFigures;
use crate::histogram::{Bound, HistogramTotals, ROW_BOUNDS, TIME_BOUNDS};
use crate::inference_counters::Phase;
use crate::served_model::escape;
use crate::statistics::{outcome_label, outcomes};
use crate::{
    Chaos, ExportCounters, ExportLoss, ExportStatistics, HttpStatistics, LoadPhases, MemoryBudget,
    ModelTable, Protocol, Rejection, ServedModel, ShadowFigures, VersionStatus,
};

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0, which has exemplars.
    OpenMetrics,
}

/// The metrics of a server as text.
#[derive(Debug)]
pub struct MetricsText<'a> {
    /// The models.
    pub table: &'a ModelTable,
    /// The HTTP layer.
    pub http: &'a HttpStatistics,
    /// What leaves the server besides answers.
    pub exports: &'a ExportStatistics,
    /// The memory budget, where there is one.
    pub budget: Option<&'a MemoryBudget>,
    /// What services with shadows come to.
    pub shadows: &'a [ShadowFigures],
    /// What experiments come to.
    pub experiments: &'a [ExperimentFigures],
    /// Faults on purpose, where there may be some.
    pub chaos: Option<&'a Chaos>,
    /// Whether the server takes requests.
    pub ready: bool,
    /// The version of the program.
    pub version: &'a str,
    /// The format.
    pub exposition: Exposition,
}

/// Models whose samples of one metric are one part of the text.
const PART_MODELS: usize = 32;

/// What a histogram's values are.
#[derive(Clone, Copy)]
enum Unit {
    /// Seconds, counted in ns.
    Seconds,
    Rows,
}

impl MetricsText<'_> {
    /// Returns the text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(4096);
        self.parts().for_each(|part| text.push_str(&part));
        text
    }

    /// Returns the text in parts, each made when it is asked for: with thousands of models an event loop has other things
    /// to do in between.
    pub fn parts(&self) -> impl Iterator<Item = String> {
        let models: Vec<&ServedModel> = self.table.iter().collect();
        let n_parts = models.len().div_ceil(PART_MODELS).max(1);
        let parts = Metric::ALL
            .into_iter()
            .flat_map(move |metric| (0..n_parts).map(move |part| (metric, part)));
        let parts = parts.map(move |(metric, part)| {
            let mut text = String::new();
            if part == 0 {
                self.announce(metric, &mut text);
                self.server_samples(metric, &mut text);
            }
            let Range { start, end } = part * PART_MODELS..(part + 1) * PART_MODELS;
            for model in &models[start.min(models.len())..end.min(models.len())] {
                self.model_samples(metric, model, &mut text);
            }
            text
        });
        let end = (self.exposition == Exposition::OpenMetrics).then(|| "# EOF\n".to_owned());
        parts.chain(end)
    }

    fn announce(&self, metric: Metric, text: &mut String) {
        let name = match self.exposition {
            Exposition::Prometheus => metric.name(),
            Exposition::OpenMetrics => metric.family(),
        };
        line(text, format_args!("# HELP {name} {}", metric.help()));
        let kind = metric.kind().as_str();
        line(text, format_args!("# TYPE {name} {kind}"));
    }

    fn server_samples(&self, metric: Metric, text: &mut String) {
        let name = metric.name();
        let single = match metric {
            Metric::HttpResponses => {
                for class in 1..=5 {
                    let count = self.http.responses(class);
                    line(text, format_args!("{name}{{status=\"{class}xx\"}} {count}"));
                }
                return;
            }
            Metric::BuildInfo => {
                let version = self.version;
                return line(text, format_args!("{name}{{version=\"{version}\"}} 1"));
            }
            Metric::ModelVersions => return self.versions(name, text),
            Metric::Connections => self.http.connections(),
            Metric::ConnectionsRefused => self.http.refused(),
            Metric::LogLinesDropped => self.http.log_lines_dropped(),
            Metric::Payloads => self.exports.payloads.sent(),
            Metric::PayloadsLost => return lost(name, &self.exports.payloads, text),
            Metric::PayloadsWaiting => self.exports.payloads.held_bytes(),
            Metric::Spans => self.exports.spans.sent(),
            Metric::SpansLost => return lost(name, &self.exports.spans, text),
            Metric::ChaosFaults | Metric::ChaosTargets => {
                if let Some(chaos) = self.chaos {
                    shadow::chaos_samples(metric, chaos, text);
                }
                return;
            }
            _ => {
                shadow::samples(metric, self.shadows, text);
                flow::samples(metric, self.table, text);
                experiment::samples(metric, self.experiments, text);
                if let Some(budget) = self.budget {
                    budget::samples(metric, budget, text);
                }
                return;
            }
        };
        line(text, format_args!("{name} {single}"));
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
        if metric.kind() == MetricKind::Histogram {
            return self.histogram(metric, model, text);
        }
        if let Some(cache) = model.response_cache() {
            cache::samples(metric, cache, model.labels(), text);
        }
        if let Some(fallback) = model.counted_fallback() {
            let number = match metric {
                Metric::Fallbacks => Some(fallback.n_fallbacks()),
                Metric::Retries => Some(fallback.n_retries()),
                Metric::Hedges => Some(fallback.n_hedges().0),
                Metric::HedgesWon => Some(fallback.n_hedges().1),
                _ => None,
            };
            if let Some(number) = number {
                let (name, labels) = (metric.name(), model.labels());
                return line(text, format_args!("{name}{{{labels}}} {number}"));
            }
        }
        let (name, labels) = (metric.name(), model.labels());
        let statistics = model.statistics();
        let seconds: f64 = match metric {
            Metric::Requests => return requests(name, model, text),
            Metric::Rejections => return rejections(name, model, text),
            Metric::ModelLoad => return load(name, model, text),
            Metric::ModelRunCost => return run_costs(name, model, text),
            Metric::ModelCalls => return calls(name, model, text),
            Metric::ModelDecodeCost => model.cost().decode_ns_per_byte() / 1e9,
            Metric::ModelCompute => statistics.compute_time().as_secs_f64(),
            _ => {
                let number = match metric {
                    Metric::RequestsInFlight => statistics.in_flight(),
                    Metric::RequestsWaiting => u64::try_from(model.n_waiting()).unwrap_or(u64::MAX),
                    Metric::ModelMemory => model.memory_bytes(),
                    Metric::ModelReady => u64::from(self.ready && model.trouble().is_none()),
                    Metric::ModelRuns => statistics.inferences().totals().n_runs(),
                    Metric::ModelPanics => model.n_panics(),
                    Metric::ModelLoaded => u64::from(model.is_loaded()),
                    _ => return,
                };
                return line(text, format_args!("{name}{{{labels}}} {number}"));
            }
        };
        line(text, format_args!("{name}{{{labels}}} {seconds:e}"));
    }

    /// Appends a histogram; nothing for a model that was never asked, since there may be thousands of them.
    fn histogram(&self, metric: Metric, model: &ServedModel, text: &mut String) {
        let (statistics, inferences) = (model.statistics(), model.statistics().inferences());
        let (totals, bounds, unit): (_, &[Bound], _) = match metric {
            Metric::RequestDuration => (statistics.latency(), &TIME_BOUNDS, Unit::Seconds),
            Metric::QueueDuration => (inferences.phase(Phase::Queue), &TIME_BOUNDS, Unit::Seconds),
            Metric::ParseDuration => (inferences.phase(Phase::Decode), &TIME_BOUNDS, Unit::Seconds),
            Metric::ComputeDuration => (inferences.phase(Phase::Run), &TIME_BOUNDS, Unit::Seconds),
            Metric::RenderDuration => {
                (inferences.phase(Phase::Encode), &TIME_BOUNDS, Unit::Seconds)
            }
            Metric::BatchRows => (inferences.runs(), &ROW_BOUNDS, Unit::Rows),
            _ => return,
        };
        if totals.count() == 0 {
            return;
        }
        let has_exemplars =
            self.exposition == Exposition::OpenMetrics && metric == Metric::RequestDuration;
        let exemplar = |bucket| has_exemplars.then(|| statistics.exemplar(bucket)).flatten();
        buckets(
            metric.name(),
            model.labels(),
            (&totals, bounds, unit),
            exemplar,
            text,
        );
    }
}

/// Appends the samples of a histogram that has some.
fn buckets(
    name: &str,
    labels: &str,
    (totals, bounds, unit): (&HistogramTotals, &[Bound], Unit),
    exemplar: impl Fn(usize) -> Option<Exemplar>,
    text: &mut String,
) {
    let labels_of_bounds = bounds.iter().map(|bound| bound.label).chain(["+Inf"]);
    let mut cumulative = 0;
    for (bucket, (count, bound)) in totals.buckets.iter().zip(labels_of_bounds).enumerate() {
        cumulative += count;
        let exemplar = exemplar(bucket).map(Shown);
        let exemplar: &dyn fmt::Display = match &exemplar {
            Some(exemplar) => exemplar,
            None => &"",
        };
        line(
            text,
            format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {cumulative}{exemplar}"),
        );
    }
    match unit {
        Unit::Seconds => {
            let sum = Duration::from_nanos(totals.sum).as_secs_f64();
            line(text, format_args!("{name}_sum{{{labels}}} {sum:e}"));
        }
        Unit::Rows => line(text, format_args!("{name}_sum{{{labels}}} {}", totals.sum)),
    }
    line(text, format_args!("{name}_count{{{labels}}} {cumulative}"));
}

/// An exemplar as OpenMetrics has it after a sample.
struct Shown(Exemplar);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exemplar {
            trace,
            value_ns,
            at,
        } = self.0;
        let seconds = Duration::from_nanos(value_ns).as_secs_f64();
        let (at_s, at_ms) = (at.as_secs(), at.subsec_millis());
        write!(
            f,
            " # {{trace_id=\"{trace}\"}} {seconds:e} {at_s}.{at_ms:03}"
        )
    }
}

fn requests(name: &str, model: &ServedModel, text: &mut String) {
    let (statistics, labels) = (model.statistics(), model.labels());
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

fn run_costs(name: &str, model: &ServedModel, text: &mut String) {
    let labels = model.labels();
    for (n_rows, ns) in model.cost().run_ns_per_row() {
        let seconds = ns / 1e9;
        line(
            text,
            format_args!("{name}{{{labels},rows=\"{n_rows}\"}} {seconds:e}"),
        );
    }
}

fn calls(name: &str, model: &ServedModel, text: &mut String) {
    let (labels, totals) = (model.labels(), model.statistics().inferences().totals());
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

fn rejections(name: &str, model: &ServedModel, text: &mut String) {
    let labels = model.labels();
    for rejection in Rejection::ALL {
        let count = model.statistics().rejections(rejection);
        if count > 0 {
            let reason = rejection.as_str();
            line(
                text,
                format_args!("{name}{{{labels},reason=\"{reason}\"}} {count}"),
            );
        }
    }
}

fn lost(name: &str, counters: &ExportCounters, text: &mut String) {
    for loss in ExportLoss::ALL {
        let (reason, count) = (loss.as_str(), counters.lost(loss));
        line(text, format_args!("{name}{{reason=\"{reason}\"}} {count}"));
    }
}

fn load(name: &str, model: &ServedModel, text: &mut String) {
    let labels = model.labels();
    let phases = model.loaded().map(|loaded| loaded.phases());
    for (phase, time) in phases.iter().flat_map(LoadPhases::named) {
        let seconds = time.as_secs_f64();
        line(
            text,
            format_args!("{name}{{{labels},phase=\"{phase}\"}} {seconds:e}"),
        );
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

/// Appends a line; writing to memory cannot fail.
pub(super) fn line(text: &mut String, arguments: fmt::Arguments<'_>) {
    let written = writeln!(text, "{arguments}");
    debug_assert!(written.is_ok(), "a String takes every write");
}

#[cfg(test)]
mod tests {
    use coracle_base::ManualClock;

    use super::*;
    use crate::served_model::tests::served;
    use crate::{Inference, TraceId, Writer};

    fn text(table: &ModelTable, exposition: Exposition) -> String {
        MetricsText {
            table,
            http: &HttpStatistics::new(1),
            exports: &ExportStatistics::default(),
            budget: None,
            shadows: &[],
            experiments: &[],
            chaos: None,
            ready: true,
            version: "1.2.3",
            exposition,
        }
        .render()
    }

    #[test]
    fn the_help_of_fallbacks_names_whatever_stands_in() {
        let help = Metric::Fallbacks.help();
        for kind in ["revision", "service", "last good", "default prediction"] {
            assert!(help.contains(kind), "{help}");
        }
    }

    #[test]
    fn every_metric_is_announced_once() {
        let table = ModelTable::default();
        let prometheus = text(&table, Exposition::Prometheus);
        let open_metrics = text(&table, Exposition::OpenMetrics);
        for metric in Metric::ALL {
            for (text, name) in [
                (&prometheus, metric.name()),
                (&open_metrics, metric.family()),
            ] {
                let announcement = format!("# TYPE {name} ");
                assert_eq!(text.matches(&announcement).count(), 1, "{announcement}");
            }
            assert!(metric.name().starts_with("coracle_"));
            assert_eq!(
                metric.name().ends_with("_total"),
                metric.kind() == MetricKind::Counter
            );
        }
        assert!(prometheus.contains("coracle_build_info{version=\"1.2.3\"} 1\n"));
        assert!(open_metrics.ends_with("\n# EOF\n") && !prometheus.contains("# EOF"));
    }

    #[test]
    fn traces_are_examples_of_latencies_in_open_metrics_only() {
        let model = served("m", false);
        let ms = Duration::from_millis;
        let clock = ManualClock::new();
        let call = model.statistics().start(0, ms(0), &clock);
        let trace = TraceId::new(0xabc).unwrap();
        call.exemplify(trace, ms(7), ms(1_700_000_000_123));
        call.finish(Protocol::V2, Ok(()), ms(7));
        let table = ModelTable::try_new([model]).unwrap();
        let bucket =
            "coracle_request_duration_seconds_bucket{model=\"m\",version=\"1\",le=\"0.01\"} 1";
        let open_metrics = text(&table, Exposition::OpenMetrics);
        let trace = format!("{:0>32}", "abc");
        let example = format!("{bucket} # {{trace_id=\"{trace}\"}} 7e-3 1700000000.123\n");
        assert!(open_metrics.contains(&example), "{open_metrics}");
        assert_eq!(open_metrics.matches("trace_id").count(), 1);
        let prometheus = text(&table, Exposition::Prometheus);
        assert!(prometheus.contains(&format!("{bucket}\n")), "{prometheus}");
        assert!(!prometheus.contains("trace_id"));
    }

    #[test]
    fn series_of_models_have_their_label_and_no_others() {
        let table = ModelTable::try_new([served("m", false)]).unwrap();
        let text = text(&table, Exposition::Prometheus);
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        for sample in samples {
            let name = sample.split(['{', ' ']).next().unwrap();
            let metric = Metric::ALL.into_iter().find(|metric| metric.name() == name);
            let is_labelled = sample.contains("model=\"m\"");
            assert_eq!(is_labelled, metric.unwrap().is_of_models(), "{sample}");
        }
    }

    #[test]
    fn models_that_were_never_asked_have_no_histograms() {
        let names = (0..100).map(|index| format!("model-{index:03}"));
        let models: Vec<ServedModel> = names.map(|name| served(&name, false)).collect();
        let counters = models[70].statistics().inferences();
        counters.ran(Writer::Other, 3);
        counters.add(Writer::EventLoop(0), Inference::default());
        let table = ModelTable::try_new(models).unwrap();
        let text = text(&table, Exposition::Prometheus);
        let n_lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!(n_lines("coracle_batch_rows_count{model=\"model-070\""), 1);
        assert_eq!(n_lines("coracle_batch_rows_bucket"), ROW_BOUNDS.len() + 1);
        assert_eq!(n_lines("_duration_seconds_count"), 4);
        assert_eq!(n_lines("coracle_model_ready{"), 100);
    }
}
