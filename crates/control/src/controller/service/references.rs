//! Other services that a service's annotations name, and whether what they say is in force: it is for information, what serves goes on.

use coracle_api::kind::INFERENCE_SERVICE;
use coracle_serving::{FallbackSettings, PlannedRoute, ShadowSettings};
use serde_json::Value;

use crate::controller::conditions::Verdict;
use crate::controller::{fallbacks, seldon, shadows};
use crate::object;
use crate::store::{Key, Store};

pub(crate) const FALLBACK: &str = "FallbackInForce";
const SHADOW: &str = "ShadowInForce";

/// Returns the services of its namespace that a service names.
pub(crate) fn names(service: &Value) -> Vec<String> {
    let fallback = fallbacks::in_force(service).and_then(|settings| settings.service);
    let shadow = shadows::read(service).ok().flatten();
    let both = [
        fallback.map(|id| id.name),
        shadow.map(|shadow| shadow.service),
    ];
    both.into_iter().flatten().collect()
}

/// Returns conditions with their names: those of what a service's annotations say; `by_revision` is that of a revision that stands in, `misfit` says why the
/// default prediction is none, and `room` whether there is room for a shadow.
pub(super) fn verdicts(
    service: &Value,
    (by_revision, misfit, room): (Option<Verdict>, Option<&String>, &Verdict),
    store: &Store,
) -> Vec<(&'static str, Verdict)> {
    let mut all = of_annotations(service, by_revision, store);
    let mut shadows = all.iter_mut().filter(|(name, _)| *name == SHADOW);
    if let Some((_, verdict)) = shadows.next() {
        *verdict = verdict.and(room);
    }
    if let Some(misfit) = misfit.map(self::misfit) {
        match all.iter_mut().find(|(name, _)| *name == FALLBACK) {
            Some((_, verdict)) => *verdict = verdict.and(&misfit),
            None => all.push((FALLBACK, misfit)),
        }
    }
    all
}

/// Returns what is said of a default prediction that is none, for `why`.
pub(crate) fn misfit(why: &String) -> Verdict {
    let name = fallbacks::VALUE;
    let why = format!("annotation {name}: {why}; no such answer is given");
    Verdict::no("DoesNotFit", why)
}

fn of_annotations(
    service: &Value,
    by_revision: Option<Verdict>,
    store: &Store,
) -> Vec<(&'static str, Verdict)> {
    let faults = fallbacks::faults(service);
    if faults.is_empty() {
        let fallback = fallbacks::in_force(service);
        let shadow = shadows::read(service).ok().flatten();
        let terms = (fallback.as_ref(), shadow.as_ref());
        return of_terms(service, terms, by_revision, store);
    }
    let shadow = shadows::read(service).ok().flatten();
    let mut all = of_terms(service, (None, shadow.as_ref()), None, store);
    let told = format!("{}; the other annotations are in force", faults.join("; "));
    all.push((FALLBACK, Verdict::no("InvalidAnnotation", told)));
    all
}

/// Returns conditions with their names: those of what a route does that stays in force though its service is refused; `by_revision` is that of a revision that stands in.
pub(super) fn of_route(
    service: &Value,
    route: &PlannedRoute,
    by_revision: Option<Verdict>,
    store: &Store,
) -> Vec<(&'static str, Verdict)> {
    let terms = (route.fallback.as_ref(), route.shadow.as_ref());
    of_terms(service, terms, by_revision, store)
}

/// Tells whether the InferenceService is there that an annotation names; `without` says what is not done until it is.
pub(crate) fn found(
    (store, namespace): (&Store, &str),
    name: &str,
    (annotation, without): (&str, &str),
) -> Verdict {
    let key = Key::new(&INFERENCE_SERVICE, namespace, name);
    match store.get(&key).is_some() {
        true => Verdict::True,
        false => Verdict::no(
            "NoInferenceService",
            format!(
                "annotation {annotation}: {}; {without} until there is",
                seldon::no_service(store, namespace, name)
            ),
        ),
    }
}

fn of_terms(
    service: &Value,
    (fallback, shadow): (Option<&FallbackSettings>, Option<&ShadowSettings>),
    by_revision: Option<Verdict>,
    store: &Store,
) -> Vec<(&'static str, Verdict)> {
    let namespace = object::namespace(service);
    let found = |name: &str, annotation: &str, without: &str| {
        found((store, namespace), name, (annotation, without))
    };
    let by_service = fallback.and_then(|fallback| fallback.service.as_ref());
    let by_service =
        by_service.map(|id| found(&id.name, fallbacks::SERVICE, "nothing stands in by it"));
    let both = by_revision.into_iter().chain(by_service);
    let fallback = both.reduce(|all, one| all.and(&one));
    let shadow =
        shadow.map(|shadow| found(&shadow.service, shadows::SERVICE, "no request is copied"));
    let all = [(FALLBACK, fallback), (SHADOW, shadow)];
    all.into_iter()
        .filter_map(|(name, verdict)| Some((name, verdict?)))
        .collect()
}
