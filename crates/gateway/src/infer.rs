//! A call: decode, run, encode; on this event loop, or on the compute pool (`pooled`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code};
use coracle_model::RunError;
use coracle_protocol::{Call, DecodeContext, EncodeContext, RequestError, tfs};
use coracle_serving::batch::{Ran, is_joint};
use coracle_serving::experiment::Experiments;
use coracle_serving::flow::FlowLease;
use coracle_serving::{
    CallCost, Chaos, ComputePool, Inference, Lease, LoadedModel, Placement, Priority, Protocol,
    Refusal, Rejection, ServedModel, SharedTable, Writer,
};
use coracle_tensor::Tensor;
use hyper::header::HeaderValue;

use crate::alone::Occupancy;
use crate::cached::Missing;
use crate::codec::{Codec, Encoded};
use crate::forward::Programs;
use crate::joint::JointCalls;
use crate::payload::{self, PayloadLog, Recording};
pub(crate) use crate::pooled::Begun;
use crate::seldon;
use crate::shadow::{Answered, Shadows};
use crate::shared_memory::SharedMemory;
use crate::spans::{InferenceSlot, Inferred, Phases};
use crate::trace::Trace;

/// What calls need besides the request.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) table: Arc<SharedTable>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) elements_max: usize,
    /// The most bytes of a body, and of what a request has repeated.
    pub(crate) body_max: usize,
    pub(crate) request_timeout: Duration,
    /// Where costly calls run.
    pub(crate) pool: Arc<ComputePool>,
    /// The event loop, for its counters.
    pub(crate) worker: usize,
    /// Who uses it.
    pub(crate) occupancy: Arc<Occupancy>,
    /// The calls that this event loop puts together.
    pub(crate) joint: JointCalls,
    /// The shared memory that clients have registered.
    pub(crate) shared_memory: Arc<SharedMemory>,
    /// Where requests and answers are recorded, if they may be.
    pub(crate) payloads: Option<PayloadLog>,
    /// Where copies of requests go.
    pub(crate) shadows: Shadows,
    /// The books of experiments, if there can be some.
    pub(crate) experiments: Option<Experiments>,
    /// Faults on purpose, if there may be some.
    pub(crate) chaos: Option<Chaos>,
    /// The way to programs that stand in for models, if there is one.
    pub(crate) programs: Option<Programs>,
    /// Whether it is wanted where the time of each call went.
    pub(crate) traces: bool,
}

/// A request for an inference.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) codec: Codec,
    pub(crate) body: Bytes,
    /// When it was there.
    pub(crate) arrived: Duration,
    /// How long the caller waits, where that is less than what the server allows.
    pub(crate) timeout: Option<Duration>,
    /// How urgent it is, where its head says so.
    pub(crate) priority: Option<Priority>,
    /// The trace that it is part of.
    pub(crate) trace: Option<Trace>,
    /// Where it is told what became of it, if its trace is recorded.
    pub(crate) slot: Option<InferenceSlot>,
    /// Where it is recorded.
    pub(crate) recording: Option<Box<Recording>>,
    /// Whose last good answer may stand in for the model's.
    pub(crate) key: Option<Box<HeaderValue>>,
    /// Whether what is predicted is wanted by who asked for it, too.
    pub(crate) is_watched: bool,
    /// Where it is told when its run begins, if somebody wants to know.
    pub(crate) begun: Begun,
    /// The place of the graph that it is part of, which its run holds.
    pub(crate) of_flow: Option<Arc<FlowLease>>,
    /// Whether it is asked for another model, which may answer meanwhile.
    pub(crate) stands_in: bool,
}

impl Request {
    /// Returns one of whose caller no more is known than what he sent, and when that was there.
    pub(crate) fn plain(codec: Codec, body: Bytes, arrived: Duration) -> Self {
        Self {
            codec,
            body,
            arrived,
            timeout: None,
            priority: None,
            trace: None,
            slot: None,
            recording: None,
            key: None,
            is_watched: false,
            begun: None,
            of_flow: None,
            stands_in: false,
        }
    }

    /// Returns how urgent it is: the head of a request goes before its body.
    pub(crate) fn priority(&self, call: &Call) -> Priority {
        let of_body = || Priority::from_wire(call.priority);
        self.priority.unwrap_or_else(of_body)
    }

    /// Returns how many bytes reading it comes to: TensorFlow Serving's messages may have a few elements repeated.
    pub(crate) fn n_bytes(&self) -> usize {
        match self.codec {
            Codec::PredictMessage => tfs::predict_bytes(&self.body),
            _ => self.body.len(),
        }
    }

