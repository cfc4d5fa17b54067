//! `cargo xtask bench soak`: many requests, and everything that wears a server down: reloads, bad requests, clients that leave, slow clients.
//!
//! No request of the well-behaved clients may fail, and at the end the server must hold as many open files as at the beginning, and no
//! more memory than in its first third. Nothing here depends on how fast the machine is.

mod trouble;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::load_tool::{self, number};
use super::server::{Server, open_files};
use super::{http, machine};
use crate::command;
use trouble::{Ends, Trouble};

/// The requests come in so many parts, each in the next protocol.
const PARTS: u64 = 12;
const PROTOCOLS: [&str; 4] = ["v1", "v2-binary", "grpc", "v2"];
/// The first parts fill pools and caches: what grows after them grows for ever.
const PARTS_OF_GROWTH: usize = 4;
/// What memory may differ by from then on, as the allocator likes it.
const GROWTH_KIB_MAX: u64 = 16 << 10;
/// How often it is looked whether something has come about, and how many times.
const STEP: Duration = Duration::from_millis(100);
const STEPS_MAX: u32 = 150;

/// Builds the binary for release, and runs as many requests as were asked for.
pub(crate) fn run(root: &Path, n_requests: &str) -> Result<()> {
    let n_requests = n_requests.replace([',', '_'], "");
    let n_requests = n_requests
        .parse()
        .with_context(|| format!("{n_requests:?} is no number of requests"))?;
    let coracle = http::build(root)?.coracle;
    println!("machine: {}\n", machine());
    let directory = command::target_directory(root)?.join("bench-soak");
    soak(root, &coracle, &directory, n_requests)
}

/// Soaks the server `coracle`; `directory` is for its models.
///
/// # Errors
/// If a request fails that should not, or what the server holds grows.
pub(crate) fn soak(root: &Path, coracle: &Path, directory: &Path, n_requests: u64) -> Result<()> {
    let models = write_models(root, directory)?;
    let mut serve = Command::new(coracle);
    serve.arg("serve").arg(&models);
    serve.args([
        "--port",
        "0",
        "--access-log",
        "off",
        "--model-control",
        "explicit",
    ]);
    serve.args([
        "--idle-timeout",
        "2s",
        "--body-timeout",
        "1s",
        "--max-body",
        "1MiB",
    ]);
    let server = Server::start(&mut serve)?;
    // One request each, so that whatever is opened once is open.
    for model in ["iris", "wine"] {
        let path = format!("/v2/repository/models/{model}/load");
        server.post(&path, "{}")?;
    }
    let n_files = drained(&server, usize::MAX)?;
    let trouble = Trouble::new(server.address, root.join("examples"), models);
    let is_over = AtomicBool::new(false);
    let parts = std::thread::scope(|scope| {
        let troubles = trouble.start(scope, &is_over);
        let ends = Ends(&is_over);
        let parts = load(coracle, &server, n_requests);
        // A fast server is done before the slowest of its clients has been cut off.
        for _ in 0..STEPS_MAX {
            if parts.is_err() || trouble.has_happened() {
                break;
            }
            trouble::pause(STEP);
        }
        drop(ends);
        for trouble in troubles {
            trouble
                .join()
                .map_err(|_panicked| anyhow::anyhow!("a trouble maker panicked"))??;
        }
        parts
    })?;
    println!("\nmeanwhile: {}", trouble.summary());
    let n_files_after = drained(&server, n_files)?;
    println!("open files and sockets, at rest: {n_files} before, {n_files_after} after");
    ensure!(
        n_files_after <= n_files,
        "open files grew from {n_files} to {n_files_after}"
    );
    ensure!(
        trouble.has_happened(),
        "not every kind of trouble has happened"
    );
    let (early, late) = parts.split_at(PARTS_OF_GROWTH.min(parts.len()));
    let most = |parts: &[u64]| parts.iter().copied().max().unwrap_or(0);
    let (early, late) = (most(early), most(late));
    println!(
        "resident memory: at most {:.1} MB in the first third, {:.1} MB after it",
        megabytes(early),
        megabytes(late)
    );
    ensure!(
        late <= early + GROWTH_KIB_MAX,
        "memory grew from {early} to {late} KiB"
    );
    Ok(())
}

/// Sends all requests, part by part; returns the resident memory after each, in KiB.
fn load(coracle: &Path, server: &Server, n_requests: u64) -> Result<Vec<u64>> {
    println!(
        "| requests | protocol | per second | p99 ms | resident MB | open files |\n|---|---|---|---|---|---|"
    );
    let mut resident = Vec::new();
    let n_of_part = (n_requests / PARTS).max(1);
    for (part, protocol) in (1..=PARTS).zip(PROTOCOLS.iter().cycle()) {
        let url = format!("http://{}", server.address);
        let n = n_of_part.to_string();
        let arguments = [
            "--model",
            "iris",
            "--protocol",
            protocol,
            "-c",
            "8",
            "-n",
            &n,
            "--warm-up",
            "0s",
            "--allow-errors",
        ];
        let report = load_tool::run(coracle, &url, &arguments)?;
        let run = &report["runs"][0];
        let kib = server.resident_kib()?;
        println!(
            "| {} | {protocol} | {:.0} | {:.1} | {:.1} | {} |",
            part * n_of_part,
            number(run, "/requests_per_s")?,
            number(run, "/latency_us/p99")? / 1e3,
            megabytes(kib),
            open_files(server.process())?
        );
        if number(run, "/answered")? < n_of_part as f64 {
            bail!("requests failed: {}", run["failures"]);
        }
        resident.push(kib);
    }
    Ok(resident)
}

/// Waits until at most `n_files` are open; returns how many are.
fn drained(server: &Server, n_files: usize) -> Result<usize> {
    let mut open = open_files(server.process())?;
    for _ in 0..STEPS_MAX {
        if open <= n_files {
            break;
        }
        trouble::pause(STEP);
        open = open_files(server.process())?;
    }
    Ok(open)
}

/// Copies two models to where the server reads them.
fn write_models(root: &Path, directory: &Path) -> Result<PathBuf> {
    let models = directory.join("models");
    if models.exists() {
        std::fs::remove_dir_all(&models)?;
    }
    for (from, to) in [
        ("iris/model.joblib", "iris"),
        ("models/wine/model.pkl", "wine"),
    ] {
        let from = root.join("examples").join(from);
        std::fs::create_dir_all(models.join(to))?;
        let name = from.file_name().context("no name")?;
        std::fs::copy(&from, models.join(to).join(name))
            .with_context(|| from.display().to_string())?;
    }
    Ok(models)
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
