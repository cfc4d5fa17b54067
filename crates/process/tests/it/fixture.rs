//! A directory, a log and a quick supervisor for one test's replica.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_process::{
    BackOffPace, Cgroups, GuardCommand, Launch, LogSink, Replica, Stream, leftovers,
};
use coracle_serving::{Probe, ProbeAction, ProcessPhase, ProcessSpec, ProcessState};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What a replica wrote.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<String>>);

impl LogSink for Lines {
    fn line(&self, _stream: Stream, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Lines {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// The surroundings of a test's replica.
pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) log: Arc<Lines>,
}

/// The helper binary as a guard.
pub(crate) fn guard() -> GuardCommand {
    GuardCommand {
        program: PathBuf::from(env!("CARGO_BIN_EXE_coracle-process-helper")),
        arguments: vec!["guard".to_owned()],
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            log: Arc::default(),
        }
    }

    /// Writes an executable file; returns its path.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// A replica whose seconds are tenths, with hardly any back-off.
    pub(crate) fn launch(&self, spec: ProcessSpec) -> Launch {
        let path = std::env::var_os("PATH").unwrap();
        Launch {
            name: "r".to_owned(),
            spec,
            base_environment: BTreeMap::from([(
                "PATH".to_owned(),
                path.to_string_lossy().into_owned(),
            )]),
            directory: self.directory.path().to_owned(),
            models: None,
            log: Arc::clone(&self.log) as Arc<dyn LogSink>,
            guard: guard(),
            cgroups: Arc::new(Cgroups::none("a test")),
            clock: Arc::new(SystemClock::new()),
            back_off: BackOffPace {
                base: Duration::from_millis(10),
                ..BackOffPace::default()
            },
            second: Duration::from_millis(100),
        }
    }

    pub(crate) fn start(&self, spec: ProcessSpec) -> Replica {
        Replica::start(self.launch(spec), &Handle::current())
    }

    /// The processes of this test that run.
    pub(crate) fn running(&self) -> Vec<u32> {
        leftovers::marked(self.directory.path())
    }
}

/// `sh -c SCRIPT`, with a grace period of a tenth of a second.
pub(crate) fn sh(script: &str) -> ProcessSpec {
    run(&["sh", "-c", script])
}

/// An HTTP server in Python on the port it is given, which answers 200 to all paths but those `refuse` names.
pub(crate) fn server(extra: &str) -> ProcessSpec {
    let script = format!(
        "import http.server, os, signal, sys, time\n\
         class Handler(http.server.BaseHTTPRequestHandler):\n\
         \x20   def do_GET(self):\n\
         \x20       self.send_response(404 if os.path.exists(self.path[1:]) else 200)\n\
         \x20       self.end_headers()\n\
         \x20   def log_message(self, *arguments): pass\n\
         {extra}\n\
         http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()\n"
    );
    run(&["python3", "-c", &script, "8080"])
}

pub(crate) fn run(argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
        grace_seconds: 1,
        ..ProcessSpec::default()
    }
}

pub(crate) fn probe(action: ProbeAction) -> Probe {
    Probe {
        action,
        initial_delay_seconds: 0,
        period_seconds: 1,
        timeout_seconds: 5,
        success_threshold: 1,
        failure_threshold: 2,
    }
}

/// Waits for a state; the test's own time limit bounds it.
pub(crate) async fn until(
    states: &mut watch::Receiver<ProcessState>,
    is_it: impl Fn(&ProcessState) -> bool,
) -> ProcessState {
    let found = tokio::time::timeout(Duration::from_secs(60), states.wait_for(&is_it)).await;
    let found = found.ok().and_then(Result::ok).map(|state| state.clone());
    found.unwrap_or_else(|| panic!("never came to it: {:?}", states.borrow()))
}

pub(crate) fn is_ready(state: &ProcessState) -> bool {
    matches!(state.phase, ProcessPhase::Ready { .. })
}

pub(crate) fn is_back_off(state: &ProcessState) -> bool {
    matches!(state.phase, ProcessPhase::BackOff { .. })
}
