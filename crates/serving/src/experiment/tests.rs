//! Books, from requests to verdicts and back from their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_base::ManualClock;
use coracle_policy::experiment::{Bounds, Effect, Method, Verdict};

use super::journal::Journal;
use super::ledger::{Ledger, Room};
use super::record::{Counters, Record};
use super::recorder::{Message, Open};
use super::series::Series;
use super::*;
use crate::Teller;

mod bandits;
mod files;
mod linear;
mod settled;
mod stage_units;
mod trials;
mod winners;

/// As the server writes them.
const LINES: LineForm = LineForm {
    write: |line| Ok(serde_json::to_vec(line)?),
    read: |line| serde_json::from_slice(line).ok(),
};

fn metric(name: &str, kind: MetricForm) -> PlannedMetric {
    PlannedMetric {
        role: match kind {
            MetricForm::Conversion => MetricRole::Primary,
            _ => MetricRole::Secondary,
        },
        name: name.to_owned(),
        kind,
        covariate: None,
        zero_if_missing: false,
        is_lower_better: false,
        expected: 0.1,
        margin: 0.1,
        window_ms: None,
    }
}

fn planned() -> PlannedExperiment {
    let variant = |name: &str| PlannedVariant {
        name: name.to_owned(),
        weight: 1,
        target: VariantTarget::Own,
    };
    PlannedExperiment {
        name: "ab".to_owned(),
        uid: "1".to_owned(),
        salt: "s".to_owned(),
        unit: UnitSource::Header("x-user".to_owned()),
        variants: vec![variant("a"), variant("b")],
        share_ppm: 1_000_000,
        metrics: vec![
            metric("converted", MetricForm::Conversion),
            metric("spent", MetricForm::Sum),
            metric("errors", MetricForm::Errors),
        ],
        ..PlannedExperiment::default()
    }
}

/// Books in a directory, with what tests do to them.
struct Fixture {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    experiments: Experiments,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            experiments: start(directory.path()),
            directory,
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap(),
        }
    }

    fn open(&self, planned: &PlannedExperiment) -> Arc<Book> {
        self.experiments.open("ml", planned)
    }

    /// Ends, and starts anew.
    fn again(self) -> Self {
        self.experiments.stop();
        Self {
            experiments: start(self.directory.path()),
            ..self
        }
    }

    fn record(&self, book: &Arc<Book>, outcomes: Vec<NewOutcome>) -> Vec<Result<Taken, String>> {
        let recorded = self.experiments.record(book, outcomes);
        let taken = self.runtime.block_on(recorded).unwrap();
        let texts = taken.into_iter();
        texts
            .map(|taken| taken.map_err(|fault| fault.to_string()))
            .collect()
    }

    /// Waits until what came before is in the sums.
    fn settle(&self, book: &Arc<Book>) {
        assert!(self.record(book, vec![]).is_empty());
    }

    fn file(&self) -> PathBuf {
        let mut files = fs::read_dir(self.directory.path().join("ml")).unwrap();
        files.next().unwrap().unwrap().path()
    }
}

fn start(directory: &Path) -> Experiments {
    start_telling(directory, Teller::nobody())
}

/// Returns what will be told, and to whom.
fn listener() -> (Arc<Mutex<Vec<String>>>, Teller) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let to = Arc::clone(&told);
    let teller = Teller::new(move |line| to.lock().unwrap().push(line.to_owned()));
    (told, teller)
}

fn start_telling(directory: &Path, teller: Teller) -> Experiments {
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(1_000));
    Experiments::start(directory.to_owned(), LINES, Arc::new(clock), teller).unwrap()
}

fn exposure(unit: &str, variant: &str, ok: bool) -> Exposure {
    Exposure {
        unit: unit.to_owned(),
        request_id: format!("r-{unit}"),
        variant: variant.to_owned(),
        revision: "iris-predictor-00001".to_owned(),
        end: match ok {
            true => ExposureEnd::Answered,
            false => ExposureEnd::Failed,
        },
        seconds: 0.5,
        by: By::Hash,
        propensity: None,
        features: Vec::new(),
        at: 5_000,
    }
}

