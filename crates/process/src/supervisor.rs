//! Keeps one replica running: a program under its guard, started again when it ends, until it is told to stop.

mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use coracle_serving::{ProcessExit, ProcessPhase, ProcessSpec, ProcessState};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::back_off::{BackOff, BackOffPace};
use crate::cgroup::Cgroups;
use crate::guarded::GuardCommand;
use crate::log::{LogSink, Stream};
use run::{Progress, Run};

/// A replica that is to run.
#[derive(Clone)]
pub struct Launch {
    /// Its name, unique on this machine; of letters, digits and hyphens.
    pub name: String,
    /// What runs.
    pub spec: ProcessSpec,
    /// The environment that every program gets.
    pub base_environment: BTreeMap<String, String>,
    /// The replica's own directory; marks its processes, and is where they start. Made if it is missing.
    pub directory: PathBuf,
    /// The model's files; a link to them in the directory takes the place of `/mnt/models`.
    pub models: Option<PathBuf>,
    /// Takes what it writes.
    pub log: Arc<dyn LogSink>,
    /// How its guard is started.
    pub guard: GuardCommand,
    /// Where its control group is made.
    pub cgroups: Arc<Cgroups>,
    /// Tells the time for its state.
    pub clock: Arc<dyn Clock>,
    /// When it is started again.
    pub back_off: BackOffPace,
    /// How long a second of its probes and its grace period is; a second, but in tests.
    pub second: Duration,
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch")
            .field("name", &self.name)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// A replica that runs. Dropped, it is stopped in the background.
#[derive(Debug)]
pub struct Replica {
    state: watch::Receiver<ProcessState>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Replica {
    /// Starts a replica on `runtime`.
    #[must_use]
    pub fn start(launch: Launch, runtime: &Handle) -> Self {
        let (sender, state) = watch::channel(ProcessState::default());
        let (stop, stopped) = watch::channel(false);
        let supervisor = Supervisor {
            back_off: BackOff::new(launch.back_off),
            launch,
            state: sender,
            stop: stopped,
        };
        Self {
            state,
            stop,
            task: runtime.spawn(supervisor.run()),
        }
    }

    /// Returns what is known of it now.
    #[must_use]
    pub fn state(&self) -> ProcessState {
        self.state.borrow().clone()
    }

    /// Returns what is known of it from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<ProcessState> {
        self.state.clone()
    }

    /// Tells it to stop; it takes the grace period at most.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Tells it to stop, and waits until nothing of it is left.
    pub async fn stopped(self) {
        self.stop();
        // A supervisor that panicked dropped the guard's socket, which ends the program.
        drop(self.task.await);
    }
}

struct Supervisor {
    launch: Launch,
    back_off: BackOff,
    state: watch::Sender<ProcessState>,
    stop: watch::Receiver<bool>,
}

impl Supervisor {
    async fn run(mut self) {
        let progress = Progress::new(&self.launch);
        while !*self.stop.borrow() {
            let started = Instant::now();
            let run = Run {
                launch: &self.launch,
                state: &self.state,
                progress: &progress,
            };
            let exit = run.to_its_end(&mut self.stop).await;
            if is_told(&self.stop) {
                break;
            }
            let wait = self.back_off.ended(started.elapsed());
            self.note_end(exit, wait);
            if self.sleep(wait).await {
                break;
            }
            self.launch.log.restarted();
            self.state.send_modify(|state| state.n_restarts += 1);
        }
        self.state.send_modify(|state| {
            state.phase = ProcessPhase::Stopped;
            state.pid = None;
        });
    }

    fn note_end(&self, exit: ProcessExit, wait: Duration) {
        let again = match wait.is_zero() {
            true => "started again at once".to_owned(),
            false => format!("started again in {:.0?}", wait),
        };
        let line = format!("(coracle) ended: {}; {again}", exit.message);
        self.launch.log.line(Stream::Stderr, &line);
        let again_at = self.launch.clock.unix_time().saturating_add(wait).as_secs();
        self.state.send_modify(|state| {
            state.phase = match wait.is_zero() {
                true => ProcessPhase::Starting {
                    why: "starting again".to_owned(),
                },
                false => ProcessPhase::BackOff { again_at },
            };
            state.pid = None;
            state.last_exit = Some(exit);
        });
    }

    /// Waits; returns whether it was told to stop.
    async fn sleep(&mut self, wait: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(wait) => false,
            () = told(&mut self.stop) => true,
        }
    }
}

/// Waits until the replica is told to stop, or is dropped.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Tells whether the replica was told to stop, or was dropped.
fn is_told(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}
