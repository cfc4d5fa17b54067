//! Calls that leave the event loop that read them: what waits for a thread or for others, and how the answer comes back.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coracle_base::Code;
use coracle_model::{RunError, RunTime, Wanted};
use coracle_protocol::Call;
use coracle_serving::batch::{self, Answer, Batch, Entry, Ran};
use coracle_serving::{
    Lease, LoadedModel, Placement, PoolCall, Priority, Refusal, ServedModel, Ticket, Writer,
};
use coracle_tensor::Tensor;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cached::Missing;
use crate::codec::{Codec, Encoded};
use crate::infer::{Arrival, Calls, Decoded, Failure, Request, too_late};

type Reply = Result<Encoded, Failure>;

/// When a call's run began on the monotonic clock, if it has, where that matters: it does to a model's breaker.
pub(crate) type Begun = Option<Arc<OnceLock<Duration>>>;

/// What is told of a call while it runs elsewhere, and what it is told.
pub(crate) struct Replies {
    pub(crate) reply: oneshot::Sender<Reply>,
    pub(crate) begun: Begun,
    pub(crate) wanted: Option<Wanted>,
    /// Whether all calls that it may run with are of its own event loop.
    pub(crate) is_joint: bool,
}

/// A call whose answer is made elsewhere.
struct Pending {
    calls: Calls,
    model: Arc<ServedModel>,
    codec: Codec,
    call: Call,
    arrival: Arrival,
    /// When a thread took it, and how long it took to decode.
    taken: Duration,
    decode: Duration,
    /// Where the answer is to be kept, if it is.
    missing: Option<Box<Missing>>,
    reply: oneshot::Sender<Reply>,
    begun: Begun,
    /// Whether it runs on its own event loop if it runs on one.
    is_joint: bool,
}

impl Answer for Pending {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn begin(&self) {
        if let Some(begun) = &self.begun {
            let _first = begun.set(self.calls.clock.monotonic());
        }
    }

    fn answer(
        self: Box<Self>,
        loaded: &LoadedModel,
        outputs: Result<Vec<Tensor>, RunError>,
        ran: &Ran,
    ) {
        let missing = self.missing;
        let encoded = outputs.map_err(Failure::from).and_then(|outputs| {
            if let Some(missing) = missing {
                self.calls.keep(&self.model, *missing, &outputs);
            }
            let mut times = self
                .calls
                .times(self.arrival, (self.taken, self.decode), ran);
            if self.is_joint && ran.placement == Placement::EventLoop {
                times.writer = Writer::EventLoop(self.calls.worker);
            }
            self.calls.encode(
                &self.model,
                loaded,
                &self.codec,
                (&self.call, &outputs),
                times,
            )
        });
        // A caller that has gone wants no answer.
        drop(self.reply.send(encoded));
    }

    fn refuse(self: Box<Self>, refusal: Refusal) {
        self.model.statistics().reject((&refusal).into());
        drop(self.reply.send(Err(refusal.into())));
    }
}

/// A call that is not decoded yet, and waits for a thread.
struct Raw {
    calls: Calls,
    model: Arc<ServedModel>,
    lease: Lease,
    request: Request,
    arrival: Arrival,
    reply: oneshot::Sender<Reply>,
    begun: Begun,
    wanted: Option<Wanted>,
    /// Where the caller is told of the batch that the call waits in, if calls wait for others.
    waiting: Option<oneshot::Sender<Waiting>>,
}

/// The number of a batch, and until when it waits.
type Waiting = (u64, Instant);

