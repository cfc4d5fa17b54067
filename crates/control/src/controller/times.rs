//! Times in specs of this group's kinds.

use std::time::Duration;

/// The longest time that anything may be said to take: a year.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads the time at a place of a spec; `examples` are told to whoever wrote another thing.
///
/// # Errors
/// Says which place has which text, and what is allowed.
pub(super) fn read_time(place: &str, text: &str, examples: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_no_time| format!("{place}: '{text}' is no time; write such as {examples}"))?;
    match time <= TIME_MAX {
        true => Ok(time),
        false => Err(format!("{place}: '{text}' is longer than 365 days")),
    }
}
