//! The server's side of a guard: starts one, tells it what to do, hears what became of the program.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout};

use crate::expand::Command;
use crate::guard;
use crate::leftovers::{self, MARKER};

/// How a guard is started: this program with the arguments that lead to [`guard::run`].
#[derive(Clone, Debug)]
pub struct GuardCommand {
    /// The program.
    pub program: PathBuf,
    /// The arguments before the guard's own.
    pub arguments: Vec<String>,
}

impl GuardCommand {
    /// Returns how this very program is started as a guard.
    #[must_use]
    pub fn this_program(arguments: &[&str]) -> Self {
        Self {
            program: guard::this_program(),
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
        }
    }
}

/// What a guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The program has this process number.
    Started(u32),
    /// It could not be started.
    Failed(String),
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// The guard is gone; it says no more.
    Gone,
}

/// What surrounds a program.
pub(crate) struct Surroundings<'a> {
    pub(crate) guard: &'a GuardCommand,
    /// What marks every process as the server's: the replica's directory.
    pub(crate) marker: &'a Path,
    /// The file to write to in order to enter the control group.
    pub(crate) cgroup: Option<&'a Path>,
    pub(crate) grace: Duration,
}

/// A program under its guard. Dropped, the program is ended by the guard.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Child,
    lines: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
    marker: PathBuf,
}

/// How long a guard may take to kill everything and end.
const GUARD_END_MAX: Duration = Duration::from_secs(5);

impl Guarded {
    /// Starts a program; returns its two outputs with it.
    pub(crate) fn spawn(
        command: &Command,
        around: &Surroundings<'_>,
    ) -> io::Result<(Self, Option<ChildStdout>, Option<ChildStderr>)> {
        let directory = &command.working_directory;
        if !directory.is_dir() {
            let message = format!(
                "the working directory {} does not exist",
                directory.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let cgroup = around.cgroup.map(Path::to_string_lossy).unwrap_or_default();
        let mut start = std::process::Command::new(&around.guard.program);
        start
            .args(&around.guard.arguments)
            .args(["run", &around.grace.as_millis().to_string(), &cgroup, "--"])
            .args(&command.argv)
            .env_clear()
            .envs(&command.environment)
            .env(MARKER, around.marker)
            .current_dir(directory)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The terminal's signals are for the server, which stops its programs in order.
            .process_group(0);
        let mut child = tokio::process::Command::from(start).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (read, orders) = UnixStream::from_std(ours)?.into_split();
        let guarded = Self {
            child,
            lines: BufReader::new(read).lines(),
            orders,
            marker: around.marker.to_owned(),
        };
        Ok((guarded, stdout, stderr))
    }

    /// Returns what the guard says next.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            let Ok(Some(line)) = self.lines.next_line().await else {
                return Heard::Gone;
            };
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let heard = match word {
                "started" => rest.parse().ok().map(Heard::Started),
                "failed" => Some(Heard::Failed(rest.to_owned())),
                "exited" => rest.parse().ok().map(Heard::Exited),
                "killed" => rest.parse().ok().map(Heard::Killed),
                _ => None,
            };
            if let Some(heard) = heard {
                return heard;
            }
        }
    }

    /// Sends SIGTERM to the program's process group.
    pub(crate) fn terminate(&self) {
        self.order("term\n");
    }

    /// Sends SIGKILL to the program's process group.
    pub(crate) fn kill(&self) {
        self.order("kill\n");
    }

    fn order(&self, line: &str) {
        // A guard that is gone needs no orders; the socket holds more than the two that are ever sent.
        let _written = self.orders.try_write(line.as_bytes());
    }

    /// Waits until the guard has ended everything. One that does not is ended with all that bears its mark.
    pub(crate) async fn end(mut self) {
        let ended = tokio::time::timeout(GUARD_END_MAX, self.child.wait()).await;
        let has_ended_well = matches!(&ended, Ok(Ok(status)) if status.success());
        if !has_ended_well {
            let marker = self.marker.clone();
            let killing = tokio::task::spawn_blocking(move || leftovers::end(&marker));
            // What cannot be ended now is ended at the next start of the server.
            let _n_killed = killing.await;
            let _ended = tokio::time::timeout(GUARD_END_MAX, self.child.wait()).await;
        }
    }
}
