//! What is done for a service whose model fails: a time, retries, a breaker, a default prediction, a second attempt; `gateway` does it. What holds for all requests
//! of a service, its bulkhead, is held to where they enter.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ServedModel;
use crate::bulkhead::{Bulkhead, BulkheadSettings};
use crate::plan::ServiceId;

/// What is done for a service whose model fails.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct FallbackSettings {
    /// The default prediction, as JSON: a row's value, or an object of such by output.
    pub value: Option<String>,
    /// The revision of the same service that is asked in place of the one that fails; its name, which one of the route's targets has.
    #[serde(default)]
    pub revision: Option<String>,
    /// The service whose model is asked in place of this one.
    #[serde(default)]
    pub service: Option<ServiceId>,
    /// The header whose value tells whose last good answer stands in.
    #[serde(default)]
    pub key: Option<String>,
    /// How long the model may take before something stands in for it.
    pub timeout: Option<Duration>,
    /// How often a request that failed is tried again.
    pub retries: u32,
    /// So many failures in a row, and the model is not asked for a while.
    pub breaker_failures: Option<u32>,
    /// Calls that take longer are slow, and half of at least 20 within 10 s that are open the breaker.
    #[serde(default)]
    pub breaker_latency: Option<Duration>,
    /// When another process is asked, too, where one has not answered.
    #[serde(default)]
    pub hedge: Option<HedgeAfter>,
    /// Who is asked then in place of another process: one of those that stand in.
    #[serde(default)]
    pub hedge_to: Option<HedgeTo>,
    /// How many requests of the service there may be at a time.
    #[serde(default)]
    pub bulkhead: Option<BulkheadSettings>,
}

impl FallbackSettings {
    /// Tells whether something stands in for a model that fails.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        self.stands_in_by_other() || self.value.is_some() || self.key.is_some()
    }

    /// Tells whether another revision's or service's model stands in for one that fails.
    #[must_use]
    pub fn stands_in_by_other(&self) -> bool {
        self.revision.is_some() || self.service.is_some()
    }
}

/// How long a process may take before another one is asked, too.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum HedgeAfter {
    /// So long.
    Time(Duration),
    /// As long as so many of 100 calls took at most.
    Percentile(u8),
}

/// Which one of those that stand in for a model is asked, too, where it has not answered.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum HedgeTo {
    /// The revision.
    Revision,
    /// The service.
    Service,
}

/// The fallback of one model: its settings, and what was counted.
#[derive(Default)]
pub struct Fallback {
    settings: FallbackSettings,
    n_fallbacks: AtomicU64,
    n_retries: AtomicU64,
    n_hedges: AtomicU64,
    n_hedges_won: AtomicU64,
    /// What decides, of whoever does it.
    state: OnceLock<Arc<dyn Any + Send + Sync>>,
    memory: FallbackMemory,
    /// The model of the revision that stands in. It may be the one that it stands in for, and is whoever's who serves it.
    revision: Mutex<Weak<ServedModel>>,
}

/// What is kept for all models of a service, such as its last good answers; of whoever does it.
#[derive(Clone, Default)]
pub struct FallbackMemory {
    kept: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
    bulkhead: Option<Bulkhead>,
}

impl FallbackMemory {
    /// Returns what one of `models` keeps; a new one if they keep it by another header than `settings` say, or keep nothing. The places of its bulkhead are
    /// theirs, too, if they have as many.
    #[must_use]
    pub fn of<'m>(
        settings: Option<&FallbackSettings>,
        models: impl Iterator<Item = &'m ServedModel>,
    ) -> Self {
        let fallbacks: Vec<_> = models.filter_map(ServedModel::fallback).collect();
        Self::among(settings, fallbacks.iter().map(AsRef::as_ref))
    }

    /// As [`FallbackMemory::of`], of the fallbacks themselves.
    pub(crate) fn among<'f>(
        settings: Option<&FallbackSettings>,
        fallbacks: impl IntoIterator<Item = &'f Fallback>,
    ) -> Self {
        let key = settings.map(|settings| &settings.key);
        let fallbacks: Vec<&Fallback> = fallbacks.into_iter().collect();
        let mut same = fallbacks
            .iter()
            .filter(|fallback| Some(&fallback.settings().key) == key);
        let kept = same.next().map(|same| Arc::clone(&same.memory.kept));
        let bulkhead = settings.and_then(|settings| settings.bulkhead);
        let bulkhead = bulkhead.map(|wanted| {
            let mut there = fallbacks.iter().filter_map(|other| other.bulkhead());
            let same = there.find(|other| other.settings() == wanted).cloned();
            same.unwrap_or_else(|| Bulkhead::new(wanted))
        });
        Self {
            kept: kept.unwrap_or_default(),
            bulkhead,
        }
    }

    /// Returns what is kept, a new one when it is first needed; `None` if it is of another type.
    pub fn get<T: Any + Default + Send + Sync>(&self) -> Option<Arc<T>> {
        let kept = self.kept.get_or_init(|| Arc::new(T::default()));
        Arc::clone(kept).downcast().ok()
    }
}

