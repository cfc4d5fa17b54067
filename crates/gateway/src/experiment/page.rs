//! A report as a page: no script, nothing from elsewhere, so that it can be saved and sent on.

use std::fmt::Write as _;

use coracle_policy::experiment::{Comparison, Effect, Method};
use coracle_serving::experiment::{Allocation, Point, Standing};

use crate::respond::escaped;

use super::report::{EXACT, guardrail_word, name, posterior_method, time, verdict_words};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2733}\
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.2rem .7rem;border-bottom:1px solid #d5dde5;text-align:right}\
td:first-child,th:first-child{text-align:left}.Better{background:#dff2e1}.Harm,.Mismatch{background:#fbe3dc}.Wait{background:#eef2f6}\
.verdict{padding:.4rem .8rem;border-radius:.4rem}small{color:#5b6b7a}svg text{font-size:11px;fill:#5b6b7a}";
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 200.0;
/// Room for the numbers beside a plot.
const MARGIN: f64 = 70.0;

/// Appends a piece of markup.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        // Writing to a text cannot fail.
        let _infallible = write!($out, $($arg)*);
    };
}

/// Returns a report as a page.
pub(super) fn page(standing: &Standing) -> String {
    let title = escaped(&standing.id.to_string());
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Experiment {title}</title><style>{STYLE}</style></head><body><h1>Experiment {title}</h1>"
    );
    let (state, why, variant) = verdict_words(&standing.analysis.verdict);
    let variant = variant.map(|variant| format!(" {}", escaped(name(standing, variant))));
    put!(
        out,
        "<p class=\"verdict {state}\"><b>{state}{}</b>: {}</p>",
        variant.unwrap_or_default(),
        escaped(why)
    );
    if let Some(winner) = &standing.planned.winner {
        put!(out, "<p>{} takes all requests.</p>", escaped(winner));
    }
    split(standing, &mut out);
    variants(standing, &mut out);
    settled(standing, &mut out);
    for comparison in &standing.analysis.comparisons {
        section(standing, comparison, &mut out);
    }
    if standing.planned.allocation != Allocation::Fixed {
        bandit(standing, &mut out);
    }
    out.push_str("</body></html>\n");
    out
}

fn split(standing: &Standing, out: &mut String) {
    let analysis = &standing.analysis;
    for (method, found) in [
        ("chi-squared test, fixed horizon", analysis.split),
        ("sequential test, anytime-valid", analysis.split_anytime),
    ] {
        if let Some(found) = found {
            let word = match found.is_mismatch {
                true => "is not as the weights say",
                false => "is as the weights say",
            };
            put!(
                out,
                "<p>The split {word} <small>(p {:.4}, {method})</small></p>",
                found.p_value
            );
        }
    }
}

fn variants(standing: &Standing, out: &mut String) {
    out.push_str("<table><tr><th>variant</th><th>units</th><th>expected</th><th>requests</th><th>failed</th>");
    for metric in &standing.planned.metrics {
        put!(out, "<th>{}</th><th>missing</th>", escaped(&metric.name));
    }
    out.push_str("</tr>");
    for (index, variant) in standing.variants.iter().enumerate() {
        let control = match index == standing.planned.control {
            true => " (control)",
            false => "",
        };
        put!(
            out,
            "<tr><td>{}{control}</td><td>{}</td><td>{:.0}</td><td>{}</td><td>{}</td>",
            escaped(&variant.name),
            variant.units,
            variant.expected,
            variant.requests,
            variant.errors
        );
        for metric in &variant.metrics {
            put!(
                out,
                "<td>{:.6}</td><td>{}</td>",
                metric.mean,
                metric.missing
            );
        }
        out.push_str("</tr>");
    }
    put!(
        out,
        "</table><p><small>{} requests without a unit; {} units that were shown several variants and {} whose variant was set by hand are not analysed; {} exposures lost, {} units without room; {} outcomes</small></p>",
        standing.n_unassigned,
        standing.n_mixed,
        standing.n_overridden,
        standing.n_lost,
        standing.n_units_lost,
        standing.n_outcomes
    );
}

