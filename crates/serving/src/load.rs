//! What revisions do from one look to the next: what autoscaling decides by.

mod split;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use serde::{Deserialize, Serialize};

use crate::histogram::{N_TIME_BUCKETS, TIME_BOUNDS};
use crate::plan::RevisionId;
use crate::statistics::Judged;
use crate::{ServedModel, SharedTable};
use split::SplitModels;

/// Calls by how long they took.
pub type LatencyCounts = [u64; N_TIME_BUCKETS];

/// Returns the times by which calls are counted in [`LatencyCounts`].
#[must_use]
pub fn latency_bounds() -> [Duration; N_TIME_BUCKETS - 1] {
    TIME_BOUNDS.map(|bound| Duration::from_nanos(bound.value))
}

/// What a revision did during a window.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RevisionLoad {
    /// The mean number of calls that ran or waited.
    pub concurrency: f64,
    /// The number of calls that began.
    pub n_started: u64,
    /// The number of calls that ended.
    pub n_finished: u64,
    /// Those of them that the revision is not judged by, which are not among those below: they stood in for another service's model, or began before the trial.
    #[serde(default, alias = "n_stood_in")]
    pub n_unjudged: u64,
    /// Those of the others that failed, by whosever fault.
    #[serde(default)]
    pub n_failed: u64,
    /// Calls that ended, by how long they took: up to each of [`latency_bounds`], and beyond the last.
    #[serde(default)]
    pub latency: LatencyCounts,
    /// Calls that have not ended by the end of the window, by how long they are in work; known of revisions whose requests are compared.
    #[serde(default)]
    pub in_work: LatencyCounts,
    /// Which trial of a rollout the revision was in by the end of the window, if that is known: what it is judged by came of calls that began in that one.
    #[serde(default)]
    pub trial: Option<u64>,
    /// The time of processors that its calls took.
    pub compute: Duration,
    /// The memory that its model holds.
    pub memory_bytes: u64,
    /// The calls that waited at the end of the window.
    pub n_waiting: u64,
    /// The time that 99 of 100 calls took at most, as the histogram's buckets tell it; if any ended.
    pub latency_p99: Option<Duration>,
}

/// What revisions did during the last window. One that is not named did nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LoadReport {
    /// How long the window was.
    pub window: Duration,
    /// The revisions that did something.
    pub revisions: Vec<(RevisionId, RevisionLoad)>,
}

/// Counters at one time.
#[derive(Clone, Debug, Default)]
struct Counters {
    flow_ns: u64,
    n_started: u64,
    judged: Judged,
    compute: Duration,
    in_work: LatencyCounts,
    trial: u64,
}

impl Counters {
    fn of(model: &ServedModel, now: Duration) -> Self {
        let statistics = model.statistics();
        // Read first: what ends meanwhile is told in both ways for now, and never in none.
        let in_work = statistics.in_work(now);
        let trial = statistics.trial();
        Self {
            flow_ns: statistics.flow_ns(now),
            n_started: statistics.started(),
            judged: statistics.judged(),
            compute: statistics.compute_time(),
            in_work,
            trial,
        }
    }
}

/// Looks at what revisions do, from time to time.
pub struct LoadSampler {
    table: Arc<SharedTable>,
    clock: Arc<dyn Clock>,
    at: Duration,
    before: BTreeMap<RevisionId, Counters>,
    split: SplitModels,
}

impl std::fmt::Debug for LoadSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadSampler").finish_non_exhaustive()
    }
}

impl LoadSampler {
    /// Returns a sampler whose first window begins now.
    #[must_use]
    pub fn new(table: Arc<SharedTable>, clock: Arc<dyn Clock>) -> Self {
        Self {
            table,
            at: clock.monotonic(),
            clock,
            before: BTreeMap::new(),
            split: SplitModels::default(),
        }
    }

    /// Begins a window now, for whom nothing has been told yet: what was told early to another one of this window would count twice.
    pub fn begin_anew(&mut self) {
        drop(self.sample());
        self.split.follow(&self.table.load());
        // What has failed until now is no news in the new window.
        self.split.has_failed_more();
    }

