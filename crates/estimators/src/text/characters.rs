//! Which characters Python takes for words, digits and white space.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// Python's `\w`, as members of a class of the regex crate: what `str.isalnum` accepts, and the underscore.
pub(super) const WORD: &str = r"\p{L}\p{N}_";

/// Python's `\s`, as members of a class of the regex crate.
pub(super) const SPACE: &str = r"\t\n\x0B\x0C\r\x1C-\x1F \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}";

/// Tells whether Python's `\w` matches.
pub(super) fn is_word(character: char) -> bool {
    static RANGES: LazyLock<Vec<(char, char)>> = LazyLock::new(|| ranges(&format!("[{WORD}]")));
    match character.is_ascii() {
        true => character.is_ascii_alphanumeric() || character == '_',
        false => contains(&RANGES, character),
    }
}

/// Tells whether the regex crate's `\w` matches, and so what its `\b` takes for a word.
pub(super) fn is_regex_word(character: char) -> bool {
    static RANGES: LazyLock<Vec<(char, char)>> = LazyLock::new(|| ranges(r"\w"));
    contains(&RANGES, character)
}

/// Tells whether Python's `str.isspace` and `\s` accept.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

fn contains(ranges: &[(char, char)], character: char) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= character);
    after > 0 && ranges[after - 1].1 >= character
}

/// Returns the characters that a class of the regex crate matches, as sorted ranges.
fn ranges(class: &str) -> Vec<(char, char)> {
    let parsed = regex_syntax::parse(class).expect("the classes here are sound");
    match parsed.into_kind() {
        HirKind::Class(Class::Unicode(class)) => class
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
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
        let spaces: String = text.chars().filter(|&c| is_space(c)).collect();
        assert_eq!(spaces, "\t\u{1c}\u{1f}\u{85}\u{a0}\u{3000}");
        let class = ranges(&format!("[{SPACE}]"));
        for character in '\0'..='\u{ffff}' {
            assert_eq!(
                contains(&class, character),
                is_space(character),
                "{character:?}"
            );
        }
    }
}
