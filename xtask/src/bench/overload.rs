//! `cargo xtask bench overload`: a costly model at five times what it can do.
//!
//! Measured are the goodput (answers per second) beside the most that the model can do, how long accepted requests took beside their
//! deadline, what refusals took, the server's memory, and how soon after the overload a light load sees its usual latencies again.
//!
//! The most that it can do is measured just before and just after each overload: a machine that others use, too, is not as fast now
//! as it was a minute ago. What is answered is set beside the mean of the two, and beside the larger, which is rather too much: of two
//! measurements that chance moves, the larger is the one that it has favoured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::load_tool::{self, number};
use super::server::{Server, resident_kib};
use super::{http, machine};
use crate::command;

/// Trees of the model that is copied, and how often each is there: a row takes some 8 us.
const TREES: &str = "fixtures/xgboost/3.4.1/objective_rank_ndcg.json";
const COPIES: usize = 6_250;
/// Rows of a request, each size measured in turn, and requests a second of the light load before, during and after: some 4 ms, 15 ms and
/// 60 ms of a core.
const SIZES: [(&str, &str); 3] = [("500", "40"), ("2000", "40"), ("8000", "4")];
const FACTOR: f64 = 5.0;
const ROUNDS: usize = 5;
const DEADLINE_MS: f64 = 250.0;
const OVERLOAD_S: f64 = 8.0;
const BEFORE_S: f64 = 4.0;
const AFTER_S: f64 = 5.0;
const PROBE_WARM_UP: &str = "500ms";
const SAMPLE: Duration = Duration::from_millis(100);

/// Measures and prints Markdown for docs/performance.md.
pub(crate) fn run(root: &Path) -> Result<()> {
    let coracle = http::build(root)?.coracle;
    let directory = write_model(root)?;
    println!("machine: {}", machine());
    for size in SIZES {
        measure(&coracle, &directory, size)?;
    }
    Ok(())
}

fn measure(coracle: &Path, directory: &Path, size: (&str, &str)) -> Result<()> {
    let (rows, _) = size;
    let mut serve = Command::new(coracle);
    serve
        .arg("serve")
        .arg(directory)
        .args(["--port", "0", "--access-log", "off"]);
    let server = Server::start(&mut serve)?;
    let url = format!("http://{}/v2/models/slow", server.address);
    println!("\nrequests of {rows} rows\n");
    let sweep = closed(coracle, &url, rows, "1,2,4,8,16")?;
    let at_most =
        |best: &(String, f64), run: (String, f64)| if run.1 > best.1 { run } else { best.clone() };
    let (connections, most) = sweep
        .into_iter()
        .fold((String::new(), 0.0), |best, run| at_most(&best, run));
    ensure!(most > 0.0, "the model answers nothing");
    println!("closed loop, 1 to 16 connections: at most {most:.0} requests/s, with {connections}");
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        println!("\nround {round}\n");
        ratios.push(measure_round(
            coracle,
            (&server, &url),
            size,
            (&connections, most),
        )?);
    }
    println!();
    print_ratios(
        "the mean of before and after",
        ratios.iter().map(|each| each.of_mean),
    );
    print_ratios(
        "the larger of the two",
        ratios.iter().map(|each| each.of_larger),
    );
    Ok(())
}

/// What was answered under overload, of the most that the model can do.
#[derive(Clone, Copy)]
struct Ratio {
    of_mean: f64,
    of_larger: f64,
}

fn print_ratios(of_what: &str, ratios: impl Iterator<Item = f64>) {
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "answered, of {of_what}: {:.2} ({:.2} to {:.2}; goal: 0.9)",
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1]
    );
}

/// Measures how many requests a second are answered at each of the numbers of connections.
fn closed(coracle: &Path, url: &str, rows: &str, connections: &str) -> Result<Vec<(String, f64)>> {
    let arguments = [
        "--protocol",
        "v2-binary",
        "--rows",
        rows,
        "-c",
        connections,
        "-d",
        "3s",
    ];
    let report = load_tool::run(coracle, url, &arguments)?;
    let runs = runs(&report)?.iter().zip(connections.split(','));
    runs.map(|(run, n)| Ok((n.to_owned(), number(run, "/requests_per_s")?)))
        .collect()
}

