//! Predictions of programs whose service says what is done where they fail: a time, a breaker, further tries within a budget, second attempts, and what stands in.
//!
//! What is tried again is a request of which no process has done anything: no connection could be made, or the answer says so (503, or unavailable in
//! gRPC) before anything else of it has come. A prediction that a process began with may be what it died of.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code};
use coracle_policy::resilience::End;
use coracle_serving::{Fallback, FallbackSettings, HedgeAfter, ServedModel};
use http_body_util::BodyExt as _;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::Fault;
use super::body::BoundedBody;
use super::call::{Answered, Kind, NoAnswer, Outgoing};
use super::grpc::{not_grpc, outcome_in};
use super::keeping::Keeping;
use crate::codec::{Codec, Encoded};
use crate::connection::Handler;
use crate::encoding::off_loop;
use crate::fallback::{
    Asked, Came, LastGood, Turns, again, asked, end_of, is_ours, last_good, only_value, rests,
    undeclared,
};
use crate::grpc::is_grpc;
use crate::infer::{Arrival, Failure, OutputCopy, Request};
use crate::terms::Terms;
use crate::trace::Trace;

/// Larger requests are neither tried again nor made twice: a copy of them is not worth it.
pub(super) const COPY_BYTES_MAX: u64 = 1 << 20;

/// What decides about the calls to one program.
pub(super) struct Guard {
    turns: Turns,
    /// How many calls it has answered.
    n_answered: AtomicU64,
}

impl Guard {
    fn new(settings: &FallbackSettings) -> Self {
        Self {
            turns: Turns::new(settings),
            n_answered: AtomicU64::new(0),
        }
    }

    /// Returns after which time another process is asked, if that is known.
    pub(super) fn hedge_after(
        &self,
        model: &ServedModel,
        after: HedgeAfter,
        now: Duration,
    ) -> Option<Duration> {
        self.turns.hedge_after(model, after, now)
    }

    /// Says whether a request may be made once more, and counts it if so.
    pub(super) fn withdraw(&self, now: Duration) -> bool {
        self.turns.withdraw(now)
    }
}

/// A program whose predictions are guarded.
#[derive(Clone, Copy)]
pub(super) struct Guarded<'a> {
    pub(super) model: &'a Arc<ServedModel>,
    pub(super) fallback: &'a Fallback,
    pub(super) guard: &'a Guard,
}

/// The body of a prediction.
pub(super) enum Sent {
    /// It is here, and can be sent again.
    Whole(Bytes),
    /// It is passed on as it comes.
    Coming(BoundedBody),
}

impl Sent {
    /// Returns it once more, if it is here.
    fn copy(&self) -> Option<Bytes> {
        match self {
            Self::Whole(body) => Some(body.clone()),
            Self::Coming(_) => None,
        }
    }
}

/// A request as others read it, and what it asks for with its id.
type Known = (Request, Option<(Asked, Option<String>)>);

/// The last good answers of a service, and whose is meant.
struct Last<'h> {
    all: Arc<LastGood>,
    key: &'h HeaderValue,
    /// His.
    came: Option<Arc<Came>>,
}

impl<'h> Last<'h> {
    /// Returns those that are for a request with these headers, if there are to be some.
    fn of(fallback: &Fallback, headers: &'h HeaderMap, now: Duration) -> Option<Self> {
        let name = fallback.settings().key.as_deref()?;
        let key = only_value(headers, name)?;
        let all = last_good(fallback);
        let came = all.came(key, now);
        Some(Self { all, key, came })
    }

    /// Returns his if it answers what is asked now.
    fn answer_to(&self, (_request, asked): &Known) -> Option<Arc<Came>> {
        let (asked, _id) = asked.as_ref()?;
        let came = self.came.as_ref()?;
        (came.asked == *asked).then(|| Arc::clone(came))
    }

    /// Returns what keeps the answer to what was asked, which begins so.
    fn keeping<B>(
        &self,
        asked: Asked,
        head: (Kind, &Response<B>),
        clock: &Arc<dyn Clock>,
    ) -> Option<Box<Keeping>> {
        let place = (Arc::clone(&self.all), self.key.clone());
        Keeping::new(place, asked, head, Arc::clone(clock))
    }
}

/// What came of a request that was passed on.
pub(super) enum Passed {
    /// A process answers, and the answer is kept if it ends well.
    Answered(Answered, Option<Box<Keeping>>),
    /// Something else has answered in its place.
    StoodIn(Box<Encoded>),
}

impl Passed {
    /// Returns that of an answer which is not kept.
    pub(super) fn plain(answered: Answered) -> Self {
        Self::Answered(answered, None)
    }
}

