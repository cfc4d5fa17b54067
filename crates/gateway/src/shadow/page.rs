//! A report as a page: no script, nothing from elsewhere, so that it can be saved and sent on.

use std::fmt::Write as _;

use crate::respond::escaped;

use super::report::{
    ColumnShown, Compared, ComparedOutput, LabelsShown, LatencyShown, NumbersShown, Report,
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2733}\
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.2rem .7rem;border-bottom:1px solid #d5dde5;text-align:right}\
td:first-child,th:first-child{text-align:left}.same{background:#dff2e1}.other{background:#fbe3dc}pre{white-space:pre-wrap;margin:0;text-align:left}\
small{color:#5b6b7a}svg text{font-size:11px;fill:#5b6b7a}";
/// The most labels of a matrix.
const MATRIX_MAX: usize = 12;
const PLOT_HEIGHT: f64 = 120.0;
const BAR_WIDTH: f64 = 16.0;

/// Returns reports as a page.
pub(super) fn page(reports: &[Report]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Shadows</title><style>{STYLE}</style></head><body>"
    );
    if reports.is_empty() {
        out.push_str("<p>No copies were sent to a shadow yet.</p>");
    }
    for report in reports {
        section(report, &mut out);
    }
    out.push_str("</body></html>\n");
    out
}

/// Appends a piece of markup.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        // Writing to a text cannot fail.
        let _infallible = write!($out, $($arg)*);
    };
}

fn section(report: &Report, out: &mut String) {
    let [namespace, service, shadow] =
        [&report.namespace, &report.service, &report.shadow].map(|text| escaped(text));
    put!(
        out,
        "<h1>{namespace}/{service} and its shadow {shadow}</h1>"
    );
    if report.lost > 0 {
        put!(
            out,
            "<p>{} copies were lost: the shadow is slower than what comes.</p>",
            report.lost
        );
    }
    for compared in report.comparisons.iter() {
        comparison(compared, out);
    }
}

fn comparison(compared: &Compared, out: &mut String) {
    let shadow = match compared.shadow.as_str() {
        "" => "no revision".to_owned(),
        shadow => escaped(shadow),
    };
    put!(
        out,
        "<h2>{} and {shadow}</h2><p>{} requests since {}</p><table>",
        escaped(&compared.stable),
        compared.requests,
        compared.since
    );
    for one in compared.outcomes.iter().filter(|one| one.count > 0) {
        put!(out, "<tr><td>{}</td><td>{}</td></tr>", one.name, one.count);
    }
    out.push_str("</table>");
    for one in &compared.failures {
        let name = escaped(&one.name);
        put!(out, "<p>failed {} times: {name}</p>", one.count);
    }
    out.push_str(
        "<table><tr><th>decode and run</th><th>mean</th><th>p50</th><th>p95</th><th>p99</th></tr>",
    );
    for (name, latency) in [
        ("stable", &compared.latency.stable),
        ("shadow", &compared.latency.shadow),
    ] {
        latency_row(name, latency, out);
    }
    out.push_str("</table><small>The shadow runs on a thread of the lowest priority: under load its times are rather too long.</small>");
    for output in &compared.outputs {
        output_section(output, out);
    }
    worst(compared, out);
}

fn latency_row(name: &str, latency: &LatencyShown, out: &mut String) {
    let times = [
        latency.mean_seconds,
        latency.p50_seconds,
        latency.p95_seconds,
        latency.p99_seconds,
    ];
    put!(out, "<tr><td>{name}</td>");
    for seconds in times {
        let shown = seconds.map_or_else(
            || "-".to_owned(),
            |seconds| format!("{:.3} ms", seconds * 1e3),
        );
        put!(out, "<td>{shown}</td>");
    }
    out.push_str("</tr>");
}

fn output_section(output: &ComparedOutput, out: &mut String) {
    let same = output.same_ratio.map_or_else(
        || "no rows".to_owned(),
        |ratio| format!("{:.2} % of {} rows the same", ratio * 100.0, output.rows),
    );
    put!(
        out,
        "<h3>Output {}</h3><p>{same}; {} answers of another shape</p>",
        escaped(&output.name),
        output.incomparable
    );
    if let Some(labels) = &output.labels {
        matrix(labels, out);
    }
    if let Some(numbers) = &output.numbers {
        numbers_section(numbers, out);
    }
}

