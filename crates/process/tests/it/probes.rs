//! Programs that hang, are slow, or never become ready.

use coracle_serving::{Probe, ProbeAction, ProcessPhase, ProcessSpec};

use crate::fixture::{Fixture, is_back_off, is_ready, probe, run, server, sh, until};

fn http(path: &str) -> ProbeAction {
    ProbeAction::HttpGet {
        path: path.to_owned(),
        port: 8080,
        headers: vec![],
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_and_started_again() {
    let fixture = Fixture::new();
    let spec = ProcessSpec {
        startup: Some(Probe {
            failure_threshold: 1_000,
            ..probe(http("/"))
        }),
        liveness: Some(probe(http("/hangs"))),
        ..server("")
    };
    let replica = fixture.start(spec);
    let mut states = replica.subscribe();
    let ready = until(&mut states, is_ready).await;
    // A process that is stopped answers nothing, takes no SIGTERM, and is not ended.
    let pid = rustix::process::Pid::from_raw(i32::try_from(ready.pid.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let state = until(&mut states, |state| {
        state.n_restarts == 1 && is_ready(state)
    })
    .await;
    let exit = state.last_exit.unwrap();
    assert!(
        exit.message
            .starts_with("liveness probe: no answer within 500ms"),
        "{exit:?}"
    );
    assert_eq!(exit.signal, Some(9));
    replica.stopped().await;
    assert!(fixture.running().is_empty());
}

#[tokio::test]
async fn a_program_that_never_listens_stays_not_ready_and_says_why() {
    let fixture = Fixture::new();
    let replica = fixture.start(sh("sleep 1000"));
    let mut states = replica.subscribe();
    let is_waiting = |phase: &ProcessPhase| matches!(phase, ProcessPhase::Starting { why } if why.starts_with("readiness probe: nothing listens on port") && why.ends_with("(in the place of 8080)"));
    let state = until(&mut states, |state| is_waiting(&state.phase)).await;
    assert_eq!(state.n_restarts, 0);
    replica.stopped().await;
    assert!(fixture.running().is_empty());
}

#[tokio::test]
async fn a_program_that_listens_elsewhere_is_told_so() {
    let fixture = Fixture::new();
    let script = "import socket, time\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\ntime.sleep(1000)";
    let replica = fixture.start(run(&["python3", "-c", script]));
    let mut states = replica.subscribe();
    let has_hint = |phase: &ProcessPhase| matches!(phase, ProcessPhase::Starting { why } if why.contains("; it listens on "));
    let state = until(&mut states, |state| has_hint(&state.phase)).await;
    let ProcessPhase::Starting { why } = state.phase else {
        panic!()
    };
    let port = fixture.log.all().remove(0);
    assert!(
        why.contains(&format!(
            "it listens on {port}: give it the port as $(PORT)"
        )),
        "{why}"
    );
    replica.stopped().await;
}

#[tokio::test]
async fn readiness_follows_the_probe_without_a_restart() {
    let fixture = Fixture::new();
    let spec = ProcessSpec {
        readiness: Some(probe(http("/busy?x=1"))),
        ..server("")
    };
    let replica = fixture.start(spec);
    let mut states = replica.subscribe();
    let first = until(&mut states, is_ready).await;
    let file = fixture.directory.path().join("busy?x=1");
    std::fs::write(&file, "").unwrap();
    let is_unready = |phase: &ProcessPhase| matches!(phase, ProcessPhase::Unready { why } if why == "readiness probe: GET /busy?x=1: status 404");
    until(&mut states, |state| is_unready(&state.phase)).await;
    std::fs::remove_file(&file).unwrap();
    let again = until(&mut states, is_ready).await;
    assert_eq!((again.pid, again.n_restarts), (first.pid, 0));
    replica.stopped().await;
}

#[tokio::test]
async fn a_startup_probe_that_fails_ends_the_program_and_others_wait_for_it() {
    let fixture = Fixture::new();
    let exec = |script: &str| {
        probe(ProbeAction::Exec {
            command: ["sh", "-c", script].map(str::to_owned).into(),
        })
    };
    let spec = ProcessSpec {
        startup: Some(exec("echo not yet; exit 7")),
        readiness: Some(exec("touch asked")),
        ..sh("sleep 1000")
    };
    let replica = fixture.start(spec);
    let mut states = replica.subscribe();
    let state = until(&mut states, |state| {
        state.n_restarts == 1 && is_back_off(state)
    })
    .await;
    let exit = state.last_exit.unwrap();
    assert!(
        exit.message
            .starts_with("startup probe: exec sh: exit code 7: not yet; ended by signal 15"),
        "{exit:?}"
    );
    assert!(!fixture.directory.path().join("asked").exists());
    replica.stopped().await;
    assert!(fixture.running().is_empty());
}

#[tokio::test]
async fn a_probe_program_that_hangs_is_no_answer_and_leaves_nothing() {
    let fixture = Fixture::new();
    let hangs = ProbeAction::Exec {
        command: ["sh", "-c", "sleep 1000 & sleep 1000"]
            .map(str::to_owned)
            .into(),
    };
    let spec = ProcessSpec {
        readiness: Some(probe(hangs)),
        ..sh("sleep 1000")
    };
    let replica = fixture.start(spec);
    let mut states = replica.subscribe();
    let is_waiting = |phase: &ProcessPhase| matches!(phase, ProcessPhase::Starting { why } if why == "readiness probe: no answer within 500ms");
    until(&mut states, |state| is_waiting(&state.phase)).await;
    replica.stopped().await;
    while !fixture.running().is_empty() {
        tokio::task::yield_now().await;
    }
}
