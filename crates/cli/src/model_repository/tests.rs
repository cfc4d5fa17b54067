//! Versions that come, go, break and are mended, with real files.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use coracle_base::{ByteCount, SystemClock};
use coracle_gateway::{AccessLog, LogFormat};
use coracle_serving::MemoryBudget;
use tempfile::TempDir;

use super::*;

/// A repository of one directory, in which files are put.
struct Bench {
    directory: TempDir,
    repository: ModelRepository,
}

fn model_bytes() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/iris/model.joblib"
    );
    fs::read(path).unwrap()
}

impl Bench {
    /// A repository whose models may take so much memory together; nothing loads for requests.
    fn within(bytes: u64) -> Self {
        let bench = Self::new("latest", &[]);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let budget = MemoryBudget::new(ByteCount::new(bytes), Arc::clone(&clock));
        let on_demand = Arc::new(OnDemand::new(Arc::new(budget), clock));
        Self {
            repository: bench.repository.with_on_demand(Some(on_demand)),
            ..bench
        }
    }

    fn new(policy: &str, labels: &[(&str, u64)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (log, _writer) = Log::start(LogFormat::Human, AccessLog::Off, Arc::clone(&clock));
        let labels = labels
            .iter()
            .map(|(label, version)| ((*label).to_owned(), *version));
        let rules = VersionRules {
            policy: (!policy.is_empty()).then(|| policy.parse().unwrap()),
            labels: [("iris".to_owned(), labels.collect())].into(),
            batching: None,
        };
        let sources = ModelSources::of(directory.path());
        let options = LoadOptions::default();
        let repository = ModelRepository::new(sources, rules, options, 1, (log, clock));
        Self {
            directory,
            repository,
        }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join("iris").join(name)
    }

    /// Puts a version there whole, as its users should.
    fn put(&self, name: &str, bytes: &[u8]) {
        let aside = self.directory.path().join(".coming");
        fs::create_dir_all(&aside).unwrap();
        fs::write(aside.join("model.joblib"), bytes).unwrap();
        fs::create_dir_all(self.place("")).unwrap();
        fs::rename(aside, self.place(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_dir_all(self.place(name)).unwrap();
    }

    /// Looks at the files, and returns the versions with their states.
    fn look(&self) -> Vec<(String, VersionState)> {
        self.repository.refresh();
        self.states()
    }

    fn states(&self) -> Vec<(String, VersionState)> {
        let statuses = self.repository.table.load().version_statuses("iris");
        let pairs = statuses.into_iter();
        pairs.map(|status| (status.version, status.state)).collect()
    }

    fn newest(&self) -> Arc<ServedModel> {
        let table = self.repository.table.load();
        Arc::clone(table.by_name("iris").unwrap().choose())
    }
}

fn states(expected: &[(&str, VersionState)]) -> Vec<(String, VersionState)> {
    let pairs = expected.iter();
    pairs
        .map(|(version, state)| ((*version).to_owned(), *state))
        .collect()
}

use VersionState::{Available, End, Unloading};

#[test]
fn a_new_version_takes_over_and_requests_end_on_the_old_one() {
    let bench = Bench::new("latest", &[]);
    bench.put("1", &model_bytes());
    assert_eq!(bench.look(), states(&[("1", Available)]));
    let old = bench.newest();
    let lease = old.try_enter().unwrap();
    bench.put("2", &model_bytes());
    assert_eq!(bench.look(), states(&[("1", Unloading), ("2", Available)]));
    assert_eq!(bench.newest().version(), "2");
    assert_eq!(lease.name(), "iris");
    drop((lease, old));
    assert_eq!(bench.states(), states(&[("1", End), ("2", Available)]));
}

#[test]
fn a_version_that_does_not_load_takes_nobodys_place_until_it_is_mended() {
    let bench = Bench::new("latest", &[]);
    bench.put("1", &model_bytes());
    bench.look();
    bench.put("2", b"half a file");
    let expected = states(&[("1", Available), ("2", End)]);
    assert_eq!(bench.look(), expected);
    let failure = bench.repository.table.load().version_statuses("iris");
    let (code, message) = failure[1].failure.clone().unwrap();
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains("iris/2/model.joblib"), "{message}");
    // Nothing changes while the file is as it was.
    assert_eq!(bench.look(), expected);
    assert_eq!(bench.newest().version(), "1");
    fs::write(bench.place("2").join("model.joblib"), model_bytes()).unwrap();
    assert_eq!(bench.look(), states(&[("1", End), ("2", Available)]));
    // An empty directory is a version whose files have not come yet.
    fs::create_dir(bench.place("3")).unwrap();
    bench.look();
    assert_eq!(bench.newest().version(), "2");
}

#[test]
fn at_the_start_the_newest_that_loads_serves() {
    let bench = Bench::new("latest", &[]);
    bench.put("1", &model_bytes());
    bench.put("2", b"broken");
    assert_eq!(bench.look(), states(&[("1", Available), ("2", End)]));
    assert_eq!(bench.repository.failures(), (1, vec![]));
    let bench = Bench::new("all", &[]);
    bench.put("2", b"broken");
    assert_eq!(bench.look(), states(&[("2", End)]));
    let (n_models, failures) = bench.repository.failures();
    assert_eq!((n_models, failures.len()), (1, 1));
}

#[test]
fn files_that_go_drop_nothing_unless_somebody_asks() {
    let bench = Bench::new("latest", &[]);
    bench.put("1", &model_bytes());
    bench.put("2", &model_bytes());
    bench.look();
    bench.remove("2");
    assert_eq!(bench.look(), states(&[("2", Available)]));
    assert!(bench.newest().try_enter().is_some());
    bench.repository.load("iris").unwrap();
    assert_eq!(bench.states(), states(&[("1", Available), ("2", End)]));
    bench.remove("1");
    bench.look();
    bench.repository.load("iris").unwrap_err();
    assert_eq!(bench.newest().version(), "1");
    fs::remove_dir_all(bench.place("")).unwrap();
    assert_eq!(bench.look(), states(&[("1", Available), ("2", End)]));
}

#[test]
fn versions_lie_side_by_side_under_labels() {
    let bench = Bench::new("latest:2", &[("stable", 1), ("next", 9)]);
    for version in ["1", "2", "3", "4"] {
        bench.put(version, &model_bytes());
    }
    let expected = [("1", Available), ("3", Available), ("4", Available)];
    assert_eq!(bench.look(), states(&expected));
    let table = bench.repository.table.load();
    let route = table.by_name("iris").unwrap();
    assert_eq!(route.label("stable"), Some("1"));
    assert_eq!(bench.repository.dangling_labels(), ["next=iris:9"]);
    bench.repository.unload("iris").unwrap();
    assert!(bench.repository.table.load().by_name("iris").is_err());
    assert_eq!(
        bench.repository.unload("iris").unwrap_err().code,
        Code::NotFound
    );
    bench.repository.load("iris").unwrap();
    assert_eq!(bench.newest().version(), "4");
}

#[test]
fn what_is_wrong_with_one_model_holds_up_no_other() {
    let bench = Bench::new("latest", &[]);
    bench.put("1", &model_bytes());
    bench.look();
    let other = bench.directory.path().join("other");
    fs::create_dir(&other).unwrap();
    for name in ["a.joblib", "b.joblib"] {
        fs::write(other.join(name), model_bytes()).unwrap();
    }
    bench.put("2", &model_bytes());
    assert_eq!(bench.look(), states(&[("1", End), ("2", Available)]));
    let error = bench.repository.load("other").unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(error.message.contains("2 model files"), "{}", error.message);
    fs::remove_file(other.join("b.joblib")).unwrap();
    bench.look();
    assert!(bench.repository.table.load().by_name("other").is_ok());
}

#[test]
fn a_file_that_changes_is_served_in_the_same_place() {
    let bench = Bench::new("latest", &[]);
    bench.put("", &model_bytes());
    assert_eq!(bench.look(), states(&[("1", Available)]));
    let (served, first) = (bench.newest(), bench.newest().loaded().unwrap());
    bench.look();
    assert!(Arc::ptr_eq(&first, &served.loaded().unwrap()));
    let path = bench.place("model.joblib");
    fs::write(&path, b"broken, and of another size").unwrap();
    bench.look();
    assert!(Arc::ptr_eq(&first, &served.loaded().unwrap()));
    fs::write(&path, model_bytes()).unwrap();
    bench.look();
    assert!(!Arc::ptr_eq(&first, &served.loaded().unwrap()));
    assert!(Arc::ptr_eq(&served, &bench.newest()));
}

/// Tells the others that a thread has ended, however it did.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_request_finds_nothing_while_versions_are_replaced() {
    let bench = Bench::new("latest", &[]);
    bench.put("1", &model_bytes());
    bench.look();
    let (is_over, n_calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _ends = Ends(&is_over);
                while !is_over.load(Ordering::Relaxed) {
                    let model = bench.newest();
                    assert!(model.try_enter().is_some(), "{model:?} serves nothing");
                    n_calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ends = Ends(&is_over);
        for version in 2..20_u64 {
            // Each version takes requests before the next one comes.
            let before = n_calls.load(Ordering::Relaxed);
            while n_calls.load(Ordering::Relaxed) == before {
                assert!(!is_over.load(Ordering::Relaxed), "a call found nothing");
                std::thread::yield_now();
            }
            bench.put(&version.to_string(), &model_bytes());
            bench.remove(&(version - 1).to_string());
            bench.repository.refresh();
        }
    });
    assert_eq!(bench.newest().version(), "19");
}

#[test]
fn what_has_no_room_is_registered_and_loaded_when_it_is_asked_for() {
    let n_bytes = u64::try_from(model_bytes().len()).unwrap();
    // The file counts several times while it is read: there is room for one load, not for one beside a model.
    let bench = Bench::within(13 * n_bytes);
    bench.put("1", &model_bytes());
    let other = bench.directory.path().join("other/1");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("model.joblib"), model_bytes()).unwrap();
    bench.repository.refresh();
    let table = bench.repository.table.load();
    let is_loaded = |name| table.by_name(name).unwrap().choose().is_loaded();
    assert_eq!((is_loaded("iris"), is_loaded("other")), (true, false));
    let states = table.version_statuses("other");
    assert_eq!(states[0].state, VersionState::Available);
    assert_eq!(bench.repository.failures(), (2, vec![]));
    // Who asks for it by name gets it loaded, and the other one goes.
    bench.repository.load("other").unwrap();
    assert_eq!((is_loaded("iris"), is_loaded("other")), (false, true));
}

