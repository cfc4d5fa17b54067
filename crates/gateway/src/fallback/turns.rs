//! Which calls to a model may go: behind its breaker, and again within a budget.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use coracle_base::{Clock, Code};
use coracle_policy::resilience::{
    Admission, Breaker, BreakerSpec, End, Ended, Probing, RetryBudget, RetryBudgetSpec,
};
use coracle_serving::{FallbackSettings, HedgeAfter, ServedModel};

use crate::infer::{Blame, Failure};

/// How often the time is measured anew after which another one is asked.
const MEASURED_EVERY: Duration = Duration::from_secs(1);
/// Calls that must have ended before anything is known of how long they take.
const CALLS_MIN: u64 = 100;

/// What decides whether a call may go to one model.
pub(crate) struct Turns {
    state: Mutex<State>,
    /// When it was measured last how long so many of 100 calls take, and what.
    measured: Mutex<Option<(Duration, u8, Option<Duration>)>>,
    /// Calls that take longer are slow.
    slow_after: Option<Duration>,
}

struct State {
    breaker: Option<Breaker>,
    budget: RetryBudget,
}

impl Turns {
    /// Returns those of a model that nothing is known of.
    pub(crate) fn new(settings: &FallbackSettings) -> Self {
        let default = BreakerSpec::default();
        let slow = settings.breaker_latency.and(default.failures);
        let has_breaker = settings.breaker_failures.is_some() || slow.is_some();
        let breaker = has_breaker.then(|| {
            Breaker::new(BreakerSpec {
                consecutive_failures: settings.breaker_failures,
                failures: settings.breaker_failures.and(default.failures),
                slow,
                ..default
            })
        });
        Self {
            state: Mutex::new(State {
                breaker,
                budget: RetryBudget::new(RetryBudgetSpec::default()),
            }),
            slow_after: settings.breaker_latency,
            measured: Mutex::default(),
        }
    }

    /// Returns after which time another one is asked, if that is known.
    pub(crate) fn hedge_after(
        &self,
        model: &ServedModel,
        after: HedgeAfter,
        now: Duration,
    ) -> Option<Duration> {
        let percent = match after {
            HedgeAfter::Time(time) => return Some(time),
            HedgeAfter::Percentile(percent) => percent,
        };
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        match *measured {
            Some((at, of, time)) if of == percent && now < at.saturating_add(MEASURED_EVERY) => {
                time
            }
            _ => {
                let time = model.statistics().latency_percentile(percent, CALLS_MIN);
                *measured = Some((now, percent, time));
                time
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request that is tried for the first time.
    pub(crate) fn deposit(&self, now: Duration) {
        self.state().budget.deposit(now);
    }

    /// Says whether a request may be tried again, or by a second one at the same time, and counts it if so.
    pub(crate) fn withdraw(&self, now: Duration) -> bool {
        self.state().budget.withdraw(now)
    }

    /// Lets a call to the model go, if the breaker does; says when it may otherwise.
    pub(crate) fn admit<'a>(&'a self, clock: &'a dyn Clock) -> Result<Try<'a>, Duration> {
        let now = clock.monotonic();
        let admission = match &mut self.state().breaker {
            Some(breaker) => breaker.admit(now),
            None => Admission::Go,
        };
        let probe = match admission {
            Admission::Go => None,
            Admission::Probe(probing) => Some(probing),
            Admission::Refused { retry_after } => return Err(retry_after),
        };
        Ok(Try {
            turns: self,
            clock,
            probe,
            begun: Arc::default(),
            end: End::GivenUp,
        })
    }
}

/// A call to the model; its end is told when it is dropped, be it that the caller has gone.
pub(crate) struct Try<'a> {
    turns: &'a Turns,
    clock: &'a dyn Clock,
    probe: Option<Probing>,
    /// When its run began, if it has.
    pub(crate) begun: Arc<OnceLock<Duration>>,
    pub(crate) end: End,
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let now = self.clock.monotonic();
        if let Some(breaker) = &mut self.turns.state().breaker {
            // From when it began: who waits for the model, or for his turn, says nothing of it. Who gives up says how long it took at least.
            let took = self.begun.get().map(|begun| now.saturating_sub(*begun));
            let slow_after = self.turns.slow_after;
            let ended = Ended {
                end: self.end,
                was_slow: took
                    .zip(slow_after)
                    .is_some_and(|(took, limit)| took > limit),
                probe: self.probe,
            };
            let _opened = breaker.ended(now, ended);
        }
    }
}

/// Returns what the failure of a call says of the model, which may take `own_time`; `has_answered` tells whether it answered others meanwhile.
pub(crate) fn end_of(failure: &Failure, own_time: Duration, has_answered: bool) -> End {
    match failure.blame {
        Blame::Crowd => End::GivenUp,
        // The caller would not wait for as long as the model may take.
        Blame::Late { allowed, .. } if allowed < own_time => End::GivenUp,
        // It waited for others, whom the model answered.
        Blame::Late {
            has_begun: false, ..
        } if has_answered => End::GivenUp,
        Blame::Late { .. } => End::Failed,
        Blame::AsCoded => match failure.code {
            Code::Internal | Code::Unavailable | Code::DeadlineExceeded => End::Failed,
            // Too many ask: that it fails is not known.
            Code::ResourceExhausted => End::GivenUp,
            _ => End::Answered,
        },
    }
}

/// Tells whether a failure is none of the caller's.
pub(crate) fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Internal | Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
    )
}

/// Returns what is told to whom an open breaker turns away.
pub(crate) fn rests(model: &ServedModel, retry_after: Duration) -> Failure {
    let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    let message = format!(
        "model '{}' failed or was slow again and again, and is asked again in {}",
        model.name(),
        humantime::format_duration(Duration::from_millis(millis))
    );
    Failure::new(Code::Unavailable, message)
}
