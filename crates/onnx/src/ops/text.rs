//! Texts: normalising, tokens, n-grams.

mod n_grams;
mod pattern;
mod tokens;

use coracle_model::RunError;
use coracle_tensor::{ByteStrings, Tensor, Values};

use crate::error::{dtype_error, shape_error, unsupported};
use crate::file::shown;
use crate::locale::has_plain_case;
use crate::ops::elementwise::needed;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::tensor;

pub(crate) use tokens::tokenizer;

/// Builds an operator of this family.
pub(crate) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    Some(match name {
        "StringNormalizer" => normalizer(build),
        "TfIdfVectorizer" => n_grams::vectorizer(build),
        _ => return None,
    })
}

/// Returns the strings of a tensor.
fn texts(input: &Tensor) -> Result<&ByteStrings, RunError> {
    match input.values() {
        Values::Bytes(texts) => Ok(texts),
        other => Err(dtype_error(format!(
            "BYTES are needed, got {}",
            other.dtype()
        ))),
    }
}

/// Returns a string as text.
fn text(bytes: &[u8]) -> Result<&str, RunError> {
    str::from_utf8(bytes)
        .map_err(|_invalid| crate::error::value_error("a string that is not UTF-8"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Keep,
    Lower,
    Upper,
}

impl Case {
    /// Changes letter by letter, one letter for one, as C does.
    fn apply(self, text: &str) -> String {
        match self {
            Self::Keep => text.to_owned(),
            Self::Lower => text
                .chars()
                .map(|letter| letter.to_lowercase().next().unwrap_or(letter))
                .collect(),
            Self::Upper => text
                .chars()
                .map(|letter| {
                    let mut upper = letter.to_uppercase();
                    match (upper.next(), upper.next()) {
                        (Some(upper), None) => upper,
                        _ => letter,
                    }
                })
                .collect(),
        }
    }
}

#[derive(Debug)]
struct Normalizer {
    case: Case,
    stopwords: Vec<String>,
    is_case_sensitive: bool,
}

fn normalizer(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let locale = attributes.word("locale", "en_US")?;
    if !has_plain_case(locale) {
        let message = "letters do not change case by Unicode's rules in locale";
        return Err(unsupported(format!("{message} '{}'", shown(locale))));
    }
    let case = match attributes.word("case_change_action", "NONE")? {
        "NONE" => Case::Keep,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => return Err(unsupported(format!("case_change_action '{other}'"))),
    };
    let is_case_sensitive = attributes.flag("is_case_sensitive", false)?;
    let stopwords = attributes.texts("stopwords")?.iter().map(|word| {
        let word = String::from_utf8_lossy(word);
        match is_case_sensitive {
            true => word.into_owned(),
            false => Case::Lower.apply(&word),
        }
    });
    let normalizer = Normalizer {
        case,
        stopwords: stopwords.collect(),
        is_case_sensitive,
    };
    function(normalizer, normalize)
}

fn normalize(normalizer: &Normalizer, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let is_row = match input.shape() {
        [_] => false,
        [1, _] => true,
        shape => {
            return Err(shape_error(format!(
                "shape {shape:?}, [n] or [1, n] is taken"
            )));
        }
    };
    let mut kept = ByteStrings::new();
    for bytes in texts(input)?.iter() {
        let text = text(bytes)?;
        let is_stopword = match normalizer.is_case_sensitive {
            _ if normalizer.stopwords.is_empty() => false,
            true => normalizer.stopwords.iter().any(|word| word == text),
            false => normalizer.stopwords.contains(&Case::Lower.apply(text)),
        };
        if !is_stopword {
            kept.push(normalizer.case.apply(text).as_bytes());
        }
    }
    // Nothing left is given as one empty string.
    if kept.is_empty() && !input.values().is_empty() {
        kept.push(b"");
    }
    let shape = match is_row {
        true => vec![1, kept.len()],
        false => vec![kept.len()],
    };
    Ok(vec![tensor(shape, Values::Bytes(kept))?])
}
