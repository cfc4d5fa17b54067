//! A text to its terms: lower case, accents, tokens, stop words, n-grams.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::RangeInclusive;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

use super::characters::is_space;
use super::expression::{OutOfSteps, Steps};
use super::stop_words;
use super::token_pattern::TokenPattern;

/// What happens to accents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accents {
    /// They stay.
    Keep,
    /// Combining marks go, after compatibility decomposition.
    StripUnicode,
    /// The same, but of texts that are decomposed already.
    StripComposed,
    /// Everything beyond ASCII goes, after compatibility decomposition.
    StripToAscii,
}

/// What terms are made of.
#[derive(Debug)]
pub enum Unit {
    /// Tokens.
    Words {
        /// What a token is.
        pattern: TokenPattern,
        /// What is left out.
        stop_words: StopWords,
    },
    /// Characters.
    Characters,
    /// Characters within words, with a space at each end.
    CharactersInWords,
}

/// Tokens that are left out.
#[derive(Debug, Default)]
pub struct StopWords(HashSet<Box<str>>);

impl StopWords {
    /// Returns scikit-learn's English list.
    #[must_use]
    pub fn english() -> Self {
        stop_words::ENGLISH.into_iter().collect()
    }
}

impl<S: AsRef<str>> FromIterator<S> for StopWords {
    fn from_iter<I: IntoIterator<Item = S>>(words: I) -> Self {
        let words = words.into_iter();
        Self(words.map(|word| Box::from(word.as_ref())).collect())
    }
}

/// How a text becomes terms.
#[derive(Debug)]
pub struct Analyzer {
    /// Whether to write all in lower case first.
    pub lowercase: bool,
    /// What happens to accents, next.
    pub accents: Accents,
    /// What terms are made of.
    pub unit: Unit,
    /// How many units make a term.
    pub lengths: RangeInclusive<usize>,
}

impl Analyzer {
    /// Calls `term` with each term of `text`, in no order that matters.
    ///
    /// # Errors
    /// [`OutOfSteps`] if the search for tokens goes back and forth too much.
    pub(super) fn each_term(
        &self,
        text: &str,
        steps: &mut Steps,
        term: impl FnMut(&str),
    ) -> Result<(), OutOfSteps> {
        let text = self.prepared(text);
        match &self.unit {
            Unit::Words {
                pattern,
                stop_words,
            } => return self.words((&text, steps), pattern, stop_words, term),
            Unit::Characters => {
                let text = single_spaces(&text);
                each_window(&text, &self.lengths, term);
            }
            Unit::CharactersInWords => self.in_words(&text, term),
        }
        Ok(())
    }

    fn prepared<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let lowered = match self.lowercase {
            true if text.is_ascii() => Cow::Owned(text.to_ascii_lowercase()),
            true => Cow::Owned(text.to_lowercase()),
            false => Cow::Borrowed(text),
        };
        if self.accents == Accents::Keep || lowered.is_ascii() {
            return lowered;
        }
        if self.accents == Accents::StripComposed && lowered.nfkd().eq(lowered.chars()) {
            return lowered;
        }
        let decomposed = lowered.nfkd();
        Cow::Owned(match self.accents {
            Accents::StripToAscii => decomposed.filter(char::is_ascii).collect(),
            Accents::Keep | Accents::StripUnicode | Accents::StripComposed => decomposed
                .filter(|&character| canonical_combining_class(character) == 0)
                .collect(),
        })
    }

    fn words(
        &self,
        (text, steps): (&str, &mut Steps),
        pattern: &TokenPattern,
        StopWords(stop_words): &StopWords,
        mut term: impl FnMut(&str),
    ) -> Result<(), OutOfSteps> {
        let is_kept = |token: &str| stop_words.is_empty() || !stop_words.contains(token);
        if self.lengths == (1..=1) {
            return pattern.each(text, steps, |token| {
                if is_kept(token) {
                    term(token);
                }
            });
        }
        let mut tokens = Vec::new();
        pattern.each(text, steps, |token| {
            if is_kept(token) {
                tokens.push(token);
            }
        })?;
        let mut joined = String::new();
        for length in within(&self.lengths, tokens.len()) {
            for window in tokens.windows(length) {
                joined.clear();
                for (index, token) in window.iter().enumerate() {
                    if index > 0 {
                        joined.push(' ');
                    }
                    joined.push_str(token);
                }
                term(&joined);
            }
        }
        Ok(())
    }

    fn in_words(&self, text: &str, mut term: impl FnMut(&str)) {
        let mut padded = String::new();
        for word in text.split(is_space).filter(|word| !word.is_empty()) {
            padded.clear();
            padded.push(' ');
            padded.push_str(word);
            padded.push(' ');
            let n_chars = padded.chars().count();
            for length in self.lengths.clone() {
                if length >= n_chars {
                    // A short word counts once, whole, and ends its terms.
                    term(&padded);
                    break;
                }
                each_window(&padded, &(length..=length), &mut term);
            }
        }
    }
}

