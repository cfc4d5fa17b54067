//! Calls to a model that may fail: within a time, tried again within a budget, behind a breaker, and with another revision's answer, another service's, the last
//! good one, or a default prediction where all of that does not help. Every answer that is not the model's says so.
//!
//! Start at [`Calls::run_with_fallback`]; the rules are in [`coracle_policy::resilience`], the default prediction in `stand_in`.

mod again;
mod hedge;
mod last_good;
mod stand_in;
mod turns;
mod undeclared;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coracle_base::Code;
use coracle_model::Signature;
use coracle_policy::resilience::End;
use coracle_serving::{Fallback, FallbackSettings, ServedModel};
use hyper::header::HeaderValue;

pub(crate) use self::again::{Came, again};
use self::hedge::Hedged;
pub(crate) use self::last_good::{LastGood, only_value};
pub(crate) use self::stand_in::Wanted;
pub use self::stand_in::fits_outputs;
use self::stand_in::{marked, marked_of_program};
pub(crate) use self::turns::{Turns, end_of, is_ours, rests};
pub(crate) use self::undeclared::{Asked, asked, undeclared};
use crate::codec::{Encoded, StandIn, StoodIn};
use crate::infer::{Arrival, Blame, Calls, Failure, OutputCopy, Request};

/// The most of a caller's time that is kept from another service for what is given where it fails, too.
const REST_MAX: Duration = Duration::from_millis(100);

/// What decides about the calls to one model, or graph, as long as its breaker has the same terms: what else its settings say is read where it is needed.
pub(crate) struct Deciding {
    turns: Turns,
    /// The model's, from when it was there: it may be gone when it is needed. A graph may have none.
    pub(crate) signature: OnceLock<Option<Signature>>,
    /// How many calls the model has answered.
    n_answered: AtomicU64,
    /// What costly default predictions wait for a thread as: they have turns of their own, however many calls to the model wait.
    lane: Arc<ServedModel>,
}

impl Deciding {
    fn new(settings: &FallbackSettings) -> Self {
        Self {
            turns: Turns::new(settings),
            signature: OnceLock::new(),
            n_answered: AtomicU64::new(0),
            lane: Arc::new(ServedModel::unloaded("fallback".to_owned(), 1)),
        }
    }

    /// Returns what the model, or graph, takes and gives, as far as that is known.
    pub(crate) fn signature(&self) -> Option<&Signature> {
        self.signature.get()?.as_ref()
    }

    /// Returns what decides about the calls of a model with this fallback.
    pub(crate) fn of(fallback: &Fallback) -> Option<Arc<Self>> {
        fallback.state(Self::new)
    }
}

/// Returns the last good answers of a service: revisions of it stand in for each other.
pub(crate) fn last_good(fallback: &Fallback) -> Arc<LastGood> {
    fallback.memory().get().unwrap_or_default()
}

/// Tells whether a call that failed so may go well at once when it is tried again.
fn may_help(failure: &Failure) -> bool {
    matches!(failure.code, Code::Internal | Code::Unavailable) && failure.blame == Blame::AsCoded
}

