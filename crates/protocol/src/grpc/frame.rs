//! gRPC's framing: a flag and a length before every message, compressed messages, deadlines, and text in trailers.

use std::time::Duration;

use prost::Message;

use crate::RequestError;
use crate::compression::{self, Encoding};

/// The bytes before every message: whether it is compressed, and its length.
pub const PREFIX_BYTES: usize = 5;

/// How messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Identity,
    /// As gzip.
    Gzip,
    /// As zlib, which gRPC and HTTP call deflate.
    Deflate,
}

impl Compression {
    /// The names of all, for the header `grpc-accept-encoding`.
    pub const NAMES: &'static str = "identity,gzip,deflate";

    /// Returns the compression of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "identity" => Some(Self::Identity),
            "gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// Returns the name, for the header `grpc-encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some(Encoding::Gzip),
            Self::Deflate => Some(Encoding::Deflate),
        }
    }

    /// Returns the message in `bytes`.
    ///
    /// # Errors
    /// Code `InvalidArgument` if it is not compressed so, `ResourceExhausted` if it is larger than `bytes_max`.
    pub fn expand(self, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, RequestError> {
        match self.encoding() {
            Some(encoding) => compression::expand(encoding, bytes, bytes_max),
            None => Err(RequestError::invalid(
                "a message is marked as compressed, but grpc-encoding names no compression",
            )),
        }
    }
}

/// What stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Whether the message is compressed.
    pub is_compressed: bool,
    /// The length of the message as it travels.
    pub length: usize,
}

impl FrameHead {
    /// Reads the bytes before a message.
    ///
    /// # Errors
    /// Code `InvalidArgument` for an unknown flag, `ResourceExhausted` if the message is larger than `bytes_max`.
    pub fn read(prefix: [u8; PREFIX_BYTES], bytes_max: usize) -> Result<Self, RequestError> {
        let [flag, a, b, c, d] = prefix;
        let length = u32::from_be_bytes([a, b, c, d]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if flag > 1 {
            return Err(RequestError::invalid(format!(
                "a message begins with {flag}; 0 (plain) and 1 (compressed) are allowed"
            )));
        }
        if length > bytes_max {
            return Err(compression::too_large(bytes_max));
        }
        Ok(Self {
            is_compressed: flag == 1,
            length,
        })
    }
}

/// Returns `message` with what stands before it.
#[must_use]
pub fn frame(message: &impl Message) -> Vec<u8> {
    frame_with(message, 0, |_out| {})
}

/// Returns an encoded message with its frame and the fields of `last` after its own: of several values of a field the last one counts, and parts of one
/// message within are taken together.
#[must_use]
pub fn frame_followed(message: &[u8], last: &impl Message) -> Vec<u8> {
    let last = last.encode_to_vec();
    let n_bytes = message.len().saturating_add(last.len());
    frame_with(&(), n_bytes, |out| {
        out.extend_from_slice(message);
        out.extend_from_slice(&last);
    })
}

/// Returns a message with its frame, whose last fields `append` writes: some `n_bytes` that need not be in memory before.
pub(crate) fn frame_with(
    message: &impl Message,
    n_bytes: usize,
    append: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let begun = message.encoded_len().saturating_add(PREFIX_BYTES);
    let mut out = Vec::with_capacity(begun.saturating_add(n_bytes));
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    let written = message.encode(&mut out);
    debug_assert!(
        written.is_ok(),
        "only a buffer of fixed size can be too small"
    );
    append(&mut out);
    fill_prefix(&mut out, 0);
    out
}

/// Returns a framed message compressed, if that is wanted and makes it smaller.
#[must_use]
pub fn framed(plain: Vec<u8>, compression: Compression) -> Vec<u8> {
    let Some((_prefix, message)) = plain.split_at_checked(PREFIX_BYTES) else {
        return plain;
    };
    let Some(encoding) = compression.encoding() else {
        return plain;
    };
    let mut out = vec![0; PREFIX_BYTES];
    if compression::compress(encoding, message, &mut out).is_err() || out.len() >= plain.len() {
        return plain;
    }
    fill_prefix(&mut out, 1);
    out
}

/// Writes the flag and the length to the front of a framed message.
fn fill_prefix(out: &mut [u8], flag: u8) {
    let length = out.len().saturating_sub(PREFIX_BYTES);
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    if let Some((prefix, _message)) = out.split_first_chunk_mut::<PREFIX_BYTES>() {
        *prefix = [flag, a, b, c, d];
    }
}

/// Reads the header `grpc-timeout`: up to eight digits and a unit.
#[must_use]
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        'H' => Some(Duration::from_secs(number.saturating_mul(3_600))),
        'M' => Some(Duration::from_secs(number.saturating_mul(60))),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Returns the header `grpc-timeout` for a time: in the smallest unit in which it has up to eight digits, rounded down.
#[must_use]
pub fn format_timeout(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let seconds = u128::from(timeout.as_secs());
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (seconds, 'S'),
        (seconds.checked_div(60).unwrap_or(0), 'M'),
    ];
    let fitting = units.into_iter().find(|(number, _)| *number <= MOST);
    let hours = seconds.checked_div(3_600).unwrap_or(0).min(MOST);
    let (number, unit) = fitting.unwrap_or((hours, 'H'));
    format!("{number}{unit}")
}

/// Returns `text` as the trailer `grpc-message` carries it.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match char::from(byte) {
            shown @ (' '..='$' | '&'..='~') => out.push(shown),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use coracle_base::Code;

    use super::*;

    #[test]
    fn timeouts_have_digits_and_a_unit() {
        let cases = [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("+1S", None),
            ("123456789S", None),
            ("1s", None),
            ("1\u{e9}", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timeout(text), expected, "{text:?}");
        }
    }

    #[test]
    fn messages_in_trailers_are_ascii() {
        assert_eq!(
            percent_encode("inputs[0]: 100% \u{e9}\n"),
            "inputs[0]: 100%25 %C3%A9%0A"
        );
    }

    #[test]
    fn frames_say_length_and_compression() {
        let message = crate::grpc::inference::ModelReadyRequest {
            name: "iris".repeat(100),
            version: String::new(),
        };
        let plain = frame(&message);
        let read = |bytes: &[u8]| FrameHead::read(*bytes.first_chunk().unwrap(), 1_000);
        let head = read(&plain).unwrap();
        assert_eq!((head.is_compressed, head.length), (false, plain.len() - 5));
        for compression in [Compression::Gzip, Compression::Deflate] {
            let small = framed(plain.clone(), compression);
            let head = read(&small).unwrap();
            assert_eq!((head.is_compressed, head.length), (true, small.len() - 5));
            assert_eq!(compression.expand(&small[5..], 1_000).unwrap(), &plain[5..]);
            let error = compression.expand(&small[5..], 100).unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted);
            assert!(compression.expand(&small[5..12], 1_000).is_err());
            assert_eq!(
                Compression::from_name(compression.name()),
                Some(compression)
            );
        }
        // What compression does not make smaller stays as it is.
        assert_eq!(
            framed(vec![0, 0, 0, 0, 1, 7], Compression::Gzip),
            [0, 0, 0, 0, 1, 7]
        );
        let too_large = FrameHead::read([0, 0, 0, 4, 0], 1_000).unwrap_err();
        assert_eq!(too_large.code(), Code::ResourceExhausted);
        assert!(FrameHead::read([2, 0, 0, 0, 0], 1_000).is_err());
    }
}