/// How long a program may take.
#[derive(Clone, Copy)]
struct Times {
    /// When the call is over.
    deadline: Instant,
    /// How long it may take in all.
    time: Duration,
    /// How long the model may take, whatever its caller allows.
    own: Duration,
}

/// Returns what decides about the calls of a program with this fallback.
pub(super) fn guard(fallback: &Fallback) -> Option<Arc<Guard>> {
    fallback.state(Guard::new)
}

/// Returns whether a request of this kind has to be here as a whole before it is passed on; `n_bytes` is how many it is known to have at most.
pub(super) fn is_copied(
    settings: &FallbackSettings,
    has_codec: bool,
    n_bytes: Option<u64>,
) -> bool {
    let is_small = n_bytes.is_some_and(|n_bytes| n_bytes <= COPY_BYTES_MAX);
    let is_repeated = settings.retries > 0 || settings.hedge.is_some();
    has_codec && settings.stands_in() || is_small && is_repeated
}

/// Reads the body of a prediction to its end.
pub(super) async fn whole(body: BoundedBody, deadline: Instant) -> Result<Bytes, NoAnswer> {
    match tokio::time::timeout_at(deadline, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(fault)) => Err(NoAnswer::unread(&fault)),
        Err(_elapsed) => {
            let why = "the request's time was over before its body had come";
            Err(NoAnswer::Failed(Failure::new(Code::DeadlineExceeded, why)))
        }
    }
}

/// Returns the failure that the head of an answer tells.
fn failure_in<B>(model: &ServedModel, kind: Kind, response: &Response<B>) -> Option<Failure> {
    let told = |code| Failure::new(code, "the process said so");
    match kind {
        Kind::Http => super::outcome(response.status()).err().map(told),
        Kind::Grpc { .. } if !is_message(response) => Some(not_grpc(model, response.status())),
        Kind::Grpc { .. } => outcome_in(response.headers())?.err().map(told),
    }
}

/// Tells whether an answer is one in gRPC.
fn is_message<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::OK && is_grpc(response.headers())
}

/// Tells whether nothing was done about a request, as far as can be told, so that trying again is safe.
pub(super) fn is_untouched(kind: Kind, result: &Result<Answered, NoAnswer>) -> bool {
    match result {
        Ok((response, _lease)) => match kind {
            Kind::Http => response.status() == StatusCode::SERVICE_UNAVAILABLE,
            Kind::Grpc { .. } => {
                let outcome = outcome_in(response.headers());
                is_message(response) && outcome == Some(Err(Code::Unavailable))
            }
        },
        Err(NoAnswer::Fault(Fault::NotConnected(_))) => true,
        Err(NoAnswer::Failed(failure)) => failure.code == Code::Unavailable,
        Err(NoAnswer::Fault(_) | NoAnswer::Refused(_)) => false,
    }
}

impl NoAnswer {
    /// Returns it as one that says, if it was late, which time was not enough.
    fn told_within(self, model: &ServedModel, time: Duration) -> Self {
        match self {
            Self::Fault(Fault::Late) => Self::Failed(self.failure(model, time)),
            other => other,
        }
    }
}

