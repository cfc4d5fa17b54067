//! Whether copies of a service's requests go to another service: three annotations.

use coracle_api::inference_service::is_name;
use coracle_serving::{ShadowKept, ShadowSettings};
use serde_json::Value;

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
