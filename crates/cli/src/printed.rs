//! What commands print: text from servers, callers and models moves no terminal's cursor and sets no title.

use std::io::{IsTerminal as _, Result, Stdout, Write};

use coracle_base::Printable;

/// Returns the standard output for text that may be from outside: control characters are shown by their number.
pub(crate) fn stdout() -> Printed<Stdout> {
    Printed::new(std::io::stdout())
}

/// Returns the standard output for what is passed on byte for byte, but to a terminal.
pub(crate) fn raw_unless_terminal() -> Box<dyn Write> {
    match std::io::stdout().is_terminal() {
        true => Box::new(stdout()),
        false => Box::new(std::io::stdout()),
    }
}

/// Returns the standard error, in the same way.
pub(crate) fn stderr() -> Printed<std::io::Stderr> {
    Printed::new(std::io::stderr())
}

/// A writer that shows control characters by their number.
pub(crate) struct Printed<W: Write> {
    inner: W,
    /// The beginning of a letter whose rest has not come yet.
    begun: Vec<u8>,
}

impl<W: Write> Printed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            begun: Vec::new(),
        }
    }

    fn show(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.utf8_chunks() {
            write!(self.inner, "{}", Printable(chunk.valid()))?;
            for byte in chunk.invalid() {
                write!(self.inner, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Printed<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let is_cut = |error: std::str::Utf8Error| error.error_len().is_none();
        let n_begun = (1..=all.len().min(3)).find(|n| {
            let end = all.get(all.len() - n..).unwrap_or_default();
            let error = std::str::from_utf8(end).err();
            error.is_some_and(|error| error.valid_up_to() == 0 && is_cut(error))
        });
        self.begun = all.split_off(all.len() - n_begun.unwrap_or(0));
        self.show(&all)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for Printed<W> {
    fn drop(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        // Whoever reads it may be gone.
        drop(self.show(&begun));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(pieces: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut printed = Printed::new(&mut out);
        for piece in pieces {
            printed.write_all(piece).unwrap();
        }
        drop(printed);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn letters_come_in_pieces_and_controls_are_shown() {
        assert_eq!(printed(&["ä\n\u{1b}[2J".as_bytes()]), "ä\n\\u001b[2J");
        let text = "a\u{9b}日👩\u{202e}".as_bytes();
        for at in 0..=text.len() {
            let (first, rest) = text.split_at(at);
            assert_eq!(printed(&[first, rest]), "a\\u009b日👩\\u202e", "{at}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(printed(&bytes), "a\\u009b日👩\\u202e");
    }

    #[test]
    fn what_is_no_text_is_shown_by_its_bytes() {
        assert_eq!(printed(&[b"a\x9b2J", b"\xc3"]), "a\\x9b2J\\xc3");
        assert_eq!(printed(&[b"\xe2\x80", b"b"]), "\\xe2\\x80b");
    }

    /// Programs read what commands print as JSON: it says the same.
    #[test]
    fn json_stays_the_same() {
        let value = serde_json::json!({"x": "\u{1b}\u{9b}\u{202e}\u{7f}\"\\ä"});
        let shown = printed(&[value.to_string().as_bytes()]);
        assert!(shown.is_ascii() || shown.contains('ä'), "{shown}");
        assert!(!shown.contains('\u{9b}'), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, value);
    }
}
