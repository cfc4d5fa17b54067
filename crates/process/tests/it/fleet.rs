//! Several replicas of a revision, more and fewer of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_process::{BackOffPace, Cgroups, Fleet, FleetConfig, leftovers};
use coracle_serving::{
    Backends, ProcessOrder, ProcessRunner as _, ProcessState, RevisionId, RevisionLog,
    replica_log_path,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::fixture::{Fixture, guard, is_ready, server};

struct Revision {
    fleet: Fleet,
    id: RevisionId,
    backends: Arc<Backends>,
    states: watch::Sender<Vec<ProcessState>>,
}

impl Revision {
    fn new(fixture: &Fixture) -> Self {
        let path = std::env::var_os("PATH").unwrap();
        let directory = fixture.directory.path();
        let clock = Arc::new(SystemClock::new());
        Self {
            fleet: Fleet::new(FleetConfig {
                directory: directory.join("processes"),
                base_environment: BTreeMap::from([(
                    "PATH".to_owned(),
                    path.to_string_lossy().into_owned(),
                )]),
                guard: guard(),
                cgroups: Arc::new(Cgroups::none("a test")),
                log: RevisionLog::start(directory.join("logs"), clock.clone()),
                clock,
                back_off: BackOffPace::default(),
                drain_max: Duration::from_secs(60),
                runtime: Handle::current(),
            }),
            id: RevisionId {
                namespace: "n".to_owned(),
                name: "r".to_owned(),
            },
            backends: Arc::default(),
            states: watch::channel(Vec::new()).0,
        }
    }

    fn order(&self, replicas: u32, models: &std::path::Path) {
        let states = self.states.clone();
        let order = ProcessOrder {
            spec: server("print(os.path.exists('models/m'), flush=True)"),
            models: Some(models.to_owned()),
            replicas,
            backends: Arc::clone(&self.backends),
            report: Arc::new(move |now| drop(states.send_replace(now))),
        };
        self.fleet.order(&self.id, order);
    }

    /// Waits until so many replicas are there and all of them take requests.
    async fn ready(&self, n: usize) -> Vec<ProcessState> {
        let mut states = self.states.subscribe();
        let is_it = |states: &Vec<ProcessState>| states.len() == n && states.iter().all(is_ready);
        let found = tokio::time::timeout(Duration::from_secs(60), states.wait_for(is_it)).await;
        found.unwrap().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_come_and_go_and_finish_their_requests_first() {
    let fixture = Fixture::new();
    let files = fixture.directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("m"), "").unwrap();
    let revision = Revision::new(&fixture);
    revision.order(2, &files);
    let states = revision.ready(2).await;
    let calls = [(); 2].map(|()| revision.backends.choose(&[]).unwrap());
    let second = states[1].address().unwrap();
    let (staying, leaving): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|call| call.address() != second);
    assert_eq!((staying.len(), leaving.len()), (1, 1));
    revision.order(1, &files);
    revision.ready(1).await;
    // It takes no more requests, but runs until its last one is finished.
    for _ in 0..4 {
        assert_ne!(revision.backends.choose(&[]).unwrap().address(), second);
    }
    std::net::TcpStream::connect(second).unwrap();
    drop(leaving);
    while std::net::TcpStream::connect(second).is_ok() {
        tokio::task::yield_now().await;
    }
    drop(staying);
    revision.order(0, &files);
    revision.ready(0).await;
    assert!(revision.backends.is_empty());
    revision.order(1, &files);
    revision.ready(1).await;
    revision.fleet.stop().await;
    assert_eq!(fixture.running(), Vec::<u32>::new());
    let log = replica_log_path(
        &fixture.directory.path().join("logs"),
        &revision.id,
        0,
        false,
    );
    let mut text = String::new();
    while text.lines().count() < 2 {
        text = std::fs::read_to_string(&log).unwrap_or_default();
    }
    assert!(text.lines().all(|line| line.ends_with(" True")), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_is_forgotten_is_stopped_and_an_earlier_servers_processes_too() {
    let fixture = Fixture::new();
    let revision = Revision::new(&fixture);
    revision.order(1, fixture.directory.path());
    revision.ready(1).await;
    revision.fleet.forget(&revision.id);
    while !fixture.running().is_empty() {
        tokio::task::yield_now().await;
    }
    let directory = fixture.directory.path().join("processes/n/old");
    let mut left = std::process::Command::new("sleep")
        .arg("1000")
        .env(leftovers::MARKER, directory)
        .spawn()
        .unwrap();
    // For a moment after it has begun, a program has no environment yet; one that an earlier server left has had it for long.
    while leftovers::marked(fixture.directory.path()).is_empty() {
        tokio::task::yield_now().await;
    }
    let _next = Revision::new(&fixture);
    left.wait().unwrap();
}

/// Whoever has something else to answer with does not wait for one that ended; who starts the first one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_ended_are_lost_and_those_that_start_are_not() {
    let fixture = Fixture::new();
    let files = fixture.directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let revision = Revision::new(&fixture);
    let (backends, seen) = (
        Arc::clone(&revision.backends),
        Arc::new(Mutex::<Vec<_>>::default()),
    );
    let (states, told) = (revision.states.clone(), Arc::clone(&seen));
    let report = Arc::new(move |now: Vec<ProcessState>| {
        let has_ended = now.iter().any(|state| state.last_exit.is_some());
        let is_ready = now.iter().any(is_ready);
        let mut told = told.lock().unwrap();
        told.push((has_ended, is_ready, backends.are_lost()));
        drop(states.send_replace(now));
    });
    let order = |replicas| ProcessOrder {
        spec: server(""),
        models: Some(files.clone()),
        replicas,
        backends: Arc::clone(&revision.backends),
        report: report.clone(),
    };
    revision.fleet.order(&revision.id, order(1));
    let states = revision.ready(1).await;
    let kill = std::process::Command::new("kill")
        .args(["-9", &states[0].pid.unwrap().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let mut changes = revision.states.subscribe();
    let is_back = |states: &Vec<ProcessState>| {
        states
            .iter()
            .all(|state| state.n_restarts == 1 && is_ready(state))
    };
    let back = tokio::time::timeout(Duration::from_secs(60), changes.wait_for(is_back)).await;
    drop(back.unwrap().unwrap());
    // From nothing on it is a first start again.
    revision.fleet.order(&revision.id, order(0));
    revision.ready(0).await;
    assert!(!revision.backends.are_lost());
    revision.fleet.order(&revision.id, order(1));
    revision.ready(1).await;
    revision.fleet.stop().await;
    let seen = seen.lock().unwrap();
    let is_lost = |&(has_ended, is_ready, are_lost): &(bool, bool, bool)| {
        are_lost == (has_ended && !is_ready)
    };
    assert!(seen.iter().all(is_lost), "{seen:?}");
    assert!(seen.iter().any(|&(.., are_lost)| are_lost), "{seen:?}");
}

/// Returns the directories of the revision's replicas, those that leave too.
fn directories(fixture: &Fixture) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(fixture.directory.path().join("processes/n")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_leaves_does_not_remove_the_directory_of_its_revisions_next() {
    let fixture = Fixture::new();
    let revision = Revision::new(&fixture);
    revision.order(1, fixture.directory.path());
    let old = revision.ready(1).await[0].pid;
    let olds = directories(&fixture);
    // As when a revision is asked back that has just been let go of.
    revision.fleet.forget(&revision.id);
    revision.order(1, fixture.directory.path());
    while directories(&fixture).contains(&olds[0]) {
        tokio::task::yield_now().await;
    }
    let mut states = revision.states.subscribe();
    let is_next = |states: &Vec<ProcessState>| {
        states.iter().all(is_ready) && states.iter().any(|state| state.pid != old)
    };
    let found = tokio::time::timeout(Duration::from_secs(60), states.wait_for(is_next)).await;
    let next = found.unwrap().unwrap()[0].clone();
    assert_eq!((next.n_restarts, next.last_exit), (0, None));
    assert_eq!(directories(&fixture).len(), 1);
    revision.fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_missing_is_made_again_for_the_next_start() {
    let fixture = Fixture::new();
    let files = fixture.directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("m"), "").unwrap();
    let revision = Revision::new(&fixture);
    revision.order(1, &files);
    let first = revision.ready(1).await[0].pid.unwrap();
    let made = directories(&fixture);
    std::fs::remove_dir_all(&made[0]).unwrap();
    let first = rustix::process::Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
    rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
    let mut states = revision.states.subscribe();
    let is_again =
        |states: &Vec<ProcessState>| states.iter().all(|one| is_ready(one) && one.n_restarts > 0);
    let found = tokio::time::timeout(Duration::from_secs(60), states.wait_for(is_again)).await;
    let again = found.unwrap().unwrap()[0].clone();
    assert_eq!(again.n_restarts, 1, "{again:?}");
    assert_eq!(directories(&fixture), made);
    // The link to the model's files, too.
    assert!(made[0].join("models/m").exists());
    revision.fleet.stop().await;
}
