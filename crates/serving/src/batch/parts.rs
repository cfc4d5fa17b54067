//! One call of many rows, run in parts: by the thread that it was given, and by those of the pool that have nothing else to do.
//!
//! Parts are short, so that a thread that helps is soon free for a call that waits, and so that a run ends soon after its caller
//! has left or its time is over. A model of which its author says how many calls may run at a time, or that calls run alone,
//! has none.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::Clock;
use coracle_model::{RunError, RunErrorKind};
use coracle_tensor::{Tensor, stack};

use super::fit::is_mergeable;
use super::{Entry, count, may_batch};
use crate::loaded_model::{Attempt, LoadedModel, Panicked};
use crate::{CallCost, ServedModel};

/// A run that is expected to take less is not taken apart: to wake a thread takes up to a tenth of this.
const RUN_MIN: Duration = Duration::from_millis(2);
/// A part is to take at least this long,
const PART_MIN: Duration = Duration::from_millis(1);
/// and at most this long,
const PART_MAX: Duration = Duration::from_millis(5);
/// and between the two there are so many of them.
const PARTS: u128 = 64;
/// All parts together are to cost no more than so many times the whole, where that was measured.
const COST_MAX: f64 = 1.25;
/// Parts have a multiple of so many rows, which is what kernels do at once.
const ROWS_AT_ONCE: usize = 64;

/// Threads that may help with a run.
pub(crate) trait Help {
    /// Returns how many threads may work on a run, its own one included.
    fn n_threads(&self) -> usize;

    /// Returns the clock that the calls' times are on.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// Lets threads that have nothing else to do work on `run`, until it is withdrawn.
    fn offer(&self, run: &Arc<RunInParts>);

    /// Lets no more threads come to `run`.
    fn withdraw(&self, run: &Arc<RunInParts>);
}

/// A run in parts.
pub(crate) struct RunInParts {
    loaded: Arc<LoadedModel>,
    inputs: Vec<Tensor>,
    outputs: Vec<usize>,
    n_rows: usize,
    part_rows: usize,
    until: Duration,
    clock: Arc<dyn Clock>,
    progress: Mutex<Progress>,
    /// Told when no part runs any more.
    is_idle: Condvar,
}

struct Progress {
    /// The outputs of each part that is done.
    parts: Vec<Option<Vec<Tensor>>>,
    n_begun: usize,
    n_running: usize,
    /// The time that all parts took.
    elapsed: Duration,
    /// The rows of the parts that are done.
    n_rows_done: usize,
    failure: Option<Failure>,
    /// Whether the outcome was taken: a thread that comes late finds nothing to do.
    is_over: bool,
}

/// Why a part has no outputs.
enum Failure {
    /// The call cannot be answered any more.
    TooLate(RunError),
    /// The model refused it, or its rows are not those of the request: what is to be said of that, the whole run says.
    NeedsWhole,
    Panicked(Panicked),
}

impl std::fmt::Debug for RunInParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunInParts")
            .field("n_rows", &self.n_rows)
            .field("part_rows", &self.part_rows)
            .finish_non_exhaustive()
    }
}

/// What became of a run in parts.
pub(super) enum Outcome {
    /// It is over.
    Ran(Attempt),
    /// It has to run as a whole, on these inputs.
    NeedsWhole(Arc<RunInParts>),
}

/// Takes an offer back, whatever happens.
struct Offer<'a>(&'a dyn Help, &'a Arc<RunInParts>);

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        self.0.withdraw(self.1);
    }
}

