//! Latency against throughput as an SVG picture. No library: a picture is a text.

use std::fmt::Write as _;

use crate::Report;
use crate::plan::Level;
use crate::report::time;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 56.0;
const LINES: [(&str, f64, &str); 3] = [
    ("p99", 99.0, "#c0392b"),
    ("p90", 90.0, "#d68910"),
    ("p50", 50.0, "#1f618d"),
];

/// Returns the picture of a sweep: a line for each percentile, a point for each load, latency on a logarithmic axis.
#[must_use]
pub fn to_svg(report: &Report) -> String {
    let axes = Axes::of(report);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let title = format!("{}: latency against throughput", report.target.model);
    text(&mut svg, (LEFT, 26.0), "start", 18, &title);
    let subtitle = format!("{}, {}", report.target.base_url(), report.target.protocol());
    text(&mut svg, (LEFT, 46.0), "start", 12, &subtitle);
    axes.draw(&mut svg);
    for (index, (name, percent, color)) in LINES.into_iter().enumerate() {
        let left = LEFT + index as f64 * 70.0;
        writes(
            &mut svg,
            format_args!("<path d=\"M{left} 62h24\" stroke=\"{color}\" stroke-width=\"2\"/>\n"),
        );
        text(&mut svg, (left + 30.0, 66.0), "start", 12, name);
        line(&mut svg, report, &axes, percent, color);
    }
    svg.push_str("</svg>\n");
    svg
}

/// What the axes span: requests per second from zero, latencies in microseconds.
struct Axes {
    rate_max: f64,
    latency_min: f64,
    latency_max: f64,
}

impl Axes {
    fn of(report: &Report) -> Self {
        let rates = report.runs.iter().map(|run| run.measured.requests_per_s());
        let latencies = report
            .runs
            .iter()
            .flat_map(|run| LINES.map(|(_, percent, _)| run.measured.latency_us(percent)));
        let latencies: Vec<f64> = latencies.filter(|latency| *latency > 0.0).collect();
        let least = latencies.iter().copied().fold(f64::INFINITY, f64::min);
        let most = latencies.iter().copied().fold(0.0, f64::max);
        let (least, most) = if latencies.is_empty() {
            (1.0, 10.0)
        } else {
            (least, most)
        };
        let latency_min = 10_f64.powf(least.log10().floor());
        let latency_max = 10_f64.powf(most.log10().ceil());
        Self {
            rate_max: rates.fold(1.0, f64::max) * 1.05,
            latency_min,
            latency_max: latency_max.max(latency_min * 10.0),
        }
    }

    fn x(&self, rate: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * rate / self.rate_max
    }

    fn y(&self, latency: f64) -> f64 {
        let decades = (self.latency_max / self.latency_min).log10();
        let share = (latency.max(self.latency_min) / self.latency_min).log10() / decades;
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    }

    fn draw(&self, svg: &mut String) {
        let right = WIDTH - RIGHT;
        let mut tick = self.latency_min;
        while tick <= self.latency_max * 1.001 {
            let height = self.y(tick);
            writes(
                svg,
                format_args!("<path d=\"M{LEFT} {height:.1}H{right:.1}\" stroke=\"#dddddd\"/>\n"),
            );
            text(
                svg,
                (LEFT - 6.0, height + 4.0),
                "end",
                11,
                &round_time(tick),
            );
            tick *= 10.0;
        }
        let step = round_step(self.rate_max / 8.0);
        let mut tick = 0.0;
        while tick <= self.rate_max {
            let left = self.x(tick);
            let (top, bottom) = (TOP, HEIGHT - BOTTOM);
            writes(
                svg,
                format_args!("<path d=\"M{left:.1} {top:.1}V{bottom:.1}\" stroke=\"#eeeeee\"/>\n"),
            );
            text(svg, (left, bottom + 18.0), "middle", 11, &format!("{tick}"));
            tick += step;
        }
        text(
            svg,
            (WIDTH / 2.0, HEIGHT - 14.0),
            "middle",
            12,
            "answered requests per second",
        );
        text(svg, (12.0, TOP - 10.0), "start", 12, "latency");
    }
}

fn line(svg: &mut String, report: &Report, axes: &Axes, percent: f64, color: &str) {
    let answered = report.runs.iter().filter(|run| run.measured.n_ok > 0);
    let points: Vec<(f64, f64, Level)> = answered
        .map(|run| {
            let measured = &run.measured;
            let place = (
                axes.x(measured.requests_per_s()),
                axes.y(measured.latency_us(percent)),
            );
            (place.0, place.1, run.level)
        })
        .collect();
    let mut path = String::new();
    for (index, (x, y, _)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        writes(&mut path, format_args!("{command}{x:.1} {y:.1}"));
    }
    writes(
        svg,
        format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\"/>\n"
        ),
    );
    for (x, y, level) in points {
        writes(
            svg,
            format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"><title>{level}</title></circle>\n"
            ),
        );
        if percent == LINES[0].1
            && let Level::Concurrency(n) = level
        {
            text(svg, (x, y - 8.0), "middle", 10, &n.to_string());
        }
    }
}

fn round_time(micros: f64) -> String {
    time(micros)
        .replace(".0 us", " us")
        .replace(".00 ms", " ms")
        .replace(".0 ms", " ms")
        .replace(".00 s", " s")
}

/// Returns 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * power);
    let step = steps.into_iter().find(|step| *step >= least);
    step.unwrap_or(10.0 * power)
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: u32, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    writes(
        svg,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"#222222\">{content}</text>\n"
        ),
    );
}

fn writes(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("a string takes everything");
}
