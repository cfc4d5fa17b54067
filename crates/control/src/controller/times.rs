//! Times in specs of this group's kinds.

use std::time::Duration;

use coracle_api::structural::Cause;
use serde_json::json;

/// The longest time that anything may be said to take: a year.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads the time at a place of a spec; `examples` are told to whoever wrote another thing.
///
/// # Errors
/// Says which place has which text, and what is allowed.
pub(super) fn read_time(place: &str, text: &str, examples: &str) -> Result<Duration, Cause> {
    let invalid = |why: &str| Cause::invalid(place, &json!(text), why);
    let time = humantime::parse_duration(text)
        .map_err(|_no_time| invalid(&format!("must be a time such as {examples}")))?;
    match time <= TIME_MAX {
        true => Ok(time),
        false => Err(invalid("must be at most 365 days")),
    }
}
