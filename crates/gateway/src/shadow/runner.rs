//! The thread of one shadow: asks it what was asked, compares, and publishes what that has come to. It alone has the comparisons, so that
//! nobody waits for it: it has the lowest priority, and may be at a comparison for long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code};
use coracle_protocol::{Call, DecodeContext, NoRegions};
use coracle_serving::{Chaos, Lease, ServedModel, ServiceId, ShadowKept, SharedTable};
use coracle_tensor::Tensor;
use tokio::runtime::Runtime;

use super::comparison::{Comparisons, Kept, Outcome, Pairing};
use super::report::Published;
use super::{Answered, Begun, Copied, Given, Inner, Pair, QUEUE_COPIES, graph, identity};
use crate::chaos::copy_in_chaos;
use crate::codec::Codec;
use crate::infer::{Failure, too_late};

/// How long the shadow may take to be loaded.
const ENTER_MAX: Duration = Duration::from_secs(10);
/// How often what has come of it is published while copies come.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);
/// How long the shadow may take to answer.
const RUN_MAX: Duration = Duration::from_secs(60);
/// The lowest priority there is: under load the thread gets what is left over.
const NICE: i32 = 19;

/// Starts the thread of a service's shadow; it ends with the pair.
pub(super) fn start(inner: &Arc<Inner>, of: ServiceId, shadow: ServiceId) -> Option<Arc<Pair>> {
    let (queue, copies) = sync_channel(QUEUE_COPIES);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .ok()?;
    let published = Arc::new(Published::default());
    let pair = Arc::new(Pair {
        of,
        shadow: shadow.clone(),
        queue,
        n_lost: AtomicU64::new(0),
        used_at: AtomicU64::new(inner.clock.monotonic().as_secs()),
        published: Arc::clone(&published),
    });
    let runner = Runner {
        published,
        shadow,
        table: Arc::clone(&inner.table),
        clock: Arc::clone(&inner.clock),
        elements_max: inner.elements_max,
        filled_bytes_max: inner.filled_bytes_max,
        chaos: inner.chaos.clone(),
        runtime,
    };
    let thread = std::thread::Builder::new().name("coracle-shadow".to_owned());
    thread.spawn(move || runner.run(&copies)).ok()?;
    Some(pair)
}

pub(super) struct Runner {
    published: Arc<Published>,
    shadow: ServiceId,
    table: Arc<SharedTable>,
    clock: Arc<dyn Clock>,
    elements_max: usize,
    filled_bytes_max: usize,
    chaos: Option<Chaos>,
    runtime: Runtime,
}

