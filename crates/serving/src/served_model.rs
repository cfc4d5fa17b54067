//! What is served under a name: who may run it, who waits for it, whether it is well.

mod aside;
mod call;
mod enter;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use coracle_base::{Code, VersionState};
use coracle_model::{RunError, Wanted};
use coracle_tensor::Tensor;
use tokio::time::Instant;

use crate::admission::{Admission, Refusal};
use crate::backends::Backends;
use crate::batch::{BatchSettings, Batcher};
use crate::compute_pool::Width;
use crate::declared::DeclaredConfig;
use crate::fallback::{Fallback, FallbackMemory, FallbackSettings};
use crate::health::{Health, SetAside};
use crate::loaded_model::{Attempt, LoadedModel, Panicked};
use crate::plan::RevisionId;
use crate::predictors::{Branch, Predictors};
use crate::response_cache::{CacheSettings, ResponseCache};
use crate::revision_log::{LogSource, RevisionLog};
use crate::{CallCost, ModelStatistics, PayloadLogging, QueueLimits, ShadowTap, VersionStatus};

pub use call::ModelCall;
pub use enter::{Lease, ProcessLease};

/// What wakes a model that was let go of.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// What is told when a model is set aside, with the reason, and when it is well again.
pub type TellHealth = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// What is served under a name: the model while it is in memory, and what is counted and kept of it whether or not it is.
pub struct ServedModel {
    name: String,
    /// The number that it has on the wire.
    version: String,
    /// The labels of its metrics.
    labels: String,
    loaded: ArcSwapOption<LoadedModel>,
    /// Why it could not be loaded for those who wait.
    failure: ArcSwapOption<String>,
    /// The processes that answer, if it is served by some.
    backends: Option<Arc<Backends>>,
    /// The memory that they hold, as it was measured last.
    backend_memory_bytes: AtomicU64,
    /// The memory that the model held when it was loaded last; 0 if that is not known.
    known_bytes: AtomicU64,
    /// Counts the files that the model was loaded from.
    content: AtomicU64,
    /// Its answers to requests that come again, where they are kept.
    response_cache: OnceLock<ResponseCache>,
    admission: Admission,
    wake: Option<Wake>,
    /// Whether copies of its requests are taken: all that a request without them looks at.
    is_shadowed: AtomicBool,
    shadow: ArcSwapOption<ShadowTap>,
    /// Which of several predictors it is.
    branch: ArcSwapOption<Branch>,
    /// Whether something is done where it fails.
    has_fallback: AtomicBool,
    fallback: ArcSwapOption<Fallback>,
    /// Why it is not there, if it never is.
    absent: Option<String>,
    /// Nothing will load it again.
    is_retired: AtomicBool,
    timeout: Option<Duration>,
    payloads: Option<Arc<PayloadLogging>>,
    cost: CallCost,
    width: Width,
    batching: Batcher,
    queue_limits: QueueLimits,
    declared: Option<Arc<DeclaredConfig>>,
    health: Health,
    tell_health: Option<TellHealth>,
    statistics: ModelStatistics,
    log: Option<(RevisionId, RevisionLog)>,
}

