//! What an InferenceService asks to serve: templates of revisions, from all the forms in which canaries are written.

use coracle_api::inference_service::{Canary, InferenceServiceSpec};
use serde_json::Value;

/// What a service asks to serve.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Templates {
    pub(crate) stable: Template,
    pub(crate) canaries: Canaries,
}

/// A predictor, in two parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Template {
    /// What makes it another revision.
    pub(crate) spec: Value,
    /// How much of it there is to be; changes where it is.
    pub(crate) scaling: Value,
}

impl Template {
    fn of(predictor: &Value) -> Self {
        let part = |is_wanted: &dyn Fn(&str) -> bool| {
            let fields = predictor.as_object().into_iter().flatten();
            let fields = fields.filter(|(name, _)| is_wanted(name));
            Value::Object(
                fields
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            )
        };
        Self {
            spec: part(&|name| !NOT_TEMPLATE.contains(&name) && !SCALING.contains(&name)),
            scaling: part(&|name| SCALING.contains(&name)),
        }
    }

    /// Returns this one with what a canary says differently.
    fn overlaid(&self, canary: &Value) -> Self {
        let (mut merged, canary) = (self.clone(), Self::of(canary));
        merge(&mut merged.spec, &canary.spec);
        merge(&mut merged.scaling, &canary.scaling);
        merged
    }
}

/// Returns what makes a stored predictor another revision.
pub(crate) fn identity(predictor: &Value) -> Value {
    Template::of(predictor).spec
}

/// The canaries beside the stable predictor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Canaries {
    /// None; the newest revision may be the canary of the one before, with this percentage.
    Revisions(Option<u8>),
    /// The one block of tutorials, with its percentage.
    Block(Template, u8),
    /// KServe's list: names, templates, percentages.
    List(Vec<(String, Template, u8)>),
}

/// Fields of a predictor that say how it is rolled out, not what it is.
const NOT_TEMPLATE: [&str; 3] = ["canaryTrafficPercent", "canary", "name"];

/// Fields of a predictor that say how many replicas there are to be. On Knative they are annotations of the revision; here
/// they act on the revisions that are there, so that `kubectl scale` starts nothing anew.
const SCALING: [&str; 6] = [
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "scaleMetricType",
    "autoScaling",
];

impl Templates {
    /// Reads the spec of an InferenceService that passed validation.
    pub(crate) fn read(spec: &Value) -> Option<Self> {
        let typed: InferenceServiceSpec = serde_json::from_value(spec.clone()).ok()?;
        let predictor = spec.get("predictor")?;
        let stable = Template::of(predictor);
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
                    stable.overlaid(block.get("predictor")?),
                    percent.unwrap_or(0),
                )
            }
            (Some(Canary::List(list)), Some(Value::Array(blocks))) => {
                let canaries = list.iter().zip(blocks).map(|(canary, block)| {
                    let name = canary.predictor.name.clone().unwrap_or_default();
                    let template = stable.overlaid(block.get("predictor")?);
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
        let of = |uri: &str| Template {
            spec: json!({"model": model(uri)}),
            scaling: json!({"minReplicas": 1}),
        };
        let (stable, canary) = (of("v1"), of("v2"));
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
