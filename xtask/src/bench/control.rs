//! `cargo xtask bench control`: 1,000 InferenceServices on the local control plane.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::machine;
use crate::command;

/// Builds the binary, measures it, prints a Markdown table.
pub(crate) fn run(root: &Path) -> Result<()> {
    let build = ["build", "--release", "--package", "coracle-cli"];
    command::run(&mut command::cargo(root, &build))?;
    println!("machine: {}", machine());
    command::run(
        Command::new("python3")
            .arg(root.join("bench/control/bench.py"))
            .arg(command::target_directory(root)?.join("release/coracle"))
            .arg(root.join("examples/iris")),
    )
}