    /// Returns where it is decoded, and the bytes that tell so: its own where these are too many for the event loop, since all of it is looked at for others.
    pub(crate) fn decode_placement(&self, cost: &CallCost) -> (Placement, usize) {
        let own = self.body.len();
        if cost.decode_placement(own) == Placement::ComputePool {
            return (Placement::ComputePool, own);
        }
        let n_bytes = self.n_bytes();
        (cost.decode_placement(n_bytes), n_bytes)
    }

    /// Notes that its run begins now.
    #[inline]
    pub(crate) fn begin(&self, clock: &dyn Clock) {
        if let Some(begun) = &self.begun {
            let _first = begun.set(clock.monotonic());
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) blame: Blame,
}

/// What a failure says of the model, besides its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// What the code says.
    AsCoded,
    /// Nothing: too many ask, and it was not its turn.
    Crowd,
    /// The time was over that it was allowed.
    Late {
        /// How long that was.
        allowed: Duration,
        /// Whether its run had begun.
        has_begun: bool,
    },
}

impl Failure {
    /// Returns a failure that says of the model what its code says.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            blame: Blame::AsCoded,
        }
    }

    /// Returns it as that of a call that was allowed so much time, if it was late.
    pub(crate) fn within(self, allowed: Duration) -> Self {
        let blame = match self.blame {
            Blame::Late { has_begun, .. } => Blame::Late { allowed, has_begun },
            blame => blame,
        };
        Self { blame, ..self }
    }

    /// Returns it as that of a call whose run had begun, if it was late and `has_begun` says so.
    pub(crate) fn begun(self, has_begun: bool) -> Self {
        let blame = match self.blame {
            Blame::Late { allowed, .. } => Blame::Late { allowed, has_begun },
            blame => blame,
        };
        Self { blame, ..self }
    }
}

/// How much is copied of an answer's outputs, for those who compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputCopy {
    /// Nothing.
    Nothing,
    /// The first row of each: a rollout compares predictions.
    FirstRow,
    /// All: there is a shadow.
    Whole,
}

/// When a request came, how long it may take, and what is copied of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    pub(crate) time: Duration,
    pub(crate) copy: OutputCopy,
}

impl Arrival {
    /// Returns it with as much of the answer copied.
    pub(crate) fn copying(self, copy: OutputCopy) -> Self {
        Self { copy, ..self }
    }

    /// Returns when its time is over.
    pub(crate) fn until(self) -> Duration {
        self.at.saturating_add(self.time)
    }

    /// Returns how much of its time is left at `now`.
    pub(crate) fn time_left(self, now: Duration) -> Duration {
        self.time.saturating_sub(now.saturating_sub(self.at))
    }
}

/// A call that is decoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) call: Call,
    /// With the time that the body allows, too.
    pub(crate) arrival: Arrival,
    /// When a thread took it.
    pub(crate) taken: Duration,
    /// How long decoding took.
    pub(crate) decode: Duration,
    /// Where the answer is to be kept, if it is.
    pub(crate) missing: Option<Box<Missing>>,
}

/// Where the time of a call went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    arrived: Duration,
    taken: Duration,
    queue: Duration,
    decode: Duration,
    ran: Ran,
    /// The thread that counts them.
    pub(crate) writer: Writer,
    copy: OutputCopy,
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let blame = match refusal {
            Refusal::QueueFull | Refusal::BulkheadFull | Refusal::PoolFull => Blame::Crowd,
            Refusal::Deadline => Blame::Late {
                allowed: Duration::ZERO,
                has_begun: false,
            },
            Refusal::SetAside(_) | Refusal::Failed(_) | Refusal::Absent(_) | Refusal::Forwarded => {
                Blame::AsCoded
            }
        };
        Self {
            blame,
            ..Self::new(refusal.code(), refusal.message())
        }
    }
}

/// Takes what a shadow's answer is compared with; what is predicted stays there for who watches it.
fn to_compare(
    result: &mut Result<Encoded, Failure>,
    is_watched: bool,
) -> Result<Option<Box<Answered>>, Code> {
    match result {
        Ok(encoded) => match encoded.fallback {
            None => {
                let copied = encoded.answered.take();
                if is_watched {
                    encoded.answered = copied.as_ref().map(|copied| copied.first_rows());
                }
                Ok(copied.filter(|copied| copied.is_whole()))
            }
            // What it would have been compared with is not there, nor will it be.
            Some(stood_in) if stood_in.was_sooner => Ok(None),
            Some(stood_in) => Err(stood_in.code),
        },
        Err(failure) => Err(failure.code),
    }
}

