//! Faults on purpose: latency, errors, panics and slow loads of chosen services and revisions, so that people may see what their clients make of them.
//!
//! There is a [`Chaos`] only where the server was told to have one. While nothing is set a request costs one look at a flag. What is set ends by itself, and with the
//! process. Faults strike attempts: what is tried again, hedged or stood in for is as it would be for a model that is like that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::{Clock, Code};

use crate::ServedModel;
use crate::plan::RevisionId;

/// The most services and revisions with faults at a time.
const RULES_MAX: usize = 64;

/// Which models faults strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChaosTarget {
    /// The namespace; `None` for models that have none.
    pub namespace: Option<String>,
    /// The name of a service, of a revision of one, or of a model.
    pub name: String,
}

impl std::fmt::Display for ChaosTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl ChaosTarget {
    /// Tells whether faults of this target strike what is served under a name.
    #[must_use]
    pub fn strikes(&self, model: &ServedModel) -> bool {
        self.is(model.revision(), model.name())
    }

    fn is(&self, revision: Option<&RevisionId>, model: &str) -> bool {
        let namespace = revision.map(|revision| revision.namespace.as_str());
        // The model of a service may have a name of its own.
        let is_of = |revision: &RevisionId| {
            let service = revision.name.rsplit_once("-predictor-");
            revision.name == self.name || service.is_some_and(|(name, _)| name == self.name)
        };
        let is_name = model == self.name || revision.is_some_and(is_of);
        is_name && namespace == self.namespace.as_deref()
    }
}

/// What happens to what is struck. Rates are shares of attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChaosFault {
    /// How long each attempt waits before it runs.
    pub latency: Duration,
    /// How much longer at most, by chance.
    pub jitter: Duration,
    /// How many attempts fail.
    pub error_rate: f64,
    /// With which code.
    pub error_code: Code,
    /// How many attempts are panics of the model.
    pub panic_rate: f64,
    /// How long loads wait.
    pub load_delay: Duration,
}

impl Default for ChaosFault {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            error_rate: 0.0,
            error_code: Code::Unavailable,
            panic_rate: 0.0,
            load_delay: Duration::ZERO,
        }
    }
}

/// What happens to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChaosDrawn {
    /// It waits for so long.
    pub delay: Duration,
    /// And then.
    pub then: ChaosThen,
}

/// How an attempt goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChaosThen {
    /// As ever.
    Run,
    /// It fails with this code.
    Fail(Code),
    /// The model panics.
    Panic,
}

/// Faults that are set.
#[derive(Clone, Debug, PartialEq)]
pub struct ChaosStanding {
    /// What they strike.
    pub target: ChaosTarget,
    /// What happens.
    pub fault: ChaosFault,
    /// How long they last yet.
    pub left: Duration,
    /// Attempts and loads that were struck.
    pub n_struck: u64,
}

/// How often faults of each kind were injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChaosCounts {
    /// Attempts that waited.
    pub latency: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Panics.
    pub panics: u64,
    /// Loads that waited.
    pub loads: u64,
}

#[derive(Debug)]
struct Rule {
    target: ChaosTarget,
    fault: ChaosFault,
    /// On the monotonic clock.
    until: Duration,
    n_struck: u64,
}

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    /// Whether any rule is there, over or not.
    is_on: AtomicBool,
    rules: Mutex<Vec<Rule>>,
    /// Told when rules change.
    changed: Condvar,
    /// The state of the generator of draws.
    draws: AtomicU64,
    counts: Mutex<ChaosCounts>,
}

/// The faults of a server. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Chaos {
    inner: Arc<Inner>,
}

