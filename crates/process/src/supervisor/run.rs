//! One run of a replica's program, from its start to its end.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_base::ByteCount;
use coracle_serving::{
    Endpoints, PORT_DEFAULT, ProcessExit, ProcessPhase, ProcessSpec, ProcessState,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Launch, told};
use crate::cgroup::Cgroup;
use crate::expand::{self, Command};
use crate::guarded::{Guarded, Heard, Surroundings};
use crate::log::{LastLines, Stream, read_lines};
use crate::probe::{self, Finding, Target};
use crate::proc_table;

/// How long what was written before the end may take to be read.
const READ_OUT_MAX: Duration = Duration::from_secs(2);
/// Findings that may wait for the supervisor.
const QUEUE_FINDINGS: usize = 8;

/// One run.
pub(super) struct Run<'a> {
    pub(super) launch: &'a Launch,
    pub(super) state: &'a watch::Sender<ProcessState>,
    pub(super) progress: &'a Progress,
}

/// Until when a replica is to be ready for the first time, in one run or several.
pub(super) struct Progress {
    until: Option<Instant>,
    was_ready: AtomicBool,
}

impl Progress {
    pub(super) fn new(launch: &Launch) -> Self {
        let time = launch.spec.progress_seconds;
        let time = time.map(|seconds| launch.second.saturating_mul(seconds));
        Self {
            until: time.and_then(|time| Instant::now().checked_add(time)),
            was_ready: AtomicBool::new(false),
        }
    }

    fn is_overdue(&self) -> bool {
        let is_past = self.until.is_some_and(|until| Instant::now() >= until);
        is_past && !self.was_ready.load(Ordering::Relaxed)
    }
}

/// A program that is running.
struct Program {
    guarded: Guarded,
    command: Command,
    models: Option<PathBuf>,
    cgroup: Option<Cgroup>,
    readers: Vec<JoinHandle<()>>,
    last_lines: LastLines,
}

/// Why a program is being ended, and until when it may end by itself.
struct Ending {
    because: Option<String>,
    is_out_of_memory: bool,
    kill_at: Option<Instant>,
}

