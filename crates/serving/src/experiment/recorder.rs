//! The thread that writes exposures and outcomes, and keeps the books.
//!
//! Expected flow: [`Experiments::open`] when a route is built, [`Book::expose`] for every request, [`Experiments::record`] for outcomes. Guarantees:
//! an outcome that was acknowledged is on the disk, and is counted once if it has an id; an exposure is written before the outcomes that come
//! after it. Exposures are handed to the system at once, but not waited for: a killed server may lose those of its last moment, a lost machine
//! those of its last seconds.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use coracle_base::Clock;
use thiserror::Error;
use tokio::sync::oneshot;

use super::book::{Book, Exposure, ExposureEnd};
use super::journal::{Found, Journal};
use super::kept::{Kept, file_name};
use super::ledger::{Ledger, Room};
use super::outcome::{NewOutcome, OutcomeFault, Taken, UnitRef};
use super::record::{Counters, LineForm, Record};
use super::split::By;
use super::{Allocation, BookId, ExperimentId, ExperimentSummary, MetricForm, PlannedExperiment};
use crate::Teller;

/// Exposures and bulks of outcomes that may wait for the writing thread.
const QUEUE_MESSAGES: usize = 16_384;
/// The most that are written together.
const BATCH_MESSAGES: usize = 4_096;
/// The units that all experiments together may know.
const UNITS_MAX: usize = 1_000_000;
/// The units that the stages of all rollouts together may know, beside those.
const STAGE_UNITS_MAX: usize = 500_000;
/// The units that the stages of one rollout may know.
const STAGE_UNITS_OF_ONE_MAX: usize = 250_000;
/// How often bandits are given what is known, at most.
const BANDIT_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether those that still hold a book that is to go have let go of it.
const LEAVING_EVERY: Duration = Duration::from_secs(1);

/// What comes to the writing thread.
pub(super) enum Message {
    Open(Arc<Book>),
    Exposure(Arc<Book>, Box<Exposure>),
    /// A unit, and the variant that took all when it came.
    Winner(Arc<Book>, String, String),
    Outcomes(Arc<Book>, Vec<NewOutcome>, Answer),
    Keep(BTreeSet<PathBuf>),
    Stop,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// Where it is told what became of outcomes.
type Answer = oneshot::Sender<Result<Vec<Result<Taken, OutcomeFault>>, NotRecorded>>;

/// Why no outcome of a request was taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotRecorded {
    /// There are too many at a time, or the server ends.
    #[error("outcomes cannot be taken now: too many wait")]
    Busy,
    /// The disk does not take them.
    #[error("outcomes cannot be written: {0}")]
    Disk(String),
}

