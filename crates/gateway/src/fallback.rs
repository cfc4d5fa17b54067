//! Calls to a model that may fail: within a time, tried again within a budget, behind a breaker, and with another service's answer, the last good one, or a
//! default prediction where all of that does not help. Every answer that is not the model's says so.
//!
//! Start at [`Calls::run_with_fallback`]; the rules are in [`coracle_policy::resilience`], the default prediction in `stand_in`.

mod last_good;
mod stand_in;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use coracle_base::Code;
use coracle_model::Signature;
use coracle_policy::resilience::{
    Admission, Breaker, BreakerSpec, End, Ended, RetryBudget, RetryBudgetSpec,
};
use coracle_serving::{Fallback, FallbackSettings, ServedModel};
use hyper::header::HeaderValue;

use self::last_good::LastGood;
use self::stand_in::{Values, Wanted, marked};
use crate::codec::{Encoded, StandIn, StoodIn};
use crate::infer::{Arrival, Blame, Calls, Failure, OutputCopy, Request};

/// What decides about the calls to one model.
struct Deciding {
    turns: Mutex<Turns>,
    values: Option<Values>,
    last_good: LastGood,
    /// Calls that take longer are slow.
    slow_after: Option<Duration>,
    /// The model's, from when it was there: it may be gone when it is needed.
    signature: OnceLock<Signature>,
    /// How many calls the model has answered.
    n_answered: AtomicU64,
    /// What costly default predictions wait for a thread as: they have turns of their own, however many calls to the model wait.
    lane: Arc<ServedModel>,
}

struct Turns {
    breaker: Option<Breaker>,
    budget: RetryBudget,
}

impl Deciding {
    fn new(settings: &FallbackSettings) -> Self {
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
            turns: Mutex::new(Turns {
                breaker,
                budget: RetryBudget::new(RetryBudgetSpec::default()),
            }),
            last_good: LastGood::default(),
            slow_after: settings.breaker_latency,
            values: settings.value.as_deref().and_then(Values::read),
            signature: OnceLock::new(),
            n_answered: AtomicU64::new(0),
            lane: Arc::new(ServedModel::unloaded("fallback".to_owned(), 1)),
        }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call to the model go, if the breaker does.
    fn admit<'a>(&'a self, calls: &'a Calls) -> Result<Try<'a>, Duration> {
        let now = calls.clock.monotonic();
        let admission = match &mut self.turns().breaker {
            Some(breaker) => breaker.admit(now),
            None => Admission::Go,
        };
        let was_probe = match admission {
            Admission::Go => false,
            Admission::Probe => true,
            Admission::Refused { retry_after } => return Err(retry_after),
        };
        Ok(Try {
            deciding: self,
            calls,
            was_probe,
            slow_after: self.slow_after.map(|time| now.saturating_add(time)),
            end: End::GivenUp,
        })
    }
}

/// A call to the model; its end is told when it is dropped, be it that the caller has gone.
struct Try<'a> {
    deciding: &'a Deciding,
    calls: &'a Calls,
    was_probe: bool,
    /// On the monotonic clock: if it ends later, it was slow.
    slow_after: Option<Duration>,
    end: End,
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let now = self.calls.clock.monotonic();
        if let Some(breaker) = &mut self.deciding.turns().breaker {
            let ended = Ended {
                end: self.end,
                // Who gave up, or was turned away by a crowd, says nothing of the model.
                was_slow: self.end != End::GivenUp
                    && self.slow_after.is_some_and(|time| now > time),
                was_probe: self.was_probe,
            };
            let _opened = breaker.ended(now, ended);
        }
    }
}

/// Returns what the failure of a call says of the model, which may take `own_time`; `has_answered` tells whether it answered others meanwhile.
fn end_of(failure: &Failure, own_time: Duration, has_answered: bool) -> End {
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

/// Tells whether a call that failed so may go well at once when it is tried again.
fn may_help(failure: &Failure) -> bool {
    matches!(failure.code, Code::Internal | Code::Unavailable) && failure.blame == Blame::AsCoded
}

/// Tells whether a failure is none of the caller's.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Internal | Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
    )
}