#[test]
fn a_file_larger_than_the_budget_is_a_failure_of_the_start() {
    let bench = Bench::within(100);
    bench.put("1", &model_bytes());
    bench.repository.refresh();
    let (n_models, failures) = bench.repository.failures();
    let message = &failures[0];
    assert!(
        n_models == 1 && message.contains("more than the whole memory budget of 100 B"),
        "{message}"
    );
}

#[test]
fn a_models_own_configuration_says_what_is_served_of_it() {
    let bench = Bench::new("", &[]);
    for version in ["1", "2", "3"] {
        bench.put(version, &model_bytes());
    }
    let write = |text: &str| fs::write(bench.place("config.pbtxt"), text).unwrap();
    write(
        "name: \"iris\" max_batch_size: 8 version_policy { latest { num_versions: 2 } } dynamic_batching { max_queue_delay_microseconds: 7 } response_cache { enable: true }",
    );
    assert_eq!(bench.look(), states(&[("2", Available), ("3", Available)]));
    let model = bench.newest();
    assert_eq!(model.batching().settings().rows_max, 8);
    assert_eq!(model.batching().settings().wait.as_micros(), 7);
    assert!(model.response_cache().is_some());
    assert_eq!(model.declared().unwrap().max_batch_size, Some(8));
    // A policy that changes is heeded at the next look; while the file is at fault, what was said before holds.
    write("version_policy { all {} }");
    let all = states(&[("1", Available), ("2", Available), ("3", Available)]);
    assert_eq!(bench.look(), all);
    write("version_policy { latest {");
    assert_eq!(bench.look(), all);
}

