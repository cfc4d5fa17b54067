//! The panels of the dashboard and what they ask.

use coracle_serving::{Metric, MetricKind};
use serde_json::{Value, json};

/// Panels under one heading.
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// What a panel asks Prometheus, and how the answers are called.
pub(super) struct Query {
    pub(super) expr: String,
    legend: &'static str,
    has_exemplars: bool,
}

/// How a panel shows what it is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Number,
}

/// A panel.
pub(super) struct Panel {
    title: String,
    description: String,
    unit: &'static str,
    form: Form,
    pub(super) queries: Vec<Query>,
}

/// What is asked of all series of a server.
const SERVER: &str = "instance=~\"$instance\"";
/// What is asked of all series of the models that are chosen.
const MODELS: &str = "instance=~\"$instance\",model=~\"$model\"";

/// Returns what is asked of a metric's series.
fn labels(metric: Metric) -> &'static str {
    if metric.is_of_models() {
        MODELS
    } else {
        SERVER
    }
}

fn query(expr: String, legend: &'static str) -> Query {
    Query {
        expr,
        legend,
        has_exemplars: false,
    }
}

/// Returns the growth per second of a counter, by these labels.
fn rate(metric: Metric, by: &str, legend: &'static str) -> Query {
    let (name, labels) = (metric.name(), labels(metric));
    let by = match by {
        "" => String::new(),
        by => format!(" by ({by})"),
    };
    query(
        format!("sum{by} (rate({name}{{{labels}}}[$__rate_interval]))"),
        legend,
    )
}

/// Returns a gauge, summed by these labels.
fn sum(metric: Metric, by: &str, legend: &'static str) -> Query {
    let (name, labels) = (metric.name(), labels(metric));
    query(format!("sum by ({by}) ({name}{{{labels}}})"), legend)
}

/// Returns the greatest of a gauge by these labels.
fn most(metric: Metric, by: &str, legend: &'static str) -> Query {
    let (name, labels) = (metric.name(), labels(metric));
    query(format!("max by ({by}) ({name}{{{labels}}})"), legend)
}

/// Returns a quantile of a histogram, by these labels besides its bounds.
fn quantile(metric: Metric, share: &str, by: &str, legend: &'static str) -> Query {
    let (name, labels) = (metric.name(), labels(metric));
    let by = match by {
        "" => "le".to_owned(),
        by => format!("le, {by}"),
    };
    Query {
        has_exemplars: metric == Metric::RequestDuration,
        ..query(
            format!(
                "histogram_quantile({share}, sum by ({by}) (rate({name}_bucket{{{labels}}}[$__rate_interval])))"
            ),
            legend,
        )
    }
}

/// Returns the mean of a histogram, by model.
fn mean(metric: Metric, legend: &'static str) -> Query {
    let (name, labels) = (metric.name(), labels(metric));
    let grown =
        |part: &str| format!("sum by (model) (rate({name}_{part}{{{labels}}}[$__rate_interval]))");
    query(format!("{} / {}", grown("sum"), grown("count")), legend)
}

fn lines(title: &str, unit: &'static str, queries: Vec<Query>) -> Panel {
    Panel {
        title: title.to_owned(),
        description: String::new(),
        unit,
        form: Form::Lines,
        queries,
    }
}

fn number(title: &str, unit: &'static str, query: Query) -> Panel {
    Panel {
        form: Form::Number,
        ..lines(title, unit, vec![query])
    }
}

/// Returns the rows of the dashboard.
pub(super) fn rows() -> Vec<Row> {
    vec![overview(), latency(), load(), models(), server()]
}

fn overview() -> Row {
    let requests = Metric::Requests.name();
    let growth = |more: &str| format!("sum(rate({requests}{{{MODELS}{more}}}[$__rate_interval]))");
    let failed = format!("{} / {}", growth(",code!=\"ok\""), growth(""));
    Row {
        title: "Overview",
        panels: vec![
            number("Requests", "reqps", rate(Metric::Requests, "", "requests")),
            number("Failed", "percentunit", query(failed, "failed")),
            number(
                "p99",
                "s",
                quantile(Metric::RequestDuration, "0.99", "", "p99"),
            ),
            number(
                "Models ready",
                "none",
                query(
                    format!("sum({}{{{MODELS}}})", Metric::ModelReady.name()),
                    "ready",
                ),
            ),
            lines(
                "Requests by model and code",
                "reqps",
                vec![rate(Metric::Requests, "model, code", "{{model}} {{code}}")],
            ),
            lines(
                "Rejections by reason",
                "reqps",
                vec![rate(
                    Metric::Rejections,
                    "model, reason",
                    "{{model}} {{reason}}",
                )],
            ),
        ],
    }
}

fn latency() -> Row {
    let total = Metric::RequestDuration;
    let phases = |share| {
        vec![
            quantile(Metric::QueueDuration, share, "", "queue"),
            quantile(Metric::ParseDuration, share, "", "parse"),
            quantile(Metric::ComputeDuration, share, "", "compute"),
            quantile(Metric::RenderDuration, share, "", "render"),
            quantile(total, share, "", "total"),
        ]
    };
    Row {
        title: "Latency",
        panels: vec![
            lines(
                "Latency",
                "s",
                vec![
                    quantile(total, "0.5", "", "p50"),
                    quantile(total, "0.9", "", "p90"),
                    quantile(total, "0.99", "", "p99"),
                ],
            ),
            lines(
                "p99 by model",
                "s",
                vec![quantile(total, "0.99", "model", "{{model}}")],
            ),
            lines("p50 by phase", "s", phases("0.5")),
            lines("p99 by phase", "s", phases("0.99")),
        ],
    }
}

