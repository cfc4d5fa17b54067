//! The threads for calls that are too costly for an event loop, and who of those that wait gets one.
//!
//! Every model has a queue of its own, in which higher priorities go first. Models take turns, and no model takes the last
//! thread: there is one more than there are processors for, so that a slow model leaves others at most one run to wait for,
//! and usually none. Threads that have nothing to do but for the last help with calls of many rows ([`Help`]). A thread that takes a call takes along what is queued for the same model and fits, if that is worthwhile
//! ([`crate::batch`]).

mod width;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::Clock;

use crate::batch::{self, Entry, Help, RunInParts, is_worthwhile, may_batch, rows_when_busy};
use crate::priority::PriorityQueue;
use crate::{Priority, Refusal, ServedModel};

pub(crate) use self::width::Width;

/// A run that is expected to take longer than this is a long one: of all models together, these leave one thread to others.
const LONG_RUN: Duration = Duration::from_millis(10);
/// The most calls that a thread takes at once.
const CALLS_MAX: usize = 256;

/// How often those that wait are looked through for callers who have gone: under overload each look finds few of them.
const PURGE_EVERY: Duration = Duration::from_millis(5);

/// A call whose answer is expected to take more than this share of its caller's time is refused, unless nothing waits.
///
/// Under overload the queue is as long as this lets it be. What runs then shares its processors with the refusals, and took up to 1.4
/// times what was expected.
const TIME_SHARE_MAX: f64 = 0.5;

/// A call that waits for a thread.
pub trait PoolCall: Send {
    /// Tells whether nobody waits for its answer any more.
    fn is_abandoned(&self) -> bool;

    /// Decodes what is not decoded yet. Calls that fail in this, or whose time is over, are answered and left out.
    fn prepare(self: Box<Self>) -> Vec<Entry>;

    /// Takes why it does not run.
    fn refuse(self: Box<Self>, refusal: Refusal);
}

/// What is known of a call that is to wait for a thread.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// How urgent it is.
    pub priority: Priority,
    /// How long it is expected to run, if that is known.
    pub expected: Option<Duration>,
    /// The bytes that it holds while it waits.
    pub n_bytes: usize,
    /// How long its caller waits for the answer.
    pub time_left: Duration,
}

/// The bounds of one model, beside those of the pool; what is `None` is not bounded further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most runs on the pool at a time: what Triton calls instances.
    pub instances: Option<NonZero<usize>>,
    /// The most calls that wait.
    pub calls_max: Option<NonZero<usize>>,
    /// How long a call waits for a thread; then it is refused with [`Refusal::Deadline`].
    pub wait_max: Option<Duration>,
}

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// The number of calls that run at a time: one more thread is there for those whose turn it would not be.
    pub n_threads: usize,
    /// The most calls of one model that wait.
    pub calls_max: usize,
    /// The most bytes of all calls that wait; one call may be larger.
    pub bytes_max: usize,
}

impl PoolLimits {
    /// Returns the bounds of one model's calls.
    fn of(self, model: &ServedModel) -> Self {
        let own = model.queue_limits();
        let least = |own: Option<NonZero<usize>>, most: usize| {
            most.min(own.map_or(usize::MAX, NonZero::get))
        };
        Self {
            n_threads: least(own.instances, self.n_threads),
            calls_max: least(own.calls_max, self.calls_max),
            ..self
        }
    }
}

/// The threads for costly calls. When it is dropped, they end after the calls that they are at.
#[derive(Debug)]
pub struct ComputePool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: PoolLimits,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Told when there may be something to do.
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By the address of the model, which the queue keeps in memory.
    queues: HashMap<usize, ModelQueue>,
    /// The models that have calls waiting; the first has its turn.
    ring: VecDeque<usize>,
    n_long: usize,
    n_bytes: usize,
    /// The runs that threads may help with.
    offered: Vec<Arc<RunInParts>>,
    /// The threads that wait for something to do.
    n_idle: usize,
    is_stopping: bool,
}

#[derive(Debug)]
struct ModelQueue {
    model: Arc<ServedModel>,
    calls: PriorityQueue<Queued>,
    /// The time that all that wait are expected to run.
    expected: Duration,
    n_running: usize,
    /// From when on it is worthwhile to look through those that wait.
    next_purge: Duration,
}

