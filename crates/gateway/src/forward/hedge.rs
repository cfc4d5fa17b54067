//! Second attempts: a request that a process has not answered in a while is sent to another one, too; the first good answer counts, and the other attempt is cancelled.
//!
//! Only where that is safe and cheap: predictions (`:predict` of V1, `infer` of V2, and those of gRPC that do not stream) whose body is small, within the
//! budget of retries, at a process that has room at once.

use std::net::SocketAddr;

use bytes::Bytes;
use coracle_base::Code;
use coracle_serving::ProcessLease;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::body::BoundedBody;
use super::call::{Answered, NoAnswer, Outgoing, send};
use super::grpc::outcome_in;
use super::guarded::{COPY_BYTES_MAX, Guarded, is_untouched};
use crate::connection::Handler;

/// Tells whether an answer is worth taking while another may come.
fn is_good(answer: &Result<Answered, NoAnswer>) -> bool {
    let head = answer.as_ref().map(|(response, _lease)| response);
    head.is_ok_and(is_good_head)
}

fn is_good_head<B>(response: &Response<B>) -> bool {
    // Over gRPC an answer that is nothing but a failure says so in its head.
    let fault = outcome_in(response.headers()).and_then(Result::err);
    let is_fault = fault.is_some_and(|code| !is_callers(code));
    let status = response.status();
    !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS && !is_fault
}

/// Tells whether a failure would be the same elsewhere.
fn is_callers(code: Code) -> bool {
    !matches!(
        code,
        Code::Internal | Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded
    )
}

impl Handler {
    /// Passes a prediction on, and to a second process if its service asks for that and the first takes long.
    pub(super) async fn pass_on_or_hedge(
        &self,
        guarded: Guarded<'_>,
        outgoing: &Outgoing<'_>,
        body: &Bytes,
        deadline: Instant,
    ) -> Result<Answered, NoAnswer> {
        let Guarded {
            model,
            fallback,
            guard,
        } = guarded;
        let clock = &self.shared.clock;
        let attempt_body = || BoundedBody::whole(body.clone());
        let is_small = body.len() as u64 <= COPY_BYTES_MAX;
        let after = fallback.settings().hedge.filter(|_| is_small);
        let after = after.and_then(|after| guard.hedge_after(model, after, clock.monotonic()));
        let mut first = Box::pin(self.pass_on(model, outgoing, attempt_body(), deadline));
        let Some(after) = after else {
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
        if !guard.withdraw(clock.monotonic()) {
            return first.await;
        }
        fallback.count_hedge();
        let mut second = Box::pin(self.second(guarded, outgoing, (body, deadline), (asked, lease)));
        // What is dropped is cancelled: its connection or stream is closed.
        let (answer, other) = tokio::select! {
            answer = &mut first => match is_good(&answer) {
                true => return answer,
                false => (answer, second.await),
            },
            other = &mut second => match is_good(&other) {
                true => {
                    fallback.count_hedge_won();
                    return other;
                }
                false => (first.await, other),
            },
        };
        // A failure of a process that began with the request says that it is not to be tried again.
        let (kind, is_won) = (outgoing.kind, !is_good(&answer) && is_good(&other));
        if is_won {
            fallback.count_hedge_won();
        }
        let is_first = is_good(&answer) || !is_won && !is_untouched(kind, &answer);
        if is_first { answer } else { other }
    }

    /// Puts a request to a process that has room, and to further ones where one began with nothing of it; not to the one that was asked first.
    async fn second(
        &self,
        guarded: Guarded<'_>,
        outgoing: &Outgoing<'_>,
        (body, deadline): (&Bytes, Instant),
        (asked, mut lease): (SocketAddr, ProcessLease),
    ) -> Result<Answered, NoAnswer> {
        let mut except = vec![asked];
        loop {
            let endpoints = lease.endpoints();
            except.push(endpoints.http);
            let place = outgoing.kind.place(endpoints);
            let mut body = Some(BoundedBody::whole(body.clone()));
            let sent = send(&self.pool, place, outgoing, &mut body, deadline).await;
            let mut answer = match sent {
                Ok(response) => Ok((response, lease)),
                Err(fault) => Err(NoAnswer::Fault(fault)),
            };
            if !is_untouched(outgoing.kind, &answer) {
                return answer;
            }
            if let Ok((_response, lease)) = &mut answer {
                lease.make_room();
            }
            let Some(next) = guarded.model.try_enter_process(&except) else {
                return answer;
            };
            // Each process is asked once; what answers that it has no time is within the budget of retries.
            if answer.is_ok() && !guarded.guard.withdraw(self.shared.clock.monotonic()) {
                return answer;
            }
            lease = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coracle_base::{Clock, SystemClock};
    use coracle_serving::{Fallback, HedgeAfter, Protocol, ServedModel};

    use super::*;
    use crate::forward::guarded;

    /// What was measured a moment ago is of what was asked for then.
    #[test]
    fn another_percentile_is_another_time_at_once() {
        let model = ServedModel::unloaded("a".to_owned(), 1);
        let clock = SystemClock::new();
        for index in 0..200 {
            let call = model.statistics().start(0, Duration::ZERO, &clock);
            let took = Duration::from_millis(if index % 10 == 0 { 1_000 } else { 1 });
            call.finish(Protocol::V1, Ok(()), took);
        }
        let guard = guarded::guard(&Fallback::default()).unwrap();
        let now = clock.monotonic();
        let after = |percent: u8| {
            let after = HedgeAfter::Percentile(percent);
            guard.hedge_after(&model, after, now).unwrap()
        };
        assert!(after(95) > Duration::from_millis(500));
        assert!(after(50) < Duration::from_millis(500));
        let set = HedgeAfter::Time(Duration::from_secs(9));
        assert_eq!(
            guard.hedge_after(&model, set, now),
            Some(Duration::from_secs(9))
        );
    }

    #[test]
    fn who_has_no_time_is_no_reason_to_give_up_the_other() {
        for (status, is_good) in [(200, true), (404, true), (429, false), (503, false)] {
            let head = Response::builder().status(status).body(()).unwrap();
            assert_eq!(is_good_head(&head), is_good, "{status}");
        }
        for (code, is_good) in [("0", true), ("3", true), ("8", false), ("14", false)] {
            let head = Response::builder().header("grpc-status", code);
            assert_eq!(is_good_head(&head.body(()).unwrap()), is_good, "{code}");
        }
    }
}
