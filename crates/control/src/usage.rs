//! What revisions use, as the serving process tells from time to time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_serving::experiment::ExperimentSummary;
use coracle_serving::{LoadReport, RevisionId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::controller::rollouts::Watched;

/// What a revision used during some time.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Usage {
    /// The time of processors that its calls took.
    pub compute: Duration,
    /// The memory that its model holds.
    pub memory_bytes: u64,
}

/// What all revisions used during the last window.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct UsageReport {
    /// How long the window was.
    pub window: Duration,
    /// The revisions that are loaded.
    pub revisions: Vec<(RevisionId, Usage)>,
    /// Each process of those that are served by processes.
    #[serde(default)]
    pub processes: Vec<(RevisionId, Vec<Usage>)>,
}

/// The reports that nobody has looked at yet, with the monotonic times at which they came.
#[derive(Debug, Default)]
pub struct LoadQueue {
    reports: Mutex<VecDeque<(Duration, LoadReport)>>,
    told: Notify,
    watched: Mutex<Watched>,
    experiments: Mutex<Vec<ExperimentSummary>>,
}

/// The most reports that are kept; what is older says nothing about now.
const REPORTS_MAX: usize = 128;

impl LoadQueue {
    /// Takes a report that came at `now`, on the monotonic clock.
    pub fn push(&self, now: Duration, report: LoadReport) {
        let is_watched = self.watched().take(&report);
        let mut reports = self.reports();
        if reports.len() == REPORTS_MAX {
            reports.pop_front();
        }
        let was_empty = reports.is_empty();
        reports.push_back((now, report));
        drop(reports);
        if was_empty || is_watched {
            self.told.notify_one();
        }
    }

    /// Takes what failing revisions have done since the last report, of which the next one tells once more.
    pub fn push_failures(&self, report: &LoadReport) {
        if self.watched().take_early(report) {
            self.told.notify_one();
        }
    }

    fn reports(&self) -> MutexGuard<'_, VecDeque<(Duration, LoadReport)>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the revisions have done that rollouts are about.
    pub(crate) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes how experiments stand.
    pub fn set_experiments(&self, summaries: Vec<ExperimentSummary>) {
        let experiments = self.experiments.lock();
        *experiments.unwrap_or_else(PoisonError::into_inner) = summaries;
        self.told.notify_one();
    }

    /// Returns how an experiment stands, if it has been told.
    pub(crate) fn experiment(&self, namespace: &str, name: &str) -> Option<ExperimentSummary> {
        let experiments = self.experiments.lock();
        let experiments = experiments.unwrap_or_else(PoisonError::into_inner);
        let mut all = experiments.iter();
        let found = all.find(|one| one.id.namespace == namespace && one.id.name == name);
        found.cloned()
    }

    /// Waits until something comes while nothing was there.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    /// Tells whether something has come since the last look.
    pub(crate) fn has_news(&self) -> bool {
        !self.reports().is_empty()
    }

    /// Returns what has come since the last look, oldest first.
    pub(crate) fn take(&self) -> VecDeque<(Duration, LoadReport)> {
        std::mem::take(&mut *self.reports())
    }
}

/// The last report, with the time since 1970 at which it came.
#[derive(Debug, Default)]
pub struct UsageCell(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    at: Duration,
    window: Duration,
    revisions: BTreeMap<RevisionId, Usage>,
    processes: BTreeMap<RevisionId, Vec<Usage>>,
}

impl UsageCell {
    /// Takes a report that came at `now`, since 1970.
    pub fn set(&self, report: UsageReport, now: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Last {
            at: now,
            window: report.window,
            revisions: report.revisions.into_iter().collect(),
            processes: report.processes.into_iter().collect(),
        };
    }

    /// Returns when the last report came, its window, and what a revision used, or one of its processes.
    pub(crate) fn get(
        &self,
        revision: &RevisionId,
        process: Option<usize>,
    ) -> Option<(Duration, Duration, Usage)> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = match process {
            Some(index) => last.processes.get(revision)?.get(index)?,
            None => last.revisions.get(revision)?,
        };
        Some((last.at, last.window, *usage))
    }
}
