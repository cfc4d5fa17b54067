//! `Tokenizer` of `com.microsoft`: texts to rows of tokens of one length.

use coracle_model::RunError;
use coracle_tensor::{ByteStrings, Tensor, Values};
use regex::Regex;

use super::pattern::compile;
use super::{text, texts};
use crate::error::{malformed, shape_error, unsupported};
use crate::ops::elementwise::needed;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{n_elements, tensor};

/// What a token is.
#[derive(Debug)]
enum Tokens {
    /// Every letter.
    Letters,
    /// What a pattern matches.
    Pattern(Regex),
}

#[derive(Debug)]
struct Tokenizer {
    tokens: Tokens,
    n_letters_min: usize,
    marks: bool,
    pad: Vec<u8>,
}

/// Builds the operator.
pub(crate) fn tokenizer(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let separators = attributes.texts("separators")?;
    let pattern = attributes.text("tokenexp")?;
    let tokens = match (pattern, separators) {
        (Some(pattern), []) => Tokens::Pattern(compile(pattern)?),
        (None, [b""]) => Tokens::Letters,
        (None, [_, ..]) => {
            return Err(unsupported("tokens by separators; tokenexp is supported"));
        }
        _ => return Err(malformed("one of 'tokenexp' and 'separators' is needed")),
    };
    if attributes.has("stopwords") && !attributes.texts("stopwords")?.is_empty() {
        return Err(unsupported("stopwords of Tokenizer"));
    }
    let least = attributes.int("mincharnum")?.unwrap_or(1);
    let tokenizer = Tokenizer {
        tokens,
        n_letters_min: usize::try_from(least).unwrap_or(0),
        marks: attributes.flag("mark", false)?,
        pad: attributes.text("pad_value")?.unwrap_or_default().to_vec(),
    };
    function(tokenizer, tokenize)
}

fn tokenize(tokenizer: &Tokenizer, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    if !matches!(input.shape(), [_] | [_, _]) {
        return Err(shape_error(format!(
            "shape {:?}, [n] or [rows, n] is taken",
            input.shape()
        )));
    }
    let mut rows = Vec::with_capacity(input.values().len());
    for bytes in texts(input)?.iter() {
        let text = text(bytes)?;
        rows.push(match &tokenizer.tokens {
            Tokens::Letters => {
                let mut letters: Vec<&str> = text.split("").collect();
                letters.retain(|letter| !letter.is_empty());
                letters
            }
            Tokens::Pattern(pattern) => matches(pattern, text, tokenizer.n_letters_min),
        });
    }
    let n_marks = if tokenizer.marks { 2 } else { 0 };
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = if longest == 0 { 0 } else { longest + n_marks };
    let mut shape = input.shape().to_vec();
    shape.push(width);
    n_elements(&shape)?;
    let mut all = ByteStrings::new();
    for row in rows.iter().filter(|_| width > 0) {
        if tokenizer.marks {
            all.push(b"\x02");
        }
        row.iter().for_each(|token| all.push(token.as_bytes()));
        if tokenizer.marks {
            all.push(b"\x03");
        }
        (row.len()..longest).for_each(|_| all.push(&tokenizer.pad));
    }
    Ok(vec![tensor(shape, Values::Bytes(all))?])
}

/// Returns what the pattern matches, one after another. After a match that is too short the search goes on one letter
/// after its start.
fn matches<'t>(pattern: &Regex, text: &'t str, n_letters_min: usize) -> Vec<&'t str> {
    let mut tokens = Vec::new();
    let mut from = 0;
    while let Some(found) = pattern.find_at(text, from) {
        let token = found.as_str();
        if !token.is_empty() && token.chars().count() >= n_letters_min {
            tokens.push(token);
            from = found.end();
        } else {
            match text[found.start()..].chars().next() {
                Some(letter) => from = found.start() + letter.len_utf8(),
                None => break,
            }
        }
    }
    tokens
}
