//! `cargo xtask dashboard`: writes the Grafana dashboard, made of the metrics that there are.
//!
//! `rows` says which panels there are and what they ask; a metric that no panel shows gets one of its own at the end, so that
//! the dashboard is whole whatever is added.

mod rows;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coracle_serving::{Metric, MetricKind};
use serde_json::{Value, json};

use rows::{Panel, Row, rows};

/// Where the dashboard is kept.
fn path(root: &Path) -> PathBuf {
    root.join("docs/grafana/coracle.json")
}

/// Writes the dashboard.
pub(crate) fn write(root: &Path) -> Result<()> {
    let path = path(root);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::write(&path, text()).with_context(|| path.display().to_string())?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Returns the dashboard's text.
fn text() -> String {
    // `Value` keeps its keys in order, so equal dashboards are equal texts.
    format!("{:#}\n", dashboard())
}

fn dashboard() -> Value {
    let mut panels = Vec::new();
    let (mut y, mut id) = (0, 0);
    for row in all_rows() {
        id += 1;
        panels.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}
        }));
        y += 1;
        let mut x = 0;
        let height = Panel::height();
        for panel in &row.panels {
            if x + panel.width() > 24 {
                x = 0;
                y += height;
            }
            id += 1;
            panels.push(panel.to_json(id, (x, y)));
            x += panel.width();
        }
        y += height;
    }
    json!({
        "uid": "coracle",
        "title": "Coracle",
        "description": "Requests, latencies, models and what they use. Written by `cargo xtask dashboard`.",
        "tags": ["coracle", "model-serving"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
            variable("instance", Metric::BuildInfo),
            variable("model", Metric::ModelReady),
        ]},
        "panels": panels
    })
}

/// Returns a variable of the values of a metric's label.
fn variable(label: &str, metric: Metric) -> Value {
    let query = format!("label_values({}, {label})", metric.name());
    json!({
        "name": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "definition": query,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "sort": 1,
        "multi": true,
        "includeAll": true,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"}
    })
}

/// Returns the rows, and one of what none of them shows.
fn all_rows() -> Vec<Row> {
    let mut rows = rows();
    let shown = |metric: &Metric| {
        let panels = rows.iter().flat_map(|row| &row.panels);
        let names = panels.flat_map(|panel| &panel.queries);
        names
            .flat_map(|query| names_in(&query.expr))
            .any(|name| is_of(&name, *metric))
    };
    let others: Vec<Metric> = Metric::ALL
        .into_iter()
        .filter(|metric| !shown(metric))
        .collect();
    if !others.is_empty() {
        rows.push(Row {
            title: "Other",
            panels: others.into_iter().map(Panel::of).collect(),
        });
    }
    rows
}

/// Returns the names of metrics in an expression.
fn names_in(expr: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expr.split(|c: char| !is_word(c));
    let names = words.filter(|word| word.starts_with("coracle_"));
    names.map(str::to_owned).collect()
}

/// Tells whether a name is of one of a metric's samples.
fn is_of(name: &str, metric: Metric) -> bool {
    match (metric.kind(), name.strip_prefix(metric.name())) {
        (MetricKind::Histogram, Some(rest)) => ["_bucket", "_sum", "_count"].contains(&rest),
        (_, Some(rest)) => rest.is_empty(),
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_dashboard_is_the_one_that_is_written() {
        let root = crate::command::workspace_root();
        let committed = fs::read_to_string(path(&root)).unwrap();
        assert!(
            committed == text(),
            "docs/grafana/coracle.json is not what the metrics make of it; run `cargo xtask dashboard`"
        );
    }

    #[test]
    fn every_expression_is_of_metrics_that_there_are_and_every_metric_is_shown() {
        let rows = all_rows();
        let panels = rows.iter().flat_map(|row| &row.panels);
        let exprs: Vec<&str> = panels
            .flat_map(|panel| &panel.queries)
            .map(|query| query.expr.as_str())
            .collect();
        for expr in &exprs {
            let names = names_in(expr);
            assert!(!names.is_empty(), "{expr}");
            for name in names {
                let metric = Metric::ALL.into_iter().find(|metric| is_of(&name, *metric));
                let metric = metric.unwrap_or_else(|| panic!("no metric has {name}: {expr}"));
                // What only grows is shown by its growth, everything else as it is.
                let grows = format!("rate({name}{{");
                let is_gauge = metric.kind() == MetricKind::Gauge;
                assert_eq!(expr.contains(&grows), !is_gauge, "{expr}");
            }
            let opened = expr.matches('(').count();
            assert_eq!(opened, expr.matches(')').count(), "{expr}");
        }
        for metric in Metric::ALL {
            let is_shown = |expr: &&str| names_in(expr).iter().any(|name| is_of(name, metric));
            assert!(exprs.iter().any(is_shown), "{metric:?}");
        }
    }
}