impl PoolCall for Raw {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn prepare(self: Box<Self>) -> Vec<Entry> {
        if self.reply.is_closed() {
            return Vec::new();
        }
        let Self {
            calls,
            model,
            lease,
            request,
            arrival,
            reply,
            begun,
            wanted,
            waiting,
        } = *self;
        match calls.decode(&model, &lease, &request, arrival) {
            Ok(mut decoded) => {
                if let Some(cache) = model.response_cache().filter(|cache| cache.is_on()) {
                    let kept = calls.look_up(&model, cache, &lease, &request.codec, &mut decoded);
                    if let Some(answer) = kept {
                        drop(reply.send(answer));
                        return Vec::new();
                    }
                }
                let time_left = decoded.arrival.time_left(calls.clock.monotonic());
                let replies = Replies {
                    reply,
                    begun,
                    wanted,
                    is_joint: false,
                };
                let entry = entry(calls, &model, lease, (request, decoded), replies);
                let Some(waiting) = waiting else {
                    return vec![entry];
                };
                let joined = model.batching().join(entry, time_left);
                let is_gone = match joined.waiting {
                    Some(batch) => waiting.send(batch).is_err(),
                    None => false,
                };
                if is_gone {
                    // Its caller left before it was there.
                    model.batching().leave();
                }
                let ready = joined.ready.into_iter();
                ready.flat_map(|Batch(entries)| entries).collect()
            }
            Err(failure) => {
                drop(reply.send(Err(failure)));
                Vec::new()
            }
        }
    }

    fn refuse(self: Box<Self>, refusal: Refusal) {
        self.model.statistics().reject((&refusal).into());
        drop(self.reply.send(Err(refusal.into())));
    }
}

/// Calls that are decoded and wait for a thread together.
struct Ready(Vec<Entry>);

impl PoolCall for Ready {
    fn is_abandoned(&self) -> bool {
        self.0.iter().all(|entry| entry.answer.is_abandoned())
    }

    fn prepare(self: Box<Self>) -> Vec<Entry> {
        self.0
    }

    fn refuse(self: Box<Self>, refusal: Refusal) {
        for entry in self.0 {
            entry.answer.refuse(refusal.clone());
        }
    }
}

/// Makes an entry of a decoded call.
pub(crate) fn entry(
    calls: Calls,
    model: &Arc<ServedModel>,
    lease: Lease,
    (request, decoded): (Request, Decoded),
    replies: Replies,
) -> Entry {
    let Replies {
        reply,
        begun,
        wanted,
        is_joint,
    } = replies;
    let Decoded {
        mut call,
        arrival,
        taken,
        decode,
        missing,
    } = decoded;
    Entry {
        lease,
        inputs: std::mem::take(&mut call.inputs),
        outputs: call.outputs.clone(),
        n_rows: call.n_rows,
        priority: request.priority(&call),
        until: arrival.until(),
        wanted,
        answer: Box::new(Pending {
            calls,
            model: Arc::clone(model),
            codec: request.codec,
            call,
            arrival,
            taken,
            decode,
            missing,
            reply,
            begun,
            is_joint,
        }),
    }
}

impl Calls {
    /// Answers a call whose decoding, of so many bytes, is left to the compute pool.
    pub(crate) async fn answer_on_pool(
        &self,
        model: &Arc<ServedModel>,
        lease: Lease,
        (request, n_bytes): (Request, usize),
        arrival: Arrival,
    ) -> Reply {
        // As in `answer_elsewhere`, before the channels.
        let _leaving = model.batching().waits().then(|| Leaving(model));
        let caller = Caller::of(&lease);
        let (reply, answer) = oneshot::channel();
        let begun = request.begun.clone();
        let (waiting, joined) = model.batching().waits().then(oneshot::channel).unzip();
        let time_left = arrival.time_left(self.clock.monotonic());
        let ticket = Ticket {
            priority: request.priority.unwrap_or_default(),
            expected: model.cost().decoding(n_bytes),
            n_bytes,
            time_left,
        };
        let raw = Raw {
            calls: self.clone(),
            model: Arc::clone(model),
            lease,
            request,
            arrival,
            reply,
            begun: begun.clone(),
            wanted: caller.wanted(),
            waiting,
        };
        self.pool.submit(model, Box::new(raw), ticket);
        let mut answer = std::pin::pin!(answered(answer, time_left, arrival, begun));
        if let Some(joined) = joined {
            tokio::select! {
                answer = answer.as_mut() => return answer,
                joined = joined => if let Ok(waiting) = joined {
                    return self.wait_for_others(model, answer, waiting, time_left).await;
                }
            }
        }
        answer.await
    }

