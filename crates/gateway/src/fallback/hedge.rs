//! Second attempts at who stands in for a model: where it has not answered in a while, another revision or service is asked, too, within the budget of retries,
//! and the first good answer counts.
//!
//! The model's call goes on where the other one was sooner, though nobody waits for it: what is counted is what the model did, and a canary that takes long is to
//! be seen to. It is cancelled where its caller goes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use coracle_base::Code;
use coracle_serving::{Fallback, HedgeTo, Route, ServedModel};
use tokio::task::JoinHandle;

use super::{Deciding, is_ours};
use crate::codec::{Encoded, StandIn, StoodIn};
use crate::infer::{Arrival, Calls, Failure, Request};

/// What a call with a second attempt came to.
pub(super) struct Hedged {
    pub(super) result: Result<Encoded, Failure>,
    /// Who was asked, and need not be asked again.
    pub(super) asked: Option<StandIn>,
}

/// A call to the model that goes on by itself; it ends where nobody wants it any more.
struct Own(JoinHandle<Result<Encoded, Failure>>);

impl Drop for Own {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Own {
    async fn ended(&mut self) -> Result<Encoded, Failure> {
        let ended = (&mut self.0).await;
        ended.unwrap_or_else(|_lost| Err(lost()))
    }
}

/// What a call that panicked comes to; what it said then is not its caller's.
fn lost() -> Failure {
    let message = "the call was lost; this is a defect of the server, not of the request";
    Failure::new(Code::Internal, message)
}

/// Returns what a call comes to, which has failed if it panics: as one that is a task of its own.
async fn caught(call: impl Future<Output = Result<Encoded, Failure>>) -> Result<Encoded, Failure> {
    let mut call = pin!(call);
    std::future::poll_fn(|ctx| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(ctx)));
        polled.unwrap_or_else(|_panic| Poll::Ready(Err(lost())))
    })
    .await
}

/// Who is asked, too.
enum Other {
    Revision(Arc<ServedModel>),
    Service(Arc<Route>),
}

impl Other {
    /// Returns its model. A service's split is asked for that, and so not sooner than it must.
    fn model(&self) -> (Arc<ServedModel>, StandIn) {
        match self {
            Self::Revision(model) => (Arc::clone(model), StandIn::Revision),
            Self::Service(route) => (Arc::clone(route.choose()), StandIn::Service),
        }
    }
}

impl Calls {
    /// Returns after which time another one is asked, if that is to be.
    fn hedge_after(
        &self,
        model: &ServedModel,
        (fallback, deciding): (&Fallback, &Deciding),
    ) -> Option<Duration> {
        let settings = fallback.settings();
        let after = settings.hedge_to.and(settings.hedge)?;
        let now = self.clock.monotonic();
        deciding.turns.hedge_after(model, after, now)
    }

    /// Returns who is asked, too, if there is somebody.
    fn hedge_to(&self, model: &Arc<ServedModel>, fallback: &Fallback) -> Option<Other> {
        let settings = fallback.settings();
        match settings.hedge_to? {
            HedgeTo::Revision => {
                let other = fallback.revision();
                let other = other.filter(|other| !Arc::ptr_eq(other, model));
                other.map(Other::Revision)
            }
            HedgeTo::Service => {
                let table = self.table.load();
                let route = table.service(settings.service.as_ref()?)?;
                Some(Other::Service(Arc::clone(route)))
            }
        }
    }

    /// Asks the model, and another one where that is to be and it has not answered by then.
    pub(super) async fn tried_or_hedged(
        &self,
        model: &Arc<ServedModel>,
        (fallback, deciding): (&Arc<Fallback>, &Arc<Deciding>),
        request: &Request,
        terms: (Arrival, Duration, Arrival),
    ) -> Hedged {
        let both = (fallback.as_ref(), deciding.as_ref());
        if let Some(after) = self.hedge_after(model, both) {
            let hedged = self.hedged(model, (fallback, deciding), request, terms, after);
            return Box::pin(hedged).await;
        }
        let (arrival, own_time, _of_caller) = terms;
        let tried = self.tried(model, both, request, (arrival, own_time));
        Hedged {
            result: tried.await,
            asked: None,
        }
    }

    /// Asks the model, and the other one where that has not answered by then.
    async fn hedged(
        &self,
        model: &Arc<ServedModel>,
        (fallback, deciding): (&Arc<Fallback>, &Arc<Deciding>),
        request: &Request,
        (arrival, own_time, of_caller): (Arrival, Duration, Arrival),
        after: Duration,
    ) -> Hedged {
        // It owns what it needs, as one that may have to go on by itself.
        let own = {
            let (calls, model) = (self.clone(), Arc::clone(model));
            let (fallback, deciding) = (Arc::clone(fallback), Arc::clone(deciding));
            let request = request.clone();
            async move {
                let both = (fallback.as_ref(), deciding.as_ref());
                calls
                    .tried(&model, both, &request, (arrival, own_time))
                    .await
            }
        };
        let mut own: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(caught(own));
        let alone = |result| Hedged {
            result,
            asked: None,
        };
        if let Ok(result) = tokio::time::timeout(after, &mut own).await {
            return alone(result);
        }
        let Some(other) = self.hedge_to(model, fallback) else {
            return alone(own.await);
        };
        if !deciding.turns.withdraw(self.clock.monotonic()) {
            return alone(own.await);
        }
        let (other, by) = other.model();
        if Arc::ptr_eq(&other, model) {
            return alone(own.await);
        }
        let mut own = Own(tokio::spawn(own));
        fallback.count_hedge();
        let stood_in = StoodIn {
            code: Code::DeadlineExceeded,
            by,
            was_sooner: true,
        };
        let has_more = fallback.settings().value.is_some() || request.key.is_some();
        let second = self.other((&other, fallback), request, (of_caller, has_more), stood_in);
        let mut second = pin!(second);
        let (result, other) = tokio::select! {
            result = own.ended() => match result {
                Err(failure) if is_ours(failure.code) => (Some(failure), second.await),
                result => return alone(result),
            },
            other = &mut second => (None, other),
        };
        let asked = Some(by);
        let result = match (result, other) {
            (failure, Some(mut answer)) => {
                fallback.count_hedge_won();
                match failure {
                    Some(failure) => {
                        answer.fallback = Some(StoodIn::new(failure.code, by));
                    }
                    None => self.count_later(model, request, arrival, own),
                }
                Ok(answer)
            }
            (Some(failure), None) => Err(failure),
            (None, None) => own.ended().await,
        };
        Hedged { result, asked }
    }

    /// Counts a call of the model's when it ends, which nobody waits for any more; whoever has it in flight hands it over.
    fn count_later(
        &self,
        model: &Arc<ServedModel>,
        request: &Request,
        arrival: Arrival,
        mut own: Own,
    ) {
        let call = model.take_over_call(self.worker, arrival.at, &self.clock);
        let protocol = request.codec.protocol();
        tokio::spawn(async move {
            let outcome = own.ended().await.map(drop).map_err(|failure| failure.code);
            call.finish(protocol, outcome);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_panics_has_failed_and_says_no_more() {
        let call = async { panic!("what only the log is to say") };
        let failure = caught(call).await.unwrap_err();
        assert_eq!(failure.code, Code::Internal);
        assert_eq!(failure.message, lost().message);
        let spawned = tokio::spawn(async { panic!("what only the log is to say") });
        let failure = Own(spawned).ended().await.unwrap_err();
        assert_eq!(failure.message, lost().message);
    }
}
