//! Load from `coracle bench`, as a process of its own: what it measures is compiled for speed, as this program is not.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A load that runs.
pub(crate) struct Load(Child);

/// Starts `coracle bench URL --json - ARGUMENTS`.
pub(crate) fn start(coracle: &Path, url: &str, arguments: &[&str]) -> Result<Load> {
    let mut command = Command::new(coracle);
    command
        .args(["bench", url, "--json", "-", "--quiet"])
        .args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    Ok(Load(child))
}

impl Load {
    /// Waits for its end; returns what it measured.
    pub(crate) fn finish(self) -> Result<Value> {
        let output = self.0.wait_with_output()?;
        ensure!(
            output.status.success(),
            "coracle bench ended with {}",
            output.status
        );
        serde_json::from_slice(&output.stdout).context("what coracle bench printed")
    }
}

/// Runs a load to its end.
pub(crate) fn run(coracle: &Path, url: &str, arguments: &[&str]) -> Result<Value> {
    start(coracle, url, arguments)?.finish()
}

/// Returns the number at `pointer`, such as `/latency_us/p99`.
pub(crate) fn number(run: &Value, pointer: &str) -> Result<f64> {
    let value = run.pointer(pointer).and_then(Value::as_f64);
    value.with_context(|| format!("no number {pointer} in {run}"))
}
