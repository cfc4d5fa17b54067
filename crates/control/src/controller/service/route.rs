//! How a service's requests are split, and what else is done with them, in the words of the plan.

use coracle_api::kind::SELDON_DEPLOYMENT;
use coracle_api::validation::STICKY;
use coracle_serving::experiment::UnitSource;
use coracle_serving::{
    Absence, FallbackSettings, PlannedPredictor, PlannedRoute, PlannedTarget, RevisionState, Sticky,
};
use serde_json::Value;

use super::View;
use super::stand_in::StandIn;
use crate::controller::conditions::Verdict;
use crate::controller::revisions::{STABLE, canary_track};
use crate::controller::templates::Canaries;
use crate::controller::traffic::{Rollout, Share};
use crate::controller::{fallbacks, shadows};
use crate::object;

const TAG_ROUTING: &str = "serving.kserve.io/enable-tag-routing";

/// Returns the route of a service of which no revision has been ready yet, if another service answers in its place.
pub(super) fn absent(service: &Value) -> Option<PlannedRoute> {
    let other = fallbacks::in_force(service)?.service?;
    let fallback = FallbackSettings {
        service: Some(other),
        ..FallbackSettings::default()
    };
    Some(PlannedRoute {
        fallback: Some(fallback),
        ..PlannedRoute::default()
    })
}

