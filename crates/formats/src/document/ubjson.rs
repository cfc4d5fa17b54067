//! UBJSON (draft 12) as XGBoost writes it: big-endian numbers, typed arrays.

use coracle_model::LoadError;

use super::{Builder, Document, malformed};

/// Reads a UBJSON document; bytes after it are an error.
///
/// # Errors
/// Kind `Malformed`, with the position at fault.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, LoadError> {
    let mut parser = Parser {
        bytes,
        position: 0,
        left: Vec::new(),
    };
    let read = parser.document();
    read.map_err(|what| malformed("UBJSON", what, parser.position))
}

struct Parser<'a> {
    bytes: &'a [u8],
    position: usize,
    /// For each open container how many items are to come, where it says so.
    left: Vec<Option<u64>>,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<Document, &'static str> {
        let mut builder = Builder::default();
        while !builder.is_done() {
            self.step(&mut builder)?;
        }
        match (builder.root, self.position == self.bytes.len()) {
            (Some(root), true) => Ok(root),
            _ => Err("something after the end"),
        }
    }

    fn step(&mut self, builder: &mut Builder) -> Result<(), &'static str> {
        if let Some(left @ Some(_)) = self.left.last_mut() {
            let is_key = builder.wants_key();
            if *left == Some(0) && (is_key || !builder.is_in_object()) {
                self.left.pop();
                return builder.end();
            }
            if is_key || !builder.is_in_object() {
                *left = left.map(|left| left.saturating_sub(1));
            }
        }
        let is_counted = matches!(self.left.last(), Some(Some(_)));
        if builder.wants_key() && (is_counted || self.peek() != Some(b'}')) {
            let key = self.text()?;
            builder.key(key);
            return Ok(());
        }
        let marker = self.byte()?;
        match marker {
            b'{' => self.begin_object(builder),
            b'[' => self.begin_array(builder),
            b'}' if builder.is_in_object() && !is_counted => {
                self.left.pop();
                builder.end()
            }
            b']' if builder.is_in_array() && !is_counted => {
                self.left.pop();
                builder.end()
            }
            b'Z' => builder.value(Document::Null),
            b'T' => builder.value(Document::Bool(true)),
            b'F' => builder.value(Document::Bool(false)),
            b'S' => {
                let text = self.text()?;
                builder.value(Document::Text(text))
            }
            b'C' => {
                let text = char::from(self.byte()?).to_string();
                builder.value(Document::Text(text))
            }
            marker => {
                let number = self.number(marker)?;
                builder.value(Document::Number(number))
            }
        }
    }

    fn begin_object(&mut self, builder: &mut Builder) -> Result<(), &'static str> {
        if self.peek() == Some(b'$') {
            return Err("typed objects are not supported");
        }
        let count = self.count()?;
        self.left.push(count);
        builder.begin_object()
    }

    fn begin_array(&mut self, builder: &mut Builder) -> Result<(), &'static str> {
        if self.peek() != Some(b'$') {
            let count = self.count()?;
            self.left.push(count);
            return builder.begin_array();
        }
        self.advance(1);
        let marker = self.byte()?;
        let count = self.count()?.ok_or("a typed array without its length")?;
        let size = size(marker).ok_or("a typed array of something else than numbers")?;
        let n_bytes = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(size));
        let n_bytes = n_bytes.ok_or("an array longer than the file")?;
        let items = self.take(n_bytes)?;
        builder.begin_array()?;
        for item in items.chunks_exact(size) {
            builder.value(Document::Number(decode(marker, item).unwrap_or_default()))?;
        }
        builder.end()
    }

    /// Reads `#` and a length, if that comes next.
    fn count(&mut self) -> Result<Option<u64>, &'static str> {
        if self.peek() != Some(b'#') {
            return Ok(None);
        }
        self.advance(1);
        self.length().map(Some)
    }

    fn length(&mut self) -> Result<u64, &'static str> {
        let marker = self.byte()?;
        let value: i64 = match marker {
            b'i' => i8::from_be_bytes(self.array()?).into(),
            b'U' => u8::from_be_bytes(self.array()?).into(),
            b'I' => i16::from_be_bytes(self.array()?).into(),
            b'l' => i32::from_be_bytes(self.array()?).into(),
            b'L' => i64::from_be_bytes(self.array()?),
            _ => return Err("a length that is no integer"),
        };
        u64::try_from(value).map_err(|_negative| "a negative length")
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let length = self.length()?;
        let length = usize::try_from(length).map_err(|_large| "text longer than the file")?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_invalid| "text that is not UTF-8")
    }

    fn number(&mut self, marker: u8) -> Result<f64, &'static str> {
        let size = size(marker).ok_or("an unknown marker")?;
        let bytes = self.take(size)?;
        decode(marker, bytes).ok_or("an unknown marker")
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn advance(&mut self, n: usize) {
        self.position = self.position.saturating_add(n).min(self.bytes.len());
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let bytes = self.take(N)?;
        bytes
            .first_chunk()
            .copied()
            .ok_or("the file ends too early")
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let end = self.position.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.position..end));
        self.advance(taken.map_or(0, <[u8]>::len));
        taken.ok_or("the file ends too early")
    }
}

