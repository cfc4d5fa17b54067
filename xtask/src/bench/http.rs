//! `cargo xtask bench http`: the server beside a bare echo server on the same HTTP stack.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::load::{self, Measured};
use super::server::Server;
use super::{machine, median};
use crate::command;

pub(super) const PATH: &str = "/v1/models/iris:predict";
pub(super) const BODY: &str = r#"{"instances":[[5.1,3.5,1.4,0.2]]}"#;
const ANSWER: &str = r#"{"predictions":[0]}"#;
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Server and floor take turns this often for each number of connections.
const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
const STARTS: usize = 15;

/// Measures and prints a Markdown table for docs/performance.md.
pub(crate) fn run(root: &Path) -> Result<()> {
    let binaries = build(root)?;
    let script = write_script(root)?;
    let model = root.join("examples/iris");
    let (start_ms, fresh_kib) = measure_start(&binaries.coracle, &model)?;

    let coracle = start_coracle(&binaries.coracle, &model)?;
    let echo = Server::start(Command::new(&binaries.echo).args([
        "0",
        "--bytes",
        &ANSWER.len().to_string(),
    ]))?;
    println!("machine: {}", machine());
    println!("body: {BODY}\n");
    print_head();
    for n_connections in CONNECTIONS {
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            let floor = load::drive(echo.address, "/", &script, n_connections, SECONDS)?;
            let ours = load::drive(coracle.address, PATH, &script, n_connections, SECONDS)?;
            pairs.push((floor, ours));
        }
        print_row(n_connections, &pairs);
    }
    println!();
    println!("start to first correct prediction, median of {STARTS}: {start_ms:.1} ms");
    println!(
        "resident after the first prediction: {:.1} MB",
        megabytes(fresh_kib)
    );
    println!(
        "resident after the load: {:.1} MB",
        megabytes(coracle.resident_kib()?)
    );
    Ok(())
}

/// What is measured, and its floor.
pub(super) struct Binaries {
    pub(super) coracle: PathBuf,
    pub(super) echo: PathBuf,
}

/// Builds both for release.
pub(super) fn build(root: &Path) -> Result<Binaries> {
    command::run(&mut command::cargo(
        root,
        &["build", "--release", "--package", "coracle-cli"],
    ))?;
    let echo = [
        "build",
        "--release",
        "--package",
        "coracle-gateway",
        "--example",
        "echo",
    ];
    command::run(&mut command::cargo(root, &echo))?;
    let release = command::target_directory(root)?.join("release");
    Ok(Binaries {
        coracle: release.join("coracle"),
        echo: release.join("examples/echo"),
    })
}

/// Writes the script that makes wrk post the body.
pub(super) fn write_script(root: &Path) -> Result<PathBuf> {
    let script = command::target_directory(root)?.join("bench-post.lua");
    let lua = format!(
        "wrk.method = \"POST\"\nwrk.body = '{BODY}'\nwrk.headers[\"content-type\"] = \"application/json\"\n"
    );
    std::fs::write(&script, lua).with_context(|| script.display().to_string())?;
    Ok(script)
}

/// Starts the server, once it answers right.
pub(super) fn start_coracle(coracle: &Path, model: &Path) -> Result<Server> {
    let mut serve = Command::new(coracle);
    serve.arg("serve").arg(model).args(["--port", "0"]);
    let server = Server::start(&mut serve)?;
    let answer = server.post(PATH, BODY)?;
    if answer.trim() != ANSWER {
        bail!("coracle answered {answer:?}, expected {ANSWER:?}");
    }
    Ok(server)
}

/// Returns the median time from starting the process to its first correct prediction in ms, and the
/// largest resident memory just after it in KiB.
#[expect(
    clippy::disallowed_types,
    reason = "a benchmark measures the machine's time"
)]
fn measure_start(coracle: &Path, model: &Path) -> Result<(f64, u64)> {
    let mut millis = Vec::new();
    let mut resident_kib_max = 0;
    for _ in 0..STARTS {
        let started = std::time::Instant::now();
        let server = start_coracle(coracle, model)?;
        millis.push(started.elapsed().as_secs_f64() * 1e3);
        resident_kib_max = resident_kib_max.max(server.resident_kib()?);
    }
    Ok((median(&mut millis), resident_kib_max))
}

/// Prints the head of a table.
pub(super) fn print_head() {
    println!(
        "| connections | echo req/s | coracle req/s | ratio | echo p50 / p99 us | coracle p50 / p99 us |"
    );
    println!("|---|---|---|---|---|---|");
}

/// Prints a line of it: medians, and for the ratio its range.
pub(super) fn print_row(n_connections: usize, pairs: &[(Measured, Measured)]) {
    let middle = |value: &dyn Fn(&(Measured, Measured)) -> f64| {
        median(&mut pairs.iter().map(value).collect::<Vec<_>>())
    };
    let ratio = |pair: &(Measured, Measured)| pair.1.requests_per_s / pair.0.requests_per_s;
    let mut ratios: Vec<f64> = pairs.iter().map(ratio).collect();
    let middle_ratio = median(&mut ratios);
    println!(
        "| {n_connections} | {:.0} | {:.0} | {middle_ratio:.2} ({:.2} to {:.2}) | {:.0} / {:.0} | {:.0} / {:.0} |",
        middle(&|pair| pair.0.requests_per_s),
        middle(&|pair| pair.1.requests_per_s),
        ratios.first().copied().unwrap_or(0.0),
        ratios.last().copied().unwrap_or(0.0),
        middle(&|pair| pair.0.p50_us),
        middle(&|pair| pair.0.p99_us),
        middle(&|pair| pair.1.p50_us),
        middle(&|pair| pair.1.p99_us),
    );
}

#[expect(clippy::cast_precision_loss, reason = "rounded for display")]
fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