impl Calls {
    /// Begins the record of a request, if it has one.
    pub(crate) fn recording(
        &self,
        model: &ServedModel,
        caller: payload::Caller<'_>,
    ) -> Option<Box<Recording>> {
        self.payloads.as_ref()?.recording(model, caller)
    }

    /// Answers `request` with `model`, once it may run.
    ///
    /// # Errors
    /// With the code of the failure.
    pub(crate) async fn answer(
        &self,
        model: &Arc<ServedModel>,
        mut request: Request,
    ) -> Result<Encoded, Failure> {
        let recorded = request.recording.take().map(|recording| {
            recording.request(&request.codec, &request.body);
            (recording, request.codec.clone())
        });
        let begun = match model.is_shadowed() {
            true => self.shadows.begin(model, &request),
            false => None,
        };
        let arrived = request.arrived;
        let clock = self.clock.as_ref();
        let in_flight = model.statistics().start(self.worker, arrived, clock);
        let (protocol, trace) = (request.codec.protocol(), request.trace);
        let slot = request.slot.take();
        let is_watched = request.is_watched;
        let time = model.timeout().unwrap_or(self.request_timeout);
        let time = request.timeout.map_or(time, |timeout| timeout.min(time));
        let arrival = Arrival {
            at: arrived,
            time,
            copy: match (&begun, is_watched) {
                (None, false) => OutputCopy::Nothing,
                (None, true) => OutputCopy::FirstRow,
                (Some(_), _) => OutputCopy::Whole,
            },
        };
        let mut result = match model.has_fallback() {
            false => self.enter_and_run(model, request, arrival).await,
            true => Box::pin(self.run_with_fallback(model, request, arrival)).await,
        };
        // What is counted is what the model did.
        let outcome = match &result {
            Ok(encoded) => encoded
                .fallback
                .map_or(Ok(()), |stood_in| Err(stood_in.code)),
            Err(failure) => Err(failure.code),
        };
        let ended = self.clock.monotonic();
        if let Some(trace) = trace.filter(Trace::is_sampled) {
            in_flight.exemplify(trace.id(), ended, self.clock.unix_time());
        }
        let stood_in = result.as_ref().ok().and_then(|encoded| encoded.fallback);
        match stood_in.is_some_and(|stood_in| stood_in.was_sooner) {
            false => in_flight.finish(protocol, outcome, ended),
            // It goes on, and is counted once it ends itself.
            true => in_flight.hand_over(),
        }
        if let Some(slot) = slot {
            tell(&slot, model, &mut result);
        }
        if protocol == Protocol::Seldon {
            result = Box::pin(seldon::routed(model, result)).await;
        }
        if let Some((recording, codec)) = recorded {
            recording.response(&codec, &result);
        }
        if let Some(begun) = begun {
            let answer = to_compare(&mut result, is_watched);
            self.shadows.finish(*begun, model, answer);
        }
        result
    }

    /// Answers a request once it may run.
    #[inline]
    pub(crate) async fn enter_and_run(
        &self,
        model: &Arc<ServedModel>,
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let lease = match model.try_enter() {
            Some(lease) => lease,
            None => Box::pin(self.wait_to_enter(model, request.priority, arrival)).await?,
        };
        let lease = match &request.of_flow {
            Some(of_flow) => lease.within(Arc::clone(of_flow)),
            None => lease,
        };
        if let Some(chaos) = &self.chaos
            && chaos.is_on()
        {
            let struck = self.run_in_chaos(chaos, (model, lease), request, arrival);
            return Box::pin(struck).await;
        }
        self.run(model, lease, request, arrival).await
    }

    /// Waits until a request may run; the time that it waits is of the time that it has.
    async fn wait_to_enter(
        &self,
        model: &ServedModel,
        priority: Option<Priority>,
        arrival: Arrival,
    ) -> Result<Lease, Failure> {
        let priority = priority.unwrap_or_default();
        // Some of it is gone where another try, or another service's model, took it.
        let time_left = arrival.time_left(self.clock.monotonic());
        if time_left.is_zero() {
            model.statistics().reject(Rejection::Deadline);
            return Err(too_late(arrival.time));
        }
        let entered = model.enter_as(priority, time_left).await;
        let entered = entered.inspect_err(|refusal| model.statistics().reject(refusal.into()));
        entered.map_err(|refusal| Failure::from(refusal).within(arrival.time))
    }

