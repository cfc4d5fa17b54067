//! Starts, ends and restarts.

use std::net::TcpStream;

use coracle_process::Replica;
use coracle_serving::{ProcessExit, ProcessLimits, ProcessPhase, ProcessSpec};
use tokio::runtime::Handle;

use crate::fixture::{Fixture, is_back_off, is_ready, run, server, sh, until};

/// Runs a program that ends by itself twice; returns how it ended and the lines it left.
async fn ends(fixture: &Fixture, spec: ProcessSpec) -> (ProcessExit, Vec<String>) {
    let replica = fixture.start(spec);
    let mut states = replica.subscribe();
    let state = until(&mut states, |state| {
        state.n_restarts >= 1 && is_back_off(state)
    })
    .await;
    replica.stopped().await;
    assert_eq!(states.borrow().phase, ProcessPhase::Stopped);
    assert!(fixture.running().is_empty());
    (state.last_exit.unwrap(), state.last_lines)
}

#[tokio::test]
async fn a_program_that_ends_is_started_again_and_the_state_says_how_it_ended() {
    let fixture = Fixture::new();
    let no_interpreter = fixture.script("script", "#!/nope\n");
    std::fs::write(fixture.directory.path().join("plain"), "").unwrap();
    let plain = fixture.directory.path().join("plain");
    let cases: [(ProcessSpec, &str, i32, &str); 8] = [
        (sh("echo last words; exit 3"), "Error", 3, "exit code 3"),
        (
            sh("exit 0"),
            "Completed",
            0,
            "exit code 0; a server must not end",
        ),
        (
            sh("kill -11 $$$$"),
            "Error",
            139,
            "ended by signal 11 (SIGSEGV)",
        ),
        (
            run(&["no-such-program"]),
            "StartError",
            128,
            "no such program in the PATH",
        ),
        (
            run(&["/no/such/file"]),
            "StartError",
            128,
            "cannot run /no/such/file: no such file",
        ),
        (
            run(&[plain.to_str().unwrap()]),
            "StartError",
            128,
            "is it a file, and executable?",
        ),
        (
            run(&[&no_interpreter]),
            "StartError",
            128,
            "its interpreter",
        ),
        (run(&[]), "StartError", 128, "no command to run"),
    ];
    for (spec, reason, code, message) in cases {
        let (exit, _) = ends(&fixture, spec).await;
        assert_eq!(
            (exit.reason.as_str(), exit.code),
            (reason, code),
            "{exit:?}"
        );
        assert!(exit.message.contains(message), "{exit:?}");
    }
    assert!(fixture.log.all().contains(&"last words".to_owned()));
    let directory = ProcessSpec {
        working_directory: Some("/no/such/directory".to_owned()),
        ..sh("true")
    };
    let (exit, _) = ends(&fixture, directory).await;
    assert!(
        exit.message
            .ends_with("the working directory /no/such/directory does not exist"),
        "{exit:?}"
    );
}

