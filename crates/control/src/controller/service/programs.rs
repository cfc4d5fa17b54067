//! What is done for models that are read here, and not for predictors that run as programs.

use serde_json::Value;

use super::Refusal;
use crate::annotations::HEDGE_TO;
use crate::controller::{caching, fallbacks, shadows};
use crate::object;

/// Refuses annotations that do nothing for a program, rather than to serve without what is asked for.
pub(super) fn check(service: &Value, is_program: impl FnOnce() -> bool) -> Result<(), Refusal> {
    let kinds = [
        ("shadows", &shadows::ANNOTATIONS[..]),
        ("answers that are kept", &caching::ANNOTATIONS),
        (
            "second attempts at others, but at their own processes",
            &fallbacks::OF_MODELS,
        ),
    ];
    let named = |names: &[&'static str]| {
        let mut names = names.iter();
        names
            .find(|name| object::text(service, "annotations", name).is_some())
            .copied()
    };
    let wanted = kinds
        .iter()
        .find_map(|(what, names)| Some((*what, named(names)?)));
    let of_programs = named(&fallbacks::OF_PROGRAMS);
    // Of a model others are asked.
    let of_programs = of_programs.filter(|_| named(&fallbacks::OF_MODELS).is_none());
    if wanted.is_none() && of_programs.is_none() {
        return Ok(());
    }
    match (is_program(), wanted, of_programs) {
        (true, Some((what, name)), _) => Err(Refusal::from(format!(
            "annotation {name}: this predictor runs as a program, for which there are no {what}; remove it"
        ))),
        (false, _, Some(name)) => Err(Refusal::from(format!(
            "annotation {name}: this predictor's model is read here once for all of its replicas, so that a second attempt would wait for the same; remove it, or say with {HEDGE_TO} who else is asked"
        ))),
        _ => Ok(()),
    }
}