/// Runs a call in parts, if it is worth that; `None` if it is not. Returns the time of all threads, too.
pub(super) fn run(
    model: &ServedModel,
    entry: &mut Entry,
    help: &dyn Help,
) -> Option<(Outcome, Duration)> {
    let part_rows = part_rows(model.cost(), entry.n_rows)?;
    let is_apt = help.n_threads() > 1
        && entry.lease.model().stays_on_its_thread()
        && model.queue_limits().instances.is_none()
        && may_batch(model, &entry.lease)
        && is_mergeable(entry)
        && !entry.outputs.is_empty();
    if !is_apt {
        return None;
    }
    let run = Arc::new(RunInParts::new(entry, part_rows, Arc::clone(help.clock()))?);
    help.offer(&run);
    let offer = Offer(help, &run);
    while run.work_on_next() {
        if entry.answer.is_abandoned() {
            run.give_up();
        }
    }
    drop(offer);
    let (elapsed, n_rows_done) = run.wait();
    // Of a run that ended before its time as well: else it would be taken for one that can be done in time for ever.
    if n_rows_done > 0 {
        let of = |n_rows: usize| elapsed.mul_f64(count(n_rows) / count(n_rows_done));
        model.cost().record_run(part_rows, of(part_rows));
        model.cost().record_run(entry.n_rows, of(entry.n_rows));
    }
    let outcome = match run.take_outcome() {
        Some(attempt) => Outcome::Ran(attempt),
        None => Outcome::NeedsWhole(run),
    };
    Some((outcome, elapsed))
}

/// Returns how many rows a part has of a run of `n_rows`; `None` if it is not to be taken apart.
fn part_rows(cost: &CallCost, n_rows: usize) -> Option<usize> {
    let expected = cost.running(n_rows).filter(|time| *time >= RUN_MIN)?;
    let at_most = |part: Duration| expected.as_nanos() / part.as_nanos();
    let n_parts = at_most(PART_MIN).min(PARTS).max(at_most(PART_MAX));
    let rows = n_rows.div_ceil(usize::try_from(n_parts).ok()?.max(1));
    let mut rows = match rows {
        few @ ..ROWS_AT_ONCE => few,
        many => many.checked_next_multiple_of(ROWS_AT_ONCE)?,
    };
    // What a run costs whatever its rows is paid for each part.
    while rows < n_rows && is_dear(cost, rows, expected.div_f64(count(n_rows))) {
        rows = rows.checked_mul(2)?;
    }
    (rows < n_rows).then_some(rows)
}

/// Tells whether rows were seen to cost too much in runs of so many of them.
fn is_dear(cost: &CallCost, n_rows: usize, each: Duration) -> bool {
    let part = cost.running(n_rows).filter(|_| cost.is_measured(n_rows));
    part.is_some_and(|part| part > each.mul_f64(count(n_rows) * COST_MAX))
}

impl RunInParts {
    fn new(entry: &mut Entry, part_rows: usize, clock: Arc<dyn Clock>) -> Option<Self> {
        let loaded = entry.lease.shared()?;
        let inputs = std::mem::take(&mut entry.inputs).into_iter();
        let n_parts = entry.n_rows.div_ceil(part_rows);
        Some(Self {
            loaded,
            inputs: inputs.map(Tensor::into_shared).collect(),
            outputs: entry.outputs.clone(),
            n_rows: entry.n_rows,
            part_rows,
            until: entry.until,
            clock,
            progress: Mutex::new(Progress {
                parts: (0..n_parts).map(|_| None).collect(),
                n_begun: 0,
                n_running: 0,
                elapsed: Duration::ZERO,
                n_rows_done: 0,
                failure: None,
                is_over: false,
            }),
            is_idle: Condvar::new(),
        })
    }

    /// Returns the inputs of all parts.
    pub(super) fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells how many parts nobody has begun.
    pub(crate) fn n_left(&self) -> usize {
        self.progress().n_left()
    }

