//! Calls to a model that may fail: within a time, tried again within a budget, behind a breaker, and with a default prediction where all of
//! that does not help. Every answer that is not the model's says so.
//!
//! Start at [`Calls::run_with_fallback`]; the rules are in [`coracle_policy::resilience`], the default prediction in `stand_in`.

mod stand_in;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use coracle_base::Code;
use coracle_model::Signature;
use coracle_policy::resilience::{
    Admission, Breaker, BreakerSpec, End, Ended, RetryBudget, RetryBudgetSpec,
};
use coracle_serving::{Fallback, FallbackSettings, ServedModel};

use self::stand_in::Values;
use crate::codec::Encoded;
use crate::infer::{Arrival, Calls, Failure, Request};

/// What decides about the calls to one model.
struct Deciding {
    turns: Mutex<Turns>,
    values: Option<Values>,
    /// The model's, from when it was there: it may be gone when it is needed.
    signature: OnceLock<Signature>,
}

struct Turns {
    breaker: Option<Breaker>,
    budget: RetryBudget,
}

impl Deciding {
    fn new(settings: &FallbackSettings) -> Self {
        let breaker = settings.breaker_failures.map(|failures| {
            Breaker::new(BreakerSpec {
                consecutive_failures: Some(failures),
                ..BreakerSpec::default()
            })
        });
        Self {
            turns: Mutex::new(Turns {
                breaker,
                budget: RetryBudget::new(RetryBudgetSpec::default()),
            }),
            values: settings.value.as_deref().and_then(Values::read),
            signature: OnceLock::new(),
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
            end: End::GivenUp,
        })
    }
}

/// A call to the model; its end is told when it is dropped, be it that the caller has gone.
struct Try<'a> {
    deciding: &'a Deciding,
    calls: &'a Calls,
    was_probe: bool,
    end: End,
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let now = self.calls.clock.monotonic();
        if let Some(breaker) = &mut self.deciding.turns().breaker {
            let ended = Ended {
                end: self.end,
                was_slow: false,
                was_probe: self.was_probe,
            };
            let _opened = breaker.ended(now, ended);
        }
    }
}

/// Returns what the end of a call says of the model.
fn end_of(result: &Result<Encoded, Failure>) -> End {
    match result {
        Ok(_) => End::Answered,
        Err(failure) => match failure.code {
            Code::Internal | Code::Unavailable | Code::DeadlineExceeded => End::Failed,
            // Too many ask: that it fails is not known.
            Code::ResourceExhausted => End::GivenUp,
            _ => End::Answered,
        },
    }
}

/// Tells whether a failure is none of the caller's.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Internal | Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
    )
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
        let own_time = fallback.settings().timeout.unwrap_or(arrival.time);
        let arrival = Arrival {
            time: arrival.time.min(own_time),
            ..arrival
        };
        let result = self
            .tried(model, (&fallback, &deciding), &request, arrival)
            .await;
        match result {
            Err(failure) if is_ours(failure.code) => {
                let stand_in = self.stand_in(model, &deciding, &request, failure.code);
                let answer = stand_in.ok_or(failure)?;
                fallback.count_fallback();
                Ok(answer)
            }
            result => result,
        }
    }

    /// Asks the model, and again if that may help.
    async fn tried(
        &self,
        model: &Arc<ServedModel>,
        (fallback, deciding): (&Fallback, &Deciding),
        request: &Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        deciding.turns().budget.deposit(self.clock.monotonic());
        let mut n_left = fallback.settings().retries;
        loop {
            let mut asked = deciding.admit(self).map_err(|retry_after| Failure {
                code: Code::Unavailable,
                message: format!(
                    "model '{}' failed again and again, and is asked again in {}",
                    model.name(),
                    humantime::format_duration(Duration::from_millis(
                        u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX)
                    ))
                ),
            })?;
            let result = self.enter_and_run(model, request.clone(), arrival).await;
            asked.end = end_of(&result);
            drop(asked);
            let may_help = result
                .as_ref()
                .is_err_and(|failure| matches!(failure.code, Code::Internal | Code::Unavailable));
            let now = self.clock.monotonic();
            if !may_help || n_left == 0 || arrival.time_left(now).is_zero() {
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