/// Overloads it once.
fn measure_round(
    coracle: &Path,
    (server, url): (&Server, &str),
    size @ (rows, probe_rate): (&str, &str),
    (connections, most): (&str, f64),
) -> Result<Ratio> {
    let peak = || Ok::<_, anyhow::Error>(closed(coracle, url, rows, connections)?[0].1);
    let before = peak()?;
    let resident = server.resident_kib()?;
    let (measured, memory_kib) = watched(server.process(), || overload(coracle, url, most, size))?;
    let (overloaded, probe) = measured?;
    let after = peak()?;
    let light = light_answers(&overloaded, &probe)?;
    let ratio = print_overload(&overloaded, light, (before, after))?;
    println!(
        "resident memory: {} MB before, at most {} MB, {} MB after",
        resident / 1_000,
        memory_kib / 1_000,
        server.resident_kib()? / 1_000
    );
    print_recovery(&overloaded, &probe, probe_rate)?;
    Ok(ratio)
}

/// Runs the light load, and in the middle of it the heavy one.
fn overload(
    coracle: &Path,
    url: &str,
    peak: f64,
    (rows, probe_rate): (&str, &str),
) -> Result<(Value, Value)> {
    let deadline = format!("x-request-timeout: {DEADLINE_MS}ms");
    let common = [
        "--protocol",
        "v2-binary",
        "--rows",
        rows,
        "-H",
        &deadline,
        "--allow-errors",
    ];
    let probe_s = format!("{}s", BEFORE_S + OVERLOAD_S + AFTER_S);
    let light = [
        "--rate",
        probe_rate,
        "--arrivals",
        "constant",
        "--warm-up",
        PROBE_WARM_UP,
        "-d",
        &probe_s,
        "--threads",
        "1",
    ];
    let probe = load_tool::start(coracle, url, &[&common[..], &light].concat())?;
    wait(Duration::from_secs_f64(BEFORE_S));
    let rate = (peak * FACTOR).to_string();
    let overload_s = format!("{OVERLOAD_S}s");
    let heavy = [
        "--rate",
        &rate,
        "--connections",
        "1000",
        "--warm-up",
        "0s",
        "-d",
        &overload_s,
    ];
    let overloaded = load_tool::run(coracle, url, &[&common[..], &heavy].concat())?;
    Ok((overloaded, probe.finish()?))
}

/// Runs `work`; returns the largest resident memory of the process meanwhile, too.
fn watched<T: Send>(process: u32, work: impl FnOnce() -> T) -> Result<(T, u64)> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(resident_kib(process)?);
                wait(SAMPLE);
            }
            Ok(most)
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        let most: Result<u64> = watcher.join().unwrap_or(Ok(0));
        Ok((result, most?))
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark lets the machine's time pass"
)]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Returns how many requests of the light load were answered a second while the heavy one lasted.
fn light_answers(overloaded: &Value, probe: &Value) -> Result<f64> {
    let heavy = runs(overloaded)?.first().context("no run")?;
    let light = runs(probe)?.first().context("no run")?;
    let start_ms = number(heavy, "/began_unix_ms")?;
    let end_ms = start_ms + number(heavy, "/seconds")? * 1e3;
    let began_ms = number(light, "/began_unix_ms")?;
    let mut answered = 0.0;
    for slot in light["timeline"].as_array().context("no timeline")? {
        let at = began_ms + number(slot, "/from_s")? * 1e3;
        if at >= start_ms && at < end_ms {
            answered += number(slot, "/answered")?;
        }
    }
    Ok(answered / OVERLOAD_S)
}