#[test]
fn the_command_line_goes_before_a_models_own_configuration() {
    let bench = Bench::new("1", &[]);
    bench.put("1", &model_bytes());
    bench.put("2", &model_bytes());
    fs::write(bench.place("config.pbtxt"), "version_policy { all {} }").unwrap();
    assert_eq!(bench.look(), states(&[("1", Available)]));
}

#[test]
fn a_configuration_at_fault_is_told_and_takes_nobodys_place() {
    let bench = Bench::new("", &[]);
    bench.put("1", &model_bytes());
    bench.look();
    let write = |text: &str| fs::write(bench.place("config.pbtxt"), text).unwrap();
    write("max_batch_size: many");
    bench.put("2", &model_bytes());
    assert_eq!(bench.look(), states(&[("1", Available), ("2", End)]));
    let failure = bench.repository.table.load().version_statuses("iris");
    let (code, message) = failure[1].failure.clone().unwrap();
    assert_eq!(code, Code::FailedPrecondition);
    let said = "iris/config.pbtxt: line 1 column 1: max_batch_size is many, a whole number from 0";
    assert!(message.contains(said), "{message}");
    // What is said of outputs that are not there, too.
    write("output { name: \"output__0\" }");
    bench.look();
    let failure = bench.repository.table.load().version_statuses("iris");
    let (_, message) = failure[1].failure.clone().unwrap();
    let said = "iris/config.pbtxt: line 1: output 'output__0': the model has predict";
    assert!(message.contains(said), "{message}");
    write("max_batch_size: 4");
    assert_eq!(bench.look().last().unwrap().1, Available);
    assert_eq!(bench.newest().version(), "2");
}

#[test]
fn a_configuration_names_the_file_of_several() {
    let bench = Bench::new("", &[]);
    bench.put("1", &model_bytes());
    fs::write(bench.place("1").join("other.joblib"), b"no model").unwrap();
    assert_eq!(bench.look(), states(&[("1", End)]));
    let config = "default_model_filename: \"model.joblib\"";
    fs::write(bench.place("config.pbtxt"), config).unwrap();
    assert_eq!(bench.look(), states(&[("1", Available)]));
}
