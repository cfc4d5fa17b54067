//! Whether two messages say the same with other numbers.

/// What the number after it belongs to: a name, or a code that says what went wrong.
const NAMED: [&str; 7] = [
    "status",
    "code",
    "HTTP",
    "signal",
    "experiment",
    "rollout",
    "variant",
];

/// What a number may end with.
const UNITS: [&str; 25] = [
    "%", "ns", "us", "µs", "ms", "s", "m", "h", "d", "day", "days", "month", "months", "year",
    "years", "x", "B", "kB", "KB", "MB", "GB", "KiB", "MiB", "GiB", "TiB",
];

/// Tells whether two messages say the same, maybe with other numbers: how often, how long, when, on which port.
///
/// A word is a number if it is digits (with `.`, `,`, `:` and `/` between them) and at most a unit after them, or a time; all else is a name, whatever it begins
/// with, and names are what they are. So is a number that a colon ends (`404: Not Found`), and one that comes after a word that it belongs to
/// ([`NAMED`]: `status 404`).
pub(in crate::controller) fn are_same_words(one: &str, other: &str) -> bool {
    without_numbers(one).eq(without_numbers(other))
}

/// Returns the words of a message, in which one number is as good as another.
fn without_numbers(message: &str) -> impl Iterator<Item = &str> {
    let mut is_named = false;
    message.split_whitespace().map(move |word| {
        let is_counter = !is_named && is_number(word);
        let bare = word.trim_end_matches(':');
        is_named = NAMED.iter().any(|named| bare.eq_ignore_ascii_case(named));
        match is_counter {
            true => "0",
            false => word,
        }
    })
}

fn is_number(word: &str) -> bool {
    if word.ends_with(':') {
        return false;
    }
    let word = word.trim_start_matches(['(', '[']);
    let word = word.trim_end_matches(['.', ',', ';', ')', ']']);
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        return false;
    }
    // As 1e-5 is.
    word.parse::<f64>().is_ok() || humantime::parse_rfc3339_weak(word).is_ok() || is_measured(word)
}

/// Tells whether a word is numbers with their units, such as `1.5s` and `1m30s`.
fn is_measured(mut word: &str) -> bool {
    let is_of_number = |letter: char| letter.is_ascii_digit() || ".,:/".contains(letter);
    while !word.is_empty() {
        let number = word.trim_start_matches(is_of_number);
        let unit = number.find(is_of_number).unwrap_or(number.len());
        let (unit, rest) = number.split_at(unit);
        if number.len() == word.len() || !(unit.is_empty() || UNITS.contains(&unit)) {
            return false;
        }
        word = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_and_names_are_names() {
        for (one, other) in [
            ("down for 3 s", "down for 10 s"),
            ("down for 3s, again", "down for 10.5s, again"),
            ("in 1m30s", "in 59s"),
            ("in 1h", "in 20m."),
            ("in 2days", "in 1day"),
            ("(3 times)", "(14 times)"),
            ("14 % of 5", "20 % of 7"),
            ("14% of 1,000", "20.5% of 2,000"),
            ("p is 1e-5", "p is 0.25"),
            ("at 2026-01-01T00:00:00Z", "at 2026-11-27T14:00:00.5Z"),
            ("refused on port 1234", "refused on port 4321"),
            ("127.0.0.1:1234 refused", "127.0.0.1:4321 refused"),
            ("3/4 are there", "1/2 are there"),
            ("20MiB are too many", "30MiB are too many"),
        ] {
            assert!(are_same_words(one, other), "{one}, {other}");
        }
        for (one, other) in [
            ("experiment 1-price: waits", "experiment 2-copy: waits"),
            ("experiment 1: waits", "experiment 2: waits"),
            ("variant 10pct: waits", "variant 50pct: waits"),
            ("10pct is better", "50pct is better"),
            ("50m: its numbers are", "10m: its numbers are"),
            ("3a went back", "4a went back"),
            ("1-2 went back", "3-4 went back"),
            ("GET /: status 404", "GET /: status 503"),
            ("status code: 404", "status code: 503"),
            ("HTTP status 404.", "HTTP status 503."),
            ("Status 404, again", "Status 503, again"),
            ("HTTP 404", "HTTP 503"),
            ("404: it is gone", "503: it is gone"),
            ("exit code 1", "exit code 2"),
            ("ended by signal 9", "ended by signal 11"),
            ("v1 went back", "v2 went back"),
            ("down for 3 s", "down for 3 s again"),
        ] {
            assert!(!are_same_words(one, other), "{one}, {other}");
        }
    }
}
