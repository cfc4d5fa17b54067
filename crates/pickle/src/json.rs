//! JSON text as Python's `json` module writes it: with `NaN` and `Infinity`, and integers of any length.
//!
//! The values lie in one arena, so that neither reading nor dropping them recurses.

use std::borrow::Cow;

use crate::{Error, Limits};

/// A value's place in its [`Json`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueId(u32);

/// One value.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer that does not fit, as it is written.
    BigInt(&'a str),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<ValueId>),
    Map(Map<'a>),
}

/// An object, in the text's order.
#[derive(Debug, PartialEq)]
pub(crate) struct Map<'a> {
    pub(crate) entries: Vec<(Cow<'a, str>, ValueId)>,
    /// Where it begins in the text.
    pub(crate) offset: usize,
}

/// The values of one text.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    values: Vec<Value<'a>>,
    pub(crate) root: ValueId,
}

static NOTHING: Value<'static> = Value::Null;

impl<'a> Json<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) with the position at fault,
    /// [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) for more values than nodes are allowed.
    pub(crate) fn read(text: &'a str, limits: &Limits) -> Result<Self, Error> {
        let mut parser = Parser {
            text,
            position: 0,
            values: Vec::new(),
            open: Vec::new(),
            root: None,
            values_max: limits.nodes_max,
        };
        while parser.root.is_none() {
            parser.step()?;
        }
        parser.skip_blanks();
        match parser.root {
            Some(root) if parser.position == text.len() => Ok(Self {
                values: parser.values,
                root,
            }),
            _ => Err(parser.malformed("something after the end of the JSON text")),
        }
    }

    pub(crate) fn value(&self, id: ValueId) -> &Value<'a> {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.values.get(index).unwrap_or(&NOTHING)
    }
}

impl Map<'_> {
    /// Returns the value under a key; of equal keys the last one counts.
    pub(crate) fn get(&self, key: &str) -> Option<ValueId> {
        let found = self.entries.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| *value)
    }
}

/// A list or map that is not closed yet.
#[derive(Debug)]
enum Open<'a> {
    List(Vec<ValueId>),
    Map(Map<'a>, Option<Cow<'a, str>>),
}

#[derive(Debug)]
struct Parser<'a> {
    text: &'a str,
    position: usize,
    values: Vec<Value<'a>>,
    open: Vec<Open<'a>>,
    root: Option<ValueId>,
    values_max: usize,
}

impl<'a> Parser<'a> {
    /// Reads one value, key or closing bracket, with the comma that follows.
    fn step(&mut self) -> Result<(), Error> {
        self.skip_blanks();
        let Some(byte) = self.peek() else {
            return Err(self.malformed("a JSON text that ends too early"));
        };
        if byte != b'}' && matches!(self.open.last(), Some(Open::Map(_, None))) {
            return self.key();
        }
        match (byte, self.open.last()) {
            (b'{', _) => {
                let entries = Vec::new();
                let offset = self.position;
                self.open.push(Open::Map(Map { entries, offset }, None));
                self.position = self.position.saturating_add(1);
                return Ok(());
            }
            (b'[', _) => {
                self.open.push(Open::List(Vec::new()));
                self.position = self.position.saturating_add(1);
                return Ok(());
            }
            (b'}', Some(Open::Map(_, None))) | (b']', Some(Open::List(_))) => {
                self.position = self.position.saturating_add(1);
                match self.open.pop() {
                    Some(Open::Map(map, _)) => self.put(Value::Map(map))?,
                    Some(Open::List(items)) => self.put(Value::List(items))?,
                    None => {}
                }
            }
            (b'"', _) => {
                let text = self.quoted()?;
                self.put(Value::Text(text))?;
            }
            _ => {
                let value = self.plain()?;
                self.put(value)?;
            }
        }
        self.separator()
    }

