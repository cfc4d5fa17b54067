//! Second attempts: a request that a process has not answered in a while is sent to another one, too; the first good answer counts, and the other attempt is cancelled.
//!
//! Only where that is safe and cheap: predictions (`:predict` of V1, `infer` of V2, and those of gRPC that do not stream) whose body is small, within the
//! budget of retries, at a process that has room at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_base::Code;
use coracle_policy::resilience::{RetryBudget, RetryBudgetSpec};
use coracle_protocol::grpc::{FrameHead, PREFIX_BYTES};
use coracle_serving::{Fallback, HedgeAfter, ServedModel};
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Body as _;
use tokio::time::Instant;

use super::Fault;
use super::body::BoundedBody;
use super::call::{Answered, NoAnswer, Outgoing, send};
use super::grpc::outcome_in;
use crate::body::RequestBody;
use crate::connection::Handler;

/// Larger requests have one attempt: a copy of them is not worth it.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// How often the time is measured anew after which a second process is asked.
const MEASURED_EVERY: Duration = Duration::from_secs(1);
/// Calls that must have ended before anything is known of how long they take.
const CALLS_MIN: u64 = 100;

/// What decides about second attempts for one model.
struct Hedging {
    state: Mutex<State>,
}

struct State {
    budget: RetryBudget,
    /// When it was measured last, and what.
    measured: Option<(Duration, Option<Duration>)>,
}

impl Hedging {
    fn new() -> Self {
        Self {
            state: Mutex::new(State {
                budget: RetryBudget::new(RetryBudgetSpec::default()),
                measured: None,
            }),
        }
    }

    /// Takes a request; returns after which time another process is asked, if that is known.
    fn begin(&self, model: &ServedModel, after: HedgeAfter, now: Duration) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.budget.deposit(now);
        let percent = match after {
            HedgeAfter::Time(time) => return Some(time),
            HedgeAfter::Percentile(percent) => percent,
        };
        match state.measured {
            Some((at, time)) if now < at.saturating_add(MEASURED_EVERY) => time,
            _ => {
                let time = model.statistics().latency_percentile(percent, CALLS_MIN);
                state.measured = Some((now, time));
                time
            }
        }
    }

    fn withdraw(&self, now: Duration) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.budget.withdraw(now)
    }
}

/// Tells whether a request may be made twice: it is a prediction whose body is known to be small.
fn is_safe(outgoing: &Outgoing<'_>, body: &RequestBody) -> bool {
    let path = outgoing.target.split('?').next().unwrap_or_default();
    let is_prediction = path.ends_with(":predict") || path.ends_with("/infer");
    let is_small = body
        .size_hint()
        .upper()
        .is_some_and(|n_bytes| n_bytes <= BODY_BYTES_MAX);
    outgoing.head.method == Method::POST && is_prediction && is_small
}

/// The predictions of gRPC that do not stream.
const MESSAGES: [&str; 4] = [
    "/inference.GRPCInferenceService/ModelInfer",
    "/tensorflow.serving.PredictionService/Predict",
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.PredictionService/Regress",
];

/// Tells whether an answer is worth taking while another may come.
fn is_good(answer: &Result<Answered, NoAnswer>) -> bool {
    let is_good = |(response, _): &Answered| {
        // Over gRPC an answer that is nothing but a failure says so in its head.
        let fault = outcome_in(response.headers()).and_then(Result::err);
        let is_fault = fault.is_some_and(|code| !is_callers(code));
        !response.status().is_server_error() && !is_fault
    };
    answer.as_ref().is_ok_and(is_good)
}

/// Tells whether a failure would be the same elsewhere.
fn is_callers(code: Code) -> bool {
    !matches!(
        code,
        Code::Internal | Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded
    )
}

impl Handler {
    /// Passes a request on, and to a second process if its service asks for that and the first takes long.
    pub(super) async fn pass_on_or_hedge(
        &self,
        model: &ServedModel,
        outgoing: &Outgoing<'_>,
        body: RequestBody,
        deadline: Instant,
    ) -> Result<Answered, NoAnswer> {
        let limits = &self.shared.limits;
        let bounded = |body: RequestBody| {
            BoundedBody::new(body, limits.body_max.as_u64(), limits.body_timeout)
        };
        let fallback = match model.has_fallback() {
            true => model.fallback(),
            false => None,
        };
        let after = fallback.as_ref().and_then(|own| own.settings().hedge);
        let (Some(fallback), Some(after)) = (fallback, after) else {
            return self.pass_on(model, outgoing, bounded(body), deadline).await;
        };
        if !is_safe(outgoing, &body) {
            return self.pass_on(model, outgoing, bounded(body), deadline).await;
        }
        let hedged = self.hedged(model, (&fallback, after), outgoing, bounded(body), deadline);
        Box::pin(hedged).await
    }