/// Keeps an answer as the last good one, and leaves of its copy what was asked for.
fn keep(
    last_good: &LastGood,
    (key, now): (&HeaderValue, Duration),
    (encoded, asked): (&mut Encoded, OutputCopy),
) {
    let Some(whole) = encoded.answered.take() else {
        return;
    };
    if !whole.is_whole() {
        // Too large to be given again; who wants first rows has them.
        encoded.answered = Some(whole).filter(|_| asked != OutputCopy::Nothing);
        return;
    }
    encoded.answered = match asked {
        OutputCopy::Nothing => None,
        OutputCopy::FirstRow => Some(whole.first_rows()),
        OutputCopy::Whole => Some(whole.clone()),
    };
    last_good.keep(key, (Arc::from(whole), now));
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
        let deciding = fallback.as_deref().and_then(Deciding::of);
        let (Some(fallback), Some(deciding)) = (fallback, deciding) else {
            return self.enter_and_run(model, request, arrival).await;
        };
        if deciding.signature.get().is_none()
            && let Some(loaded) = model.loaded()
        {
            let signature = loaded.model().signature();
            let _kept = deciding.signature.get_or_init(|| Some(signature.clone()));
        }
        let of_service = model.timeout().unwrap_or(self.request_timeout);
        let is_key_given = request.key.is_some();
        let own_time = self.time_before_others((Some(model), &fallback), is_key_given);
        let own_time = own_time.map_or(of_service, |own_time| own_time.min(of_service));
        let of_caller = arrival;
        let arrival = Arrival {
            time: arrival.time.min(own_time),
            ..arrival
        };
        let asked_copy = arrival.copy;
        let arrival = match request.key {
            Some(_) => arrival.copying(OutputCopy::Whole),
            None => arrival,
        };
        let both = (&fallback, &deciding);
        let terms = (arrival, own_time, of_caller);
        let tried = self.tried_or_hedged(model, both, &request, terms);
        let Hedged { mut result, asked } = tried.await;
        if result
            .as_ref()
            .is_ok_and(|encoded| encoded.fallback.is_some())
        {
            fallback.count_fallback();
            return result;
        }
        if let (Some(key), Ok(encoded)) = (&request.key, &mut result) {
            let now = self.clock.monotonic();
            keep(&last_good(&fallback), (key, now), (encoded, asked_copy));
        }
        match result {
            Err(failure) if is_ours(failure.code) => {
                let has_more = fallback.settings().value.is_some() || request.key.is_some();
                let bounds = (of_caller, failure.code, has_more);
                let other = self.others_but(asked, (model, &fallback), &request, bounds);
                if let Some(answer) = Box::pin(other).await {
                    fallback.count_fallback();
                    return Ok(answer);
                }
                let wanted = Wanted {
                    model: Arc::clone(model),
                    fallback: Arc::clone(&fallback),
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

    /// Asks the revision, then the service that stand in for a model, as far as there are some; `None` if none gives an answer.
    pub(crate) async fn others(
        &self,
        of: (&Arc<ServedModel>, &Fallback),
        request: &Request,
        bounds: (Arrival, Code, bool),
    ) -> Option<Encoded> {
        self.others_but(None, of, request, bounds).await
    }

    /// As [`Calls::others`], but for the one that was asked already.
    async fn others_but(
        &self,
        asked: Option<StandIn>,
        (model, fallback): (&Arc<ServedModel>, &Fallback),
        request: &Request,
        (arrival, code, has_more): (Arrival, Code, bool),
    ) -> Option<Encoded> {
        let settings = fallback.settings();
        // It does not stand in for itself.
        let revision = fallback.revision();
        let revision = revision.filter(|other| !Arc::ptr_eq(other, model));
        if let Some(other) = revision.filter(|_| asked != Some(StandIn::Revision)) {
            let by = StandIn::Revision;
            let within = (arrival, has_more || settings.service.is_some());
            let answer = self
                .other((&other, fallback), request, within, StoodIn::new(code, by))
                .await;
            if answer.is_some() {
                return answer;
            }
        }
        if asked == Some(StandIn::Service) {
            return None;
        }
        self.other_service(fallback, request, (arrival, code, has_more))
            .await
    }

    /// Asks the service that stands in, if there is one; `None` if it gives no answer.
    pub(crate) async fn other_service(
        &self,
        fallback: &Fallback,
        request: &Request,
        (arrival, code, has_more): (Arrival, Code, bool),
    ) -> Option<Encoded> {
        let other = {
            let table = self.table.load();
            let service = fallback.settings().service.as_ref()?;
            Arc::clone(table.service(service)?.choose())
        };
        let by = StandIn::Service;
        let asked = (arrival, has_more);
        self.other((&other, fallback), request, asked, StoodIn::new(code, by))
            .await
    }

    /// Tells whether another revision or service is there to stand in for a model, or a graph.
    pub(crate) fn has_others(
        &self,
        (model, fallback): (Option<&Arc<ServedModel>>, &Fallback),
    ) -> bool {
        let revision = fallback.revision();
        let service = fallback.settings().service.as_ref();
        revision.is_some_and(|other| model.is_none_or(|model| !Arc::ptr_eq(&other, model)))
            || service.is_some_and(|id| self.table.load().service(id).is_some())
    }

    /// Returns how long a model, or a graph, may take before something stands in for it. Where nothing is there that is to, the service deleted say,
    /// there is no such time: it would only end calls. A last good answer may be there for whoever gives a key.
    pub(crate) fn time_before_others(
        &self,
        (model, fallback): (Option<&Arc<ServedModel>>, &Fallback),
        is_key_given: bool,
    ) -> Option<Duration> {
        let settings = fallback.settings();
        let time = settings.timeout?;
        let is_bound = !settings.stands_in()
            || settings.value.is_some()
            || is_key_given
            || self.has_others((model, fallback));
        is_bound.then_some(time)
    }

    /// Asks a model that stands in for another one; `None` if it gives no answer either.
    ///
    /// It is asked as by a request of its own, within what the caller's time has left, and has no fallback then: two services may stand in for each other.
    /// It takes no longer than the model itself may, so that one that hangs leaves the time to give something else, where there may be something
    /// (`has_more`).
    async fn other(
        &self,
        (model, fallback): (&Arc<ServedModel>, &Fallback),
        request: &Request,
        (arrival, has_more): (Arrival, bool),
        stood_in: StoodIn,
    ) -> Option<Encoded> {
        let clock = self.clock.as_ref();
        let at = clock.monotonic();
        let left = arrival.time_left(at);
        let of_rest = match has_more {
            true => (left / 10).min(REST_MAX),
            false => Duration::ZERO,
        };
        let bounds = [fallback.settings().timeout, model.timeout()];
        let bounds = bounds.into_iter().flatten();
        let time = bounds.fold(left.saturating_sub(of_rest), Duration::min);
        if time.is_zero() {
            return None;
        }
        // Its own callers, and what a rollout judges it by, are others: it had no say in when, and whether, it is asked for this.
        let in_flight = model.statistics().start(self.worker, at, clock);
        let in_flight = in_flight.standing_in();
        let copy = OutputCopy::Nothing;
        let arrival = Arrival { at, time, copy };
        let asked = Request {
            stands_in: true,
            ..request.clone()
        };
        let result = match model.is_forwarded() {
            false => self.enter_and_run(model, asked, arrival).await,
            true => self.ask_program(model, asked, arrival).await,
        };
        let outcome = match &result {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.code),
        };
        in_flight.finish(request.codec.protocol(), outcome, clock.monotonic());
        let answer = result.ok()?;
        match model.is_forwarded() {
            false => marked(&request.codec, answer, stood_in),
            true => marked_of_program(&request.codec, answer, stood_in),
        }
    }

    /// Asks the model, which may take `own_time`, and again if that may help.
    async fn tried(
        &self,
        model: &Arc<ServedModel>,
        (fallback, deciding): (&Fallback, &Deciding),
        request: &Request,
        (arrival, own_time): (Arrival, Duration),
    ) -> Result<Encoded, Failure> {
        deciding.turns.deposit(self.clock.monotonic());
        let mut n_left = fallback.settings().retries;
        loop {
            let clock = self.clock.as_ref();
            let mut asked = deciding
                .turns
                .admit(clock)
                .map_err(|retry_after| rests(model, retry_after))?;
            let n_answered = deciding.n_answered.load(Ordering::Relaxed);
            let request = Request {
                begun: Some(Arc::clone(&asked.begun)),
                ..request.clone()
            };
            let result = self.enter_and_run(model, request, arrival).await;
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
            if !deciding.turns.withdraw(now) {
                return result;
            }
            n_left -= 1;
            fallback.count_retry();
        }
    }
}

#[cfg(test)]
mod tests;