    fn key(&mut self) -> Result<(), Error> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed("a JSON key that is no text"));
        }
        let name = self.quoted()?;
        if let Some(Open::Map(_, key)) = self.open.last_mut() {
            *key = Some(name);
        }
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.malformed("a JSON key without its value"));
        }
        self.position = self.position.saturating_add(1);
        Ok(())
    }

    /// Puts a value where the innermost list or map wants it.
    fn put(&mut self, value: Value<'a>) -> Result<(), Error> {
        let id = u32::try_from(self.values.len()).ok();
        let Some(id) = id.filter(|_| self.values.len() < self.values_max) else {
            return Err(Error::limit("the values of a JSON text", self.values_max));
        };
        let id = ValueId(id);
        self.values.push(value);
        match self.open.last_mut() {
            Some(Open::List(items)) => items.push(id),
            Some(Open::Map(map, key)) => match key.take() {
                Some(key) => map.entries.push((key, id)),
                None => return Err(self.malformed("a JSON value without its key")),
            },
            None => self.root = Some(id),
        }
        Ok(())
    }

    /// Reads the comma between two items, where one belongs.
    fn separator(&mut self) -> Result<(), Error> {
        if self.root.is_some() {
            return Ok(());
        }
        self.skip_blanks();
        match (self.peek(), self.open.last()) {
            (Some(b','), _) => {
                self.position = self.position.saturating_add(1);
                self.skip_blanks();
                match self.peek() {
                    Some(b']' | b'}') => Err(self.malformed("a comma before a closing bracket")),
                    _ => Ok(()),
                }
            }
            (Some(b']'), Some(Open::List(_))) | (Some(b'}'), Some(Open::Map(..))) => Ok(()),
            _ => Err(self.malformed("a missing comma")),
        }
    }

    /// Reads a number or a literal.
    fn plain(&mut self) -> Result<Value<'a>, Error> {
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        let is_integer = || {
            let digits = word.strip_prefix('-').unwrap_or(word);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        let value = match word {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "NaN" => Value::Float(f64::NAN),
            "Infinity" => Value::Float(f64::INFINITY),
            "-Infinity" => Value::Float(f64::NEG_INFINITY),
            _ if is_integer() => match word.parse() {
                Ok(value) => Value::Int(value),
                Err(_too_large) => Value::BigInt(word),
            },
            _ if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                let number = word.parse();
                Value::Float(number.map_err(|_no_number| self.malformed("no JSON number"))?)
            }
            _ => return Err(self.malformed("no JSON value")),
        };
        self.position = self.position.saturating_add(length);
        Ok(value)
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, Error> {
        self.position = self.position.saturating_add(1);
        let mut text = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let is_special = |c: char| matches!(c, '"' | '\\' | '\0'..='\u{1f}');
            let Some(length) = rest.find(is_special) else {
                return Err(self.malformed("a JSON text without its end"));
            };
            let plain = rest.get(..length).unwrap_or_default();
            match text.is_empty() {
                true => text = Cow::Borrowed(plain),
                false => text.to_mut().push_str(plain),
            }
            self.position = self.position.saturating_add(length);
            match self.peek() {
                Some(b'"') => {
                    self.position = self.position.saturating_add(1);
                    return Ok(text);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    text.to_mut().push(character);
                }
                _ => return Err(self.malformed("a control character in a JSON text")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        let letter = self.rest().as_bytes().get(1).copied();
        self.position = self.position.saturating_add(2);
        Ok(match letter {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.unit()?;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
                    self.position = self.position.saturating_add(2);
                    units.push(self.unit()?);
                }
                let decoded = char::decode_utf16(units).next().and_then(Result::ok);
                decoded.ok_or_else(|| self.malformed("half a character in a JSON text"))?
            }
            _ => return Err(self.malformed("an unknown escape in a JSON text")),
        })
    }

    fn unit(&mut self) -> Result<u16, Error> {
        let digits = self.rest().get(..4).unwrap_or_default();
        let is_sound = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let unit = u16::from_str_radix(digits, 16).ok().filter(|_| is_sound);
        let unit = unit.ok_or_else(|| self.malformed("an escape without four digits"))?;
        self.position = self.position.saturating_add(4);
        Ok(unit)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        let rest = self.text.as_bytes().get(self.position..);
        let blanks = rest.unwrap_or_default().iter();
        let n_blanks = blanks.take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.position = self.position.saturating_add(n_blanks);
    }

    fn malformed(&self, problem: &str) -> Error {
        Error::malformed(problem, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let json = Json::read(text, &Limits::default()).map_err(|error| error.to_string())?;
        Ok(format!("{:?}", json.value(json.root)))
    }

    #[test]
    fn values_are_read_as_python_writes_them() {
        let cases = [
            ("3", "Int(3)"),
            ("-9223372036854775808", "Int(-9223372036854775808)"),
            ("9223372036854775808", "BigInt(\"9223372036854775808\")"),
            (" -2.5e1 ", "Float(-25.0)"),
            ("1e400", "Float(inf)"),
            ("NaN", "Float(NaN)"),
            ("-Infinity", "Float(-inf)"),
            ("true", "Bool(true)"),
            (
                r#""a\u00e9\n\ud83d\ude00""#,
                "Text(\"a\u{e9}\\n\u{1f600}\")",
            ),
            ("[[], {}]", "List([ValueId(0), ValueId(1)])"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        let cases = [
            ("", "a JSON text that ends too early at byte 0"),
            ("[1,]", "a comma before a closing bracket at byte 3"),
            ("[1 2]", "a missing comma at byte 3"),
            ("[1}", "a missing comma at byte 2"),
            ("{\"a\" 1}", "a JSON key without its value at byte 5"),
            ("{1: 2}", "a JSON key that is no text at byte 1"),
            ("{\"a\":}", "no JSON value at byte 5"),
            (
                "[1] 2",
                "something after the end of the JSON text at byte 4",
            ),
            ("\"a", "a JSON text without its end at byte 1"),
            ("\"\\ud800\"", "half a character in a JSON text at byte 7"),
            ("\"\\u+123\"", "an escape without four digits at byte 3"),
            ("[--1]", "no JSON number at byte 1"),
            ("]", "no JSON value at byte 0"),
            ("inf", "no JSON value at byte 0"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn depth_costs_no_stack_and_counts_are_bounded() {
        let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
        assert!(read(&deep).is_ok());
        let limits = Limits {
            nodes_max: 3,
            ..Limits::default()
        };
        assert!(Json::read("[1, 2]", &limits).is_ok());
        let error = Json::read("[1, 2, 3]", &limits).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::LimitExceeded);
    }
}
