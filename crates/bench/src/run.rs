//! A whole run: asks what there is to know, makes the requests, applies one load after another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coracle_base::{Clock as _, SystemClock};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::connection::Connector;
use crate::data::{self, Bodies};
use crate::load::{self, Done, Job};
use crate::payload::{Envelope, Payload};
use crate::plan::{Level, Plan, Sweep};
use crate::record::SLOTS_MAX;
use crate::report::{Report, Run, SloAnswer};
use crate::server::{Asker, ServerShare, Totals};
use crate::slo::{Search, Slo, Verdict};
use crate::{BenchError, Progress, Target};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);
/// The shortest slot of a timeline.
const SLOT_MIN: Duration = Duration::from_millis(100);
/// The time that threads have to start before the first request is due.
const START: Duration = Duration::from_millis(10);
/// A search ends when what the server kept and what it did not are so close.
const SEARCH_PRECISION: f64 = 0.05;

/// Where one request in a hundred is handed on later than this share of the objective, what breaks it may be this machine.
const LAG_SHARE_MAX: f64 = 0.5;

/// Runs `plan` and returns what was measured; `progress` is told how far it is.
///
/// Requests that fail are counted in the report. It must not be called on a thread that drives an async runtime.
///
/// # Errors
/// If there is no load to be run: the server does not answer, has no such model or refuses the first request (unless the plan allows
/// errors), or the data does not fit.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(Progress)) -> Result<Report, BenchError> {
    let session = Session::prepare(plan)?;
    let mut report = session.report();
    match &plan.sweep {
        Sweep::Levels(levels) => {
            for (index, level) in levels.iter().enumerate() {
                let place = Some((index + 1, levels.len()));
                report
                    .runs
                    .push(session.run_level(*level, place, progress)?);
            }
        }
        Sweep::Search { slo, start } => session.search(slo, *start, &mut report, progress)?,
    }
    Ok(report)
}

/// What all loads of a run share.
struct Session<'a> {
    plan: &'a Plan,
    target: Target,
    connector: Connector,
    envelope: Envelope,
    bodies: Bodies,
    payloads: Arc<[Payload]>,
    runtime: Runtime,
}

