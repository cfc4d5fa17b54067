//! What came of a run: a table for people, JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::plan::Level;
use crate::slo::Slo;
use crate::{Arrivals, Measured, ServerShare, Target};

/// One load, and what it measured.
#[derive(Clone, Debug)]
pub struct Run {
    /// The load.
    pub level: Level,
    /// When measuring began, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// Threads that made it.
    pub n_threads: usize,
    /// What the client saw.
    pub measured: Measured,
    /// What the server says, if it does.
    pub server: Option<ServerShare>,
    /// Why the objective of a search was not kept.
    pub broken: Option<String>,
}

/// The answer of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SloAnswer {
    /// The objective.
    pub slo: Slo,
    /// The highest rate that kept it.
    pub kept: Option<f64>,
    /// The lowest rate that did not.
    pub broken: Option<f64>,
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// The model.
    pub target: Target,
    /// Where the bodies are from, in words.
    pub source: String,
    /// Rows of a request, where that is known.
    pub n_rows: Option<usize>,
    /// How many different bodies there are.
    pub n_bodies: usize,
    /// Bytes of a body, on average.
    pub body_bytes_mean: usize,
    /// How requests of an open loop followed one another.
    pub arrivals: Arrivals,
    /// The loads in order.
    pub runs: Vec<Run>,
    /// The answer of a search.
    pub slo: Option<SloAnswer>,
}

/// The percentiles that are told.
const PERCENTS: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];
/// From here on requests were handed on so late that the latencies are partly this machine's.
const LAG_P99_MAX_US: f64 = 1_000.0;

impl Run {
    /// Returns it in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let measured = &self.measured;
        let mut line = format!(
            "{}: {} requests/s, p50 {}, p99 {}",
            self.level,
            number(measured.requests_per_s()),
            time(measured.latency_us(50.0)),
            time(measured.latency_us(99.0))
        );
        if measured.n_failed > 0 {
            let _infallible = write!(line, ", {} failed", measured.n_failed);
        }
        if measured.n_unsent > 0 {
            let _infallible = write!(line, ", {} never sent", measured.n_unsent);
        }
        line
    }

    /// Returns how late 99 of a hundred requests of an open loop were handed on at most, in microseconds.
    #[must_use]
    pub fn lag_p99_us(&self) -> f64 {
        self.measured.lag_ns.value_at_quantile(0.99) as f64 / 1e3
    }

    fn to_json(&self, n_rows: Option<usize>) -> Value {
        let measured = &self.measured;
        let percentiles = |percent: f64| round(measured.latency_us(percent));
        let failures = measured.failures.iter();
        let failures = failures.map(|(kind, count, message)| {
            json!({"kind": kind.to_string(), "count": count, "first_message": message})
        });
        let load = match self.level {
            Level::Concurrency(n) => json!({"concurrency": n}),
            Level::Rate(rate) => json!({"rate_per_s": rate}),
        };
        json!({
            "load": load,
            "began_unix_ms": self.began_unix_ms,
            "threads": self.n_threads,
            "seconds": measured.window.as_secs_f64(),
            "answered": measured.n_ok,
            "failed": measured.n_failed,
            "never_sent": measured.n_unsent,
            "requests_per_s": round(measured.requests_per_s()),
            "rows_per_s": n_rows.map(|n_rows| round(measured.requests_per_s() * n_rows as f64)),
            "answer_bytes": measured.n_bytes,
            "latency_us": {
                "mean": round(measured.latency_mean_us()),
                "min": round(measured.latency_ns.min() as f64 / 1e3),
                "p50": percentiles(50.0), "p90": percentiles(90.0), "p95": percentiles(95.0),
                "p99": percentiles(99.0), "p99.9": percentiles(99.9),
                "max": round(measured.latency_ns.max() as f64 / 1e3),
            },
            "send_lag_p99_us": matches!(self.level, Level::Rate(_)).then(|| round(self.lag_p99_us())),
            "failures": failures.collect::<Vec<_>>(),
            "server": self.server.map(|server| json!({
                "requests": server.n_requests,
                "mean_us": {"queue": round(server.queue_us), "input": round(server.input_us), "infer": round(server.infer_us), "output": round(server.output_us)},
                "rows_per_execution": round(server.rows_per_execution),
            })),
            "objective_broken": self.broken,
            "timeline": self.timeline(),
        })
    }

    fn timeline(&self) -> Vec<Value> {
        let slot_s = self.measured.slot.as_secs_f64();
        let slots = self.measured.slots.iter().enumerate();
        let slots = slots.map(|(index, slot)| {
            let at =
                |quantile: f64| round(slot.latency_ns.value_at_quantile(quantile) as f64 / 1e3);
            json!({
                "from_s": round(index as f64 * slot_s),
                "answered": slot.n_ok,
                "failed": slot.n_failed,
                "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0),
            })
        });
        slots.collect()
    }
}

