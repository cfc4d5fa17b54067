//! Times of the week in which a revision keeps a replica although nobody asks for it.

use std::time::Duration;

use crate::SpecError;

/// The annotation that says when.
pub const KEEP_WARM: &str = "serving.coracle.dev/keep-warm";

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES: i64 = 24 * 60;
const WEEK_MINUTES: i64 = 7 * DAY_MINUTES;
/// The first of January 1970 was a Thursday.
const EPOCH_MINUTE_OF_WEEK: i64 = 3 * DAY_MINUTES;
/// The most windows that one annotation may name.
const WINDOWS_MAX: usize = 32;

/// Times of the week, such as `Mon-Fri 08:00-18:00 +01:00; Sat 10:00-12:00`.
///
/// A window has days (every day if none are named), a beginning and an end, and the offset from UTC of both (UTC if none is
/// named). One whose end is not after its beginning ends on the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepWarm {
    windows: Vec<Window>,
}

/// Days and minutes in UTC; the beginning may lie up to a day before or after the day.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    days: [bool; 7],
    begin: i64,
    n_minutes: i64,
}

impl KeepWarm {
    /// Reads the annotation.
    ///
    /// # Errors
    /// Says which window cannot be read, and how windows are written.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let windows = text.split(';').map(str::trim).filter(|one| !one.is_empty());
        let windows = windows.map(|one| {
            Window::parse(one).ok_or_else(|| {
                SpecError::new(format!(
                    "annotation {KEEP_WARM}: {one:?} is no time of the week; write windows as \"Mon-Fri 08:00-18:00 +01:00\", separated by semicolons"
                ))
            })
        });
        let windows: Vec<Window> = windows.collect::<Result<_, _>>()?;
        if !(1..=WINDOWS_MAX).contains(&windows.len()) {
            return Err(SpecError::new(format!(
                "annotation {KEEP_WARM}: {} windows; there must be 1 to {WINDOWS_MAX}",
                windows.len()
            )));
        }
        Ok(Self { windows })
    }

    /// Tells whether `unix`, a time since 1970, is in one of the windows.
    #[must_use]
    pub fn contains(&self, unix: Duration) -> bool {
        let minutes = i64::try_from(unix.as_secs() / 60).unwrap_or(0);
        let minute = (minutes + EPOCH_MINUTE_OF_WEEK).rem_euclid(WEEK_MINUTES);
        self.windows.iter().any(|window| window.contains(minute))
    }
}

impl Window {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace().peekable();
        let mut days = [true; 7];
        if words
            .peek()?
            .starts_with(|letter: char| letter.is_ascii_alphabetic())
        {
            days = parse_days(words.next()?)?;
        }
        let (begin, end) = words.next()?.split_once('-')?;
        let (begin, end) = (parse_minute(begin)?, parse_minute(end)?);
        let offset = match words.next() {
            None | Some("Z" | "UTC") => 0,
            Some(offset) => parse_offset(offset)?,
        };
        if words.next().is_some() || begin >= DAY_MINUTES {
            return None;
        }
        let n_minutes = if end > begin {
            end - begin
        } else {
            end + DAY_MINUTES - begin
        };
        Some(Self {
            days,
            begin: begin - offset,
            n_minutes,
        })
    }

    fn contains(&self, minute_of_week: i64) -> bool {
        (0..).zip(self.days).any(|(day, is_meant)| {
            let begin = day * DAY_MINUTES + self.begin;
            is_meant && (minute_of_week - begin).rem_euclid(WEEK_MINUTES) < self.n_minutes
        })
    }
}

/// Reads `Mon-Fri,Sun`; a range may run over the end of the week.
fn parse_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        for index in 0..=(last + 7 - first) % 7 {
            days[(first + index) % 7] = true;
        }
    }
    Some(days)
}

/// Reads `HH:MM`, up to 24:00.
fn parse_minute(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    let minute = i64::from(hours) * 60 + i64::from(minutes);
    (minutes < 60 && minute <= DAY_MINUTES).then_some(minute)
}

fn parse_offset(text: &str) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let offset = parse_minute(rest)?;
    (offset <= 14 * 60).then_some(sign * offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23, a Monday, 00:00 UTC.
    const MONDAY: u64 = 1_795_392_000;

    #[test]
    fn times_of_the_week_are_found() {
        struct Case(&'static str, u64, &'static str, bool);
        let cases = [
            Case("Mon-Fri 08:00-18:00", 0, "07:59", false),
            Case("Mon-Fri 08:00-18:00", 0, "08:00", true),
            Case("Mon-Fri 08:00-18:00", 4, "17:59", true),
            Case("Mon-Fri 08:00-18:00", 4, "18:00", false),
            Case("Mon-Fri 08:00-18:00", 5, "12:00", false),
            Case("Mon-Fri 08:00-18:00 +01:00", 0, "07:00", true),
            Case("Mon-Fri 08:00-18:00 +01:00", 0, "17:00", false),
            Case("mon 00:30-02:00 +02:00", 6, "22:30", true),
            Case("Sun 20:00-04:00 -05:00", 0, "08:59", true),
            Case("Sun 20:00-04:00 -05:00", 0, "09:00", false),
            Case("22:00-02:00", 3, "23:00", true),
            Case("22:00-02:00", 3, "01:59", true),
            Case("22:00-02:00", 3, "02:00", false),
            Case("00:00-24:00", 2, "23:59", true),
            Case("Sat-Mon 10:00-11:00", 6, "10:30", true),
            Case("Sat-Mon 10:00-11:00", 1, "10:30", false),
            Case("Tue 10:00-11:00; Wed 12:00-13:00", 2, "12:30", true),
            Case("Tue,Thu 10:00-11:00 UTC", 3, "10:30", true),
        ];
        for Case(text, day, time, expected) in cases {
            let minute = u64::try_from(parse_minute(time).unwrap()).unwrap();
            let unix = Duration::from_secs(MONDAY + day * 86_400 + minute * 60);
            let keep_warm = KeepWarm::parse(text).unwrap();
            assert_eq!(
                keep_warm.contains(unix),
                expected,
                "{text} day {day} {time}"
            );
        }
    }

    #[test]
    fn what_is_no_time_of_the_week_is_refused() {
        for text in [
            "",
            "Mon-Fri",
            "Mon 8:00-18:00",
            "Mon 08:00-25:00",
            "Mon 08:60-09:00",
            "Day 08:00-09:00",
            "08:00-09:00 Berlin",
            "08:00-09:00 +15:00",
            "08:00-09:00 Z more",
            "24:00-24:00",
        ] {
            let error = KeepWarm::parse(text).unwrap_err();
            assert!(error.to_string().contains(KEEP_WARM), "{text}");
        }
    }
}