fn outcome(about: UnitRef, metric: &str, value: f64, id: Option<&str>) -> NewOutcome {
    NewOutcome {
        about,
        id: id.map(str::to_owned),
        metrics: vec![(metric.to_owned(), value)],
    }
}

fn of_unit(unit: &str) -> UnitRef {
    UnitRef::Unit(unit.to_owned())
}

fn of_request(id: &str) -> UnitRef {
    UnitRef::Request(id.to_owned())
}

/// What tests compare of how an experiment stands.
type Shown = (String, u64, u64, u64, Vec<MetricStanding>);

fn shown(book: &Book) -> Vec<Shown> {
    let standing = book.standing();
    let variants = standing.variants.into_iter();
    let rounded = |metric: MetricStanding| MetricStanding {
        mean: (metric.mean * 1e9).round() / 1e9,
        ..metric
    };
    variants
        .map(|one| {
            let metrics = one.metrics.into_iter().map(rounded).collect();
            (one.name, one.units, one.requests, one.errors, metrics)
        })
        .collect()
}

fn told(units: u64, missing: u64, mean: f64) -> MetricStanding {
    MetricStanding {
        units,
        missing,
        open: 0,
        mean,
        settled: None,
    }
}

/// Three units of `a`, two of `b`, and what came of some of them.
fn fill(fixture: &Fixture, book: &Arc<Book>) {
    for (unit, variant, ok) in [
        ("u1", "a", true),
        ("u2", "a", true),
        ("u2", "a", false),
        ("u3", "a", true),
        ("u4", "b", true),
        ("u5", "b", true),
    ] {
        book.expose(exposure(unit, variant, ok));
    }
    let taken = fixture.record(
        book,
        vec![
            outcome(of_unit("u1"), "converted", 1.0, Some("o1")),
            outcome(of_request("r-u2"), "converted", 0.0, Some("o2")),
            outcome(of_unit("u2"), "spent", 3.0, None),
            outcome(of_unit("u2"), "spent", 4.0, None),
            outcome(of_unit("u4"), "converted", 1.0, Some("o1")),
            outcome(of_unit("nobody"), "converted", 1.0, None),
            outcome(of_request("r-nobody"), "converted", 1.0, None),
            outcome(of_unit("u4"), "odd", 1.0, None),
            outcome(of_unit("u4"), "errors", 1.0, None),
        ],
    );
    use Taken::{Counted, Duplicate};
    assert_eq!(
        taken[..5],
        [Counted, Counted, Counted, Counted, Duplicate].map(Ok)
    );
    for (result, expected) in taken[5..].iter().zip([
        "unit \"nobody\" has had no request in this experiment",
        "request \"r-nobody\" is not known",
        "metric \"odd\" is none of this experiment's: converted, spent",
        "metric \"errors\" is none of this experiment's: converted, spent",
    ]) {
        let error = result.as_ref().unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_told_is_there_after_a_restart() {
    let fixture = Fixture::new();
    let book = fixture.open(&planned());
    fill(&fixture, &book);
    let expected = vec![
        (
            "a".to_owned(),
            3,
            4,
            1,
            vec![told(2, 1, 0.5), told(1, 2, 7.0), told(3, 0, 0.25)],
        ),
        (
            "b".to_owned(),
            2,
            2,
            0,
            vec![told(0, 2, 0.0), told(0, 2, 0.0), told(2, 0, 0.0)],
        ),
    ];
    assert_eq!(shown(&book), expected);
    let standing = book.standing();
    assert_eq!((standing.n_outcomes, standing.since), (4, Some(5_000)));
    assert!((standing.variants[0].expected - 2.5).abs() < 1e-12);
    drop(book);
    let fixture = fixture.again();
    let book = fixture.open(&planned());
    fixture.settle(&book);
    assert_eq!(shown(&book), expected);
    assert!((book.standing().variants[0].expected - 2.5).abs() < 1e-12);
    // Ids and requests are remembered, too.
    let taken = fixture.record(
        &book,
        vec![
            outcome(of_unit("u1"), "converted", 1.0, Some("o1")),
            outcome(of_request("r-u5"), "converted", 0.0, None),
        ],
    );
    assert_eq!(taken, [Ok(Taken::Duplicate), Ok(Taken::Counted)]);
    fixture.experiments.stop();
}

#[test]
fn another_salt_or_object_is_another_experiment() {
    let fixture = Fixture::new();
    let book = fixture.open(&planned());
    fill(&fixture, &book);
    for change in [
        |planned: &mut PlannedExperiment| planned.salt = "t".to_owned(),
        |planned: &mut PlannedExperiment| planned.uid = "2".to_owned(),
    ] {
        let mut other = planned();
        change(&mut other);
        let other = fixture.open(&other);
        fixture.settle(&other);
        assert_eq!(other.standing().n_outcomes, 0);
    }
    // Open again, it is the same book.
    let mut other = planned();
    other.analysis.alpha = 0.01;
    let again = fixture.open(&planned());
    assert_eq!(again.standing().n_outcomes, 4);
    drop(book);
    let again_changed = fixture.open(&other);
    assert!(Arc::ptr_eq(&again, &again_changed));
    assert!((again.planned().analysis.alpha - 0.01).abs() < 1e-12);
    fixture.experiments.stop();
}

#[test]
fn a_damaged_file_loses_its_damaged_lines_only() {
    let fixture = Fixture::new();
    let book = fixture.open(&planned());
    fill(&fixture, &book);
    let (path, before) = (fixture.file(), shown(&book));
    drop(book);
    fixture.experiments.stop();
    let whole = fs::read(&path).unwrap();
    // Cut at every place: never an error, and never more than there was.
    for end in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..end]).unwrap();
        let mut n_lines = 0;
        let (journal, _) = Journal::open(&path, LINES, |_record| n_lines += 1).unwrap();
        drop(journal);
        let is_line_end = end == 0 || whole[end - 1] == b'\n';
        let kept = fs::read(&path).unwrap();
        assert!(whole.starts_with(&kept) && (kept.len() == end) == is_line_end);
        assert_eq!(n_lines, kept.iter().filter(|byte| **byte == b'\n').count());
    }
    let mut spoilt = b"\xff\xfe no line of ours\n{\"type\":\"odd\"}\n".to_vec();
    spoilt.extend_from_slice(&whole);
    spoilt.extend_from_slice(b"{\"type\":\"exposure\",\"at\":1");
    fs::write(&path, spoilt).unwrap();
    let (told, teller) = listener();
    let fixture = Fixture {
        experiments: start_telling(fixture.directory.path(), teller),
        ..fixture
    };
    let book = fixture.open(&planned());
    fixture.settle(&book);
    assert_eq!(shown(&book), before);
    fixture.experiments.stop();
    // The last one was being written when the server ended.
    let path = path.display();
    assert_eq!(
        *told.lock().unwrap(),
        [format!(
            "{path}: 2 lines could not be read, the first is line 1"
        )]
    );
}

