//! Dates and times as encoders know them, and as ISO 8601 writes them.

use std::fmt;

const SECOND_NS: i128 = 1_000_000_000;
const DAY_NS: i128 = 86_400 * SECOND_NS;

/// Longer texts are no dates.
const TEXT_BYTES_MAX: usize = 40;

/// A point in time, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DateTime {
    /// Since 1970: in UTC where there is a time zone, else of the clock on the wall.
    ns: i128,
    has_zone: bool,
}

impl DateTime {
    /// Returns the time `ns` nanoseconds after the first moment of 1970, in UTC if it `has_zone`.
    #[must_use]
    pub fn new(ns: i128, has_zone: bool) -> Self {
        Self { ns, has_zone }
    }

    /// Returns a time of a day without a time zone; `None` where there is no such day.
    #[must_use]
    pub fn of_day(year: i64, month: u8, day: u8, ns_of_day: u64) -> Option<Self> {
        let days = days_since_1970(year, month, day)?;
        let ns = i128::from(days)
            .checked_mul(DAY_NS)?
            .checked_add(ns_of_day.into())?;
        Some(Self::new(ns, false))
    }

    /// Reads a date, or a date and a time, with or without an offset from UTC, as ISO 8601 writes it
    /// (`2024-01-31`, `2024-01-31T09:30`, `2024-01-31 09:30:00.5+01:00`); `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (local, offset) = Self::local_and_offset(text)?;
        let offset_ns = i128::from(offset.unwrap_or(0)).checked_mul(60 * SECOND_NS)?;
        let ns = local.ns.checked_sub(offset_ns)?;
        Some(Self::new(ns, offset.is_some()))
    }

    /// Reads a time to look for among others that have time zones or not. One in UTC is also one without a zone, as data frames write those to
    /// JSON; `None` for one of another zone, and for one without where a zone is needed.
    pub(crate) fn parse_like(text: &[u8], has_zone: bool) -> Option<Self> {
        let (local, offset) = Self::local_and_offset(text)?;
        match (offset, has_zone) {
            (None | Some(0), false) => Some(local),
            (Some(_), true) => Self::parse(text),
            (Some(_), false) | (None, true) => None,
        }
    }

    /// Reads what the clock on the wall shows, and how many minutes it is ahead of UTC if the text says so.
    fn local_and_offset(text: &[u8]) -> Option<(Self, Option<i32>)> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (date, time) = text.split_at_checked(10)?;
        let (year, month, day) = (date.get(..4)?, date.get(5..7)?, date.get(8..)?);
        if date.get(4) != Some(&b'-') || date.get(7) != Some(&b'-') {
            return None;
        }
        let (month, day) = (digits(month)?, digits(day)?);
        let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
        let (ns_of_day, offset) = match time.split_first() {
            None => (0, None),
            Some((b'T' | b' ', time)) => time_of_day(time)?,
            Some(_) => return None,
        };
        let local = Self::of_day(digits(year)?.into(), month, day, ns_of_day)?;
        Some((local, offset))
    }

    /// Tells whether it is a moment, rather than a time of the clock on the wall.
    #[must_use]
    pub fn has_zone(self) -> bool {
        self.has_zone
    }
}

/// Reads a time, and the minutes that it is ahead of UTC if it says so.
fn time_of_day(text: &[u8]) -> Option<(u64, Option<i32>)> {
    let end = text
        .iter()
        .position(|byte| matches!(byte, b'Z' | b'+' | b'-'));
    let (clock, zone) = text.split_at_checked(end.unwrap_or(text.len()))?;
    let (whole, fraction) = match clock.iter().position(|&byte| byte == b'.') {
        Some(dot) => (clock.get(..dot)?, Some(clock.get(dot + 1..)?)),
        None => (clock, None),
    };
    let mut parts = whole.split(|&byte| byte == b':').map(two_digits);
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = parts.next();
    if parts.next().is_some() || fraction.is_some() && seconds.is_none() {
        return None;
    }
    let seconds = seconds.unwrap_or(Some(0))?;
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let fraction_ns = match fraction {
        Some(fraction) if (1..=9).contains(&fraction.len()) => {
            let places = u32::try_from(9 - fraction.len()).ok()?;
            digits(fraction)? * 10_u32.pow(places)
        }
        Some(_) => return None,
        None => 0,
    };
    let seconds_of_day = u64::from((hours * 60 + minutes) * 60 + seconds);
    let ns_of_day = seconds_of_day * 1_000_000_000 + u64::from(fraction_ns);
    Some((ns_of_day, offset_minutes(zone)?))
}