/// Returns the bytes of a number.
fn size(marker: u8) -> Option<usize> {
    match marker {
        b'i' | b'U' => Some(1),
        b'I' => Some(2),
        b'l' | b'd' => Some(4),
        b'L' | b'D' => Some(8),
        _ => None,
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a document's numbers are doubles"
)]
fn decode(marker: u8, bytes: &[u8]) -> Option<f64> {
    fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.try_into().ok()
    }
    Some(match marker {
        b'i' => i8::from_be_bytes(array(bytes)?).into(),
        b'U' => u8::from_be_bytes(array(bytes)?).into(),
        b'I' => i16::from_be_bytes(array(bytes)?).into(),
        b'l' => i32::from_be_bytes(array(bytes)?).into(),
        b'L' => i64::from_be_bytes(array(bytes)?) as f64,
        b'd' => f32::from_be_bytes(array(bytes)?).into(),
        b'D' => f64::from_be_bytes(array(bytes)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        let mut bytes = b"{i\x01a[$d#L\0\0\0\0\0\0\0\x02".to_vec();
        bytes.extend(1.5_f32.to_be_bytes());
        bytes.extend((-2.0_f32).to_be_bytes());
        bytes.extend(
            b"i\x01b[#U\x02SU\x01xTi\x01c{#i\x01i\x01dl\0\0\0\x07i\x01e[i\xffZ]i\x01f[$U#i\0}",
        );
        let entries = vec![
            ("a".to_owned(), Document::Numbers(vec![1.5, -2.0])),
            (
                "b".to_owned(),
                Document::Array(vec![Document::Text("x".to_owned()), Document::Bool(true)]),
            ),
            (
                "c".to_owned(),
                Document::Object(vec![("d".to_owned(), Document::Number(7.0))]),
            ),
            (
                "e".to_owned(),
                Document::Array(vec![Document::Number(-1.0), Document::Null]),
            ),
            ("f".to_owned(), Document::Array(Vec::new())),
        ];
        assert_eq!(parse(&bytes).unwrap(), Document::Object(entries));
    }

    #[test]
    fn lengths_are_not_believed() {
        let cases: [(&[u8], &str); 8] = [
            (
                b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff",
                "an array longer than the file at byte 13",
            ),
            (b"[$l#l\0\0\0\x09\0", "the file ends too early at byte 9"),
            (
                b"[$Z#l\x7f\0\0\0",
                "a typed array of something else than numbers at byte 9",
            ),
            (b"[#i\xff", "a negative length at byte 4"),
            (
                b"{L\0\0\0\0\0\0\0\x09a",
                "the file ends too early at byte 10",
            ),
            (b"[i", "the file ends too early at byte 2"),
            (b"Zx", "something after the end at byte 1"),
            (b"", "the file ends too early at byte 0"),
        ];
        for (bytes, message) in cases {
            let error = parse(bytes).unwrap_err().to_string();
            assert_eq!(error, format!("not sound UBJSON: {message}"), "{bytes:?}");
        }
    }
}
