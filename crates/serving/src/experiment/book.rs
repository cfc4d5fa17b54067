//! The book of one experiment: what requests and reports touch of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use coracle_base::Clock;
use coracle_policy::bandit::LinUcb;
use coracle_policy::experiment::Verdict;

use super::ledger::Ledger;
use super::record::Counters;
use super::recorder::{Message, now};
use super::split::By;
use super::standing::Standing;
use super::trial::{StagePredictions, with_stage};
use super::{ExperimentId, ExperimentSummary, PlannedExperiment, SummaryVerdict};

/// How a request ended that took part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExposureEnd {
    /// Its variant answered it.
    Answered,
    /// It failed, or something stood in for its variant.
    Failed,
    /// Its caller left before there was an answer: no error, and it would have taken so long at least.
    Left,
}

/// A request that took part.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposure {
    /// Its unit; empty where it has none, and takes part in a rollout's stage that is judged by unit.
    pub unit: String,
    /// Its id.
    pub request_id: String,
    /// The variant's name.
    pub variant: String,
    /// The revision that answered.
    pub revision: String,
    /// How it ended.
    pub end: ExposureEnd,
    /// How long that took.
    pub seconds: f64,
    /// How the variant was come by.
    pub by: By,
    /// The probability with which it was chosen, if by a draw.
    pub propensity: Option<f64>,
    /// What it was chosen by, with names, where that is so.
    pub features: Vec<(String, f64)>,
    /// When, in ms since 1970.
    pub at: u64,
}

/// The book of one experiment.
#[derive(Debug)]
pub struct Book {
    pub(super) id: ExperimentId,
    pub(super) path: PathBuf,
    /// What was planned last.
    planned: ArcSwap<PlannedExperiment>,
    queue: SyncSender<Message>,
    clock: Arc<dyn Clock>,
    pub(super) ledger: Mutex<Ledger>,
    n_unassigned: AtomicU64,
    pub(super) n_lost: AtomicU64,
    /// What the file says of these.
    noted: Mutex<Counters>,
    /// The probabilities with which a bandit chooses now; empty without one.
    propensities: ArcSwap<Vec<f64>>,
    /// A bandit that chooses by features, as it is now.
    linear: ArcSwapOption<LinUcb>,
    /// The state of the generator of draws.
    draws: AtomicU64,
    /// When it was opened last, among all that were.
    turn: AtomicU64,
    /// What a rollout's revisions predict.
    pub(super) predictions: StagePredictions,
}

impl Book {
    pub(super) fn new(
        id: ExperimentId,
        path: PathBuf,
        planned: PlannedExperiment,
        ledger: Ledger,
        (queue, clock): (SyncSender<Message>, Arc<dyn Clock>),
    ) -> Self {
        let seed = clock.unix_time().as_nanos() & u128::from(u64::MAX);
        Self {
            id,
            path,
            planned: ArcSwap::from_pointee(planned),
            queue,
            clock,
            ledger: Mutex::new(ledger),
            n_unassigned: AtomicU64::new(0),
            n_lost: AtomicU64::new(0),
            noted: Mutex::default(),
            propensities: ArcSwap::default(),
            linear: ArcSwapOption::empty(),
            draws: AtomicU64::new(u64::try_from(seed).unwrap_or_default()),
            turn: AtomicU64::new(0),
            predictions: StagePredictions::default(),
        }
    }

    /// Returns which experiment it is of.
    #[must_use]
    pub fn id(&self) -> &ExperimentId {
        &self.id
    }

    /// Returns what was planned last.
    #[must_use]
    pub fn planned(&self) -> Arc<PlannedExperiment> {
        self.planned.load_full()
    }

