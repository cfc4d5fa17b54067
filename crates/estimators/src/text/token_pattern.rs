//! `token_pattern`: which parts of a text are tokens.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::characters::{is_regex_word, is_word};
use super::translate::translate;
use crate::spec_error::SpecError;

/// Finds tokens as Python's `re.findall` does, in time linear in the text.
#[derive(Debug)]
pub struct TokenPattern {
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Runs of word characters, at least so many of them.
    Words { chars_min: usize },
    /// A pattern, and whether a group of it is the token.
    Pattern {
        regex: Regex,
        has_group: bool,
        has_boundaries: bool,
    },
}

/// A compiled pattern may take so many bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

impl TokenPattern {
    /// Returns a finder of what `python` matches.
    ///
    /// # Errors
    /// [`SpecError`] for patterns that the regex crate cannot follow exactly.
    pub fn try_new(python: &str) -> Result<Self, SpecError> {
        let form = match python.strip_prefix("(?u)").unwrap_or(python) {
            r"\b\w\w+\b" => Form::Words { chars_min: 2 },
            r"\b\w+\b" | r"\w+" => Form::Words { chars_min: 1 },
            _ => general(python)?,
        };
        Ok(Self { form })
    }

    /// Calls `token` with each token of `text`, in order.
    pub(super) fn each<'t>(&self, text: &'t str, mut token: impl FnMut(&'t str)) {
        match &self.form {
            Form::Words { chars_min } => each_word(text, *chars_min, token),
            Form::Pattern {
                regex,
                has_group,
                has_boundaries,
            } => {
                let seen = match has_boundaries {
                    true => with_pythons_words(text),
                    false => Cow::Borrowed(text),
                };
                if *has_group {
                    for captures in regex.captures_iter(&seen) {
                        let group = captures.get(1).map_or(0..0, |group| group.range());
                        token(&text[group]);
                    }
                } else {
                    for found in regex.find_iter(&seen) {
                        token(&text[found.range()]);
                    }
                }
            }
        }
    }
}

fn general(python: &str) -> Result<Form, SpecError> {
    let refuse = |why: &str| {
        SpecError::new(format!(
            "token_pattern {python:?}: {why} cannot be followed exactly"
        ))
    };
    let translated = translate(python).map_err(|why| refuse(&why))?;
    if translated.has_boundaries && !translated.is_ascii {
        return Err(refuse("word boundaries beside characters beyond ASCII"));
    }
    let parsed = regex_syntax::parse(&translated.pattern)
        .map_err(|error| refuse(&format!("it ({error})")))?;
    // Python finds empty matches where the regex crate does not.
    if parsed.properties().minimum_len().unwrap_or(0) == 0 {
        return Err(refuse("a pattern that matches nothing"));
    }
    let n_groups = parsed.properties().explicit_captures_len();
    if n_groups > 1 {
        return Err(refuse("more than one group"));
    }
    let regex = RegexBuilder::new(&translated.pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| refuse(&format!("it ({error})")))?;
    Ok(Form::Pattern {
        regex,
        has_group: n_groups == 1,
        has_boundaries: translated.has_boundaries,
    })
}

fn each_word<'t>(text: &'t str, chars_min: usize, mut token: impl FnMut(&'t str)) {
    let mut start = 0;
    let mut n_chars = 0;
    for (at, character) in text.char_indices() {
        if is_word(character) {
            if n_chars == 0 {
                start = at;
            }
            n_chars += 1;
            continue;
        }
        if n_chars >= chars_min {
            token(&text[start..at]);
        }
        n_chars = 0;
    }
    if n_chars >= chars_min {
        token(&text[start..]);
    }
}

/// Returns a text of the same length in which the regex crate sees word boundaries where Python sees them in `text`.
///
/// Characters that only one of them takes for parts of words are replaced by others that no class of the
/// pattern, which names none beyond ASCII, tells from them.
fn with_pythons_words(text: &str) -> Cow<'_, str> {
    let disputed = |c: char| !c.is_ascii() && is_word(c) != is_regex_word(c);
    if !text.chars().any(disputed) {
        return Cow::Borrowed(text);
    }
    let stand_in = |c: char| match (disputed(c), is_word(c), c.len_utf8()) {
        (false, ..) => c,
        (true, true, 2) => '\u{aa}',
        (true, true, 3) => '\u{3042}',
        (true, true, _) => '\u{20000}',
        (true, false, 2) => '\u{a1}',
        (true, false, 3) => '\u{2010}',
        (true, false, _) => '\u{1f600}',
    };
    Cow::Owned(text.chars().map(stand_in).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        let mut tokens = Vec::new();
        TokenPattern::try_new(pattern)
            .unwrap()
            .each(text, |token| tokens.push(token));
        tokens
    }

    #[test]
    fn tokens_are_pythons() {
        // From Python's re.findall.
        let hindi = "\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}";
        let cases: [(&str, &str, &[&str]); 8] = [
            (
                r"(?u)\b\w\w+\b",
                "a bc d_e!f x\u{b2}",
                &["bc", "d_e", "x\u{b2}"],
            ),
            (r"\b\w\w+\b", hindi, &["\u{928}\u{92e}\u{938}"]),
            (
                r"\b[^\d\W]+\b",
                hindi,
                &["\u{928}\u{92e}\u{938}", "\u{924}"],
            ),
            (r"\b[a-z]+\b", "ab\u{b2} cd\u{94d}e", &["cd", "e"]),
            (r"[a-z]+(?:'[a-z]+)?", "don't stop", &["don't", "stop"]),
            (r"([a-z]+)=", "a=1 bc=2 d", &["a", "bc"]),
            (r"\S+", "a\u{1c}b c\u{a0}d", &["a", "b", "c", "d"]),
            (r"(?:(a)|b)+x", "bx", &[""]),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(tokens(pattern, text), expected, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        for pattern in [r"\w*", r"\b", r"(a)(b)", "\\b\u{e9}+\\b", r"\w{9999}{9999}"] {
            assert!(TokenPattern::try_new(pattern).is_err(), "{pattern}");
        }
    }
}