impl std::fmt::Debug for FallbackMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FallbackMemory").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Fallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fallback")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Fallback {
    /// Returns a fallback that has seen nothing.
    #[must_use]
    pub fn new(settings: FallbackSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Returns it with what is kept for all models of its service.
    #[must_use]
    pub fn with_memory(self, memory: FallbackMemory) -> Self {
        Self { memory, ..self }
    }

    /// Returns it as one that goes on after `before`: with its counts, and what decides if that has the same terms.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let terms =
            |settings: &FallbackSettings| (settings.breaker_failures, settings.breaker_latency);
        if terms(&self.settings) == terms(&before.settings) {
            self.state = before.state.clone();
        }
        for (count, before) in [
            (&self.n_fallbacks, &before.n_fallbacks),
            (&self.n_retries, &before.n_retries),
            (&self.n_hedges, &before.n_hedges),
            (&self.n_hedges_won, &before.n_hedges_won),
        ] {
            count.store(before.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self
    }

    /// Returns what is kept for all models of its service.
    #[must_use]
    pub fn memory(&self) -> &FallbackMemory {
        &self.memory
    }

    /// Has this revision's model stand in from now on; with `None`, no revision's.
    pub fn set_revision(&self, model: Option<&Arc<ServedModel>>) {
        let model = model.map(Arc::downgrade).unwrap_or_default();
        *self.revision.lock().unwrap_or_else(PoisonError::into_inner) = model;
    }

    /// Returns the model of the revision that stands in, as long as that is served.
    #[must_use]
    pub fn revision(&self) -> Option<Arc<ServedModel>> {
        let revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        revision.upgrade()
    }

    /// Returns the places of its service.
    pub(crate) fn bulkhead(&self) -> Option<&Bulkhead> {
        self.memory.bulkhead.as_ref()
    }

    /// Returns what is done.
    #[must_use]
    pub fn settings(&self) -> &FallbackSettings {
        &self.settings
    }

    /// Returns what decides, which `new` makes of the settings when it is first needed; `None` if it is of another type.
    pub fn state<T: Any + Send + Sync>(
        &self,
        new: impl FnOnce(&FallbackSettings) -> T,
    ) -> Option<Arc<T>> {
        let state = self.state.get_or_init(|| Arc::new(new(&self.settings)));
        Arc::clone(state).downcast().ok()
    }

    /// Counts an answer that is not the model's.
    pub fn count_fallback(&self) {
        self.n_fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that was tried again.
    pub fn count_retry(&self) {
        self.n_retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a second attempt.
    pub fn count_hedge(&self) {
        self.n_hedges.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a second attempt whose answer was the one.
    pub fn count_hedge_won(&self) {
        self.n_hedges_won.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many second attempts there were, and how many of them had the answer.
    #[must_use]
    pub fn n_hedges(&self) -> (u64, u64) {
        (
            self.n_hedges.load(Ordering::Relaxed),
            self.n_hedges_won.load(Ordering::Relaxed),
        )
    }

    /// Returns how many answers were not the model's.
    #[must_use]
    pub fn n_fallbacks(&self) -> u64 {
        self.n_fallbacks.load(Ordering::Relaxed)
    }

    /// Returns how often requests were tried again.
    #[must_use]
    pub fn n_retries(&self) -> u64 {
        self.n_retries.load(Ordering::Relaxed)
    }
}