impl Report {
    /// Tells whether a request failed, or the objective of a search was never kept.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        match &self.slo {
            Some(answer) => answer.kept.is_none(),
            None => self.runs.iter().any(|run| run.measured.n_failed > 0),
        }
    }

    /// Returns it for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.title();
        text.push('\n');
        text.push_str(&aligned(&self.cells()));
        text.push_str(&self.notes());
        if let Some(answer) = &self.slo {
            text.push('\n');
            text.push_str(&self.answer(answer));
        }
        text
    }

    fn title(&self) -> String {
        let target = &self.target;
        let rows = match self.n_rows {
            Some(1) => "1 row a request, ".to_owned(),
            Some(n) => format!("{n} rows a request, "),
            None => String::new(),
        };
        let version = match target.version.as_str() {
            "" => String::new(),
            version => format!(" version {version}"),
        };
        let arrivals = match self.runs.first().map(|run| run.level) {
            Some(Level::Rate(_)) => format!("; {} arrivals", self.arrivals.name()),
            _ => String::new(),
        };
        format!(
            "{}{version} at {}, {}; {rows}{} different bodies of {} bytes ({}){arrivals}\n",
            target.model,
            target.base_url(),
            target.protocol(),
            self.n_bodies,
            self.body_bytes_mean,
            self.source,
        )
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let is_open = self
            .runs
            .iter()
            .any(|run| matches!(run.level, Level::Rate(_)));
        let has_rows = self.n_rows.is_some_and(|n_rows| n_rows > 1);
        let has_server = self.runs.iter().any(|run| run.server.is_some());
        let mut head = vec![if is_open { "rate" } else { "concurrency" }, "requests/s"];
        if has_rows {
            head.push("rows/s");
        }
        head.push("mean");
        head.extend(PERCENTS.map(|(name, _)| name));
        head.extend(["max", "failed"]);
        if has_server {
            head.extend(["server: queue", "input", "model", "output"]);
        }
        let mut cells = vec![head.into_iter().map(str::to_owned).collect()];
        for run in &self.runs {
            let measured = &run.measured;
            let mut line = vec![match run.level {
                Level::Concurrency(n) => n.to_string(),
                Level::Rate(rate) => number(rate),
            }];
            line.push(number(measured.requests_per_s()));
            if let Some(n_rows) = self.n_rows.filter(|_| has_rows) {
                line.push(number(measured.requests_per_s() * n_rows as f64));
            }
            line.push(time(measured.latency_mean_us()));
            line.extend(PERCENTS.map(|(_, percent)| time(measured.latency_us(percent))));
            line.push(time(measured.latency_ns.max() as f64 / 1e3));
            line.push((measured.n_failed + measured.n_unsent).to_string());
            if has_server {
                line.extend(match run.server {
                    Some(server) => [
                        server.queue_us,
                        server.input_us,
                        server.infer_us,
                        server.output_us,
                    ]
                    .map(time),
                    None => std::array::from_fn(|_| "-".to_owned()),
                });
            }
            cells.push(line);
        }
        cells
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        let mut note = |line: String| {
            notes.push_str(if notes.is_empty() { "\n" } else { "" });
            notes.push_str(&line);
            notes.push('\n');
        };
        for run in &self.runs {
            let measured = &run.measured;
            for (kind, count, message) in measured.failures.iter() {
                note(format!(
                    "{}: {count} failed with {kind}: {message}",
                    run.level
                ));
            }
            if measured.n_unsent > 0 {
                note(format!(
                    "{}: {} were never sent: every connection was busy until the end (--connections allows more)",
                    run.level, measured.n_unsent
                ));
            }
        }
        let late = self
            .runs
            .iter()
            .filter(|run| matches!(run.level, Level::Rate(_)));
        let late = late.filter(|run| run.lag_p99_us() > LAG_P99_MAX_US);
        if let Some(worst) = late
            .clone()
            .max_by(|a, b| a.lag_p99_us().total_cmp(&b.lag_p99_us()))
        {
            note(format!(
                "this machine was too busy to send in time at {} of {} rates: latencies hold its part (at {} one request in a hundred was {} late or more)",
                late.count(),
                self.runs.len(),
                worst.level,
                time(worst.lag_p99_us())
            ));
        }
        notes
    }

    fn answer(&self, answer: &SloAnswer) -> String {
        let slo = &answer.slo;
        let Some(kept) = answer.kept else {
            let why = self.runs.last().and_then(|run| run.broken.clone());
            return format!(
                "{slo} is not kept at any rate: {}\n",
                why.unwrap_or_default()
            );
        };
        let runs_at = |rate: f64| {
            self.runs
                .iter()
                .rev()
                .filter(move |run| run.level == Level::Rate(rate))
        };
        let mut text = format!("{slo} is kept up to {} requests/s", number(kept));
        if let Some(run) = runs_at(kept).find(|run| run.broken.is_none()) {
            let summary = run.summary();
            let seen = summary
                .split_once(": ")
                .map_or(summary.as_str(), |(_, seen)| seen);
            let _infallible = write!(text, " ({seen})");
        }
        if let Some(broken) = answer.broken {
            let why = runs_at(broken).find_map(|run| run.broken.clone());
            let why = why.unwrap_or_default();
            let _infallible = write!(text, "; at {}/s {why}", number(broken));
        }
        text.push('\n');
        text
    }

    /// Returns it for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "target": {
                "url": self.target.base_url(),
                "protocol": self.target.protocol().name(),
                "model": self.target.model,
                "version": self.target.version,
            },
            "requests": {
                "source": self.source,
                "rows": self.n_rows,
                "different_bodies": self.n_bodies,
                "body_bytes_mean": self.body_bytes_mean,
                "arrivals": self.arrivals.name(),
            },
            "runs": self.runs.iter().map(|run| run.to_json(self.n_rows)).collect::<Vec<_>>(),
            "objective": self.slo.as_ref().map(|answer| json!({
                "objective": answer.slo.to_string(),
                "kept_up_to_per_s": answer.kept,
                "broken_at_per_s": answer.broken,
            })),
        })
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Returns a number with commas between thousands; small ones with a decimal.
fn number(value: f64) -> String {
    if value < 100.0 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a time in a fitting unit.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        0.0 => "0".to_owned(),
        micros if micros < 10.0 => format!("{micros:.1} us"),
        micros if micros < 1e3 => format!("{micros:.0} us"),
        micros if micros < 1e4 => format!("{:.2} ms", micros / 1e3),
        micros if micros < 1e6 => format!("{:.1} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

/// Returns lines of cells as columns.
fn aligned(cells: &[Vec<String>]) -> String {
    let n_columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let lengths = cells.iter().filter_map(|line| line.get(column));
        lengths.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let mut text = String::new();
    for line in cells {
        for (cell, width) in line.iter().zip(&widths) {
            let _infallible = write!(text, "{cell:>width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        let numbers = [
            (0.0, "0"),
            (12.34, "12.3"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, shown) in numbers {
            assert_eq!(number(value), shown);
        }
        let times = [
            (0.0, "0"),
            (1.23, "1.2 us"),
            (152.4, "152 us"),
            (1_234.0, "1.23 ms"),
            (56_789.0, "56.8 ms"),
            (2.5e6, "2.50 s"),
        ];
        for (value, shown) in times {
            assert_eq!(time(value), shown);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let cells = [["a", "bb"], ["100", "2"]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(aligned(&cells), "  a  bb\n100   2\n");
    }
}
