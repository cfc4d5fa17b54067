//! Whether copies of a service's requests go to another service: three annotations, and whether there is room for one shadow more.

use std::collections::BTreeSet;

use coracle_api::inference_service::is_name;
use coracle_serving::{SHADOWS_MAX, ServiceId, ShadowKept, ShadowSettings};
use serde_json::Value;

use super::conditions::Verdict;
use super::{Controller, service};
pub(crate) use crate::annotations::SHADOW as SERVICE;
use crate::annotations::{SHADOW_KEEP as KEPT, SHADOW_PERCENT as PERCENT};
use crate::object;

/// All of them.
pub(crate) const ANNOTATIONS: [&str; 3] = [SERVICE, PERCENT, KEPT];

/// Reads the annotations of a service.
///
/// # Errors
/// Says which annotation has which value, and what is allowed.
pub(crate) fn read(service: &Value) -> Result<Option<ShadowSettings>, String> {
    let annotation = |name| object::text(service, "annotations", name);
    let Some(shadow) = annotation(SERVICE) else {
        let alone = [PERCENT, KEPT]
            .into_iter()
            .find(|name| annotation(name).is_some());
        return match alone {
            Some(name) => Err(format!("annotation {name} says nothing without {SERVICE}")),
            None => Ok(None),
        };
    };
    if !is_name(shadow) {
        return Err(format!(
            "annotation {SERVICE}: '{shadow}' is no name of an InferenceService of the same namespace"
        ));
    }
    if shadow == object::name(service) {
        return Err(format!(
            "annotation {SERVICE}: a service is no shadow of itself"
        ));
    }
    let percent = annotation(PERCENT).map_or(Ok(100), |text| {
        let percent = text
            .parse()
            .ok()
            .filter(|percent| (1..=100).contains(percent));
        percent.ok_or_else(|| format!("annotation {PERCENT}: '{text}' is no number from 1 to 100"))
    })?;
    let kept = match annotation(KEPT) {
        None | Some("answers") => ShadowKept::Answers,
        Some("nothing") => ShadowKept::Nothing,
        Some("requests") => ShadowKept::Requests,
        Some(text) => {
            return Err(format!(
                "annotation {KEPT}: '{text}' is none of nothing, answers and requests"
            ));
        }
    };
    Ok(Some(ShadowSettings {
        service: shadow.to_owned(),
        percent,
        kept,
    }))
}

impl Controller {
    /// Tells whether a service may have a shadow beside those of the others, of which there are only so many at a time. Who has one keeps it.
    /// `mirrors` are those that have one by an Experiment of Seldon's.
    pub(super) fn shadow_room<'a>(
        &'a self,
        id: &ServiceId,
        mirrors: impl Iterator<Item = &'a ServiceId>,
    ) -> Verdict {
        let (plan, observed) = (&self.plan, &self.last_observed);
        let routes = plan.routes.iter().chain(&observed.routes);
        let of_routes = routes.filter(|(_, route)| route.shadow.is_some());
        let flows = plan.flows.iter().chain(&observed.flows);
        let of_flows = flows.filter(|(_, flow)| flow.shadow.is_some());
        let all = of_routes
            .map(|(id, _)| id)
            .chain(of_flows.map(|(id, _)| id));
        // One that was told yes may be being loaded still.
        let told = self.shadow_rooms.iter().filter(|(_, has_room)| **has_room);
        let told = told.map(|(id, _)| id);
        let others = all.chain(mirrors).chain(told);
        let others = others.filter(|other| *other != id);
        let others: BTreeSet<&ServiceId> = others.collect();
        match others.len() < SHADOWS_MAX {
            true => Verdict::True,
            false => {
                let why = format!(
                    "{SHADOWS_MAX} services have a shadow, and no more can; no request is copied until one of them has none"
                );
                Verdict::no("TooManyShadows", why)
            }
        }
    }

    /// Returns the services that had no room for their shadow when they were looked at, if they have now.
    pub(super) fn shadows_with_room(&self) -> BTreeSet<ServiceId> {
        let has_room = |id: &&ServiceId| {
            let mirrors = self.mirrors.services();
            self.shadow_room(id, mirrors) == Verdict::True
        };
        let without = self.shadow_rooms.iter().filter(|(_, has_room)| !**has_room);
        let without = without.map(|(id, _)| id);
        without.filter(has_room).cloned().collect()
    }

    /// Tells whether there is room for the shadow that a service names, if it names one and is to serve, and keeps in mind what was told.
    pub(super) fn take_shadow_room(&mut self, id: &ServiceId, service: &Value) -> Verdict {
        let is_named = matches!(read(service), Ok(Some(_)));
        if !is_named || service::is_stopped(service) {
            self.shadow_rooms.remove(id);
            return Verdict::True;
        }
        let room = self.shadow_room(id, self.mirrors.services());
        self.shadow_rooms.insert(id.clone(), room == Verdict::True);
        room
    }
}

