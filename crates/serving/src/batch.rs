//! Batching: the inputs of several calls to one model put together along their first dimension, run once, and taken apart
//! again, so that each caller gets exactly what it would have got alone.
//!
//! Calls are put together in two ways. The compute pool takes what is queued for the same model already and never waits
//! ([`crate::ComputePool`]). Where it is asked for, calls wait for others ([`Batcher`]). Either way [`run`] decides which
//! of them fit together; if a merged run fails, each call runs alone, so that a bad one fails alone.

mod batcher;
mod fit;
mod parts;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use coracle_base::Clock;
use coracle_model::{RunError, Wanted};
use coracle_tensor::{Tensor, split, stack};

use self::fit::{fit_together, is_mergeable};
use self::parts::Outcome;
use crate::{CallCost, Lease, LoadedModel, Placement, Priority, Refusal, ServedModel};

pub(crate) use self::parts::{Help, RunInParts};

pub use self::batcher::{Batch, BatchSettings, Batcher, Joined};

/// The most rows of calls that are put together without being asked to.
pub(crate) const OPPORTUNISTIC_ROWS_MAX: usize = 1 << 16;
/// A merged run that is over within this time is worth having, whatever it saves: hand-overs cost as much.
const SHORT_RUN: Duration = Duration::from_millis(2);

/// Where no thread is free, calls are put together if a row then costs at most this share of what it costs alone,
const BUSY_SHARE: f64 = 0.9;
/// and the run is over within this time: all of its calls are answered at its end.
const BUSY_RUN_MAX: Duration = Duration::from_millis(50);

/// A call that is decoded and may run.
pub struct Entry {
    /// The leave to run.
    pub lease: Lease,
    /// One tensor for each of the model's inputs.
    pub inputs: Vec<Tensor>,
    /// The outputs asked for, as indices into the signature's.
    pub outputs: Vec<usize>,
    /// The number of rows.
    pub n_rows: usize,
    /// How urgent it is.
    pub priority: Priority,
    /// When its time is over, on the monotonic clock.
    pub until: Duration,
    /// Tells the run that nobody waits for it any more, where that is told.
    pub wanted: Option<Wanted>,
    /// Where the outputs go.
    pub answer: Box<dyn Answer>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("n_rows", &self.n_rows)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

/// Where the outputs of a call go.
pub trait Answer: Send {
    /// Tells whether nobody waits for them any more.
    fn is_abandoned(&self) -> bool;

    /// Is told when its run begins.
    fn begin(&self) {}

    /// Takes the outputs of `model`, or why there are none.
    fn answer(
        self: Box<Self>,
        model: &LoadedModel,
        outputs: Result<Vec<Tensor>, RunError>,
        ran: &Ran,
    );

    /// Takes why the call does not run.
    fn refuse(self: Box<Self>, refusal: Refusal);
}

/// How a call ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// When the run began, on the monotonic clock.
    pub started: Duration,
    /// How long it took.
    pub elapsed: Duration,
    /// The part of that time that was for this call; the time of all its threads, where it ran on several.
    pub share: Duration,
    /// The rows of all calls of the run.
    pub n_rows: usize,
    /// Whether other calls shared the run and this one is not the first of them.
    pub joined: bool,
    /// Where it ran.
    pub placement: Placement,
}

/// Where calls run, and what helps.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    placement: Placement,
    clock: &'a dyn Clock,
    help: Option<&'a dyn Help>,
}

/// Runs calls to `model`: those that fit together at once, the others one after another.
pub fn run(model: &ServedModel, entries: Vec<Entry>, placement: Placement, clock: &dyn Clock) {
    let help = None;
    let surroundings = Surroundings {
        placement,
        clock,
        help,
    };
    run_in(model, entries, surroundings);
}

/// Runs calls on the compute pool as [`run`] does, and one of many rows in parts, where `help` has threads for them.
pub(crate) fn run_with(model: &ServedModel, entries: Vec<Entry>, help: &dyn Help) {
    let surroundings = Surroundings {
        placement: Placement::ComputePool,
        clock: help.clock().as_ref(),
        help: Some(help),
    };
    run_in(model, entries, surroundings);
}

fn run_in(model: &ServedModel, entries: Vec<Entry>, surroundings: Surroundings<'_>) {
    let most = model.batching().settings().rows_max;
    let mut rest = entries;
    while !rest.is_empty() {
        let (group, others) = take_group(rest, most);
        rest = others;
        run_group(model, group, surroundings);
    }
}

