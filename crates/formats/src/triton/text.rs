//! Protobuf's text format: fields with their places, of which it is not known yet what they may be.
//!
//! Read without the schema: names, scalars as they stand, messages in `{}` or `<>`, lists in `[]`, comments. Not read: `Any` by its URL.
//! Messages within messages are kept on a stack of our own, so depth costs no stack.

use std::fmt;

/// The most messages within messages.
const DEPTH_MAX: usize = 32;
/// The most fields of a file.
const FIELDS_MAX: usize = 65_536;

/// The fields of a message, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
}

/// A field; one that is repeated is there several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    /// Where its name begins, in bytes.
    pub(super) position: usize,
    pub(super) value: Value,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A string, without its quotes.
    Text(String),
    /// A number, a truth value or a name, as it stands.
    Word(String),
    Message(Message),
}

/// A file at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) position: usize,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn new(position: usize, what: impl Into<String>) -> Self {
        Self {
            position,
            what: what.into(),
        }
    }
}

/// A place in a text, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    /// Returns the place of the byte at `position`.
    pub(super) fn of(text: &str, position: usize) -> Self {
        let before = text.get(..position).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let column = before.get(line_start..).unwrap_or_default();
        Self {
            line: before.matches('\n').count().saturating_add(1),
            column: column.chars().count().saturating_add(1),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// A message whose end is still to come.
struct Open {
    message: Message,
    /// The field that holds it and the bracket that ends it; none for the file.
    within: Option<(String, usize, char)>,
    /// The list of values that is being read for a field.
    list: Option<List>,
}

struct List {
    name: String,
    position: usize,
    next: Next,
}

/// What may come next in a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    ItemOrEnd,
    Item,
    CommaOrEnd,
}

/// Reads a file.
///
/// # Errors
/// With the position of what is at fault.
pub(super) fn parse(text: &str) -> Result<Message, Fault> {
    let mut reader = Reader { text, position: 0 };
    let mut n_fields = 0_usize;
    let mut outer: Vec<Open> = Vec::new();
    let mut open = Open {
        message: Message::default(),
        within: None,
        list: None,
    };
    loop {
        reader.skip_blanks();
        let begun = match &mut open.list {
            Some(list) => match list.step(&mut reader)? {
                Step::End => {
                    open.list = None;
                    continue;
                }
                Step::Again => continue,
                Step::Item => (list.name.clone(), list.position),
            },
            None => match open.step(&mut reader)? {
                FieldStep::End => {
                    let (Some(mut outside), Some((name, position, _))) =
                        (outer.pop(), open.within.take())
                    else {
                        return Ok(open.message);
                    };
                    let value = Value::Message(open.message);
                    outside.push(name, position, value);
                    open = outside;
                    open.end_of_value(&mut reader);
                    continue;
                }
                FieldStep::Again => continue,
                FieldStep::Field(name, position) => (name, position),
            },
        };
        n_fields = n_fields.saturating_add(1);
        if n_fields > FIELDS_MAX {
            let what = format!("more than {FIELDS_MAX} fields");
            return Err(Fault::new(reader.position, what));
        }
        let (name, position) = begun;
        match reader.opened() {
            Some(end) => {
                if outer.len() >= DEPTH_MAX {
                    let what = format!("messages within messages are more than {DEPTH_MAX} deep");
                    return Err(Fault::new(position, what));
                }
                let inner = Open {
                    message: Message::default(),
                    within: Some((name, position, end)),
                    list: None,
                };
                outer.push(std::mem::replace(&mut open, inner));
            }
            None => {
                let value = reader.scalar()?;
                open.push(name, position, value);
                open.end_of_value(&mut reader);
            }
        }
    }
}

enum Step {
    Item,
    Again,
    End,
}

enum FieldStep {
    Field(String, usize),
    Again,
    End,
}

impl List {
    fn step(&mut self, reader: &mut Reader<'_>) -> Result<Step, Fault> {
        if self.next != Next::Item && reader.take(']') {
            reader.take_separator();
            return Ok(Step::End);
        }
        if self.next == Next::CommaOrEnd {
            if !reader.take(',') {
                return Err(
                    reader.expected(&format!("a comma or the end of the list of {}", self.name))
                );
            }
            self.next = Next::Item;
            return Ok(Step::Again);
        }
        self.next = Next::CommaOrEnd;
        Ok(Step::Item)
    }
}

impl Open {
    fn push(&mut self, name: String, position: usize, value: Value) {
        self.message.fields.push(Field {
            name,
            position,
            value,
        });
    }

    /// Passes over what may separate two fields; a comma in a list is the list's own.
    fn end_of_value(&self, reader: &mut Reader<'_>) {
        if self.list.is_none() {
            reader.take_separator();
        }
    }

    /// Reads the name of the next field, or the end of the message.
    fn step(&mut self, reader: &mut Reader<'_>) -> Result<FieldStep, Fault> {
        match (&self.within, reader.peek()) {
            (None, None) => return Ok(FieldStep::End),
            (Some((name, position, end)), None) => {
                let what = format!("the file ends before the {end} of {name}");
                return Err(Fault::new(*position, what));
            }
            (Some((_, _, end)), Some(next)) if next == *end => {
                reader.take(*end);
                return Ok(FieldStep::End);
            }
            _ => {}
        }
        let position = reader.position;
        let name = reader.name()?;
        reader.skip_blanks();
        let has_colon = reader.take(':');
        reader.skip_blanks();
        if reader.take('[') {
            self.list = Some(List {
                name,
                position,
                next: Next::ItemOrEnd,
            });
            return Ok(FieldStep::Again);
        }
        if !has_colon && !matches!(reader.peek(), Some('{' | '<')) {
            return Err(reader.expected(&format!("a colon and a value, or {{, after {name}")));
        }
        Ok(FieldStep::Field(name, position))
    }
}

struct Reader<'t> {
    text: &'t str,
    position: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self, n_bytes: usize) {
        self.position = self.position.saturating_add(n_bytes);
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        if is_there {
            self.advance(wanted.len_utf8());
        }
        is_there
    }

    /// Fields may be followed by a comma or a semicolon.
    fn take_separator(&mut self) {
        self.skip_blanks();
        let _is_there = self.take(',') || self.take(';');
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
            self.advance(rest.len().saturating_sub(trimmed.len()));
            if !trimmed.starts_with('#') {
                return;
            }
            self.advance(trimmed.find('\n').unwrap_or(trimmed.len()));
        }
    }

    fn expected(&self, wanted: &str) -> Fault {
        let got = match self.peek() {
            None => "the end of the file".to_owned(),
            Some(next) => format!("{:?}", next.to_string()),
        };
        Fault::new(self.position, format!("expected {wanted}, got {got}"))
    }

    /// Takes the bracket that opens a message; returns the one that ends it.
    fn opened(&mut self) -> Option<char> {
        if self.take('{') {
            Some('}')
        } else if self.take('<') {
            Some('>')
        } else {
            None
        }
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.advance(end);
        rest.get(..end).unwrap_or_default()
    }

    /// Reads a field's name, or that of an extension in brackets.
    fn name(&mut self) -> Result<String, Fault> {
        if self.take('[') {
            let name =
                self.run(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-'));
            if name.is_empty() || !self.take(']') {
                return Err(self.expected("the name of an extension and ]"));
            }
            return Ok(format!("[{name}]"));
        }
        let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !self.peek().is_some_and(begins) {
            return Err(self.expected("the name of a field"));
        }
        let name = self.run(|c| c.is_ascii_alphanumeric() || c == '_');
        Ok(name.to_owned())
    }

    /// Reads a string, which may be in several parts, or a word.
    fn scalar(&mut self) -> Result<Value, Fault> {
        if !matches!(self.peek(), Some('"' | '\'')) {
            let is_of_word =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
            let word = self.run(is_of_word);
            if word.is_empty() {
                return Err(self.expected("a value"));
            }
            return Ok(Value::Word(word.to_owned()));
        }
        let start = self.position;
        let mut bytes = Vec::new();
        while let Some(quote @ ('"' | '\'')) = self.peek() {
            self.string(quote, &mut bytes)?;
            self.skip_blanks();
        }
        let text = String::from_utf8(bytes)
            .map_err(|_other| Fault::new(start, "a string that is no UTF-8"))?;
        Ok(Value::Text(text))
    }

    fn string(&mut self, quote: char, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let start = self.position;
        let open = || Fault::new(start, "a string that is not closed on its line");
        self.advance(quote.len_utf8());
        loop {
            match self.peek().ok_or_else(open)? {
                end if end == quote => {
                    self.advance(end.len_utf8());
                    return Ok(());
                }
                '\n' => return Err(open()),
                '\\' => self.escape(bytes)?,
                other => {
                    self.advance(other.len_utf8());
                    bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let start = self.position;
        let unknown = || Fault::new(start, "an escape that means nothing in a string");
        self.advance(1);
        let kind = self.peek().ok_or_else(unknown)?;
        let plain = match kind {
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'v' => Some(11),
            '\\' | '\'' | '"' | '?' => u8::try_from(kind).ok(),
            _ => None,
        };
        if let Some(byte) = plain {
            self.advance(1);
            bytes.push(byte);
            return Ok(());
        }
        let (radix, n_digits) = match kind {
            '0'..='7' => (8, 3),
            'x' => (16, 2),
            'u' => (16, 4),
            _ => return Err(unknown()),
        };
        if radix == 16 {
            self.advance(1);
        }
        let digits: String = self.rest().chars().take(n_digits).collect();
        let n_valid = digits.chars().take_while(|c| c.is_digit(radix)).count();
        let digits = digits.get(..n_valid).unwrap_or_default();
        let number = u32::from_str_radix(digits, radix).map_err(|_none| unknown())?;
        self.advance(n_valid);
        if kind == 'u' {
            let shown = char::from_u32(number).filter(|_| n_valid == n_digits);
            let shown = shown.ok_or_else(unknown)?;
            bytes.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            bytes.push(u8::try_from(number).map_err(|_large| unknown())?);
        }
        Ok(())
    }
}
