//! The tokeniser: `tokenizer.json`, read with bounds, and texts to numbers of tokens.
//!
//! The reader of the file and the tokeniser are Hugging Face's own, which trust their file: what could cost them without bound is
//! looked at before, padding is not left to them, and a panic of theirs is an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use coracle_model::{LoadError, LoadErrorKind, RunError, RunErrorKind};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokenizers::{
    EncodeInput, Encoding, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy,
};

use crate::settings::{Limits, Side};
use crate::trust::{check_pieces, check_steps, check_word_letters};

/// The largest file that is read: those of the largest vocabularies are half of it.
pub(crate) const FILE_BYTES_MAX: usize = 64 << 20;
/// The deepest that brackets of the file may lie in each other; the kinds of the reader try several readings for each.
const DEPTH_MAX: usize = 12;
/// The largest text.
const TEXT_BYTES_MAX: usize = 1 << 18;
/// The most tokens of a text, whatever the files allow: what graphs make of them may grow with their square.
const TOKENS_MAX: usize = 1 << 15;
/// What a tokeniser takes in memory for each byte of its file: vocabularies are kept both ways, and their words once more as automata.
const MEMORY_PER_FILE_BYTE: usize = 20;

/// A tokeniser.
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    /// Whether it is kept where tokens come from.
    keeps_places: bool,
    /// The token that stands for what is not known.
    unknown: Option<u32>,
    memory_bytes: usize,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}

/// The tokens of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) ids: Vec<u32>,
    pub(crate) type_ids: Vec<u32>,
    /// Where the tokens come from, if that is kept.
    pub(crate) places: Vec<Place>,
}

/// Where a token comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its first letter in the text.
    pub(crate) start: usize,
    /// The letter behind it.
    pub(crate) end: usize,
    /// The token; of one that is not known, what the text has.
    pub(crate) word: String,
    /// Whether it is the tokeniser's own.
    pub(crate) is_special: bool,
}

/// What is read of the file beside the tokeniser itself.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Head {
    #[serde(default)]
    pub(crate) truncation: Option<Truncation>,
    #[serde(default)]
    pub(crate) padding: Option<Padding>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    model: Option<ModelHead>,
}

#[derive(Debug, Deserialize)]
struct ModelHead {
    #[serde(default)]
    dropout: Option<IgnoredAny>,
    #[serde(default)]
    max_input_chars_per_word: Option<u64>,
}

/// How texts are cut short, as the file has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Truncation {
    pub(crate) max_length: u64,
    #[serde(default)]
    pub(crate) direction: Option<Side>,
}

/// How texts are padded, as the file has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Padding {
    #[serde(default)]
    pub(crate) direction: Option<Side>,
    #[serde(default)]
    pub(crate) pad_id: u32,
    #[serde(default)]
    pub(crate) pad_type_id: u32,
    #[serde(default)]
    pub(crate) pad_token: Option<String>,
}

impl Head {
    /// Reads what is needed to make sense of the other files.
    ///
    /// # Errors
    /// Kind `Malformed` if the file is no JSON of a tokeniser, `LimitExceeded` if it is nested too deeply or asks for too much,
    /// `Unsupported` where its tokens are chosen at random.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        if depth(bytes) > DEPTH_MAX {
            let message = format!("it is nested deeper than {DEPTH_MAX}");
            return Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
        }
        let head: Self = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
        let model = head.model.as_ref();
        if model.is_some_and(|model| model.dropout.is_some()) {
            let message = "its tokens are chosen at random (model.dropout)";
            return Err(LoadError::new(LoadErrorKind::Unsupported, message));
        }
        check_steps([&head.normalizer, &head.pre_tokenizer])?;
        check_pieces(&head.post_processor)?;
        check_word_letters(model.and_then(|model| model.max_input_chars_per_word))?;
        Ok(head)
    }
}

/// Returns how deep brackets lie in each other; texts are passed over.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => loop {
                match rest.next() {
                    Some(b'\\') => drop(rest.next()),
                    Some(b'"') | None => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    deepest
}

impl Tokens {
    /// Makes a tokeniser that cuts texts short as `limits` say.
    ///
    /// # Errors
    /// Kind `Malformed` where the file is no sound tokeniser, `Unsupported` where its own tokens leave no room for a text's.
    pub(crate) fn read(
        bytes: &[u8],
        limits: &Limits,
        takes_pairs: bool,
    ) -> Result<Self, LoadError> {
        let read = catch_unwind(|| Tokenizer::from_bytes(bytes));
        let mut tokenizer = read
            .map_err(|_panic| LoadError::new(LoadErrorKind::Malformed, "it contradicts itself"))?
            .map_err(|error| malformed(error.as_ref()))?;
        let _padding = tokenizer.with_padding(None);
        let truncation = match limits.n_tokens_max {
            None => None,
            Some(n_tokens_max) => {
                use tokenizers::PostProcessor as _;
                let own = tokenizer.get_post_processor();
                let n_own = own.map_or(0, |own| own.added_tokens(takes_pairs));
                if n_tokens_max <= n_own {
                    let message = format!(
                        "texts may have {n_tokens_max} tokens, of which {n_own} are the tokeniser's own"
                    );
                    return Err(LoadError::new(LoadErrorKind::Unsupported, message));
                }
                Some(TruncationParams {
                    max_length: n_tokens_max,
                    stride: 0,
                    strategy: TruncationStrategy::LongestFirst,
                    direction: match limits.cut_side {
                        Side::Left => TruncationDirection::Left,
                        Side::Right => TruncationDirection::Right,
                    },
                })
            }
        };
        tokenizer
            .with_truncation(truncation)
            .map_err(|error| malformed(error.as_ref()))?;
        Ok(Self {
            tokenizer,
            keeps_places: false,
            unknown: None,
            memory_bytes: bytes.len().saturating_mul(MEMORY_PER_FILE_BYTE),
        })
    }