impl Runner {
    fn run(&self, copies: &Receiver<Copied>) {
        // Without the right to be nicer the thread is as good as others.
        let _nicer = rustix::process::setpriority_process(None, NICE);
        let mut comparisons = Comparisons::default();
        let (mut published_at, mut is_stale) = (Duration::ZERO, false);
        loop {
            let since = self.clock.monotonic().saturating_sub(published_at);
            let due_in = PUBLISH_EVERY.saturating_sub(since);
            let copied = match is_stale {
                true => copies.recv_timeout(due_in),
                false => copies.recv().map_err(RecvTimeoutError::from),
            };
            match copied {
                Ok(copied) => {
                    self.compare(&mut comparisons, &copied);
                    is_stale = true;
                    if !due_in.is_zero() {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.published.publish(&comparisons);
            (published_at, is_stale) = (self.clock.monotonic(), false);
        }
    }

    /// Asks the shadow, and compares.
    fn compare(&self, comparisons: &mut Comparisons, copied: &Copied) {
        // What a model does wrong ends in its own boundary; this one is for what we do wrong.
        let asked = catch_unwind(AssertUnwindSafe(|| self.ask(&copied.begun)));
        let (shadow, outcome) = asked.unwrap_or_else(|_panic| {
            let why = "the comparison failed; this is a defect of the server".to_owned();
            (String::new(), Err(why))
        });
        let pairing = Pairing {
            stable: copied.revision.clone(),
            shadow,
        };
        let kept = || kept(&copied.begun, self.clock.unix_time());
        match (&copied.answer, copied.begun.dialect) {
            (Ok(Given::Outputs(answered)), _) => {
                comparisons.push(pairing, Ok(answered), &outcome, kept);
            }
            (Ok(Given::Body(body, elapsed)), Some(dialect)) => {
                let answered = graph::answered(dialect, body, *elapsed);
                comparisons.push(pairing, Ok(&answered), &outcome, kept);
            }
            (Ok(Given::Body(..)), None) => {}
            (Err(code), _) => comparisons.push(pairing, Err(*code), &outcome, kept),
        }
    }

    /// Asks the shadow; returns which revision it was, and what it answered or why it did not.
    fn ask(&self, begun: &Begun) -> (String, Outcome) {
        let flow = self.table.load().flow(&self.shadow).map(Arc::clone);
        if let Some((flow, dialect)) = flow.zip(begun.dialect) {
            let answered = graph::lead(self, &flow, (begun, dialect));
            let answered = answered.map_err(|failure| failure.message);
            return (graph::identity(&flow), answered);
        }
        let Some(model) = self.model_of(&self.shadow) else {
            let why = format!("nothing is served as {}", self.shadow);
            return (String::new(), Err(why));
        };
        let answered = self.answer(&model, begun);
        (
            identity(&model),
            answered.map_err(|failure| failure.message),
        )
    }

    fn answer(&self, model: &ServedModel, begun: &Begun) -> Result<Box<Answered>, Failure> {
        self.run_aside(model, (&begun.codec, &begun.body), |ran| {
            let (call, outputs) = (ran.call, ran.outputs);
            Answered::of(ran.lease.model().signature(), call, outputs, ran.elapsed).ok_or_else(
                || {
                    let message = "the shadow's answer is too large to be compared";
                    Failure::new(Code::ResourceExhausted, message)
                },
            )
        })
    }

    /// Asks a model aside, and gives what came of it to `then`.
    pub(super) fn run_aside<T>(
        &self,
        model: &ServedModel,
        (codec, body): (&Codec, &Bytes),
        then: impl FnOnce(Ran<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // It is taken as the model's own time.
        let mut held = Duration::ZERO;
        if let Some(chaos) = self.chaos.as_ref().filter(|chaos| chaos.is_on()) {
            let (delay, struck) = copy_in_chaos(chaos, model);
            held = chaos.hold(model, delay.min(RUN_MAX));
            if held >= RUN_MAX {
                return Err(too_late(RUN_MAX));
            }
            struck?;
        }
        // The shadow may have users of its own, who are not to notice: neither in who runs or waits, nor in whether the model is well.
        let lease = self.runtime.block_on(model.enter_aside(ENTER_MAX))?;
        let started = self.clock.monotonic();
        let signature = lease.model().signature();
        let ctx = DecodeContext {
            signature,
            default_outputs: &signature.default_outputs,
            method: codec.method(),
            elements_max: self.elements_max,
            filled_bytes_max: self.filled_bytes_max,
            // What was in them may be something else by now.
            regions: &NoRegions,
        };
        let call = codec.decode(body, &ctx)?;
        let outputs = lease.run_within(&call.inputs, &call.outputs, RUN_MAX)?;
        let elapsed = self.clock.monotonic().saturating_sub(started) + held;
        then(Ran {
            lease: &lease,
            call: &call,
            outputs: &outputs,
            elapsed,
        })
    }

    /// Returns a service of the table as it is now.
    pub(super) fn model_of(&self, service: &ServiceId) -> Option<Arc<ServedModel>> {
        let table = self.table.load();
        let route = table.service(service);
        route.map(|route| Arc::clone(route.choose()))
    }

    pub(super) fn elements_max(&self) -> usize {
        self.elements_max
    }
}

/// What came of asking a model aside.
pub(super) struct Ran<'r> {
    pub(super) lease: &'r Lease,
    pub(super) call: &'r Call,
    pub(super) outputs: &'r [Tensor],
    /// How long decoding and running took.
    pub(super) elapsed: Duration,
}

/// Returns what is kept of a request if its answers are among those farthest apart.
fn kept(begun: &Begun, at: Duration) -> Kept {
    Kept {
        kept: begun.kept,
        request: match begun.kept {
            ShadowKept::Requests => Some(begun.body.clone()),
            ShadowKept::Answers | ShadowKept::Nothing => None,
        },
        trace: begun.trace.clone(),
        at,
    }
}
