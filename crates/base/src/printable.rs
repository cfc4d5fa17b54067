//! Text from outside, made safe to show: what moves a terminal's cursor, or writing's direction, is shown as what it is.

use std::fmt;

/// A text whose control characters are shown by their number, as JSON writes them (`\u001b`), but for the end of a line and tabs.
///
/// So are the characters that turn the direction of writing (Unicode's bidirectional controls) and the line and paragraph separators: with them a text can
/// look like another one. A string of JSON stays the same string.
///
/// ```
/// use coracle_base::Printable;
/// assert_eq!(Printable("\u{1b}[2J ab\u{202e}").to_string(), r"\u001b[2J ab\u202e");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, other) = rest.split_at(at);
            f.write_str(plain)?;
            let mut letters = other.chars();
            if let Some(letter) = letters.next() {
                write!(f, "\\u{:04x}", u32::from(letter))?;
            }
            rest = letters.as_str();
        }
        f.write_str(rest)
    }
}

fn is_unsafe(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => true,
        letter => letter.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_letters_stay() {
        let cases = [
            ("plain\tä 日本 👩‍🔬\n", "plain\tä 日本 👩‍🔬\n"),
            (
                "\u{1b}]0;owned\u{7}\u{1b}[31m",
                r"\u001b]0;owned\u0007\u001b[31m",
            ),
            ("\r\u{0}\u{8}\u{7f}", r"\u000d\u0000\u0008\u007f"),
            ("\u{9b}2J\u{85}", r"\u009b2J\u0085"),
            (
                "a\u{202e}b\u{2066}c\u{200f}\u{2028}",
                r"a\u202eb\u2066c\u200f\u2028",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Printable(text).to_string(), expected);
        }
    }

    #[test]
    fn every_control_character_but_line_ends_and_tabs_is_shown() {
        for letter in ('\u{0}'..='\u{9f}').filter(|letter| letter.is_control()) {
            let shown = Printable(&letter.to_string()).to_string();
            let is_plain = shown.chars().eq([letter]);
            assert_eq!(is_plain, matches!(letter, '\n' | '\t'), "{letter:?}");
        }
    }
}