    /// Tells whether some service's requests are split between revisions now: whether [`LoadSampler::sample_failures`] may have something to tell.
    pub fn is_split(&mut self) -> bool {
        self.split.follow(&self.table.load());
        !self.split.is_empty()
    }

    /// Returns what revisions that share a service's requests have done since the last [`LoadSampler::sample`], if one of them has failed requests
    /// since this was last told. The next sample tells of it once more: it is of the whole window.
    pub fn sample_failures(&mut self) -> Option<LoadReport> {
        self.split.follow(&self.table.load());
        if !self.split.has_failed_more() {
            return None;
        }
        let now = self.clock.monotonic();
        let window = now.saturating_sub(self.at);
        if window.is_zero() {
            return None;
        }
        let zero = Counters::default();
        let models = self.split.models().filter_map(|model| {
            let id = model.revision()?.clone();
            let before = self.before.get(&id).unwrap_or(&zero);
            let counters = Counters::of(&model, now);
            Some((id, load_between(&model, before, &counters, window)))
        });
        let revisions: Vec<_> = models.collect();
        (!revisions.is_empty()).then_some(LoadReport { window, revisions })
    }

    /// Returns what happened since the last look; `None` if nothing did.
    pub fn sample(&mut self) -> Option<LoadReport> {
        let now = self.clock.monotonic();
        let window = now.saturating_sub(self.at);
        self.at = now;
        if window.is_zero() {
            return None;
        }
        let table = self.table.load();
        let mut after = BTreeMap::new();
        let mut revisions = Vec::new();
        for model in table.iter() {
            let Some(id) = model.revision() else { continue };
            let counters = Counters::of(model, now);
            let zero = Counters::default();
            let before = self.before.get(id).unwrap_or(&zero);
            let load = load_between(model, before, &counters, window);
            if load.concurrency > 0.0 || load.n_finished > 0 || load.n_waiting > 0 {
                revisions.push((id.clone(), load));
            }
            after.insert(id.clone(), counters);
        }
        self.before = after;
        (!revisions.is_empty()).then_some(LoadReport { window, revisions })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a mean; the sums of one window are far below 2^53 ns"
)]
fn load_between(
    model: &ServedModel,
    before: &Counters,
    after: &Counters,
    window: Duration,
) -> RevisionLoad {
    // The sum wraps around. A service that was deleted and is back begins to count anew: less than nothing is nothing.
    let flow_ns = after.flow_ns.wrapping_sub(before.flow_ns);
    let flow_ns = u64::try_from(flow_ns.cast_signed()).unwrap_or(0);
    let before_trial;
    // What another trial came to is none of this one's.
    let judged_before = match before.trial == after.trial {
        true => &before.judged,
        false => {
            before_trial = model.statistics().before_trial();
            &before_trial
        }
    };
    let buckets = after.judged.latency.iter().enumerate();
    let grown = buckets.map(|(index, count)| {
        let n_before = judged_before.latency.get(index).copied().unwrap_or(0);
        count.saturating_sub(n_before)
    });
    let mut latency = LatencyCounts::default();
    for (count, grown) in latency.iter_mut().zip(grown) {
        *count = grown;
    }
    let grown = |after: u64, before: u64| after.saturating_sub(before);
    let n_finished = grown(after.judged.n_ended, before.judged.n_ended);
    let n_judged = grown(after.judged.n_finished, judged_before.n_finished);
    RevisionLoad {
        concurrency: flow_ns as f64 / window.as_nanos() as f64,
        n_started: after.n_started.saturating_sub(before.n_started),
        n_finished,
        n_unjudged: n_finished.saturating_sub(n_judged),
        n_failed: grown(after.judged.n_failed, judged_before.n_failed),
        latency,
        in_work: after.in_work,
        trial: Some(after.trial),
        compute: after.compute.saturating_sub(before.compute),
        memory_bytes: model.memory_bytes(),
        n_waiting: u64::try_from(model.n_waiting()).unwrap_or(u64::MAX),
        latency_p99: p99(&latency),
    }
}

