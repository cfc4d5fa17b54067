//! `token_pattern`: which parts of a text are tokens.

use regex::Regex;

use super::characters::{is_regex_word, is_word};
use super::expression::{OutOfSteps, Program, Steps, each_token, parse, regex};
use crate::spec_error::SpecError;

/// Finds tokens as Python's `re.findall` does.
#[derive(Debug)]
pub struct TokenPattern {
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Runs of word characters, at least so many of them.
    Words { chars_min: usize },
    /// Any pattern.
    Pattern {
        program: Program,
        /// What finds the same, each token in time linear in the text, where there is such a thing.
        linear: Option<Linear>,
    },
}

#[derive(Debug)]
struct Linear {
    regex: Regex,
    /// Whether a group of it is the token.
    has_group: bool,
    /// Whether it asks for word boundaries, which are Python's in some texts only.
    has_boundaries: bool,
}

impl TokenPattern {
    /// Returns a finder of what `python` matches.
    ///
    /// # Errors
    /// [`SpecError`] for patterns that are no Python, have several groups, or hold what is not supported (names of
    /// characters, locales).
    pub fn try_new(python: &str) -> Result<Self, SpecError> {
        let form = match python.strip_prefix("(?u)").unwrap_or(python) {
            r"\b\w\w+\b" => Form::Words { chars_min: 2 },
            r"\b\w+\b" | r"\w+" => Form::Words { chars_min: 1 },
            _ => general(python)?,
        };
        Ok(Self { form })
    }

    /// Calls `token` with each token of `text`, in order.
    ///
    /// # Errors
    /// [`OutOfSteps`] if the search goes back and forth too much.
    pub(super) fn each<'t>(
        &self,
        text: &'t str,
        steps: &mut Steps,
        mut token: impl FnMut(&'t str),
    ) -> Result<(), OutOfSteps> {
        let (program, linear) = match &self.form {
            Form::Words { chars_min } => {
                each_word(text, *chars_min, token);
                return Ok(());
            }
            Form::Pattern { program, linear } => (program, linear),
        };
        let Some(linear) = linear.as_ref().filter(|linear| linear.can_search(text)) else {
            return each_token(program, text, steps, token);
        };
        if linear.has_group {
            for captures in linear.regex.captures_iter(text) {
                token(captures.get(1).map_or("", |group| group.as_str()));
            }
        } else {
            for found in linear.regex.find_iter(text) {
                token(found.as_str());
            }
        }
        Ok(())
    }
}

impl Linear {
    fn can_search(&self, text: &str) -> bool {
        let is_disputed = |c: char| !c.is_ascii() && is_word(c) != is_regex_word(c);
        !self.has_boundaries || text.is_ascii() || !text.chars().any(is_disputed)
    }
}

fn general(python: &str) -> Result<Form, SpecError> {
    let refuse =
        |why: &str| SpecError::new(format!("token_pattern {python:?}: {why} is not supported"));
    let parsed = parse(python).map_err(|why| refuse(&why))?;
    if parsed.n_groups > 1 {
        return Err(refuse("more than one capturing group"));
    }
    let linear = regex(&parsed).map(|regex| Linear {
        regex,
        has_group: parsed.n_groups == 1,
        has_boundaries: parsed.has_boundaries(),
    });
    Ok(Form::Pattern {
        program: Program::new(&parsed),
        linear,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        let mut tokens = Vec::new();
        TokenPattern::try_new(pattern)
            .unwrap()
            .each(text, &mut Steps::default(), |token| tokens.push(token))
            .unwrap();
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
    fn what_is_not_supported_is_named() {
        let cases = [
            (r"(a)(b)", "more than one capturing group"),
            (r"\N{DASH}+", r"'\N'"),
            (r"(?L)\w+", "the flag 'L'"),
            (r"(?<=a*)b", "a look behind of no one width"),
            (r"(\2)", "the group '2', which is not there"),
            ("(a", "an open group"),
            ("[a", "an open class"),
            ("a)", "an unbalanced ')'"),
        ];
        for (pattern, why) in cases {
            let error = TokenPattern::try_new(pattern).unwrap_err().to_string();
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_search_ends_whatever_the_text() {
        let text = "a".repeat(5000);
        let costly = TokenPattern::try_new(r"(?=(?:a+)+b)\w").unwrap();
        assert_eq!(
            costly.each(&text, &mut Steps::default(), |_| ()),
            Err(OutOfSteps)
        );
        // What Python would not end either, but the regex crate does.
        let linear = TokenPattern::try_new("(?:a+)+b").unwrap();
        assert_eq!(linear.each(&text, &mut Steps::default(), |_| ()), Ok(()));
    }
}