fn print_overload(report: &Value, light: f64, (before, after): (f64, f64)) -> Result<Ratio> {
    let run = runs(report)?.first().context("no run")?;
    let heavy = number(run, "/requests_per_s")?;
    let goodput = heavy + light;
    let offered = number(run, "/load/rate_per_s")?;
    println!(
        "offered: {offered:.0} requests/s for {OVERLOAD_S} s, each with a deadline of {DEADLINE_MS} ms"
    );
    let ratio = Ratio {
        of_mean: goodput / f64::midpoint(before, after),
        of_larger: goodput / before.max(after),
    };
    println!(
        "answered: {heavy:.0} requests/s, and {light:.0} of the light load; closed loop {before:.0} before, {after:.0} after: {:.2} of their mean, {:.2} of the larger",
        ratio.of_mean, ratio.of_larger
    );
    let at = |name: &str| number(run, &format!("/latency_us/{name}")).map(|us| us / 1e3);
    println!(
        "latency of what was answered, from when it was to be sent: p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms",
        at("p50")?,
        at("p99")?,
        at("max")?
    );
    println!(
        "sent late by this machine: p99 {:.1} ms",
        number(run, "/send_lag_p99_us")? / 1e3
    );
    for failure in run["failures"].as_array().into_iter().flatten() {
        println!(
            "- {} {}: {}",
            failure["count"], failure["kind"], failure["first_message"]
        );
    }
    println!("never sent: {}", run["never_sent"]);
    Ok(ratio)
}

/// Tells what the light load saw before, and from each half second after the overload on.
fn print_recovery(overloaded: &Value, probe: &Value, probe_rate: &str) -> Result<()> {
    let heavy = runs(overloaded)?.first().context("no run")?;
    let light = runs(probe)?.first().context("no run")?;
    let start_ms = number(heavy, "/began_unix_ms")?;
    let end_ms = start_ms + number(heavy, "/seconds")? * 1e3;
    let began_ms = number(light, "/began_unix_ms")?;
    let slots = light["timeline"].as_array().context("no timeline")?;
    // By when requests were to be sent; the worst of the slots in the span.
    let worst = |from_ms: f64, to_ms: f64| -> Result<(f64, f64)> {
        let mut worst = (0.0_f64, 0.0);
        for slot in slots {
            let at = began_ms + number(slot, "/from_s")? * 1e3;
            if at >= from_ms && at < to_ms {
                worst.0 = worst.0.max(number(slot, "/max_us")? / 1e3);
                worst.1 += number(slot, "/failed")?;
            }
        }
        Ok(worst)
    };
    println!(
        "\n| light load ({probe_rate} requests/s) | longest answer | refused or failed |\n|---|---|---|"
    );
    let spans = [
        ("before", began_ms, start_ms - 200.0),
        ("during", start_ms, end_ms),
        ("0 to 0.5 s after", end_ms, end_ms + 500.0),
        ("0.5 to 1 s after", end_ms + 500.0, end_ms + 1e3),
        ("1 to 4 s after", end_ms + 1e3, end_ms + 4e3),
    ];
    for (name, from_ms, to_ms) in spans {
        let (longest, n_failed) = worst(from_ms, to_ms)?;
        println!("| {name} | {longest:.1} ms | {n_failed} |");
    }
    Ok(())
}

fn runs(report: &Value) -> Result<&Vec<Value>> {
    report["runs"].as_array().context("no runs in the report")
}

/// Writes a model of many trees: those of a fixture, again and again.
pub(super) fn write_model(root: &Path) -> Result<PathBuf> {
    let source = root.join(TREES);
    let text = std::fs::read_to_string(&source).with_context(|| source.display().to_string())?;
    let mut document: Value = serde_json::from_str(&text)?;
    let model = &mut document["learner"]["gradient_booster"]["model"];
    let trees = model["trees"].as_array().context("no trees")?.clone();
    let copies = trees.iter().cycle().take(trees.len() * COPIES).enumerate();
    let copies: Vec<Value> = copies
        .map(|(index, tree)| {
            let mut tree = tree.clone();
            tree["id"] = json!(index);
            // No two trees alike: equal splits would be looked up once for all.
            let factor = 1.0 + index as f64 * 1e-4;
            for split in tree["split_conditions"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                *split = json!(split.as_f64().unwrap_or(0.0) * factor);
            }
            tree
        })
        .collect();
    let n_trees = copies.len();
    model["gbtree_model_param"]["num_trees"] = json!(n_trees.to_string());
    model["tree_info"] = json!(vec![0; n_trees]);
    model["iteration_indptr"] = json!((0..=n_trees).collect::<Vec<_>>());
    model["trees"] = Value::Array(copies);
    let directory = command::target_directory(root)?.join("bench-overload/slow");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("model.json"), document.to_string())?;
    Ok(directory)
}