fn record_exposure<'a>(unit: &'a str, variant: &'a str, at: u64) -> Record<'a> {
    Record::Exposure {
        at,
        experiment: "ml/ab".into(),
        variant: variant.into(),
        unit: unit.into(),
        request_id: unit.into(),
        revision: "r".into(),
        ok: true,
        left: false,
        seconds: 0.25,
        by: "hash".into(),
        propensity: Some(0.25),
        features: Vec::new(),
    }
}

fn record_outcome<'a>(unit: &'a str, metric: &'a str, value: f64) -> Record<'a> {
    Record::Outcome {
        at: 9_000,
        unit: unit.into(),
        request_id: None,
        id: Some(unit.into()),
        metrics: vec![(metric.into(), value)],
        late: Vec::new(),
    }
}

fn ledger(room: usize) -> Ledger {
    Ledger::new(Arc::new(Room::new(room, room)))
}

fn standing_of(ledger: &Ledger, planned: &PlannedExperiment) -> Standing {
    let id = ExperimentId {
        namespace: "ml".to_owned(),
        name: "ab".to_owned(),
    };
    ledger.standing(&id, planned, &[], 20_000)
}

#[test]
fn a_file_that_is_written_anew_says_the_same() {
    let mut planned = planned();
    planned.allocation = Allocation::Bandit {
        strategy: BanditStrategy::Thompson,
        floor: 0.1,
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.jsonl");
    let (mut journal, _) = Journal::open(&path, LINES, |_| {}).unwrap();
    let mut before = ledger(1_000);
    let units: Vec<String> = (0..200).map(|index| format!("u{index}")).collect();
    let shares = vec![("a".to_owned(), 0.5), ("b".to_owned(), 0.5)];
    let mut records = vec![Record::Shares { shares }];
    for (unit, index) in units.iter().zip(0_u32..) {
        let variant = if index % 3 == 0 { "a" } else { "b" };
        records.push(record_exposure(unit, variant, 1_000 + u64::from(index)));
        records.push(record_outcome(unit, "converted", f64::from(index % 2)));
    }
    journal.set_max(1_000);
    for record in records {
        journal.write(&LINES.line(&record).unwrap()).unwrap();
        before.apply(record, &planned);
    }
    assert!(journal.is_long());
    let counted = Counters {
        unassigned: 3,
        lost: 4,
        units_lost: 5,
    };
    journal
        .rewrite(|write| before.each_record(counted, write))
        .unwrap();
    assert!(!journal.is_long());
    // What comes after goes to the new file.
    let late = record_outcome("u7", "spent", 5.0);
    journal.write(&LINES.line(&late).unwrap()).unwrap();
    before.apply(late, &planned);
    drop(journal);
    let mut after = ledger(1_000);
    let mut counters = None;
    let (_, found) = Journal::open(&path, LINES, |record| {
        if let Record::Counters(read) = record {
            counters = Some(read);
        }
        after.apply(record, &planned);
    })
    .unwrap();
    assert_eq!((found.n_bad, counters), (0, Some(counted)));
    assert_eq!(after.n_units_lost, 5);
    let (old, new) = (
        standing_of(&before, &planned),
        standing_of(&after, &planned),
    );
    assert_eq!(old.arms, new.arms);
    assert_eq!(old.off_policy, new.off_policy);
    assert_eq!((old.since, old.n_outcomes), (new.since, new.n_outcomes));
    for (old, new) in old.variants.iter().zip(&new.variants) {
        assert_eq!((old.units, old.requests), (new.units, new.requests));
        assert!((old.expected - new.expected).abs() < 1e-9);
        for (old, new) in old.metrics.iter().zip(&new.metrics) {
            assert_eq!((old.units, old.missing), (new.units, new.missing));
            assert!((old.mean - new.mean).abs() < 1e-9);
        }
    }
    let again = outcome(of_unit("u9"), "converted", 1.0, Some("u9"));
    assert_eq!(after.find(&again).unwrap().1, Taken::Duplicate);
    assert!(
        after
            .find(&outcome(of_request("u9"), "spent", 1.0, None))
            .is_ok()
    );
    // The old one stays beside it.
    assert!(directory.path().join("e.jsonl.1").exists());
}

#[test]
fn looks_are_the_same_live_and_read_again() {
    let planned = planned();
    let units: Vec<String> = (0..400).map(|index| format!("u{index}")).collect();
    let fill = |ledger: &mut Ledger| {
        for (unit, index) in units.iter().zip(0_u32..) {
            let variant = if index % 2 == 0 { "a" } else { "b" };
            ledger.apply(record_exposure(unit, variant, u64::from(index)), &planned);
            let converted = f64::from(index / 2 % 5).min(1.0) * f64::from(index % 2);
            ledger.apply(record_outcome(unit, "converted", converted), &planned);
        }
    };
    let (mut live, mut read) = (ledger(1_000), ledger(1_000));
    fill(&mut live);
    fill(&mut read);
    let (live, read) = (standing_of(&live, &planned), standing_of(&read, &planned));
    let (_, name, points) = &live.series[0];
    assert!(name == "converted" && points.len() > 5);
    assert_eq!(points.len(), read.series[0].2.len());
    // Each of its own look, and narrower with more of them.
    let holds = |point: &Point| point.low < point.difference && point.difference < point.high;
    assert!(points.iter().all(holds), "{points:?}");
    let width = |point: &Point| point.high - point.low;
    assert!(
        points
            .windows(2)
            .all(|pair| width(&pair[1]) < width(&pair[0]))
    );
    // Four fifths of b and none of a.
    assert!(matches!(
        live.analysis.verdict,
        Verdict::Better { variant: 1, .. }
    ));
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let planned = planned();
    let mut ledger = ledger(3);
    for unit in ["u1", "u2", "u3", "u4", "u5", "u1"] {
        ledger.apply(record_exposure(unit, "a", 1), &planned);
    }
    let standing = standing_of(&ledger, &planned);
    assert_eq!((standing.variants[0].units, standing.n_units_lost), (3, 2));
    // A queue that nobody empties.
    let (queue, _messages) = sync_channel(1);
    let id = ExperimentId {
        namespace: "ml".to_owned(),
        name: "ab".to_owned(),
    };
    let room = Arc::new(Room::new(1, 1));
    let clock = Arc::new(ManualClock::new());
    let book = Book::new(
        id,
        PathBuf::new(),
        planned,
        Ledger::new(room),
        (queue, clock),
    );
    let book = Arc::new(book);
    for _ in 0..3 {
        book.expose(exposure("u", "a", true));
    }
    assert_eq!(book.standing().n_lost, 2);
}

#[test]
fn a_disk_that_takes_nothing_takes_no_outcome() {
    let fixture = Fixture::new();
    // Where the file is to be, a directory is.
    let book = fixture.open(&planned());
    fixture.settle(&book);
    let path = fixture.file();
    drop(book);
    let fixture = fixture.again();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let book = fixture.open(&planned());
    book.expose(exposure("u1", "a", true));
    let about = outcome(of_unit("u1"), "converted", 1.0, None);
    let recorded = fixture.experiments.record(&book, vec![about.clone()]);
    let refused = fixture.runtime.block_on(recorded).unwrap_err();
    assert!(matches!(refused, NotRecorded::Disk(_)), "{refused}");
    assert_eq!(book.standing().n_lost, 1);
    // When it takes something again, so do we.
    fs::remove_dir(&path).unwrap();
    book.expose(exposure("u1", "a", true));
    assert_eq!(fixture.record(&book, vec![about]), [Ok(Taken::Counted)]);
    fixture.experiments.stop();
}

/// Puts something in the way of the file of a filled book; returns where the file is now, and what the book said.
fn in_the_way(fixture: Fixture) -> (Fixture, PathBuf, Vec<Shown>) {
    let book = fixture.open(&planned());
    fill(&fixture, &book);
    let (path, before) = (fixture.file(), shown(&book));
    drop(book);
    fixture.experiments.stop();
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    let experiments = start(fixture.directory.path());
    let fixture = Fixture {
        experiments,
        ..fixture
    };
    (fixture, path, before)
}

#[test]
fn a_file_that_opens_late_is_read_before_it_is_written() {
    let (fixture, path, before) = in_the_way(Fixture::new());
    let book = fixture.open(&planned());
    let about = outcome(of_unit("u1"), "spent", 2.0, None);
    let recorded = fixture.experiments.record(&book, vec![about]);
    let refused = fixture.runtime.block_on(recorded).unwrap_err();
    assert!(matches!(refused, NotRecorded::Disk(_)), "{refused}");
    fs::remove_dir(&path).unwrap();
    fs::rename(path.with_extension("away"), &path).unwrap();
    // Its units and ids are known again, and counted once.
    let again = outcome(of_unit("u1"), "converted", 1.0, Some("o1"));
    assert_eq!(fixture.record(&book, vec![again]), [Ok(Taken::Duplicate)]);
    assert_eq!(shown(&book), before);
    assert_eq!(book.standing().n_outcomes, 4);
    fixture.experiments.stop();
}

/// A recorder's view of a book, without its thread.
fn recorded(directory: &Path) -> (Arc<Book>, std::sync::mpsc::Receiver<Message>) {
    let (queue, messages) = sync_channel(64);
    let id = ExperimentId {
        namespace: "ml".to_owned(),
        name: "ab".to_owned(),
    };
    let path = directory.join("e.jsonl");
    let clock = Arc::new(ManualClock::new());
    let book = Book::new(id, path, planned(), ledger(1_000), (queue, clock));
    (Arc::new(book), messages)
}

#[test]
fn a_book_that_is_read_twice_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let (book, _messages) = recorded(directory.path());
    let mut open = Open::new(&book, LINES, &Teller::nobody());
    open.add(exposure("u1", "a", true));
    book.count_unassigned();
    open.flush().unwrap();
    open.note_counters();
    let before = shown(&book);
    assert_eq!(before[0].2, 1);
    drop(open);
    // Counted by a request that came between.
    book.count_unassigned();
    let mut open = Open::new(&book, LINES, &Teller::nobody());
    assert_eq!(shown(&book), before);
    assert_eq!(book.standing().n_unassigned, 2);
    open.note_counters();
    drop(open);
    let (book, _messages) = recorded(directory.path());
    // Before the file was read, and still to be written there.
    book.count_unassigned();
    let mut open = Open::new(&book, LINES, &Teller::nobody());
    assert_eq!(book.standing().n_unassigned, 3);
    open.note_counters();
    drop(open);
    let (book, _messages) = recorded(directory.path());
    drop(Open::new(&book, LINES, &Teller::nobody()));
    assert_eq!(book.standing().n_unassigned, 3);
}

