//! Second attempts at who stands in for a model: where it has not answered in a while, another revision or service is asked, too, within the budget of retries,
//! and the first good answer counts.
//!
//! The model's call goes on where the other one was sooner, though nobody waits for it: what is counted is what the model did, and a canary that takes long is to
//! be seen to. It is cancelled where its caller goes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Code;
use coracle_serving::{Fallback, HedgeTo, ServedModel};
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
        ended.unwrap_or_else(|lost| {
            let message = format!(
                "the call was lost ({lost}); this is a defect of the server, not of the request"
            );
            Err(Failure::new(Code::Internal, message))
        })
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

    /// Returns who is asked, too, if there is somebody; a service's split is asked for that, and so not sooner than it must.
    fn hedge_to(
        &self,
        model: &Arc<ServedModel>,
        fallback: &Fallback,
    ) -> Option<(Arc<ServedModel>, StandIn)> {
        let settings = fallback.settings();
        let (other, by) = match settings.hedge_to? {
            HedgeTo::Revision => (fallback.revision()?, StandIn::Revision),
            HedgeTo::Service => {
                let table = self.table.load();
                let route = table.service(settings.service.as_ref()?)?;
                (Arc::clone(route.choose()), StandIn::Service)
            }
        };
        let is_other = !Arc::ptr_eq(&other, model);
        is_other.then_some((other, by))
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
        let mut own = Own(tokio::spawn({
            let (calls, model) = (self.clone(), Arc::clone(model));
            let (fallback, deciding) = (Arc::clone(fallback), Arc::clone(deciding));
            let request = request.clone();
            async move {
                let both = (fallback.as_ref(), deciding.as_ref());
                calls
                    .tried(&model, both, &request, (arrival, own_time))
                    .await
            }
        }));
        let alone = |result| Hedged {
            result,
            asked: None,
        };
        if let Ok(result) = tokio::time::timeout(after, own.ended()).await {
            return alone(result);
        }
        let Some((other, by)) = self.hedge_to(model, fallback) else {
            return alone(own.ended().await);
        };
        if !deciding.turns.withdraw(self.clock.monotonic()) {
            return alone(own.ended().await);
        }
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
