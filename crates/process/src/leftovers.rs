//! Ends what an earlier server, or a guard that was killed, has left behind.
//!
//! Every program bears a mark in its environment, which its descendants inherit: the replica's directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal};

/// The variable that holds the mark.
pub const MARKER: &str = "CORACLE_REPLICA_DIRECTORY";

/// Looks again so many times for what was just being started.
const ROUNDS_MAX: usize = 20;

/// Ends every process whose mark is `directory` or within it; returns how many there were.
///
/// Needs `/proc`: elsewhere nothing is found.
pub fn end(directory: &Path) -> usize {
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let there = marked(directory).into_iter();
        // One that was killed may take a while to go.
        let new: Vec<u32> = there
            .filter(|pid| !killed.contains(pid) && kill(*pid, directory))
            .collect();
        if new.is_empty() {
            break;
        }
        killed.extend(new);
    }
    killed.len()
}

/// Returns the processes whose mark is `directory` or within it.
#[must_use]
pub fn marked(directory: &Path) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != std::process::id() && is_marked(pid, directory))
        .collect()
}

/// Kills a process if it still is the one that was found.
fn kill(pid: u32, directory: &Path) -> bool {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(raw) = raw else { return false };
    // The handle stays with the process even if its number is given to another.
    let Ok(handle) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else {
        return false;
    };
    is_marked(pid, directory) && rustix::process::pidfd_send_signal(handle, Signal::KILL).is_ok()
}

/// Tells whether a process runs and bears the mark. One that has ended has no environment any more.
fn is_marked(pid: u32, directory: &Path) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut variables = environment.split(|&byte| byte == 0);
    variables.any(|variable| {
        let value = variable
            .strip_prefix(MARKER.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="));
        value.is_some_and(|value| Path::new(OsStr::from_bytes(value)).starts_with(directory))
    })
}
