//! Which characters Python takes for words, digits and white space.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, HirKind};

/// Python's `\w`, as members of a class of the regex crate: what `str.isalnum` accepts, and the underscore.
const WORD: &str = r"\p{L}\p{N}_";

/// Python's `\s`, as members of a class of the regex crate.
const SPACE: &str = r"\t\n\x0B\x0C\r\x1C-\x1F \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}";

/// Returns what Python's `\w` matches.
pub(super) fn words() -> &'static ClassUnicode {
    static SET: LazyLock<ClassUnicode> = LazyLock::new(|| class(&format!("[{WORD}]")));
    &SET
}

/// Returns what Python's `\d` matches.
pub(super) fn digits() -> &'static ClassUnicode {
    static SET: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"[\p{Nd}]"));
    &SET
}

/// Returns what Python's `\s` matches.
pub(super) fn spaces() -> &'static ClassUnicode {
    static SET: LazyLock<ClassUnicode> = LazyLock::new(|| class(&format!("[{SPACE}]")));
    &SET
}

/// Tells whether Python's `\w` matches.
pub(super) fn is_word(character: char) -> bool {
    match character.is_ascii() {
        true => character.is_ascii_alphanumeric() || character == '_',
        false => contains(words(), character),
    }
}

/// Tells whether the regex crate's `\w` matches, and so what its `\b` takes for a word.
pub(super) fn is_regex_word(character: char) -> bool {
    static SET: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"\w"));
    contains(&SET, character)
}

/// Tells whether Python's `str.isspace` and `\s` accept.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// Tells whether `set` has `character`.
pub(super) fn contains(set: &ClassUnicode, character: char) -> bool {
    let after = set
        .ranges()
        .partition_point(|range| range.start() <= character);
    after > 0 && set.ranges()[after - 1].end() >= character
}

/// Returns the characters that a class of the regex crate matches.
fn class(pattern: &str) -> ClassUnicode {
    let parsed = regex_syntax::parse(pattern).expect("the classes here are sound");
    match parsed.into_kind() {
        HirKind::Class(Class::Unicode(class)) => class,
        _ => unreachable!("a class parses to a class"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_spaces_are_pythons() {
        // From Python: "".join(c for c in text if re.match(r"\w", c)), and the same with \s.
        let text = "a_\u{e9}\u{b2}\u{2160}\u{661}\u{903}\u{94d}\u{203f}\u{200d}\u{4f60}\u{301}-";
        let words: String = text.chars().filter(|&c| is_word(c)).collect();
        assert_eq!(words, "a_\u{e9}\u{b2}\u{2160}\u{661}\u{4f60}");
        let text = "\t\u{1c}\u{1f}\u{85}\u{a0}\u{200b}\u{3000}\u{feff}x";
        let white: String = text.chars().filter(|&c| is_space(c)).collect();
        assert_eq!(white, "\t\u{1c}\u{1f}\u{85}\u{a0}\u{3000}");
        for character in '\0'..='\u{ffff}' {
            assert_eq!(
                contains(spaces(), character),
                is_space(character),
                "{character:?}"
            );
        }
    }
}
