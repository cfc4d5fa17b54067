//! Bodies as nearly every client writes them, `{"instances": [[1, 2.5], ...]}` with nothing but numbers, read in one pass.
//!
//! Whatever else a body may hold (other keys, `null`, objects, faults) ends this reader without an answer, and the general one
//! (`decode`) reads the body from its beginning, with all its messages. So this one must know only what is right.

use std::str;

/// Reads a body of plain rows; `None` if it is anything else.
///
/// The numbers are the nearest doubles, as the general reader has them.
pub(super) fn rows(body: &[u8], n_columns: usize, elements_max: usize) -> Option<Vec<f64>> {
    let rest = after(body, b'{')?;
    let rest = skip_space(rest).strip_prefix(b"\"instances\"")?;
    let mut rest = after(after(rest, b':')?, b'[')?;
    // A number takes two bytes at least, with what separates it from the next.
    let n_likely = body.len().checked_div(8)?.max(n_columns);
    let mut values = Vec::with_capacity(n_likely.min(elements_max));
    loop {
        rest = after(rest, b'[')?;
        for column in 0..n_columns {
            if column > 0 {
                rest = after(rest, b',')?;
            }
            let (value, tail) = number(skip_space(rest))?;
            values.push(value);
            rest = tail;
        }
        rest = skip_space(after(rest, b']')?);
        if values.len() > elements_max {
            return None;
        }
        match rest.split_first()? {
            (b',', tail) => rest = tail,
            (b']', tail) => {
                let tail = skip_space(after(tail, b'}')?);
                return tail.is_empty().then_some(values);
            }
            _ => return None,
        }
    }
}

/// Returns what comes after `byte`, which must be next but for white space.
#[inline]
fn after(bytes: &[u8], byte: u8) -> Option<&[u8]> {
    match bytes.split_first()? {
        (first, rest) if *first == byte => Some(rest),
        _ => {
            let (first, rest) = skip_space(bytes).split_first()?;
            (*first == byte).then_some(rest)
        }
    }
}

#[inline]
fn skip_space(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whole numbers up to this are doubles.
const MANTISSA_MAX: u64 = 1 << 53;
/// The powers of ten that are doubles.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads a JSON number; returns it and what comes after it.
///
/// A mantissa and a power of ten that are doubles give the nearest double in one operation (W. D. Clinger, "How to read floating point
/// numbers accurately", 1990); others are left to the standard library.
#[inline]
fn number(bytes: &[u8]) -> Option<(f64, &[u8])> {
    let (is_negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    let mut mantissa = 0_u64;
    let rest = read_digits(digits, &mut mantissa)?;
    // No number but zero begins with a zero.
    if let [b'0', b'0'..=b'9', ..] = digits {
        return None;
    }
    let (rest, n_decimals) = match rest {
        [b'.', decimals @ ..] => {
            let rest = read_decimals(decimals, &mut mantissa)?;
            (rest, decimals.len().checked_sub(rest.len())?)
        }
        _ => (rest, 0),
    };
    if let [b'e' | b'E', ..] = rest {
        return general(bytes, after_exponent(rest)?);
    }
    match POWERS.get(n_decimals) {
        Some(power) if mantissa <= MANTISSA_MAX => {
            #[expect(
                clippy::as_conversions,
                reason = "a whole number up to 2^53 is a double"
            )]
            let value = mantissa as f64 / power;
            Some((if is_negative { -value } else { value }, rest))
        }
        _ => general(bytes, rest),
    }
}

/// Reads at least one digit. A mantissa that becomes too large stays so.
#[inline]
fn read_digits<'a>(bytes: &'a [u8], mantissa: &mut u64) -> Option<&'a [u8]> {
    let mut rest = bytes;
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        let value = u64::from(digit.wrapping_sub(b'0'));
        *mantissa = mantissa.saturating_mul(10).saturating_add(value);
        rest = tail;
    }
    (rest.len() < bytes.len()).then_some(rest)
}

/// Reads at least one digit, eight at a time where there are so many: computed numbers have 15 or more after the point.
#[inline]
fn read_decimals<'a>(bytes: &'a [u8], mantissa: &mut u64) -> Option<&'a [u8]> {
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let Some(value) = eight_digits(u64::from_le_bytes(*chunk)) else {
            break;
        };
        *mantissa = mantissa.saturating_mul(100_000_000).saturating_add(value);
        rest = tail;
    }
    if rest.len() < bytes.len() && !matches!(rest, [b'0'..=b'9', ..]) {
        return Some(rest);
    }
    read_digits(rest, mantissa)
}

/// Returns the number that eight characters write, the first in the lowest byte; `None` if one is no digit.
///
/// Neighbours are joined three times: digits to pairs, pairs to fours, fours to eight (D. Lemire, "Quickly parsing eight digits", 2018).
#[inline]
fn eight_digits(characters: u64) -> Option<u64> {
    const HIGH: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    // A digit stays one of the characters 0x30 to 0x3F when six is added to it.
    let raised = characters.wrapping_add(0x0606_0606_0606_0606);
    if characters & HIGH != ZEROS || raised & HIGH != ZEROS {
        return None;
    }
    let digits = characters.wrapping_sub(ZEROS);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let first = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(0x000F_4240_0000_0064);
    let second = ((pairs >> 16) & 0x0000_00FF_0000_00FF).wrapping_mul(0x0000_2710_0000_0001);
    Some(first.wrapping_add(second) >> 32)
}

