//! The tokens of a JSON text, one after another.

/// The most letters that a message quotes.
const QUOTED_MAX: usize = 40;

/// Reads a text from its beginning; nothing of it is believed before it is seen.
pub(super) struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
}

/// A value that holds no others.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar<'t> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'t str),
    Text(String),
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Returns the next byte that is no space, without taking it.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at = self.at.saturating_add(1);
        }
        None
    }

    /// Takes a byte if it is the next one.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.at = self.at.saturating_add(1);
        }
        is_next
    }

    /// Takes a byte that has to be there.
    pub(super) fn demand(&mut self, byte: u8) -> Result<(), String> {
        match self.take(byte) {
            true => Ok(()),
            false => Err(self.wrong(&format!("'{}'", char::from(byte)))),
        }
    }

    /// Refuses anything that comes yet.
    pub(super) fn end(&mut self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end")),
        }
    }

    /// Says what belongs where something else is.
    pub(super) fn wrong(&mut self, expected: &str) -> String {
        let _ = self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return format!("JSON that ends where {expected} belongs");
        }
        let rest = rest.get(..QUOTED_MAX).unwrap_or(rest);
        let word = rest
            .iter()
            .take_while(|byte| !matches!(byte, b',' | b']' | b'}' | b'\n'));
        let word = word.count().max(1);
        let shown = String::from_utf8_lossy(rest.get(..word).unwrap_or_default());
        let shown: String = shown.chars().filter(|c| !c.is_control()).collect();
        format!(
            "JSON with '{shown}' at byte {}, where {expected} belongs",
            self.at
        )
    }

    pub(super) fn scalar(&mut self) -> Result<Scalar<'t>, String> {
        match self.peek() {
            Some(b'"') => self.string().map(Scalar::Text),
            Some(b'n') => self.word("null", Scalar::Null),
            Some(b't') => self.word("true", Scalar::Bool(true)),
            Some(b'f') => self.word("false", Scalar::Bool(false)),
            Some(b'-' | b'0'..=b'9') => self.number().map(Scalar::Number),
            _ => Err(self.wrong("a value")),
        }
    }

    fn word(&mut self, word: &str, value: Scalar<'t>) -> Result<Scalar<'t>, String> {
        let end = self.at.saturating_add(word.len());
        if self.text.get(self.at..end) != Some(word.as_bytes()) {
            return Err(self.wrong("a value"));
        }
        self.at = end;
        Ok(value)
    }

    fn number(&mut self) -> Result<&'t str, String> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let length = length.count();
        let number = str::from_utf8(rest.get(..length).unwrap_or_default()).ok();
        let number = number.filter(|number| is_number(number.as_bytes()));
        let Some(number) = number else {
            return Err(self.wrong("a number"));
        };
        self.at = self.at.saturating_add(length);
        Ok(number)
    }

    pub(super) fn string(&mut self) -> Result<String, String> {
        if !self.take(b'"') {
            return Err(self.wrong("a string"));
        }
        let mut bytes = Vec::new();
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                return Err(self.wrong("the end of a string"));
            };
            match byte {
                b'"' => break,
                b'\\' => {
                    let letter = self.escaped()?;
                    let mut buffer = [0; 4];
                    bytes.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
                }
                0..=0x1f => return Err(self.wrong("a letter of a string")),
                byte => {
                    bytes.push(byte);
                    self.at = self.at.saturating_add(1);
                }
            }
        }
        self.at = self.at.saturating_add(1);
        String::from_utf8(bytes).map_err(|_| "JSON with a string that is not UTF-8".to_owned())
    }

    /// Takes an escaped letter, of which `\` is next.
    fn escaped(&mut self) -> Result<char, String> {
        let kind = self.text.get(self.at.saturating_add(1)).copied();
        let letter = match kind {
            Some(letter @ (b'"' | b'\\' | b'/')) => char::from(letter),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.wrong("an escaped letter")),
        };
        self.at = self.at.saturating_add(2);
        Ok(letter)
    }

    fn unicode(&mut self) -> Result<char, String> {
        let high = self.unit();
        let letter = match high {
            Some(high @ 0xd800..=0xdbff) => self.unit().and_then(|low| {
                let low = u32::from(low)
                    .checked_sub(0xdc00)
                    .filter(|low| *low < 0x400)?;
                let high = u32::from(high).checked_sub(0xd800)?;
                char::from_u32(
                    high.checked_shl(10)?
                        .checked_add(low)?
                        .checked_add(0x1_0000)?,
                )
            }),
            Some(unit) => char::from_u32(u32::from(unit)),
            None => None,
        };
        letter.ok_or_else(|| self.wrong("an escaped letter"))
    }

    /// Takes `\u` and four hexadecimal digits.
    fn unit(&mut self) -> Option<u16> {
        let digits_at = self.at.checked_add(2)?;
        let end = digits_at.checked_add(4)?;
        if self.text.get(self.at..digits_at)? != b"\\u" {
            return None;
        }
        let digits = self.text.get(digits_at..end)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let unit = u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        self.at = end;
        Some(unit)
    }
}

/// Tells whether letters are a number as JSON writes it.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.first() == Some(&b'0')) {
        return false;
    }
    let mut text = text.get(whole..).unwrap_or_default();
    if let Some(fraction) = text.strip_prefix(b".") {
        let n = digits(fraction);
        if n == 0 {
            return false;
        }
        text = fraction.get(n..).unwrap_or_default();
    }
    match text {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => {
            !exponent.is_empty() && exponent.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}
