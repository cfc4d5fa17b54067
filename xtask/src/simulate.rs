//! `cargo xtask simulate autoscale`: runs every trace with reactive and predictive scaling, prints a table, draws a picture of each.

mod plot;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coracle_policy::simulate::{Comparison, Measured, Outcome, Second, Service, Trace, compare};

use plot::{Panel, Picture, Series};

const SEED: u64 = 1;
const REACTIVE: &str = "#d95f02";
const PREDICTIVE: &str = "#1f66b0";
const RIVAL: &str = "#8a8a8a";
const LOAD: &str = "#444444";

/// Runs all traces; writes the pictures to `out`, or below `target/` if it is `None`.
pub(crate) fn autoscale(root: &Path, out: Option<&str>) -> Result<()> {
    let out = out.map_or_else(|| root.join("target/simulate"), PathBuf::from);
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let service = Service::default();
    println!(
        "A replica takes {} requests of {:?} at once and {:?} to start; objective {:?} for 99 % of a second's requests; seed {SEED}.",
        service.concurrency, service.service_time, service.cold_start, service.objective
    );
    println!(
        "{:<9} {:<26} {:>15} {:>11} {:>8} {:>12} {:>9}",
        "trace", "scaling", "replica-seconds", "over", "slow", "mean waiting", "replicas"
    );
    for trace in Trace::ALL {
        let comparison = compare(trace, &service, SEED);
        for (name, run) in runs(&comparison) {
            print_row(trace, &name, run);
        }
        let path = out.join(format!("{}.svg", trace.as_str()));
        std::fs::write(&path, draw(&comparison)).with_context(|| path.display().to_string())?;
    }
    print_cold_starts();
    println!("pictures: {}", out.display());
    Ok(())
}

fn runs(comparison: &Comparison) -> [(String, &(Measured, Outcome)); 3] {
    let percent = |run: &(Measured, Outcome)| run.0.target_utilization * 100.0;
    let rival = format!("reactive at {:.0} %", percent(&comparison.equal_cost));
    let predictive = if comparison.predictive.1 == comparison.reactive.1 {
        "predictive (the same)"
    } else {
        "predictive"
    };
    [
        ("reactive".to_owned(), &comparison.reactive),
        (predictive.to_owned(), &comparison.predictive),
        (rival, &comparison.equal_cost),
    ]
}

fn print_row(trace: Trace, name: &str, (measured, outcome): &(Measured, Outcome)) {
    let counted = &outcome.seconds[outcome.seconds.len() - measured.seconds..];
    let mean_waiting = mean(counted, |second| second.queued);
    let most = counted.iter().map(|second| second.ready).max();
    println!(
        "{:<9} {:<26} {:>15} {:>5}/{:>5} {:>6.2} % {:>12.2} {:>9}",
        trace.as_str(),
        name,
        measured.replica_seconds,
        measured.seconds_over_objective,
        measured.seconds,
        measured.slow_share * 100.0,
        mean_waiting,
        format!("0-{}", most.unwrap_or(0)),
    );
}

/// Shows how much there is to win by the time that a replica takes to start.
fn print_cold_starts() {
    println!(
        "\nseconds over the objective by cold start (reactive / its rival of equal cost / predictive):"
    );
    for trace in [Trace::Spike, Trace::Diurnal, Trace::Sawtooth] {
        let columns = [100, 5_000, 20_000, 40_000, 60_000].map(|millis| {
            let service = Service {
                cold_start: std::time::Duration::from_millis(millis),
                ..Service::default()
            };
            let comparison = compare(trace, &service, SEED);
            let over = |run: &(Measured, Outcome)| run.0.seconds_over_objective;
            format!(
                "{:?}: {}/{}/{}",
                service.cold_start,
                over(&comparison.reactive),
                over(&comparison.equal_cost),
                over(&comparison.predictive)
            )
        });
        println!("{:<9} {}", trace.as_str(), columns.join("  "));
    }
}

fn draw(comparison: &Comparison) -> String {
    let colors = [(REACTIVE, false), (PREDICTIVE, false), (RIVAL, true)];
    let runs = runs(comparison);
    let each = |value: &dyn Fn(&[Second]) -> Vec<f64>| -> Vec<Series> {
        let with_color = runs.iter().zip(colors);
        with_color
            .map(|((name, (_, outcome)), (color, is_dashed))| Series {
                name: name.clone(),
                color,
                is_dashed,
                values: value(&outcome.seconds),
            })
            .collect()
    };
    let load = Series {
        name: "load".to_owned(),
        color: LOAD,
        is_dashed: false,
        values: smooth(&comparison.reactive.1.seconds),
    };
    let (measured, outcome) = &comparison.predictive;
    let summary = runs.iter().map(|(name, (measured, _))| {
        format!(
            "{name}: {} s over, {} replica-seconds",
            measured.seconds_over_objective, measured.replica_seconds
        )
    });
    let picture = Picture {
        title: format!(
            "{}: reactive beside predictive scaling",
            comparison.trace.as_str()
        ),
        subtitle: summary.collect::<Vec<_>>().join("   |   "),
        n_learnt: outcome.seconds.len() - measured.seconds,
        panels: vec![
            Panel {
                title: "requests per second (mean of 10 s)",
                series: vec![load],
            },
            Panel {
                title: "replicas ready",
                series: each(&|seconds| map(seconds, |second| f64::from(second.ready))),
            },
            Panel {
                title: "requests waiting",
                series: each(&|seconds| map(seconds, |second| second.queued)),
            },
            Panel {
                title: "seconds over the objective so far",
                series: each(&count_over),
            },
        ],
    };
    picture.to_svg()
}

fn map(seconds: &[Second], value: fn(&Second) -> f64) -> Vec<f64> {
    seconds.iter().map(value).collect()
}

fn mean(seconds: &[Second], value: fn(&Second) -> f64) -> f64 {
    seconds.iter().map(value).sum::<f64>() / seconds.len().max(1) as f64
}

fn smooth(seconds: &[Second]) -> Vec<f64> {
    let chunks = seconds.chunks(10).flat_map(|chunk| {
        let mean = mean(chunk, |second| f64::from(second.arrived));
        std::iter::repeat_n(mean, chunk.len())
    });
    chunks.collect()
}

fn count_over(seconds: &[Second]) -> Vec<f64> {
    let counts = seconds.iter().scan(0.0, |n_over, second| {
        *n_over += f64::from(u8::from(second.is_over_objective()));
        Some(*n_over)
    });
    counts.collect()
}