impl Chaos {
    /// Returns no faults; draws begin with `seed`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                clock,
                is_on: AtomicBool::new(false),
                rules: Mutex::default(),
                changed: Condvar::new(),
                draws: AtomicU64::new(seed),
                counts: Mutex::default(),
            }),
        }
    }

    /// Tells whether there may be any fault.
    #[must_use]
    #[inline]
    pub fn is_on(&self) -> bool {
        self.inner.is_on.load(Ordering::Relaxed)
    }

    /// Returns the rules that are in force; those whose time is over go.
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        let rules = self.inner.rules.lock();
        let mut rules = rules.unwrap_or_else(PoisonError::into_inner);
        let now = self.inner.clock.monotonic();
        rules.retain(|rule| rule.until > now);
        self.inner.is_on.store(!rules.is_empty(), Ordering::Relaxed);
        rules
    }

    /// Sets faults for so long, in the place of those that the target has.
    ///
    /// # Errors
    /// If too many are set.
    pub fn set(
        &self,
        target: ChaosTarget,
        fault: ChaosFault,
        time: Duration,
    ) -> Result<(), String> {
        let mut rules = self.rules();
        let n_struck = rules.iter().find(|rule| rule.target == target);
        let n_struck = n_struck.map_or(0, |rule| rule.n_struck);
        rules.retain(|rule| rule.target != target);
        if rules.len() >= RULES_MAX {
            return Err(format!(
                "{RULES_MAX} services and revisions have faults already"
            ));
        }
        rules.push(Rule {
            target,
            fault,
            until: self.inner.clock.monotonic().saturating_add(time),
            n_struck,
        });
        self.inner.is_on.store(true, Ordering::Relaxed);
        drop(rules);
        self.inner.changed.notify_all();
        Ok(())
    }

    /// Ends the faults of a target, or all of them; returns of how many.
    pub fn clear(&self, target: Option<&ChaosTarget>) -> usize {
        let mut rules = self.rules();
        let n_before = rules.len();
        rules.retain(|rule| target.is_some_and(|target| rule.target != *target));
        let n_cleared = n_before - rules.len();
        self.inner.is_on.store(!rules.is_empty(), Ordering::Relaxed);
        drop(rules);
        self.inner.changed.notify_all();
        n_cleared
    }

    /// Returns what is set.
    #[must_use]
    pub fn list(&self) -> Vec<ChaosStanding> {
        let now = self.inner.clock.monotonic();
        let rules = self.rules();
        let standing = rules.iter().map(|rule| ChaosStanding {
            target: rule.target.clone(),
            fault: rule.fault,
            left: rule.until.saturating_sub(now),
            n_struck: rule.n_struck,
        });
        standing.collect()
    }

    /// Returns how often faults were injected.
    #[must_use]
    pub fn counts(&self) -> ChaosCounts {
        *self.counted()
    }

    fn counted(&self) -> MutexGuard<'_, ChaosCounts> {
        let counts = self.inner.counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a number in `[0, 1)`: splitmix64 (Steele, Lea and Flood, 2014), whose state is a counter.
    fn uniform(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.inner.draws.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = state.wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws what happens to an attempt at a model; `None` for nothing.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn draw(&self, model: &ServedModel) -> Option<ChaosDrawn> {
        let mut rules = self.rules();
        let mut of_model = rules.iter_mut();
        let rule = of_model.find(|rule| rule.target.strikes(model))?;
        let fault = rule.fault;
        let delay = fault.latency + fault.jitter.mul_f64(self.uniform());
        let chance = self.uniform();
        let then = if chance < fault.panic_rate {
            ChaosThen::Panic
        } else if chance < fault.panic_rate + fault.error_rate {
            ChaosThen::Fail(fault.error_code)
        } else {
            ChaosThen::Run
        };
        if delay.is_zero() && then == ChaosThen::Run {
            return None;
        }
        rule.n_struck += 1;
        drop(rules);
        let mut counts = self.counted();
        counts.latency += u64::from(!delay.is_zero());
        counts.errors += u64::from(matches!(then, ChaosThen::Fail(_)));
        counts.panics += u64::from(then == ChaosThen::Panic);
        drop(counts);
        Some(ChaosDrawn { delay, then })
    }

    /// Keeps a thread that is to ask a model waiting for `delay`, for as long as there are faults of the model's; returns how long that was.
    pub fn hold(&self, model: &ServedModel, delay: Duration) -> Duration {
        let started = self.inner.clock.monotonic();
        loop {
            let rules = self.rules();
            let now = self.inner.clock.monotonic();
            let rule = rules.iter().find(|rule| rule.target.strikes(model));
            let ends = rule.map_or(now, |rule| started.saturating_add(delay).min(rule.until));
            let left = ends.saturating_sub(now);
            if left.is_zero() {
                return now.saturating_sub(started);
            }
            drop(self.inner.changed.wait_timeout(rules, left));
        }
    }

    /// Returns how long loads of a revision wait; `None` for not at all.
    #[must_use]
    pub fn load_delay(&self, revision: &RevisionId, model: &str) -> Option<Duration> {
        if !self.is_on() {
            return None;
        }
        let rules = self.rules();
        let mut rules = rules.iter();
        let rule = rules.find(|rule| rule.target.is(Some(revision), model))?;
        Some(rule.fault.load_delay).filter(|delay| !delay.is_zero())
    }

    /// Keeps a thread that is to load a revision waiting, for as long as the faults say so and are there.
    pub fn hold_load(&self, revision: &RevisionId, model: &str) {
        let started = self.inner.clock.monotonic();
        let mut is_counted = false;
        loop {
            let mut rules = self.rules();
            let now = self.inner.clock.monotonic();
            let mut of_model = rules.iter_mut();
            let rule = of_model.find(|rule| rule.target.is(Some(revision), model));
            let Some(rule) = rule else { return };
            let ends = started
                .saturating_add(rule.fault.load_delay)
                .min(rule.until);
            let left = ends.saturating_sub(now);
            if left.is_zero() {
                return;
            }
            if !is_counted {
                rule.n_struck += 1;
                self.counted().loads += 1;
                is_counted = true;
            }
            drop(self.inner.changed.wait_timeout(rules, left));
        }
    }
}

