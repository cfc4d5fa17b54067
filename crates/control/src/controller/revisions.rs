//! Revisions: every different thing that a service asked to serve, numbered.

use coracle_api::kind::REVISION;
use serde_json::{Map, Value, json};

use super::templates::identity;
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Key, Store, StoreError};
use std::time::Duration;

/// A revision of a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Revision {
    pub(crate) name: String,
    pub(crate) number: u64,
    /// `stable`, or `canary` with its name.
    pub(crate) track: String,
    pub(crate) template: Value,
}

/// The label that names a revision's service.
pub(crate) const SERVICE_LABEL: &str = "serving.kserve.io/inferenceservice";
const TRACK_LABEL: &str = "serving.coracle.dev/track";
/// The track of the stable predictor.
pub(crate) const STABLE: &str = "stable";

/// Returns the track of a canary.
pub(crate) fn canary_track(name: &str) -> String {
    match name {
        "" => "canary".to_owned(),
        name => format!("canary-{name}"),
    }
}

/// Returns the revisions of a service, oldest first.
pub(crate) fn of(store: &Store, service: &Value) -> Vec<Revision> {
    let name = object::name(service);
    let prefix = format!("{name}-predictor-");
    let objects = store.list_named(&REVISION, object::namespace(service), &prefix);
    let own = objects
        .iter()
        .filter(|stored| object::text(&stored.object, "labels", SERVICE_LABEL) == Some(name));
    let mut revisions: Vec<Revision> = own
        .filter_map(|stored| {
            let (_, number) = stored.key.name().rsplit_once('-')?;
            Some(Revision {
                name: stored.key.name().to_owned(),
                number: number.parse().ok()?,
                track: object::text(&stored.object, "labels", TRACK_LABEL)
                    .unwrap_or(STABLE)
                    .to_owned(),
                template: identity(stored.object.pointer("/spec/predictor")?),
            })
        })
        .collect();
    revisions.sort_by_key(|revision| revision.number);
    revisions
}

/// Returns the newest revision of a track.
pub(crate) fn newest<'a>(revisions: &'a [Revision], track: &str) -> Option<&'a Revision> {
    revisions
        .iter()
        .rev()
        .find(|revision| revision.track == track)
}

/// Makes the newest revision of `track` one of this template.
///
/// A revision of the template that another track has in use, named in `adoptable`, changes over: so a canary that is
/// promoted is not loaded again.
pub(crate) fn ensure(
    store: &Store,
    service: &Value,
    revisions: &mut Vec<Revision>,
    (track, template): (&str, &Value),
    adoptable: &[String],
    now: Duration,
) -> Result<(), StoreError> {
    if newest(revisions, track).is_some_and(|revision| revision.template == *template) {
        return Ok(());
    }
    let adopted = revisions.iter().rposition(|revision| {
        revision.track != track
            && revision.template == *template
            && adoptable.contains(&revision.name)
    });
    let newest_number = newest(revisions, track).map_or(0, |revision| revision.number);
    if let Some(index) = adopted
        && let Some(revision) = revisions.get_mut(index)
        && revision.number > newest_number
    {
        let key = Key::new(&REVISION, object::namespace(service), &revision.name);
        if let Some(stored) = store.get(&key) {
            let mut object = stored.object.clone();
            object["metadata"]["labels"][TRACK_LABEL] = track.into();
            store.update(&key, stored.version, object)?;
            track.clone_into(&mut revision.track);
            return Ok(());
        }
    }
    let number = revisions.last().map_or(0, |revision| revision.number) + 1;
    let name = format!("{}-predictor-{number:05}", object::name(service));
    let object = new_object(service, &name, (track, template), now);
    store.create(
        Key::new(&REVISION, object::namespace(service), &name),
        object,
    )?;
    revisions.push(Revision {
        name,
        number,
        track: track.to_owned(),
        template: template.clone(),
    });
    Ok(())
}

/// Annotations that are about the service, not about what runs for it: those that KServe keeps back.
const KEPT_BACK: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "internal.serving.kserve.io/storage-initializer-sourceuri",
    "autoscaling.knative.dev/min-scale",
    "autoscaling.knative.dev/minScale",
    "autoscaling.knative.dev/max-scale",
    "autoscaling.knative.dev/maxScale",
];

/// Returns the labels or annotations of a service that its revisions and replicas have, too.
fn handed_on(service: &Value, field: &str) -> Map<String, Value> {
    let texts = object::texts(service, field).filter(|(name, _)| !KEPT_BACK.contains(name));
    texts
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

fn new_object(
    service: &Value,
    name: &str,
    (track, template): (&str, &Value),
    now: Duration,
) -> Value {
    let service_name = object::name(service);
    let mut labels = handed_on(service, "labels");
    for (label, value) in [
        (SERVICE_LABEL, service_name.to_owned()),
        (TRACK_LABEL, track.to_owned()),
        (
            "serving.knative.dev/configuration",
            format!("{service_name}-predictor"),
        ),
        (
            "serving.knative.dev/configurationGeneration",
            object::generation(service).to_string(),
        ),
    ] {
        labels.insert(label.to_owned(), value.into());
    }
    json!({
        "apiVersion": REVISION.api_version(),
        "kind": REVISION.kind,
        "metadata": {
            "name": name,
            "namespace": object::namespace(service),
            "uid": uuid::Uuid::new_v4().to_string(),
            "generation": 1,
            "creationTimestamp": rfc3339(now),
            "labels": labels,
            "annotations": handed_on(service, "annotations"),
            "ownerReferences": [{
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "name": service_name,
                "uid": object::meta_str(service, "uid"),
                "controller": true,
                "blockOwnerDeletion": true
            }]
        },
        "spec": {"predictor": template}
    })
}

/// The most revisions that a service keeps besides those in use.
const KEPT_MAX: usize = 20;

/// Forgets the oldest revisions that are not in use.
pub(crate) fn prune(store: &Store, service: &Value, revisions: &[Revision], in_use: &[String]) {
    let idle: Vec<&Revision> = revisions
        .iter()
        .filter(|revision| !in_use.contains(&revision.name))
        .collect();
    let n_surplus = idle.len().saturating_sub(KEPT_MAX);
    for revision in idle.into_iter().take(n_surplus) {
        let key = Key::new(&REVISION, object::namespace(service), &revision.name);
        if let Some(stored) = store.get(&key) {
            // One that cannot be forgotten now is forgotten next time.
            drop(store.delete(&key, stored.version));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_annotations_are_handed_on() {
        let service = json!({"metadata": {
            "name": "iris",
            "namespace": "ml",
            "generation": 3,
            "labels": {"team": "a", (SERVICE_LABEL): "not this"},
            "annotations": {"note": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
        }});
        let template = json!({});
        let revision = new_object(
            &service,
            "iris-predictor-00001",
            (STABLE, &template),
            Duration::ZERO,
        );
        let labels = &revision["metadata"]["labels"];
        assert_eq!(
            (&labels["team"], &labels[SERVICE_LABEL]),
            (&json!("a"), &json!("iris"))
        );
        assert_eq!(labels["serving.knative.dev/configurationGeneration"], "3");
        assert_eq!(revision["metadata"]["annotations"], json!({"note": "b"}));
    }
}
