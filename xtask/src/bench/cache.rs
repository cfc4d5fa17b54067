//! `cargo xtask bench cache`: what an answer that was kept takes, beside one that is computed.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::load_tool::{self, number};
use super::server::Server;
use super::{http, machine, median, overload};

const ROUNDS: usize = 3;
/// The rows of a request to a quick model and to a costly one.
const ROWS: [&str; 2] = ["1", "500"];
const CONNECTIONS: [&str; 2] = ["1", "16"];

/// One way to serve a model.
struct Served {
    name: &'static str,
    options: &'static [&'static str],
}

const WAYS: [Served; 2] = [
    Served {
        name: "computed",
        options: &[],
    },
    Served {
        name: "kept",
        options: &["--cache-responses", "64MiB"],
    },
];

/// Measures with a release build, and prints a Markdown table for docs/performance.md.
pub(crate) fn run(root: &Path) -> Result<()> {
    let coracle = http::build(root)?.coracle;
    let slow = overload::write_model(root)?;
    println!("machine: {}", machine());
    println!(
        "the same request again and again, V2 with binary tensors; medians of {ROUNDS} rounds\n"
    );
    println!(
        "| model, rows | connections | computed: p50 us, req/s | kept: p50 us, req/s | kept / computed, p50 |\n|---|---|---|---|---|"
    );
    measure(
        &coracle,
        "iris, 100 trees",
        &root.join("examples/iris"),
        ROWS[0],
    )?;
    measure(&coracle, "the model of `bench overload`", &slow, ROWS[1])
}

fn measure(coracle: &Path, what: &str, file: &Path, rows: &str) -> Result<()> {
    let servers: Vec<(&Served, Server)> = WAYS
        .iter()
        .map(|way| {
            let mut serve = Command::new(coracle);
            serve.arg("serve").arg(file).args(["--name", "model"]);
            serve.args(["--port", "0", "--access-log", "off"]);
            serve.args(way.options);
            Ok((way, Server::start(&mut serve)?))
        })
        .collect::<Result<_>>()?;
    for connections in CONNECTIONS {
        // Of each way, the medians of latency and of throughput.
        let mut measured = vec![(Vec::new(), Vec::new()); servers.len()];
        for _ in 0..ROUNDS {
            for ((_, server), (latencies, rates)) in servers.iter().zip(&mut measured) {
                let url = format!("http://{}/v2/models/model", server.address);
                let fixed = ["--protocol", "v2-binary", "-d", "2s"];
                let own = ["-c", connections, "--rows", rows];
                let report = load_tool::run(coracle, &url, &[fixed, own].concat())?;
                let run = &report["runs"][0];
                latencies.push(number(run, "/latency_us/p50")?);
                rates.push(number(run, "/requests_per_s")?);
            }
        }
        print!("| {what}, {rows} | {connections} |");
        let mut middle = Vec::new();
        for (latencies, rates) in &mut measured {
            let latency = median(latencies);
            print!(" {latency:.0}, {:.0} |", median(rates));
            middle.push(latency);
        }
        println!(" {:.2} |", middle[1] / middle[0]);
    }
    for (way, server) in &servers {
        let counted = server.get("/v2/models/model/stats")?;
        let statistics: serde_json::Value = serde_json::from_str(&counted)?;
        let hits = number(
            &statistics,
            "/model_stats/0/inference_stats/cache_hit/count",
        )?;
        ensure!(
            (hits > 0.0) == (way.name == "kept"),
            "{hits} kept answers were given where they are {}",
            way.name
        );
    }
    Ok(())
}