/// Returns the first call with those that fit it, up to `most` rows, and the others, in order.
fn take_group(entries: Vec<Entry>, most: usize) -> (Vec<Entry>, Vec<Entry>) {
    let mut group: Vec<Entry> = Vec::new();
    let mut others = Vec::new();
    let mut n_rows = 0_usize;
    // All its values are looked at for it, so once only.
    let mut first_is_mergeable = None;
    for entry in entries {
        if entry.answer.is_abandoned() {
            continue;
        }
        let sum = n_rows.saturating_add(entry.n_rows);
        let fits = match group.first() {
            None => true,
            Some(first) => {
                sum <= most
                    && fit_together(first, &entry)
                    && *first_is_mergeable.get_or_insert_with(|| is_mergeable(first))
                    && is_mergeable(&entry)
            }
        };
        if fits {
            n_rows = sum;
            group.push(entry);
        } else {
            others.push(entry);
        }
    }
    (group, others)
}

fn run_group(model: &ServedModel, group: Vec<Entry>, surroundings: Surroundings<'_>) {
    let Surroundings {
        placement, clock, ..
    } = surroundings;
    for entry in &group {
        entry.answer.begin();
    }
    let group = match group.len() {
        0 | 1 => group,
        _ => match run_merged(model, group, surroundings) {
            None => return,
            Some(failed) => failed,
        },
    };
    for mut entry in group {
        let started = clock.monotonic();
        let (outputs, share) = run_alone(model, &mut entry, surroundings);
        let elapsed = clock.monotonic().saturating_sub(started);
        let ran = Ran {
            started,
            elapsed,
            share,
            n_rows: entry.n_rows,
            joined: false,
            placement,
        };
        deliver(entry, outputs, &ran);
    }
}

/// Runs a call; returns its outputs, and the time of all threads that it ran on.
fn run_alone(
    model: &ServedModel,
    entry: &mut Entry,
    Surroundings { clock, help, .. }: Surroundings<'_>,
) -> (Result<Vec<Tensor>, RunError>, Duration) {
    let mut in_vain = Duration::ZERO;
    let whole = match help.and_then(|help| parts::run(model, entry, help)) {
        Some((Outcome::Ran(attempt), elapsed)) => {
            return (model.settle(&entry.lease, attempt), elapsed);
        }
        Some((Outcome::NeedsWhole(run), elapsed)) => {
            in_vain = elapsed;
            Some(run)
        }
        None => None,
    };
    let inputs = match &whole {
        Some(run) => run.inputs(),
        None => &entry.inputs,
    };
    let started = clock.monotonic();
    let time = entry.until.saturating_sub(started);
    let calls = entry.wanted.as_slice();
    let outputs = model.run_for(&entry.lease, inputs, &entry.outputs, (time, calls));
    let elapsed = clock.monotonic().saturating_sub(started);
    if outputs.is_ok() {
        model.cost().record_run(entry.n_rows, elapsed);
    }
    (outputs, in_vain + elapsed)
}

/// Runs calls together; returns them if that failed.
fn run_merged(
    model: &ServedModel,
    group: Vec<Entry>,
    surroundings: Surroundings<'_>,
) -> Option<Vec<Entry>> {
    let Surroundings {
        placement, clock, ..
    } = surroundings;
    let started = clock.monotonic();
    // Nobody's run ends before its time for another's sake.
    let until = group.iter().map(|entry| entry.until).max();
    let time = until.unwrap_or_default().saturating_sub(started);
    let Some(outputs) = merged_outputs(model, &group, time) else {
        return Some(group);
    };
    let elapsed = clock.monotonic().saturating_sub(started);
    let n_rows = group.iter().map(|entry| entry.n_rows).sum();
    model.cost().record_run(n_rows, elapsed);
    for (index, (entry, outputs)) in group.into_iter().zip(outputs).enumerate() {
        let ran = Ran {
            started,
            elapsed,
            share: share_of(elapsed, entry.n_rows, n_rows),
            n_rows,
            joined: index > 0,
            placement,
        };
        deliver(entry, Ok(outputs), &ran);
    }
    None
}

