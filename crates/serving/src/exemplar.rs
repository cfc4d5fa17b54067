//! Exemplars: for each bucket of a latency histogram, the trace of a request that fell into it.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::histogram::N_TIME_BUCKETS;

/// The id of a trace, as W3C's trace context has it; not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// Returns the id; `None` for zero, which is none.
    #[must_use]
    pub fn new(id: u128) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// Returns its bytes, the first digit first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A request that stands for the others of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemplar {
    pub(crate) trace: TraceId,
    pub(crate) value_ns: u64,
    /// When it ended, since 1970.
    pub(crate) at: Duration,
}

/// One exemplar that one thread writes and others read: the writer makes `sequence` odd while it writes.
#[derive(Debug, Default)]
struct Cell {
    sequence: AtomicU64,
    trace_high: AtomicU64,
    trace_low: AtomicU64,
    value_ns: AtomicU64,
    at_ms: AtomicU64,
}

impl Cell {
    fn write(&self, exemplar: Exemplar) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let [high, low] = halves(exemplar.trace);
        self.trace_high.store(high, Ordering::Relaxed);
        self.trace_low.store(low, Ordering::Relaxed);
        self.value_ns.store(exemplar.value_ns, Ordering::Relaxed);
        let at_ms = u64::try_from(exemplar.at.as_millis()).unwrap_or(u64::MAX);
        self.at_ms.store(at_ms, Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Returns the exemplar; `None` if there is none, or it is just being written.
    fn read(&self) -> Option<Exemplar> {
        let sequence = self.sequence.load(Ordering::Acquire);
        let high = self.trace_high.load(Ordering::Relaxed);
        let low = self.trace_low.load(Ordering::Relaxed);
        let value_ns = self.value_ns.load(Ordering::Relaxed);
        let at_ms = self.at_ms.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_whole =
            sequence.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == sequence;
        let trace = TraceId::new(u128::from(high) << 64 | u128::from(low))?;
        is_whole.then_some(Exemplar {
            trace,
            value_ns,
            at: Duration::from_millis(at_ms),
        })
    }
}

fn halves(trace: TraceId) -> [u64; 2] {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    [half(trace.0 >> 64), half(trace.0)]
}

/// One event loop's exemplars; made when the first request with a trace comes.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(OnceLock<Box<[Cell; N_TIME_BUCKETS]>>);

impl Exemplars {
    /// Keeps `exemplar` for its bucket. Only the event loop itself may.
    pub(crate) fn keep(&self, bucket: usize, exemplar: Exemplar) {
        let cells = self.0.get_or_init(Box::default);
        if let Some(cell) = cells.get(bucket) {
            cell.write(exemplar);
        }
    }

    /// Returns the exemplar of a bucket.
    pub(crate) fn get(&self, bucket: usize) -> Option<Exemplar> {
        self.0.get()?.get(bucket)?.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_of_a_bucket_is_kept() {
        let exemplars = Exemplars::default();
        assert_eq!(exemplars.get(0), None);
        let exemplar = |id, at| Exemplar {
            trace: TraceId::new(id).unwrap(),
            value_ns: 7,
            at: Duration::from_millis(at),
        };
        let id = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
        exemplars.keep(3, exemplar(1, 5));
        exemplars.keep(3, exemplar(id, 6));
        assert_eq!(exemplars.get(3), Some(exemplar(id, 6)));
        assert_eq!(exemplars.get(2), None);
        let shown = TraceId::new(id).unwrap().to_string();
        assert_eq!(shown, "0af7651916cd43dd8448eb211c80319c");
    }
}