    /// Answers a request that has its places.
    pub(crate) async fn run(
        &self,
        model: &Arc<ServedModel>,
        lease: Lease,
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let (placement, n_bytes) = request.decode_placement(model.cost());
        if placement == Placement::ComputePool {
            let answer = self.answer_on_pool(model, lease, (request, n_bytes), arrival);
            return Box::pin(answer).await;
        }
        let mut decoded = self.decode(model, &lease, &request, arrival)?;
        if let Some(cache) = model.response_cache().filter(|cache| cache.is_on()) {
            let kept = self.look_up(model, cache, &lease, &request.codec, &mut decoded);
            if let Some(answer) = kept {
                return answer;
            }
        }
        let is_cheap = model.cost().run_placement(decoded.call.n_rows) == Placement::EventLoop;
        if is_cheap && !model.batching().waits() {
            if is_joint(model, &lease, decoded.call.n_rows) {
                return Box::pin(self.answer_jointly(model, lease, request, decoded)).await;
            }
            request.begin(self.clock.as_ref());
            return self.run_here(model, &lease, &request.codec, decoded);
        }
        let of_run = (
            decoded.call.n_rows,
            decoded.arrival.time_left(self.clock.monotonic()),
        );
        // Many rows may be run in parts, on several threads.
        if !model.batching().waits()
            && (of_run.0 <= 1 || !lease.model().stays_on_its_thread())
            && let Some(_running) = self.occupancy.begin(&self.pool, model, &request, of_run)
        {
            request.begin(self.clock.as_ref());
            return self.run_here(model, &lease, &request.codec, decoded);
        }
        let answer = self.answer_elsewhere(model, lease, request, decoded);
        Box::pin(answer).await
    }

    /// Decodes a request, unless its time is over.
    pub(crate) fn decode(
        &self,
        model: &ServedModel,
        lease: &LoadedModel,
        request: &Request,
        arrival: Arrival,
    ) -> Result<Decoded, Failure> {
        let taken = self.clock.monotonic();
        if arrival.time_left(taken).is_zero() {
            model.statistics().reject(Rejection::Deadline);
            return Err(too_late(arrival.time));
        }
        let signature = lease.model().signature();
        let ctx = DecodeContext {
            signature,
            default_outputs: &signature.default_outputs,
            method: request.codec.method(),
            elements_max: self.elements_max,
            filled_bytes_max: self.body_max,
            regions: self.shared_memory.as_ref(),
        };
        let call = request.codec.decode(&request.body, &ctx)?;
        let decode = self.clock.monotonic().saturating_sub(taken);
        model.cost().record_decode(request.n_bytes(), decode);
        let time = call
            .timeout
            .map_or(arrival.time, |time| time.min(arrival.time));
        let arrival = Arrival { time, ..arrival };
        if arrival.time_left(taken).is_zero() {
            return Err(too_late(time));
        }
        Ok(Decoded {
            call,
            arrival,
            taken,
            decode,
            missing: None,
        })
    }

    /// Runs and encodes a call on this event loop.
    fn run_here(
        &self,
        model: &ServedModel,
        lease: &Lease,
        codec: &Codec,
        decoded: Decoded,
    ) -> Result<Encoded, Failure> {
        let Decoded {
            call,
            arrival,
            taken,
            decode,
            missing,
        } = decoded;
        let started = taken + decode;
        let time = arrival.time_left(started);
        let outputs = model.run(lease, &call.inputs, &call.outputs, time)?;
        let elapsed = self.clock.monotonic().saturating_sub(started);
        model.cost().record_run(call.n_rows, elapsed);
        let ran = Ran {
            started,
            elapsed,
            share: elapsed,
            n_rows: call.n_rows,
            joined: false,
            placement: Placement::EventLoop,
        };
        if let Some(missing) = missing {
            self.keep(model, *missing, &outputs);
        }
        let times = Times {
            writer: Writer::EventLoop(self.worker),
            ..self.times(arrival, (taken, decode), &ran)
        };
        self.encode(model, lease, codec, (&call, &outputs), times)
    }

    /// Returns where the time of a call went that a thread took at `taken` and decoded in `decode`.
    pub(crate) fn times(
        &self,
        arrival: Arrival,
        (taken, decode): (Duration, Duration),
        ran: &Ran,
    ) -> Times {
        let waited_for_run = ran.started.saturating_sub(taken + decode);
        Times {
            arrived: arrival.at,
            taken,
            queue: taken.saturating_sub(arrival.at) + waited_for_run,
            decode,
            ran: *ran,
            // Where calls wait for others, a batch runs on the event loop of any of them.
            writer: Writer::Other,
            copy: arrival.copy,
        }
    }

