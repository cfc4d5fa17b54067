//! The guard: a small process between the server and one program, so that nothing is left behind.
//!
//! The server starts itself again as a guard (`run`), with one end of a socket as its standard input. The guard starts
//! itself once more (`exec`), which asks the kernel to be killed when the guard ends, and becomes the program. The guard
//! adopts every descendant of the program whose parent ends. It kills all of them when the program ends, when it is
//! told to, and, after SIGTERM and the grace period, when the server's end of the socket closes, which the kernel sees
//! to even if the server is killed.
//!
//! The server says `term` or `kill`; the guard says `started PID`, `failed WHY`, `exited CODE` or `killed SIGNAL`, a line
//! each. Nothing here may write to the standard output or error: they are the program's.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitIdOptions, WaitOptions, WaitStatus};

use crate::proc_table;

/// The program to start as a guard: this one.
#[must_use]
pub fn this_program() -> PathBuf {
    let named = std::env::current_exe().ok().filter(|path| path.exists());
    // Stays right when the file is replaced by a newer one.
    named.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// Runs a guard, or becomes a program under one. `prefix` are the arguments of this program that lead here;
/// `arguments` are those after them.
#[must_use]
pub fn run(prefix: &[&str], arguments: &[OsString]) -> ExitCode {
    let end = arguments.iter().position(|argument| argument == "--");
    let (head, argv) = arguments.split_at(end.unwrap_or(arguments.len()));
    let head: Vec<&str> = head
        .iter()
        .filter_map(|argument| argument.to_str())
        .collect();
    let argv = argv.get(1..).unwrap_or_default();
    let result = match head.as_slice() {
        ["run", grace_ms, cgroup] => grace_ms
            .parse()
            .map_err(io::Error::other)
            .and_then(|grace_ms| guard(prefix, Duration::from_millis(grace_ms), cgroup, argv)),
        ["exec", parent, cgroup] => become_program(parent, cgroup, argv),
        _ => Err(io::Error::other(
            "not for use by hand: the server starts it",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Who listens is told; whoever started this by hand sees that it failed.
            let _told = say(&io::stdin(), &format!("failed {error}"));
            ExitCode::from(127)
        }
    }
}

fn say(socket: &impl std::os::fd::AsFd, line: &str) -> io::Result<()> {
    let mut socket = UnixStream::from(socket.as_fd().try_clone_to_owned()?);
    socket.write_all(format!("{}\n", line.replace('\n', " ")).as_bytes())
}

/// The program, while it runs; locked while it is reaped, so that no signal can hit a process that took its number.
type Running = Arc<Mutex<Option<Pid>>>;

fn guard(prefix: &[&str], grace: Duration, cgroup: &str, argv: &[OsString]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let child = Command::new(this_program())
        .args(prefix)
        .args(["exec", &std::process::id().to_string(), cgroup, "--"])
        .args(argv)
        .stdin(OwnedFd::from(socket.try_clone()?))
        .process_group(0)
        .spawn()?;
    let main = Pid::from_child(&child);
    say(&socket, &format!("started {}", child.id()))?;
    let running: Running = Arc::new(Mutex::new(Some(main)));
    let (ended, end) = channel();
    let thread = Arc::clone(&running);
    let listener = socket.try_clone()?;
    // Detached: it ends with the process.
    std::thread::Builder::new().spawn(move || obey(&listener, &thread, &end, grace))?;
    let status = await_end(main, &running)?;
    let said = match status.terminating_signal() {
        Some(signal) => say(&socket, &format!("killed {signal}")),
        None => say(
            &socket,
            &format!("exited {}", status.exit_status().unwrap_or(0)),
        ),
    };
    // A server that is gone cannot be told; what is left of the program ends all the same.
    drop((said, ended));
    end_all(cgroup);
    Ok(())
}

/// Does what the server says; ends the program when the server is gone.
fn obey(socket: &UnixStream, running: &Running, end: &Receiver<()>, grace: Duration) {
    for line in BufReader::new(socket).lines() {
        match line.as_deref() {
            Ok("term") => signal_group(running, Signal::TERM),
            Ok("kill") => signal_group(running, Signal::KILL),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    signal_group(running, Signal::TERM);
    // The other end is dropped when the program has ended.
    let _ended = end.recv_timeout(grace);
    signal_group(running, Signal::KILL);
}

/// Sends a signal to the program's process group.
fn signal_group(running: &Running, signal: Signal) {
    let main = running.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(main) = *main {
        let _sent = rustix::process::kill_process_group(main, signal);
    }
}

/// Waits for the program to end; reaps on the way what it left behind.
fn await_end(main: Pid, running: &Running) -> io::Result<WaitStatus> {
    loop {
        let seen = rustix::process::waitid(
            rustix::process::WaitId::All,
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        match seen {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((pid, status)) = rustix::process::wait(WaitOptions::NOHANG)?
            && pid == main
        {
            *running = None;
            return Ok(status);
        }
    }
}

/// Kills whatever is left of the program, until nothing is.
fn end_all(cgroup: &str) {
    if let Some(directory) = Path::new(cgroup).parent().filter(|_| !cgroup.is_empty()) {
        let _killed = std::fs::write(directory.join("cgroup.kill"), "1");
    }
    loop {
        // The children of those that are killed here become ours, and are next.
        for child in proc_table::children(std::process::id()) {
            let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
            let _sent = pid.map(|pid| rustix::process::kill_process(pid, Signal::KILL));
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Becomes the program; returns only if that fails.
fn become_program(parent: &str, cgroup: &str, argv: &[OsString]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let current = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if current.as_deref() != Some(parent) {
        return Err(io::Error::other("the guard is gone"));
    }
    if !cgroup.is_empty() {
        std::fs::write(cgroup, "0").map_err(|error| {
            io::Error::other(format!("cannot enter the control group {cgroup}: {error}"))
        })?;
    }
    let Some((program, arguments)) = argv.split_first() else {
        return Err(io::Error::other("no program"));
    };
    // Closes when the program is there.
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let error = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .exec();
    let program = Path::new(program);
    let why = match error.kind() {
        io::ErrorKind::NotFound if program.exists() => {
            "its interpreter, named in its first line after #!, does not exist".to_owned()
        }
        io::ErrorKind::NotFound if program.components().count() == 1 => {
            "no such program in the PATH".to_owned()
        }
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "not permitted; is it a file, and executable?".to_owned()
        }
        _ => error.to_string(),
    };
    let _told = say(
        &socket,
        &format!("failed cannot run {}: {why}", program.display()),
    );
    std::process::exit(127)
}
