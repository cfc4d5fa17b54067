//! `cargo xtask bench tool`: `coracle bench` beside `wrk`, against the same server in one run.

use std::path::Path;

use anyhow::{Context, Result};

use super::load::{self, Measured};
use super::load_tool::{self, number};
use super::{http, machine};
use crate::command;

const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// The tools take turns this often for each number of connections.
const ROUNDS: usize = 5;
const SECONDS: u32 = 3;

/// Measures and prints a Markdown table for docs/performance.md.
pub(crate) fn run(root: &Path) -> Result<()> {
    let binaries = http::build(root)?;
    let script = http::write_script(root)?;
    let server = http::start_coracle(&binaries.coracle, &root.join("examples/iris"))?;
    let body = command::target_directory(root)?.join("bench-body.json");
    std::fs::write(&body, http::BODY).with_context(|| body.display().to_string())?;
    let body = body.to_str().context("the target directory is no text")?;
    let url = format!("http://{}{}", server.address, http::PATH);
    println!("machine: {}\n", machine());
    println!(
        "| connections | wrk req/s | coracle bench req/s | ratio | wrk p50 / p99 us | coracle bench p50 / p99 us |"
    );
    println!("|---|---|---|---|---|---|");
    for n_connections in CONNECTIONS {
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            let wrk = load::drive(server.address, http::PATH, &script, n_connections, SECONDS)?;
            let (connections, seconds) = (n_connections.to_string(), format!("{SECONDS}s"));
            let arguments = [
                "--data",
                body,
                "-c",
                &connections,
                "-d",
                &seconds,
                "--warm-up",
                "100ms",
            ];
            let report = load_tool::run(&binaries.coracle, &url, &arguments)?;
            let run = &report["runs"][0];
            let ours = Measured {
                requests_per_s: number(run, "/requests_per_s")?,
                p50_us: number(run, "/latency_us/p50")?,
                p99_us: number(run, "/latency_us/p99")?,
            };
            pairs.push((wrk, ours));
        }
        http::print_row(n_connections, &pairs);
    }
    Ok(())
}
