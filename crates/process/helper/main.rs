//! What the integration tests start: the guard, and a supervisor that can be killed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_process::{
    BackOffPace, Cgroups, GuardCommand, Launch, LogSink, Replica, Stream, guard,
};
use coracle_serving::ProcessSpec;

struct Nowhere;

impl LogSink for Nowhere {
    fn line(&self, _stream: Stream, _text: &str) {}
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((mode, rest)) if mode == "guard" => guard::run(&["guard"], rest),
        Some((mode, rest)) if mode == "supervise" => supervise(rest),
        _ => ExitCode::from(2),
    }
}

/// `supervise DIRECTORY PROGRAM ARGUMENT...`: runs a replica for ever.
fn supervise(arguments: &[OsString]) -> ExitCode {
    let text = |argument: &OsString| argument.to_string_lossy().into_owned();
    let Some((directory, argv)) = arguments.split_first() else {
        return ExitCode::from(2);
    };
    let launch = Launch {
        name: "r".to_owned(),
        spec: ProcessSpec {
            argv: argv.iter().map(text).collect(),
            grace_seconds: 1,
            ..ProcessSpec::default()
        },
        base_environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        directory: PathBuf::from(directory),
        models: None,
        log: Arc::new(Nowhere),
        guard: GuardCommand::this_program(&["guard"]),
        cgroups: Arc::new(Cgroups::none("a test")),
        clock: Arc::new(SystemClock::new()),
        back_off: BackOffPace::default(),
        second: Duration::from_millis(100),
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    let _replica = Replica::start(launch, runtime.handle());
    runtime.block_on(std::future::pending())
}