#[cfg(test)]
mod tests {
    use coracle_base::ManualClock;

    use super::*;
    use crate::served_model::tests::served;

    fn target(name: &str) -> ChaosTarget {
        ChaosTarget {
            namespace: None,
            name: name.to_owned(),
        }
    }

    fn chaos() -> (Chaos, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new());
        (Chaos::new(clock.clone(), 7), clock)
    }

    #[test]
    fn faults_strike_their_target_until_their_time_is_over() {
        let (chaos, clock) = chaos();
        let (own, other) = (served("a", false), served("b", false));
        assert!(!chaos.is_on());
        let fault = ChaosFault {
            latency: Duration::from_millis(5),
            error_rate: 1.0,
            ..ChaosFault::default()
        };
        let minute = Duration::from_secs(60);
        chaos.set(target("a"), fault, minute).unwrap();
        let drawn = ChaosDrawn {
            delay: Duration::from_millis(5),
            then: ChaosThen::Fail(Code::Unavailable),
        };
        assert_eq!((chaos.draw(&own), chaos.draw(&other)), (Some(drawn), None));
        clock.advance(minute - Duration::from_secs(1));
        assert_eq!(chaos.list()[0].left, Duration::from_secs(1));
        assert_eq!(chaos.list()[0].n_struck, 1);
        clock.advance(Duration::from_secs(1));
        assert!(chaos.is_on());
        assert_eq!(chaos.draw(&own), None);
        // Whoever finds that it is over turns it off.
        assert!(!chaos.is_on() && chaos.list().is_empty());
        let counts = ChaosCounts {
            latency: 1,
            errors: 1,
            ..ChaosCounts::default()
        };
        assert_eq!(chaos.counts(), counts);
    }

    #[test]
    fn rates_are_shares_of_attempts() {
        let (chaos, _clock) = chaos();
        let fault = ChaosFault {
            jitter: Duration::from_millis(10),
            error_rate: 0.3,
            panic_rate: 0.1,
            ..ChaosFault::default()
        };
        chaos.set(target("a"), fault, Duration::MAX).unwrap();
        let model = served("a", false);
        let mut delays = Duration::ZERO;
        for _ in 0..10_000 {
            let delay = chaos.draw(&model).unwrap().delay;
            assert!(delay < Duration::from_millis(10));
            delays += delay;
        }
        let counts = chaos.counts();
        assert!((2_800..3_200).contains(&counts.errors), "{counts:?}");
        assert!((900..1_100).contains(&counts.panics), "{counts:?}");
        let mean = delays / 10_000;
        assert!((4_800..5_200).contains(&mean.as_micros()), "{mean:?}");
    }

    #[test]
    fn what_is_set_again_is_replaced_and_what_is_cleared_is_gone() {
        let (chaos, _clock) = chaos();
        let fault = ChaosFault::default();
        for index in 0..RULES_MAX {
            let name = format!("a{index}");
            chaos.set(target(&name), fault, Duration::MAX).unwrap();
            chaos.set(target(&name), fault, Duration::MAX).unwrap();
        }
        let more = chaos.set(target("b"), fault, Duration::MAX);
        assert_eq!(
            more.unwrap_err(),
            "64 services and revisions have faults already"
        );
        assert_eq!(chaos.clear(Some(&target("a0"))), 1);
        assert_eq!(chaos.clear(Some(&target("a0"))), 0);
        assert_eq!((chaos.clear(None), chaos.is_on()), (RULES_MAX - 1, false));
    }

    #[test]
    fn loads_wait_until_their_time_or_the_fault_is_over() {
        let (chaos, _clock) = chaos();
        let id = RevisionId {
            namespace: "n".to_owned(),
            name: "a-1".to_owned(),
        };
        let revision = ChaosTarget {
            namespace: Some("n".to_owned()),
            name: "a-1".to_owned(),
        };
        let fault = ChaosFault {
            load_delay: Duration::from_secs(3_600),
            ..ChaosFault::default()
        };
        assert_eq!(chaos.load_delay(&id, "a"), None);
        chaos.set(revision.clone(), fault, Duration::MAX).unwrap();
        assert_eq!(chaos.load_delay(&id, "a"), Some(fault.load_delay));
        let (loading, waits) = (chaos.clone(), id.clone());
        let load = std::thread::spawn(move || loading.hold_load(&waits, "a"));
        while chaos.counts().loads == 0 {
            std::thread::yield_now();
        }
        chaos.clear(Some(&revision));
        load.join().unwrap();
        // Nothing holds what is not struck.
        chaos.hold_load(&id, "a");
    }
}