/// Shows the rates of the units whose values are final, and of how many they are not yet.
fn settled(standing: &Standing, out: &mut String) {
    for (index, metric) in standing.planned.metrics.iter().enumerate() {
        for variant in &standing.variants {
            if let Some(n_open @ 1..) = variant.metrics.get(index).map(|metric| metric.open) {
                put!(
                    out,
                    "<p><small>{}: {} of {n_open} units is not compared yet: their windows are open</small></p>",
                    escaped(&variant.name),
                    escaped(&metric.name)
                );
            }
        }
        let variants = standing.variants.iter().filter_map(|variant| {
            let settled = variant.metrics.get(index)?.settled?;
            Some((variant, settled))
        });
        let mut rows = String::new();
        for (variant, settled) in variants {
            put!(
                rows,
                "<tr><td>{}</td><td>{}</td><td>{:.6}</td><td>{:.6}</td><td>{:.6}</td><td>{}</td></tr>",
                escaped(&variant.name),
                settled.units,
                settled.rate,
                settled.interval.low,
                settled.interval.high,
                Method::Betting
            );
        }
        if !rows.is_empty() {
            put!(
                out,
                "<h2>{} of each variant, of units whose window has closed</h2><table><tr><th>variant</th><th>units</th><th>rate</th><th>from</th><th>to</th><th>method</th></tr>{rows}</table>",
                escaped(&metric.name)
            );
        }
    }
}

fn section(standing: &Standing, comparison: &Comparison, out: &mut String) {
    let Some(metric) = standing.planned.metrics.get(comparison.metric) else {
        return;
    };
    let variant = name(standing, comparison.variant);
    let better = if metric.is_lower_better {
        "less"
    } else {
        "more"
    };
    put!(
        out,
        "<h2>{}: {} beside {}</h2><p>{}, {better} is better: {:.6} of {} units, {:.6} of {} of the control</p>",
        escaped(&metric.name),
        escaped(variant),
        escaped(name(standing, standing.planned.control)),
        comparison.basis.as_str(),
        comparison.treated.1,
        comparison.treated.0,
        comparison.control.1,
        comparison.control.0
    );
    out.push_str("<table><tr><th>method</th><th>difference</th><th>from</th><th>to</th><th>p</th><th>p corrected</th></tr>");
    row(comparison.anytime, comparison.anytime_corrected, out);
    row(comparison.fixed, comparison.fixed_corrected, out);
    if let Some(p_value) = comparison.exact_p_value {
        put!(
            out,
            "<tr><td>{EXACT}</td><td></td><td></td><td></td><td>{p_value:.4}</td><td></td></tr>"
        );
    }
    row(comparison.lift, None, out);
    out.push_str("</table>");
    if let Some(belief) = comparison.posterior {
        put!(
            out,
            "<p>{}: better with probability {:.4}; expected loss {:.6} if it is chosen, {:.6} if it is not</p>",
            posterior_method(comparison),
            belief.b_is_better,
            belief.loss_of_b,
            belief.loss_of_a
        );
    }
    if let Some(guardrail) = comparison.guardrail {
        put!(
            out,
            "<p>Guardrail: {} (worse by at most {}, one-sided, anytime-valid)</p>",
            guardrail_word(guardrail),
            metric.margin
        );
    }
    let mut series = standing.series.iter();
    let points = series.find(|(of, looked_at, _)| of == variant && *looked_at == metric.name);
    if let Some((_, _, points)) = points.filter(|(_, _, points)| points.len() > 1) {
        plot(points, out);
    }
}

fn row(effect: Option<Effect>, corrected: Option<f64>, out: &mut String) {
    let Some(effect) = effect else { return };
    let corrected = corrected.map(|p_value| format!("{p_value:.4}"));
    put!(
        out,
        "<tr><td>{}</td><td>{:.6}</td><td>{:.6}</td><td>{:.6}</td><td>{:.4}</td><td>{}</td></tr>",
        effect.method.as_str(),
        effect.difference,
        effect.interval.low,
        effect.interval.high,
        effect.p_value,
        corrected.unwrap_or_default()
    );
}

/// Returns all looks but the first ones: they know nearly nothing, and would flatten all others.
fn worth_showing(points: &[Point]) -> &[Point] {
    let shown = &points[points.len() / 10..];
    let width = |point: &Point| point.high - point.low;
    let widest = 10.0 * shown.last().map_or(0.0, width);
    let is_worth = |point: &Point| width(point) <= widest || widest <= 0.0;
    let n_skipped = shown.iter().position(is_worth).unwrap_or(0);
    &shown[n_skipped..]
}

