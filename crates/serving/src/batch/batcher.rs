//! Calls that wait for others: KServe's `batcher`, Triton's dynamic batching.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Entry, OPPORTUNISTIC_ROWS_MAX};

/// How calls to a model are put together.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct BatchSettings {
    /// The most rows that are put together; 1 for never. A call that has more runs alone.
    pub rows_max: usize,
    /// How long a call waits for others; zero for not at all: then only what waits for a thread anyhow is put together.
    pub wait: Duration,
    /// Numbers of rows that do not wait for more, as Triton's `preferred_batch_size`; empty for none.
    pub rows_preferred: Vec<usize>,
}

impl BatchSettings {
    /// KServe's default of `maxBatchSize`.
    pub const ROWS_MAX_DEFAULT: usize = 32;
    /// KServe's default of `maxLatency`.
    pub const WAIT_DEFAULT: Duration = Duration::from_secs(5);

    /// Returns the settings of a model of which nobody says anything: what is queued anyhow is put together.
    #[must_use]
    pub fn opportunistic() -> Self {
        Self {
            rows_max: OPPORTUNISTIC_ROWS_MAX,
            wait: Duration::ZERO,
            rows_preferred: Vec::new(),
        }
    }
}

/// Calls that go on together.
#[derive(Debug)]
pub struct Batch(pub Vec<Entry>);

/// What became of a call that joined a batcher.
#[derive(Debug)]
pub struct Joined {
    /// The batches that are to run now, in order.
    pub ready: Vec<Batch>,
    /// The number of the batch that the call waits in, and until when, unless it is in one of those.
    pub waiting: Option<(u64, Instant)>,
}

/// Where calls to one model wait for others.
///
/// Expected flow: a call joins; it runs what is ready, then waits for its answer, and if the time of its batch comes first, takes
/// the batch and runs it. Every call of a batch does so, and the first one gets it: whichever callers go, the batch runs.
/// The number of calls that wait is bounded by the rows of a batch.
#[derive(Debug)]
pub struct Batcher {
    settings: BatchSettings,
    forming: Mutex<Forming>,
}

#[derive(Debug, Default)]
struct Forming {
    number: u64,
    entries: Vec<Entry>,
    until: Option<Instant>,
}

impl Forming {
    fn n_rows(&self) -> usize {
        let rows = self.entries.iter().map(|entry| entry.n_rows);
        rows.fold(0, usize::saturating_add)
    }

    /// Takes those out whose callers have gone; a batch that nobody is left in has not begun.
    fn take_abandoned(&mut self) -> Vec<Entry> {
        let entries = std::mem::take(&mut self.entries);
        let (gone, kept) = entries
            .into_iter()
            .partition(|entry| entry.answer.is_abandoned());
        self.entries = kept;
        if self.entries.is_empty() {
            self.until = None;
        }
        gone
    }

    fn take(&mut self) -> Option<Batch> {
        self.number += 1;
        self.until = None;
        let entries = std::mem::take(&mut self.entries);
        (!entries.is_empty()).then_some(Batch(entries))
    }
}

impl Batcher {
    pub(crate) fn new(settings: BatchSettings) -> Self {
        Self {
            settings,
            forming: Mutex::default(),
        }
    }

    /// Returns how calls are put together.
    #[must_use]
    pub fn settings(&self) -> &BatchSettings {
        &self.settings
    }

    /// Tells whether calls wait for others.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.settings.wait.is_zero() && self.settings.rows_max > 1
    }

    fn forming(&self) -> MutexGuard<'_, Forming> {
        self.forming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call wait for others; one that has no more than `time_left` does not, and takes along who is there.
    pub fn join(&self, entry: Entry, time_left: Duration) -> Joined {
        let now = Instant::now();
        let mut forming = self.forming();
        let gone = forming.take_abandoned();
        let mut ready = Vec::new();
        let n_rows = forming.n_rows().saturating_add(entry.n_rows);
        if n_rows > self.settings.rows_max {
            ready.extend(forming.take());
        }
        forming.entries.push(entry);
        let until = match forming.until {
            Some(until) => until,
            None => *forming.until.insert(now + self.settings.wait),
        };
        let n_rows = forming.n_rows();
        let is_full = n_rows >= self.settings.rows_max
            || self.settings.rows_preferred.contains(&n_rows)
            || now + time_left <= until;
        if is_full {
            ready.extend(forming.take());
        }
        let waiting = (!is_full).then_some((forming.number, until));
        drop(forming);
        // What they held may wake others, which is no business of who holds the lock.
        drop(gone);
        Joined { ready, waiting }
    }

    /// Lets those leave whose callers have gone, with the places that they hold.
    pub fn leave(&self) {
        let gone = self.forming().take_abandoned();
        drop(gone);
    }

    /// Takes the batch of this number, if it still waits.
    pub fn take(&self, number: u64) -> Option<Batch> {
        let mut forming = self.forming();
        if forming.number != number {
            return None;
        }
        forming.take()
    }
}
