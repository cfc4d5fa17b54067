//! Patterns of RE2, which ONNX Runtime matches with, in the syntax of `regex`.
//!
//! Both come from one tradition and prefer the same matches. They differ in what `\w`, `\d` and `\s` hold (ASCII in RE2) and in
//! what stands in brackets; the former are written out, and what might mean something else in brackets is refused.

use coracle_model::LoadError;
use regex::{Regex, RegexBuilder};

use crate::error::{malformed, unsupported};

/// The longest pattern.
const BYTES_MAX: usize = 1 << 16;
/// The most memory that a compiled pattern takes.
const COMPILED_BYTES_MAX: usize = 16 << 20;

/// Compiles a pattern.
pub(super) fn compile(pattern: &[u8]) -> Result<Regex, LoadError> {
    if pattern.len() > BYTES_MAX {
        return Err(unsupported(format!(
            "a pattern of more than {BYTES_MAX} bytes"
        )));
    }
    let pattern = str::from_utf8(pattern)
        .map_err(|error| malformed("a pattern that is not UTF-8").with_source(error))?;
    RegexBuilder::new(&translate(pattern)?)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| unsupported(format!("pattern {pattern:?}")).with_source(error))
}

fn translate(pattern: &str) -> Result<String, LoadError> {
    let refused = || unsupported(format!("pattern {pattern:?}"));
    let mut translated = String::with_capacity(pattern.len());
    let mut letters = pattern.chars().peekable();
    let mut in_brackets = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                let escaped = letters.next().ok_or_else(refused)?;
                translated.push_str(&escape(escaped, in_brackets).ok_or_else(refused)?);
                continue;
            }
            '[' if in_brackets => return Err(refused()),
            '[' => {
                in_brackets = true;
                translated.push('[');
                if letters.next_if_eq(&'^').is_some() {
                    translated.push('^');
                }
                // What comes first in brackets is no end of them.
                if letters.next_if_eq(&']').is_some() {
                    translated.push_str(r"\]");
                }
                continue;
            }
            ']' => in_brackets = false,
            '&' | '~' if in_brackets => return Err(refused()),
            '-' if in_brackets && letters.peek() == Some(&'-') => return Err(refused()),
            _ => {}
        }
        translated.push(letter);
    }
    Ok(translated)
}

/// Returns what stands for a letter after a backslash; `None` for what is not known to mean the same.
fn escape(letter: char, in_brackets: bool) -> Option<String> {
    let class = match letter {
        'w' | 'W' => "0-9A-Za-z_",
        'd' | 'D' => "0-9",
        's' | 'S' => r"\t\n\f\r ",
        'b' if !in_brackets => return Some(r"(?-u:\b)".to_owned()),
        'n' | 't' | 'r' | 'f' | 'v' => return Some(format!("\\{letter}")),
        letter if letter.is_ascii_punctuation() => return Some(format!("\\{letter}")),
        _ => return None,
    };
    match (letter.is_ascii_lowercase(), in_brackets) {
        (true, true) => Some(class.to_owned()),
        (true, false) => Some(format!("[{class}]")),
        (false, false) => Some(format!("[^{class}]")),
        (false, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ascii() {
        let pattern = compile(br"\w+").unwrap();
        assert_eq!(pattern.find("é naïve").unwrap().as_str(), "na");
        let pattern = compile(br"[\w-]+\b").unwrap();
        assert_eq!(pattern.find("é a-b,").unwrap().as_str(), "a-b");
    }

    #[test]
    fn what_may_mean_something_else_is_refused() {
        for pattern in [
            r"[a&&b]",
            r"[a[b]]",
            r"[[:alpha:]]",
            r"\pL",
            r"[\W]",
            "[a--b]",
            "(",
            "\\",
        ] {
            assert!(compile(pattern.as_bytes()).is_err(), "{pattern}");
        }
    }
}
