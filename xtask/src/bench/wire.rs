//! `cargo xtask bench wire`: V2 with binary tensors and gRPC beside a bare echo over the same protocol on the same stack.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::load::{self, Measured};
use super::server::Server;
use super::{http, machine};
use crate::command;

const PATH: &str = "/v2/models/iris/infer";
const ROW: [f64; 4] = [5.1, 3.5, 1.4, 0.2];
const JSON: &str = r#"{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP64","parameters":{"binary_data_size":32}}],"parameters":{"binary_data_output":true}}"#;
/// The sizes of the answers: the echo gives as many bytes.
const V2_ANSWER_BYTES: usize = 141;
const GRPC_ANSWER_BYTES: usize = 47;
const CONNECTIONS: [usize; 2] = [1, 16];
/// Server and floor take turns this often for each number of connections.
const ROUNDS: usize = 5;
const SECONDS: u32 = 4;

/// Measures and prints Markdown tables for docs/performance.md.
pub(crate) fn run(root: &Path) -> Result<()> {
    let binaries = http::build(root)?;
    let load = [
        "build",
        "--release",
        "--package",
        "coracle-gateway",
        "--example",
        "grpc_load",
    ];
    command::run(&mut command::cargo(root, &load))?;
    let generator = command::target_directory(root)?.join("release/examples/grpc_load");
    let script = write_script(root)?;
    let mut serve = Command::new(&binaries.coracle);
    serve
        .arg("serve")
        .arg(root.join("examples/iris"))
        .args(["--port", "0"]);
    let coracle = Server::start(&mut serve)?;
    let echo = |arguments: &[&str], n_bytes: usize| {
        let mut echo = Command::new(&binaries.echo);
        Server::start(
            echo.arg("0")
                .args(["--bytes", &n_bytes.to_string()])
                .args(arguments),
        )
    };
    let plain = echo(&[], V2_ANSWER_BYTES)?;
    let grpc = echo(&["--grpc"], GRPC_ANSWER_BYTES)?;
    println!("machine: {}\n", machine());
    table("V2 with binary tensors", |n_connections| {
        let floor = load::drive(plain.address, PATH, &script, n_connections, SECONDS)?;
        let ours = load::drive(coracle.address, PATH, &script, n_connections, SECONDS)?;
        Ok((floor, ours))
    })?;
    table("gRPC ModelInfer with raw contents", |n_connections| {
        let floor = drive_grpc(&generator, grpc.address, n_connections)?;
        let ours = drive_grpc(&generator, coracle.address, n_connections)?;
        Ok((floor, ours))
    })
}

fn table(title: &str, mut round: impl FnMut(usize) -> Result<(Measured, Measured)>) -> Result<()> {
    println!("{title}\n");
    http::print_head();
    for n_connections in CONNECTIONS {
        let pairs = (0..ROUNDS).map(|_| round(n_connections));
        http::print_row(n_connections, &pairs.collect::<Result<Vec<_>>>()?);
    }
    println!();
    Ok(())
}

fn drive_grpc(generator: &Path, address: SocketAddr, n_connections: usize) -> Result<Measured> {
    let mut load = Command::new(generator);
    load.args([
        address.to_string(),
        n_connections.to_string(),
        SECONDS.to_string(),
    ]);
    let report = command::output(&mut load)?;
    let numbers: Vec<f64> = report
        .split_whitespace()
        .map(|number| number.parse().with_context(|| report.clone()))
        .collect::<Result<_>>()?;
    ensure!(numbers.len() == 3, "three numbers expected: {report}");
    Ok(Measured {
        requests_per_s: numbers[0],
        p50_us: numbers[1],
        p99_us: numbers[2],
    })
}

/// Writes the script that makes wrk post JSON with a row of raw doubles after it.
fn write_script(root: &Path) -> Result<PathBuf> {
    let mut binary = String::new();
    for byte in ROW.iter().flat_map(|number| number.to_le_bytes()) {
        write!(binary, "\\{byte:03}")?;
    }
    let lua = format!(
        "wrk.method = \"POST\"\nwrk.body = '{JSON}' .. \"{binary}\"\nwrk.headers[\"content-type\"] = \"application/octet-stream\"\nwrk.headers[\"inference-header-content-length\"] = \"{}\"\n",
        JSON.len()
    );
    let script = command::target_directory(root)?.join("bench-binary.lua");
    std::fs::write(&script, lua).with_context(|| script.display().to_string())?;
    Ok(script)
}