/// The books of all experiments. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Experiments {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    clock: Arc<dyn Clock>,
    queue: SyncSender<Message>,
    room: Arc<Room>,
    stage_room: Arc<Room>,
    /// By file: whoever opens one that is open shares it.
    books: Mutex<BTreeMap<PathBuf, Weak<Book>>>,
    /// Counts what is opened.
    n_opened: AtomicU64,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Experiments {
    /// Starts the writing thread for files under `directory`, whose lines have the form `form`; `teller` is told of lines that cannot be read.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(
        directory: PathBuf,
        form: LineForm,
        clock: Arc<dyn Clock>,
        teller: Teller,
    ) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_MESSAGES);
        let recorder = Recorder {
            messages,
            form,
            teller,
            clock: Arc::clone(&clock),
            files: BTreeMap::new(),
            kept: Kept::all(directory.clone()),
            bandits_at: Duration::ZERO,
        };
        let thread = std::thread::Builder::new().name("coracle-experiments".to_owned());
        let thread = thread.spawn(move || recorder.run())?;
        Ok(Self {
            inner: Arc::new(Inner {
                directory,
                clock,
                queue,
                room: Arc::new(Room::new(UNITS_MAX, UNITS_MAX)),
                stage_room: Arc::new(Room::new(STAGE_UNITS_MAX, STAGE_UNITS_OF_ONE_MAX)),
                books: Mutex::default(),
                n_opened: AtomicU64::new(0),
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// Writes what waits, and ends.
    pub fn stop(&self) {
        let thread = self.inner.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        // The queue is worked off before the end comes up.
        let is_told = self.inner.queue.send(Message::Stop).is_ok();
        if let Some(thread) = thread.filter(|_| is_told) {
            drop(thread.join());
        }
    }

    /// Returns the book of an experiment, read from its file if it is not open.
    #[must_use]
    pub fn open(&self, namespace: &str, planned: &PlannedExperiment) -> Arc<Book> {
        let id = ExperimentId {
            namespace: namespace.to_owned(),
            name: planned.name.clone(),
        };
        let file = file_name(&BookId::of(namespace, planned));
        let path = self.inner.directory.join(file);
        let books = self.inner.books.lock();
        let mut books = books.unwrap_or_else(PoisonError::into_inner);
        books.retain(|_, book| book.strong_count() > 0);
        let turn = self.inner.n_opened.fetch_add(1, Ordering::Relaxed);
        let known = books.get(&path).and_then(Weak::upgrade);
        let book = known.unwrap_or_else(|| {
            let book = self.new_book(id, path.clone(), planned);
            books.insert(path, Arc::downgrade(&book));
            book
        });
        book.plan(planned, turn);
        // Event loops look books up.
        drop(books);
        // Waits if it must: what comes after it needs what the file says. One that was open may be given other weights.
        let _queued = self.inner.queue.send(Message::Open(Arc::clone(&book)));
        book
    }

    fn new_book(&self, id: ExperimentId, path: PathBuf, planned: &PlannedExperiment) -> Arc<Book> {
        let room = match planned.stage {
            None => &self.inner.room,
            Some(_) => &self.inner.stage_room,
        };
        Arc::new(Book::new(
            id,
            path,
            planned.clone(),
            Ledger::new(Arc::clone(room)),
            (self.inner.queue.clone(), Arc::clone(&self.inner.clock)),
        ))
    }

    /// Keeps the files of these books, and of those that are open as long as they are; others go.
    pub fn keep(&self, books: &BTreeSet<BookId>) {
        let files = books.iter().map(file_name);
        let files = files.map(|file| self.inner.directory.join(file)).collect();
        let _queued = self.inner.queue.send(Message::Keep(files));
    }

    /// Returns the open books of a name, in all namespaces or one.
    #[must_use]
    pub fn find(&self, namespace: Option<&str>, name: &str) -> Vec<Arc<Book>> {
        let is_asked = |book: &Arc<Book>| {
            book.id.name == name && namespace.is_none_or(|asked| asked == book.id.namespace)
        };
        self.books().into_iter().filter(is_asked).collect()
    }

    /// Returns the open books; of one name those that were opened last, should requests still hold earlier ones.
    #[must_use]
    pub fn books(&self) -> Vec<Arc<Book>> {
        let books = self.inner.books.lock();
        let books = books.unwrap_or_else(PoisonError::into_inner);
        let mut newest: BTreeMap<ExperimentId, Arc<Book>> = BTreeMap::new();
        for book in books.values().filter_map(Weak::upgrade) {
            let known = newest.get(&book.id);
            if known.is_none_or(|known| known.turn() < book.turn()) {
                newest.insert(book.id.clone(), book);
            }
        }
        newest.into_values().collect()
    }

    /// Returns how they stand, in short.
    #[must_use]
    pub fn summaries(&self) -> Vec<ExperimentSummary> {
        self.books().iter().map(|book| book.summary()).collect()
    }

    /// Takes outcomes; returns what became of each, once they are on the disk.
    ///
    /// # Errors
    /// [`NotRecorded`] if none was taken.
    pub async fn record(
        &self,
        book: &Arc<Book>,
        outcomes: Vec<NewOutcome>,
    ) -> Result<Vec<Result<Taken, OutcomeFault>>, NotRecorded> {
        let (answer, answered) = oneshot::channel();
        let message = Message::Outcomes(Arc::clone(book), outcomes, answer);
        let queued = self.inner.queue.try_send(message);
        queued.map_err(|_full| NotRecorded::Busy)?;
        answered.await.unwrap_or(Err(NotRecorded::Busy))
    }
}

/// A file with what is to be written to it.
pub(super) struct Open {
    book: Arc<Book>,
    form: LineForm,
    teller: Teller,
    journal: Option<Journal>,
    lines: Vec<u8>,
    /// Exposures whose lines wait.
    exposures: Vec<Exposure>,
    /// Whether outcomes were written that are not known to be on the disk.
    needs_sync: bool,
    /// Whether the system has failed to put them there: it may not try the same again, and say that it has.
    is_doubtful: bool,
    /// Whether the book holds all that the file says. What was not read is not written anew.
    is_read: bool,
}

struct Recorder {
    messages: Receiver<Message>,
    form: LineForm,
    teller: Teller,
    clock: Arc<dyn Clock>,
    files: BTreeMap<PathBuf, Open>,
    kept: Kept,
    bandits_at: Duration,
}

impl Recorder {
    fn run(mut self) {
        loop {
            // Who lets go of a book says nothing.
            let is_any_leaving = self.files.keys().any(|path| !self.kept.contains(path));
            let first = match is_any_leaving {
                true => self.messages.recv_timeout(LEAVING_EVERY),
                false => self.messages.recv().map_err(RecvTimeoutError::from),
            };
            let mut next = match first {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut n_taken = 0;
            let (mut answers, mut has_ended) = (Vec::new(), false);
            while let Some(message) = next {
                match message {
                    Message::Open(book) => self.open(&book),
                    Message::Exposure(book, exposure) => {
                        let file = self.file(&book);
                        file.add(*exposure);
                    }
                    Message::Winner(book, unit, variant) => {
                        let at = now(self.clock.as_ref());
                        self.file(&book).show_winner(at, (&unit, &variant));
                    }
                    Message::Outcomes(book, outcomes, answer) => {
                        let at = now(self.clock.as_ref());
                        let file = self.file(&book);
                        let taken = file.flush().and_then(|()| file.take(at, outcomes));
                        answers.push((book.path.clone(), taken, answer));
                    }
                    Message::Keep(files) => {
                        let open = &self.files;
                        self.kept.set(files, |path| open.contains_key(path));
                    }
                    Message::Stop => {
                        has_ended = true;
                        break;
                    }
                }
                n_taken += 1;
                next = match n_taken < BATCH_MESSAGES {
                    true => self.messages.try_recv().ok(),
                    false => None,
                };
            }
            self.settle(answers);
            if has_ended {
                return;
            }
        }
    }

    /// Writes what waits, and tells those who wait for it.
    fn settle(&mut self, answers: Vec<(PathBuf, Result<Outcomes, NotRecorded>, Answer)>) {
        let mut synced: BTreeMap<PathBuf, Result<(), NotRecorded>> = BTreeMap::new();
        for (path, file) in &mut self.files {
            // What could not be written is counted as lost.
            drop(file.flush());
            file.note_counters();
            if file.needs_sync {
                synced.insert(path.clone(), file.sync());
            }
            file.shorten();
        }
        let is_due = self.clock.monotonic() >= self.bandits_at;
        if is_due || !answers.is_empty() {
            self.bandits_at = self.clock.monotonic() + BANDIT_EVERY;
            for file in self.files.values() {
                file.book.update_propensities();
            }
        }
        for (path, taken, answer) in answers {
            let result = match synced.get(&path) {
                Some(Err(error)) => Err(error.clone()),
                _ => taken,
            };
            // Who has gone does not wait.
            drop(answer.send(result));
        }
        // The book of an experiment that is over is nobody's but ours.
        let kept = &self.kept;
        self.files.retain(|path, file| {
            let is_held = Arc::strong_count(&file.book) > 1;
            if !is_held {
                kept.let_go(path);
            }
            is_held
        });
    }

    fn file(&mut self, book: &Arc<Book>) -> &mut Open {
        let path = book.path.clone();
        let (form, teller) = (self.form, &self.teller);
        self.files
            .entry(path)
            .or_insert_with(|| Open::new(book, form, teller))
    }

    fn open(&mut self, book: &Arc<Book>) {
        let at = now(self.clock.as_ref());
        let file = self.file(book);
        file.note_resumed(at);
        file.note_shares();
        file.note_stage();
        file.book.update_propensities();
    }
}

type Outcomes = Vec<Result<Taken, OutcomeFault>>;

impl Open {
    /// Opens the file of a book, and reads it; if it cannot be, that is tried again when something is to be written.
    pub(super) fn new(book: &Arc<Book>, form: LineForm, teller: &Teller) -> Self {
        let mut open = Self {
            book: Arc::clone(book),
            form,
            teller: teller.clone(),
            journal: None,
            lines: Vec::new(),
            exposures: Vec::new(),
            needs_sync: false,
            is_doubtful: false,
            is_read: false,
        };
        drop(open.journal());
        open
    }

    /// Returns the file, opened if it is not, and read if it was not read to its end.
    fn journal(&mut self) -> Result<&mut Journal, NotRecorded> {
        if self.journal.is_none() {
            let opened = match self.is_read {
                true => Journal::open(&self.book.path, self.form, |_known| {}),
                false => self.read(),
            };
            let (journal, found) = opened.map_err(|error| NotRecorded::Disk(error.to_string()))?;
            let was_read = std::mem::replace(&mut self.is_read, true);
            let complaint = found.complaint(&self.book.path).filter(|_| !was_read);
            if let Some(complaint) = complaint {
                self.teller.tell(&complaint);
            }
            self.journal = Some(journal);
            if let Err(error) = self.put_shares() {
                self.journal = None;
                return Err(error);
            }
        }
        let none = || NotRecorded::Disk("the file is not open".to_owned());
        self.journal.as_mut().ok_or_else(none)
    }

    /// Reads the file into an empty ledger: what the book held before is in the file, if it is from there.
    fn read(&mut self) -> io::Result<(Journal, Found)> {
        let planned = self.book.planned();
        let mut noted = Counters::default();
        let mut ledger = self.book.ledger();
        ledger.clear();
        let opened = Journal::open(&self.book.path, self.form, |record| {
            if let Record::Counters(counters) = record {
                noted = counters;
            }
            ledger.apply(record, &planned);
        });
        match opened {
            Ok(_) => self.book.counters_were(noted),
            // A part of it would look like all.
            Err(_) => ledger.clear(),
        }
        opened
    }

    /// Writes records that are not about requests.
    fn write(&mut self, record: &Record<'_>) -> Result<(), NotRecorded> {
        let lines = self
            .form
            .line(record)
            .map_err(|error| NotRecorded::Disk(error.to_string()))?;
        let written = self.journal()?.write(&lines);
        written.map_err(|error| NotRecorded::Disk(error.to_string()))
    }

    /// Notes in what shares units are split from now on.
    fn note_shares(&mut self) {
        if self.book.ledger().shares() == shares(&self.book.planned()) {
            return;
        }
        // Those that wait came before.
        drop(self.flush());
        if self.journal().is_ok() {
            drop(self.put_shares());
        }
    }

    /// Notes that a winner takes all no more, if units were shown one.
    fn note_resumed(&mut self, at: u64) {
        let planned = self.book.planned();
        if planned.winner.is_some() || !self.book.ledger().has_winners_units() {
            return;
        }
        let record = Record::Resumed { at };
        if self.write(&record).is_ok() {
            self.book.ledger().apply(record, &planned);
        }
    }

    /// Lets go of what came before a rollout's last stage.
    fn note_stage(&self) {
        let planned = self.book.planned();
        self.book.ledger().begin_stage(&planned);
    }

    fn put_shares(&mut self) -> Result<(), NotRecorded> {
        let planned = self.book.planned();
        let shares = shares(&planned);
        if self.book.ledger().shares() == shares {
            return Ok(());
        }
        let record = Record::Shares { shares };
        self.write(&record)?;
        self.book.ledger().apply(record, &planned);
        Ok(())
    }

    pub(super) fn note_counters(&mut self) {
        let counters = self.book.counters();
        if self.book.noted() != counters && self.write(&Record::Counters(counters)).is_ok() {
            self.book.note(counters);
        }
    }

    pub(super) fn add(&mut self, exposure: Exposure) {
        let name = self.book.id.to_string();
        if let Ok(line) = self.form.line(&record_of(&exposure, &name)) {
            self.lines.extend_from_slice(&line);
            self.exposures.push(exposure);
        }
    }

    /// Notes that a unit was shown the winner, unless that says nothing new. Of units that were not there before nothing is kept: a winner may take all for
    /// ever, and who comes only then is as new to every variant as to the others.
    fn show_winner(&mut self, at: u64, (unit, variant): (&str, &str)) {
        // Whom it is about is known once those that wait are counted, and the file is read.
        drop(self.flush());
        let is_known = self.journal().is_ok();
        if is_known && !self.book.ledger().is_news_of_winner(unit) {
            return;
        }
        let record = Record::Winner {
            at: Some(at),
            unit: Cow::Borrowed(unit),
            variant: Cow::Borrowed(variant),
        };
        if !is_known || self.write(&record).is_err() {
            self.book.n_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let planned = self.book.planned();
        self.book.ledger().apply(record, &planned);
    }

    /// Writes the exposures that wait, and takes them into the sums.
    pub(super) fn flush(&mut self) -> Result<(), NotRecorded> {
        if self.exposures.is_empty() {
            return Ok(());
        }
        let (lines, exposures) = (
            std::mem::take(&mut self.lines),
            std::mem::take(&mut self.exposures),
        );
        let n_exposures = u64::try_from(exposures.len()).unwrap_or(0);
        let written = self.journal().and_then(|journal| {
            let written = journal.write(&lines);
            written.map_err(|error| NotRecorded::Disk(error.to_string()))
        });
        if let Err(error) = written {
            let lost = &self.book.n_lost;
            lost.fetch_add(n_exposures, Ordering::Relaxed);
            return Err(error);
        }
        let planned = self.book.planned();
        let name = self.book.id.to_string();
        let mut ledger = self.book.ledger();
        for exposure in &exposures {
            ledger.apply(record_of(exposure, &name), &planned);
        }
        Ok(())
    }

    /// Writes outcomes, and takes them into the sums.
    fn take(&mut self, at: u64, outcomes: Vec<NewOutcome>) -> Result<Outcomes, NotRecorded> {
        // Whom they are about is known once the file is read.
        self.journal()?;
        let planned = self.book.planned();
        let known = metric_names(&planned);
        let (mut taken, mut lines) = (Vec::with_capacity(outcomes.len()), Vec::new());
        let mut counted: Vec<(Arc<str>, NewOutcome, Vec<bool>)> = Vec::new();
        let mut ids = std::collections::HashSet::new();
        for outcome in outcomes {
            let found = check_metrics(&outcome, &known, &planned)
                .and_then(|()| self.book.ledger().find(&outcome));
            let is_again = outcome.id.as_ref().is_some_and(|id| ids.contains(id));
            match found {
                Ok((unit, Taken::Counted)) if !is_again => {
                    ids.extend(outcome.id.clone());
                    let late = self.book.ledger().late(&planned, (&unit, &outcome), at);
                    let line = record_of_outcome(at, &unit, (&outcome, &late));
                    let line = self.form.line(&line);
                    lines.extend(line.map_err(|error| NotRecorded::Disk(error.to_string()))?);
                    taken.push(Ok(match late.iter().all(|is_late| *is_late) {
                        true => Taken::Late,
                        false => Taken::Counted,
                    }));
                    counted.push((unit, outcome, late));
                }
                Ok(_) => taken.push(Ok(Taken::Duplicate)),
                // A rollout's canary has a book of its own: whom it does not know, an earlier one may have had.
                Err(fault) if planned.stage.is_some() && fault.is_of_unknown() => {
                    taken.push(Ok(Taken::Late));
                }
                Err(fault) => taken.push(Err(fault)),
            }
        }
        if counted.is_empty() {
            return Ok(taken);
        }
        let written = self.journal()?.write(&lines);
        written.map_err(|error| NotRecorded::Disk(error.to_string()))?;
        self.needs_sync = true;
        let mut ledger = self.book.ledger();
        for (unit, outcome, late) in &counted {
            ledger.apply(record_of_outcome(at, unit, (outcome, late)), &planned);
        }
        Ok(taken)
    }

    /// Waits until all outcomes are on the disk. Once that has failed, a file that is written anew has to get there instead.
    fn sync(&mut self) -> Result<(), NotRecorded> {
        let is_doubtful = self.is_doubtful;
        let journal = self.journal()?;
        let synced = match is_doubtful {
            true => self.rewrite(),
            false => journal.sync(),
        };
        (self.is_doubtful, self.needs_sync) = (synced.is_err(), synced.is_err());
        synced.map_err(|error| NotRecorded::Disk(error.to_string()))
    }

    /// Writes a file that has become long anew.
    fn shorten(&mut self) {
        if self.journal.as_ref().is_some_and(Journal::is_long) {
            // If that fails the old one goes on; the next time may go better.
            drop(self.rewrite());
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let Some(journal) = self.journal.as_mut().filter(|_| self.is_read) else {
            return Err(io::Error::other("the file was not read"));
        };
        let counters = self.book.counters();
        let ledger = self.book.ledger();
        let written = journal.rewrite(|write| ledger.each_record(counters, write));
        drop(ledger);
        match &written {
            Ok(()) => self.book.note(counters),
            Err(_) => self.journal = None,
        }
        written
    }
}

/// Returns the shares that units are to be split in.
fn shares(planned: &PlannedExperiment) -> Vec<(String, f64)> {
    let weights = planned.variants.iter();
    let sum: u64 = weights.map(|variant| u64::from(variant.weight)).sum();
    let variants = planned.variants.iter();
    let shares = variants.map(|variant| {
        let share = f64::from(variant.weight) / (sum.max(1) as f64);
        (variant.name.clone(), share)
    });
    shares.collect()
}

/// Returns the time, in ms since 1970.
pub(super) fn now(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.unix_time().as_millis()).unwrap_or(u64::MAX)
}

/// The names that outcomes may have: metrics, their denominators and covariates.
fn metric_names(planned: &PlannedExperiment) -> Vec<String> {
    use super::MetricForm::{Errors, Latency, Ratio};
    let mut names: Vec<String> = Vec::new();
    for metric in &planned.metrics {
        // What is measured here is not told.
        let own = (!matches!(metric.kind, Errors | Latency)).then(|| metric.name.clone());
        let below = match &metric.kind {
            Ratio(below) => below.clone(),
            _ => None,
        };
        names.extend([own, below, metric.covariate.clone()].into_iter().flatten());
    }
    names.sort();
    names.dedup();
    names
}

fn check_metrics(
    outcome: &NewOutcome,
    known: &[String],
    planned: &PlannedExperiment,
) -> Result<(), OutcomeFault> {
    let mut metrics = outcome.metrics.iter();
    if let Some((name, _)) = metrics.find(|(name, _)| !known.contains(name)) {
        return Err(OutcomeFault::UnknownMetric {
            name: name.clone(),
            known: known.join(", "),
        });
    }
    // Of a conversion only counts whether it is above 0.
    let is_bandit = planned.allocation != Allocation::Fixed;
    let rewarding = planned.metrics.first().filter(|_| is_bandit);
    let rewarding = rewarding.filter(|metric| metric.kind != MetricForm::Conversion);
    let mut metrics = outcome.metrics.iter();
    let no_reward = metrics.find(|(name, value)| {
        rewarding.is_some_and(|metric| metric.name == *name) && !(0.0..=1.0).contains(value)
    });
    match no_reward {
        Some((name, value)) => Err(OutcomeFault::NoReward {
            name: name.clone(),
            value: value.to_string(),
        }),
        None => Ok(()),
    }
}

fn record_of<'a>(exposure: &'a Exposure, experiment: &'a str) -> Record<'a> {
    Record::Exposure {
        at: exposure.at,
        experiment: Cow::Borrowed(experiment),
        variant: Cow::Borrowed(&exposure.variant),
        unit: Cow::Borrowed(&exposure.unit),
        request_id: Cow::Borrowed(&exposure.request_id),
        revision: Cow::Borrowed(&exposure.revision),
        ok: exposure.end == ExposureEnd::Answered,
        left: exposure.end == ExposureEnd::Left,
        seconds: exposure.seconds,
        by: Cow::Borrowed(match exposure.by {
            By::Hash => "hash",
            By::Override => "override",
            By::Bandit => "bandit",
            By::Route => "route",
        }),
        propensity: exposure.propensity,
        features: exposure
            .features
            .iter()
            .map(|(name, value)| (Cow::Borrowed(name.as_str()), *value))
            .collect(),
    }
}

/// Returns the record of an outcome, of whose values some may come too late to count.
pub(super) fn record_of_outcome<'a>(
    at: u64,
    unit: &'a str,
    (outcome, late): (&'a NewOutcome, &[bool]),
) -> Record<'a> {
    let values = |are_late: bool| {
        let values = outcome.metrics.iter().zip(late);
        values
            .filter(|(_, is_late)| **is_late == are_late)
            .map(|((name, value), _)| (Cow::Borrowed(name.as_str()), *value))
            .collect()
    };
    Record::Outcome {
        at,
        unit: Cow::Borrowed(unit),
        request_id: match &outcome.about {
            UnitRef::Request(id) => Some(Cow::Borrowed(id)),
            UnitRef::Unit(_) => None,
        },
        id: outcome.id.as_deref().map(Cow::Borrowed),
        metrics: values(false),
        late: values(true),
    }
}