/// Keeps an answer as the last good one, and leaves of its copy what was asked for.
fn keep(last_good: &LastGood, key: &HeaderValue, (encoded, asked): (&mut Encoded, OutputCopy)) {
    let Some(whole) = encoded.answered.take() else {
        return;
    };
    encoded.answered = match asked {
        OutputCopy::Nothing => None,
        OutputCopy::FirstRow => Some(whole.first_rows()),
        OutputCopy::Whole => Some(whole.clone()),
    };
    last_good.keep(key, Arc::from(whole));
}

/// Returns what is told to whom an open breaker turns away.
fn rests(model: &ServedModel, retry_after: Duration) -> Failure {
    let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    let message = format!(
        "model '{}' failed or was slow again and again, and is asked again in {}",
        model.name(),
        humantime::format_duration(Duration::from_millis(millis))
    );
    Failure::new(Code::Unavailable, message)
}

impl Calls {
    /// Answers a request to a model that has a fallback.
    ///
    /// # Errors
    /// With the code of the failure, where there is no default prediction for it.
    #[cold]
    #[inline(never)]
    pub(crate) async fn run_with_fallback(
        &self,
        model: &Arc<ServedModel>,
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let fallback = model.fallback();
        let deciding = fallback
            .as_ref()
            .and_then(|fallback| fallback.state(Deciding::new));
        let (Some(fallback), Some(deciding)) = (fallback, deciding) else {
            return self.enter_and_run(model, request, arrival).await;
        };
        if deciding.signature.get().is_none()
            && let Some(loaded) = model.loaded()
        {
            let signature = loaded.model().signature();
            let _kept = deciding.signature.get_or_init(|| signature.clone());
        }
        let of_service = model.timeout().unwrap_or(self.request_timeout);
        let own_time = fallback.settings().timeout.unwrap_or(of_service);
        let own_time = own_time.min(of_service);
        let of_caller = arrival;
        let arrival = Arrival {
            time: arrival.time.min(own_time),
            ..arrival
        };
        let asked_copy = arrival.copy;
        let arrival = match request.key {
            Some(_) => Arrival {
                copy: OutputCopy::Whole,
                ..arrival
            },
            None => arrival,
        };
        let terms = (arrival, own_time);
        let mut result = self
            .tried(model, (&fallback, &deciding), &request, terms)
            .await;
        if let (Some(key), Ok(encoded)) = (&request.key, &mut result) {
            keep(&deciding.last_good, key, (encoded, asked_copy));
        }
        match result {
            Err(failure) if is_ours(failure.code) => {
                let other = self.other_service(&fallback, &request, (of_caller, failure.code));
                if let Some(answer) = Box::pin(other).await {
                    fallback.count_fallback();
                    return Ok(answer);
                }
                let wanted = Wanted {
                    model: Arc::clone(model),
                    deciding,
                    request,
                    code: failure.code,
                };
                let answer = self.stand_in(wanted, of_caller).await.ok_or(failure)?;
                fallback.count_fallback();
                Ok(answer)
            }
            result => result,
        }
    }