struct Queued {
    call: Box<dyn PoolCall>,
    /// When it came, on the pool's clock.
    came: Duration,
    expected: Duration,
    n_bytes: usize,
    /// Until when it waits, on the pool's clock.
    until: Option<Duration>,
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queued").finish_non_exhaustive()
    }
}

/// What a thread does next.
enum Work {
    Turn(Turn),
    Help(Arc<RunInParts>),
}

/// A turn that has ended.
#[derive(Debug)]
struct Ended {
    key: usize,
    is_long: bool,
    /// When the calls of its run came.
    came: Vec<Duration>,
}

/// The turn of a model on a thread.
struct Turn {
    model: Arc<ServedModel>,
    key: usize,
    is_long: bool,
    call: Queued,
}

/// A turn of a model on a thread that is not the pool's, until it is dropped.
#[derive(Debug)]
pub struct OwnTurn<'p> {
    shared: &'p Shared,
    ended: Ended,
}

impl Drop for OwnTurn<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let now = self.shared.clock.monotonic();
        state.end(&self.ended, now, self.shared.limits);
        self.shared.tell_one(state);
    }
}

impl ComputePool {
    /// Starts the threads.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(limits: PoolLimits, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let limits = PoolLimits {
            n_threads: limits.n_threads.max(1),
            ..limits
        };
        let shared = Arc::new(Shared {
            limits,
            clock,
            state: Mutex::default(),
            work: Condvar::new(),
        });
        let pool = Self {
            shared: Arc::clone(&shared),
        };
        for index in 0..=limits.n_threads {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("coracle-pool-{index}"));
            // Nobody waits for it: a call that does not end must not hold up the process.
            drop(thread.spawn(move || shared.serve())?);
        }
        Ok(pool)
    }

    /// Lets a call to `model` wait for a thread. It is refused with [`Refusal::PoolFull`] if too many wait already, or so many
    /// that its caller's time would be over before its turn.
    pub fn submit(&self, model: &Arc<ServedModel>, call: Box<dyn PoolCall>, ticket: Ticket) {
        let key = key_of(model);
        let limits = self.shared.limits;
        let mut state = self.shared.state();
        let limits = limits.of(model);
        let n_runs = model.width().limit(limits.n_threads);
        if state.is_full(key, ticket, limits, n_runs) {
            let abandoned = state.purge(key, self.shared.clock.monotonic());
            if state.is_full(key, ticket, limits, n_runs) {
                // Outside the lock, for it may give back places.
                drop(state);
                drop(abandoned);
                call.refuse(Refusal::PoolFull);
                return;
            }
        }
        let came = self.shared.clock.monotonic();
        let wait_max = model.queue_limits().wait_max;
        let until = wait_max.map(|wait| came.saturating_add(wait));
        state.push(model, call, (ticket, came, until));
        self.shared.tell_one(state);
    }

    /// Begins a turn of `model` on the thread that asks, if nothing runs on the pool and nothing waits. It counts as a run on the pool.
    #[must_use]
    pub fn turn_if_idle(&self, model: &Arc<ServedModel>) -> Option<OwnTurn<'_>> {
        let mut state = self.shared.state();
        if state.is_stopping || !state.queues.is_empty() {
            return None;
        }
        let came = self.shared.clock.monotonic();
        let key = key_of(model);
        state.queue(model).n_running = 1;
        drop(state);
        Some(OwnTurn {
            shared: &self.shared,
            ended: Ended {
                key,
                is_long: false,
                came: vec![came],
            },
        })
    }

    /// Returns how many calls to `model` wait for a thread.
    #[must_use]
    pub fn n_waiting(&self, model: &Arc<ServedModel>) -> usize {
        let state = self.shared.state();
        let queue = state.queues.get(&key_of(model));
        queue.map_or(0, |queue| queue.calls.len())
    }
}

impl Drop for ComputePool {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_stopping = true;
        // What waits is dropped, which tells its callers; outside the lock, for it may give back places.
        let queues = std::mem::take(&mut state.queues);
        state.ring.clear();
        drop(state);
        drop(queues);
        self.shared.work.notify_all();
    }
}

fn key_of(model: &Arc<ServedModel>) -> usize {
    Arc::as_ptr(model).addr()
}