/// Replaces runs of two white spaces and more by one space.
fn single_spaces(text: &str) -> Cow<'_, str> {
    let mut previous_is_space = false;
    let has_run = text.chars().any(|character| {
        let is_run = previous_is_space && is_space(character);
        previous_is_space = is_space(character);
        is_run
    });
    if !has_run {
        return Cow::Borrowed(text);
    }
    let mut single = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if is_space(character) && characters.peek().is_some_and(|&next| is_space(next)) {
            while characters.next_if(|&next| is_space(next)).is_some() {}
            single.push(' ');
        } else {
            single.push(character);
        }
    }
    Cow::Owned(single)
}

/// Returns those of `lengths` that terms of `n_units` can have: a file may name any range.
fn within(lengths: &RangeInclusive<usize>, n_units: usize) -> RangeInclusive<usize> {
    *lengths.start().max(&1)..=*lengths.end().min(&n_units)
}

/// Calls `term` with each run of as many characters as each of `lengths`.
fn each_window(text: &str, lengths: &RangeInclusive<usize>, mut term: impl FnMut(&str)) {
    let mut ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    ends.push(text.len());
    let n_chars = ends.len() - 1;
    for length in within(lengths, n_chars) {
        for (start, end) in ends.iter().zip(&ends[length..]) {
            term(&text[*start..*end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(analyzer: &Analyzer, text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        let added = analyzer.each_term(text, &mut Steps::default(), |term| {
            terms.push(term.to_owned())
        });
        added.unwrap();
        terms
    }

    #[test]
    fn words_leave_stop_words_out_before_they_join() {
        let analyzer = Analyzer {
            lowercase: true,
            accents: Accents::StripUnicode,
            unit: Unit::Words {
                pattern: TokenPattern::try_new(r"(?u)\b\w\w+\b").unwrap(),
                stop_words: StopWords::english(),
            },
            lengths: 1..=2,
        };
        let expected = ["cafe", "open", "cafe open"];
        assert_eq!(terms(&analyzer, "The Caf\u{e9} is OPEN"), expected);
    }

    #[test]
    fn characters_run_over_single_spaces_or_within_words() {
        let characters = |unit, lengths| Analyzer {
            lowercase: false,
            accents: Accents::Keep,
            unit,
            lengths,
        };
        let over = characters(Unit::Characters, 2..=2);
        assert_eq!(terms(&over, "a \t b\nc"), ["a ", " b", "b\n", "\nc"]);
        let within = characters(Unit::CharactersInWords, 2..=4);
        let expected = [" a", "a ", " a ", " b", "bc", "c ", " bc", "bc ", " bc "];
        assert_eq!(terms(&within, "a  bc"), expected);
    }

    #[test]
    fn lengths_beyond_the_text_cost_nothing() {
        let words = Unit::Words {
            pattern: TokenPattern::try_new(r"\w+").unwrap(),
            stop_words: StopWords::default(),
        };
        let cases: [(Unit, &[&str]); 3] = [
            (words, &["a", "bc", "a bc"]),
            (
                Unit::Characters,
                &["a", " ", "b", "c", "a ", " b", "bc", "a b", " bc", "a bc"],
            ),
            (
                Unit::CharactersInWords,
                &[
                    " ", "a", " ", " a", "a ", " a ", " ", "b", "c", " ", " b", "bc", "c ", " bc",
                    "bc ", " bc ",
                ],
            ),
        ];
        for (unit, expected) in cases {
            let analyzer = Analyzer {
                lowercase: false,
                accents: Accents::Keep,
                unit,
                lengths: 1..=usize::MAX,
            };
            assert_eq!(terms(&analyzer, "a bc"), expected);
        }
    }
}
