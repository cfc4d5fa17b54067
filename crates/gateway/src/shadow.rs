//! Shadows: copies of a service's requests for another one, whose answers are compared with those that were given and go to nobody.
//!
//! A request never waits for its copy: copies go into a queue that is bounded by number and bytes, and are lost, and counted, where there
//! is no room. Each service with a shadow has a thread of the lowest priority (`runner`), which asks the shadow and compares (`comparison`):
//! a shadow that hangs, panics or is slow keeps up nobody but itself. What it comes to is told at `/shadow` (`report`, `page`) and
//! among the metrics. Start at [`Shadows::begin`].

mod classes;
mod column;
mod comparison;
mod first_row;
mod graph;
mod latencies;
mod page;
mod report;
mod runner;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code};
use coracle_model::Signature;
use coracle_protocol::Call;
use coracle_protocol::flow::Dialect;
use coracle_serving::flow::Flow;
use coracle_serving::{
    Chaos, ModelTable, RouteTarget, SHADOWS_MAX, ServedModel, ServiceId, ShadowFigures, ShadowKept,
    ShadowTap, SharedTable,
};
use coracle_tensor::{Tensor, Values};
use hyper::StatusCode;

use self::report::{Published, Report};
use crate::codec::Codec;
use crate::connection::{Asked, Handler};
use crate::infer::{OutputCopy, Request};
use crate::limits::Limits;
use crate::respond::Reply;
use crate::route::ShadowForm;
use crate::scope::Scope;
use crate::trace::Trace;

/// The most copies that wait for one shadow.
const QUEUE_COPIES: usize = 1_024;
/// The most bytes that wait for all shadows.
const QUEUE_BYTES: u64 = 64 << 20;
/// How long a comparison is kept after its last copy, once its service is gone or has another shadow or none.
const KEPT_FOR: Duration = Duration::from_secs(60 * 60);
/// The bytes that a copy is taken to need besides its request and answer.
const COPY_BYTES: u64 = 512;
/// Answers of more elements are not copied: that would take noticeable time of those who wait.
pub(crate) const ELEMENTS_MAX: usize = 1 << 18;
/// Nor are answers of more bytes, of which texts may have many.
const BYTES_MAX: usize = 4 << 20;
/// The most bytes of a request that is copied; larger ones have memory of their own, which is shared.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// Copies of requests, and what comparing their answers has come to.
#[derive(Clone, Debug)]
pub(crate) struct Shadows {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Arc<SharedTable>,
    clock: Arc<dyn Clock>,
    elements_max: usize,
    filled_bytes_max: usize,
    /// Faults on purpose, if there may be some.
    chaos: Option<Chaos>,
    held: Arc<AtomicU64>,
    pairs: RwLock<BTreeMap<ServiceId, Arc<Pair>>>,
}

/// A service and its shadow.
#[derive(Debug)]
struct Pair {
    of: ServiceId,
    shadow: ServiceId,
    queue: SyncSender<Copied>,
    n_lost: AtomicU64,
    /// When its last request came, in seconds on the monotonic clock.
    used_at: AtomicU64,
    published: Arc<Published>,
}

impl Pair {
    /// Notes a request at `now`. Once a second at most, so that event loops write to nothing that others read.
    fn note_use(&self, now: Duration) {
        if self.used_at.load(Ordering::Relaxed) != now.as_secs() {
            self.used_at.store(now.as_secs(), Ordering::Relaxed);
        }
    }

    /// Tells whether requests are still copied.
    fn is_wanted(&self, table: &ModelTable) -> bool {
        has_tap(table, &self.of, |tap| tap.shadow() == self.shadow)
    }
}

/// Tells whether a service, or a graph, has such a shadow.
fn has_tap(table: &ModelTable, of: &ServiceId, is_it: impl Fn(&ShadowTap) -> bool) -> bool {
    let flow = table.flow(of).and_then(|flow| flow.shadow());
    if flow.is_some_and(|tap| is_it(tap)) {
        return true;
    }
    let is_tapped = |target: &RouteTarget| target.model.shadow().is_some_and(|tap| is_it(&tap));
    let route = table.service(of);
    route.is_some_and(|route| route.targets().iter().any(is_tapped))
}

/// What a service's answer was made of, for comparing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answered {
    /// The outputs with their names.
    outputs: Vec<(String, Tensor)>,
    /// How long decoding and running took.
    elapsed: Duration,
    /// Whether it is all of them, or first rows only.
    is_whole: bool,
}