    /// Encodes the answer of a call that has run, and counts it.
    pub(crate) fn encode(
        &self,
        model: &ServedModel,
        loaded: &LoadedModel,
        codec: &Codec,
        (call, outputs): (&Call, &[Tensor]),
        times: Times,
    ) -> Result<Encoded, Failure> {
        let Times {
            arrived,
            taken,
            queue,
            decode,
            ran,
            writer,
            copy,
        } = times;
        let statistics = model.statistics();
        if !ran.joined {
            statistics.inferences().ran(writer, ran.n_rows);
        }
        let ctx = EncodeContext {
            model_name: model.name(),
            model_version: model.version(),
            signature: loaded.model().signature(),
            regions: self.shared_memory.as_ref(),
        };
        let started = match ran.placement {
            // Nothing happens between running and encoding.
            Placement::EventLoop if !ran.joined => ran.started + ran.elapsed,
            _ => self.clock.monotonic(),
        };
        let mut encoded = codec.encode(&ctx, call, outputs)?;
        let ended = self.clock.monotonic();
        let encode = ended.saturating_sub(started);
        if copy != OutputCopy::Nothing {
            let elapsed = decode + ran.elapsed;
            encoded.answered = Answered::copied(copy, ctx.signature, (call, outputs), elapsed);
        }
        encoded.phases = self.traces.then(|| {
            Box::new(Phases {
                arrived,
                taken,
                decode,
                run_started: ran.started,
                run: ran.elapsed,
                encode_started: started,
                encode,
                n_rows: call.n_rows,
            })
        });
        statistics.inferences().add(
            writer,
            Inference {
                n_rows: call.n_rows,
                queue,
                decode,
                run: ran.elapsed,
                encode,
                ended,
                pooled: ran.placement == Placement::ComputePool,
                joined: ran.joined,
            },
        );
        model.cost().record_encode(call.n_rows, encode);
        statistics.compute(writer, decode + ran.share + encode);
        Ok(encoded)
    }
}

/// Tells who wants to know which model answered, and where its time went.
fn tell(slot: &InferenceSlot, model: &ServedModel, result: &mut Result<Encoded, Failure>) {
    let phases = result.as_mut().ok().map(|encoded| encoded.phases.take());
    slot.tell(Inferred {
        model: model.name().to_owned(),
        version: model.version().to_owned(),
        phases: phases.flatten(),
    });
}

/// Returns the failure of a call that took longer than it may, and had not begun to run.
pub(crate) fn too_late(timeout: Duration) -> Failure {
    let message = format!("no answer within {}", humantime::format_duration(timeout));
    Failure {
        blame: Blame::Late {
            allowed: timeout,
            has_begun: false,
        },
        ..Failure::new(Code::DeadlineExceeded, message)
    }
}

/// Returns KServe's words for a model that is not there.
pub(crate) fn unknown_model(name: &str) -> String {
    let shown: String = name.chars().take(128).collect();
    format!("Model with name {shown} does not exist.")
}

#[cfg(test)]
mod tests {
    use coracle_protocol::grpc::Message;
    use coracle_protocol::grpc::tensorflow::{Dim, PredictRequest, TensorProto, TensorShapeProto};

    use super::*;

    /// An input that is to have so many doubles.
    fn predict_message(n_elements: i64, content: Vec<u8>) -> Bytes {
        let dim = Dim {
            size: n_elements,
            ..Dim::default()
        };
        let tensor = TensorProto {
            dtype: 2,
            tensor_shape: Some(TensorShapeProto {
                dim: vec![dim],
                unknown_rank: false,
            }),
            tensor_content: content.into(),
            ..TensorProto::default()
        };
        let request = PredictRequest {
            inputs: [("X".to_owned(), tensor)].into(),
            ..PredictRequest::default()
        };
        request.encode_to_vec().into()
    }

    #[test]
    fn messages_too_long_for_the_event_loop_are_not_looked_at_on_it() {
        let check = |message: Bytes, expected: (Placement, usize)| {
            let request = Request::plain(Codec::PredictMessage, message, Duration::ZERO);
            // Nothing is measured: up to 32 KiB are decoded on the event loop.
            assert_eq!(request.decode_placement(&CallCost::new()), expected);
        };
        let short = predict_message(1, vec![0; 8]);
        check(short.clone(), (Placement::EventLoop, short.len()));
        let filled = predict_message(100, vec![0; 8]);
        check(filled, (Placement::EventLoop, 800));
        let filled = predict_message(10_000, vec![0; 8]);
        check(filled, (Placement::ComputePool, 80_000));
        let long = predict_message(10_000, vec![0; 33 << 10]);
        check(long.clone(), (Placement::ComputePool, long.len()));
    }
}