    /// Returns it as one that keeps where tokens come from; `unknown` is the token that stands for what is not known.
    pub(crate) fn with_places(mut self, unknown: Option<&str>) -> Self {
        self.keeps_places = true;
        self.unknown = unknown.and_then(|unknown| self.id_of(unknown));
        self
    }

    /// Returns tokens as the text that they are of.
    pub(crate) fn words(&self, tokens: Vec<String>) -> String {
        use tokenizers::Decoder as _;
        let plain = || tokens.join(" ");
        let Some(decoder) = self.tokenizer.get_decoder() else {
            return plain();
        };
        let decode = || decoder.decode(tokens.clone());
        let decoded = catch_unwind(AssertUnwindSafe(decode));
        match decoded {
            Ok(Ok(words)) => words,
            _ => plain(),
        }
    }

    /// Returns the number of a token.
    pub(crate) fn id_of(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Returns the tokens of the text at `index` of a request.
    ///
    /// # Errors
    /// Kind `ValueOutOfRange` for a text that is too long, `UnknownValue` for one that the tokeniser does not take.
    pub(crate) fn encode(&self, text: &str, index: usize) -> Result<Encoded, RunError> {
        check_length(text, index)?;
        self.encode_input(text.into(), text, index)
    }

    /// Returns the tokens of the two texts at `index` of a request; the longer is cut short first.
    ///
    /// # Errors
    /// As [`Tokens::encode`].
    pub(crate) fn encode_pair(
        &self,
        text: &str,
        pair: &str,
        index: usize,
    ) -> Result<Encoded, RunError> {
        check_length(text, index)?;
        check_length(pair, index)?;
        self.encode_input((text, pair).into(), text, index)
    }

    fn encode_input(
        &self,
        input: EncodeInput<'_>,
        text: &str,
        index: usize,
    ) -> Result<Encoded, RunError> {
        let encode = || match self.keeps_places {
            true => self.tokenizer.encode_char_offsets(input, true),
            false => self.tokenizer.encode_fast(input, true),
        };
        let encoded = catch_unwind(AssertUnwindSafe(encode)).map_err(|_panic| {
            let message = format!("text {index}: the tokeniser failed on it");
            RunError::new(RunErrorKind::Internal, message)
        })?;
        let encoded = encoded.map_err(|error| {
            let message = format!("text {index}: the tokeniser does not take it: {error}");
            RunError::new(RunErrorKind::UnknownValue, message)
        })?;
        let n_tokens = encoded.len();
        if n_tokens > TOKENS_MAX {
            let message =
                format!("text {index} has {n_tokens} tokens, at most {TOKENS_MAX} are taken");
            return Err(RunError::new(RunErrorKind::ValueOutOfRange, message));
        }
        let places = match self.keeps_places {
            true => self.places(text, &encoded),
            false => Vec::new(),
        };
        Ok(Encoded {
            ids: encoded.get_ids().to_vec(),
            type_ids: encoded.get_type_ids().to_vec(),
            places,
        })
    }

    fn places(&self, text: &str, encoded: &Encoding) -> Vec<Place> {
        let letters: Vec<(usize, char)> = text.char_indices().collect();
        let byte = |letter: usize| letters.get(letter).map_or(text.len(), |(byte, _)| *byte);
        let tokens = encoded.get_tokens().iter().zip(encoded.get_ids());
        let marks = encoded.get_offsets().iter();
        let marks = marks.zip(encoded.get_special_tokens_mask());
        let places = tokens.zip(marks);
        let places = places.map(|((token, id), (&(start, end), &special))| Place {
            start,
            end,
            word: match Some(*id) == self.unknown {
                true => text
                    .get(byte(start)..byte(end))
                    .unwrap_or_default()
                    .to_owned(),
                false => token.clone(),
            },
            is_special: special != 0,
        });
        places.collect()
    }

    /// Returns about what the tokeniser takes in memory, which it does not tell.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

fn check_length(text: &str, index: usize) -> Result<(), RunError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!(
            "text {index} has {} bytes, at most {TEXT_BYTES_MAX} are taken",
            text.len()
        );
        return Err(RunError::new(RunErrorKind::ValueOutOfRange, message));
    }
    Ok(())
}

fn malformed(error: &(dyn std::error::Error + '_)) -> LoadError {
    let text: String = error.to_string().chars().take(300).collect();
    LoadError::new(
        LoadErrorKind::Malformed,
        format!("no sound tokeniser: {text}"),
    )
}

#[cfg(test)]
pub(crate) mod tests;
