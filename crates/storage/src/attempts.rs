//! How often to try, and how long to wait in between.

use std::time::Duration;

use crate::config::StorageLimits;
use crate::error::StorageError;

const DELAY_MAX: Duration = Duration::from_secs(30);

/// Counts the attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    limits: &'a StorageLimits,
    n_failed: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(limits: &'a StorageLimits) -> Self {
        Self {
            limits,
            n_failed: 0,
        }
    }

    /// Starts counting anew, after something came of an attempt.
    pub(crate) fn reset(&mut self) {
        self.n_failed = 0;
    }

    /// Returns after the delay when another attempt is due.
    ///
    /// # Errors
    /// `error` itself, where it will not pass or was the last allowed.
    pub(crate) async fn pause(&mut self, error: StorageError) -> Result<(), StorageError> {
        self.n_failed += 1;
        if !error.is_passing() || self.n_failed >= self.limits.attempts_max {
            return Err(error);
        }
        let factor = 1_u32.checked_shl(self.n_failed - 1).unwrap_or(u32::MAX);
        let delay = self.limits.retry_delay.saturating_mul(factor);
        tokio::time::sleep(delay.min(DELAY_MAX)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StorageErrorKind;

    fn error() -> StorageError {
        StorageError::new(StorageErrorKind::Unreachable, "x")
    }

    #[tokio::test(start_paused = true)]
    async fn waits_twice_as_long_each_time_and_then_gives_up() {
        let limits = StorageLimits::default();
        let mut attempts = Attempts::new(&limits);
        let start = tokio::time::Instant::now();
        for expected_ms in [500, 1500, 3500] {
            attempts.pause(error().passing()).await.unwrap();
            assert_eq!(start.elapsed().as_millis(), expected_ms);
        }
        attempts.pause(error().passing()).await.unwrap_err();
        let mut attempts = Attempts::new(&limits);
        attempts.pause(error()).await.unwrap_err();
        assert_eq!(start.elapsed().as_millis(), 3500);
    }
}