impl Run<'_> {
    /// Runs the program until it ends or is to end.
    pub(super) async fn to_its_end(&self, stop: &mut watch::Receiver<bool>) -> ProcessExit {
        self.set_phase(starting("starting the program"));
        let mut program = match self.start() {
            Ok(program) => program,
            Err(why) => return self.exit(0, &Heard::Failed(why), None, false),
        };
        let (heard, ending) = match program.guarded.next().await {
            Heard::Started(pid) => {
                let started_at = self.launch.clock.unix_time().as_secs();
                self.state.send_modify(|state| {
                    state.pid = Some(pid);
                    state.started_at = started_at;
                });
                self.attend(&mut program, pid, stop).await
            }
            heard => (heard, None),
        };
        let Program {
            guarded,
            cgroup,
            readers,
            last_lines,
            ..
        } = program;
        guarded.end().await;
        for reader in readers {
            let abort = reader.abort_handle();
            if timeout(READ_OUT_MAX, reader).await.is_err() {
                abort.abort();
            }
        }
        let lines = last_lines.take();
        self.state.send_modify(|state| state.last_lines = lines);
        let is_out_of_memory = cgroup.is_some_and(|cgroup| cgroup.n_out_of_memory() > 0);
        let started_at = self.state.borrow().started_at;
        self.exit(started_at, &heard, ending, is_out_of_memory)
    }

    fn start(&self) -> Result<Program, String> {
        let Launch {
            spec, directory, ..
        } = self.launch;
        if spec.argv.is_empty() {
            return Err("no command to run".to_owned());
        }
        let models = self.prepare()?;
        let ports = allot_ports(&spec.ports).map_err(|error| format!("no free port: {error}"))?;
        let base = &self.launch.base_environment;
        let command = expand::command(spec, base, (directory, models.as_deref()), ports);
        let (cgroup, words) = self.launch.cgroups.create(&self.launch.name, spec.limits);
        self.state.send_modify(|state| state.limits = words);
        let entrance = cgroup.as_ref().map(Cgroup::entrance);
        let around = Surroundings {
            guard: &self.launch.guard,
            marker: directory,
            cgroup: entrance.as_deref(),
            grace: self.grace(),
        };
        let (guarded, stdout, stderr) = Guarded::spawn(&command, &around)
            .map_err(|error| format!("cannot start the program: {error}"))?;
        let last_lines = LastLines::default();
        let sink = || (Arc::clone(&self.launch.log), last_lines.clone());
        let mut readers = Vec::new();
        if let Some(stdout) = stdout {
            let (log, last) = sink();
            readers.push(tokio::spawn(read_lines(stdout, Stream::Stdout, log, last)));
        }
        if let Some(stderr) = stderr {
            let (log, last) = sink();
            readers.push(tokio::spawn(read_lines(stderr, Stream::Stderr, log, last)));
        }
        Ok(Program {
            guarded,
            command,
            models,
            cgroup,
            readers,
            last_lines,
        })
    }

    /// Makes the replica's directory with a link to the model's files, where they are missing; returns the link.
    fn prepare(&self) -> Result<Option<PathBuf>, String> {
        let directory = &self.launch.directory;
        std::fs::create_dir_all(directory).map_err(|error| {
            let directory = directory.display();
            format!("cannot make the directory {directory}: {error}")
        })?;
        let Some(files) = &self.launch.models else {
            return Ok(None);
        };
        let link = directory.join("models");
        let is_made = std::os::unix::fs::symlink(files, &link).is_ok()
            // By an earlier run.
            || std::fs::read_link(&link).is_ok_and(|there| there == *files);
        // There may be no links here.
        Ok(Some(if is_made { link } else { files.clone() }))
    }

    /// Attends to a running program; returns how it ended, and why it was made to.
    async fn attend(
        &self,
        program: &mut Program,
        pid: u32,
        stop: &mut watch::Receiver<bool>,
    ) -> (Heard, Option<Ending>) {
        let target = Target {
            command: &program.command,
            models: program.models.as_deref(),
            guard: &self.launch.guard,
            marker: &self.launch.directory,
            pid,
            second: self.launch.second,
            started: Instant::now(),
        };
        let endpoints = endpoints(&self.launch.spec, &program.command);
        let (sender, mut findings) = mpsc::channel(QUEUE_FINDINGS);
        let probes = probe::watch(&target, &self.launch.spec, &sender);
        let memory = self.watch_memory(pid, program.cgroup.is_some());
        tokio::pin!(probes, memory);
        let mut ending: Option<Ending> = None;
        let mut overdue_at = self.progress.until.filter(|_| !self.progress.is_overdue());
        loop {
            let kill_at = ending.as_ref().and_then(|ending| ending.kill_at);
            let is_ending = ending.is_some();
            tokio::select! {
                biased;
                heard = program.guarded.next() => return (heard, ending),
                () = told(stop), if !is_ending => {
                    self.set_phase(ProcessPhase::Stopping);
                    ending = Some(self.terminate(&program.guarded, None));
                }
                Some(finding) = findings.recv(), if !is_ending => {
                    ending = self.take(finding, endpoints, &program.guarded);
                }
                why = &mut memory, if !is_ending => {
                    program.guarded.kill();
                    ending = Some(Ending { because: Some(why), is_out_of_memory: true, kill_at: None });
                }
                () = until(kill_at) => {
                    program.guarded.kill();
                    ending = ending.map(|ending| Ending { kill_at: None, ..ending });
                }
                () = until(overdue_at), if !is_ending => {
                    overdue_at = None;
                    let phase = self.state.borrow().phase.clone();
                    self.set_phase(phase);
                }
                () = &mut probes, if !is_ending => {}
            }
        }
    }

    /// Takes what the probes found; returns the program's end if it must end.
    fn take(&self, finding: Finding, endpoints: Endpoints, guarded: &Guarded) -> Option<Ending> {
        match finding {
            Finding::Waiting(why) => self.set_phase(starting(&why)),
            Finding::Ready => {
                self.progress.was_ready.store(true, Ordering::Relaxed);
                self.set_phase(ProcessPhase::Ready { endpoints });
            }
            Finding::Unready(why) => self.set_phase(ProcessPhase::Unready { why }),
            Finding::Failed(why) => {
                self.set_phase(ProcessPhase::Unready { why: why.clone() });
                return Some(self.terminate(guarded, Some(why)));
            }
        }
        None
    }

    fn terminate(&self, guarded: &Guarded, because: Option<String>) -> Ending {
        guarded.terminate();
        Ending {
            because,
            is_out_of_memory: false,
            kill_at: Some(Instant::now() + self.grace()),
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self.launch.spec.grace_seconds;
        self.launch.second.saturating_mul(seconds)
    }

    /// Waits until the program has more memory than it may have; says so. For ever if that is held elsewhere.
    async fn watch_memory(&self, pid: u32, has_group: bool) -> String {
        let limit = match self.launch.spec.limits.memory_bytes {
            Some(limit) if !has_group => limit,
            _ => return pending().await,
        };
        loop {
            sleep(self.launch.second).await;
            let measure = move || {
                let [usage] = proc_table::usage(&[pid])[..] else {
                    return 0;
                };
                // Shared pages count for each of the processes: looked at closely only where it may matter.
                match usage.memory_bytes > limit {
                    true => proc_table::proportional_memory(pid),
                    false => 0,
                }
            };
            let used = tokio::task::spawn_blocking(measure).await.unwrap_or(0);
            if used > limit {
                let rounded = |bytes| ByteCount::new(bytes).to_rounded();
                return format!(
                    "used {} of memory, its limit is {}",
                    rounded(used),
                    rounded(limit)
                );
            }
        }
    }

    /// Enters a phase; one that comes too late is another.
    fn set_phase(&self, phase: ProcessPhase) {
        let phase = match phase {
            ProcessPhase::Starting { why } if self.progress.is_overdue() => {
                let seconds = self.launch.spec.progress_seconds.unwrap_or_default();
                ProcessPhase::Overdue {
                    why: format!("not ready within {seconds} s: {why}"),
                }
            }
            phase => phase,
        };
        self.state.send_if_modified(|state| {
            let is_new = state.phase != phase;
            if is_new {
                state.phase = phase;
            }
            is_new
        });
    }

    fn exit(
        &self,
        started_at: u64,
        heard: &Heard,
        ending: Option<Ending>,
        is_out_of_memory: bool,
    ) -> ProcessExit {
        let is_out_of_memory = is_out_of_memory
            || ending
                .as_ref()
                .is_some_and(|ending| ending.is_out_of_memory);
        let (reason, code, signal, message) = match heard {
            Heard::Exited(0) => (
                "Completed",
                0,
                None,
                "exit code 0; a server must not end".to_owned(),
            ),
            Heard::Exited(code) => ("Error", *code, None, format!("exit code {code}")),
            Heard::Killed(signal) => {
                let message = format!("ended by signal {signal}{}", signal_name(*signal));
                ("Error", 128 + signal, Some(*signal), message)
            }
            Heard::Failed(why) => ("StartError", 128, None, why.clone()),
            Heard::Started(_) | Heard::Gone => (
                "Error",
                137,
                None,
                "its guard was ended from outside".to_owned(),
            ),
        };
        let because = ending.and_then(|ending| ending.because);
        let finished_at = self.launch.clock.unix_time().as_secs();
        ProcessExit {
            reason: if is_out_of_memory {
                "OOMKilled"
            } else {
                reason
            }
            .to_owned(),
            code,
            signal,
            message: match because {
                Some(because) => format!("{because}; {message}"),
                None => message,
            },
            started_at: if started_at == 0 {
                finished_at
            } else {
                started_at
            },
            finished_at,
        }
    }
}

/// Returns where a program takes requests.
fn endpoints(spec: &ProcessSpec, command: &Command) -> Endpoints {
    let own = |declared| SocketAddr::from((Ipv4Addr::LOCALHOST, command.port(declared)));
    Endpoints {
        http: own(spec.main_port()),
        grpc: own(spec.grpc_port()),
        is_h2c: spec.is_h2c,
    }
}

fn starting(why: &str) -> ProcessPhase {
    ProcessPhase::Starting {
        why: why.to_owned(),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Finds a free port for each declared one.
///
/// Another program may take one before ours does; ours ends then, and is started again with others.
fn allot_ports(declared: &[u16]) -> std::io::Result<Vec<(u16, u16)>> {
    let declared = match declared.is_empty() {
        true => &[PORT_DEFAULT],
        false => declared,
    };
    let bind = |_: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // All are held until the last one is found, so that no two are one.
    let held: Vec<TcpListener> = declared.iter().map(bind).collect::<Result<_, _>>()?;
    let ports = declared.iter().zip(&held);
    ports
        .map(|(declared, held)| Ok((*declared, held.local_addr()?.port())))
        .collect()
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}
