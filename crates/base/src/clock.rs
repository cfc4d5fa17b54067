//! Time as an argument: the one place that reads the machine's clocks, and a hand-moved clock for tests.
#![expect(
    clippy::disallowed_types,
    reason = "this is the clock that others take"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tells the time. Everything below the binary takes one of these instead of reading a clock.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns the time since an arbitrary fixed moment; never goes backwards.
    fn monotonic(&self) -> Duration;
    /// Returns the time since 1970-01-01T00:00:00Z; zero if the machine's clock is before that.
    fn unix_time(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    #[expect(
        clippy::disallowed_types,
        reason = "this is the clock that others take"
    )]
    start: std::time::Instant,
}

impl SystemClock {
    /// Returns a clock whose monotonic time counts from now.
    #[must_use]
    #[expect(
        clippy::disallowed_types,
        reason = "this is the clock that others take"
    )]
    pub fn new() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others take"
    )]
    fn unix_time(&self) -> Duration {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// A clock that stands still until moved, for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// Returns a clock that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward; durations past 584 years saturate.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn unix_time(&self) -> Duration {
        self.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::new();
        assert_eq!(clock.monotonic(), Duration::ZERO);
        clock.advance(Duration::from_millis(5));
        assert_eq!(clock.monotonic(), Duration::from_millis(5));
        assert_eq!(clock.unix_time(), Duration::from_millis(5));
    }
}
