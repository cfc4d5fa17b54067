//! One InferenceService: from what is wanted and what is observed to a plan and a status.
//!
//! Expected flow: [`reconcile`] at every change of the service, of what its revisions observe, or of secrets and
//! runtimes. Guarantees: it is idempotent; a revision that is not ready takes no requests; what serves goes on serving
//! until its successor is ready; the status shows the split that is in force, not the one that is wished for.
//! Assumptions: the service passed validation. Errors: the store's; the caller tries again.

mod payloads;
mod programs;
pub(super) mod references;
mod refused;
mod route;
mod stand_in;

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::inference_service::{BatcherSpec, PredictorSpec};
use coracle_api::status::{
    Address, ComponentStatus, Components, Condition, FailureInfo, InferenceServiceStatus,
    ModelCopies, ModelStates, ModelStatus, TrafficTarget,
};
use coracle_base::Code;
use coracle_serving::batch::BatchSettings;
use coracle_serving::{
    LoadFailure, Observed, PlannedRevision, PlannedRoute, RevisionId, RevisionState, ServiceId,
    ShadowSettings,
};
use serde_json::Value;

pub(super) use self::refused::{STOPPED, refusal};
use self::refused::{refused, stopped};
pub(super) use self::route::sticky;
use super::caching;
use super::conditions::{Conditions, Verdict};
use super::experiments::OnService;
use super::revisions::{self, Revision, STABLE, canary_track};
use super::rollouts::Course;
use super::runtimes::Candidate;
use super::scaling::{self, Scaling};
use super::served_by::{Finder, Programs, Refusal};
use super::templates::{Canaries, Template, Templates};
use super::traffic::{Rollout, Share, canary_shares, makeshift};
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Store, StoreError};

/// What reconciling needs besides the service.
pub(crate) struct Surroundings<'a> {
    pub(crate) store: &'a Store,
    pub(crate) observed: &'a Observed,
    pub(crate) runtimes: &'a [Candidate],
    pub(crate) programs: &'a Programs,
    /// The tries to load each revision that failed before.
    pub(crate) attempts: &'a BTreeMap<RevisionId, u32>,
    /// How its newest revision comes to take its requests, if a rollout says so.
    pub(crate) course: Option<&'a Course>,
    /// Whether the steps of a rollout that it asks for by annotation are in force, if it does.
    pub(crate) steps: Option<&'a Verdict>,
    /// The experiments that its requests take part in.
    pub(crate) experiments: Option<&'a OnService>,
    /// Who gets copies of its requests, if an Experiment of Seldon's says so.
    pub(crate) mirror: Option<&'a ShadowSettings>,
    /// Whether it may have the shadow that it names, if it names one, beside those of the others.
    pub(crate) shadow_room: &'a Verdict,
    /// Where the gateway is, such as `http://localhost:8080`.
    pub(crate) base_url: &'a str,
    pub(crate) now: Duration,
}

/// What a service comes to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) status: InferenceServiceStatus,
    /// What is to be served; how many replicas of it is for the autoscaler to say.
    pub(crate) revisions: BTreeMap<RevisionId, PlannedRevision>,
    pub(crate) scaling: BTreeMap<RevisionId, Scaling>,
    pub(crate) route: Option<PlannedRoute>,
}

/// The variable of a model's environment that names it, where that is not its service's name.
pub(crate) const MODEL_NAME: &str = "CORACLE_MODEL_NAME";
const STOP: &str = "serving.kserve.io/stop";
const MODE: &str = "serving.kserve.io/deploymentMode";

/// Reconciles one service.
pub(crate) fn reconcile(service: &Value, around: &Surroundings<'_>) -> Result<Outcome, StoreError> {
    let before = status_of(service);
    let Some(templates) = service.get("spec").and_then(Templates::read) else {
        let failure = Refusal {
            reason: "InvalidPredictorSpec",
            message: "the spec cannot be read".to_owned(),
        };
        return Ok(refused(service, &before, around, &failure));
    };
    if is_stopped(service) {
        return Ok(stopped(service, &before, around));
    }
    let mut all = revisions::of(around.store, service);
    let adoptable: Vec<String> = all.iter().map(|revision| revision.name.clone()).collect();
    for (track, template) in tracks(&templates) {
        revisions::ensure(
            around.store,
            service,
            &mut all,
            (&track, &template.spec),
            &adoptable,
            around.now,
        )?;
    }
    let view = View {
        service,
        around,
        templates: &templates,
        revisions: &all,
        before: &before,
        observed: observed_route(service, around.observed),
    };
    match view.check_runtime() {
        Ok(runtime) => Ok(view.settle(runtime)),
        Err(refusal) => Ok(refused(service, &before, around, &refusal)),
    }
}

