//! Durations as Go writes them (`90s`, `1h30m`, `1.5h`), which is how Knative's annotations give them.

use std::time::Duration;

/// Nanoseconds of each unit, longest names first where one is the start of another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3_600e9),
];

/// The longest duration that Go can hold, in nanoseconds.
const NANOS_MAX: f64 = 9.2e18;

/// Reads what Go's `time.ParseDuration` reads, but no negative ones; `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let is_digit = |c: char| c.is_ascii_digit() || c == '.';
        let number_end = rest.find(|c| !is_digit(c))?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(is_digit).unwrap_or(after.len());
        let (unit, following) = after.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos += number.parse::<f64>().ok()? * scale;
        rest = following;
    }
    (nanos <= NANOS_MAX).then(|| Duration::from_nanos(nanos.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let good = [
            ("0", 0),
            ("+5s", 5_000),
            ("60s", 60_000),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("5.s", 5_000),
            ("1m0.25s", 60_250),
            ("2000us", 2),
            ("2000µs", 2),
            ("15ms", 15),
        ];
        for (text, millis) in good {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        let bad = [
            "",
            "+",
            "5",
            "s",
            "5 s",
            "-5s",
            "5d",
            "1e3s",
            ".s",
            "1..5s",
            "5sm",
            "99999999h",
        ];
        for text in bad {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
