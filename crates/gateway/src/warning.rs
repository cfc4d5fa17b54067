//! Warnings that recur: one a minute, with the number of those left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_base::Clock;

use crate::log::Log;

/// The pause between two warnings.
const PAUSE: Duration = Duration::from_secs(60);

const NEVER: u64 = u64::MAX;

/// Warnings about one thing.
#[derive(Debug)]
pub(crate) struct Warnings {
    log: Log,
    clock: Arc<dyn Clock>,
    /// On the monotonic clock, in ns; [`NEVER`] before the first one.
    said_ns: AtomicU64,
    left_out: AtomicU64,
}

impl Warnings {
    pub(crate) fn new(log: Log, clock: Arc<dyn Clock>) -> Self {
        Self {
            log,
            clock,
            said_ns: AtomicU64::new(NEVER),
            left_out: AtomicU64::new(0),
        }
    }

    /// Writes a warning, unless there was one less than a minute ago.
    pub(crate) fn say(&self, message: &str) {
        if let Some(left_out) = self.turn() {
            match left_out {
                0 => self.log.warn(message),
                n => self.log.warn(&format!("{message} ({n} more like this)")),
            }
        }
    }

    /// Returns how many were left out since the last one, if it is time for one.
    fn turn(&self) -> Option<u64> {
        let now = self.clock.monotonic();
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(NEVER - 1);
        let said_ns = self.said_ns.load(Ordering::Relaxed);
        let pause_ns = u64::try_from(PAUSE.as_nanos()).unwrap_or(u64::MAX);
        if said_ns != NEVER && now_ns.saturating_sub(said_ns) < pause_ns {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.said_ns.store(now_ns, Ordering::Relaxed);
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use coracle_base::ManualClock;

    use super::*;
    use crate::log::{AccessLog, LogFormat};

    #[test]
    fn one_a_minute() {
        let clock = Arc::new(ManualClock::new());
        let (log, _writer) = Log::start(LogFormat::Human, AccessLog::Off, clock.clone());
        let warnings = Warnings::new(log, clock.clone());
        assert_eq!(warnings.turn(), Some(0));
        clock.advance(Duration::from_secs(59));
        assert_eq!([warnings.turn(), warnings.turn()], [None, None]);
        clock.advance(Duration::from_secs(1));
        assert_eq!([warnings.turn(), warnings.turn()], [Some(2), None]);
    }
}