pub(crate) fn status_of(service: &Value) -> InferenceServiceStatus {
    let status = service.get("status").cloned().unwrap_or_default();
    serde_json::from_value(status).unwrap_or_default()
}

/// Tells whether a service is to behave as KServe's Standard mode does.
pub(crate) fn is_standard_mode(service: &Value) -> bool {
    let named = object::text(service, "annotations", MODE);
    matches!(named, Some("RawDeployment" | "Standard"))
}

/// Tells whether a service is told not to serve.
pub(crate) fn is_stopped(service: &Value) -> bool {
    object::text(service, "annotations", STOP) == Some("true")
}

fn service_id(service: &Value) -> ServiceId {
    ServiceId {
        namespace: object::namespace(service).to_owned(),
        name: object::name(service).to_owned(),
    }
}

fn observed_route(service: &Value, observed: &Observed) -> Option<PlannedRoute> {
    let route = observed.routes.get(&service_id(service));
    // Without targets nothing of the service itself answers.
    route.filter(|route| !route.targets.is_empty()).cloned()
}

/// The tracks of a service with their templates, the stable one first.
fn tracks(templates: &Templates) -> Vec<(String, &Template)> {
    let mut tracks = vec![(STABLE.to_owned(), &templates.stable)];
    match &templates.canaries {
        Canaries::Revisions(_) => {}
        Canaries::Block(template, _) => tracks.push((canary_track(""), template)),
        Canaries::List(list) => tracks.extend(
            list.iter()
                .map(|(name, template, _)| (canary_track(name), template)),
        ),
    }
    tracks
}

/// A service with everything that bears on it.
struct View<'a> {
    service: &'a Value,
    around: &'a Surroundings<'a>,
    templates: &'a Templates,
    revisions: &'a [Revision],
    before: &'a InferenceServiceStatus,
    /// The split that is in force.
    observed: Option<PlannedRoute>,
}

