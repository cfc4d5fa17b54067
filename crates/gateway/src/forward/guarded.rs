//! Predictions of programs whose service says what is done where they fail: a time, a breaker, further tries within a budget, second attempts, and what stands in.
//!
//! What is tried again is a request of which no process has done anything: no connection could be made, or the answer says so (503, or unavailable in
//! gRPC) before anything else of it has come. A prediction that a process began with may be what it died of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_policy::resilience::End;
use coracle_serving::{Fallback, FallbackSettings, HedgeAfter, ServedModel};
use http_body_util::BodyExt as _;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::Fault;
use super::body::BoundedBody;
use super::call::{Answered, Kind, NoAnswer, Outgoing};
use super::grpc::{not_grpc, outcome_in};
use crate::codec::{Codec, Encoded};
use crate::connection::Handler;
use crate::encoding::off_loop;
use crate::fallback::{Turns, end_of, is_ours, rests, undeclared};
use crate::grpc::is_grpc;
use crate::infer::{Arrival, Failure, OutputCopy, Request};
use crate::terms::Terms;
use crate::trace::Trace;

/// Larger requests are neither tried again nor made twice: a copy of them is not worth it.
pub(super) const COPY_BYTES_MAX: u64 = 1 << 20;
/// How often the time is measured anew after which a second process is asked.
const MEASURED_EVERY: Duration = Duration::from_secs(1);
/// Calls that must have ended before anything is known of how long they take.
const CALLS_MIN: u64 = 100;

/// What decides about the calls to one program.
pub(super) struct Guard {
    turns: Turns,
    /// How many calls it has answered.
    n_answered: AtomicU64,
    /// When it was measured last how long so many of 100 calls take, and what.
    measured: Mutex<Option<(Duration, u8, Option<Duration>)>>,
}

impl Guard {
    fn new(settings: &FallbackSettings) -> Self {
        Self {
            turns: Turns::new(settings),
            n_answered: AtomicU64::new(0),
            measured: Mutex::default(),
        }
    }

    /// Returns after which time another process is asked, if that is known.
    pub(super) fn hedge_after(
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

/// What came of a request that was passed on.
pub(super) enum Passed {
    /// A process answers.
    Answered(Answered),
    /// Something else has answered in its place.
    StoodIn(Box<Encoded>),
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
    has_codec && stands_in(settings) || is_small && is_repeated
}

/// Tells whether something stands in for a program: a last good answer would need to be read.
fn stands_in(settings: &FallbackSettings) -> bool {
    settings.stands_in_by_other() || settings.value.is_some()
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
        let of_service = guarded.model.timeout();
        let of_service = of_service.unwrap_or(self.calls.request_timeout);
        let own = settings.timeout.unwrap_or(of_service).min(of_service);
        let time = time.min(own);
        let times = Times {
            deadline: Instant::now() + time,
            time,
            own,
        };
        let codec = codec.filter(|_| stands_in(settings));
        // Where another one answers, nobody waits for a process that cannot be reached.
        let others = (guarded.model, guarded.fallback);
        let has_more = settings.value.is_some();
        let gives_up = codec.is_some() && (has_more || self.calls.has_others(others));
        outgoing.gives_up.set(gives_up);
        // The time that was not enough is told, which may be less than the caller's.
        let late = |no_answer: NoAnswer| match no_answer {
            NoAnswer::Fault(Fault::Late) => {
                NoAnswer::Failed(no_answer.failure(guarded.model, time))
            }
            other => other,
        };
        let copy = match &sent {
            Sent::Whole(body) => Some(body.clone()),
            Sent::Coming(_) => None,
        };
        let mut result = self.tried(guarded, outgoing, sent, times).await;
        let (Some(codec), Some(body)) = (codec, copy) else {
            return result.map(Passed::Answered).map_err(late);
        };
        let failure = failure_of(guarded.model, outgoing.kind, &result, time);
        let Some(code) = failure.map(|failure| failure.code).filter(|&c| is_ours(c)) else {
            return result.map(Passed::Answered).map_err(late);
        };
        // Another revision needs a place of the same service.
        if let Ok((_response, lease)) = &mut result {
            lease.make_room();
        }
        let answer = async {
            let body = read(body).await?;
            let request = request_of(&outgoing.head.headers, codec, body, arrival.at);
            let asked = (arrival, code, has_more);
            let other = self.calls.others(others, &request, asked).await;
            match (other, settings.value.clone()) {
                (None, Some(value)) => {
                    let (model, limits) =
                        (Arc::clone(guarded.model), (code, self.calls.elements_max));
                    let made = off_loop(request.body.len(), move || {
                        undeclared(&value, &model, (&request.codec, &request.body), limits)
                    });
                    made.await.flatten()
                }
                (other, _) => other,
            }
        };
        match Box::pin(answer).await {
            Some(answer) => {
                guarded.fallback.count_fallback();
                Ok(Passed::StoodIn(Box::new(answer)))
            }
            None => result.map(Passed::Answered).map_err(late),
        }
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

/// Returns a request as those take it who stand in for a program.
fn request_of(headers: &HeaderMap, codec: Codec, body: Bytes, arrived: Duration) -> Request {
    let terms = Terms::of(headers).unwrap_or_default();
    Request {
        codec,
        body,
        arrived,
        timeout: None,
        priority: terms.priority,
        trace: Trace::of(headers),
        slot: None,
        recording: None,
        key: None,
        is_watched: false,
        begun: None,
    }
}
