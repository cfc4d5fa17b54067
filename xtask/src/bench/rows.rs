//! `cargo xtask bench rows`: a V1 request of 1,000 rows beside the floor of parsing, running and writing.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::machine;
use crate::command;

/// Measures in-process and prints a Markdown table for docs/performance.md.
pub(crate) fn run(root: &Path) -> Result<()> {
    let build = [
        "build",
        "--release",
        "--package",
        "coracle-protocol",
        "--example",
        "rows",
    ];
    command::run(&mut command::cargo(root, &build))?;
    println!("machine: {}\n", machine());
    let examples = root.join("examples");
    command::run(
        Command::new(command::target_directory(root)?.join("release/examples/rows"))
            .arg(examples.join("iris"))
            .arg(examples.join("models")),
    )
}