impl std::fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedModel")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl ServedModel {
    /// The version of a model that has no numbered ones.
    pub const VERSION_DEFAULT: u64 = 1;

    /// Serves `loaded` under its name; calls are counted for each of `n_workers` event loops.
    #[must_use]
    pub fn new(loaded: LoadedModel, n_workers: usize) -> Self {
        let served = Self::unloaded(loaded.name().to_owned(), n_workers);
        served.load(loaded);
        served
    }

    /// Returns what is served under `name` without its model, which is loaded later.
    #[must_use]
    pub fn unloaded(name: String, n_workers: usize) -> Self {
        let version = Self::VERSION_DEFAULT.to_string();
        Self {
            labels: format!("model=\"{}\",version=\"{version}\"", escape(&name)),
            name,
            version,
            loaded: ArcSwapOption::empty(),
            failure: ArcSwapOption::empty(),
            backends: None,
            backend_memory_bytes: AtomicU64::new(0),
            known_bytes: AtomicU64::new(0),
            content: AtomicU64::new(0),
            response_cache: OnceLock::new(),
            admission: Admission::new(),
            wake: None,
            is_shadowed: AtomicBool::new(false),
            shadow: ArcSwapOption::empty(),
            branch: ArcSwapOption::empty(),
            has_fallback: AtomicBool::new(false),
            fallback: ArcSwapOption::empty(),
            is_retired: AtomicBool::new(false),
            timeout: None,
            payloads: None,
            cost: CallCost::new(),
            width: Width::new(),
            batching: Batcher::new(BatchSettings::opportunistic()),
            queue_limits: QueueLimits::default(),
            declared: None,
            health: Health::default(),
            tell_health: None,
            statistics: ModelStatistics::new(n_workers),
            absent: None,
            log: None,
        }
    }

    /// Returns it as this version of its model.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = version.to_string();
        self.labels = format!(
            "model=\"{}\",version=\"{}\"",
            escape(&self.name),
            self.version
        );
        self
    }

    /// Returns its version, as the wire has it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns it with the revision that it is of, for its metrics and its log, and with what wakes it.
    #[must_use]
    pub fn with_revision(mut self, revision: &RevisionId, log: RevisionLog, wake: Wake) -> Self {
        self.log = Some((revision.clone(), log));
        self.wake = Some(wake);
        self.labels = format!(
            "model=\"{}\",namespace=\"{}\",revision=\"{}\"",
            escape(&self.name),
            escape(&revision.namespace),
            escape(&revision.name)
        );
        self
    }

    /// Returns it with what wakes it.
    #[must_use]
    pub fn with_wake(mut self, wake: Wake) -> Self {
        self.wake = Some(wake);
        self
    }

    /// Returns it as one that is served by processes.
    #[must_use]
    pub fn with_backends(mut self, backends: Arc<Backends>) -> Self {
        // Whoever waits for the model waits for a process.
        self.admission.changed = Arc::clone(&backends.changed);
        self.backends = Some(backends);
        self
    }

    /// Returns one that is not there, and that nothing loads: why that is.
    #[must_use]
    pub fn absent(name: String, n_workers: usize, why: &str) -> Self {
        Self {
            absent: Some(why.to_owned()),
            ..Self::unloaded(name, n_workers)
        }
    }

    /// Tells whether processes answer for it.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        self.backends.is_some()
    }

    /// Returns it with the time that its requests may take; `None` for what the gateway allows.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns it with what is recorded of its requests and answers.
    #[must_use]
    pub fn with_payloads(mut self, payloads: Option<PayloadLogging>) -> Self {
        self.payloads = payloads.map(Arc::new);
        self
    }

    /// Returns what is recorded of its requests and answers, if that is said of itself.
    #[must_use]
    pub fn payloads(&self) -> Option<&Arc<PayloadLogging>> {
        self.payloads.as_ref()
    }

    /// Returns the time that its requests may take, if that is its own.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns it with calls put together in this way.
    #[must_use]
    pub fn with_batching(mut self, settings: BatchSettings) -> Self {
        self.batching = Batcher::new(settings);
        self
    }

    /// Returns where its calls are put together.
    #[must_use]
    pub fn batching(&self) -> &Batcher {
        &self.batching
    }

    /// Returns it with bounds of its own for its calls on the compute pool.
    #[must_use]
    pub fn with_queue_limits(mut self, limits: QueueLimits) -> Self {
        self.queue_limits = limits;
        self
    }

    /// Returns the bounds of its calls on the compute pool.
    #[must_use]
    pub fn queue_limits(&self) -> QueueLimits {
        self.queue_limits
    }

    /// Returns it with what its author says of how it is served.
    #[must_use]
    pub fn with_declared(mut self, declared: Option<Arc<DeclaredConfig>>) -> Self {
        self.declared = declared;
        self
    }

    /// Returns what its author says of how it is served, if anything.
    #[must_use]
    pub fn declared(&self) -> Option<&DeclaredConfig> {
        self.declared.as_deref()
    }

    /// Returns it with somebody who is told how it is.
    #[must_use]
    pub fn with_health_listener(mut self, tell: TellHealth) -> Self {
        self.tell_health = Some(tell);
        self
    }

    /// Puts the model into memory; whoever waits for it goes on.
    pub fn load(&self, mut loaded: LoadedModel) {
        let content = self.content.load(Ordering::Acquire);
        loaded.set_content(content);
        self.failure.store(None);
        self.health.renew();
        let run_time = loaded.model().run_time();
        self.cost.expect(run_time, content);
        self.width.begin_anew(run_time);
        if let Some(elapsed) = loaded.warm_run() {
            self.cost.record_run(1, elapsed);
        }
        let bytes = u64::try_from(loaded.total_bytes()).unwrap_or(u64::MAX);
        self.known_bytes.store(bytes, Ordering::Relaxed);
        self.loaded.store(Some(Arc::new(loaded)));
        self.admission.changed.notify_waiters();
    }

    /// Returns the memory that the model held when it was loaded last, in bytes, if it was.
    #[must_use]
    pub fn known_bytes(&self) -> Option<u64> {
        Some(self.known_bytes.load(Ordering::Relaxed)).filter(|&bytes| bytes > 0)
    }

    /// Notes that the model is loaded from other files from now on: what is known of its size and its answers is of no use then.
    pub fn renew_content(&self) {
        self.known_bytes.store(0, Ordering::Relaxed);
        self.content.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns it as one that keeps its answers for requests that come again.
    #[must_use]
    pub fn with_response_cache(self, settings: Option<CacheSettings>) -> Self {
        self.set_response_cache(settings);
        self
    }

    /// Makes it keep its answers in this way from now on; with `None`, none.
    pub fn set_response_cache(&self, settings: Option<CacheSettings>) {
        match (self.response_cache.get(), settings) {
            (Some(cache), settings) => cache.set(settings),
            (None, Some(settings)) => {
                let _new = self
                    .response_cache
                    .get_or_init(|| ResponseCache::new(settings));
            }
            (None, None) => {}
        }
    }

    /// Returns its answers to requests that come again, where they are kept.
    #[must_use]
    pub fn response_cache(&self) -> Option<&ResponseCache> {
        self.response_cache.get()
    }

    /// Takes copies of its requests there from now on; with `None`, nowhere.
    pub fn set_shadow(&self, tap: Option<Arc<ShadowTap>>) {
        let is_shadowed = tap.is_some();
        self.shadow.store(tap);
        self.is_shadowed.store(is_shadowed, Ordering::Release);
    }

    /// Has it be one of these predictors from now on; with `None`, of none.
    pub fn set_branch(&self, predictors: Option<&Predictors>) {
        let branch = predictors.zip(self.revision());
        let branch = branch.and_then(|(predictors, own)| predictors.branch(&own.name));
        self.branch.store(branch.map(Arc::new));
    }

    /// Returns which of several predictors it is, if it is one of several.
    #[must_use]
    pub fn branch(&self) -> Option<Arc<Branch>> {
        self.branch.load_full()
    }

    /// Does this where it fails from now on; what was counted stays, and so does what its breaker has seen, if that has the same terms.
    pub fn set_fallback(&self, settings: Option<&FallbackSettings>) {
        self.share_fallback(settings, &FallbackMemory::of(settings, [self].into_iter()));
    }

    /// As [`ServedModel::set_fallback`], for one of several models of a service, which keep what is to be kept in `memory`.
    pub fn share_fallback(&self, settings: Option<&FallbackSettings>, memory: &FallbackMemory) {
        let current = self.counted_fallback();
        if current.is_none() && settings.is_none() {
            return;
        }
        // What was counted stays where nothing is done any more, too: a counter that goes and comes back at 0 looks like a restart.
        let wanted = settings.cloned().unwrap_or_default();
        if current.as_ref().map(|fallback| fallback.settings()) != Some(&wanted) {
            let fallback = Fallback::new(wanted).with_memory(memory.clone());
            let fallback = match &current {
                Some(before) => fallback.after(before),
                None => fallback,
            };
            self.fallback.store(Some(Arc::new(fallback)));
        }
        self.has_fallback
            .store(settings.is_some(), Ordering::Release);
    }

    /// Tells whether something is done where it fails.
    #[must_use]
    pub fn has_fallback(&self) -> bool {
        self.has_fallback.load(Ordering::Relaxed)
    }

    /// Returns what is done where it fails.
    #[must_use]
    pub fn fallback(&self) -> Option<Arc<Fallback>> {
        self.has_fallback()
            .then(|| self.counted_fallback())
            .flatten()
    }

    /// As [`ServedModel::fallback`], or what has the counts of the one that was there before.
    pub(crate) fn counted_fallback(&self) -> Option<Arc<Fallback>> {
        self.fallback.load_full()
    }

    /// Tells whether copies of its requests are taken.
    #[must_use]
    pub fn is_shadowed(&self) -> bool {
        self.is_shadowed.load(Ordering::Relaxed)
    }

    /// Returns where copies of its requests are taken, if they are.
    #[must_use]
    pub fn shadow(&self) -> Option<Arc<ShadowTap>> {
        self.shadow.load_full()
    }

    /// Lets go of the model; calls that run end on it, later ones wake it.
    pub fn unload(&self) {
        self.health.renew();
        self.loaded.store(None);
    }

    /// Runs a call on the model that it has the leave for. A model that panics again and again is set aside: until it is well
    /// again, it takes no calls and is not ready. One whose runs may take any time gives up when `time` is over.
    ///
    /// # Errors
    /// Those of the model; kind `Internal` too if it panics, which ends this call only.
    pub fn run(
        &self,
        lease: &Lease,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
    ) -> Result<Vec<Tensor>, RunError> {
        self.run_for(lease, inputs, outputs, (time, &[]))
    }

    /// Runs as [`ServedModel::run`] does, and lets the model give up when nobody waits for any of `calls` any more.
    pub(crate) fn run_for(
        &self,
        lease: &Lease,
        inputs: &[Tensor],
        outputs: &[usize],
        (time, calls): (Duration, &[Wanted]),
    ) -> Result<Vec<Tensor>, RunError> {
        self.settle(lease, lease.try_run(inputs, outputs, time, calls))
    }

    /// Takes note of what a run came to.
    ///
    /// # Errors
    /// Those of the model; kind `Internal` if it panicked.
    pub(crate) fn settle(&self, lease: &Lease, attempt: Attempt) -> Result<Vec<Tensor>, RunError> {
        match attempt {
            Ok(result) => {
                if result.is_ok() && self.health.succeed() {
                    self.log("the model is well again");
                    self.tell_health(None);
                }
                result
            }
            Err(panicked) => {
                self.note_panic(lease);
                Err(lease.defect(panicked))
            }
        }
    }

    /// Takes a call as if the model had panicked.
    #[must_use]
    pub fn panic_as_told(&self, lease: &Lease) -> RunError {
        self.note_panic(lease);
        lease.defect(Panicked)
    }

    #[cold]
    fn note_panic(&self, lease: &Lease) {
        let now = Instant::now();
        let Some(pause) = self.health.panic(now) else {
            return;
        };
        let why = format!(
            "model '{}' failed again and again, and takes no requests for {}; this is a defect of the server, and a reload may mend it",
            self.name,
            humantime::format_duration(pause)
        );
        let current = self.loaded.load();
        let (Some(model), Some(now_loaded)) = (lease.loaded.as_ref(), current.as_ref()) else {
            return;
        };
        // One that was loaded in the meantime is another model.
        if !Arc::ptr_eq(model, now_loaded) {
            return;
        }
        let previous = self.loaded.compare_and_swap(&*current, None);
        if !previous
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, model))
        {
            return;
        }
        self.health.set_aside(SetAside {
            model: Arc::clone(model),
            until: now + pause,
            why: why.clone(),
        });
        self.log(&format!("error: {why}"));
        self.tell_health(Some(&why));
    }

    fn tell_health(&self, trouble: Option<&str>) {
        if let Some(tell) = &self.tell_health {
            tell(trouble);
        }
    }

    /// Returns why it takes no calls, if the model was set aside.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let of_absent = || self.absent.clone();
        self.health.trouble(Instant::now()).or_else(of_absent)
    }

    /// Returns where it is in its life: one that was set aside takes no requests.
    #[must_use]
    pub fn status(&self) -> VersionStatus {
        let trouble = self.trouble();
        VersionStatus {
            version: self.version.clone(),
            state: match trouble {
                None => VersionState::Available,
                Some(_) => VersionState::End,
            },
            failure: trouble.map(|why| (Code::Internal, why)),
        }
    }

    /// Returns how often the model panicked.
    #[must_use]
    pub fn n_panics(&self) -> u64 {
        self.health.n_panics()
    }

    /// Tells whoever waits for the model that it cannot be loaded.
    pub fn fail(&self, why: &str) {
        self.failure.store(Some(Arc::new(why.to_owned())));
        self.admission.changed.notify_waiters();
    }

    /// Makes whoever waits for the model look again.
    pub(crate) fn nudge(&self) {
        self.admission.changed.notify_waiters();
    }

    /// Notes that nothing will load it again: calls that have the model end on it, those that wait for it fail.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.admission.changed.notify_waiters();
    }

    /// Sets how many calls may run at a time; `None` for any number.
    pub fn set_concurrency(&self, limit: Option<usize>) {
        self.admission.set_limit(limit);
    }

    /// Returns the labels of its metrics, as Prometheus' text format has them.
    #[must_use]
    pub fn labels(&self) -> &str {
        &self.labels
    }

    /// Returns the revision that it is of, where there are revisions.
    #[must_use]
    pub fn revision(&self) -> Option<&RevisionId> {
        self.log.as_ref().map(|(revision, _)| revision)
    }

    /// Adds a line to the log of its revision.
    pub fn log(&self, line: &str) {
        if let Some((revision, log)) = &self.log {
            log.write(revision, LogSource::Serve, line);
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the model, if it is in memory.
    #[must_use]
    pub fn loaded(&self) -> Option<Arc<LoadedModel>> {
        self.loaded.load_full()
    }

    /// Notes the memory that its processes hold.
    pub fn set_process_memory(&self, bytes: u64) {
        self.backend_memory_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns the memory that is held for it, in bytes: by the model, or by its processes as it was measured last.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match &self.backends {
            Some(_) => self.backend_memory_bytes.load(Ordering::Relaxed),
            None => {
                let loaded = self.loaded.load();
                let bytes = loaded.as_ref().map_or(0, |loaded| loaded.memory_bytes());
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }

    /// Tells whether there is something to answer requests: the model in memory, or a process.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        match &self.backends {
            Some(backends) => !backends.is_empty(),
            None => self.loaded.load().is_some(),
        }
    }

    /// Returns what calls have cost.
    #[must_use]
    pub fn cost(&self) -> &CallCost {
        &self.cost
    }

    /// Returns how many runs there are at a time on the pool.
    pub(crate) fn width(&self) -> &Width {
        &self.width
    }

    /// Returns what is counted.
    #[must_use]
    pub fn statistics(&self) -> &ModelStatistics {
        &self.statistics
    }
}

/// Escapes a label's value.
pub(crate) fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
pub(crate) mod tests;
