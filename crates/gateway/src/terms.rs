//! What a caller's headers ask for besides the answer: how long it waits, and how urgent it is.

use std::time::Duration;

use coracle_base::Code;
use coracle_serving::Priority;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::infer::Failure;

/// How long the caller waits: seconds as a number, or a number with a unit.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// How urgent the request is.
const REQUEST_PRIORITY: HeaderName = HeaderName::from_static("x-request-priority");
/// The longest time that is believed; a caller that waits longer waits for as long as the server allows.
const SECONDS_MAX: f64 = 86_400.0;

/// How a caller wants to be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How long it waits, where it says so.
    pub(crate) timeout: Option<Duration>,
    /// How urgent it is, where it says so.
    pub(crate) priority: Option<Priority>,
}

impl Terms {
    /// Reads the headers.
    ///
    /// # Errors
    /// Code `InvalidArgument` if one of them has a value that means nothing.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        Ok(Self {
            timeout: read(headers, &REQUEST_TIMEOUT, parse_time, TIME_WANTED)?,
            priority: read(headers, &REQUEST_PRIORITY, parse_priority, LEVEL_WANTED)?,
        })
    }

    /// Returns the shorter one of the caller's time and `other`.
    pub(crate) fn timeout_or(self, other: Duration) -> Duration {
        self.timeout.map_or(other, |timeout| timeout.min(other))
    }
}

/// Makes headers those of a request that may take so long.
pub(crate) fn set_timeout(headers: &mut HeaderMap, timeout: Duration) {
    // As no time at all it would mean nothing.
    let seconds = timeout.as_secs_f64().max(1e-6);
    if let Ok(value) = HeaderValue::try_from(format!("{seconds:.6}")) {
        headers.insert(REQUEST_TIMEOUT, value);
    }
}

const TIME_WANTED: &str = "seconds above 0, such as 1.5, or with a unit, such as 250ms";
const LEVEL_WANTED: &str = "a whole number: 1 is the highest level, 0 the default";

fn read<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: fn(&str) -> Option<T>,
    wanted: &str,
) -> Result<Option<T>, Failure> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| parse(text.trim()));
    parsed.map(Some).ok_or_else(|| {
        let message = format!("{name} must be {wanted}");
        Failure::new(Code::InvalidArgument, message)
    })
}

fn parse_priority(text: &str) -> Option<Priority> {
    text.parse().ok().map(Priority::from_wire)
}

/// Reads `1.5`, `2s`, `250ms`, `900us`, `1m`: a number of seconds, unless it has another unit.
fn parse_time(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        None => (text, 1.0),
        Some(at) => {
            let (number, unit) = text.split_at_checked(at)?;
            let seconds = match unit {
                "us" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
            (number, seconds)
        }
    };
    let is_plain = |c: char| c.is_ascii_digit() || c == '.';
    if !number.chars().all(is_plain) {
        return None;
    }
    let seconds = number.parse::<f64>().ok()? * seconds;
    let time = Duration::try_from_secs_f64(seconds.min(SECONDS_MAX)).ok()?;
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let cases = [
            ("1", ms(1_000)),
            ("1.5", ms(1_500)),
            (" .25 ", ms(250)),
            ("250ms", ms(250)),
            ("2s", ms(2_000)),
            ("1500us", Some(Duration::from_micros(1_500))),
            ("2m", ms(120_000)),
            ("1e9h", None),
            ("999999999999h", ms(86_400_000)),
            ("0", None),
            ("0ms", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("inf", None),
            ("nan", None),
            ("5 s", None),
            ("5d", None),
            ("ms", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text.trim()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_set_is_read_again() {
        let mut headers = HeaderMap::new();
        for (set, read) in [
            (0, 1),
            (1, 1),
            (1_500_000, 1_500_000),
            (99_000_000, 99_000_000),
        ] {
            set_timeout(&mut headers, Duration::from_micros(set));
            let terms = Terms::of(&headers).unwrap();
            assert_eq!(terms.timeout, Some(Duration::from_micros(read)));
        }
    }

    #[test]
    fn headers_that_mean_nothing_are_refused() {
        let terms = |timeout: &'static str, priority: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_TIMEOUT, HeaderValue::from_static(timeout));
            headers.insert(REQUEST_PRIORITY, HeaderValue::from_static(priority));
            Terms::of(&headers)
        };
        let read = terms("2", "1").unwrap();
        assert_eq!(read.timeout_or(Duration::from_secs(1)).as_secs(), 1);
        assert_eq!(read.timeout_or(Duration::from_secs(9)).as_secs(), 2);
        assert_eq!(read.priority, Some(Priority::from_wire(1)));
        for (timeout, priority) in [("soon", "1"), ("1", "high"), ("1", "-1"), ("1", "1.5")] {
            let failure = terms(timeout, priority).unwrap_err();
            assert_eq!(failure.code, Code::InvalidArgument, "{failure:?}");
        }
        assert_eq!(Terms::of(&HeaderMap::new()).unwrap(), Terms::default());
    }
}
