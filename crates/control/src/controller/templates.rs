//! What an InferenceService asks to serve: templates of revisions, from all the forms in which canaries are written.

use coracle_api::inference_service::{Canary, InferenceServiceSpec};
use serde_json::Value;

/// What a service asks to serve.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Templates {
    /// The predictor, without what does not make it another.
    pub(crate) stable: Value,
    pub(crate) canaries: Canaries,
}

/// The canaries beside the stable predictor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Canaries {
    /// None; the newest revision may be the canary of the one before, with this percentage.
    Revisions(Option<u8>),
    /// The one block of tutorials, with its percentage.
    Block(Value, u8),
    /// KServe's list: names, templates, percentages.
    List(Vec<(String, Value, u8)>),
}

/// Fields of a predictor that say how it is rolled out, not what it is.
const NOT_TEMPLATE: [&str; 3] = ["canaryTrafficPercent", "canary", "name"];

impl Templates {
    /// Reads the spec of an InferenceService that passed validation.
    pub(crate) fn read(spec: &Value) -> Option<Self> {
        let typed: InferenceServiceSpec = serde_json::from_value(spec.clone()).ok()?;
        let predictor = spec.get("predictor")?;
        let stable = template(predictor);
        let percent = typed.predictor.extension.canary_traffic_percent;
        let percent = percent.map(to_percent);
        let (written, pointer) = match (&typed.canary, &typed.predictor.canary) {
            (Some(canary), _) => (Some(canary), spec.get("canary")),
            (None, Some(canary)) => (Some(canary.as_ref()), predictor.get("canary")),
            (None, None) => (None, None),
        };
        let canaries = match (written, pointer) {
            (Some(Canary::Single(single)), Some(block)) => {
                let percent = single
                    .traffic_percent
                    .map(|percent| to_percent(i64::from(percent)))
                    .or(percent);
                Canaries::Block(
                    overlay(&stable, block.get("predictor")?),
                    percent.unwrap_or(0),
                )
            }
            (Some(Canary::List(list)), Some(Value::Array(blocks))) => {
                let canaries = list.iter().zip(blocks).map(|(canary, block)| {
                    let name = canary.predictor.name.clone().unwrap_or_default();
                    let template = overlay(&stable, block.get("predictor")?);
                    Some((
                        name,
                        template,
                        to_percent(i64::from(canary.traffic_percent)),
                    ))
                });
                Canaries::List(canaries.collect::<Option<_>>()?)
            }
            _ => Canaries::Revisions(percent),
        };
        Some(Self { stable, canaries })
    }
}

fn to_percent(percent: i64) -> u8 {
    u8::try_from(percent.clamp(0, 100)).unwrap_or(100)
}

fn template(predictor: &Value) -> Value {
    let mut template = predictor.clone();
    if let Some(fields) = template.as_object_mut() {
        fields.retain(|name, _| !NOT_TEMPLATE.contains(&name.as_str()));
    }
    template
}

/// A canary says what differs from the stable predictor.
fn overlay(stable: &Value, canary: &Value) -> Value {
    let mut merged = stable.clone();
    merge(&mut merged, &template(canary));
    merged
}

fn merge(target: &mut Value, over: &Value) {
    match (target, over) {
        (Value::Object(target), Value::Object(over)) => {
            for (name, value) in over {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (target, over) => target.clone_from(over),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(uri: &str) -> Value {
        json!({"modelFormat": {"name": "sklearn"}, "storageUri": uri})
    }

    #[test]
    fn all_forms_of_canaries_are_read() {
        let stable = json!({"model": model("v1"), "minReplicas": 1});
        let canary = json!({"model": model("v2"), "minReplicas": 1});
        let block = json!({"predictor": {"model": model("v2")}});
        let cases = [
            (
                json!({"predictor": {"model": model("v1"), "minReplicas": 1}}),
                Canaries::Revisions(None),
            ),
            (
                json!({"predictor": {"model": model("v1"), "minReplicas": 1, "canaryTrafficPercent": 10}}),
                Canaries::Revisions(Some(10)),
            ),
            (
                json!({"predictor": {"model": model("v1"), "minReplicas": 1, "canaryTrafficPercent": 20}, "canary": block}),
                Canaries::Block(canary.clone(), 20),
            ),
            (
                json!({"predictor": {"model": model("v1"), "minReplicas": 1, "canaryTrafficPercent": 20, "canary": block}}),
                Canaries::Block(canary.clone(), 20),
            ),
            (
                json!({"predictor": {"model": model("v1"), "minReplicas": 1, "name": "a"}, "canary": [{"predictor": {"name": "b", "model": {"storageUri": "v2"}}, "trafficPercent": 30}]}),
                Canaries::List(vec![("b".to_owned(), canary.clone(), 30)]),
            ),
        ];
        for (spec, expected) in cases {
            // As in the API: a canary's model may leave out what the stable one says.
            let mut spec = spec;
            if let Some(Value::Array(list)) = spec.get_mut("canary") {
                list[0]["predictor"]["model"]["modelFormat"] = json!({"name": "sklearn"});
            }
            let templates = Templates::read(&spec).unwrap();
            assert_eq!(
                templates,
                Templates {
                    stable: stable.clone(),
                    canaries: expected
                },
                "{spec}"
            );
        }
    }
}
