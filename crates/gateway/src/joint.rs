//! Calls to one model that an event loop has at the same time: they run together there, and none of them waits for another to come.
//!
//! Requests that have arrived by the time the loop looks at its sockets are decoded one after another; only then does the first of
//! them go on, and runs all of them. What a run costs whatever its rows, such as entering ONNX Runtime, is then paid once.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use coracle_serving::batch::{self, Entry};
use coracle_serving::{Lease, Placement, ServedModel};
use tokio::sync::oneshot;

use crate::codec::Encoded;
use crate::infer::{Calls, Decoded, Failure, Request};
use crate::pooled::{Caller, Replies, answered, entry};

/// The calls of one event loop that are decoded and about to run, by model.
///
/// Nobody but the loop's own thread takes the lock; it is there because calls go to other threads, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct JointCalls(Arc<Mutex<Vec<(Arc<ServedModel>, Vec<Entry>)>>>);

impl JointCalls {
    fn put(&self, model: &Arc<ServedModel>, entry: Entry) {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match models
            .iter_mut()
            .find(|(other, _)| Arc::ptr_eq(other, model))
        {
            Some((_, entries)) => entries.push(entry),
            None => models.push((Arc::clone(model), vec![entry])),
        }
    }

    /// Takes as many calls as are expected to be over soon enough for an event loop; one is, anyhow.
    fn take(&self, model: &Arc<ServedModel>) -> Vec<Entry> {
        self.take_out(model, |entries| {
            let rows = entries.iter().map(|entry| entry.n_rows);
            let n_fitting = model.cost().joint_calls(rows);
            entries.drain(..n_fitting.min(entries.len())).collect()
        })
    }

    /// Takes calls out that nobody waits for any more.
    fn take_abandoned(&self, model: &Arc<ServedModel>) -> Vec<Entry> {
        self.take_out(model, |entries| {
            let abandoned = entries.extract_if(.., |entry| entry.answer.is_abandoned());
            abandoned.collect()
        })
    }

    fn take_out(
        &self,
        model: &Arc<ServedModel>,
        take: impl FnOnce(&mut Vec<Entry>) -> Vec<Entry>,
    ) -> Vec<Entry> {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = models
            .iter()
            .position(|(other, _)| Arc::ptr_eq(other, model));
        let Some(position) = position else {
            return Vec::new();
        };
        let taken = take(&mut models[position].1);
        if models[position].1.is_empty() {
            models.swap_remove(position);
        }
        taken
    }
}

/// Takes a call out when its caller goes: it holds a place of its model, and nobody else may come to run it.
struct Leaving<'c>(&'c JointCalls, &'c Arc<ServedModel>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        // Outside of the lock, for it may give back places.
        let abandoned = self.0.take_abandoned(self.1);
        drop(abandoned);
    }
}

impl Calls {
    /// Answers a call on this event loop, in one run with those to the same model that are there by now.
    ///
    /// Every call of them comes back here, and the first one runs all that are over soon together, the next one the rest: whichever callers
    /// go meanwhile, the others are answered.
    pub(crate) async fn answer_jointly(
        &self,
        model: &Arc<ServedModel>,
        lease: Lease,
        request: Request,
        decoded: Decoded,
    ) -> Result<Encoded, Failure> {
        // Before the channel, so that the caller's end of it is gone when those leave whose callers have gone.
        let _leaving = Leaving(&self.joint, model);
        let caller = Caller::of(&lease);
        let (reply, answer) = oneshot::channel();
        let arrival = decoded.arrival;
        let begun = request.begun.clone();
        let replies = Replies {
            reply,
            begun: begun.clone(),
            wanted: caller.wanted(),
            is_joint: true,
        };
        self.joint.put(
            model,
            entry(self.clone(), model, lease, (request, decoded), replies),
        );
        after_the_others().await;
        let entries = self.joint.take(model);
        if !entries.is_empty() {
            batch::run(model, entries, Placement::EventLoop, self.clock.as_ref());
        }
        let time_left = arrival.time_left(self.clock.monotonic());
        answered(answer, time_left, arrival, begun).await
    }
}

/// Lets the tasks of this event loop go first that can go on now.
async fn after_the_others() {
    let mut has_waited = false;
    poll_fn(|ctx| {
        if has_waited {
            return Poll::Ready(());
        }
        has_waited = true;
        // Behind those that the loop has woken already; unlike `yield_now`, without a look at the sockets in between.
        ctx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