fn load() -> Row {
    Row {
        title: "Load",
        panels: vec![
            lines(
                "In flight",
                "none",
                vec![sum(Metric::RequestsInFlight, "model", "{{model}}")],
            ),
            lines(
                "Waiting",
                "none",
                vec![sum(Metric::RequestsWaiting, "model", "{{model}}")],
            ),
            lines(
                "Processors spent on calls",
                "none",
                vec![rate(Metric::ModelCompute, "model", "{{model}}")],
            ),
            lines(
                "Rows of a run",
                "none",
                vec![
                    mean(Metric::BatchRows, "mean {{model}}"),
                    quantile(Metric::BatchRows, "0.99", "model", "p99 {{model}}"),
                ],
            ),
            lines(
                "Where calls run",
                "reqps",
                vec![
                    rate(Metric::ModelCalls, "place", "{{place}}"),
                    rate(Metric::ModelRuns, "", "runs"),
                ],
            ),
            lines(
                "Panics",
                "reqps",
                vec![rate(Metric::ModelPanics, "model", "{{model}}")],
            ),
        ],
    }
}

fn models() -> Row {
    Row {
        title: "Models",
        panels: vec![
            lines(
                "Memory",
                "bytes",
                vec![sum(Metric::ModelMemory, "model", "{{model}}")],
            ),
            lines(
                "Ready, in memory",
                "none",
                vec![
                    sum(Metric::ModelReady, "model", "ready {{model}}"),
                    sum(Metric::ModelLoaded, "model", "in memory {{model}}"),
                ],
            ),
            lines(
                "Time of the last load by phase",
                "s",
                vec![most(
                    Metric::ModelLoad,
                    "model, phase",
                    "{{model}} {{phase}}",
                )],
            ),
            lines(
                "Versions by state",
                "none",
                vec![sum(
                    Metric::ModelVersions,
                    "model, state",
                    "{{model}} {{state}}",
                )],
            ),
        ],
    }
}

fn server() -> Row {
    Row {
        title: "Server",
        panels: vec![
            lines(
                "HTTP answers by status class",
                "reqps",
                vec![rate(Metric::HttpResponses, "status", "{{status}}")],
            ),
            lines(
                "Connections",
                "none",
                vec![sum(Metric::Connections, "instance", "{{instance}}")],
            ),
            lines(
                "Payloads and spans",
                "ops",
                vec![
                    rate(Metric::Payloads, "", "payloads recorded"),
                    rate(Metric::PayloadsLost, "reason", "payloads lost {{reason}}"),
                    rate(Metric::Spans, "", "spans sent"),
                    rate(Metric::SpansLost, "reason", "spans lost {{reason}}"),
                ],
            ),
            lines(
                "Turned away and lost",
                "ops",
                vec![
                    rate(Metric::ConnectionsRefused, "", "connections"),
                    rate(Metric::LogLinesDropped, "", "log lines"),
                ],
            ),
        ],
    }
}

impl Panel {
    /// Returns the panel of a metric that no other shows.
    pub(super) fn of(metric: Metric) -> Self {
        let (name, labels) = (metric.name(), labels(metric));
        let by_model = if labels == MODELS {
            "model"
        } else {
            "instance"
        };
        let unit = match name {
            name if name.contains("_seconds") => "s",
            name if name.contains("_bytes") => "bytes",
            _ => "none",
        };
        let (query, unit) = match metric.kind() {
            MetricKind::Counter => {
                let expr =
                    format!("sum by ({by_model}) (rate({name}{{{labels}}}[$__rate_interval]))");
                (query(expr, "__auto"), "ops")
            }
            MetricKind::Gauge => (query(format!("{name}{{{labels}}}"), "__auto"), unit),
            MetricKind::Histogram => (quantile(metric, "0.99", by_model, "__auto"), unit),
        };
        Self {
            description: metric.help().to_owned(),
            ..lines(name, unit, vec![query])
        }
    }

    pub(super) fn width(&self) -> u32 {
        match self.form {
            Form::Lines => 12,
            Form::Number => 6,
        }
    }

    pub(super) fn height() -> u32 {
        8
    }

    /// Returns it as Grafana has it.
    pub(super) fn to_json(&self, id: u32, (x, y): (u32, u32)) -> Value {
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        let targets = self.queries.iter().enumerate().map(|(index, query)| {
            json!({
                "refId": format!("Q{index}"),
                "datasource": source,
                "expr": query.expr,
                "legendFormat": query.legend,
                "exemplar": query.has_exemplars,
                "range": true,
            })
        });
        let targets: Vec<Value> = targets.collect();
        let mut panel = json!({
            "id": id,
            "title": self.title,
            "description": self.description,
            "datasource": source,
            "targets": targets,
            "gridPos": {"x": x, "y": y, "w": self.width(), "h": Self::height()},
            "fieldConfig": {"defaults": {"unit": self.unit, "min": 0}, "overrides": []},
        });
        match self.form {
            Form::Lines => {
                panel["type"] = "timeseries".into();
                panel["options"] = json!({
                    "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                    "tooltip": {"mode": "multi", "sort": "desc"}
                });
            }
            Form::Number => {
                panel["type"] = "stat".into();
                panel["options"] =
                    json!({"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"});
            }
        }
        panel
    }
}