impl Handler {
    /// Passes a prediction on to a program, and has something stand in where that fails. `codec` is how others read it, if they do; `read` returns it
    /// as they do.
    pub(super) async fn guarded(
        &self,
        guarded: Guarded<'_>,
        outgoing: &Outgoing<'_>,
        (sent, time): (Sent, Duration),
        (codec, read): (Option<Codec>, impl AsyncFnOnce(Bytes) -> Option<Bytes>),
    ) -> Result<Passed, NoAnswer> {
        let settings = guarded.fallback.settings();
        let arrival = Arrival {
            at: self.shared.clock.monotonic(),
            time,
            copy: OutputCopy::Nothing,
        };
        let codec = codec.filter(|_| settings.stands_in());
        let last = Last::of(guarded.fallback, &outgoing.head.headers, arrival.at);
        let times = self.times_of(guarded, time, last.is_some());
        // The time that was not enough is told, which may be less than the caller's.
        let late = |no_answer: NoAnswer| no_answer.told_within(guarded.model, times.time);
        let copy = sent.copy();
        let (is_keyed, is_read) = (last.is_some(), codec.is_some());
        // Where another one answers, nobody waits for a process that cannot be reached.
        let is_answered = settings.value.is_some() || self.has_others(guarded);
        outgoing.gives_up.set(is_read && is_answered);
        let reading = async {
            let (codec, body) = (codec?, read(copy?).await?);
            let request = request_of(&outgoing.head.headers, codec, body, arrival.at);
            let known = known_of(request, is_keyed.then_some(outgoing.target)).await;
            // An answer to another question stands in for nothing.
            let came = last.as_ref().and_then(|last| last.answer_to(&known));
            if came.is_some() {
                outgoing.gives_up.set(true);
            }
            Some((known, came))
        };
        let mut reading = pin!(reading);
        let tried = self.tried(guarded, outgoing, sent, times);
        let is_loaded = guarded.model.is_loaded();
        let has_came = last.as_ref().is_some_and(|last| last.came.is_some());
        let (mut result, known) = match is_keyed {
            false => (tried.await, None),
            true if is_read_first(is_answered, is_loaded, has_came) => {
                let known = reading.as_mut().await;
                (tried.await, known)
            }
            // What is to be kept of the answer is known by the time that it is there.
            true => tokio::join!(tried, reading.as_mut()),
        };
        let Some(failure) = failure_of(guarded.model, outgoing.kind, &result, times.time) else {
            let asked = known.and_then(|((_request, asked), _came)| asked);
            let answered = result.map_err(late)?;
            let keeping = last.as_ref().zip(asked).and_then(|(last, (asked, _id))| {
                let head = (outgoing.kind, &answered.0);
                last.keeping(asked, head, &self.shared.clock)
            });
            return Ok(Passed::Answered(answered, keeping));
        };
        let known = match is_keyed {
            true => known,
            false if is_ours(failure.code) => reading.await,
            false => None,
        };
        let Some(((request, asked), came)) = known.filter(|_| is_ours(failure.code)) else {
            return result.map(Passed::plain).map_err(late);
        };
        // Another revision needs a place of the same service.
        if let Ok((_response, lease)) = &mut result {
            lease.make_room();
        }
        let has_more = settings.value.is_some() || came.is_some();
        let wanted = (request, failure.code);
        let instead = self.instead(guarded, wanted, (arrival, has_more), came.zip(asked));
        match Box::pin(instead).await {
            Some(answer) => {
                guarded.fallback.count_fallback();
                Ok(Passed::StoodIn(Box::new(answer)))
            }
            None => result.map(Passed::plain).map_err(late),
        }
    }

    /// Tells whether another revision or service may answer in place of a program.
    fn has_others(&self, guarded: Guarded<'_>) -> bool {
        let others = (Some(guarded.model), guarded.fallback);
        self.calls.has_others(others)
    }

    /// Returns how long a program may take for a caller that waits for `time`.
    fn times_of(&self, guarded: Guarded<'_>, time: Duration, is_key_given: bool) -> Times {
        let of_service = guarded.model.timeout();
        let of_service = of_service.unwrap_or(self.calls.request_timeout);
        let of = (Some(guarded.model), guarded.fallback);
        let own = self.calls.time_before_others(of, is_key_given);
        let own = own.unwrap_or(of_service).min(of_service);
        let time = time.min(own);
        Times {
            deadline: Instant::now() + time,
            time,
            own,
        }
    }

    /// Returns what answers in place of a program: another revision, another service, what it said last as that came then, or the default prediction.
    async fn instead(
        &self,
        guarded: Guarded<'_>,
        (request, code): (Request, Code),
        (arrival, has_more): (Arrival, bool),
        last: Option<(Arc<Came>, (Asked, Option<String>))>,
    ) -> Option<Encoded> {
        let others = (guarded.model, guarded.fallback);
        let bounds = (arrival, code, has_more);
        let other = self.calls.others(others, &request, bounds).await;
        if other.is_some() {
            return other;
        }
        let value = guarded.fallback.settings().value.clone();
        let (model, elements_max) = (Arc::clone(guarded.model), self.calls.elements_max);
        let n_bytes = last.as_ref().map_or(0, |(came, _)| came.body.len());
        let n_bytes = n_bytes.max(request.body.len());
        let made = off_loop(n_bytes, move || {
            let Request { codec, body, .. } = &request;
            let again = last
                .and_then(|(came, (asked, id))| again(&came, codec, (&asked, id.as_deref()), code));
            again.or_else(|| undeclared(&value?, &model, (codec, body), (code, elements_max)))
        });
        made.await.flatten()
    }

