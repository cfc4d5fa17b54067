//! `cargo xtask bench wire`: V2 with binary tensors and gRPC beside a bare echo over the same protocol on the same stack.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::load::{self, Measured};
use super::server::Server;
use super::{http, machine};
use crate::command;

const PATH: &str = "/v2/models/iris/infer";
const ROW: [f64; 4] = [5.1, 3.5, 1.4, 0.2];
const JSON: &str = r#"{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP64","parameters":{"binary_data_size":32}}],"parameters":{"binary_data_output":true}}"#;
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
    // The echoes answer as many bytes as the server does.
    let answer_bytes = (
        v2_answer_bytes(coracle.address)?,
        run_load(&generator, coracle.address, 1, 1)?.1,
    );
    let plain = echo(&[], answer_bytes.0)?;
    let grpc = echo(&["--grpc"], answer_bytes.1)?;
    println!("machine: {}", machine());
    println!(
        "answers: {} bytes of V2, {} of gRPC\n",
        answer_bytes.0, answer_bytes.1
    );
    table("V2 with binary tensors", |n_connections| {
        let floor = load::drive(plain.address, PATH, &script, n_connections, SECONDS)?;
        let ours = load::drive(coracle.address, PATH, &script, n_connections, SECONDS)?;
        Ok((floor, ours))
    })?;
    table("gRPC ModelInfer with raw contents", |n_connections| {
        let floor = run_load(&generator, grpc.address, n_connections, SECONDS)?;
        let ours = run_load(&generator, coracle.address, n_connections, SECONDS)?;
        Ok((floor.0, ours.0))
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

/// Asks over gRPC; returns what was measured and the size of an answer's message.
fn run_load(
    generator: &Path,
    address: SocketAddr,
    n_connections: usize,
    seconds: u32,
) -> Result<(Measured, usize)> {
    let mut load = Command::new(generator);
    load.args([
        address.to_string(),
        n_connections.to_string(),
        seconds.to_string(),
    ]);
    let report = command::output(&mut load)?;
    let words: Vec<&str> = report.split_whitespace().collect();
    let [requests_per_s, p50_us, p99_us, n_bytes] = words.as_slice() else {
        bail!("four numbers expected: {report}");
    };
    let number = |word: &str| word.parse().with_context(|| report.clone());
    let measured = Measured {
        requests_per_s: number(requests_per_s)?,
        p50_us: number(p50_us)?,
        p99_us: number(p99_us)?,
    };
    Ok((measured, n_bytes.parse().with_context(|| report.clone())?))
}

/// Asks once over V2 with binary tensors; returns the size of the answer's body.
fn v2_answer_bytes(address: SocketAddr) -> Result<usize> {
    let body = [JSON.as_bytes(), &ROW.map(f64::to_le_bytes).concat()].concat();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ninference-header-content-length: {}\r\ncontent-length: {}\r\n\r\n",
        JSON.len(),
        body.len()
    );
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&[head.as_bytes(), &body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.context("the answer has no end of its head")?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(answer.len() - end - 4)
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