/// Reads `Z`, `+hh`, `+hhmm` or `+hh:mm`, if there is any.
fn offset_minutes(zone: &[u8]) -> Option<Option<i32>> {
    let (sign, rest) = match zone.split_first() {
        None => return Some(None),
        Some((b'Z', [])) => return Some(Some(0)),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        Some(_) => return None,
    };
    let (hours, minutes) = match *rest {
        [h1, h2] => ([h1, h2], [b'0', b'0']),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => ([h1, h2], [m1, m2]),
        _ => return None,
    };
    let (hours, minutes) = (two_digits(&hours)?, two_digits(&minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let minutes = i32::try_from(hours * 60 + minutes).ok()?;
    Some(Some(sign * minutes))
}

fn two_digits(text: &[u8]) -> Option<u32> {
    (text.len() == 2).then(|| digits(text)).flatten()
}

/// Reads up to nine digits.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn days_in_month(year: i64, month: u8) -> u8 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts days by the Gregorian calendar; years of five digits and more are left to what counts nanoseconds.
fn days_since_1970(year: i64, month: u8, day: u8) -> Option<i64> {
    let is_day = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    if !(0..=9999).contains(&year) || !is_day {
        return None;
    }
    // Days before this year, from the first of January of year 0, which is a leap year.
    let leap_days = |before: i64| match before {
        0 => 0,
        before => {
            let last = before - 1;
            last / 4 - last / 100 + last / 400 + 1
        }
    };
    let before_year = year * 365 + leap_days(year);
    let before_month: i64 = (1..month)
        .map(|month| i64::from(days_in_month(year, month)))
        .sum();
    Some(before_year + before_month + i64::from(day) - 1 - 719_528)
}

/// As ISO 8601 writes it; what lies outside the years 0 to 9999 as nanoseconds since 1970.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ns) = (self.ns.div_euclid(DAY_NS), self.ns.rem_euclid(DAY_NS));
        let day_of = |year| days_since_1970(year, 1, 1);
        let Some(days) = i64::try_from(days)
            .ok()
            .filter(|&days| Some(days) >= day_of(0) && Some(days) < day_of(9999).map(|d| d + 365))
        else {
            return write!(f, "{} ns since 1970", self.ns);
        };
        // No year is shorter than 365 days or longer than 366, so this one or one shortly before it.
        let last = 1970 + days.div_euclid(if days < 0 { 366 } else { 365 });
        let year = (0..=last.min(9999))
            .rev()
            .find(|&year| day_of(year) <= Some(days));
        let year = year.unwrap_or(0);
        let mut rest = days - day_of(year).unwrap_or(days);
        let mut month = 1;
        while rest >= days_in_month(year, month).into() {
            rest -= i64::from(days_in_month(year, month));
            month += 1;
        }
        write!(f, "{year:04}-{month:02}-{:02}", rest + 1)?;
        let (seconds, fraction) = (ns / SECOND_NS, ns % SECOND_NS);
        if ns > 0 || self.has_zone {
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            write!(f, "T{hours:02}:{minutes:02}:{:02}", seconds % 60)?;
        }
        if fraction > 0 {
            let digits = format!("{fraction:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str(if self.has_zone { "+00:00" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_iso_8601_writes_is_read_and_written_back() {
        // Nanoseconds as `numpy.datetime64(text, "ns").astype(int)` gives them, offsets taken off.
        let cases = [
            ("1970-01-01", 0, "1970-01-01"),
            ("2024-02-29", 1_709_164_800_000_000_000, "2024-02-29"),
            (
                "2024-03-05 10:20:30.5",
                1_709_634_030_500_000_000,
                "2024-03-05T10:20:30.5",
            ),
            (
                "2024-03-05T10:20",
                1_709_634_000_000_000_000,
                "2024-03-05T10:20:00",
            ),
            (
                "1969-12-31T23:59:59.999999999",
                -1,
                "1969-12-31T23:59:59.999999999",
            ),
            ("1700-03-01", -8_515_238_400_000_000_000, "1700-03-01"),
            (
                "2024-03-05T10:20:00+02:00",
                1_709_626_800_000_000_000,
                "2024-03-05T08:20:00+00:00",
            ),
            (
                "2024-03-05T10:20:00-0030",
                1_709_635_800_000_000_000,
                "2024-03-05T10:50:00+00:00",
            ),
            (
                "2024-03-05T10:20:00Z",
                1_709_634_000_000_000_000,
                "2024-03-05T10:20:00+00:00",
            ),
            ("0000-01-01", -62_167_219_200_000_000_000, "0000-01-01"),
            ("9999-12-31", 253_402_214_400_000_000_000, "9999-12-31"),
        ];
        for (text, ns, written) in cases {
            let read = DateTime::parse(text.as_bytes()).unwrap();
            assert_eq!(read.ns, ns, "{text}");
            assert_eq!(read.to_string(), written, "{text}");
            assert_eq!(DateTime::parse(written.as_bytes()), Some(read), "{text}");
        }
    }

    #[test]
    fn every_day_is_written_as_it_is_read() {
        for days in (-700_000..2_900_000).step_by(97) {
            let day = DateTime::new(i128::from(days) * DAY_NS, false);
            let written = day.to_string();
            assert_eq!(DateTime::parse(written.as_bytes()), Some(day), "{written}");
        }
        let far = DateTime::new(i128::MAX, true);
        assert!(far.to_string().ends_with("ns since 1970"));
    }

    #[test]
    fn what_is_no_date_is_none() {
        let cases = [
            "",
            "2024",
            "2024-02-30",
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "2024/01/01",
            "24-01-01",
            "2024-01-01x",
            "2024-01-01T",
            "2024-01-01T10",
            "2024-01-01T24:00",
            "2024-01-01T10:60",
            "2024-01-01T10:20:60",
            "2024-01-01T10:20.5",
            "2024-01-01T10:20:30.",
            "2024-01-01T10:20:30.1234567890",
            "2024-01-01T10:20:30+1",
            "2024-01-01T10:20:30+25:00",
            "2024-01-01T10:20:30Zulu",
            "2024-01-01T10:20:30:40",
            "2024-01-01T1:20",
            "+024-01-01",
            "2024-01-01T10:20:30                                     ",
        ];
        for text in cases {
            assert_eq!(DateTime::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(DateTime::of_day(10_000, 1, 1, 0), None);
    }
}