impl View<'_> {
    /// Chooses the runtime, if the predictor needs one; refuses what is not served here.
    fn check_runtime(&self) -> Result<Option<&Candidate>, Refusal> {
        for (component, name) in [("transformer", "Transformer"), ("explainer", "Explainer")] {
            if self
                .service
                .pointer(&format!("/spec/{component}"))
                .is_some()
            {
                return Err(Refusal {
                    reason: "InvalidPredictorSpec",
                    message: format!("{name}s are not served yet; remove spec.{component}"),
                });
            }
        }
        for (track, template) in tracks(self.templates) {
            let newest = revisions::newest(self.revisions, &track);
            let name = newest.map_or("", |revision| &revision.name);
            let is_program = || self.finder().source_again(&template.spec, name).process;
            payloads::check(&template.spec, || is_program().is_some())?;
            programs::check(self.service, || is_program().is_some())?;
            self.finder().runtime(&template.spec)?;
            // What is loaded needs its files no more.
            if newest.is_some_and(|revision| self.is_ready(&revision.name)) {
                continue;
            }
            self.finder().source(&template.spec, name)?;
        }
        self.finder().runtime(&self.templates.stable.spec)
    }

    fn finder(&self) -> Finder<'_> {
        Finder {
            store: self.around.store,
            service: self.service,
            runtimes: self.around.runtimes,
            programs: self.around.programs,
        }
    }

    fn state(&self, revision: &str) -> Option<&RevisionState> {
        self.around.observed.revisions.get(&self.id(revision))
    }

    fn id(&self, revision: &str) -> RevisionId {
        RevisionId {
            namespace: object::namespace(self.service).to_owned(),
            name: revision.to_owned(),
        }
    }

    fn is_ready(&self, revision: &str) -> bool {
        matches!(self.state(revision), Some(RevisionState::Ready { .. }))
    }

    /// Returns the newest revision of a track that is ready.
    fn newest_ready(&self, track: &str) -> Option<&Revision> {
        let of_track = self
            .revisions
            .iter()
            .rev()
            .filter(|revision| revision.track == track);
        of_track
            .into_iter()
            .find(|revision| self.is_ready(&revision.name))
    }

    fn component(&self) -> ComponentStatus {
        let components = self.before.components.clone().unwrap_or_default();
        components.predictor.unwrap_or_default()
    }

    /// Returns the split that is wanted now, with what the rollout was before it.
    fn wanted(&self) -> (Vec<Share>, Rollout) {
        let component = self.component();
        let newest = revisions::newest(self.revisions, STABLE);
        let mut rollout = Rollout {
            latest_created: newest
                .map(|revision| revision.name.clone())
                .unwrap_or_default(),
            latest_ready: self
                .newest_ready(STABLE)
                .map(|revision| revision.name.clone()),
            rolled_out: component.latest_rolledout_revision.clone(),
            previous: component.previous_rolledout_revision.clone(),
            percent: None,
        };
        // What is not loaded any more, but was ready, is so again once it is loaded.
        if rollout.latest_ready.is_none() {
            rollout.latest_ready = component
                .latest_ready_revision
                .filter(|name| self.exists(name));
        }
        rollout.rolled_out = rollout.rolled_out.filter(|name| self.exists(name));
        rollout.previous = rollout.previous.filter(|name| self.exists(name));
        let shares = match &self.templates.canaries {
            Canaries::Revisions(percent) => {
                let newest = &rollout.latest_created;
                let stable = rollout.rolled_out.as_deref();
                rollout.percent = percent.or_else(|| {
                    let Some(course) = self.around.course else {
                        // What waits for its rollout takes nothing.
                        let waits = self.around.steps.is_some() && stable != Some(newest);
                        return waits.then_some(0);
                    };
                    // A share is the newest revision's: until it is ready, an older one that is (and went back, maybe) gets none of it.
                    match rollout.latest_ready.as_ref() == Some(newest) {
                        true => course.percent(newest, stable),
                        false => Some(0),
                    }
                });
                rollout.shares()
            }
            Canaries::Block(_, percent) => {
                let canaries = self.canary("", *percent);
                canary_shares(rollout.latest_ready.as_deref(), canaries.as_slice(), true)
            }
            Canaries::List(list) => {
                let canaries = list
                    .iter()
                    .flat_map(|(name, _, percent)| self.canary(name, *percent));
                let canaries: Vec<(String, u8, bool)> = canaries.collect();
                canary_shares(rollout.latest_ready.as_deref(), &canaries, false)
            }
        };
        (shares, rollout)
    }

    /// Returns the split that is in force instead of `shares` while one of them cannot be loaded that takes nothing now, as after a restart without its
    /// files. What serves is not touched.
    fn makeshift(&self, shares: &[Share]) -> Option<Vec<Share>> {
        let is_lost = |name: &str| self.has_failed(name) && !self.takes_requests(name);
        makeshift(shares, |name| self.is_ready(name), is_lost)
    }

    fn has_failed(&self, revision: &str) -> bool {
        matches!(self.state(revision), Some(RevisionState::Failed { .. }))
    }

    fn takes_requests(&self, revision: &str) -> bool {
        let mut targets = self.observed.iter().flat_map(|route| &route.targets);
        targets.any(|target| target.percent > 0 && target.revision == revision)
    }

    fn exists(&self, revision: &str) -> bool {
        self.revisions.iter().any(|one| one.name == *revision)
    }

    fn canary(&self, name: &str, percent: u8) -> Vec<(String, u8, bool)> {
        let newest = revisions::newest(self.revisions, &canary_track(name));
        newest
            .map(|revision| {
                (
                    revision.name.clone(),
                    percent,
                    self.is_ready(&revision.name),
                )
            })
            .into_iter()
            .collect()
    }

    fn settle(&self, runtime: Option<&Candidate>) -> Outcome {
        let (shares, rollout) = self.wanted();
        let makeshift = self.makeshift(&shares);
        let is_meant = makeshift.is_none();
        // A promotion makes it another revision, and comes with its route.
        let ahead = match is_meant {
            true => self.advance(rollout.clone(), &shares),
            false => rollout.clone(),
        };
        let shares = makeshift.unwrap_or(shares);
        let stand_in = self.stand_in(&ahead);
        let wanted = self.route(&shares, stand_in.as_ref());
        let in_force = wanted.is_some() && wanted == self.observed;
        let by_revisions = matches!(self.templates.canaries, Canaries::Revisions(_));
        let rollout = match in_force {
            true => ahead,
            false => rollout,
        };
        // What follows from the split being in force may be another split, as when a rollout is taken back.
        let is_final = in_force && is_meant && (!by_revisions || rollout.shares() == shares);
        let newest: Vec<&Revision> = tracks(self.templates)
            .iter()
            .filter_map(|(track, _)| revisions::newest(self.revisions, track))
            .collect();
        let mut needed: Vec<String> = shares.iter().map(|share| share.revision.clone()).collect();
        needed.extend(newest.iter().map(|revision| revision.name.clone()));
        // What serves now is not let go of before something else does.
        let serving = self.observed.iter().flat_map(|route| &route.targets);
        needed.extend(
            serving
                .filter(|_| !in_force)
                .map(|target| target.revision.clone()),
        );
        // What was rolled out is at hand while it may be asked back.
        needed.extend(rollout.rolled_out.clone());
        // So is what stands in, now and from the next look on.
        let now = self.stand_in(&rollout);
        needed.extend(
            [stand_in, now]
                .into_iter()
                .flatten()
                .filter_map(|one| one.revision),
        );
        needed.extend(self.of_flows());
        let of_experiments = self.around.experiments.map(|on| on.revisions.clone());
        needed.extend(of_experiments.unwrap_or_default());
        needed.sort();
        needed.dedup();
        let planned = self
            .revisions
            .iter()
            .filter(|revision| needed.contains(&revision.name));
        let planned = planned
            .map(|revision| (self.id(&revision.name), self.plan(revision)))
            .collect::<BTreeMap<_, _>>();
        let mut in_use = needed;
        in_use.extend(rollout.previous.clone());
        revisions::prune(self.around.store, self.service, self.revisions, &in_use);
        let shown = if in_force {
            shares
        } else {
            self.shown(&shares)
        };
        Outcome {
            status: self.status(runtime, &newest, &rollout, &shown, is_final),
            scaling: self.scalings(&planned),
            revisions: planned,
            route: self.planned_route(wanted, &rollout),
        }
    }

    /// Returns the revisions that flows hold by now.
    fn of_flows(&self) -> Vec<String> {
        let namespace = object::namespace(self.service);
        let flows = self.around.observed.flows.iter();
        let own = flows.filter(|(id, _)| id.namespace == namespace);
        own.flat_map(|(_, flow)| flow.revisions())
            .map(str::to_owned)
            .collect()
    }

    /// Returns what the rollout is once the split is in force.
    fn advance(&self, mut rollout: Rollout, shares: &[Share]) -> Rollout {
        let place = |name: &Option<String>| {
            let mut all = self.revisions.iter();
            all.position(|revision| Some(&revision.name) == name.as_ref())
        };
        // An older one that answers while the one that was rolled out is loaded again is not rolled out by that.
        if place(&rollout.latest_ready) < place(&rollout.rolled_out) {
            return rollout;
        }
        if matches!(self.templates.canaries, Canaries::Revisions(_)) {
            return rollout.advance(shares);
        }
        // With canary blocks, the stable revision is what was rolled out last.
        if rollout.rolled_out != rollout.latest_ready
            && shares.iter().any(|share| share.percent > 0)
        {
            rollout.previous = rollout.rolled_out.take();
            rollout.rolled_out.clone_from(&rollout.latest_ready);
        }
        rollout
    }

    fn plan(&self, revision: &Revision) -> PlannedRevision {
        let template = &revision.template;
        let predictor: PredictorSpec = serde_json::from_value(template.clone()).unwrap_or_default();
        let concurrency = predictor.extension.container_concurrency;
        let batcher = predictor.extension.batcher.as_ref();
        // The batcher's time for an answer is one more bound on the same.
        let timeouts = [
            predictor.extension.timeout,
            batcher.and_then(|batcher| batcher.timeout).map(i64::from),
        ];
        PlannedRevision {
            model_name: self.model_name(&predictor),
            source: self.finder().source_again(template, &revision.name),
            attempt: self
                .around
                .attempts
                .get(&self.id(&revision.name))
                .copied()
                .unwrap_or(0),
            // The autoscaler says how many.
            replicas: 1,
            // 0 is no limit, as on Knative.
            concurrency: concurrency
                .and_then(|limit| u32::try_from(limit).ok())
                .filter(|&limit| limit > 0),
            timeout: timeouts
                .into_iter()
                .flatten()
                .filter_map(|seconds| u64::try_from(seconds).ok())
                .filter(|&seconds| seconds > 0)
                .min()
                .map(Duration::from_secs),
            payloads: payloads::planned(self.service, predictor.extension.logger.as_ref()),
            batching: batcher.map(batching),
            // Validation has seen it.
            response_cache: caching::read(self.service).ok().flatten(),
        }
    }

    /// Returns the name that a predictor's model is asked by: its service's, unless its environment says another.
    fn model_name(&self, predictor: &PredictorSpec) -> String {
        let model = predictor.model.as_deref();
        let mut variables = model
            .iter()
            .flat_map(|model| model.container.env.iter().flatten());
        let own = variables.find(|variable| variable.name == MODEL_NAME);
        let own = own.and_then(|variable| variable.value.clone());
        let own = own.filter(|name| !name.is_empty());
        own.unwrap_or_else(|| object::name(self.service).to_owned())
    }

    /// Returns how a revision is scaled.
    fn scaling(&self, revision: &Revision) -> Scaling {
        let tracks = tracks(self.templates);
        let own = tracks.iter().find(|(track, _)| *track == revision.track);
        let template = own.map_or(&self.templates.stable, |(_, template)| *template);
        // What marks a revision out (its concurrency, its annotations) is its own; how much of it there is is the service's.
        let template = Template {
            spec: revision.template.clone(),
            scaling: template.scaling.clone(),
        };
        // Validation has seen it; what was stored before there was one scales as if nothing were said.
        scaling::read(self.service, &template).unwrap_or_default()
    }

    fn scalings(
        &self,
        planned: &BTreeMap<RevisionId, PlannedRevision>,
    ) -> BTreeMap<RevisionId, Scaling> {
        let revisions = self.revisions.iter();
        let scalings = revisions.map(|revision| (self.id(&revision.name), revision));
        let scalings = scalings.filter(|(id, _)| planned.contains_key(id));
        scalings
            .map(|(id, revision)| (id, self.scaling(revision)))
            .collect()
    }

    fn status(
        &self,
        runtime: Option<&Candidate>,
        newest: &[&Revision],
        rollout: &Rollout,
        shares: &[Share],
        in_force: bool,
    ) -> InferenceServiceStatus {
        let has_route = self.observed.is_some();
        let address = || Address {
            url: Some(self.url("")),
        };
        InferenceServiceStatus {
            address: has_route.then(address),
            components: Some(Components {
                predictor: Some(self.component_status(newest, rollout, shares)),
            }),
            conditions: self.conditions(newest, rollout, in_force),
            deployment_mode: Some(self.mode()),
            model_status: Some(self.model_status(newest, has_route)),
            observed_generation: Some(object::generation(self.service)),
            cluster_serving_runtime_name: runtime
                .filter(|runtime| runtime.is_cluster_wide())
                .map(|runtime| runtime.name.clone()),
            serving_runtime_name: runtime
                .filter(|runtime| !runtime.is_cluster_wide())
                .map(|runtime| runtime.name.clone()),
            url: has_route.then(|| self.url("")),
        }
    }

    /// Returns where the service is asked; `tag` is that of one revision, with its hyphen.
    fn url(&self, tag: &str) -> String {
        let (namespace, name) = (object::namespace(self.service), object::name(self.service));
        let base = format!("{}/serving/{namespace}", self.around.base_url);
        match tag {
            "" => format!("{base}/{name}"),
            tag => format!("{base}/{tag}{name}-predictor"),
        }
    }

    fn conditions(
        &self,
        newest: &[&Revision],
        rollout: &Rollout,
        in_force: bool,
    ) -> Vec<Condition> {
        let has_route = self.observed.is_some();
        let configuration = newest.iter().fold(Verdict::True, |all, revision| {
            all.and(&self.verdict(&revision.name))
        });
        let rolled_out = rollout.rolled_out.as_deref();
        let lost = rolled_out.filter(|name| self.has_failed(name) && !self.takes_requests(name));
        let route = match (has_route, in_force) {
            (true, true) => Verdict::True,
            _ if lost.is_some() => self.verdict(lost.unwrap_or_default()),
            (false, _) => Verdict::not_yet("", "no revision takes requests yet"),
            (true, false) => Verdict::not_yet("", "the split of requests is being changed"),
        };
        let route = match &configuration {
            Verdict::True => route,
            // What serves goes on serving while its successor is not there.
            _ if has_route => Verdict::True,
            _ => route.and(&configuration),
        };
        let predictor = configuration.and(&route);
        let ingress = match has_route {
            true => Verdict::True,
            false => Verdict::not_yet("", "Predictor ingress not created").and(&predictor),
        };
        let now = rfc3339(self.around.now);
        let mut conditions = Conditions::new(&self.before.conditions, &now);
        conditions.add("IngressReady", &ingress);
        conditions.add_info("LatestDeploymentReady", &configuration);
        conditions.add_info("PredictorConfigurationReady", &configuration);
        conditions.add("PredictorReady", &predictor);
        conditions.add_info("PredictorRouteReady", &route);
        conditions.add("Ready", &predictor.and(&ingress));
        if let Some(verdict) = self.around.steps {
            conditions.add_info("RolloutStepsInForce", verdict);
        }
        let by_revision = self.stand_in(rollout).map(|stand_in| stand_in.verdict);
        let misfit = self.around.observed.misfits.get(&service_id(self.service));
        let by = (by_revision, misfit, self.around.shadow_room);
        for (name, verdict) in references::verdicts(self.service, by, self.around.store) {
            conditions.add_info(name, &verdict);
        }
        conditions.add_info("RoutesReady", &route);
        conditions.add_info(STOPPED, &Verdict::no("", ""));
        conditions.finish()
    }

    fn component_status(
        &self,
        newest: &[&Revision],
        rollout: &Rollout,
        shares: &[Share],
    ) -> ComponentStatus {
        let created = newest.iter().max_by_key(|revision| revision.number);
        let ready = newest
            .iter()
            .filter(|revision| self.is_ready(&revision.name))
            .max_by_key(|revision| revision.number);
        let ready = ready
            .map(|revision| revision.name.clone())
            .or(self.component().latest_ready_revision);
        ComponentStatus {
            address: Some(Address {
                url: Some(self.url("")),
            }),
            latest_created_revision: created.map(|revision| revision.name.clone()),
            latest_ready_revision: ready.filter(|name| self.exists(name)),
            latest_rolledout_revision: rollout.rolled_out.clone(),
            previous_rolledout_revision: rollout.previous.clone(),
            traffic: self.traffic(shares),
            url: Some(format!("{}-predictor", self.url(""))),
        }
    }

    /// Returns a split in the words of the status.
    fn traffic(&self, shares: &[Share]) -> Vec<TrafficTarget> {
        let targets = shares.iter().map(|share| TrafficTarget {
            latest_revision: Some(share.latest),
            percent: Some(i64::from(share.percent)),
            revision_name: Some(share.revision.clone()),
            url: share.tag.as_ref().map(|tag| self.url(&format!("{tag}-"))),
            tag: share.tag.clone(),
        });
        targets.collect()
    }

    fn mode(&self) -> String {
        let has_list = matches!(self.templates.canaries, Canaries::List(_));
        match self.before.deployment_mode.as_deref() {
            Some(mode) => mode.to_owned(),
            None if has_list || is_standard_mode(self.service) => "Standard".to_owned(),
            None => "Knative".to_owned(),
        }
    }

    fn verdict(&self, revision: &str) -> Verdict {
        match self.state(revision) {
            Some(RevisionState::Ready { .. }) => Verdict::True,
            Some(RevisionState::Failed { failure, .. }) => Verdict::no(
                match failure.code {
                    Code::DeadlineExceeded => "ProgressDeadlineExceeded",
                    _ => "RevisionFailed",
                },
                format!(
                    "Revision \"{revision}\" failed with message: {}.",
                    failure.message.trim_end_matches('.')
                ),
            ),
            Some(RevisionState::Loading { progress }) => {
                Verdict::not_yet("Deploying", format!("Revision \"{revision}\": {progress}"))
            }
            None => Verdict::not_yet(
                "Deploying",
                format!("Revision \"{revision}\" is waiting to be loaded"),
            ),
        }
    }

    fn model_status(&self, newest: &[&Revision], has_route: bool) -> ModelStatus {
        let failed = newest
            .iter()
            .find_map(|revision| match self.state(&revision.name) {
                Some(RevisionState::Failed { failure, .. }) => Some((revision, failure)),
                _ => None,
            });
        let all_ready = newest.iter().all(|revision| self.is_ready(&revision.name));
        let (transition, target) = match (&failed, all_ready) {
            (Some(_), _) => ("BlockedByFailedLoad", "FailedToLoad"),
            (None, true) => ("UpToDate", "Loaded"),
            (None, false) => ("InProgress", "Loading"),
        };
        let active = if has_route {
            "Loaded"
        } else if failed.is_some() {
            "FailedToLoad"
        } else {
            "Pending"
        };
        let last_failure = self
            .before
            .model_status
            .as_ref()
            .and_then(|status| status.last_failure_info.clone());
        let last_failure = match failed {
            Some((revision, failure)) => Some(failure_info(
                &revision.name,
                failure,
                last_failure,
                self.around.now,
            )),
            // A failure that is over is history.
            None if all_ready => None,
            None => last_failure,
        };
        let n_loaded = newest
            .iter()
            .filter(|revision| self.is_ready(&revision.name))
            .count();
        ModelStatus {
            copies: Some(ModelCopies {
                failed_copies: i32::from(last_failure.is_some()),
                total_copies: i32::try_from(n_loaded).unwrap_or(i32::MAX),
            }),
            last_failure_info: last_failure,
            states: Some(ModelStates {
                active_model_state: active.to_owned(),
                target_model_state: target.to_owned(),
            }),
            transition_status: transition.to_owned(),
        }
    }
}