impl Answered {
    /// Copies as much of the outputs of a call as is wanted; first rows where all of them would be too many or too large, which are predictions all the same.
    pub(crate) fn copied(
        copy: OutputCopy,
        signature: &Signature,
        (call, outputs): (&Call, &[Tensor]),
        elapsed: Duration,
    ) -> Option<Box<Self>> {
        match copy {
            OutputCopy::Nothing => None,
            OutputCopy::FirstRow => Some(first_row::of_call(signature, call, outputs, elapsed)),
            OutputCopy::Whole => Some(
                Self::of(signature, call, outputs, elapsed)
                    .unwrap_or_else(|| first_row::of_call(signature, call, outputs, elapsed)),
            ),
        }
    }

    /// Copies the outputs of a call; `None` if they are too many, or too large.
    pub(crate) fn of(
        signature: &Signature,
        call: &Call,
        outputs: &[Tensor],
        elapsed: Duration,
    ) -> Option<Box<Self>> {
        let n_elements: usize = outputs.iter().map(|output| output.values().len()).sum();
        if n_elements > ELEMENTS_MAX || n_bytes(outputs.iter()) > BYTES_MAX {
            return None;
        }
        let names = call.outputs.iter().map(|index| {
            let spec = signature.outputs.get(*index);
            spec.map(|spec| spec.name.clone()).unwrap_or_default()
        });
        Some(Box::new(Self {
            outputs: names.zip(outputs.iter().cloned()).collect(),
            elapsed,
            is_whole: true,
        }))
    }

    /// Copies the first row of each output.
    pub(crate) fn first_rows(&self) -> Box<Self> {
        first_row::of_whole(self)
    }

    /// Returns outputs with their names as an answer.
    pub(crate) fn of_outputs(outputs: Vec<(String, Tensor)>, elapsed: Duration) -> Self {
        Self {
            is_whole: n_bytes(outputs.iter().map(|(_, output)| output)) <= BYTES_MAX,
            outputs,
            elapsed,
        }
    }

    /// Adds what a model that is slow on purpose took.
    pub(crate) fn add_elapsed(&mut self, delay: Duration) {
        self.elapsed += delay;
    }

    /// Tells whether all of an answer was copied.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Returns the outputs with their names.
    pub(crate) fn outputs(&self) -> &[(String, Tensor)] {
        &self.outputs
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        let n_bytes = n_bytes(self.outputs.iter().map(|(_, output)| output));
        u64::try_from(n_bytes).unwrap_or(u64::MAX)
    }
}

/// Returns the bytes that outputs hold: eight an element, and those of texts.
fn n_bytes<'t>(outputs: impl Iterator<Item = &'t Tensor>) -> usize {
    let each = outputs.map(|output| match output.values() {
        Values::Bytes(texts) => texts.memory_bytes(),
        numbers => numbers.len().saturating_mul(8),
    });
    each.fold(0, usize::saturating_add)
}

/// A request that is to be copied, on its way to its answer.
#[derive(Debug)]
pub(crate) struct Begun {
    pair: Arc<Pair>,
    kept: ShadowKept,
    codec: Codec,
    /// How the models of a graph are asked.
    dialect: Option<Dialect>,
    body: Bytes,
    trace: Option<String>,
}

/// A request that may have to be copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'s> {
    pub(crate) codec: &'s Codec,
    /// How the models of a graph are asked.
    pub(crate) dialect: Option<Dialect>,
    pub(crate) body: &'s Bytes,
    pub(crate) arrived: Duration,
    pub(crate) trace: Option<&'s Trace>,
}

/// A request with what became of it, on its way to the shadow.
#[derive(Debug)]
struct Copied {
    begun: Begun,
    /// The revision that answered.
    revision: String,
    /// What it answered, or how it failed.
    answer: Result<Given, Code>,
    _room: Room,
}

/// An answer that was given.
#[derive(Debug)]
enum Given {
    /// A model's.
    Outputs(Box<Answered>),
    /// A graph's, as it went out, and how long that took.
    Body(Bytes, Duration),
}

impl Given {
    fn n_bytes(&self) -> u64 {
        match self {
            Self::Outputs(answered) => answered.n_bytes(),
            Self::Body(body, _) => u64::try_from(body.len()).unwrap_or(u64::MAX),
        }
    }
}

/// Room in the queue; given back when it is dropped.
#[derive(Debug)]
struct Room {
    held: Arc<AtomicU64>,
    n_bytes: u64,
}