/// Returns the outputs of each call; `None` if they have to run alone.
fn merged_outputs(
    model: &ServedModel,
    group: &[Entry],
    time: Duration,
) -> Option<Vec<Vec<Tensor>>> {
    let (first, _) = group.split_first()?;
    let inputs = (0..first.inputs.len()).map(|input| {
        let parts = group.iter().map(|entry| entry.inputs.get(input));
        stack(&parts.collect::<Option<Vec<&Tensor>>>()?)
    });
    let inputs: Vec<Tensor> = inputs.collect::<Option<_>>()?;
    // It goes on while somebody waits: for all of them, or for those who do not say.
    let calls = group.iter().map(|entry| entry.wanted.clone());
    let calls: Vec<Wanted> = calls.collect::<Option<_>>().unwrap_or_default();
    let merged = model
        .run_for(&first.lease, &inputs, &first.outputs, (time, &calls))
        .ok()?;
    let rows: Vec<usize> = group.iter().map(|entry| entry.n_rows).collect();
    let mut outputs: Vec<Vec<Tensor>> = group.iter().map(|_| Vec::new()).collect();
    for output in merged {
        let Some(parts) = split(output, &rows) else {
            // Its rows are not the rows of the request: it is not tried again.
            first.lease.forbid_batches();
            return None;
        };
        for (outputs, part) in outputs.iter_mut().zip(parts) {
            outputs.push(part);
        }
    }
    Some(outputs)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share of a time, good to a millionth"
)]
fn share_of(elapsed: Duration, n_rows: usize, n_rows_all: usize) -> Duration {
    elapsed.mul_f64(n_rows as f64 / n_rows_all.max(1) as f64)
}

/// Gives a call its outputs; what panics in encoding them fails that call only.
fn deliver(entry: Entry, outputs: Result<Vec<Tensor>, RunError>, ran: &Ran) {
    let Entry { answer, lease, .. } = entry;
    let answer = || answer.answer(&lease, outputs, ran);
    // What the answer held is dropped, and with it the caller's end: it is told that the call failed.
    drop(catch_unwind(AssertUnwindSafe(answer)));
}

/// Tells whether a call of `n_more` rows is better put together with `n_rows` that run now than left for later: if that saves
/// at least half of what it costs alone, if the run is short anyhow, or if nobody knows yet.
///
/// What nobody knows is tried out one size beyond a known one: in a long queue the first such run would otherwise take all of it,
/// and nobody would be answered before its end.
pub(crate) fn is_worthwhile(cost: &CallCost, n_rows: usize, n_more: usize) -> bool {
    let together = n_rows.saturating_add(n_more);
    let (Some(now), Some(alone), Some(all)) = (
        cost.running(n_rows),
        cost.running(n_more),
        cost.running(together),
    ) else {
        return true;
    };
    let is_trial = cost.is_measured(n_rows) && !cost.is_measured(together);
    all <= SHORT_RUN || is_trial || all.saturating_sub(now) <= alone / 2
}

/// Returns how many rows are best put together of calls of `n_rows` each that no thread is free for anyhow: as many as a row costs
/// least with, if that is less than [`BUSY_SHARE`] of what it costs in a call alone, and the run is over within [`BUSY_RUN_MAX`]. A number that nobody
/// knows is tried; now and then one is tried again, for the first run of a size often takes longer than those that follow.
pub(crate) fn rows_when_busy(cost: &CallCost, n_rows: usize) -> usize {
    let per_row = |rows: usize| cost.running(rows).map(|time| time.div_f64(count(rows)));
    let Some(alone) = per_row(n_rows).filter(|_| cost.is_measured(n_rows)) else {
        return n_rows;
    };
    let mut best = (n_rows, alone.mul_f64(BUSY_SHARE));
    let mut sizes = Vec::new();
    let mut rows = n_rows.max(1).saturating_mul(2);
    while let Some(each) = per_row(rows).filter(|each| each.mul_f64(count(rows)) <= BUSY_RUN_MAX) {
        if !cost.is_measured(rows) {
            return rows;
        }
        if each < best.1 {
            best = (rows, each);
        }
        sizes.push(rows);
        rows = rows.saturating_mul(2);
    }
    match cost.next_trial(sizes.len()) {
        Some(trial) => sizes[trial],
        None => best.0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows in memory")]
fn count(rows: usize) -> f64 {
    rows.max(1) as f64
}

/// Tells whether calls of `n_rows` to the model, which run on an event loop, are to be put together there with those that come at the
/// same time.
#[must_use]
pub fn is_joint(model: &ServedModel, loaded: &LoadedModel, n_rows: usize) -> bool {
    may_batch(model, loaded) && model.cost().is_less_together(n_rows)
}

/// Tells whether calls to the model may be put together at all.
pub(crate) fn may_batch(model: &ServedModel, loaded: &LoadedModel) -> bool {
    model.batching().settings().rows_max > 1 && !loaded.forbids_batches()
}

#[cfg(test)]
pub(crate) mod tests;
