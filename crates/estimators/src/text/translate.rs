//! Python's regular expressions in the regex crate's language, where both mean the same.

use super::characters::{SPACE, WORD};

/// A pattern in the regex crate's language.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) pattern: String,
    /// Whether it asks for word boundaries.
    pub(super) has_boundaries: bool,
    /// Whether all characters that it names are ASCII.
    pub(super) is_ascii: bool,
}

/// Translates a pattern.
///
/// # Errors
/// What it holds that has no equivalent.
pub(super) fn translate(python: &str) -> Result<Translated, String> {
    // Python 3 matches texts by Unicode anyway.
    let body = python.strip_prefix("(?u)").unwrap_or(python);
    let mut translator = Translator {
        rest: body.chars().collect(),
        at: 0,
        out: Translated {
            pattern: String::with_capacity(body.len()),
            has_boundaries: false,
            is_ascii: body.is_ascii(),
        },
    };
    while let Some(character) = translator.next() {
        translator.item(character)?;
    }
    Ok(translator.out)
}

struct Translator {
    rest: Vec<char>,
    at: usize,
    out: Translated,
}

/// One member of a class.
enum Member {
    Character(char),
    /// Text of the regex crate's language.
    Set(String),
}

impl Translator {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += 1;
        Some(character)
    }

    fn takes(&mut self, text: &str) -> bool {
        let wanted: Vec<char> = text.chars().collect();
        let found = self.rest[self.at..].starts_with(&wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    fn push(&mut self, text: &str) {
        self.out.pattern.push_str(text);
    }

    fn literal(&mut self, character: char) {
        let escaped = escaped(character);
        self.push(&escaped);
    }

    fn item(&mut self, character: char) -> Result<(), String> {
        match character {
            '\\' => self.escape()?,
            '[' => self.class()?,
            '(' if self.takes("?:") => self.push("(?:"),
            '(' if self.takes("?P<") => self.push("(?P<"),
            '(' if self.peek() == Some('?') => {
                return Err("look-around, flags and conditions".to_owned());
            }
            '*' | '+' | '?' => self.repetition(&character.to_string())?,
            '{' => self.braces()?,
            '$' => return Err("'$'".to_owned()),
            '(' | ')' | '|' | '.' | '^' => self.out.pattern.push(character),
            // The rest of a group's name.
            _ if self.out.pattern.ends_with("(?P<") => {
                self.out.pattern.push(character);
                while let Some(next) = self.next() {
                    self.out.pattern.push(next);
                    if next == '>' {
                        break;
                    }
                }
            }
            literal => self.literal(literal),
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let character = self.next().ok_or("a lone backslash")?;
        match character {
            'b' | 'B' => {
                self.out.has_boundaries = true;
                self.push(if character == 'b' { r"\b" } else { r"\B" });
            }
            _ => match member(character)? {
                Member::Character(literal) => self.literal(literal),
                Member::Set(set) => self.push(&format!("[{set}]")),
            },
        }
        Ok(())
    }

    /// Ends a repetition: greedy, or lazy with a question mark.
    fn repetition(&mut self, text: &str) -> Result<(), String> {
        self.push(text);
        match self.peek() {
            Some('?') => {
                self.at += 1;
                self.push("?");
                Ok(())
            }
            Some('+') => Err("possessive repetition".to_owned()),
            _ => Ok(()),
        }
    }

    /// Reads `{m}`, `{m,}`, `{,n}` or `{m,n}`; anything else in braces is literal, as in Python.
    fn braces(&mut self) -> Result<(), String> {
        let body: String = self.rest[self.at..]
            .iter()
            .take_while(|&&character| character != '}')
            .collect();
        let is_closed = self.rest.get(self.at + body.chars().count()) == Some(&'}');
        let is_number = |text: &str| text.chars().all(|digit| digit.is_ascii_digit());
        let bounds = match body.split_once(',') {
            Some((low, high)) if is_number(low) && is_number(high) && body.len() > 1 => {
                let low = if low.is_empty() { "0" } else { low };
                Some(format!("{{{low},{high}}}"))
            }
            None if is_number(&body) && !body.is_empty() => Some(format!("{{{body}}}")),
            _ => None,
        };
        match bounds.filter(|_| is_closed) {
            Some(bounds) => {
                self.at += body.len() + 1;
                self.repetition(&bounds)
            }
            None => {
                self.literal('{');
                Ok(())
            }
        }
    }

    fn class(&mut self) -> Result<(), String> {
        self.push("[");
        if self.takes("^") {
            self.push("^");
        }
        let mut is_first = true;
        loop {
            let character = self.next().ok_or("an open class")?;
            if character == ']' && !is_first {
                break;
            }
            is_first = false;
            let start = match self.class_member(character)? {
                Member::Set(set) => {
                    self.push(&set);
                    continue;
                }
                Member::Character(start) => start,
            };
            let is_range = self.peek() == Some('-')
                && self.rest.get(self.at + 1).is_some_and(|&next| next != ']');
            self.literal(start);
            if is_range {
                self.at += 1;
                let end = self.next().ok_or("an open class")?;
                let Member::Character(end) = self.class_member(end)? else {
                    return Err("a range to a class".to_owned());
                };
                self.push("-");
                self.literal(end);
            }
        }
        self.push("]");
        Ok(())
    }

    fn class_member(&mut self, character: char) -> Result<Member, String> {
        match character {
            '\\' => member(self.next().ok_or("a lone backslash")?),
            literal => Ok(Member::Character(literal)),
        }
    }
}

/// Returns what an escaped character stands for, inside or outside a class.
fn member(character: char) -> Result<Member, String> {
    Ok(match character {
        'w' => Member::Set(WORD.to_owned()),
        'W' => Member::Set(format!("[^{WORD}]")),
        'd' => Member::Set(r"\p{Nd}".to_owned()),
        'D' => Member::Set(r"\P{Nd}".to_owned()),
        's' => Member::Set(SPACE.to_owned()),
        'S' => Member::Set(format!("[^{SPACE}]")),
        'n' => Member::Character('\n'),
        't' => Member::Character('\t'),
        'r' => Member::Character('\r'),
        'f' => Member::Character('\x0c'),
        'v' => Member::Character('\x0b'),
        _ if character.is_ascii_punctuation() || character == ' ' => Member::Character(character),
        _ => return Err(format!("'\\{character}'")),
    })
}

fn escaped(character: char) -> String {
    match character.is_ascii_alphanumeric() {
        true => character.to_string(),
        false => format!("\\x{{{:x}}}", u32::from(character)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_refused() {
        for pattern in [
            r"(?=x)a", r"(?i)a", r"a$", r"a++", r"(a)\1", r"\Aa", r"a{2}+", "[a",
        ] {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn the_rest_compiles() {
        let cases = [
            r"(?u)\b\w\w+\b",
            r"[^\W\d_]+",
            r"[]a]+",
            r"[a-z\-]{2,}?",
            r"a{x}",
            r"(?P<token>[a-z]+)|x",
            r"[\w-]+",
            r"\.{,3}a",
            r"[&&~~|-]+x",
            r"[[:alpha:]]+",
        ];
        for pattern in cases {
            let translated = translate(pattern).unwrap();
            let compiled = regex::Regex::new(&translated.pattern);
            assert!(compiled.is_ok(), "{pattern}: {compiled:?}");
        }
    }
}
