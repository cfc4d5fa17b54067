//! A revision that is served by operating-system processes: what runs, and what is known of each replica.
//!
//! Plain data that the control side writes and the data side runs (`coracle_process`).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backends::Backends;
use crate::plan::RevisionId;

/// The path under which a program finds the model's files in KServe; replaced by the replica's own.
pub const MODEL_PATH: &str = "/mnt/models";
/// The port that a program listens on if its manifest names none, as KServe has it.
pub const PORT_DEFAULT: u16 = 8080;

/// What a replica runs.
#[derive(Clone, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessSpec {
    /// The program and its arguments, before `$(VAR)` and paths are replaced.
    pub argv: Vec<String>,
    /// Names and values, in the manifest's order; a value may use the ones before it as `$(VAR)`.
    pub environment: Vec<(String, String)>,
    /// Where it starts; the replica's own directory if absent.
    pub working_directory: Option<String>,
    /// The ports that the manifest names; the first one takes requests. [`PORT_DEFAULT`] if empty.
    pub ports: Vec<u16>,
    /// The one of them that takes gRPC; the first one if absent.
    #[serde(default)]
    pub grpc_port: Option<u16>,
    /// Whether the first one is asked in HTTP/2 without TLS only: it also takes gRPC, and was named for that.
    #[serde(default)]
    pub is_h2c: bool,
    /// Tells whether it has started; until it has, the others do not run.
    pub startup: Option<Probe>,
    /// Tells whether it can take requests; without one, that it listens is enough.
    pub readiness: Option<Probe>,
    /// Tells whether it must be started again.
    pub liveness: Option<Probe>,
    /// How long it may take to end after SIGTERM, in seconds, before SIGKILL.
    pub grace_seconds: u32,
    /// How long it may take until it is ready for the first time, in seconds, restarts included; then that is a failure,
    /// though it goes on. `None` for any time.
    #[serde(default)]
    pub progress_seconds: Option<u32>,
    /// What it may use.
    pub limits: ProcessLimits,
}

impl ProcessSpec {
    /// Returns the declared port that takes requests.
    #[must_use]
    pub fn main_port(&self) -> u16 {
        self.ports.first().copied().unwrap_or(PORT_DEFAULT)
    }

    /// Returns the declared port that takes gRPC.
    #[must_use]
    pub fn grpc_port(&self) -> u16 {
        self.grpc_port.unwrap_or_else(|| self.main_port())
    }
}

impl fmt::Debug for ProcessSpec {
    // Environments hold secrets, and arguments may: neither belongs in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSpec")
            .field("program", &self.argv.first())
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

/// What a replica may use.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessLimits {
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
}

/// A question to a replica, with Kubernetes' meaning of its numbers.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The question.
    pub action: ProbeAction,
    /// How long after its start it is asked first.
    pub initial_delay_seconds: u32,
    /// How often it is asked; at least 1.
    pub period_seconds: u32,
    /// How long an answer may take; at least 1.
    pub timeout_seconds: u32,
    /// So many good answers in a row make it good.
    pub success_threshold: u32,
    /// So many bad answers in a row make it bad.
    pub failure_threshold: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum ProbeAction {
    /// A GET that is to be answered with a status from 200 to 399.
    HttpGet {
        /// The path, with its query.
        path: String,
        /// The port as the manifest has it.
        port: u16,
        /// Further headers.
        headers: Vec<(String, String)>,
    },
    /// A connection that is to be accepted.
    TcpSocket {
        /// The port as the manifest has it.
        port: u16,
    },
    /// A call of `grpc.health.v1.Health/Check` that is to be answered with `SERVING`.
    Grpc {
        /// The port as the manifest has it.
        port: u16,
        /// The service that is asked about; empty for the whole server.
        service: String,
    },
    /// A program that is to end with 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// Where a replica takes requests.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// Where it takes HTTP; no other replica has the same.
    pub http: SocketAddr,
    /// Where it takes gRPC; may be the same.
    pub grpc: SocketAddr,
    /// Whether HTTP is asked in HTTP/2 without TLS, too.
    pub is_h2c: bool,
}