/// Returns what comes after an exponent.
fn after_exponent(bytes: &[u8]) -> Option<&[u8]> {
    let digits = match bytes {
        [_e, b'+' | b'-', digits @ ..] | [_e, digits @ ..] => digits,
        [] => return None,
    };
    read_digits(digits, &mut 0)
}

/// Reads the number between `bytes` and `rest` with the standard library.
fn general<'a>(bytes: &'a [u8], rest: &'a [u8]) -> Option<(f64, &'a [u8])> {
    let length = bytes.len().checked_sub(rest.len())?;
    let text = str::from_utf8(bytes.get(..length)?).ok()?;
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the number with the general reader.
    fn expected(text: &str) -> Option<f64> {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        value.as_f64()
    }

    fn read(text: &str) -> Option<f64> {
        let (value, rest) = number(text.as_bytes())?;
        rest.is_empty().then_some(value)
    }

    #[test]
    fn numbers_are_those_of_the_general_reader() {
        let cases = [
            "0",
            "-0",
            "-0.0",
            "1",
            "-7",
            "5.1",
            "0.1",
            "123456789.125",
            "9007199254740992",
            "9007199254740993",
            "9007199254740995",
            "18446744073709551615",
            "18446744073709551616",
            "123456789012345678901234567890",
            "0.30000000000000004",
            "1.7976931348623157e308",
            "2.2250738585072014e-308",
            "5e-324",
            "4.9e-324",
            "1e-400",
            "1e22",
            "1e23",
            "8.5E+2",
            "8.5e-2",
            "0.000000000000000000000001",
            "1.0000000000000000000000000000000000001",
            "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880",
        ];
        for text in cases {
            let (ours, theirs) = (read(text), expected(text));
            assert_eq!(ours.map(f64::to_bits), theirs.map(f64::to_bits), "{text}");
        }
        // Too large for a double: left to the general reader, which refuses it.
        assert_eq!((read("1e999"), expected("1e999")), (None, None));
    }

    #[test]
    #[expect(clippy::as_conversions, reason = "any number will do")]
    fn random_numbers_are_those_of_the_general_reader() {
        let mut state = 1_u64;
        let mut bits = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 29)
        };
        for _ in 0..50_000 {
            let double = f64::from_bits(bits());
            let digits = bits() >> (bits() % 64);
            let texts = [
                if double.is_finite() {
                    format!("{double:e}")
                } else {
                    "0".to_owned()
                },
                format!(
                    "{}",
                    (bits() % 100_000_000) as f64 / 10_f64.powi((bits() % 9) as i32)
                ),
                format!("{digits}.{}", bits() >> (bits() % 64)),
                format!("-0.{:0>width$}", digits, width = (bits() % 30) as usize),
            ];
            for text in texts {
                assert_eq!(
                    read(&text).map(f64::to_bits),
                    expected(&text).map(f64::to_bits),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn eight_digits_are_a_number_and_other_characters_none() {
        for number in [0, 1, 12_345_678, 99_999_999, 10_000_001, 90_807_060] {
            let text = format!("{number:08}");
            let characters = u64::from_le_bytes(text.as_bytes().try_into().unwrap());
            assert_eq!(eight_digits(characters), Some(number));
            for position in 0..8 {
                for other in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
                    let mut bytes = characters.to_le_bytes();
                    bytes[position] = other;
                    assert_eq!(eight_digits(u64::from_le_bytes(bytes)), None, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_json_number_is_left_to_the_general_reader() {
        for text in [
            "", "-", "01", "-01", "1.", ".5", "+1", "1e", "1e+", "0x1", "NaN", "Infinity", "1_0",
            "--1", "1.e5", "00",
        ] {
            assert_eq!(read(text), None, "{text}");
            assert!(
                serde_json::from_str::<serde_json::Value>(text).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn only_plain_rows_are_read() {
        let good = [
            r#"{"instances":[[1,2],[3.5,-4e1]]}"#,
            " {\n\"instances\" : [ [ 1 , 2 ] ,\t[3.5,-40.0] ] } \r\n",
        ];
        for body in good {
            assert_eq!(
                rows(body.as_bytes(), 2, 100),
                Some(vec![1.0, 2.0, 3.5, -40.0]),
                "{body}"
            );
        }
        let other = [
            "",
            "{",
            "[]",
            r#"{"instances":[]}"#,
            r#"{"instances":[[1]]}"#,
            r#"{"instances":[[1,2,3]]}"#,
            r#"{"instances":[[1,2]],"parameters":{}}"#,
            r#"{"inputs":[[1,2]]}"#,
            r#"{"instances":[[1,null]]}"#,
            r#"{"instances":[[1,"2"]]}"#,
            r#"{"instances":[{"a":1,"b":2}]}"#,
            r#"{"instances":[[1,2],]}"#,
            r#"{"instances":[[1,2]]} x"#,
            r#"{"instances":[[1,2]]"#,
            r#"{"instances":[[1 2]]}"#,
            r#"{"instances":[[1,,2]]}"#,
            r#"{"instances":[1,2]}"#,
            "{\"instances\":[[1,\u{a0}2]]}",
        ];
        for body in other {
            assert_eq!(rows(body.as_bytes(), 2, 100), None, "{body}");
        }
        // More than is allowed is the general reader's to refuse.
        assert_eq!(rows(good[0].as_bytes(), 2, 3), None);
    }
}
