//! `coracle down`: stops the control plane.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::Environment;
use crate::args::StateArguments;
use crate::state::StateDirectory;

/// How long a control plane may take to finish what is in flight.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Runs the command.
pub(crate) fn run(arguments: &StateArguments, environment: &Environment) -> anyhow::Result<()> {
    let state = StateDirectory::new(arguments.state.as_deref(), environment)?;
    let mut out = crate::printed::stdout();
    let Some(process) = state.running_process() else {
        writeln!(out, "nothing runs on {}", state.path().display())?;
        return Ok(());
    };
    let id = Pid::from_raw(process).context("the process number is not one")?;
    kill_process(id, Signal::TERM).with_context(|| format!("cannot stop process {process}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let stopped = runtime.block_on(async {
        let wait = async {
            while state.running_process().is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(STOP_MAX, wait).await
    });
    if stopped.is_err() {
        bail!(
            "process {process} still finishes requests; stop it at once with `kill -9 {process}`"
        );
    }
    writeln!(
        out,
        "stopped; what was applied is kept in {}",
        state.path().display()
    )?;
    Ok(())
}
