//! Developer commands: `cargo xtask check`, `tidy`, `bench`, `simulate autoscale`, `dashboard`.
//!
//! Start at [`main`]; each command is a module. Nothing here is part of the product.
#![expect(
    clippy::print_stdout,
    reason = "a developer's command prints its results"
)]

mod bench;
mod check;
mod command;
mod dashboard;
mod exercise;
mod simulate;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  check              fmt, clippy, docs, tidy, all tests, the exercise: what must pass before a commit lands
  tidy               layer edges, file sizes and names only (a second or two)
  exercise           KServe's workflow with kubectl, curl, an S3 server and the kserve SDK (needs kubectl, python3)
  dashboard          write docs/grafana/coracle.json, the Grafana dashboard of the metrics that there are
  bench http         the server beside a bare echo server, driven by wrk (Debian package `wrk`)
  bench wire         V2 with binary tensors and gRPC beside a bare echo over the same protocol (needs wrk)
  bench tool         `coracle bench` beside wrk, against the same server (needs wrk)
  bench overload     a costly model at five times what it can do: goodput, deadlines, memory, recovery
  bench cache        answers that were kept beside ones that are computed
  bench soak [--requests N]
                     3,000,000 requests with reloads, bad inputs, disconnects and slow clients: memory and open files stay
  bench rows         a V1 request of 1,000 rows beside the floor of parsing, running and writing
  bench control      1,000 InferenceServices on the local control plane (needs python3)
  bench models       2,000 models, of which 50 fit in memory: reloads, memory, every answer checked
  bench onnx         graphs on ONNX Runtime, served, beside session.run in Python (needs python3 and pip)
  bench kernels      ns per row beside scikit-learn, onnxruntime and tl2cgen (needs python3 and pip)
  simulate autoscale [--out DIR]
                     reactive beside predictive scaling on six traces: a table, and a picture of each (default target/simulate)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = command::workspace_root();
    let result = match arguments.as_slice() {
        ["check"] => check::run(&root),
        ["tidy"] => tidy::run(&root),
        ["exercise"] => exercise::run(&root),
        ["dashboard"] => dashboard::write(&root),
        ["bench", "http"] => bench::http::run(&root),
        ["bench", "wire"] => bench::wire::run(&root),
        ["bench", "tool"] => bench::tool::run(&root),
        ["bench", "overload"] => bench::overload::run(&root),
        ["bench", "cache"] => bench::cache::run(&root),
        ["bench", "soak"] => bench::soak::run(&root, "3000000"),
        ["bench", "soak", "--requests", n] => bench::soak::run(&root, n),
        ["bench", "rows"] => bench::rows::run(&root),
        ["bench", "control"] => bench::control::run(&root),
        ["bench", "models"] => bench::models::run(&root),
        ["bench", "models", coracle] => {
            bench::models::check(Path::new(coracle), &root.join("target"))
        }
        ["bench", "onnx"] => bench::onnx::run(&root),
        ["bench", "onnx", coracle] => bench::onnx::try_out(&root, Path::new(coracle)),
        ["bench", "kernels"] => bench::kernels::run(&root),
        ["simulate", "autoscale"] => simulate::autoscale(&root, None),
        ["simulate", "autoscale", "--out", out] => simulate::autoscale(&root, Some(out)),
        ["--help" | "-h" | "help"] => {
            eprint!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
