//! A number of bytes that people can write and read (`64MiB`).

use std::fmt;
use std::str::FromStr;

/// A number of bytes. Parses `1048576`, `512KiB`, `64MiB`, `2GiB` and the decimal `kB`, `MB`, `GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(u64);

/// A byte count that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseByteCountError {
    text: String,
}

impl fmt::Display for ParseByteCountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a number of bytes; write a whole number with an optional unit B, kB, MB, GB, KiB, MiB or GiB",
            self.text
        )
    }
}

impl std::error::Error for ParseByteCountError {}

/// Units, largest binary one first; `Display` uses the first that divides exactly.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteCount {
    /// Wraps a number of bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the number of bytes as a length in memory; saturates on 32-bit machines.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Returns a rounded form for people, such as `1.4 MiB`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "rounded for display")]
    pub fn to_rounded(self) -> String {
        for (unit, size) in &UNITS[..3] {
            if self.0 >= *size {
                return format!("{:.1} {unit}", self.0 as f64 / *size as f64);
            }
        }
        format!("{} B", self.0)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in &UNITS[..3] {
            if self.0 != 0 && self.0.is_multiple_of(*size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl FromStr for ByteCount {
    type Err = ParseByteCountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseByteCountError {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        let digits_end = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(digits_end);
        let number: u64 = digits.parse().map_err(|_invalid_digits| error())?;
        let unit = unit.trim();
        let scale = if unit.is_empty() {
            1
        } else {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, size)| *size)
                .ok_or_else(error)?
        };
        number.checked_mul(scale).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_units() {
        let cases: [(&str, Option<(u64, &str)>); 9] = [
            ("0", Some((0, "0"))),
            ("1000", Some((1000, "1000"))),
            ("64MiB", Some((64 << 20, "64MiB"))),
            ("64 mib", Some((64 << 20, "64MiB"))),
            ("2GB", Some((2_000_000_000, "1953125KiB"))),
            ("1024", Some((1024, "1KiB"))),
            ("", None),
            ("MiB", None),
            ("99999999999GiB", None),
        ];
        for (text, expected) in cases {
            let parsed = text.parse::<ByteCount>().ok();
            let got = parsed.map(|count| (count.as_u64(), count.to_string()));
            let expected = expected.map(|(bytes, shown)| (bytes, shown.to_owned()));
            assert_eq!(got, expected, "{text:?}");
        }
    }

    #[test]
    fn rounded_form_is_for_people() {
        assert_eq!(ByteCount::new(12).to_rounded(), "12 B");
        assert_eq!(ByteCount::new(1_500_000).to_rounded(), "1.4 MiB");
    }
}