impl State {
    /// Tells whether a call of a model of which so many run at a time, `n_runs`, is one too many.
    fn is_full(&self, key: usize, ticket: Ticket, limits: PoolLimits, n_runs: usize) -> bool {
        let has_bytes =
            self.n_bytes > 0 && self.n_bytes.saturating_add(ticket.n_bytes) > limits.bytes_max;
        let (n_waiting, expected) = match self.queues.get(&key) {
            Some(queue) => (queue.calls.len(), queue.expected),
            None => (0, Duration::ZERO),
        };
        let n_runs = u32::try_from(n_runs.max(1)).unwrap_or(u32::MAX);
        // Until its answer, its own run is over, too. Who would be answered at the last moment is often answered too late, and has
        // then taken the time of others in vain: so some of the time must be left.
        let wait = (expected / n_runs).saturating_add(ticket.expected.unwrap_or_default());
        let is_late = n_waiting > 0 && wait > ticket.time_left.mul_f64(TIME_SHARE_MAX);
        has_bytes || n_waiting >= limits.calls_max || is_late
    }

    fn push(
        &mut self,
        model: &Arc<ServedModel>,
        call: Box<dyn PoolCall>,
        (ticket, came, until): (Ticket, Duration, Option<Duration>),
    ) {
        let key = key_of(model);
        if !self.has_waiting(key) {
            self.ring.push_back(key);
        }
        let expected = ticket.expected.unwrap_or_default();
        let queue = self.queue(model);
        queue.expected += expected;
        let queued = Queued {
            call,
            came,
            expected,
            n_bytes: ticket.n_bytes,
            until,
        };
        queue.calls.push(ticket.priority, queued);
        self.n_bytes = self.n_bytes.saturating_add(ticket.n_bytes);
    }

    /// Returns the queue of a model, a new one if it has none.
    fn queue(&mut self, model: &Arc<ServedModel>) -> &mut ModelQueue {
        let queue = self.queues.entry(key_of(model));
        queue.or_insert_with(|| ModelQueue {
            model: Arc::clone(model),
            calls: PriorityQueue::new(),
            expected: Duration::ZERO,
            n_running: 0,
            next_purge: Duration::ZERO,
        })
    }

    /// Takes the calls of a model out that nobody waits for.
    fn purge(&mut self, key: usize, now: Duration) -> Vec<Queued> {
        let Some(queue) = self.queues.get_mut(&key) else {
            return Vec::new();
        };
        if now < queue.next_purge {
            return Vec::new();
        }
        queue.next_purge = now.saturating_add(PURGE_EVERY);
        let abandoned = queue.calls.take_where(|queued| queued.call.is_abandoned());
        for queued in &abandoned {
            queue.expected = queue.expected.saturating_sub(queued.expected);
            self.n_bytes = self.n_bytes.saturating_sub(queued.n_bytes);
        }
        self.forget_if_idle(key);
        abandoned
    }

    /// Takes a model whose queue is empty out of the ring, and forgets its queue if nothing runs either.
    fn forget_if_idle(&mut self, key: usize) {
        let Some(queue) = self.queues.get(&key) else {
            return;
        };
        if queue.calls.is_empty() {
            let n_running = queue.n_running;
            self.ring.retain(|other| *other != key);
            if n_running == 0 {
                self.queues.remove(&key);
            }
        }
    }

    /// Returns where in the ring the next model is that may have a thread.
    fn position(&self, limits: PoolLimits) -> Option<usize> {
        self.ring
            .iter()
            .position(|key| self.may_have_a_thread(*key, limits))
    }

    /// Tells whether the next call of a model may have a thread.
    fn may_have_a_thread(&self, key: usize, limits: PoolLimits) -> bool {
        self.queues.get(&key).is_some_and(|queue| {
            let is_long = queue.next_is_long();
            let n_most = limits.of(&queue.model).n_threads;
            queue.n_running < queue.model.width().limit(n_most)
                && !(is_long && self.n_long >= limits.n_threads)
        })
    }

    /// Takes the next call whose model may have a thread.
    fn next(&mut self, limits: PoolLimits) -> Option<Turn> {
        let position = self.position(limits)?;
        let key = self.ring.remove(position)?;
        let queue = self.queues.get_mut(&key)?;
        let is_long = queue.next_is_long();
        queue.n_running += 1;
        let model = Arc::clone(&queue.model);
        let call = self.pop(key)?;
        self.n_long += usize::from(is_long);
        if self.has_waiting(key) {
            self.ring.push_back(key);
        }
        Some(Turn {
            model,
            key,
            is_long,
            call,
        })
    }