#[tokio::test]
async fn the_last_lines_of_a_program_that_ended_are_kept() {
    let fixture = Fixture::new();
    let (_, lines) = ends(
        &fixture,
        sh("for i in $(seq 30); do echo $i; done; printf oops >&2; exit 1"),
    )
    .await;
    assert_eq!(lines.len(), 10);
    assert!(
        lines.contains(&"30".to_owned()) && lines.contains(&"oops".to_owned()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_program_that_is_killed_is_back_at_once_with_an_address() {
    let fixture = Fixture::new();
    let replica = fixture.start(server(""));
    let mut states = replica.subscribe();
    let first = until(&mut states, is_ready).await;
    TcpStream::connect(first.address().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(first.pid.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let second = until(&mut states, |state| {
        state.n_restarts == 1 && is_ready(state)
    })
    .await;
    assert_ne!(second.pid, first.pid);
    let exit = second.last_exit.clone().unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    TcpStream::connect(second.address().unwrap()).unwrap();
    replica.stopped().await;
    assert!(fixture.running().is_empty());
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_its_grace_period() {
    let fixture = Fixture::new();
    let replica = fixture.start(server("signal.signal(signal.SIGTERM, signal.SIG_IGN)"));
    let mut states = replica.subscribe();
    until(&mut states, is_ready).await;
    replica.stop();
    until(&mut states, |state| state.phase == ProcessPhase::Stopping).await;
    replica.stopped().await;
    assert_eq!(states.borrow().phase, ProcessPhase::Stopped);
    assert!(fixture.running().is_empty());
}

#[tokio::test]
async fn a_program_may_end_in_order_within_its_grace_period() {
    let fixture = Fixture::new();
    let script = "trap 'echo in order; exit 0' TERM; echo up; while :; do sleep 0.01; done";
    let spec = ProcessSpec {
        grace_seconds: 300,
        ..sh(script)
    };
    let replica = fixture.start(spec);
    let mut states = replica.subscribe();
    until(&mut states, |state| state.pid.is_some()).await;
    while !fixture.log.all().contains(&"up".to_owned()) {
        tokio::task::yield_now().await;
    }
    replica.stopped().await;
    assert!(
        fixture.log.all().contains(&"in order".to_owned()),
        "{:?}",
        fixture.log.all()
    );
    assert!(fixture.running().is_empty());
}

#[tokio::test]
async fn a_flood_does_not_block_the_program_and_every_line_is_kept_or_counted() {
    let fixture = Fixture::new();
    ends(&fixture, sh("seq 1000000; exit 1")).await;
    let lines = fixture.log.all();
    // How much of it is kept depends on how fast this machine is; that is for the tests of the cutter.
    let counted = lines.iter().map(|line| match line.strip_prefix('(') {
        Some(told) => told.split(' ').next().unwrap().parse().unwrap_or(0),
        None => 1_u64,
    });
    assert!(counted.sum::<u64>() >= 2_000_000, "{} lines", lines.len());
}

#[tokio::test]
async fn a_program_that_uses_more_memory_than_its_limit_is_ended_and_that_is_said() {
    let fixture = Fixture::new();
    let spec = ProcessSpec {
        limits: ProcessLimits {
            memory_bytes: Some(100 << 20),
            cpu_millis: Some(100),
        },
        ..server("hold = b'x' * (200 << 20)")
    };
    let replica = fixture.start(spec);
    let mut states = replica.subscribe();
    let state = until(&mut states, |state| state.last_exit.is_some()).await;
    let exit = state.last_exit.unwrap();
    assert_eq!(
        (exit.reason.as_str(), exit.code),
        ("OOMKilled", 137),
        "{exit:?}"
    );
    assert!(exit.message.contains("its limit is 100.0 MiB"), "{exit:?}");
    assert_eq!(
        state.limits,
        "memory 100.0 MiB: looked at once a second; cpu 100m: not held (a test)"
    );
    replica.stopped().await;
}

#[tokio::test]
async fn the_model_is_where_the_manifest_says_and_the_environment_is_the_replicas_own() {
    let fixture = Fixture::new();
    let models = fixture.directory.path().join("models");
    std::fs::create_dir(&models).unwrap();
    std::fs::write(models.join("m"), "the model").unwrap();
    let mut spec = run(&["sh", "-c", "cat $0; echo; env; exit 1", "/mnt/models/m"]);
    spec.environment = vec![("URL".to_owned(), "localhost:8080".to_owned())];
    let mut launch = fixture.launch(spec);
    launch.models = Some(models);
    let replica = Replica::start(launch, &Handle::current());
    let mut states = replica.subscribe();
    until(&mut states, |state| state.last_exit.is_some()).await;
    replica.stopped().await;
    let lines = fixture.log.all();
    assert!(lines.contains(&"the model".to_owned()), "{lines:?}");
    let value = |name: &str| {
        lines
            .iter()
            .find_map(|line| line.strip_prefix(&format!("{name}=")))
    };
    let port = value("PORT").unwrap();
    assert_ne!(port, "8080");
    assert_eq!(value("URL"), Some(format!("localhost:{port}").as_str()));
    assert_eq!(value("CARGO_PKG_NAME"), None);
}
