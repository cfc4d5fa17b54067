//! A revision in miniature: requests that arrive by a trace, replicas that take their time to start, a queue, and an autoscaler
//! that sees and decides what it would in earnest. Deterministic: one seed, one outcome.
//!
//! Requests are simulated one by one in microseconds; samples are recorded every second and decisions taken every two, and at once when a
//! request comes while there is no replica. Not simulated: the cost of routing, replicas that fail, requests that give up.
//! Start reading at [`simulate`]; [`compare`] sets reactive and predictive scaling side by side.

mod comparison;
mod trace;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::autoscale::{AutoscaleSpec, Autoscaler, Ready, Sample};
use crate::random::Random;

pub use comparison::{Comparison, Measured, compare};
pub use trace::Trace;

/// Decisions are taken every so many seconds, as Knative does.
const TICK_SECONDS: u64 = 2;
const MICROS: u64 = 1_000_000;
/// A second is over its objective if more than this share of its requests is slow.
const SLOW_SHARE_MAX: f64 = 0.01;

/// What is served, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Service {
    /// How long a replica takes to become ready.
    pub cold_start: Duration,
    /// How long a request takes on average once it has a place; each takes 0.8 to 1.2 of it.
    pub service_time: Duration,
    /// How many requests a replica takes at once.
    pub concurrency: u32,
    /// How long a request may take in all, waiting included, before it counts as slow.
    pub objective: Duration,
    /// How many requests may wait; further ones are refused and count as slow.
    pub queue_max: usize,
}

impl Default for Service {
    /// Returns a model of 250 ms that takes two requests at once and 40 s to start, with an objective of 500 ms.
    fn default() -> Self {
        Self {
            cold_start: Duration::from_secs(40),
            service_time: Duration::from_millis(250),
            concurrency: 2,
            objective: Duration::from_millis(500),
            queue_max: 10_000,
        }
    }
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// Requests that arrived.
    pub arrived: u32,
    /// Those of them that took longer than the objective, or were refused.
    pub slow: u32,
    /// Replicas wanted at its end.
    pub desired: u32,
    /// Replicas ready at its end.
    pub ready: u32,
    /// Replicas starting at its end.
    pub starting: u32,
    /// The mean number of requests in flight, waiting ones included.
    pub concurrency: f64,
    /// The mean number of requests waiting.
    pub queued: f64,
}

impl Second {
    /// Says whether more than 1 % of the requests that arrived were slow.
    #[must_use]
    pub fn is_over_objective(&self) -> bool {
        f64::from(self.slow) > SLOW_SHARE_MAX * f64::from(self.arrived)
    }
}

/// What happened, second by second.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The seconds.
    pub seconds: Vec<Second>,
}

impl Outcome {
    /// Returns how many replicas there were in all seconds of `range` together, starting ones included: what it costs.
    #[must_use]
    pub fn replica_seconds(&self, range: Range<usize>) -> u64 {
        let costs = self.seconds[range].iter();
        costs.map(|s| u64::from(s.ready + s.starting)).sum()
    }

    /// Returns how many seconds of `range` were over the objective.
    #[must_use]
    pub fn seconds_over_objective(&self, range: Range<usize>) -> usize {
        let seconds = self.seconds[range].iter();
        seconds.filter(|second| second.is_over_objective()).count()
    }

    /// Returns the share of requests of `range` that were slow.
    #[must_use]
    pub fn slow_share(&self, range: Range<usize>) -> f64 {
        let (mut slow, mut arrived) = (0_u64, 0_u64);
        for second in &self.seconds[range] {
            slow += u64::from(second.slow);
            arrived += u64::from(second.arrived);
        }
        slow as f64 / arrived.max(1) as f64
    }
}

/// Runs a trace against an autoscaler with `spec` that begins without replicas.
#[must_use]
pub fn simulate(spec: &AutoscaleSpec, service: &Service, trace: Trace, seed: u64) -> Outcome {
    let n_seconds = trace.length().as_secs();
    let mut revision = Revision::new(spec, *service, n_seconds, seed);
    for second in 0..n_seconds {
        revision.run_second(second, trace.requests_per_second(second));
    }
    revision.finish()
}

/// A request that runs: when it is done, and when it came.
type Running = Reverse<(u64, u64)>;

/// The state of a simulation. Times are microseconds from its start.
struct Revision {
    service: Service,
    random: Random,
    scaler: Autoscaler,
    desired: u32,
    ready: u32,
    /// When those that start are ready, in order.
    starting: VecDeque<u64>,
    running: BinaryHeap<Running>,
    waiting: VecDeque<u64>,
    /// When the last event was, and what was gathered in this second until then.
    now: u64,
    busy_micros: u64,
    waiting_micros: u64,
    latencies: Vec<u64>,
    seconds: Vec<Second>,
}

impl Revision {
    fn new(spec: &AutoscaleSpec, service: Service, n_seconds: u64, seed: u64) -> Self {
        let mut revision = Self {
            service,
            random: Random::new(seed),
            scaler: Autoscaler::new(spec.clone(), Duration::ZERO),
            desired: 0,
            ready: 0,
            starting: VecDeque::new(),
            running: BinaryHeap::new(),
            waiting: VecDeque::new(),
            now: 0,
            busy_micros: 0,
            waiting_micros: 0,
            latencies: Vec::new(),
            seconds: vec![Second::default(); n_seconds as usize],
        };
        revision.decide();
        revision
    }

