//! No process is left, whichever of the processes is ended, and however.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use coracle_process::leftovers;
use rustix::process::{Pid, Signal};

use crate::fixture::{Fixture, is_ready, sh, until};

/// A program that starts a child, a grandchild that leaves its group and session, and a daemon whose parent has ended;
/// all ignore SIGTERM.
const FAMILY: &str = "trap '' TERM\nsleep 1000 &\n(trap '' TERM; setsid sleep 1000) &\n(setsid sh -c 'sleep 1000 & sleep 1000' &)\nwhile :; do sleep 1; done";

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits until the processes of a directory are so many as `is_it` says.
fn wait_for(directory: &Path, is_it: impl Fn(&[u32]) -> bool) -> Vec<u32> {
    for _ in 0..100_000 {
        let running = leftovers::marked(directory);
        if is_it(&running) {
            return running;
        }
        std::thread::yield_now();
    }
    panic!("still {:?}", leftovers::marked(directory));
}

/// Tells whether a process is one of the guard's.
fn is_guard(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("coracle-process-helper")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_descendants_end_with_the_replica() {
    let fixture = Fixture::new();
    let replica = fixture.start(sh(FAMILY));
    let directory = fixture.directory.path();
    // The guard, the program with its sleep, the child, the grandchild, the daemon with its child.
    wait_for(directory, |running| running.len() >= 7);
    replica.stopped().await;
    assert_eq!(fixture.running(), Vec::<u32>::new());
}

#[tokio::test]
async fn all_descendants_end_when_the_program_ends() {
    let fixture = Fixture::new();
    let script = "setsid sh -c 'sleep 1000 & sleep 1000' & sleep 0.2; exit 1";
    let replica = fixture.start(sh(script));
    let mut states = replica.subscribe();
    until(&mut states, |state| state.n_restarts >= 3).await;
    // At most what the present run has: the guard, the program, its sleep, the daemon and its children.
    assert!(fixture.running().len() <= 7, "{:?}", fixture.running());
    replica.stopped().await;
    assert_eq!(fixture.running(), Vec::<u32>::new());
}

#[test]
fn a_supervisor_that_is_killed_leaves_nothing() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path();
    let mut supervisor = Command::new(env!("CARGO_BIN_EXE_coracle-process-helper"))
        .arg("supervise")
        .arg(directory)
        .args(["sh", "-c", FAMILY])
        .spawn()
        .unwrap();
    wait_for(directory, |running| running.len() >= 7);
    kill(supervisor.id(), Signal::KILL);
    supervisor.wait().unwrap();
    wait_for(directory, <[u32]>::is_empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_is_killed_takes_its_program_along_and_is_replaced() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path();
    let replica = fixture.start(sh(FAMILY));
    let mut states = replica.subscribe();
    let before = wait_for(directory, |running| running.len() >= 7);
    let guard = *before.iter().find(|&&pid| is_guard(pid)).unwrap();
    kill(guard, Signal::KILL);
    let state = until(&mut states, |state| {
        state.n_restarts == 1 && state.pid.is_some()
    })
    .await;
    assert_eq!(
        state.last_exit.unwrap().message,
        "its guard was ended from outside"
    );
    let after = leftovers::marked(directory);
    assert!(
        before.iter().all(|pid| !after.contains(pid)),
        "{before:?} {after:?}"
    );
    replica.stopped().await;
    assert_eq!(fixture.running(), Vec::<u32>::new());
}

#[test]
fn a_restarted_server_ends_what_is_left_of_guard_and_supervisor_killed_together() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path();
    // What such an end leaves: processes with the mark and no guard, out of any group.
    let mut left = Command::new("setsid")
        .args(["sh", "-c", "trap '' TERM; sleep 1000 & echo up; wait"])
        .env(leftovers::MARKER, directory.join("replica"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(left.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let other = tempfile::tempdir().unwrap();
    assert_eq!(leftovers::end(other.path()), 0);
    assert_eq!(leftovers::end(directory), 2);
    left.wait().unwrap();
    wait_for(directory, <[u32]>::is_empty);
}

#[tokio::test]
async fn a_replica_that_is_dropped_is_ended() {
    let fixture = Fixture::new();
    let replica = fixture.start(crate::fixture::server(""));
    let mut states = replica.subscribe();
    until(&mut states, is_ready).await;
    drop(replica);
    until(&mut states, |state| state.pid.is_none()).await;
    assert_eq!(fixture.running(), Vec::<u32>::new());
}