/// Appends the matrix of the most frequent labels: rows are what was given, columns what the shadow gave.
fn matrix(labels: &LabelsShown, out: &mut String) {
    let mut names: Vec<&str> = Vec::new();
    for pair in &labels.confusion {
        for name in [pair.stable.as_str(), pair.shadow.as_str()] {
            if !names.contains(&name) && names.len() < MATRIX_MAX {
                names.push(name);
            }
        }
    }
    names.sort_unstable();
    if let Some(kappa) = labels.cohens_kappa {
        put!(out, "<p>Cohen's kappa {kappa:.4}</p>");
    }
    out.push_str("<table><tr><th>given \\ shadow</th>");
    for name in &names {
        put!(out, "<th>{}</th>", escaped(name));
    }
    out.push_str("</tr>");
    for stable in &names {
        put!(out, "<tr><th>{}</th>", escaped(stable));
        for shadow in &names {
            let is_this = |pair: &&super::report::ConfusionShown| {
                pair.stable == *stable && pair.shadow == *shadow
            };
            let count = labels.confusion.iter().find(is_this);
            let count = count.map_or(0, |pair| pair.count);
            let class = match (stable == shadow, count) {
                (_, 0) => "",
                (true, _) => "same",
                (false, _) => "other",
            };
            put!(out, "<td class=\"{class}\">{count}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}

fn numbers_section(numbers: &NumbersShown, out: &mut String) {
    put!(
        out,
        "<p>shadow minus stable: mean {:.6}, deviation {:.6}, farthest {}</p><table><tr><th>farther apart than</th><th>numbers</th></tr>",
        numbers.difference_mean,
        numbers.difference_deviation,
        numbers.distance_max
    );
    for beyond in &numbers.beyond {
        put!(
            out,
            "<tr><td>{}</td><td>{}</td></tr>",
            beyond.tolerance,
            beyond.count
        );
    }
    out.push_str("</table>");
    for (index, column) in numbers.columns.iter().enumerate() {
        plot(index, column, out);
    }
}

/// Appends both distributions side by side.
#[expect(clippy::cast_precision_loss, reason = "heights of bars")]
fn plot(index: usize, column: &ColumnShown, out: &mut String) {
    let share = |counts: &[u64]| {
        let all = counts.iter().sum::<u64>().max(1) as f64;
        counts
            .iter()
            .map(|count| *count as f64 / all)
            .collect::<Vec<f64>>()
    };
    let (stable, shadow) = (share(&column.stable), share(&column.shadow));
    let most = stable.iter().chain(&shadow).copied().fold(1e-9, f64::max);
    let bin_width = BAR_WIDTH * 2.5;
    let width = bin_width * stable.len() as f64;
    let drift = column
        .stability_index
        .zip(column.kolmogorov_smirnov)
        .zip(column.p_value);
    let drift = drift.map_or_else(
        || "no numbers of one of both".to_owned(),
        |((index, distance), p_value)| {
            format!("PSI {index:.4}, Kolmogorov-Smirnov {distance:.4} (p {p_value:.3})")
        },
    );
    put!(
        out,
        "<p>column {index}: {drift}</p><svg width=\"{:.0}\" height=\"{:.0}\" role=\"img\"><title>shares of numbers by bin, stable and shadow</title>",
        width + 40.0,
        PLOT_HEIGHT + 20.0
    );
    for (bin, both) in stable.iter().zip(&shadow).enumerate() {
        let x = bin_width * bin as f64;
        for (place, (share, colour)) in [(both.0, "#3d6fb4"), (both.1, "#e08a3c")]
            .into_iter()
            .enumerate()
        {
            let height = share / most * PLOT_HEIGHT;
            put!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{BAR_WIDTH}\" height=\"{height:.1}\" fill=\"{colour}\"><title>{share:.4}</title></rect>",
                x + BAR_WIDTH * place as f64,
                PLOT_HEIGHT - height
            );
        }
    }
    for (bin, edge) in column.edges.iter().enumerate() {
        put!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\">{edge:.3}</text>",
            bin_width * (bin + 1) as f64 - 12.0,
            PLOT_HEIGHT + 14.0
        );
    }
    out.push_str("</svg><small>blue: stable, orange: shadow</small>");
}

fn worst(compared: &Compared, out: &mut String) {
    if compared.worst.is_empty() {
        return;
    }
    out.push_str("<h3>Farthest apart</h3><table><tr><th>output</th><th>row</th><th>rows that differ</th><th>given</th><th>shadow</th><th>distance</th><th>at</th><th>request</th></tr>");
    for far in &compared.worst {
        put!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><pre>{}</pre></td></tr>",
            escaped(&far.output),
            far.row,
            far.rows_differed,
            escaped(&far.stable),
            escaped(&far.shadow),
            far.distance,
            far.at,
            escaped(far.request.as_deref().unwrap_or_default())
        );
    }
    out.push_str("</table>");
}