    fn run_second(&mut self, second: u64, requests_per_second: f64) {
        let end = (second + 1) * MICROS;
        let mut arrival = self.next_arrival(second * MICROS, requests_per_second);
        while arrival < end {
            self.advance(arrival);
            self.arrive();
            arrival = self.next_arrival(arrival, requests_per_second);
        }
        self.advance(end);
        self.sample(self.seconds[second as usize].arrived);
        if (second + 1).is_multiple_of(TICK_SECONDS) {
            self.decide();
        }
        let waiting_micros = std::mem::take(&mut self.waiting_micros);
        let busy_micros = std::mem::take(&mut self.busy_micros);
        let done = &mut self.seconds[second as usize];
        done.desired = self.desired;
        done.ready = self.ready;
        done.starting = self.starting.len() as u32;
        done.queued = waiting_micros as f64 / MICROS as f64;
        done.concurrency = done.queued + busy_micros as f64 / MICROS as f64;
    }

    fn next_arrival(&mut self, after: u64, requests_per_second: f64) -> u64 {
        let gap = self.random.exponential() / requests_per_second * MICROS as f64;
        // Without load the gap is infinite; the cast holds it at the greatest number.
        after.saturating_add((gap as u64).max(1))
    }

    /// Lets everything happen that is due until `until`.
    fn advance(&mut self, until: u64) {
        loop {
            let done = self.running.peek().map(|Reverse((done, _))| *done);
            let started = self.starting.front().copied();
            let next = done.into_iter().chain(started).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                break;
            };
            self.pass(next);
            if started == Some(next) {
                self.starting.pop_front();
                self.ready += 1;
            } else if let Some(Reverse((done, arrived))) = self.running.pop() {
                self.latencies.push(done - arrived);
            }
            self.dispatch();
        }
        self.pass(until);
    }

    /// Moves the clock.
    fn pass(&mut self, to: u64) {
        let passed = to - self.now;
        self.busy_micros += passed * self.running.len() as u64;
        self.waiting_micros += passed * self.waiting.len() as u64;
        self.now = to;
    }

    fn arrive(&mut self) {
        self.seconds[(self.now / MICROS) as usize].arrived += 1;
        if self.waiting.len() >= self.service.queue_max {
            self.seconds[(self.now / MICROS) as usize].slow += 1;
            return;
        }
        self.waiting.push_back(self.now);
        self.dispatch();
        if self.ready == 0 && self.starting.is_empty() {
            self.decide();
        }
    }

    fn dispatch(&mut self) {
        let places = self.ready as usize * self.service.concurrency as usize;
        while self.running.len() < places {
            let Some(arrived) = self.waiting.pop_front() else {
                return;
            };
            let mean = self.service.service_time.as_micros() as f64;
            let done = self.now + (mean * (0.8 + 0.4 * self.random.unit())) as u64;
            if u128::from(done - arrived) > self.service.objective.as_micros() {
                self.seconds[(arrived / MICROS) as usize].slow += 1;
            }
            self.running.push(Reverse((done, arrived)));
        }
    }

    /// Tells the autoscaler what the second was.
    fn sample(&mut self, arrived: u32) {
        let per_second = |micros: u64| micros as f64 / MICROS as f64;
        self.latencies.sort_unstable();
        let rank = (self.latencies.len() * 99).div_ceil(100);
        let p99 = rank.checked_sub(1).map(|index| self.latencies[index]);
        let sample = Sample {
            concurrency: per_second(self.busy_micros + self.waiting_micros),
            requests: self.latencies.len() as f64,
            arrived: Some(f64::from(arrived)),
            queue_depth: per_second(self.waiting_micros),
            cpu_cores: per_second(self.busy_micros),
            latency_p99: p99.map(Duration::from_micros),
            ..Sample::default()
        };
        self.latencies.clear();
        self.scaler.record(Duration::from_micros(self.now), sample);
    }

    fn decide(&mut self) {
        let ready = Ready {
            waiting: self.waiting.len() as u32,
            ..Ready::new(self.ready)
        };
        let now = Duration::from_micros(self.now);
        self.desired = self.scaler.decide(now, ready).desired;
        let cold_start = self.service.cold_start.as_micros() as u64;
        while self.desired > self.n_replicas() {
            self.starting.push_back(self.now + cold_start);
        }
        while self.desired < self.n_replicas() {
            if self.starting.pop_back().is_none() {
                self.ready -= 1;
            }
        }
    }

    fn n_replicas(&self) -> u32 {
        self.ready + self.starting.len() as u32
    }

    /// Counts what still waits as slow if it waited too long already.
    fn finish(mut self) -> Outcome {
        for arrived in std::mem::take(&mut self.waiting) {
            if u128::from(self.now - arrived) > self.service.objective.as_micros() {
                self.seconds[(arrived / MICROS) as usize].slow += 1;
            }
        }
        Outcome {
            seconds: self.seconds,
        }
    }
}

#[cfg(test)]
mod tests;