impl View<'_> {
    /// Returns the route of a split; `None` for none.
    pub(super) fn route(
        &self,
        shares: &[Share],
        stand_in: Option<&StandIn>,
    ) -> Option<PlannedRoute> {
        let with_tags = object::text(self.service, "annotations", TAG_ROUTING) == Some("true");
        let mut targets: Vec<PlannedTarget> = Vec::new();
        for share in shares {
            let latest = (share.latest && with_tags).then(|| "latest".to_owned());
            let tags = share.tag.clone().into_iter().chain(latest);
            match targets
                .iter_mut()
                .find(|target| target.revision == share.revision)
            {
                Some(target) => {
                    target.percent = target.percent.saturating_add(share.percent);
                    target.tags.extend(tags);
                }
                None => targets.push(PlannedTarget {
                    revision: share.revision.clone(),
                    percent: share.percent,
                    tags: tags.collect(),
                }),
            }
        }
        let revision = stand_in.and_then(StandIn::ready);
        if let Some(name) = revision.as_ref().filter(|_| !targets.is_empty())
            && targets.iter().all(|target| target.revision != *name)
        {
            // It takes what another one fails at.
            targets.push(PlannedTarget {
                revision: name.clone(),
                percent: 0,
                tags: Vec::new(),
            });
        }
        let fallback = fallbacks::in_force(self.service);
        let fallback = fallback.map(|settings| FallbackSettings {
            revision,
            ..settings
        });
        // Without anything that stands in, nobody is helped by a call that is cut short.
        let fallback = fallback.map(|settings| FallbackSettings {
            timeout: settings.timeout.filter(|_| settings.stands_in()),
            ..settings
        });
        let fallback = fallback.filter(|settings| *settings != FallbackSettings::default());
        let sticky = sticky(self.service);
        let book = self.around.course.and_then(|course| course.book.clone());
        // Who is a unit of a rollout's stage must not see both revisions.
        let sticky = match book.as_ref().map(|book| &book.unit) {
            Some(UnitSource::Header(name)) => Some(Sticky::Header(name.clone())),
            Some(UnitSource::Cookie(name)) => Some(Sticky::Cookie(name.clone())),
            _ => sticky,
        };
        let experiments = self.around.experiments.map(|on| on.planned.clone());
        let mut experiments = experiments.unwrap_or_default();
        experiments.extend(book);
        // Validation has seen it.
        let shadow = shadows::read(self.service).ok().flatten();
        let shadow = shadow.filter(|_| *self.around.shadow_room == Verdict::True);
        let shadow = shadow.or_else(|| self.around.mirror.cloned());
        let predictors = self.predictors(&targets);
        (!targets.is_empty()).then_some(PlannedRoute {
            targets,
            predictors,
            absence: None,
            sticky,
            is_compared: self.around.course.is_some(),
            trial: self.around.course.map_or(0, |course| course.trial()),
            shadow,
            fallback,
            experiments,
        })
    }

    /// Returns the route to plan: until the one that is wanted can be in force, the one that is stays.
    pub(super) fn planned_route(
        &self,
        wanted: Option<PlannedRoute>,
        rollout: &Rollout,
    ) -> Option<PlannedRoute> {
        let taking = wanted.iter().flat_map(|route| &route.targets);
        let mut taking = taking.filter(|target| target.percent > 0);
        let is_loading = |target: &PlannedTarget| {
            let state = self.state(&target.revision);
            matches!(state, Some(RevisionState::Loading { .. }))
        };
        let is_there =
            wanted.is_some() && taking.clone().all(|target| self.is_ready(&target.revision));
        if self.observed.is_none() && !is_there {
            // What is still being loaded takes all requests once it is there.
            let lost = match taking.any(is_loading) {
                true => None,
                false => self.lost(rollout),
            };
            return lost
                .or(wanted)
                .or_else(|| absent(self.service))
                .or_else(|| self.returning(rollout));
        }
        wanted.or_else(|| self.observed.clone())
    }

    /// Returns the route of a service that has served, and of which nothing can be loaded after a restart: it is there, and whoever asks is told why
    /// nothing answers.
    fn lost(&self, rollout: &Rollout) -> Option<PlannedRoute> {
        let name = rollout.rolled_out.as_ref()?;
        let revision = self.revisions.iter().find(|one| one.name == *name)?;
        let predictor = serde_json::from_value(revision.template.clone()).unwrap_or_default();
        // One that is being loaded is waited for: after a restart its requests are held until it is there.
        let Some(RevisionState::Failed { failure, .. }) = self.state(name) else {
            return None;
        };
        let why = format!("{name} failed: {}", failure.message);
        Some(PlannedRoute {
            absence: Some(Absence {
                model: self.model_name(&predictor),
                why: format!("no revision of the service is loaded yet: {why}"),
            }),
            ..absent(self.service).unwrap_or_default()
        })
    }

    /// Returns the route of a service that served until it was stopped, and is being loaded again: its requests are held until it is there, as after a restart.
    fn returning(&self, rollout: &Rollout) -> Option<PlannedRoute> {
        self.route(&[self.all_again(rollout)?], None)
    }

    /// Returns the share of what had all requests last, if it is still there: all of them.
    pub(super) fn all_again(&self, rollout: &Rollout) -> Option<Share> {
        let revision = rollout.rolled_out.clone()?;
        Some(Share {
            latest: revision == rollout.latest_created,
            revision,
            percent: 100,
            tag: None,
        })
    }

    /// Returns the predictors of a SeldonDeployment that the service was made of, if there are several: its stable predictor and its canaries.
    fn predictors(&self, targets: &[PlannedTarget]) -> Vec<PlannedPredictor> {
        let Canaries::List(canaries) = &self.templates.canaries else {
            return Vec::new();
        };
        if !object::has_owner(self.service, SELDON_DEPLOYMENT.kind) {
            return Vec::new();
        }
        let first = self.service.pointer("/spec/predictor/name");
        let first = first.and_then(Value::as_str).unwrap_or_default();
        let stable = (first, STABLE.to_owned(), &self.templates.stable);
        let canaries = canaries
            .iter()
            .map(|(name, template, _)| (name.as_str(), canary_track(name), template));
        let all = std::iter::once(stable).chain(canaries);
        let planned = all.map(|(name, track, template)| {
            let predictor = serde_json::from_value(template.spec.clone()).unwrap_or_default();
            let own = |target: &&PlannedTarget| {
                let mut all = self.revisions.iter();
                all.any(|one| one.name == target.revision && one.track == track)
            };
            PlannedPredictor {
                name: name.to_owned(),
                node: self.model_name(&predictor),
                revisions: targets
                    .iter()
                    .filter(own)
                    .map(|target| target.revision.clone())
                    .collect(),
            }
        });
        planned.collect()
    }

    /// Returns the split in force in the words of the one that is wanted.
    pub(super) fn shown(&self, wanted: &[Share]) -> Vec<Share> {
        let targets = self.observed.iter().flat_map(|route| &route.targets);
        // One without a share that is not wanted stands in for others only.
        let has_share = |target: &&PlannedTarget| {
            let mut wanted = wanted.iter();
            target.percent > 0 || wanted.any(|share| share.revision == target.revision)
        };
        let shares = targets.filter(has_share).map(|target| Share {
            revision: target.revision.clone(),
            percent: target.percent,
            latest: wanted
                .iter()
                .any(|share| share.latest && share.revision == target.revision),
            tag: target.tags.iter().find(|tag| *tag == "prev").cloned(),
        });
        shares.collect()
    }
}

/// Returns what of a request decides which revision takes it, if a service's annotation says so: `header=NAME` or `cookie=NAME`, which validation has checked.
pub(in crate::controller) fn sticky(service: &Value) -> Option<Sticky> {
    match object::text(service, "annotations", STICKY)?.split_once('=')? {
        ("header", name) => Some(Sticky::Header(name.to_ascii_lowercase())),
        ("cookie", name) => Some(Sticky::Cookie(name.to_owned())),
        _ => None,
    }
}
