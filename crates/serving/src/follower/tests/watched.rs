//! What is watched of those that are compared, and the files of books.

use super::*;

/// Waits for what another thread does, a minute at most.
pub(super) fn until(is_done: impl Fn() -> bool) {
    let mut looks = 0..6_000;
    while !is_done() {
        assert!(
            looks.next().is_some(),
            "it did not come to that in a minute"
        );
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What a plan says of books, and needs for its routes: an experiment whose revisions are not loaded yet is not open, and its file stays.
#[test]
fn files_of_books_that_no_plan_needs_go() {
    let directory = tempfile::tempdir().unwrap();
    let lines = LineForm {
        write: |line| Ok(serde_json::to_vec(line)?),
        read: |line| serde_json::from_slice(line).ok(),
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let path = directory.path().to_owned();
    let experiments = Experiments::start(path, lines, clock, crate::Teller::nobody()).unwrap();
    let of = |name: &str| PlannedExperiment {
        name: name.to_owned(),
        uid: "u".to_owned(),
        ..PlannedExperiment::default()
    };
    // Written by an earlier run.
    let is_there = |name: &str| {
        let files = std::fs::read_dir(directory.path().join("n"));
        let mut names = files
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.file_name());
        names.any(|file| file.to_string_lossy().starts_with(name))
    };
    for name in ["routed", "there", "gone"] {
        drop(experiments.open("n", &of(name)));
        until(|| is_there(name));
    }
    let fixture = fixture_of(None, None, Some(experiments.clone()));
    let mut plan = plan(&[("a", "", 1)], &[("a", 100)]);
    if let Some(route) = plan.routes.get_mut(&service()) {
        route.experiments.push(of("routed"));
    }
    fixture.plans.send(plan.clone());
    fixture.wait(|observed| observed.revisions.contains_key(&id("a")));
    plan.books = Some([BookId::of("n", &of("there"))].into());
    fixture.plans.send(plan);
    until(|| !is_there("gone"));
    // Files go in any order; this one comes after all that go have gone.
    let _open = experiments.open("n", &of("after"));
    until(|| is_there("after"));
    assert!(is_there("routed") && is_there("there"));
    fixture.plans.stop();
}

/// Of a route whose revisions are compared it is known what they have in work.
#[test]
fn calls_in_work_are_watched_where_revisions_are_compared() {
    let fixture = fixture();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    for is_compared in [true, false] {
        let mut planned = plan(&[("a", "", 0)], &[("a", 100)]);
        planned.routes.get_mut(&service()).unwrap().is_compared = is_compared;
        let route = planned.routes[&service()].clone();
        fixture.plans.send(planned);
        fixture.open.send(()).unwrap();
        fixture.wait(|observed| observed.routes.get(&service()) == Some(&route));
        let table = fixture.table.load();
        let model = table.service(&service()).unwrap().choose();
        let call = model.start_call(0, clock.monotonic(), &clock);
        let in_work = model.statistics().in_work(clock.monotonic());
        assert_eq!(in_work.iter().sum::<u64>(), u64::from(is_compared));
        drop(call);
    }
    fixture.plans.stop();
}

/// Another trial of a rollout is known where calls end, though nothing else is planned otherwise.
#[test]
fn a_trial_begins_with_the_plan_that_says_so() {
    let fixture = fixture();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    for trial in [7, 8, 8] {
        let mut planned = plan(&[("a", "", 0)], &[("a", 100)]);
        planned.routes.get_mut(&service()).unwrap().trial = trial;
        let route = planned.routes[&service()].clone();
        fixture.plans.send(planned);
        // It is loaded once.
        let _sent = fixture.open.send(());
        fixture.wait(|observed| observed.routes.get(&service()) == Some(&route));
        let table = fixture.table.load();
        let model = table.service(&service()).unwrap().choose();
        assert_eq!(model.statistics().trial(), trial);
        let call = model.start_call(0, clock.monotonic(), &clock);
        call.finish(crate::Protocol::V1, Ok(()));
        // What was before the trial: as many as plans of another one.
        let n_before = model.statistics().before_trial().n_finished;
        assert_eq!(n_before, trial - 7);
    }
    fixture.plans.stop();
}
