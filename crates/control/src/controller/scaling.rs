//! How many replicas each revision is to have: what the serving process tells goes into the autoscalers, what they decide into
//! the plan.
//!
//! Expected flow: [`Scaler::watch`] for every revision of a plan, [`Scaler::look`] every second while a revision does something,
//! [`Scaler::woken`] when the serving process has loaded a model for a request by itself. Guarantees: a revision that does
//! nothing and has what it is to have costs nothing. Caveat: what was measured is forgotten with the process; a revision
//! goes on with the replicas that it has. The rules are in [`coracle_policy::autoscale`].

pub(crate) mod hpa;
mod manifest;
mod metrics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_policy::autoscale::{AutoscaleSpec, Autoscaler, Decision, Ready, Sample};
use coracle_serving::{Observed, RevisionId, RevisionLoad, RevisionState, ServiceId};

use crate::usage::LoadQueue;
pub(crate) use manifest::{REPLICAS_MAX, Scaling, check, read, warnings};
pub use metrics::Decisions;

/// How often what revisions do is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is decided, Knative's number.
const DECIDE_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether a time begins in which a revision keeps a replica.
const TIMES_EVERY: Duration = Duration::from_secs(15);
/// How often the view of a value that drifts is written anew, and by how much it must have changed.
const SHOW_EVERY: Duration = Duration::from_secs(15);
const SHOW_CHANGE: f64 = 0.1;

/// A change of the number of replicas.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scaled {
    pub(crate) service: ServiceId,
    pub(crate) revision: RevisionId,
    pub(crate) before: u32,
    pub(crate) decision: Decision,
}

/// The autoscalers of all revisions.
#[derive(Debug)]
pub(crate) struct Scaler {
    loads: Arc<LoadQueue>,
    decisions: Arc<Decisions>,
    revisions: BTreeMap<RevisionId, Entry>,
    looked_at: Duration,
    decided_at: Duration,
}

#[derive(Debug)]
struct Entry {
    service: ServiceId,
    scaling: Scaling,
    autoscaler: Autoscaler,
    desired: u32,
    decision: Option<Decision>,
    /// Whether it is looked at: it does something, or is not yet what it is to be.
    is_active: bool,
    n_waiting: u32,
    /// When its view was written, and with which value.
    shown: (Duration, f64),
}

impl Entry {
    /// Makes the autoscaler do what is to be done at `unix`, a time since 1970.
    fn follow(&mut self, unix: Duration) {
        let spec = self.scaling.at(unix);
        if *self.autoscaler.spec() != spec {
            self.autoscaler.set_spec(spec);
            self.is_active = true;
        }
    }

    fn decide(&mut self, now: Duration, ready: Ready) -> Decision {
        let mut decision = self.autoscaler.decide(now, ready);
        decision.desired = decision.desired.min(REPLICAS_MAX);
        self.desired = decision.desired;
        self.decision = Some(decision.clone());
        decision
    }

    /// Tells whether nothing will change unless something happens.
    fn is_at_rest(&self, decision: &Decision, n_ready: u32) -> bool {
        let spec = self.autoscaler.spec();
        let is_quiet = decision.stable_value == 0.0 && decision.panic_value == 0.0;
        is_quiet
            && spec.prediction.is_none()
            && self.desired == spec.bound(0)
            && n_ready == self.desired
    }

    fn view(&self) -> (u32, Option<&Decision>) {
        (self.desired, self.decision.as_ref())
    }
}

/// The time, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: Duration,
    /// Since 1970.
    pub(crate) unix: Duration,
}

/// What is known of a revision that is new to the scaler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The replicas that the serving process has of it.
    pub(crate) observed: Option<u32>,
    /// What was decided before this process began.
    pub(crate) desired: Option<u32>,
}

impl Scaler {
    pub(crate) fn new(loads: Arc<LoadQueue>, decisions: Arc<Decisions>) -> Self {
        Self {
            loads,
            decisions,
            revisions: BTreeMap::new(),
            looked_at: Duration::ZERO,
            decided_at: Duration::ZERO,
        }
    }

    /// Makes a revision scale as `spec` says; returns how many replicas it is to have now.
    pub(crate) fn watch(
        &mut self,
        id: &RevisionId,
        service: &ServiceId,
        scaling: Scaling,
        known: Known,
        now: Now,
    ) -> u32 {
        if let Some(entry) = self.revisions.get_mut(id) {
            if entry.scaling != scaling {
                entry.scaling = scaling;
                entry.follow(now.unix);
                let spec = entry.autoscaler.spec();
                entry.desired = spec.bound(entry.desired).min(REPLICAS_MAX);
            }
            return entry.desired;
        }
        let spec = scaling.at(now.unix);
        let desired = match (known.observed, known.desired) {
            (Some(observed), _) => Some(observed),
            (None, Some(0)) if spec.min_replicas == 0 => Some(0),
            (None, _) => None,
        };
        let (autoscaler, desired) = match desired {
            Some(ready) => {
                let desired = spec.bound(ready).min(REPLICAS_MAX);
                (Autoscaler::resume(spec, now.monotonic, ready), desired)
            }
            None => {
                let desired = spec.bound(spec.initial_replicas).min(REPLICAS_MAX);
                (Autoscaler::new(spec, now.monotonic), desired)
            }
        };
        let entry = Entry {
            service: service.clone(),
            scaling,
            autoscaler,
            desired,
            decision: None,
            is_active: true,
            n_waiting: 0,
            shown: (Duration::ZERO, 0.0),
        };
        self.revisions.insert(id.clone(), entry);
        desired
    }