#[test]
fn what_the_disk_did_not_take_is_not_acknowledged_later() {
    let (fixture, path, _) = in_the_way(Fixture::new());
    // It takes every line, and cannot be waited for.
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let book = fixture.open(&planned());
    book.expose(exposure("u1", "a", true));
    let about = outcome(of_unit("u1"), "converted", 1.0, Some("o1"));
    let recorded = fixture.experiments.record(&book, vec![about.clone()]);
    let refused = fixture.runtime.block_on(recorded).unwrap_err();
    assert!(matches!(refused, NotRecorded::Disk(_)), "{refused}");
    // It is there already, but only in memory: it is written anew, and then it is said.
    assert_eq!(
        fixture.record(&book, vec![about.clone()]),
        [Ok(Taken::Duplicate)]
    );
    drop(book);
    let fixture = fixture.again();
    let book = fixture.open(&planned());
    fixture.settle(&book);
    assert_eq!(book.standing().n_outcomes, 1);
    assert_eq!(fixture.record(&book, vec![about]), [Ok(Taken::Duplicate)]);
    fixture.experiments.stop();
}

fn split(planned: &PlannedExperiment, book: &Arc<Book>) -> RouteExperiments {
    let split = Split::try_new(planned, Arc::clone(book), |_target| SplitTarget::Own).unwrap();
    RouteExperiments::new(vec![split])
}