    /// Returns when a second process is asked for a message over gRPC, if one is at all: it is a prediction that is known to be small.
    pub(super) async fn hedge_of_message(
        &self,
        model: &ServedModel,
        path: &str,
        body: &mut RequestBody,
        deadline: Instant,
    ) -> Option<(Arc<Fallback>, HedgeAfter)> {
        let fallback = model.fallback()?;
        let after = fallback
            .settings()
            .hedge
            .filter(|_| MESSAGES.contains(&path))?;
        let begun = tokio::time::timeout_at(deadline, body.look_ahead(PREFIX_BYTES)).await;
        let begun = begun.ok()?.ok()?;
        let most = usize::try_from(BODY_BYTES_MAX).ok()?;
        let is_small = FrameHead::read(*begun.first_chunk()?, most).is_ok();
        is_small.then_some((fallback, after))
    }

    /// Passes a message on that [`Handler::hedge_of_message`] found small, and to a second process if the first takes long.
    pub(super) async fn hedged_message(
        &self,
        model: &ServedModel,
        hedge: (&Fallback, HedgeAfter),
        outgoing: &Outgoing<'_>,
        body: RequestBody,
        deadline: Instant,
    ) -> Result<Answered, NoAnswer> {
        let most = BODY_BYTES_MAX.saturating_add(PREFIX_BYTES as u64);
        let body = BoundedBody::new(body, most, self.shared.limits.body_timeout);
        self.hedged(model, hedge, outgoing, body, deadline).await
    }

    async fn hedged(
        &self,
        model: &ServedModel,
        (fallback, after): (&Fallback, HedgeAfter),
        outgoing: &Outgoing<'_>,
        body: BoundedBody,
        deadline: Instant,
    ) -> Result<Answered, NoAnswer> {
        let body = match tokio::time::timeout_at(deadline, body.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(fault)) => return Err(NoAnswer::unread(&fault)),
            Err(_elapsed) => return Err(NoAnswer::Fault(Fault::Late)),
        };
        let attempt_body = || BoundedBody::whole(body.clone());
        let hedging = fallback.state(|_| Hedging::new());
        let clock = &self.shared.clock;
        let after = hedging
            .as_ref()
            .and_then(|hedging| hedging.begin(model, after, clock.monotonic()));
        let mut first = Box::pin(self.pass_on(model, outgoing, attempt_body(), deadline));
        let (Some(hedging), Some(after)) = (hedging, after) else {
            return first.await;
        };
        if let Ok(answer) = tokio::time::timeout(after, &mut first).await {
            return answer;
        }
        // One that waits for its turn would not be helped by another that waits.
        let Some(asked) = outgoing.asked.get() else {
            return first.await;
        };
        let Some(lease) = model.try_enter_process(&[asked]) else {
            return first.await;
        };
        if !hedging.withdraw(clock.monotonic()) {
            return first.await;
        }
        fallback.count_hedge();
        let mut second = Box::pin(async {
            let place = outgoing.kind.place(lease.endpoints());
            let sent = send(
                &self.pool,
                place,
                outgoing,
                &mut Some(attempt_body()),
                deadline,
            )
            .await;
            match sent {
                Ok(response) => Ok((response, lease)),
                Err(fault) => Err(NoAnswer::Fault(fault)),
            }
        });
        // What is dropped is cancelled: its connection or stream is closed.
        tokio::select! {
            answer = &mut first => match is_good(&answer) {
                true => answer,
                false => match second.await {
                    other if is_good(&other) => {
                        fallback.count_hedge_won();
                        other
                    }
                    _ => answer,
                },
            },
            other = &mut second => match is_good(&other) {
                true => {
                    fallback.count_hedge_won();
                    other
                }
                false => first.await,
            },
        }
    }
}