    /// Forgets the revisions of a service that are not among `kept`.
    pub(crate) fn retain(&mut self, service: &ServiceId, kept: impl Fn(&RevisionId) -> bool) {
        let decisions = &self.decisions;
        self.revisions.retain(|id, entry| {
            let stays = entry.service != *service || kept(id);
            if !stays {
                decisions.forget(id);
            }
            stays
        });
    }

    /// Returns how many replicas a revision is to have, and what was decided last.
    pub(crate) fn view(&self, id: &RevisionId) -> Option<(u32, Option<&Decision>, &AutoscaleSpec)> {
        let entry = self.revisions.get(id)?;
        let (desired, decision) = entry.view();
        Some((desired, decision, entry.autoscaler.spec()))
    }

    /// Notes what the serving process has loaded by itself, for a request to a revision without replicas; returns what that
    /// comes to.
    pub(crate) fn woken(&mut self, observed: &Observed, now: Duration) -> Vec<Scaled> {
        let mut woken = Vec::new();
        for (id, entry) in &mut self.revisions {
            if entry.desired > 0 || n_ready(observed, id) == 0 {
                continue;
            }
            let ready = Ready {
                replicas: 0,
                waiting: 1,
                is_reachable: true,
            };
            let decision = entry.decide(now, ready);
            self.decisions.set(id, &decision);
            entry.is_active = true;
            woken.push(Scaled {
                service: entry.service.clone(),
                revision: id.clone(),
                before: 0,
                decision,
            });
        }
        woken
    }

    /// Returns how long it is to the next look; `None` while everything is at rest and nothing has been told.
    pub(crate) fn next_look(&self, now: Duration) -> Option<Duration> {
        let mut entries = self.revisions.values();
        let every = if entries.any(|entry| entry.is_active) || self.loads.has_news() {
            LOOK_EVERY
        } else if self
            .revisions
            .values()
            .any(|entry| entry.scaling.keep_warm.is_some())
        {
            TIMES_EVERY
        } else {
            return None;
        };
        Some((self.looked_at + every).saturating_sub(now))
    }

    /// Takes what has been told, and decides if it is time; returns the changes, and the services whose view has aged.
    pub(crate) fn look(
        &mut self,
        observed: &Observed,
        Now {
            monotonic: now,
            unix,
        }: Now,
    ) -> (Vec<Scaled>, BTreeSet<ServiceId>) {
        if now < self.looked_at + LOOK_EVERY {
            return (Vec::new(), BTreeSet::new());
        }
        self.looked_at = now;
        let entries = self.revisions.values_mut();
        for entry in entries.filter(|entry| entry.scaling.keep_warm.is_some()) {
            entry.follow(unix);
        }
        self.record(now);
        if now < self.decided_at + DECIDE_EVERY {
            return (Vec::new(), BTreeSet::new());
        }
        self.decided_at = now;
        self.decide(observed, now)
    }

    fn record(&mut self, now: Duration) {
        let mut told = BTreeSet::new();
        for (at, report) in self.loads.take() {
            for (id, load) in report.revisions {
                if let Some(entry) = self.revisions.get_mut(&id) {
                    entry.is_active = true;
                    entry.n_waiting = u32::try_from(load.n_waiting).unwrap_or(u32::MAX);
                    entry.autoscaler.record(at, sample(&load, report.window));
                    told.insert(id);
                }
            }
        }
        let silent = self
            .revisions
            .iter_mut()
            .filter(|(id, entry)| entry.is_active && !told.contains(*id));
        for (_, entry) in silent {
            entry.n_waiting = 0;
            entry.autoscaler.record(now, Sample::default());
        }
    }

    fn decide(&mut self, observed: &Observed, now: Duration) -> (Vec<Scaled>, BTreeSet<ServiceId>) {
        let mut changes = Vec::new();
        let mut aged = BTreeSet::new();
        for (id, entry) in self
            .revisions
            .iter_mut()
            .filter(|(_, entry)| entry.is_active)
        {
            // What is being loaded, or cannot be, is as it was decided until it is there.
            if !matches!(
                observed.revisions.get(id),
                Some(RevisionState::Ready { .. })
            ) {
                continue;
            }
            let n_ready = n_ready(observed, id);
            let ready = Ready {
                replicas: n_ready,
                waiting: entry.n_waiting,
                is_reachable: true,
            };
            let before = entry.desired;
            let decision = entry.decide(now, ready);
            self.decisions.set(id, &decision);
            entry.is_active = !entry.is_at_rest(&decision, n_ready);
            let (shown_at, shown) = entry.shown;
            let value = decision.stable_value;
            let drifted = (value - shown).abs() > SHOW_CHANGE * shown.abs().max(0.1);
            if decision.desired != before {
                entry.shown = (now, value);
                changes.push(Scaled {
                    service: entry.service.clone(),
                    revision: id.clone(),
                    before,
                    decision,
                });
            } else if (drifted && now >= shown_at + SHOW_EVERY) || !entry.is_active {
                entry.shown = (now, value);
                aged.insert(entry.service.clone());
            }
        }
        (changes, aged)
    }
}

fn n_ready(observed: &Observed, id: &RevisionId) -> u32 {
    match observed.revisions.get(id) {
        Some(RevisionState::Ready { replicas, .. }) => *replicas,
        _ => 0,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one second are far below 2^53"
)]
fn sample(load: &RevisionLoad, window: Duration) -> Sample {
    let seconds = window.as_secs_f64().max(1e-3);
    Sample {
        concurrency: load.concurrency,
        requests: load.n_finished as f64 / seconds,
        arrived: Some(load.n_started as f64 / seconds),
        queue_depth: load.n_waiting as f64,
        cpu_cores: load.compute.as_secs_f64() / seconds,
        memory_bytes: load.memory_bytes as f64,
        latency_p99: load.latency_p99,
    }
}

#[cfg(test)]
mod tests;
