//! What is done for models that are read here, and not for predictors that run as programs.

use serde_json::Value;

use super::Refusal;
use crate::controller::{caching, fallbacks, shadows};
use crate::object;

/// Refuses annotations that do nothing for a program, rather than to serve without what is asked for.
pub(super) fn check(service: &Value, is_program: impl FnOnce() -> bool) -> Result<(), Refusal> {
    let kinds = [
        ("shadows", &shadows::ANNOTATIONS[..]),
        ("fallbacks, retries and breakers", &fallbacks::ANNOTATIONS),
        ("answers that are kept", &caching::ANNOTATIONS),
    ];
    let mut wanted = kinds.iter().flat_map(|(what, names)| {
        let names = names.iter();
        names.filter_map(move |name| {
            object::text(service, "annotations", name).map(|_| (*what, *name))
        })
    });
    match wanted.next() {
        Some((what, name)) if is_program() => Err(Refusal::from(format!(
            "annotation {name}: this predictor runs as a program, for which there are no {what}; remove it"
        ))),
        _ => Ok(()),
    }
}
