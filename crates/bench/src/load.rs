//! The load itself: threads that send requests and measure the answers.
//!
//! Each thread is an event loop of its own with its share of the connections; threads meet only in counters for the progress. In a
//! closed loop every connection sends the next request when it has the answer; in an open loop requests are sent when they are due, over
//! whatever connection is free, and wait in a queue if none is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::connection::{Answer, Connection, Connector, Exchange, Keep};
use crate::pacer::Pacer;
use crate::payload::Payload;
use crate::plan::Level;
use crate::record::{Failure, FailureKind, Measured};
use crate::schedule::Schedule;
use crate::{Arrivals, BenchError};

/// How long a connection of a closed loop pauses when the server takes none.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// After so many requests that are due at once the event loop looks at its connections.
const BURST_MAX: usize = 32;

/// One load, the same for all its threads.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) connector: Connector,
    pub(crate) payloads: Arc<[Payload]>,
    pub(crate) level: Level,
    pub(crate) arrivals: Arrivals,
    pub(crate) seed: u64,
    pub(crate) n_threads: usize,
    /// Whether they never sleep.
    pub(crate) is_busy: bool,
    pub(crate) connections_max: usize,
    /// When the first request is sent.
    pub(crate) begin: Instant,
    /// When measuring begins.
    pub(crate) window_begin: Instant,
    /// When it ends; `None` if after a number of requests.
    pub(crate) window_end: Option<Instant>,
    /// How many requests are measured, if that ends the load.
    pub(crate) n_requests: Option<u64>,
    pub(crate) slot: Duration,
    /// What each thread has done so far.
    pub(crate) done: Vec<Done>,
    /// How many threads have ended.
    pub(crate) n_ended: AtomicUsize,
}

/// What a thread has done, for whoever watches. Apart from the other threads' in memory.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Done {
    pub(crate) n_measured: AtomicU64,
    pub(crate) n_failed: AtomicU64,
}

/// Counts a thread as ended, however it ends.
struct Ends<'a>(&'a AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Runs `job` on threads of its own; `watch` runs on this one meanwhile.
pub(crate) fn run<T>(
    job: &Arc<Job>,
    watch: impl FnOnce() -> T,
) -> Result<(Measured, T), BenchError> {
    let mut threads = Vec::new();
    for index in 0..job.n_threads {
        let job = Arc::clone(job);
        let thread = std::thread::Builder::new().name(format!("bench-{index}"));
        let thread = thread.spawn(move || {
            let _ends = Ends(&job.n_ended);
            work(Arc::clone(&job), index)
        });
        threads.push(thread.map_err(BenchError::Machine)?);
    }
    let watched = watch();
    let mut measured = Measured::new(job.slot);
    for thread in threads {
        let part = thread
            .join()
            .unwrap_or_else(|_panicked| Err(io::Error::other("a thread of the load panicked")));
        measured.merge(part.map_err(BenchError::Machine)?);
    }
    Ok((measured, watched))
}

/// One thread: returns what it measured.
fn work(job: Arc<Job>, index: usize) -> io::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        if job.is_busy {
            // It ends with the set of tasks.
            tokio::task::spawn_local(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
        }
        let worker = Rc::new(Worker::new(job, index));
        match worker.job.level {
            Level::Concurrency(n_connections) => {
                let mine = share(n_connections as u64, index, worker.job.n_threads);
                let loops = (0..mine).map(|_| tokio::task::spawn_local(closed(Rc::clone(&worker))));
                for each in loops.collect::<Vec<_>>() {
                    each.await.map_err(io::Error::other)?;
                }
            }
            Level::Rate(rate) => open(&worker, rate).await?,
        }
        Ok(worker.finish())
    })
}

/// Returns the share of thread `index` in `n` things.
fn share(n: u64, index: usize, n_threads: usize) -> u64 {
    let (index, n_threads) = (index as u64, n_threads.max(1) as u64);
    n / n_threads + u64::from(index < n % n_threads)
}

/// The state of one thread.
struct Worker {
    job: Arc<Job>,
    index: usize,
    measured: RefCell<Measured>,
    next_payload: Cell<usize>,
    /// Requests that may still be measured, if they are counted.
    quota: Cell<Option<u64>>,
    last_answer: Cell<Instant>,
    idle: RefCell<Vec<Connection>>,
    backlog: RefCell<VecDeque<Instant>>,
    n_open: Cell<usize>,
    n_busy: Cell<usize>,
    at_rest: Notify,
}

impl Worker {
    fn new(job: Arc<Job>, index: usize) -> Self {
        let quota = job.n_requests.map(|n| share(n, index, job.n_threads));
        let measured = Measured::new(job.slot);
        Self {
            next_payload: Cell::new(index),
            quota: Cell::new(quota),
            last_answer: Cell::new(job.window_begin),
            measured: RefCell::new(measured),
            idle: RefCell::default(),
            backlog: RefCell::default(),
            n_open: Cell::new(0),
            n_busy: Cell::new(0),
            at_rest: Notify::new(),
            job,
            index,
        }
    }

    /// Tells whether a request that is due at `moment` is sent, and counts it.
    fn admits(&self, moment: Instant) -> bool {
        if self.job.window_end.is_some_and(|end| moment >= end) {
            return false;
        }
        match self.quota.get() {
            Some(0) => false,
            Some(left) if moment >= self.job.window_begin => {
                self.quota.set(Some(left - 1));
                true
            }
            _ => true,
        }
    }

