//! What is told while a load runs.

use std::time::Duration;

/// How far a load is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// A run begins.
    Begins {
        /// Which of how many; `None` in a search, whose length is not known.
        run: Option<(usize, usize)>,
        /// Its load in words.
        load: String,
    },
    /// A run goes on.
    Runs {
        /// Its load in words.
        load: String,
        /// Whether it is still warming up.
        is_warming_up: bool,
        /// The share that is done, from 0 to 1.
        share: f64,
        /// Requests measured since the last report, and how long ago that was.
        recent: (u64, Duration),
        /// Requests that failed so far.
        n_failed: u64,
    },
    /// A run has ended.
    Ended {
        /// What came of it, in a few words.
        summary: String,
    },
}
