//! What a tokeniser's file may ask for: its reader reserves memory that the file names, and its steps may make a text longer without bound.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_model::{LoadError, LoadErrorKind};
use serde_json::Value;

/// How many times as long the normalisers together may make a text, in bytes: that of the longest ligature is 33.
const GROWTH_MAX: usize = 128;
/// The most bytes that are put before a text, by all steps together.
const PREPENDED_MAX: usize = 1 << 10;
/// The most pieces of which a text with the tokens around it is made.
const PIECES_MAX: usize = 64;
/// The most letters of a word that pieces are looked for in; the search goes with their square.
const WORD_LETTERS_MAX: u64 = 1_000;
/// The field of SentencePiece's rules, in base64.
const RULES: &str = "precompiled_charsmap";

/// Checks what is done to a text before it is taken apart: the normalisers of a tokeniser and its pre-tokenisers, one after another.
///
/// # Errors
/// Kind `LimitExceeded` where they make texts too long, `Malformed` where their rules are shorter than they say.
pub(crate) fn check_steps(steps: [&Value; 2]) -> Result<(), LoadError> {
    let (mut growth, mut n_prepended) = (1_usize, 0_usize);
    let mut ahead = steps.to_vec();
    while let Some(value) = ahead.pop() {
        match value {
            Value::Array(items) => ahead.extend(items),
            Value::Object(fields) => {
                let text = |name: &str| fields.get(name).and_then(Value::as_str);
                let longest = match (text(RULES), text("content"), text("prepend")) {
                    (Some(rules), _, _) => longest_rule(rules)?,
                    (None, Some(content), _) => content.len(),
                    (None, None, Some(prepended)) => {
                        n_prepended = n_prepended.saturating_add(prepended.len());
                        1
                    }
                    // It writes each byte as a letter, half of them as one of two bytes.
                    _ if text("type") == Some("ByteLevel") => 2,
                    _ => 1,
                };
                growth = growth.saturating_mul(longest.max(1));
                ahead.extend(fields.values());
            }
            _ => {}
        }
    }
    if n_prepended > PREPENDED_MAX {
        return Err(too_long(format!(
            "its normalisers prepend {n_prepended} bytes, at most {PREPENDED_MAX} are"
        )));
    }
    if growth > GROWTH_MAX {
        return Err(too_long(format!(
            "its normalisers may make a text {growth} times as long, at most {GROWTH_MAX} times is done"
        )));
    }
    Ok(())
}

/// Checks what is put around a text: it may be there once.
///
/// # Errors
/// Kind `LimitExceeded` where it is there more often, or there are too many pieces; `Malformed` where the pieces are no list.
pub(crate) fn check_pieces(post_processor: &Value) -> Result<(), LoadError> {
    let mut n_pieces = 0_usize;
    let mut ahead = vec![post_processor];
    while let Some(value) = ahead.pop() {
        match value {
            Value::Array(items) => ahead.extend(items),
            Value::Object(fields) => {
                ahead.extend(fields.values());
                let Some(single) = fields.get("single") else {
                    continue;
                };
                let Value::Array(pieces) = single else {
                    let message = "post_processor: single is no list";
                    return Err(LoadError::new(LoadErrorKind::Malformed, message));
                };
                n_pieces = n_pieces.saturating_add(pieces.len());
                let texts = pieces
                    .iter()
                    .filter(|piece| piece.get("Sequence").is_some());
                if texts.count() > 1 {
                    let message = "post_processor: a text is repeated".to_owned();
                    return Err(too_long(message));
                }
            }
            _ => {}
        }
    }
    if n_pieces > PIECES_MAX {
        return Err(too_long(format!(
            "post_processor: {n_pieces} pieces, at most {PIECES_MAX} are put together"
        )));
    }
    Ok(())
}

/// Checks how long the words may be that are taken apart.
///
/// # Errors
/// Kind `LimitExceeded` where they are too long.
pub(crate) fn check_word_letters(n_letters: Option<u64>) -> Result<(), LoadError> {
    match n_letters {
        Some(n_letters) if n_letters > WORD_LETTERS_MAX => Err(too_long(format!(
            "words of {n_letters} letters (max_input_chars_per_word), at most {WORD_LETTERS_MAX} are taken apart"
        ))),
        _ => Ok(()),
    }
}

