//! Where a call runs: on the event loop that read it, or on the compute pool.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On the event loop that read the request: no hand-over, for calls that are over soon.
    EventLoop,
    /// On the compute pool: for calls that would keep other connections waiting.
    ComputePool,
}

/// A call expected to take longer than this does not run on an event loop.
const EVENT_LOOP_MAX: Duration = Duration::from_micros(500);
/// Before anything was measured, bodies beyond this many bytes do not run on an event loop.
const UNMEASURED_BYTES_MAX: usize = 32 * 1024;
/// The weight of a new measurement: one in eight.
const SMOOTHING: f64 = 0.125;

/// What a model's calls have cost, per byte of request: decoding, running and encoding together.
///
/// An exponentially weighted mean. Small requests make a byte look dear, because every call has a fixed
/// cost, so large ones are rather judged too costly than too cheap.
#[derive(Debug, Default)]
pub struct CallCost {
    /// The bits of a double; zero before the first measurement.
    ns_per_byte: AtomicU64,
}

impl CallCost {
    /// Returns a cost of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the mean cost in ns per byte; 0 if nothing was measured.
    #[must_use]
    pub fn ns_per_byte(&self) -> f64 {
        f64::from_bits(self.ns_per_byte.load(Ordering::Relaxed))
    }

    /// Returns where a call with a body of `n_bytes` runs.
    #[must_use]
    pub fn placement(&self, n_bytes: usize) -> Placement {
        let ns_per_byte = self.ns_per_byte();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let is_cheap = if ns_per_byte == 0.0 {
            n_bytes <= UNMEASURED_BYTES_MAX
        } else {
            ns_per_byte * n_bytes as f64 <= EVENT_LOOP_MAX.as_nanos() as f64
        };
        if is_cheap {
            Placement::EventLoop
        } else {
            Placement::ComputePool
        }
    }

    /// Takes a measurement in. Of two at once one may be lost, which a mean can bear.
    pub fn record(&self, n_bytes: usize, elapsed: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let measured = elapsed.as_nanos() as f64 / n_bytes.max(1) as f64;
        let mean = match self.ns_per_byte() {
            0.0 => measured,
            mean => mean + SMOOTHING * (measured - mean),
        };
        self.ns_per_byte.store(mean.to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_calls_stay_on_the_event_loop() {
        let cost = CallCost::new();
        assert_eq!(cost.placement(1_000), Placement::EventLoop);
        assert_eq!(cost.placement(1_000_000), Placement::ComputePool);
        // 50 ns a byte: 10,000 bytes take half a millisecond.
        cost.record(100, Duration::from_nanos(5_000));
        assert_eq!(cost.placement(10_000), Placement::EventLoop);
        assert_eq!(cost.placement(10_001), Placement::ComputePool);
    }

    #[test]
    fn a_model_that_becomes_slow_moves_to_the_pool_and_back() {
        let cost = CallCost::new();
        let settle = |elapsed| (0..100).for_each(|_| cost.record(100, elapsed));
        settle(Duration::from_micros(2));
        assert_eq!(cost.placement(100), Placement::EventLoop);
        settle(Duration::from_millis(2));
        assert_eq!(cost.placement(100), Placement::ComputePool);
        settle(Duration::from_micros(2));
        assert_eq!(cost.placement(100), Placement::EventLoop);
    }
}