impl<'a> Session<'a> {
    /// Asks the server what the model takes, makes the requests and tries the first.
    fn prepare(plan: &'a Plan) -> Result<Self, BenchError> {
        let target = plan.target.clone();
        let connector = Connector::new(&target, &plan.tls, plan.timeout)?;
        let envelope = Envelope::new(&target, &plan.headers)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BenchError::Machine)?;
        let asking = async {
            let mut asker = Asker {
                target: &target,
                connector: &connector,
                envelope: &envelope,
            };
            let named = if target.model.is_empty() {
                let mut named = target.clone();
                named.model = asker.only_model().await?;
                named
            } else {
                target.clone()
            };
            asker.target = &named;
            let metadata = asker.metadata().await?;
            let options = data::Options {
                n_rows: plan.n_rows.max(1),
                shapes: &plan.shapes,
                seed: plan.seed,
            };
            let bodies = data::bodies(&named, plan.data.as_deref(), metadata.as_deref(), &options)?;
            let payloads = asker.payloads(&bodies.bodies)?;
            if let (Some(first), false) = (payloads.first(), plan.allows_errors) {
                asker.try_first(first).await?;
            }
            Ok::<_, BenchError>((named, bodies, payloads))
        };
        let (target, bodies, payloads) = LocalSet::new().block_on(&runtime, asking)?;
        Ok(Self {
            plan,
            target,
            connector,
            envelope,
            bodies,
            payloads: payloads.into(),
            runtime,
        })
    }

    fn report(&self) -> Report {
        let n_bytes: usize = self.bodies.bodies.iter().map(|body| body.bytes.len()).sum();
        Report {
            target: self.target.clone(),
            source: self.bodies.source.clone(),
            n_rows: self.bodies.n_rows,
            n_bodies: self.bodies.bodies.len(),
            body_bytes_mean: n_bytes / self.bodies.bodies.len().max(1),
            arrivals: self.plan.arrivals,
            runs: Vec::new(),
            slo: None,
        }
    }

    fn search(
        &self,
        slo: &Slo,
        start: f64,
        report: &mut Report,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), BenchError> {
        let mut search = Search::new(start, SEARCH_PRECISION);
        while let Some(rate) = search.next() {
            let mut run = self.run_level(Level::Rate(rate), None, progress)?;
            run.broken = slo.broken_by(rate, &run.measured);
            let is_late = run.lag_p99_us() > slo.latency.as_secs_f64() * 1e6 * LAG_SHARE_MAX;
            search.record(match &run.broken {
                None => Verdict::Kept,
                Some(_) if is_late => Verdict::Unclear,
                Some(_) => Verdict::Broken,
            });
            report.runs.push(run);
        }
        report.slo = Some(SloAnswer {
            slo: slo.clone(),
            kept: search.kept(),
            broken: search.broken(),
        });
        Ok(())
    }

    fn job(&self, level: Level) -> Job {
        let plan = self.plan;
        let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let n_useful = match level {
            Level::Concurrency(n) => n,
            Level::Rate(_) => plan.connections_max,
        };
        let n_threads = plan.n_threads.unwrap_or(n_cores).clamp(1, n_useful.max(1));
        let begin = Instant::now() + START;
        let window_begin = begin + plan.warm_up;
        let slot = plan.duration / SLOTS_MAX as u32;
        Job {
            connector: self.connector.clone(),
            payloads: Arc::clone(&self.payloads),
            level,
            arrivals: plan.arrivals,
            seed: plan.seed,
            n_threads,
            is_busy: plan.is_busy,
            connections_max: plan.connections_max,
            begin,
            window_begin,
            window_end: plan
                .n_requests
                .is_none()
                .then(|| window_begin + plan.duration),
            n_requests: plan.n_requests,
            slot: if plan.has_timeline {
                slot.max(SLOT_MIN)
            } else {
                Duration::ZERO
            },
            done: (0..n_threads).map(|_| Done::default()).collect(),
            n_ended: 0.into(),
        }
    }

    fn run_level(
        &self,
        level: Level,
        place: Option<(usize, usize)>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Run, BenchError> {
        let load = level.to_string();
        progress(Progress::Begins {
            run: place,
            load: load.clone(),
        });
        let job = Arc::new(self.job(level));
        let until_begin = job.window_begin.saturating_duration_since(Instant::now());
        let began = SystemClock::new().unix_time() + until_begin;
        let watched = load::run(&job, || {
            LocalSet::new().block_on(&self.runtime, self.watch(&job, &load, progress))
        });
        let (measured, server) = watched?;
        let run = Run {
            level,
            began_unix_ms: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            n_threads: job.n_threads,
            measured,
            server,
            broken: None,
        };
        progress(Progress::Ended {
            summary: run.summary(),
        });
        Ok(run)
    }

    /// Tells the progress until the load is over; returns where the server's time went.
    async fn watch(
        &self,
        job: &Job,
        load: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Option<ServerShare> {
        let asker = Asker {
            target: &self.target,
            connector: &self.connector,
            envelope: &self.envelope,
        };
        let mut before: Option<Totals> = None;
        let mut seen = (0, Instant::now());
        loop {
            let now = Instant::now();
            if before.is_none() && now >= job.window_begin {
                before = asker.totals().await;
            }
            let sum = |count: fn(&Done) -> &std::sync::atomic::AtomicU64| {
                job.done
                    .iter()
                    .map(|done| count(done).load(Ordering::Relaxed))
                    .sum::<u64>()
            };
            let n_measured = sum(|done| &done.n_measured);
            let has_ended = job.n_ended.load(Ordering::Acquire) == job.n_threads;
            if has_ended || job.window_end.is_some_and(|end| now >= end) {
                break;
            }
            progress(Progress::Runs {
                load: load.to_owned(),
                is_warming_up: now < job.window_begin,
                share: share(job, now, n_measured),
                recent: (n_measured.saturating_sub(seen.0), now - seen.1),
                n_failed: sum(|done| &done.n_failed),
            });
            seen = (n_measured, now);
            let mut wake = now + TICK;
            for moment in [Some(job.window_begin), job.window_end]
                .into_iter()
                .flatten()
            {
                if moment > now {
                    wake = wake.min(moment);
                }
            }
            tokio::time::sleep_until(wake).await;
        }
        let after = asker.totals().await;
        after?.since(before?)
    }
}

/// Returns the share of a load that is done.
fn share(job: &Job, now: Instant, n_measured: u64) -> f64 {
    match (job.window_end, job.n_requests) {
        (Some(end), _) => {
            let whole = end.saturating_duration_since(job.begin).as_secs_f64();
            now.saturating_duration_since(job.begin).as_secs_f64() / whole.max(1e-9)
        }
        (None, n_requests) => n_measured as f64 / n_requests.unwrap_or(1).max(1) as f64,
    }
}