fn variant_of<'a>(
    experiments: &'a RouteExperiments,
    unit: Option<&str>,
) -> Option<(&'a str, Option<By>)> {
    match experiments.decide(|_source| unit.map(str::to_owned), |_source| None) {
        Decided::Variant(decision, _) => {
            Some((decision.split.variant(decision.variant), decision.by))
        }
        Decided::Outside => None,
    }
}

#[test]
fn units_are_split_and_the_rest_is_counted() {
    let fixture = Fixture::new();
    let mut planned = planned();
    planned.control = 1;
    planned.share_ppm = 500_000;
    planned.overrides = [("tester".to_owned(), "a".to_owned())].into();
    let book = fixture.open(&planned);
    let experiments = split(&planned, &book);
    assert_eq!(
        variant_of(&experiments, Some("tester")),
        Some(("a", Some(By::Override)))
    );
    assert_eq!(variant_of(&experiments, None), Some(("b", None)));
    assert_eq!(book.standing().n_unassigned, 1);
    let units: Vec<String> = (0..1_000).map(|index| format!("u{index}")).collect();
    let taken = units
        .iter()
        .filter_map(|unit| variant_of(&experiments, Some(unit)));
    let n_taken = taken.count();
    assert!((430..570).contains(&n_taken), "{n_taken}");
    // A winner takes everybody.
    planned.winner = Some("a".to_owned());
    let settled = split(&planned, &book);
    for unit in [None, Some("u1"), Some("tester")] {
        assert_eq!(variant_of(&settled, unit), Some(("a", None)));
    }
    fixture.experiments.stop();
}