fn failure_info(
    revision: &str,
    failure: &LoadFailure,
    before: Option<FailureInfo>,
    now: Duration,
) -> FailureInfo {
    let mut info = FailureInfo {
        location: None,
        message: Some(failure.message.clone()),
        model_revision_name: Some(revision.to_owned()),
        reason: Some("ModelLoadFailed".to_owned()),
        time: None,
    };
    // The same failure keeps the time of its first appearance.
    let since = before.filter(|before| {
        before.message == info.message && before.model_revision_name == info.model_revision_name
    });
    info.time = since
        .and_then(|before| before.time)
        .or_else(|| Some(rfc3339(now)));
    info
}

/// Returns how calls wait for each other; what is absent or no number above 0 is as KServe's agent has it.
fn batching(batcher: &BatcherSpec) -> BatchSettings {
    let above_zero = |number: Option<i32>| {
        let number = number.and_then(|number| u32::try_from(number).ok());
        number.filter(|&number| number > 0)
    };
    let rows_max = above_zero(batcher.max_batch_size).and_then(|rows| usize::try_from(rows).ok());
    let wait = above_zero(batcher.max_latency).map(|ms| Duration::from_millis(ms.into()));
    BatchSettings {
        rows_max: rows_max.unwrap_or(BatchSettings::ROWS_MAX_DEFAULT),
        wait: wait.unwrap_or(BatchSettings::WAIT_DEFAULT),
        rows_preferred: Vec::new(),
    }
}