    /// Asks a program, and again if that is safe and may help.
    async fn tried(
        &self,
        guarded: Guarded<'_>,
        outgoing: &Outgoing<'_>,
        sent: Sent,
        times: Times,
    ) -> Result<Answered, NoAnswer> {
        let Guarded {
            model,
            fallback,
            guard,
        } = guarded;
        let clock = self.shared.clock.as_ref();
        guard.turns.deposit(clock.monotonic());
        let (mut coming, copy) = match sent {
            Sent::Whole(body) => (None, Some(body)),
            Sent::Coming(body) => (Some(body), None),
        };
        let mut n_left = fallback.settings().retries;
        loop {
            let admitted = guard.turns.admit(clock);
            let mut asked =
                admitted.map_err(|retry_after| NoAnswer::Failed(rests(model, retry_after)))?;
            let n_answered = guard.n_answered.load(Ordering::Relaxed);
            let deadline = times.deadline;
            let result = match (&copy, coming.take()) {
                (Some(body), _) => {
                    outgoing.begun.replace(Some(Arc::clone(&asked.begun)));
                    self.pass_on_or_hedge(guarded, outgoing, body, deadline)
                        .await
                }
                (None, Some(mut body)) => {
                    // How long a caller takes to send it is not the process's time.
                    body.note_end(Arc::clone(&asked.begun), Arc::clone(&self.shared.clock));
                    self.pass_on(model, outgoing, body, deadline).await
                }
                (None, None) => return Err(NoAnswer::Fault(Fault::Late)),
            };
            let is_sent = copy.is_some() || asked.begun.get().is_some();
            let failure = failure_of(model, outgoing.kind, &result, times.time);
            asked.end = match (&failure, &result) {
                // Its caller did not send what it said.
                (_, Err(NoAnswer::Fault(Fault::Malformed(_)))) => End::GivenUp,
                (_, Err(NoAnswer::Fault(Fault::Late))) if !is_sent => End::GivenUp,
                (None, _) => End::Answered,
                (Some(failure), _) => {
                    let n_since = guard.n_answered.load(Ordering::Relaxed);
                    end_of(failure, times.own, n_since != n_answered)
                }
            };
            if asked.end == End::Answered {
                guard.n_answered.fetch_add(1, Ordering::Relaxed);
            }
            drop(asked);
            let may_help = copy.is_some() && is_untouched(outgoing.kind, &result);
            if !may_help || n_left == 0 || Instant::now() >= times.deadline {
                return result;
            }
            if !guard.withdraw(clock.monotonic()) {
                return result;
            }
            n_left -= 1;
            fallback.count_retry();
        }
    }
}

/// Tells whether a request is read before it is sent: only where it is what it asks for that decides whether a process is waited for, because there is none
/// to send it to, and nothing else answers. Others need not wait for that.
fn is_read_first(is_answered: bool, is_loaded: bool, has_came: bool) -> bool {
    has_came && !is_answered && !is_loaded
}

/// Returns the failure that a call came to, if it did; it was allowed to take `time`.
fn failure_of(
    model: &ServedModel,
    kind: Kind,
    result: &Result<Answered, NoAnswer>,
    time: Duration,
) -> Option<Failure> {
    match result {
        Ok((response, _lease)) => failure_in(model, kind, response),
        Err(no_answer) => Some(no_answer.failure(model, time)),
    }
}

/// Returns a request with what it asks for, if an answer to it may be kept, as that of so a target.
async fn known_of(request: Request, target: Option<&str>) -> Known {
    let asked = match target {
        Some(target) => asked_by(target, &request).await,
        None => None,
    };
    (request, asked)
}

/// Returns what a request asks for, and its id, as far as that can be told.
async fn asked_by(target: &str, request: &Request) -> Option<(Asked, Option<String>)> {
    let (codec, body) = (request.codec.clone(), request.body.clone());
    let target = target.to_owned();
    let read = off_loop(body.len(), move || asked(&target, &codec, &body));
    read.await.flatten()
}

/// Returns a request as those take it who stand in for a program.
fn request_of(headers: &HeaderMap, codec: Codec, body: Bytes, arrived: Duration) -> Request {
    let terms = Terms::of(headers).unwrap_or_default();
    Request {
        priority: terms.priority,
        trace: Trace::of(headers),
        ..Request::plain(codec, body, arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parsing what is asked takes time, which a process that is there is not to wait for.
    #[test]
    fn a_request_is_read_first_only_where_that_decides_about_waiting() {
        for (is_answered, is_loaded, has_came, expected) in [
            (false, false, true, true),
            (false, true, true, false),
            (true, false, true, false),
            (true, true, true, false),
            (false, false, false, false),
        ] {
            let found = is_read_first(is_answered, is_loaded, has_came);
            assert_eq!(found, expected, "{is_answered} {is_loaded} {has_came}");
        }
    }
}
