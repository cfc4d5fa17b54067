//! The part in an experiment of a request that a process may answer: it is decided before anything is passed on, held while the process answers, and
//! noted once the answer has ended, with how it ended. Whether a message over gRPC goes to a process is decided before this server reads it, so what was
//! decided is held until then, too.

use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use coracle_serving::experiment::{
    Book, By, Decision, Exposure, ExposureEnd, RouteExperiments, SplitTarget,
};
use coracle_serving::{ModelTable, Outcome, Route, ServedModel};

use super::{Chosen, VariantMark};
use crate::payload;
use crate::scope::Scope;

/// Tells whether a request of a route may be a process's to answer, by its own split or as one variant's.
pub(crate) fn may_forward(table: &ModelTable, route: &Route) -> bool {
    let of_variant = || {
        let experiments = route.experiments().filter(|_| table.is_forwarded());
        let mut variants = experiments.into_iter().flat_map(RouteExperiments::targets);
        variants.any(|target| match target {
            SplitTarget::Own => false,
            SplitTarget::Revision(model) => model.is_forwarded(),
            SplitTarget::Service(id) => table.service(id).is_some_and(|other| other.is_forwarded()),
        })
    };
    route.is_forwarded() || of_variant()
}

/// Tells whether all requests of a route are processes' to answer, whichever variant takes them.
pub(super) fn only_forwards(table: &ModelTable, route: &Route) -> bool {
    let all = |route: &Route| {
        let mut targets = route.targets().iter();
        targets.all(|target| target.model.is_forwarded())
    };
    let experiments = route.experiments();
    let mut variants = experiments.into_iter().flat_map(RouteExperiments::targets);
    let is_forwarded = |target: &SplitTarget| match target {
        SplitTarget::Own => true,
        SplitTarget::Revision(model) => model.is_forwarded(),
        // One that is not there leaves its requests to the service itself.
        SplitTarget::Service(id) => table.service(id).is_none_or(|other| all(other)),
    };
    all(route) && variants.all(is_forwarded)
}

/// Tells whether a request of a route is split by its experiments; who asks for one revision gets it.
pub(crate) fn is_split(route: &Route, scope: &Scope) -> bool {
    route.experiments().is_some() && !matches!(scope, Scope::Service { tag: Some(_), .. })
}

/// What a process's answer says of its variant, and what is noted of it.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) mark: Option<Box<VariantMark>>,
    pub(crate) pending: Option<Box<Pending>>,
}

/// An exposure whose end is not known yet. One that is dropped before, since its caller has gone, is noted all the same.
#[derive(Debug)]
pub(crate) struct Pending {
    book: Arc<Book>,
    exposure: Option<Exposure>,
    clock: Arc<dyn Clock>,
    started: Duration,
}

impl Pending {
    /// Notes that the request has ended so.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.expose(match outcome {
            Ok(()) => ExposureEnd::Answered,
            Err(_code) => ExposureEnd::Failed,
        });
    }

    fn expose(&mut self, end: ExposureEnd) {
        let Some(exposure) = self.exposure.take() else {
            return;
        };
        let elapsed = self.clock.monotonic().saturating_sub(self.started);
        self.book.expose(Exposure {
            end,
            seconds: elapsed.as_secs_f64(),
            at: super::unix_ms(self.clock.as_ref()),
            ..exposure
        });
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.expose(ExposureEnd::Left);
    }
}

impl Chosen<'_> {
    /// Returns what is held while a process answers a request whose head was there at `started`.
    pub(crate) fn part(
        self,
        caller: payload::Caller<'_>,
        clock: &Arc<dyn Clock>,
        started: Duration,
    ) -> Part {
        let mark = self.mark();
        let pending = self.exposure(caller).map(|(book, exposure)| {
            Box::new(Pending {
                book,
                exposure: Some(exposure),
                clock: Arc::clone(clock),
                started,
            })
        });
        Part { mark, pending }
    }

    /// Returns the name that a process of its variant knows the model by, where that is not the one that was asked for.
    pub(crate) fn other_name(&self) -> Option<&str> {
        let target = self.decision.split.target(self.decision.variant);
        match target {
            SplitTarget::Service(_) => Some(self.model.name()),
            SplitTarget::Own | SplitTarget::Revision(_) => None,
        }
    }
}

/// Returns a path of V1 or V2 with another model's name in it; any other as it is.
pub(crate) fn renamed(path: &str, name: &str) -> String {
    let prefixes = ["/v1/models/", "/v2/models/"];
    let found = prefixes.iter().find(|prefix| path.starts_with(**prefix));
    let Some((prefix, rest)) = found.and_then(|prefix| Some((prefix, path.get(prefix.len()..)?)))
    else {
        return path.to_owned();
    };
    let end = rest.find(['/', ':']).unwrap_or(rest.len());
    format!("{prefix}{name}{}", rest.get(end..).unwrap_or_default())
}

/// Whether it is settled already which variant takes a request.
#[derive(Debug, Default)]
pub(crate) enum Turn<T> {
    /// It is not.
    #[default]
    Open,
    /// It is: this one, or no experiment's.
    Settled(Option<T>),
}

/// A variant that was chosen for a message that is yet to be read: what [`Chosen`] borrows it holds.
#[derive(Debug)]
pub(crate) struct Held {
    route: Arc<Route>,
    /// Which of the route's experiments; none for its rollout's stage.
    place: Option<usize>,
    variant: usize,
    by: Option<By>,
    propensity: Option<f64>,
    features: Vec<f64>,
    unit: Option<String>,
    model: Arc<ServedModel>,
}

impl Held {
    /// Returns what was chosen on a route.
    pub(crate) fn of(chosen: Chosen<'_>, route: &Arc<Route>) -> Option<Self> {
        let splits = route.experiments()?.splits();
        let decision = chosen.decision;
        Some(Self {
            route: Arc::clone(route),
            place: splits
                .iter()
                .position(|split| std::ptr::eq(split, decision.split)),
            variant: decision.variant,
            by: decision.by,
            propensity: decision.propensity,
            features: decision.features,
            unit: chosen.unit,
            model: Arc::clone(chosen.model),
        })
    }

    /// Returns it as it was.
    pub(crate) fn chosen(&self) -> Option<Chosen<'_>> {
        let experiments = self.route.experiments()?;
        let split = match self.place {
            Some(place) => experiments.splits().get(place),
            None => experiments.trial(),
        };
        Some(Chosen {
            decision: Decision {
                split: split?,
                variant: self.variant,
                by: self.by,
                propensity: self.propensity,
                features: self.features.clone(),
            },
            unit: self.unit.clone(),
            model: &self.model,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_model_of_the_variant() {
        for (path, expected) in [
            ("/v1/models/a:predict", "/v1/models/b:predict"),
            ("/v1/models/a", "/v1/models/b"),
            (
                "/v1/models/a/versions/1:predict",
                "/v1/models/b/versions/1:predict",
            ),
            ("/v2/models/a/infer", "/v2/models/b/infer"),
            ("/v2/models/", "/v2/models/b"),
            ("/v2/health/ready", "/v2/health/ready"),
            ("/predict/v1/models/a", "/predict/v1/models/a"),
            ("/", "/"),
        ] {
            assert_eq!(renamed(path, "b"), expected);
        }
    }
}