    /// Asks the service that stands in for this one, if there is one; `None` if it gives no answer either.
    ///
    /// It is asked as by a request of its own, within what the caller's time has left, and has no fallback then: two services may stand in for each other.
    async fn other_service(
        &self,
        fallback: &Fallback,
        request: &Request,
        (arrival, code): (Arrival, Code),
    ) -> Option<Encoded> {
        let id = fallback.settings().service.as_ref()?;
        let model = {
            let table = self.table.load();
            Arc::clone(table.service(id)?.choose())
        };
        if model.is_forwarded() {
            return None;
        }
        let clock = self.clock.as_ref();
        let in_flight = model
            .statistics()
            .start(self.worker, clock.monotonic(), clock);
        let arrival = Arrival {
            copy: OutputCopy::Nothing,
            ..arrival
        };
        let result = self.enter_and_run(&model, request.clone(), arrival).await;
        let outcome = match &result {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.code),
        };
        in_flight.finish(request.codec.protocol(), outcome, clock.monotonic());
        let stood_in = StoodIn {
            code,
            by: StandIn::Service,
        };
        marked(&request.codec, result.ok()?, stood_in)
    }

    /// Asks the model, which may take `own_time`, and again if that may help.
    async fn tried(
        &self,
        model: &Arc<ServedModel>,
        (fallback, deciding): (&Fallback, &Deciding),
        request: &Request,
        (arrival, own_time): (Arrival, Duration),
    ) -> Result<Encoded, Failure> {
        deciding.turns().budget.deposit(self.clock.monotonic());
        let mut n_left = fallback.settings().retries;
        loop {
            let mut asked = deciding
                .admit(self)
                .map_err(|retry_after| rests(model, retry_after))?;
            let n_answered = deciding.n_answered.load(Ordering::Relaxed);
            let result = self.enter_and_run(model, request.clone(), arrival).await;
            asked.end = match &result {
                Ok(_) => End::Answered,
                Err(failure) => {
                    let has_answered = deciding.n_answered.load(Ordering::Relaxed) != n_answered;
                    end_of(failure, own_time, has_answered)
                }
            };
            if asked.end == End::Answered {
                deciding.n_answered.fetch_add(1, Ordering::Relaxed);
            }
            drop(asked);
            let now = self.clock.monotonic();
            let is_hopeless = !result.as_ref().is_err_and(may_help);
            if is_hopeless || n_left == 0 || arrival.time_left(now).is_zero() {
                return result;
            }
            if !deciding.turns().budget.withdraw(now) {
                return result;
            }
            n_left -= 1;
            fallback.count_retry();
        }
    }
}

#[cfg(test)]
mod tests {
    use coracle_serving::Refusal;

    use super::*;
    use crate::infer::too_late;

    const OWN: Duration = Duration::from_secs(10);

    #[test]
    fn only_what_the_model_did_counts_against_it() {
        let late = |allowed, has_begun| too_late(allowed).begun(has_begun);
        let waited = |allowed| Failure::from(Refusal::Deadline).within(allowed);
        let coded = |code| Failure::new(code, "as it was told to");
        let shorter = OWN / 2;
        for (failure, others_answered, expected) in [
            (coded(Code::Internal), true, End::Failed),
            (coded(Code::Unavailable), true, End::Failed),
            (coded(Code::InvalidArgument), true, End::Answered),
            (Refusal::QueueFull.into(), false, End::GivenUp),
            (Refusal::PoolFull.into(), false, End::GivenUp),
            (Refusal::SetAside(String::new()).into(), false, End::Failed),
            // It ran for as long as it may.
            (late(OWN, true), true, End::Failed),
            // Its caller would not wait for so long.
            (late(shorter, true), false, End::GivenUp),
            (waited(shorter), false, End::GivenUp),
            // It waited behind others: those were answered, or nobody was.
            (late(OWN, false), true, End::GivenUp),
            (waited(OWN), true, End::GivenUp),
            (late(OWN, false), false, End::Failed),
            (waited(OWN), false, End::Failed),
        ] {
            let end = end_of(&failure, OWN, others_answered);
            assert_eq!(end, expected, "{failure:?} {others_answered}");
        }
    }

    #[test]
    fn who_is_turned_away_by_a_crowd_does_not_add_to_it() {
        let refused = |refusal: Refusal| may_help(&refusal.into());
        assert!(!refused(Refusal::QueueFull) && !refused(Refusal::PoolFull));
        assert!(refused(Refusal::Failed("as it was told to".to_owned())));
        assert!(may_help(&Failure::new(Code::Internal, "once")));
        assert!(!may_help(&too_late(OWN)));
    }
}
