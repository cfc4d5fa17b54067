//! Rewrites the locale of texts, which slim systems lack.
//!
//! Exporters name `en_US` or leave it out, which means the same; letters change case by Unicode's rules in it as in
//! `C.UTF-8`, which every system has. In Turkish they do not, and in `C` only those of ASCII do: such locales stay, and a
//! system without them refuses the graph.

use std::borrow::Cow;

use coracle_model::LoadError;

use crate::rewrite::{push, push_field, rewritten};
use crate::wire::Reader;

/// The operator that has a locale.
const OPERATOR: &str = "StringNormalizer";
/// The attribute of that name and value: a name, a text, the type of texts.
const ATTRIBUTE: &[u8] = b"\x0a\x06locale\x22\x07C.UTF-8\xa0\x01\x03";
/// The fields of a file, a graph and a node that lead to an attribute.
const GRAPH: u64 = 7;
const NODE: u64 = 1;
const OP_TYPE: u64 = 4;
const ATTRIBUTES: u64 = 5;

/// Languages whose letters change case by Unicode's rules.
const PLAIN_LANGUAGES: [&str; 8] = ["en", "de", "es", "fr", "it", "nl", "pt", "sv"];

/// Tells whether letters change case by Unicode's rules in a locale.
pub(crate) fn has_plain_case(locale: &str) -> bool {
    let (language, rest) = match locale.find(['_', '-', '.', '@']) {
        Some(end) => locale.split_at(end),
        None => (locale, ""),
    };
    match language {
        "C" => matches!(rest, ".UTF-8" | ".utf8"),
        language => PLAIN_LANGUAGES.contains(&language),
    }
}

/// Returns the file with `C.UTF-8` as the locale of every `StringNormalizer` of its outermost graph whose own means the same;
/// most files have none and are returned as they are.
///
/// # Errors
/// Kind `Malformed` if the file is not made of fields.
pub fn with_portable_locale(bytes: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    let has_operator = bytes
        .windows(OPERATOR.len())
        .any(|window| window == OPERATOR.as_bytes());
    if !has_operator {
        return Ok(Cow::Borrowed(bytes));
    }
    let file = rewritten(bytes, GRAPH, |graph| rewritten(graph, NODE, node))?;
    Ok(Cow::Owned(file))
}

fn node(message: &[u8]) -> Result<Vec<u8>, LoadError> {
    let mut reader = Reader::new(message);
    let mut is_wanted = false;
    while let Some((number, field)) = reader.next()? {
        if number == OP_TYPE {
            is_wanted = field.bytes()? == OPERATOR.as_bytes();
        }
    }
    if !is_wanted {
        return Ok(message.to_vec());
    }
    let mut copy = Vec::with_capacity(message.len());
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        let locale = match number {
            ATTRIBUTES => locale_of(field.bytes()?)?,
            _ => None,
        };
        match locale {
            None => push_field(&mut copy, number, field),
            Some(locale) if has_plain_case(&locale) => {}
            Some(_) => return Ok(message.to_vec()),
        }
    }
    push(&mut copy, ATTRIBUTES, ATTRIBUTE);
    Ok(copy)
}

/// Returns what an attribute says of the locale, if it is the one that does.
fn locale_of(attribute: &[u8]) -> Result<Option<Cow<'_, str>>, LoadError> {
    let mut reader = Reader::new(attribute);
    let (mut is_wanted, mut value) = (false, Cow::Borrowed(""));
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => is_wanted = field.bytes()? == b"locale",
            4 => value = String::from_utf8_lossy(field.bytes()?),
            _ => {}
        }
    }
    Ok(is_wanted.then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, content) in fields {
            push(&mut bytes, *number, content);
        }
        bytes
    }

    fn file(nodes: &[&[u8]]) -> Vec<u8> {
        let nodes: Vec<(u64, &[u8])> = nodes.iter().map(|node| (NODE, *node)).collect();
        let mut bytes = vec![8, 9];
        push(&mut bytes, GRAPH, &message(&nodes));
        bytes
    }

    #[test]
    fn only_the_locale_of_texts_changes() {
        let action = message(&[(1, b"case_change_action"), (4, b"LOWER")]);
        let american = message(&[(1, b"locale"), (4, b"en_US.UTF-8")]);
        let other = message(&[(1, b"x"), (4, b"Other"), (ATTRIBUTES, &american)]);
        let before = message(&[
            (1, b"x"),
            (4, b"StringNormalizer"),
            (ATTRIBUTES, &american),
            (ATTRIBUTES, &action),
        ]);
        let without = message(&[(1, b"x"), (4, b"StringNormalizer"), (ATTRIBUTES, &action)]);
        let mut after = without.clone();
        push(&mut after, ATTRIBUTES, ATTRIBUTE);
        for node in [&before, &without] {
            let got = with_portable_locale(&file(&[&other, node]))
                .unwrap()
                .into_owned();
            assert_eq!(got, file(&[&other, &after]));
        }
        // Another case of some letters is another answer.
        for kept in ["tr_TR", "tr_TR.UTF-8", "az", "C", "POSIX", "", "nobody"] {
            let locale = message(&[(1, b"locale"), (4, kept.as_bytes())]);
            let node = message(&[(4, b"StringNormalizer"), (ATTRIBUTES, &locale)]);
            let whole = file(&[&node]);
            assert_eq!(with_portable_locale(&whole).unwrap(), whole, "{kept}");
        }
        for plain in ["en_US", "en-GB", "de_DE.UTF-8", "C.UTF-8", "fr_FR@euro"] {
            assert!(has_plain_case(plain), "{plain}");
        }
        let untouched = file(&[&other]);
        assert!(matches!(
            with_portable_locale(&untouched).unwrap(),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn cut_files_are_errors_or_copies() {
        let node = message(&[(4, b"StringNormalizer")]);
        let whole = file(&[&node]);
        let cut = whole.get(..whole.len() - 1).unwrap();
        assert!(with_portable_locale(cut).is_ok_and(|same| same == cut));
        let mut damaged = whole.clone();
        damaged.extend([0x0a, 9]);
        assert!(with_portable_locale(&damaged).is_err());
    }
}