    /// Takes what is planned from now on.
    pub(super) fn plan(&self, planned: &PlannedExperiment, turn: u64) {
        self.turn.fetch_max(turn, Ordering::Relaxed);
        if **self.planned.load() != *planned {
            self.planned.store(Arc::new(planned.clone()));
        }
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request that took part. Never waits: what finds the queue full is lost, and counted.
    pub fn expose(self: &Arc<Self>, exposure: Exposure) {
        self.send(Message::Exposure(Arc::clone(self), Box::new(exposure)));
    }

    /// Notes a unit that came while a winner took all. Never waits, as [`Self::expose`].
    pub fn show_winner(self: &Arc<Self>, unit: String, variant: String) {
        self.send(Message::Winner(Arc::clone(self), unit, variant));
    }

    fn send(&self, message: Message) {
        match self.queue.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.n_lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn count_unassigned(&self) {
        self.n_unassigned.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what was counted.
    pub(super) fn counters(&self) -> Counters {
        Counters {
            unassigned: self.n_unassigned.load(Ordering::Relaxed),
            lost: self.n_lost.load(Ordering::Relaxed),
            units_lost: self.ledger().n_units_lost,
        }
    }

    /// Returns what the file says that was counted.
    pub(super) fn noted(&self) -> Counters {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps that the file says so.
    pub(super) fn note(&self, counters: Counters) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    /// Adds what an earlier run had counted, as its file says; what this run has counted already, and not noted there, stays.
    pub(super) fn counters_were(&self, read: Counters) {
        let noted = self.noted();
        let add = |counter: &AtomicU64, read: u64, noted: u64| {
            counter.fetch_add(read.wrapping_sub(noted), Ordering::Relaxed);
        };
        add(&self.n_unassigned, read.unassigned, noted.unassigned);
        add(&self.n_lost, read.lost, noted.lost);
        self.note(read);
    }

    pub(super) fn propensities(&self) -> Guard<Arc<Vec<f64>>> {
        self.propensities.load()
    }

    /// Returns the bandit that chooses by features, if one does.
    pub(super) fn linear(&self) -> Guard<Option<Arc<LinUcb>>> {
        self.linear.load()
    }

    /// Lets a bandit, if there is one, choose by what is known now.
    pub(super) fn update_propensities(&self) {
        let planned = self.planned.load();
        let linear = self.ledger().linear_bandit(&planned);
        if linear.is_some() || self.linear.load().is_some() {
            self.linear.store(linear.map(Arc::new));
        }
        let bandit = self.ledger().bandit(&planned);
        let propensities = bandit.map(|bandit| bandit.propensities(|| self.next_uniform()));
        let propensities = propensities.unwrap_or_default();
        if **self.propensities.load() != propensities {
            self.propensities.store(Arc::new(propensities));
        }
    }

    /// Returns the next number in `[0, 1)`: splitmix64 (Steele, Lea and Flood, 2014), whose state is a counter.
    pub(super) fn next_uniform(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.draws.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = state.wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns how the experiment stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let planned = self.planned();
        let now = now(self.clock.as_ref());
        let mut standing = self
            .ledger()
            .standing(&self.id, &planned, &self.propensities(), now);
        standing.n_unassigned = self.n_unassigned.load(Ordering::Relaxed);
        standing.n_lost = self.n_lost.load(Ordering::Relaxed);
        standing
    }

    /// Returns it in short.
    #[must_use]
    pub fn summary(&self) -> ExperimentSummary {
        let standing = self.standing();
        let name = |variant: usize| {
            let variant = standing.variants.get(variant);
            variant
                .map(|variant| variant.name.clone())
                .unwrap_or_default()
        };
        let (verdict, why) = match &standing.analysis.verdict {
            Verdict::Wait(why) => (SummaryVerdict::Wait, why.clone()),
            Verdict::Mismatch(why) => (SummaryVerdict::Mismatch, why.clone()),
            Verdict::Harm { variant, why } => (SummaryVerdict::Harm(name(*variant)), why.clone()),
            Verdict::Better { variant, why } => {
                (SummaryVerdict::Better(name(*variant)), why.clone())
            }
        };
        let variants = standing.variants.iter();
        let summary = ExperimentSummary {
            id: self.id.clone(),
            uid: standing.planned.uid.clone(),
            variants: variants
                .map(|variant| (variant.name.clone(), variant.units, variant.requests))
                .collect(),
            n_unassigned: standing.n_unassigned,
            verdict,
            why,
            stage: None,
        };
        with_stage(self, &standing.planned, summary)
    }
}