#[cfg(test)]
mod tests {
    use coracle_api::kind::{EVENT, INFERENCE_SERVICE};
    use serde_json::json;

    use super::*;
    use crate::controller::tests::{NAMESPACE, Stage, model};
    use crate::store::Key;

    #[test]
    fn annotations_name_the_shadow_and_its_share() {
        let of = |annotations: Value| {
            read(&json!({"metadata": {"name": "iris", "annotations": annotations}}))
        };
        assert_eq!(of(json!({})), Ok(None));
        let settings = |percent, kept| ShadowSettings {
            service: "next".to_owned(),
            percent,
            kept,
        };
        let found = of(json!({SERVICE: "next"}));
        assert_eq!(found, Ok(Some(settings(100, ShadowKept::Answers))));
        let found = of(json!({SERVICE: "next", PERCENT: "7", KEPT: "requests"}));
        assert_eq!(found, Ok(Some(settings(7, ShadowKept::Requests))));
        for (annotations, expected) in [
            (json!({SERVICE: "Next!"}), "no name of an InferenceService"),
            (json!({SERVICE: "iris"}), "no shadow of itself"),
            (
                json!({SERVICE: "next", PERCENT: "0"}),
                "no number from 1 to 100",
            ),
            (
                json!({SERVICE: "next", PERCENT: "ten"}),
                "no number from 1 to 100",
            ),
            (json!({SERVICE: "next", KEPT: "all"}), "none of nothing"),
            (json!({PERCENT: "10"}), "says nothing without"),
            (json!({KEPT: "nothing"}), "says nothing without"),
        ] {
            let error = of(annotations).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn key(name: &str) -> Key {
        Key::new(&INFERENCE_SERVICE, NAMESPACE, name)
    }

    fn create(stage: &Stage, name: &str) {
        create_of(stage, name, "file:///a");
    }

    fn create_of(stage: &Stage, name: &str, uri: &str) {
        let object = json!({
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": name, "generation": 1, "annotations": {SERVICE: "next"}},
            "spec": {"predictor": {"model": model(uri)}}
        });
        stage.store.create(key(name), object).unwrap();
    }

    /// Returns the condition of a service's shadow, and whether there is one.
    fn shadow(stage: &Stage, name: &str) -> (String, String, bool) {
        let stored = stage.store.get(&key(name)).unwrap();
        let conditions = stored.object["status"]["conditions"].as_array().unwrap();
        let mut conditions = conditions.iter();
        let found = conditions.find(|one| one["type"] == "ShadowInForce");
        let text = |field: &str| {
            found.unwrap()[field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let plan = stage.plan.lock().unwrap();
        let mut routes = plan.routes.iter().filter(|(id, _)| id.name == name);
        let is_planned = routes.any(|(_, route)| route.shadow.is_some());
        (text("status"), text("reason"), is_planned)
    }

    #[test]
    fn one_shadow_too_many_is_told_and_is_there_once_another_goes() {
        let there = ("True".to_owned(), String::new(), true);
        let too_many = ("False".to_owned(), "TooManyShadows".to_owned(), false);
        let mut stage = Stage::new();
        stage.predictor(json!({"model": model("file:///a")}));
        let next = json!({
            "metadata": {"name": "next", "namespace": NAMESPACE, "uid": "n", "generation": 1},
            "spec": {"predictor": {"model": model("file:///b")}}
        });
        stage.store.create(key("next"), next).unwrap();
        let names: Vec<String> = (0..SHADOWS_MAX).map(|n| format!("s{n:02}")).collect();
        for name in &names {
            create(&stage, name);
        }
        stage.settle();
        // Those that are there first keep theirs, whatever they are called.
        create(&stage, "a-late");
        create(&stage, "b-later");
        stage.settle();
        let late = |stage: &Stage| ["a-late", "b-later"].map(|name| shadow(stage, name));
        assert_eq!(late(&stage), [too_many.clone(), too_many.clone()]);
        for name in &names {
            assert_eq!(shadow(&stage, name), there, "{name}");
        }
        stage.store.delete_whatever(&key("s07")).unwrap();
        stage.settle();
        let expected = [there, too_many];
        assert_eq!(late(&stage), expected);
    }

    /// So many services that all are being loaded still, by name.
    fn loading(stage: &mut Stage, n: usize) -> Vec<String> {
        let next = json!({
            "metadata": {"name": "next", "namespace": NAMESPACE, "uid": "n", "generation": 1},
            "spec": {"predictor": {"model": model("file:///b")}}
        });
        stage.store.create(key("next"), next).unwrap();
        let names: Vec<String> = (0..n).map(|n| format!("s{n:02}")).collect();
        for name in &names {
            create_of(stage, name, "file:///slow");
        }
        stage.settle();
        names
    }

    #[test]
    fn what_is_told_while_it_is_loaded_holds_once_it_is() {
        let mut stage = Stage::new();
        stage.predictor(json!({"model": model("file:///a")}));
        let names = loading(&mut stage, SHADOWS_MAX + 6);
        let told = |stage: &Stage| -> Vec<String> {
            let status = |name: &String| shadow(stage, name).0;
            names.iter().map(status).collect()
        };
        let before = told(&stage);
        let n_true = before.iter().filter(|status| *status == "True").count();
        assert_eq!(n_true, SHADOWS_MAX);
        stage.is_slow_loaded = true;
        stage.settle();
        assert_eq!(told(&stage), before);
        let planned = names.iter().filter(|name| shadow(&stage, name).2);
        assert_eq!(planned.count(), SHADOWS_MAX);
        // One that is stopped needs none.
        stage.change(&key("s00"), |service| {
            service["metadata"]["annotations"]["serving.kserve.io/stop"] = json!("true");
        });
        stage.settle();
        let last = names.len() - 6;
        assert_eq!(shadow(&stage, &names[last]).0, "True");
        assert_eq!(shadow(&stage, &names[last + 1]).0, "False");
    }

    #[test]
    fn what_has_room_in_the_round_that_looked_at_it_already_is_written_once() {
        let mut stage = Stage::new();
        stage.predictor(json!({"model": model("file:///a")}));
        loading(&mut stage, SHADOWS_MAX);
        create(&stage, "a-late");
        stage.settle();
        assert_eq!(shadow(&stage, "a-late").1, "TooManyShadows");
        // Looked at first, and then there is room.
        stage.change(&key("a-late"), |service| {
            service["metadata"]["generation"] = json!(2);
            service["spec"]["transformer"] = json!({"containers": [{"name": "t"}]});
        });
        stage.store.delete_whatever(&key("s07")).unwrap();
        stage.settle();
        let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
        let events = events.iter().map(|stored| &stored.object);
        let events = events.filter(|event| event["involvedObject"]["name"] == "a-late");
        let told = events.map(|event| (&event["reason"], &event["count"]));
        let told: Vec<(&Value, &Value)> = told.collect();
        let expected = [
            (&json!("InferenceServiceReady"), &json!(1)),
            (&json!("InferenceServiceNotReady"), &json!(1)),
        ];
        assert_eq!(told, expected);
        stage.change(&key("a-late"), |service| {
            service["metadata"]["generation"] = json!(3);
            coracle_patch::merge_patch(service, &json!({"spec": {"transformer": null}}));
        });
        stage.settle();
        assert_eq!(
            shadow(&stage, "a-late"),
            ("True".to_owned(), String::new(), true)
        );
    }
}