    fn has_waiting(&self, key: usize) -> bool {
        let queue = self.queues.get(&key);
        queue.is_some_and(|queue| !queue.calls.is_empty())
    }

    fn pop(&mut self, key: usize) -> Option<Queued> {
        let queue = self.queues.get_mut(&key)?;
        let queued = queue.calls.pop()?;
        queue.expected = queue.expected.saturating_sub(queued.expected);
        self.n_bytes = self.n_bytes.saturating_sub(queued.n_bytes);
        Some(queued)
    }

    /// Takes a further call of a model that has its turn.
    fn more(&mut self, key: usize) -> Option<Queued> {
        let queued = self.pop(key)?;
        self.forget_if_idle(key);
        Some(queued)
    }

    /// Returns a run to help with, if that leaves a thread to those who call next.
    fn run_to_help(&self) -> Option<Arc<RunInParts>> {
        let mut offered = self.offered.iter();
        let run = offered.find(|run| run.n_left() > 0)?;
        (self.n_idle > 0).then(|| Arc::clone(run))
    }

    /// Ends a turn at `now`.
    fn end(&mut self, ended: &Ended, now: Duration, limits: PoolLimits) {
        let Ended { key, is_long, came } = ended;
        self.n_long = self.n_long.saturating_sub(usize::from(*is_long));
        if let Some(queue) = self.queues.get_mut(key) {
            queue.n_running = queue.n_running.saturating_sub(1);
            let has_others = queue.n_running > 0 || !queue.calls.is_empty();
            let n_most = limits.of(&queue.model).n_threads;
            let width = queue.model.width();
            width.record(now, came, has_others, n_most);
        }
        self.forget_if_idle(*key);
    }
}