    /// Runs the next part; tells whether there was one.
    pub(crate) fn work_on_next(&self) -> bool {
        let mut progress = self.progress();
        if progress.n_left() == 0 {
            return false;
        }
        let index = progress.n_begun;
        progress.n_begun += 1;
        progress.n_running += 1;
        drop(progress);
        let started = self.clock.monotonic();
        // Whatever happens, the part is over.
        let result = catch_unwind(AssertUnwindSafe(|| self.run_part(index, started)))
            .unwrap_or(Err(Failure::Panicked(Panicked)));
        let elapsed = self.clock.monotonic().saturating_sub(started);
        let mut progress = self.progress();
        progress.n_running -= 1;
        progress.elapsed += elapsed;
        match result {
            Ok(outputs) => {
                progress.n_rows_done += self.rows_of(index).len();
                progress.parts[index] = Some(outputs);
            }
            Err(failure) => progress.failure = progress.failure.take().or(Some(failure)),
        }
        if progress.n_running == 0 {
            drop(progress);
            self.is_idle.notify_one();
        }
        true
    }

    fn run_part(&self, index: usize, now: Duration) -> Result<Vec<Tensor>, Failure> {
        let time = self.until.saturating_sub(now);
        if time.is_zero() {
            let message = "the run did not end in the time that the call had";
            return Err(Failure::TooLate(RunError::new(
                RunErrorKind::OutOfTime,
                message,
            )));
        }
        let rows = self.rows_of(index);
        let n_rows = rows.len();
        let inputs = self.inputs.iter().map(|input| input.rows(rows.clone()));
        let inputs: Vec<Tensor> = inputs.collect::<Option<_>>().ok_or(Failure::NeedsWhole)?;
        let ran = self.loaded.try_run(&inputs, &self.outputs, time, &[]);
        let outputs = ran
            .map_err(Failure::Panicked)?
            .map_err(|error| match error.kind() {
                RunErrorKind::OutOfTime | RunErrorKind::Unwanted => Failure::TooLate(error),
                _ => Failure::NeedsWhole,
            })?;
        let are_rows = |output: &Tensor| output.shape().first() == Some(&n_rows);
        if outputs.iter().all(are_rows) {
            Ok(outputs)
        } else {
            self.loaded.forbid_batches();
            Err(Failure::NeedsWhole)
        }
    }

    fn rows_of(&self, index: usize) -> Range<usize> {
        let start = index * self.part_rows;
        start..(start + self.part_rows).min(self.n_rows)
    }

    /// Lets no further part begin: nobody waits for the answer any more.
    fn give_up(&self) {
        let error = RunError::new(
            RunErrorKind::Unwanted,
            "nobody waits for the answer any more",
        );
        let mut progress = self.progress();
        progress.failure = progress.failure.take().or(Some(Failure::TooLate(error)));
    }

    /// Waits until no part runs; returns the time that all of them took, and how many rows they had that have outputs.
    fn wait(&self) -> (Duration, usize) {
        let mut progress = self.progress();
        while progress.n_running > 0 {
            let waited = self.is_idle.wait(progress);
            progress = waited.unwrap_or_else(PoisonError::into_inner);
        }
        (progress.elapsed, progress.n_rows_done)
    }

    /// Returns what the run came to; `None` if it has to run as a whole.
    fn take_outcome(&self) -> Option<Attempt> {
        let mut progress = self.progress();
        progress.is_over = true;
        let parts = std::mem::take(&mut progress.parts);
        match progress.failure.take() {
            Some(Failure::TooLate(error)) => return Some(Ok(Err(error))),
            Some(Failure::Panicked(panicked)) => return Some(Err(panicked)),
            Some(Failure::NeedsWhole) => return None,
            None => {}
        }
        drop(progress);
        let parts: Vec<Vec<Tensor>> = parts.into_iter().collect::<Option<_>>()?;
        let outputs = (0..self.outputs.len()).map(|output| {
            let parts: Option<Vec<&Tensor>> = parts.iter().map(|part| part.get(output)).collect();
            stack(&parts?)
        });
        let outputs = outputs.collect::<Option<_>>();
        if outputs.is_none() {
            // Parts of other widths: rows are not independent.
            self.loaded.forbid_batches();
        }
        Some(Ok(Ok(outputs?)))
    }
}

impl Progress {
    fn n_left(&self) -> usize {
        match self.failure {
            None if !self.is_over => self.parts.len() - self.n_begun,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