/// Appends the confidence sequence over time: a band, the difference in it, and the line of no difference.
#[expect(clippy::cast_precision_loss, reason = "places on a plot")]
fn plot(points: &[Point], out: &mut String) {
    let shown = worth_showing(points);
    let (Some(first), Some(last)) = (shown.first(), shown.last()) else {
        return;
    };
    let low = shown.iter().map(|point| point.low).fold(0.0, f64::min);
    let high = shown.iter().map(|point| point.high).fold(0.0, f64::max);
    let (span, time_span) = (
        (high - low).max(1e-12),
        (last.at.saturating_sub(first.at)).max(1) as f64,
    );
    let x = |at: u64| MARGIN + at.saturating_sub(first.at) as f64 / time_span * WIDTH;
    let y = |value: f64| 10.0 + (high - value) / span * HEIGHT;
    put!(
        out,
        "<svg width=\"{:.0}\" height=\"{:.0}\" role=\"img\"><title>confidence sequence of the difference over time</title><polygon fill=\"#cfdff3\" points=\"",
        WIDTH + MARGIN + 20.0,
        HEIGHT + 40.0
    );
    for point in shown {
        put!(out, "{:.1},{:.1} ", x(point.at), y(point.high));
    }
    for point in shown.iter().rev() {
        put!(out, "{:.1},{:.1} ", x(point.at), y(point.low));
    }
    out.push_str("\"/><polyline fill=\"none\" stroke=\"#3d6fb4\" stroke-width=\"1.5\" points=\"");
    for point in shown {
        put!(out, "{:.1},{:.1} ", x(point.at), y(point.difference));
    }
    put!(
        out,
        "\"/><line x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#e08a3c\" stroke-dasharray=\"4 3\"/>",
        MARGIN + WIDTH,
        y(0.0),
        y(0.0)
    );
    for value in [high, 0.0, low] {
        put!(
            out,
            "<text x=\"0\" y=\"{:.1}\">{value:.5}</text>",
            y(value) + 4.0
        );
    }
    for (at, x) in [(first.at, MARGIN), (last.at, MARGIN + WIDTH - 120.0)] {
        put!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            HEIGHT + 30.0,
            time(at)
        );
    }
    out.push_str("</svg><br><small>band: anytime-valid confidence sequence of the difference, of the values as they stood; line: the difference; dashed: no difference</small>");
}

fn bandit(standing: &Standing, out: &mut String) {
    out.push_str("<h2>What was earned</h2><table><tr><th>variant</th><th>rewards</th><th>mean</th><th>chosen with probability</th><th>if it were always chosen</th><th>standard error</th></tr>");
    for arm in &standing.arms {
        let mut estimates = standing.off_policy.iter();
        let estimate = estimates.find(|estimate| estimate.variant == arm.variant);
        let shown = estimate.map(|estimate| {
            let mean = estimate.doubly_robust.unwrap_or(estimate.self_normalised);
            let error = estimate.standard_error;
            (format!("{mean:.4}"), format!("{error:.4}"))
        });
        let (mean, error) = shown.unwrap_or_default();
        put!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{:.4}</td><td>{:.4}</td><td>{mean}</td><td>{error}</td></tr>",
            escaped(&arm.variant),
            arm.rewards,
            arm.mean,
            arm.propensity
        );
    }
    out.push_str("</table>");
    let has_model = standing.planned.linear().is_some();
    let how = match has_model {
        true => {
            "doubly robust, with what ridge regression expected; variants are chosen request by request, and the probability is their share of the requests"
        }
        false => "self-normalised",
    };
    put!(
        out,
        "<small>Plain means of what a bandit gathers are biased; the last columns weight each choice by its propensity ({how}).</small>"
    );
    if has_model {
        weights(standing, out);
    }
}

/// Shows what features are worth to each variant.
fn weights(standing: &Standing, out: &mut String) {
    out.push_str("<h2>What features add</h2><table><tr><th>variant</th>");
    let first = standing.arms.first();
    for (name, _) in first.iter().flat_map(|arm| &arm.weights) {
        put!(out, "<th>{}</th>", escaped(name));
    }
    out.push_str("</tr>");
    for arm in &standing.arms {
        put!(out, "<tr><td>{}</td>", escaped(&arm.variant));
        for (_, weight) in &arm.weights {
            put!(out, "<td>{weight:.4}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_know_nearly_nothing_are_not_shown() {
        let point = |at, width: f64| Point {
            at,
            difference: 0.0,
            low: -width / 2.0,
            high: width / 2.0,
        };
        let widths = [1.9, 1.8, 1.2, 0.5, 0.2, 0.1];
        let points: Vec<Point> = (0..)
            .zip(widths)
            .map(|(at, width)| point(at, width))
            .collect();
        let shown = worth_showing(&points);
        assert_eq!(shown.first().map(|point| point.at), Some(3));
        assert_eq!(shown.len(), 3);
        // Of twenty the first two are not, however much they know; and all are where nothing spreads.
        let points: Vec<Point> = (0..20).map(|at| point(at, 0.0)).collect();
        assert_eq!(worth_showing(&points).len(), 18);
        assert!(worth_showing(&[]).is_empty());
    }
}