/// Returns the upper bound of the bucket that the 99th of 100 calls is in; twice the last bound for what is beyond it.
fn p99(buckets: &[u64]) -> Option<Duration> {
    let n_calls: u64 = buckets.iter().sum();
    if n_calls == 0 {
        return None;
    }
    let rank = n_calls - n_calls / 100;
    let mut n_seen = 0;
    let bucket = buckets.iter().position(|count| {
        n_seen += count;
        n_seen >= rank
    });
    let [.., last] = TIME_BOUNDS;
    let bound = bucket.and_then(|bucket| TIME_BOUNDS.get(bucket));
    Some(Duration::from_nanos(
        bound.map_or(last.value.saturating_mul(2), |bound| bound.value),
    ))
}

#[cfg(test)]
mod tests {
    use coracle_base::{Code, ManualClock};

    use super::*;
    use crate::ModelTable;
    use crate::histogram::N_TIME_BUCKETS;
    use crate::plan::ServiceId;
    use crate::revision_log::RevisionLog;
    use crate::route::{Route, RouteTarget};
    use crate::served_model::tests::loaded;
    use crate::{Protocol, ServedModel};

    #[test]
    fn windows_tell_what_happened_in_them() {
        let clock = Arc::new(ManualClock::new());
        let id = RevisionId {
            namespace: "n".to_owned(),
            name: "r".to_owned(),
        };
        let served = ServedModel::unloaded("a".to_owned(), 1).with_revision(
            &id,
            RevisionLog::none(clock.clone()),
            Box::new(|| ()),
        );
        served.load(loaded("a", false));
        let served = Arc::new(served);
        let service = ServiceId {
            namespace: "n".to_owned(),
            name: "a".to_owned(),
        };
        let route = Arc::new(Route::single(Arc::clone(&served)));
        let table = SharedTable::new(ModelTable::from_routes([(service, route)].into()));
        let mut sampler = LoadSampler::new(Arc::new(table), clock.clone());
        clock.advance(Duration::from_secs(1));
        assert_eq!(sampler.sample(), None);
        // Two calls at a time during half of a second.
        let statistics = served.statistics();
        let calls =
            [0, 0].map(|worker| statistics.start(worker, clock.monotonic(), clock.as_ref()));
        clock.advance(Duration::from_millis(500));
        for call in calls {
            call.finish(Protocol::V1, Ok(()), clock.monotonic());
        }
        clock.advance(Duration::from_millis(500));
        let report = sampler.sample().unwrap();
        assert_eq!(report.window, Duration::from_secs(1));
        let (of, load) = &report.revisions[0];
        assert_eq!((of, load.n_finished, load.memory_bytes), (&id, 2, 7));
        assert!((load.concurrency - 1.0).abs() < 1e-9, "{load:?}");
        assert_eq!(load.latency_p99, Some(Duration::from_millis(500)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(sampler.sample(), None);
        // A call whose caller goes was in flight until then.
        let call = statistics.start(0, clock.monotonic(), clock.as_ref());
        clock.advance(Duration::from_secs(1));
        let load = sampler.sample().unwrap().revisions.remove(0).1;
        assert!((load.concurrency - 1.0).abs() < 1e-9, "{load:?}");
        clock.advance(Duration::from_millis(500));
        drop(call);
        clock.advance(Duration::from_millis(500));
        let load = sampler.sample().unwrap().revisions.remove(0).1;
        assert!((load.concurrency - 0.5).abs() < 1e-9, "{load:?}");
    }

    /// Returns a model of the revision `name`.
    fn of_revision(name: &str) -> Arc<ServedModel> {
        let id = RevisionId {
            namespace: "n".to_owned(),
            name: name.to_owned(),
        };
        let log = RevisionLog::none(Arc::new(ManualClock::new()));
        let served = ServedModel::unloaded("a".to_owned(), 1);
        Arc::new(served.with_revision(&id, log, Box::new(|| ())))
    }

    /// Returns a revision that takes all requests of a service, and who looks at what it does.
    fn sampled() -> (Arc<ManualClock>, Arc<ServedModel>, LoadSampler) {
        let clock = Arc::new(ManualClock::new());
        let model = of_revision("r");
        let service = ServiceId {
            namespace: "n".to_owned(),
            name: "a".to_owned(),
        };
        let route = Arc::new(Route::single(Arc::clone(&model)));
        let table = SharedTable::new(ModelTable::from_routes([(service, route)].into()));
        let sampler = LoadSampler::new(Arc::new(table), clock.clone());
        (clock, model, sampler)
    }

    #[test]
    fn what_is_in_work_is_told_by_how_long_it_is_where_it_is_watched() {
        let (clock, model, mut sampler) = sampled();
        let own: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let start = || model.start_call(0, own.monotonic(), &own);
        let before = start();
        clock.advance(Duration::from_millis(1));
        model.statistics().watch(true);
        let calls = [start(), start(), start()];
        let other = model.statistics().start(0, own.monotonic(), own.as_ref());
        let other = other.standing_in();
        clock.advance(Duration::from_secs(1));
        let in_work = |report: LoadReport| report.revisions[0].1.in_work;
        let of = |bucket: usize, n| {
            let mut counts = LatencyCounts::default();
            counts[bucket] = n;
            counts
        };
        // Bucket 18 ends at a second, 19 at 2.5 seconds.
        assert_eq!(in_work(sampler.sample().unwrap()), of(18, 3));
        let [first, second, third] = calls;
        first.finish(Protocol::V1, Ok(()));
        // Its caller goes.
        drop(second);
        clock.advance(Duration::from_secs(1));
        assert_eq!(in_work(sampler.sample().unwrap()), of(19, 1));
        // What is known stays so until it ends.
        model.statistics().watch(false);
        drop((before, other, start()));
        clock.advance(Duration::from_millis(100));
        assert_eq!(in_work(sampler.sample().unwrap()), of(19, 1));
        drop(third);
        assert_eq!(
            model.statistics().in_work(clock.monotonic()),
            LatencyCounts::default()
        );
    }

    /// A trial begins within a window: what came before is none of its own, and is told for autoscaling.
    #[test]
    fn a_window_tells_what_was_done_in_the_trial_that_it_ends_in() {
        let (clock, model, mut sampler) = sampled();
        let own: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let fail = || {
            let call = model.start_call(0, own.monotonic(), &own);
            call.finish(Protocol::V1, Err(Code::Internal));
        };
        let mut told = || {
            clock.advance(Duration::from_secs(1));
            let load = sampler.sample().unwrap().revisions.remove(0).1;
            let latency: u64 = load.latency.iter().sum();
            let n = (load.n_finished, load.n_unjudged, load.n_failed);
            (load.trial, n, latency)
        };
        model.statistics().begin_trial(7, own.monotonic());
        fail();
        assert_eq!(told(), (Some(7), (1, 0, 1), 1));
        let hanging = model.start_call(0, own.monotonic(), &own);
        fail();
        clock.advance(Duration::from_millis(1));
        model.statistics().begin_trial(8, own.monotonic());
        fail();
        fail();
        hanging.finish(Protocol::V1, Err(Code::Internal));
        assert_eq!(told(), (Some(8), (4, 2, 2), 2));
        fail();
        assert_eq!(told(), (Some(8), (1, 0, 1), 1));
    }

    #[test]
    fn failures_of_what_shares_requests_are_told_before_the_window_ends() {
        let clock = Arc::new(ManualClock::new());
        let (stable, canary) = (of_revision("r1"), of_revision("r2"));
        let split = |percent| {
            let targets = [(&canary, percent), (&stable, 100 - percent)];
            let target = |(model, percent): (&Arc<ServedModel>, u8)| RouteTarget {
                model: Arc::clone(model),
                percent,
                tags: Vec::new(),
            };
            let route = Route::try_new(targets.map(target).into(), None).unwrap();
            let service = ServiceId {
                namespace: "n".to_owned(),
                name: "a".to_owned(),
            };
            ModelTable::from_routes([(service, Arc::new(route))].into())
        };
        let call = |model: &Arc<ServedModel>, outcome| {
            let statistics = model.statistics();
            let call = statistics.start(0, clock.monotonic(), clock.as_ref());
            call.finish(Protocol::V1, outcome, clock.monotonic());
        };
        let table = Arc::new(SharedTable::new(split(0)));
        let mut sampler = LoadSampler::new(Arc::clone(&table), clock.clone());
        let counts = |report: Option<LoadReport>| {
            let mut revisions = report.map_or(Vec::new(), |report| report.revisions);
            revisions.sort_by(|one, other| one.0.cmp(&other.0));
            let counts = |(_, load): (RevisionId, RevisionLoad)| (load.n_finished, load.n_failed);
            revisions.into_iter().map(counts).collect::<Vec<_>>()
        };
        clock.advance(Duration::from_millis(50));
        call(&canary, Err(Code::InvalidArgument));
        // All requests go to one: nobody decides by its failures.
        assert!(!sampler.is_split());
        assert_eq!(counts(sampler.sample_failures()), []);
        clock.advance(Duration::from_millis(950));
        assert_eq!(counts(sampler.sample()), [(1, 1)]);
        table.store(split(10));
        assert!(sampler.is_split());
        clock.advance(Duration::from_millis(50));
        // What failed before they shared requests, and what is answered, is no news.
        call(&stable, Ok(()));
        assert_eq!(counts(sampler.sample_failures()), []);
        call(&canary, Err(Code::Internal));
        assert_eq!(counts(sampler.sample_failures()), [(1, 0), (1, 1)]);
        assert_eq!(counts(sampler.sample_failures()), []);
        clock.advance(Duration::from_millis(50));
        call(&canary, Err(Code::Internal));
        assert_eq!(counts(sampler.sample_failures()), [(1, 0), (2, 2)]);
        clock.advance(Duration::from_millis(900));
        // The whole window, as ever.
        let report = sampler.sample().unwrap();
        assert_eq!(report.window, Duration::from_secs(1));
        assert_eq!(counts(Some(report)), [(1, 0), (2, 2)]);
        clock.advance(Duration::from_millis(50));
        assert_eq!(counts(sampler.sample_failures()), []);
        call(&canary, Err(Code::Internal));
        assert_eq!(counts(sampler.sample_failures()), [(0, 0), (1, 1)]);
        // Who is told from now on is told nothing that another one was told.
        call(&canary, Err(Code::Internal));
        sampler.begin_anew();
        clock.advance(Duration::from_millis(50));
        assert_eq!(counts(sampler.sample_failures()), []);
        call(&stable, Ok(()));
        clock.advance(Duration::from_millis(950));
        assert_eq!(counts(sampler.sample()), [(1, 0)]);
        table.store(split(0));
        assert!(!sampler.is_split());
    }

    #[test]
    fn a_service_that_was_deleted_and_is_back_begins_anew() {
        let model = ServedModel::new(loaded("a", false), 1);
        let before = Counters {
            flow_ns: 1 << 40,
            n_started: 9,
            judged: Judged {
                n_ended: 9,
                n_finished: 9,
                n_failed: 0,
                latency: vec![5; N_TIME_BUCKETS],
            },
            compute: Duration::from_secs(1),
            in_work: LatencyCounts::default(),
            trial: 0,
        };
        let after = Counters::of(&model, Duration::from_secs(2));
        let load = load_between(&model, &before, &after, Duration::from_secs(1));
        assert_eq!((load.n_finished, load.latency_p99), (0, None));
        assert!(load.concurrency.abs() < 1e-9, "{load:?}");
    }

    #[test]
    fn the_slowest_of_a_hundred_is_left_out() {
        let mut buckets = vec![0; N_TIME_BUCKETS];
        assert_eq!(p99(&buckets), None);
        (buckets[5], buckets[21]) = (99, 1);
        assert_eq!(p99(&buckets), Some(Duration::from_micros(50)));
        buckets[21] = 2;
        assert!(p99(&buckets) > Some(Duration::from_secs(1)));
    }
}
