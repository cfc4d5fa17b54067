//! The text forms of protocol 0, and integers of any length.

use crate::Node;

/// The most decimal digits of an integer that are read; longer ones cost quadratic time.
const DIGITS_MAX: usize = 400;

/// Reads a decimal integer; `None` for anything else, and past 400 digits.
pub(crate) fn decimal(text: &[u8]) -> Option<Node> {
    let text = str::from_utf8(text).ok()?;
    if let Ok(value) = text.parse::<i64>() {
        return Some(Node::Int(value));
    }
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits.bytes() {
        let mut carry = u16::from(digit.is_ascii_digit().then(|| digit.wrapping_sub(b'0'))?);
        for byte in &mut bytes {
            let [low, high] = u16::from(*byte)
                .wrapping_mul(10)
                .wrapping_add(carry)
                .to_le_bytes();
            *byte = low;
            carry = u16::from(high);
        }
        let [low, _] = carry.to_le_bytes();
        if low != 0 {
            bytes.push(low);
        }
    }
    bytes.push(0);
    if is_negative {
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    Some(little_endian(&bytes))
}

/// Makes an integer of little-endian two's complement.
pub(crate) fn little_endian(bytes: &[u8]) -> Node {
    let sign = bytes
        .last()
        .map_or(0, |byte| if *byte >= 0x80 { 0xff } else { 0 });
    let mut significant = bytes;
    while let [rest @ .., before, last] = significant {
        if *last != sign || (*before >= 0x80) != (sign != 0) {
            break;
        }
        significant = bytes.get(..rest.len().saturating_add(1)).unwrap_or(rest);
    }
    if significant.len() > 8 {
        return Node::BigInt(significant.into());
    }
    let mut value = [sign; 8];
    for (to, from) in value.iter_mut().zip(significant) {
        *to = *from;
    }
    Node::Int(i64::from_le_bytes(value))
}

/// Reads a quoted byte string with Python's escapes.
pub(crate) fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let quote = *line.first()?;
    let is_quoted = line.len() >= 2 && matches!(quote, b'\'' | b'"') && line.ends_with(&[quote]);
    let inner = line.get(1..line.len().checked_sub(1)?)?;
    if !is_quoted {
        return None;
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            escaped @ (b'\\' | b'\'' | b'"') => escaped,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'a' => 7,
            b'b' => 8,
            b'v' => 11,
            b'f' => 12,
            b'x' => number(&[rest.next()?, rest.next()?], 16)?,
            first @ b'0'..=b'7' => {
                let length = rest
                    .clone()
                    .take(2)
                    .take_while(|digit| matches!(digit, b'0'..=b'7'))
                    .count();
                let mut octal = vec![first];
                octal.extend(rest.by_ref().take(length));
                number(&octal, 8)?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    u8::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()
}

/// Reads Python's raw-unicode-escape: latin-1 with `\uXXXX` and `\UXXXXXXXX`.
pub(crate) fn raw_unicode_escaped(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        let n_digits = match rest {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => 0,
        };
        if n_digits == 0 {
            text.push(char::from(*first));
            rest = after;
            continue;
        }
        let (digits, after) = rest.get(2..)?.split_at_checked(n_digits)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let code = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        text.push(char::from_u32(code)?);
        rest = after;
    }
    Some(text)
}

/// Reads a float as Python writes it.
pub(crate) fn float(line: &[u8]) -> Option<f64> {
    str::from_utf8(line).ok()?.parse().ok()
}

/// Reads an unsigned decimal.
pub(crate) fn index(line: &[u8]) -> Option<u64> {
    str::from_utf8(line).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_integers_of_any_length() {
        let cases: [(&str, Option<Node>); 9] = [
            ("0", Some(Node::Int(0))),
            ("-1", Some(Node::Int(-1))),
            ("9223372036854775807", Some(Node::Int(i64::MAX))),
            ("-9223372036854775808", Some(Node::Int(i64::MIN))),
            (
                "9223372036854775808",
                Some(Node::BigInt([0, 0, 0, 0, 0, 0, 0, 0x80, 0].into())),
            ),
            (
                "-9223372036854775809",
                Some(Node::BigInt(
                    [255, 255, 255, 255, 255, 255, 255, 127, 255].into(),
                )),
            ),
            ("", None),
            ("-", None),
            ("12x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(decimal(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(little_endian(&[]), Node::Int(0));
        assert_eq!(little_endian(&[0xff]), Node::Int(-1));
        assert_eq!(little_endian(&[0xff, 0]), Node::Int(255));
        assert_eq!(little_endian(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Node::Int(1));
    }

    #[test]
    fn reads_quoted_strings() {
        let cases: [(&[u8], Option<&[u8]>); 8] = [
            (b"'abc'", Some(b"abc")),
            (b"\"it's\"", Some(b"it's")),
            (br"'\x00\xff\n\\\''", Some(b"\x00\xff\n\\'")),
            (br"'\08\101'", Some(b"\x008A")),
            (b"'abc", None),
            (b"'", None),
            (br"'\q'", None),
            (br"'\xZZ'", None),
        ];
        for (line, expected) in cases {
            assert_eq!(quoted(line).as_deref(), expected, "{line:?}");
        }
        assert_eq!(
            raw_unicode_escaped(b"a\\u20ac\xe9\\U0001f600").as_deref(),
            Some("a€é😀")
        );
        assert_eq!(raw_unicode_escaped(br"\ud800"), None);
    }
}