impl From<SocketAddr> for Endpoints {
    /// Returns the endpoints of a replica that listens at one address.
    fn from(address: SocketAddr) -> Self {
        Self {
            http: address,
            grpc: address,
            is_h2c: false,
        }
    }
}

/// How a process ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessExit {
    /// Kubernetes' word for it: `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What happened, in words.
    pub message: String,
    /// When it was started, in seconds since 1970.
    pub started_at: u64,
    /// When it ended, in seconds since 1970.
    pub finished_at: u64,
}

/// Where a replica is in its life.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum ProcessPhase {
    /// It runs and has not answered its probes yet.
    Starting {
        /// What it is waiting for.
        why: String,
    },
    /// It runs, and was not ready in time; it may still become so.
    Overdue {
        /// What it is waiting for, and since when.
        why: String,
    },
    /// It takes requests.
    Ready {
        /// Where.
        endpoints: Endpoints,
    },
    /// It runs, was ready, and does not answer its probes.
    Unready {
        /// What the probe said.
        why: String,
    },
    /// It ended, and is started again later.
    BackOff {
        /// When, in seconds since 1970.
        again_at: u64,
    },
    /// It was told to end.
    Stopping,
    /// It has ended for good.
    Stopped,
}

/// What is known of a replica.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessState {
    /// Where it is in its life.
    pub phase: ProcessPhase,
    /// The running process.
    pub pid: Option<u32>,
    /// When the running process was started, in seconds since 1970.
    pub started_at: u64,
    /// How often it was started again.
    pub n_restarts: u32,
    /// How the process before the running one ended.
    pub last_exit: Option<ProcessExit>,
    /// The last lines of the process that ended last.
    pub last_lines: Vec<String>,
    /// How its limits are held, or why they are not; empty if it has none.
    pub limits: String,
}

impl Default for ProcessState {
    fn default() -> Self {
        Self {
            phase: ProcessPhase::Starting {
                why: "waiting for its turn".to_owned(),
            },
            pid: None,
            started_at: 0,
            n_restarts: 0,
            last_exit: None,
            last_lines: Vec::new(),
            limits: String::new(),
        }
    }
}

impl ProcessState {
    /// Returns where it takes requests; `None` while it does not.
    #[must_use]
    pub fn endpoints(&self) -> Option<Endpoints> {
        match self.phase {
            ProcessPhase::Ready { endpoints } => Some(endpoints),
            _ => None,
        }
    }

    /// Tells whether it took requests, or ended, and takes none now: it does not start for the first time.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self.phase {
            ProcessPhase::Ready { .. } => false,
            ProcessPhase::Starting { .. } | ProcessPhase::Overdue { .. } => {
                self.last_exit.is_some()
            }
            ProcessPhase::Unready { .. }
            | ProcessPhase::BackOff { .. }
            | ProcessPhase::Stopping
            | ProcessPhase::Stopped => true,
        }
    }

    /// Returns where it takes HTTP requests; `None` while it takes none.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.endpoints().map(|endpoints| endpoints.http)
    }
}

/// What processes there are to be of one revision.
#[derive(Clone)]
pub struct ProcessOrder {
    /// What each of them runs.
    pub spec: ProcessSpec,
    /// Where the model's files are.
    pub models: Option<PathBuf>,
    /// How many there are to be.
    pub replicas: u32,
    /// Where those that take requests are entered.
    pub backends: Arc<Backends>,
    /// Told what is known of each, at every change.
    pub report: Arc<dyn Fn(Vec<ProcessState>) + Send + Sync>,
}

impl fmt::Debug for ProcessOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessOrder")
            .field("spec", &self.spec)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// Runs revisions as processes.
pub trait ProcessRunner: Send + Sync {
    /// Makes the processes of a revision those of `order`; returns at once. A process that is one too many takes no more
    /// requests, finishes those it has, and is stopped.
    fn order(&self, id: &RevisionId, order: ProcessOrder);

    /// Stops the processes of a revision that is not served any more, in the same way.
    fn forget(&self, id: &RevisionId);
}