    /// Sends the next request over `slot`'s connection, or a new one where there is none.
    async fn ask(&self, slot: &mut Option<Connection>) -> Result<Answer, Failure> {
        let index = self.next_payload.get();
        self.next_payload.set((index + 1) % self.job.payloads.len());
        let Some(payload) = self.job.payloads.get(index % self.job.payloads.len()) else {
            return Err(Failure::new(FailureKind::Answer, "no request to send"));
        };
        let call = async {
            loop {
                let (mut connection, is_new) = match slot.take() {
                    Some(connection) => (connection, false),
                    None => (self.job.connector.connect().await?, true),
                };
                match connection.exchange(payload, Keep::Failures).await {
                    Exchange::Answered(result, is_reusable) => {
                        if is_reusable {
                            *slot = Some(connection);
                        }
                        return result;
                    }
                    Exchange::Stale(failure) if is_new => return Err(failure),
                    // The server may have closed a connection that was idle: any client asks again.
                    Exchange::Stale(_closed_meanwhile) => {}
                }
            }
        };
        let timeout = self.job.connector.timeout();
        match tokio::time::timeout(timeout, call).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Failure::new(
                FailureKind::Timeout,
                format_args!("no answer within {} ms", timeout.as_millis()),
            )),
        }
    }

    fn record(&self, due: Instant, result: Result<Answer, Failure>) {
        let now = Instant::now();
        let Some(at) = due.checked_duration_since(self.job.window_begin) else {
            return;
        };
        let mut measured = self.measured.borrow_mut();
        let is_ok = result.is_ok();
        if is_ok && self.job.window_end.is_none_or(|end| now <= end) {
            measured.n_in_window += 1;
        }
        let latency = now.saturating_duration_since(due);
        measured.record(at, latency, result.map(|answer| answer.n_bytes));
        self.last_answer.set(now);
        if let Some(done) = self.job.done.get(self.index) {
            done.n_measured
                .store(measured.n_ok + measured.n_failed, Ordering::Relaxed);
            if !is_ok {
                done.n_failed.store(measured.n_failed, Ordering::Relaxed);
            }
        }
    }

    /// Sends a request that is due, over a free connection, a new one, or as soon as one is free.
    fn dispatch(self: &Rc<Self>, due: Instant) {
        if due >= self.job.window_begin {
            let lag = Instant::now().saturating_duration_since(due);
            self.measured.borrow_mut().record_lag(lag);
        }
        let idle = self.idle.borrow_mut().pop();
        let n_most = (self.job.connections_max / self.job.n_threads).max(1);
        if idle.is_none() {
            if self.n_open.get() >= n_most {
                self.backlog.borrow_mut().push_back(due);
                return;
            }
            self.n_open.set(self.n_open.get() + 1);
        }
        self.n_busy.set(self.n_busy.get() + 1);
        tokio::task::spawn_local(Rc::clone(self).serve(idle, due));
    }

    /// Sends requests one after another until none is due.
    async fn serve(self: Rc<Self>, mut slot: Option<Connection>, mut due: Instant) {
        loop {
            let result = self.ask(&mut slot).await;
            self.record(due, result);
            match self.backlog.borrow_mut().pop_front() {
                Some(next) => due = next,
                None => break,
            }
        }
        match slot {
            Some(connection) => self.idle.borrow_mut().push(connection),
            None => self.n_open.set(self.n_open.get() - 1),
        }
        self.n_busy.set(self.n_busy.get() - 1);
        if self.n_busy.get() == 0 {
            self.at_rest.notify_one();
        }
    }

    fn finish(&self) -> Measured {
        let mut measured = self.measured.replace(Measured::new(Duration::ZERO));
        let end = self.job.window_end.unwrap_or(self.last_answer.get());
        measured.window = end.saturating_duration_since(self.job.window_begin);
        measured
    }
}

/// Asks again and again over one connection.
async fn closed(worker: Rc<Worker>) {
    let mut slot = None;
    tokio::time::sleep_until(worker.job.begin).await;
    loop {
        let due = Instant::now();
        if !worker.admits(due) {
            return;
        }
        let result = worker.ask(&mut slot).await;
        let is_refused = result
            .as_ref()
            .is_err_and(|failure| failure.kind == FailureKind::Connect);
        worker.record(due, result);
        if is_refused {
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }
}

/// Sends requests as they are due, then waits for what is in flight.
async fn open(worker: &Rc<Worker>, rate: f64) -> io::Result<()> {
    let job = &worker.job;
    let place = (worker.index, job.n_threads);
    let mut schedule = Schedule::new(job.arrivals, rate, place, job.seed);
    let pacer = Pacer::new()?;
    let mut n_at_once = 0;
    loop {
        let due = job.begin + schedule.peek();
        if !worker.admits(due) {
            break;
        }
        if due > Instant::now() {
            pacer.wait_until(due).await?;
            n_at_once = 0;
        } else if n_at_once == BURST_MAX {
            tokio::task::yield_now().await;
            n_at_once = 0;
        }
        n_at_once += 1;
        schedule.advance();
        worker.dispatch(due);
    }
    if let Some(end) = job.window_end {
        pacer.wait_until(end).await?;
        // What found no connection until now is not sent any more.
        let late = std::mem::take(&mut *worker.backlog.borrow_mut());
        let n_late = late.iter().filter(|due| **due >= job.window_begin).count();
        worker.measured.borrow_mut().n_unsent += n_late as u64;
    }
    while worker.n_busy.get() > 0 {
        worker.at_rest.notified().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up() {
        for (n, n_threads) in [(10, 3), (1, 4), (0, 2), (7, 7)] {
            let shares = (0..n_threads).map(|index| share(n, index, n_threads));
            assert_eq!(shares.sum::<u64>(), n);
        }
    }
}
