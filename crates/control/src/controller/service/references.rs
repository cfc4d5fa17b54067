//! Other services that a service's annotations name, and whether what they say is in force: it is for information, what serves goes on.

use serde_json::Value;

use crate::controller::conditions::Verdict;
use crate::controller::{fallbacks, shadows};
use crate::object;

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

/// Returns conditions with their names: those of what annotations say; `by_revision` is that of a revision that stands in, `is_there` tells whether there is a
/// service of a name.
pub(super) fn verdicts(
    service: &Value,
    by_revision: Option<Verdict>,
    is_there: impl Fn(&str) -> bool,
) -> Vec<(&'static str, Verdict)> {
    let found = |name: &str, annotation: &str, without: &str| match is_there(name) {
        true => Verdict::True,
        false => Verdict::no(
            "NoInferenceService",
            format!(
                "annotation {annotation}: there is no InferenceService {name} in namespace {}; {without} until there is",
                object::namespace(service)
            ),
        ),
    };
    let fallback = match fallbacks::read(service) {
        Err(fault) => Some(Verdict::no(
            "InvalidAnnotation",
            format!("{fault}; the other annotations are in force"),
        )),
        Ok(settings) => {
            let id = settings.and_then(|settings| settings.service);
            let by_service =
                id.map(|id| found(&id.name, fallbacks::SERVICE, "nothing stands in by it"));
            by_revision
                .into_iter()
                .chain(by_service)
                .reduce(|all, one| all.and(&one))
        }
    };
    let shadow = shadows::read(service).ok().flatten();
    let shadow =
        shadow.map(|shadow| found(&shadow.service, shadows::SERVICE, "no request is copied"));
    let all = [("FallbackInForce", fallback), ("ShadowInForce", shadow)];
    all.into_iter()
        .filter_map(|(name, verdict)| Some((name, verdict?)))
        .collect()
}