impl Room {
    fn try_new(held: &Arc<AtomicU64>, n_bytes: u64) -> Option<Self> {
        let before = held.fetch_add(n_bytes, Ordering::Relaxed);
        let room = Self {
            held: Arc::clone(held),
            n_bytes,
        };
        // Dropping the room gives it back.
        (before.saturating_add(n_bytes) <= QUEUE_BYTES).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(self.n_bytes, Ordering::Relaxed);
    }
}

impl Shadows {
    /// Returns no copies yet; shadows are found in `table`, and requests for them have these limits.
    pub(crate) fn new(
        (table, clock): (&Arc<SharedTable>, &Arc<dyn Clock>),
        limits: &Limits,
        chaos: Option<Chaos>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                table: Arc::clone(table),
                clock: Arc::clone(clock),
                elements_max: limits.elements_max,
                filled_bytes_max: limits.body_max.as_usize(),
                chaos,
                held: Arc::default(),
                pairs: RwLock::default(),
            }),
        }
    }

    /// Begins the copy of a request for `model`, if it is to be copied.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin(&self, model: &ServedModel, request: &Request) -> Option<Box<Begun>> {
        let tap = model.shadow()?;
        let sent = Sent {
            codec: &request.codec,
            dialect: None,
            body: &request.body,
            arrived: request.arrived,
            trace: request.trace.as_ref(),
        };
        self.begin_copy(&tap, sent)
    }

    /// Begins the copy of a request, if it is to be copied.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin_copy(&self, tap: &ShadowTap, sent: Sent<'_>) -> Option<Box<Begun>> {
        if !tap.takes_next() {
            return None;
        }
        let pair = self.pair(tap)?;
        pair.note_use(sent.arrived);
        let body = match sent.body.len() {
            // A small body is a part of what its connection reads into, which is larger.
            0..SHARED_BYTES_MIN => Bytes::copy_from_slice(sent.body),
            _ => sent.body.clone(),
        };
        Some(Box::new(Begun {
            pair,
            kept: tap.kept(),
            codec: sent.codec.clone(),
            dialect: sent.dialect,
            body,
            trace: sent.trace.map(|trace| trace.id().to_string()),
        }))
    }

    /// Hands a copy of a request for a graph to its shadow, if there is room; `answer` is what it was given, and how long that took, if that can be
    /// compared.
    pub(crate) fn finish_graph(
        &self,
        begun: Begun,
        flow: &Flow,
        answer: Result<Option<(&[u8], Duration)>, Code>,
    ) {
        let answer = answer.map(|answer| {
            let (body, elapsed) = answer?;
            let is_small = body.len() <= BYTES_MAX;
            is_small.then(|| Given::Body(Bytes::copy_from_slice(body), elapsed))
        });
        self.send(begun, graph::identity(flow), answer);
    }

    /// Hands a copy to its shadow, if there is room.
    pub(crate) fn finish(
        &self,
        begun: Begun,
        model: &ServedModel,
        answer: Result<Option<Box<Answered>>, Code>,
    ) {
        let answer = answer.map(|answered| answered.map(Given::Outputs));
        self.send(begun, identity(model), answer);
    }

    /// Puts a copy into the queue of its shadow; without an answer to compare, or without room, it is lost.
    fn send(&self, begun: Begun, revision: String, answer: Result<Option<Given>, Code>) {
        let pair = Arc::clone(&begun.pair);
        let is_sent = || {
            let answer = match answer {
                Ok(given) => Ok(given?),
                Err(code) => Err(code),
            };
            let n_bytes_body = u64::try_from(begun.body.len()).unwrap_or(u64::MAX);
            let n_bytes = answer.as_ref().map_or(0, Given::n_bytes);
            let n_bytes = COPY_BYTES
                .saturating_add(n_bytes_body)
                .saturating_add(n_bytes);
            let copied = Copied {
                begun,
                revision,
                answer,
                _room: Room::try_new(&self.inner.held, n_bytes)?,
            };
            match pair.queue.try_send(copied) {
                Ok(()) => Some(()),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
            }
        };
        if is_sent().is_none() {
            pair.n_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the pair of a tap; a service whose shadow is another one than before begins anew.
    fn pair(&self, tap: &ShadowTap) -> Option<Arc<Pair>> {
        let shadow = tap.shadow();
        let pairs = self.inner.pairs.read();
        let known = pairs.unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = known.get(tap.of()).filter(|pair| pair.shadow == shadow) {
            return Some(Arc::clone(pair));
        }
        drop(known);
        let pairs = self.inner.pairs.write();
        let mut pairs = pairs.unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = pairs.get(tap.of()).filter(|pair| pair.shadow == shadow) {
            return Some(Arc::clone(pair));
        }
        if pairs.len() >= SHADOWS_MAX && !pairs.contains_key(tap.of()) {
            // What nobody wants any more makes room.
            let table = self.inner.table.load();
            let unwanted = pairs.values().filter(|pair| !pair.is_wanted(&table));
            let oldest = unwanted.min_by_key(|pair| pair.used_at.load(Ordering::Relaxed));
            let oldest = oldest?.of.clone();
            pairs.remove(&oldest);
        }
        let pair = runner::start(&self.inner, tap.of().clone(), shadow)?;
        pairs.insert(tap.of().clone(), Arc::clone(&pair));
        Some(pair)
    }

    /// Lets go of the comparisons that nobody has wanted for long, with their threads.
    fn expire(&self) {
        let now = self.inner.clock.monotonic();
        let is_old = |pair: &Pair| {
            let used_at = Duration::from_secs(pair.used_at.load(Ordering::Relaxed));
            now.saturating_sub(used_at) > KEPT_FOR
        };
        let pairs = self.pairs();
        if !pairs.iter().any(|pair| is_old(pair)) {
            return;
        }
        let table = self.inner.table.load();
        let pairs = self.inner.pairs.write();
        let mut pairs = pairs.unwrap_or_else(PoisonError::into_inner);
        pairs.retain(|_, pair| !is_old(pair) || pair.is_wanted(&table));
    }

    fn pairs(&self) -> Vec<Arc<Pair>> {
        let pairs = self.inner.pairs.read();
        let pairs = pairs.unwrap_or_else(PoisonError::into_inner);
        pairs.values().cloned().collect()
    }

    /// Returns what the comparisons have come to: of one service, or of all.
    fn reports(&self, of: Option<&ServiceId>) -> Vec<Report> {
        self.expire();
        let pairs = self.pairs().into_iter();
        let asked = pairs.filter(|pair| of.is_none_or(|of| pair.of == *of));
        asked.map(|pair| pair.report()).collect()
    }

    /// Says why nothing is known of a service's shadow.
    fn absence(&self, of: &ServiceId) -> String {
        let pairs = self.inner.pairs.read();
        let pairs = pairs.unwrap_or_else(PoisonError::into_inner);
        let is_full = pairs.len() >= SHADOWS_MAX && !pairs.contains_key(of);
        drop(pairs);
        let table = self.inner.table.load();
        match is_full && has_tap(&table, of, |_any| true) {
            true => format!(
                "{of} is not compared with its shadow: {SHADOWS_MAX} services are compared already, the most that can be; take the annotation serving.coracle.dev/shadow off one that need not be"
            ),
            false => format!(
                "no request of {of} was copied to a shadow; the annotation serving.coracle.dev/shadow of an InferenceService names one"
            ),
        }
    }

    /// Returns what the metrics show of them.
    pub(crate) fn figures(&self) -> Vec<ShadowFigures> {
        self.expire();
        let pairs = self.pairs();
        pairs.iter().map(|pair| pair.report().figures()).collect()
    }
}

/// Returns what tells apart the models that answered under one name.
fn identity(model: &ServedModel) -> String {
    match model.revision() {
        Some(revision) => revision.name.clone(),
        None => format!("{}/{}", model.name(), model.version()),
    }
}

impl Handler {
    /// Answers what the shadow of a service, or of all of them, has come to.
    pub(crate) fn shadow(&self, asked: &Asked<'_>, form: ShadowForm) -> Reply {
        let of = match asked.scope {
            Scope::Service { id, .. } => Some(id),
            Scope::All => None,
        };
        let reports = self.calls.shadows.reports(of);
        if let (Some(of), true) = (of, reports.is_empty()) {
            let message = self.calls.shadows.absence(of);
            return Reply::error(StatusCode::NOT_FOUND, &message);
        }
        match form {
            ShadowForm::Page => Reply::page(page::page(&reports)),
            ShadowForm::Json => {
                // A report is always JSON: its keys are texts.
                let body = serde_json::to_vec(&serde_json::json!({"shadows": reports}));
                Reply::json(body.unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