impl ModelQueue {
    fn next_is_long(&self) -> bool {
        let next = self.calls.front();
        next.is_some_and(|queued| queued.expected > LONG_RUN)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a thread that there is something to do, if there is and one has nothing to do: a thread that is told in vain takes
    /// the processor from one that works.
    fn tell_one(&self, state: MutexGuard<'_, State>) {
        let is_wanted = state.n_idle > 0 && state.position(self.limits).is_some();
        drop(state);
        if is_wanted {
            self.work.notify_one();
        }
    }

    /// Does what is to be done until the pool is dropped.
    fn serve(&self) {
        let mut ended = None;
        while let Some(work) = self.wait(ended) {
            let Turn {
                model,
                key,
                mut is_long,
                call,
            } = match work {
                Work::Turn(turn) => turn,
                Work::Help(run) => {
                    ended = None;
                    drop(catch_unwind(AssertUnwindSafe(|| {
                        while run.work_on_next() && !self.is_busy_elsewhere() {}
                    })));
                    continue;
                }
            };
            let mut came = Vec::new();
            // Nothing that a call does ends the thread.
            drop(catch_unwind(AssertUnwindSafe(|| {
                let entries = self.gather(&model, key, call, (&mut is_long, &mut came));
                batch::run_with(&model, entries, self);
            })));
            ended = Some(Ended { key, is_long, came });
        }
    }

    /// Ends a turn, and waits for the next one.
    fn wait(&self, ended: Option<Ended>) -> Option<Work> {
        let mut state = self.state();
        if let Some(ended) = ended {
            state.end(&ended, self.clock.monotonic(), self.limits);
        }
        loop {
            if state.is_stopping {
                return None;
            }
            if let Some(turn) = state.next(self.limits) {
                // What another may do, too, now that this turn has begun and the last has ended.
                self.tell_one(state);
                return Some(Work::Turn(turn));
            }
            if let Some(run) = state.run_to_help() {
                return Some(Work::Help(run));
            }
            state.n_idle += 1;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.n_idle -= 1;
        }
    }

    /// Tells whether a thread that helps is to make room: as many calls run as there are processors for, or the pool ends.
    fn is_busy_elsewhere(&self) -> bool {
        let state = self.state();
        state.is_stopping || state.n_idle == 0
    }

    /// Prepares a call, and what is queued for its model and worth taking along.
    ///
    /// A run that becomes a long one is counted as such, if there may be one more of them. Notes when the calls came.
    fn gather(
        &self,
        model: &ServedModel,
        key: usize,
        call: Queued,
        (is_long, came): (&mut bool, &mut Vec<Duration>),
    ) -> Vec<Entry> {
        came.push(call.came);
        let mut entries = self.timely(model, key, self.prepared(call));
        let most = model.batching().settings().rows_max;
        let mut best = None;
        while let Some(first) = entries.first()
            && may_batch(model, &first.lease)
            && entries.len() < CALLS_MAX
        {
            let rows = entries.iter().map(|entry| entry.n_rows);
            let n_rows: usize = rows.sum();
            // Of the next one nothing is known but that it is queued: it may have as many rows as those so far.
            let n_more = n_rows.div_ceil(entries.len());
            let together = n_rows.saturating_add(n_more);
            let mut is_worthwhile = || {
                is_worthwhile(model.cost(), n_rows, n_more)
                    || (together
                        <= *best.get_or_insert_with(|| rows_when_busy(model.cost(), n_more))
                        && self.is_busy(key))
            };
            if together > most || !is_worthwhile() || !self.leaves_time(model, &entries, together) {
                break;
            }
            let becomes_long = !*is_long && model.cost().running(together) > Some(LONG_RUN);
            let Some(call) = self.more(key, becomes_long) else {
                break;
            };
            *is_long |= becomes_long;
            came.push(call.came);
            entries.extend(self.timely(model, key, self.prepared(call)));
        }
        entries
    }

    /// Takes a further call of a model that has its turn, unless the turn becomes a long one by it and there may be none more.
    fn more(&self, key: usize, becomes_long: bool) -> Option<Queued> {
        let mut state = self.state();
        if becomes_long && state.n_long >= self.limits.n_threads {
            return None;
        }
        let call = state.more(key)?;
        state.n_long += usize::from(becomes_long);
        Some(call)
    }

    /// Tells whether no thread would take the next call of a model now.
    fn is_busy(&self, key: usize) -> bool {
        let state = self.state();
        state.n_idle == 0 || !state.may_have_a_thread(key, self.limits)
    }

    /// Tells whether a run of `n_rows` is expected to be over in half of the time that each of the calls has: what runs of other
    /// sizes took was measured in other times, and all calls of a run are answered at its end.
    fn leaves_time(&self, model: &ServedModel, entries: &[Entry], n_rows: usize) -> bool {
        let running = model.cost().running(n_rows).unwrap_or_default();
        let until = entries.iter().map(|entry| entry.until).min();
        let over = self.clock.monotonic().saturating_add(running * 2);
        until.is_none_or(|until| over <= until)
    }

    /// Prepares a call, unless it has waited too long for its model.
    fn prepared(&self, Queued { call, until, .. }: Queued) -> Vec<Entry> {
        if until.is_some_and(|until| self.clock.monotonic() > until) {
            call.refuse(Refusal::Deadline);
            return Vec::new();
        }
        call.prepare()
    }

    /// Refuses the calls that could not be answered in time, if others wait for their turn: they would take it in vain.
    ///
    /// A call that nobody waits behind runs all the same, lest a model that was slow once were never measured again.
    fn timely(&self, model: &ServedModel, key: usize, entries: Vec<Entry>) -> Vec<Entry> {
        let now = self.clock.monotonic();
        let is_timely = |entry: &Entry| {
            let expected = model.cost().running(entry.n_rows).unwrap_or_default();
            now.saturating_add(expected) <= entry.until
        };
        if entries.iter().all(is_timely) || !self.state().has_waiting(key) {
            return entries;
        }
        let (timely, late): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(is_timely);
        for entry in late {
            entry.answer.refuse(Refusal::Deadline);
        }
        timely
    }
}

impl Help for Shared {
    fn n_threads(&self) -> usize {
        self.limits.n_threads
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn offer(&self, run: &Arc<RunInParts>) {
        let mut state = self.state();
        state.offered.push(Arc::clone(run));
        // One of those who wait is left to others; this thread takes a part itself.
        let n_helpers = state
            .n_idle
            .saturating_sub(1)
            .min(run.n_left().saturating_sub(1));
        drop(state);
        for _ in 0..n_helpers {
            self.work.notify_one();
        }
    }

    fn withdraw(&self, run: &Arc<RunInParts>) {
        let mut state = self.state();
        state.offered.retain(|other| !Arc::ptr_eq(other, run));
    }
}

#[cfg(test)]
mod tests;