#[test]
fn who_moves_with_the_weights_is_not_analysed() {
    let before = planned();
    let mut after = planned();
    after.variants[1].weight = 3;
    let fixture = Fixture::new();
    let book = fixture.open(&before);
    let units: Vec<String> = (0..300).map(|index| format!("u{index}")).collect();
    let (old, new) = (split(&before, &book), split(&after, &book));
    let of = |experiments, unit: &String| {
        let (variant, _) = variant_of(experiments, Some(unit)).unwrap();
        variant.to_owned()
    };
    for unit in &units {
        book.expose(exposure(unit, &of(&old, unit), true));
    }
    fixture.settle(&book);
    let book = fixture.open(&after);
    fixture.settle(&book);
    // Whether or not they have come again.
    let n_moved = units
        .iter()
        .filter(|unit| of(&old, unit) != of(&new, unit))
        .count();
    assert!(n_moved > 40);
    let standing = book.standing();
    assert_eq!(standing.n_mixed, u64::try_from(n_moved).unwrap());
    let n_analysed: u64 = standing.variants.iter().map(|one| one.units).sum();
    assert_eq!(n_analysed + standing.n_mixed, 300);
    assert!(!standing.analysis.split.unwrap().is_mismatch);
    fixture.experiments.stop();
}

#[test]
fn what_is_infinite_is_read_again() {
    let planned = planned();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.jsonl");
    let (mut journal, _) = Journal::open(&path, LINES, |_| {}).unwrap();
    let mut before = ledger(10);
    before.apply(record_exposure("u", "a", 1), &planned);
    for value in [f64::MAX, f64::MAX, 2.0] {
        before.apply(record_outcome("u", "spent", value), &planned);
    }
    let mut series = Series::new("b", &planned.metrics[0], 0.05);
    let interval = Bounds {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
    };
    let effect = Effect {
        difference: 0.5,
        interval,
        p_value: 1.0,
        method: Method::Welch,
    };
    series.push(7, effect);
    before.series.push(series);
    journal
        .rewrite(|write| before.each_record(Counters::default(), write))
        .unwrap();
    let mut after = ledger(10);
    let (_, found) = Journal::open(&path, LINES, |record| after.apply(record, &planned)).unwrap();
    assert_eq!(found.n_bad, 0);
    assert_eq!(after.units["u"].cells, before.units["u"].cells);
    assert_eq!(after.units["u"].cells[0].sum, f64::INFINITY);
    assert_eq!(after.series, before.series);
}
