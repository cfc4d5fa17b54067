//! Times in specs of this group's kinds, and in what is told of them.

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

/// Returns a time that is left, in whole minutes and in the last one in tens of seconds, rounded up, such as `1h 59m` or `20s`: a status that tells it
/// is written whenever it changes.
pub(super) fn remainder(left: Duration) -> String {
    let unit = match left > Duration::from_secs(60) {
        true => 60,
        false => 10,
    };
    let seconds = left
        .as_secs()
        .saturating_add(u64::from(left.subsec_nanos() > 0));
    let seconds = seconds.div_ceil(unit).max(1).saturating_mul(unit);
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_roughly_and_never_too_short() {
        for (seconds, expected) in [
            (0.0, "10s"),
            (0.1, "10s"),
            (10.0, "10s"),
            (10.001, "20s"),
            (59.9, "1m"),
            (60.0, "1m"),
            (60.5, "2m"),
            (594.0, "10m"),
            (3_600.0, "1h"),
            (3_601.0, "1h 1m"),
            (7_199.0, "2h"),
            (100_000.0, "1day 3h 47m"),
        ] {
            let told = remainder(Duration::from_secs_f64(seconds));
            assert_eq!(told, expected, "{seconds}");
        }
    }
}