    /// Answers a decoded call that is too costly for this event loop, or is to wait for others.
    pub(crate) async fn answer_elsewhere(
        &self,
        model: &Arc<ServedModel>,
        lease: Lease,
        request: Request,
        decoded: Decoded,
    ) -> Reply {
        // Before the channel, so that the caller's end of it is gone when those leave whose callers have gone.
        let _leaving = model.batching().waits().then(|| Leaving(model));
        let caller = Caller::of(&lease);
        let (reply, answer) = oneshot::channel();
        let arrival = decoded.arrival;
        let time_left = arrival.time_left(self.clock.monotonic());
        let begun = request.begun.clone();
        let replies = Replies {
            reply,
            begun: begun.clone(),
            wanted: caller.wanted(),
            is_joint: false,
        };
        let entry = entry(self.clone(), model, lease, (request, decoded), replies);
        if !model.batching().waits() {
            self.hand_over(model, vec![entry], time_left);
            return answered(answer, time_left, arrival, begun).await;
        }
        let joined = model.batching().join(entry, time_left);
        for Batch(entries) in joined.ready {
            self.run_batch(model, entries, time_left);
        }
        let answer = std::pin::pin!(answered(answer, time_left, arrival, begun));
        match joined.waiting {
            Some(waiting) => {
                self.wait_for_others(model, answer, waiting, time_left)
                    .await
            }
            None => answer.await,
        }
    }

    /// Waits for the answer of a call in a batch that waits for others; runs the batch once its time has come.
    async fn wait_for_others(
        &self,
        model: &Arc<ServedModel>,
        mut answer: Pin<&mut impl Future<Output = Reply>>,
        (number, until): Waiting,
        time_left: Duration,
    ) -> Reply {
        tokio::select! {
            answer = answer.as_mut() => return answer,
            () = tokio::time::sleep_until(until) => {}
        }
        if let Some(Batch(entries)) = model.batching().take(number) {
            self.run_batch(model, entries, time_left);
        }
        answer.await
    }

    /// Runs calls that have waited for each other: here if that is cheap, else on the compute pool.
    pub(crate) fn run_batch(
        &self,
        model: &Arc<ServedModel>,
        entries: Vec<Entry>,
        time_left: Duration,
    ) {
        let n_rows = entries.iter().map(|entry| entry.n_rows).sum();
        match model.cost().run_placement(n_rows) {
            Placement::EventLoop => {
                batch::run(model, entries, Placement::EventLoop, self.clock.as_ref());
            }
            Placement::ComputePool => self.hand_over(model, entries, time_left),
        }
    }

    fn hand_over(&self, model: &Arc<ServedModel>, entries: Vec<Entry>, time_left: Duration) {
        let n_rows = entries.iter().map(|entry| entry.n_rows).sum();
        let priorities = entries.iter().map(|entry| entry.priority);
        let inputs = entries.iter().flat_map(|entry| &entry.inputs);
        let ticket = Ticket {
            priority: priorities.min().unwrap_or(Priority::DEFAULT),
            expected: model.cost().running(n_rows),
            // Eight bytes an element is what most have.
            n_bytes: inputs.map(|input| 8 * input.values().len()).sum(),
            time_left,
        };
        self.pool.submit(model, Box::new(Ready(entries)), ticket);
    }
}

/// Lets a call leave those that wait for others when its caller goes.
struct Leaving<'m>(&'m ServedModel);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.batching().leave();
    }
}

/// Who waits for an answer that takes any time, and stops its run when they go.
pub(crate) struct Caller(Option<Wanted>);

impl Caller {
    /// Returns the caller of a model; one whose runs are short is not stopped.
    pub(crate) fn of(loaded: &LoadedModel) -> Self {
        let is_short = loaded.model().run_time() == RunTime::Short;
        Self((!is_short).then(Wanted::default))
    }

    pub(crate) fn wanted(&self) -> Option<Wanted> {
        self.0.clone()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(wanted) = &self.0 {
            wanted.leave();
        }
    }
}

/// Waits for an answer that is made elsewhere.
pub(crate) async fn answered(
    answer: oneshot::Receiver<Reply>,
    time_left: Duration,
    arrival: Arrival,
    begun: Begun,
) -> Reply {
    match tokio::time::timeout(time_left, answer).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_dropped)) => Err(Failure::new(
            Code::Internal,
            "the call failed; this is a defect of the server",
        )),
        Err(_elapsed) => {
            let has_begun = begun.is_some_and(|begun| begun.get().is_some());
            Err(too_late(arrival.time).begun(has_begun))
        }
    }
}