/// Returns the length of the longest text that SentencePiece's rules put in the place of another.
///
/// The rules begin with the size of a table in four bytes, little end first; after it come the texts, each with a zero behind it.
fn longest_rule(base64: &str) -> Result<usize, LoadError> {
    let malformed =
        |message: &str| LoadError::new(LoadErrorKind::Malformed, format!("{RULES}: {message}"));
    let rules = STANDARD
        .decode(base64)
        .map_err(|error| malformed(&error.to_string()))?;
    let (size, rest) = rules
        .split_first_chunk::<4>()
        .ok_or_else(|| malformed("no size"))?;
    let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
    let texts = rest
        .get(size..)
        .ok_or_else(|| malformed("the table is shorter than it says"))?;
    let lengths = texts.split(|&byte| byte == 0).map(<[u8]>::len);
    Ok(lengths.max().unwrap_or(0))
}

fn too_long(message: String) -> LoadError {
    LoadError::new(LoadErrorKind::LimitExceeded, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(size: u32, table: &[u8], texts: &[u8]) -> Value {
        let bytes = [&size.to_le_bytes(), table, texts].concat();
        json!({"type": "Precompiled", RULES: STANDARD.encode(bytes)})
    }

    #[test]
    fn a_text_is_put_into_its_tokens_once() {
        let (text, token) = (
            json!({"Sequence": {"id": "A"}}),
            json!({"SpecialToken": {"id": "</s>"}}),
        );
        let template = |pieces: &[&Value]| json!({"type": "TemplateProcessing", "single": pieces, "pair": [text, text]});
        let fit = [
            Value::Null,
            json!({"sep": ["</s>", 2]}),
            template(&[&token, &text, &token]),
        ];
        for processor in fit {
            assert!(check_pieces(&processor).is_ok(), "{processor}");
        }
        let unfit = [
            (template(&[&text, &token, &text]), "is repeated"),
            (
                json!([template(&[&token; 40]), template(&[&token; 40])]),
                "80 pieces",
            ),
            (json!({"single": "$A $A"}), "no list"),
        ];
        for (processor, wanted) in unfit {
            let error = check_pieces(&processor).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn what_costs_without_bound_is_refused() {
        let replace = |content: &str| json!({"type": "Replace", "pattern": {"String": "a"}, "content": content});
        let sequence = |items: &[Value]| json!({"type": "Sequence", "normalizers": items});
        let space = replace("\u{2581}");
        let ligatures = rules(4, &[0; 4], &[&b"abc\0"[..], &[b'x'; 33], b"\0"].concat());
        let fit = [
            Value::Null,
            space.clone(),
            ligatures.clone(),
            sequence(&[ligatures.clone(), space.clone()]),
            json!({"type": "Prepend", "prepend": "\u{2581}"}),
        ];
        for normalizer in fit {
            assert!(
                check_steps([&normalizer, &Value::Null]).is_ok(),
                "{normalizer}"
            );
        }
        let unfit = [
            (replace(&"x".repeat(200)), "200 times as long"),
            (
                sequence(&[replace(&"x".repeat(20)), replace(&"y".repeat(20))]),
                "400 times",
            ),
            (rules(4, &[0; 4], &[b'x'; 500]), "500 times"),
            // It would reserve eight gigabytes for the table.
            (rules(u32::MAX, &[0; 4], b"abc"), "shorter than it says"),
            (json!([[{RULES: "?"}]]), "precompiled_charsmap"),
            (json!({RULES: "AA=="}), "no size"),
            (
                json!({"type": "Prepend", "prepend": "x".repeat(2_000)}),
                "prepend 2000 bytes",
            ),
        ];
        for (normalizer, wanted) in unfit {
            let error = check_steps([&normalizer, &Value::Null]).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
        // Each doubles what is no plain letter, wherever it is done.
        let byte_level = json!({"type": "ByteLevel"});
        let eight = sequence(&vec![byte_level.clone(); 8]);
        assert!(check_steps([&byte_level, &byte_level]).is_ok());
        assert!(check_steps([&eight, &Value::Null]).is_err());
        assert!(check_steps([&Value::Null, &eight]).is_err());
        let prepend = json!({"type": "Prepend", "prepend": "x".repeat(600)});
        let twice = sequence(&[prepend.clone(), prepend]);
        assert!(check_steps([&twice, &Value::Null]).is_err());
        assert!(check_word_letters(Some(100)).is_ok() && check_word_letters(None).is_ok());
        assert!(check_word_letters(Some(1_000_000)).is_err());
    }
}
