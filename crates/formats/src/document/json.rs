//! JSON text, with the literals `NaN` and `Infinity` that XGBoost writes.

use coracle_model::LoadError;

use super::{Builder, Document, malformed};

/// Reads a JSON text.
///
/// # Errors
/// Kind `Malformed`, with the position at fault.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, LoadError> {
    let mut parser = Parser { bytes, position: 0 };
    let read = parser.document();
    read.map_err(|what| malformed("JSON", what, parser.position))
}

struct Parser<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<Document, &'static str> {
        let mut builder = Builder::default();
        while !builder.is_done() {
            self.step(&mut builder)?;
        }
        self.skip_blanks();
        match (builder.root, self.peek()) {
            (Some(root), None) => Ok(root),
            _ => Err("something after the end"),
        }
    }

    /// Reads one value, key or closing bracket, with the comma that follows.
    fn step(&mut self, builder: &mut Builder) -> Result<(), &'static str> {
        self.skip_blanks();
        let byte = self.peek().ok_or("the text ends too early")?;
        if builder.wants_key() && byte != b'}' {
            if byte != b'"' {
                return Err("a key must be text");
            }
            let key = self.text()?;
            builder.key(key);
            self.skip_blanks();
            return self.expect(b':', "a colon is missing");
        }
        match byte {
            b'{' => {
                self.advance(1);
                return builder.begin_object();
            }
            b'[' => {
                self.advance(1);
                return builder.begin_array();
            }
            b'}' if builder.is_in_object() => {
                self.advance(1);
                builder.end()?;
            }
            b']' if builder.is_in_array() => {
                self.advance(1);
                builder.end()?;
            }
            b'"' => {
                let text = self.text()?;
                builder.value(Document::Text(text))?;
            }
            b'0'..=b'9' | b'-' | b'N' | b'I' => {
                let number = self.number()?;
                builder.value(Document::Number(number))?;
            }
            _ => {
                let literal = self.literal()?;
                builder.value(literal)?;
            }
        }
        self.separator(builder)
    }

    /// Reads the comma between two items, where one belongs.
    fn separator(&mut self, builder: &Builder) -> Result<(), &'static str> {
        if builder.is_done() {
            return Ok(());
        }
        self.skip_blanks();
        match self.peek() {
            Some(b',') => {
                self.advance(1);
                self.skip_blanks();
                match self.peek() {
                    Some(b']' | b'}') => Err("a comma before a closing bracket"),
                    _ => Ok(()),
                }
            }
            Some(b']') if builder.is_in_array() => Ok(()),
            Some(b'}') if builder.is_in_object() => Ok(()),
            None => Err("the text ends too early"),
            _ => Err("a comma is missing"),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    fn advance(&mut self, n: usize) {
        self.position = self.position.saturating_add(n).min(self.bytes.len());
    }

    fn expect(&mut self, byte: u8, missing: &'static str) -> Result<(), &'static str> {
        if self.peek() != Some(byte) {
            return Err(missing);
        }
        self.advance(1);
        Ok(())
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        let blanks = rest.iter().take_while(|byte| b" \t\r\n".contains(byte));
        self.advance(blanks.count());
    }

    fn literal(&mut self) -> Result<Document, &'static str> {
        let known = [
            ("null", Document::Null),
            ("true", Document::Bool(true)),
            ("false", Document::Bool(false)),
        ];
        for (name, value) in known {
            if self.rest().starts_with(name.as_bytes()) {
                self.advance(name.len());
                return Ok(value);
            }
        }
        Err("no JSON value begins so")
    }

    fn number(&mut self) -> Result<f64, &'static str> {
        let special = [
            ("NaN", f64::NAN),
            ("-NaN", f64::NAN),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ];
        for (name, value) in special {
            if self.rest().starts_with(name.as_bytes()) {
                self.advance(name.len());
                return Ok(value);
            }
        }
        let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = self.rest().iter().take_while(is_part).count();
        let text = self.rest().get(..length).unwrap_or_default();
        let text = str::from_utf8(text).map_err(|_not_ascii| "not a number")?;
        let number = text.parse().map_err(|_unreadable| "not a number")?;
        self.advance(length);
        Ok(number)
    }

    fn text(&mut self) -> Result<String, &'static str> {
        self.advance(1);
        let mut bytes = Vec::new();
        loop {
            let plain = self.rest();
            let length = plain
                .iter()
                .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=31))
                .count();
            bytes.extend_from_slice(plain.get(..length).unwrap_or_default());
            self.advance(length);
            match self.peek() {
                Some(b'"') => {
                    self.advance(1);
                    return String::from_utf8(bytes).map_err(|_invalid| "text that is not UTF-8");
                }
                Some(b'\\') => {
                    self.advance(1);
                    let character = self.escape()?;
                    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(_) => return Err("a control character in text"),
                None => return Err("text without an end"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, &'static str> {
        let byte = self.peek().ok_or("text without an end")?;
        self.advance(1);
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hexadecimal()?;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) && self.rest().starts_with(b"\\u") {
                    self.advance(2);
                    units.push(self.hexadecimal()?);
                }
                let decoded = char::decode_utf16(units).next();
                decoded
                    .and_then(Result::ok)
                    .ok_or("half a character in text")?
            }
            _ => return Err("an unknown escape in text"),
        })
    }

    fn hexadecimal(&mut self) -> Result<u16, &'static str> {
        let digits = self.rest().get(..4).unwrap_or_default();
        let digits = str::from_utf8(digits).map_err(|_not_ascii| "four digits are missing")?;
        let unit = u16::from_str_radix(digits, 16).map_err(|_wrong| "four digits are missing")?;
        self.advance(4);
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        let text =
            br#" {"a": [1, -2.5e1, NaN], "b": [], "c": {"d\u00e9\n": [null, true, 3]}, "e": "\ud83d\ude00"} "#;
        let Document::Object(entries) = parse(text).unwrap() else {
            panic!("no object");
        };
        let names: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "e"]);
        let Document::Numbers(numbers) = &entries[0].1 else {
            panic!("not packed");
        };
        assert_eq!(numbers[..2], [1.0, -25.0]);
        assert!(numbers[2].is_nan());
        assert_eq!(entries[1].1, Document::Array(Vec::new()));
        let mixed = vec![Document::Null, Document::Bool(true), Document::Number(3.0)];
        let inner = vec![("d\u{e9}\n".to_owned(), Document::Array(mixed))];
        assert_eq!(entries[2].1, Document::Object(inner));
        assert_eq!(entries[3].1, Document::Text("\u{1f600}".to_owned()));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        let deep = "[".repeat(65);
        let cases = [
            ("", "the text ends too early at byte 0"),
            ("[1,]", "a comma before a closing bracket at byte 3"),
            ("[1 2]", "a comma is missing at byte 3"),
            ("[1}", "a comma is missing at byte 2"),
            ("{\"a\" 1}", "a colon is missing at byte 5"),
            ("{1: 2}", "a key must be text at byte 1"),
            ("{\"a\":}", "a key without a value at byte 6"),
            ("[1] 2", "something after the end at byte 4"),
            ("\"a", "text without an end at byte 2"),
            ("\"\\ud800\"", "half a character in text at byte 7"),
            ("[--1]", "not a number at byte 1"),
            ("[tru]", "no JSON value begins so at byte 1"),
            (deep.as_str(), "nested too deeply at byte 65"),
        ];
        for (text, message) in cases {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("not sound JSON: {message}"), "{text}");
        }
    }
}
