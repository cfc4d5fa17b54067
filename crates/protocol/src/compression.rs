//! Compressed bodies and messages, with a bound on what they expand to.

use std::io::{self, Read, Write};

use brotli::enc::BrotliEncoderParams;
use coracle_base::Code;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress as compress_zstd};

use crate::RequestError;

/// A compression, by its name in HTTP and gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Zstandard.
    Zstd,
    /// Brotli.
    Brotli,
    /// gzip.
    Gzip,
    /// zlib, which is called deflate.
    Deflate,
}

/// The bytes of Brotli's working memory.
const BROTLI_BUFFER_BYTES: usize = 4_096;
/// How hard Brotli tries, 0 to 11: about as fast as gzip.
const BROTLI_QUALITY: i32 = 3;

impl Encoding {
    /// Every compression; of those that a client likes equally, the first is chosen.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Brotli, Self::Zstd, Self::Deflate];

    /// Returns the name in headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Returns the compression of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|encoding| name.eq_ignore_ascii_case(encoding.name()))
    }

    /// Returns the compression that a client likes best; `None` for none.
    ///
    /// `accept` is the header `Accept-Encoding`. What it does not name is not sent, except for what `*` stands for.
    #[must_use]
    pub fn preferred(accept: &str) -> Option<Self> {
        let mut best: Option<(Self, u16)> = None;
        for encoding in Self::ALL {
            let quality = quality(accept, encoding.name());
            if quality > best.map_or(0, |(_, quality)| quality) {
                best = Some((encoding, quality));
            }
        }
        let (encoding, liking) = best?;
        // Who likes the plain body better is given it.
        (named_quality(accept, "identity").unwrap_or(0) <= liking).then_some(encoding)
    }
}

/// Returns how much a client likes an encoding, in thousandths; by its name, else by `*`.
fn quality(accept: &str, name: &str) -> u16 {
    let named = named_quality(accept, name);
    named.or_else(|| named_quality(accept, "*")).unwrap_or(0)
}

fn named_quality(accept: &str, name: &str) -> Option<u16> {
    accept.split(',').find_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(name) {
            return None;
        }
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        Some(quality.map_or(1_000, thousandths))
    })
}

/// Reads a number from 0 to 1; anything else is 0.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    match (whole, fraction.len()) {
        ("1", 0..=3) if fraction.bytes().all(|digit| digit == b'0') => 1_000,
        ("0", 0) => 0,
        ("0", 1..=3) => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Returns what `bytes` expand to.
///
/// # Errors
/// Code `InvalidArgument` if they are not compressed so, `ResourceExhausted` if they expand to more than `bytes_max`.
pub fn expand(encoding: Encoding, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, RequestError> {
    match encoding {
        Encoding::Gzip => read_all(MultiGzDecoder::new(bytes), encoding, bytes_max),
        Encoding::Deflate => read_all(ZlibDecoder::new(bytes), encoding, bytes_max),
        Encoding::Brotli => read_all(
            brotli::Decompressor::new(bytes, BROTLI_BUFFER_BYTES),
            encoding,
            bytes_max,
        ),
        Encoding::Zstd => {
            let decoder =
                StreamingDecoder::new(bytes).map_err(|error| damaged(encoding, &error))?;
            read_all(decoder, encoding, bytes_max)
        }
    }
}

fn damaged(encoding: Encoding, error: &dyn std::fmt::Display) -> RequestError {
    RequestError::invalid(format!("not {} data: {error}", encoding.name()))
}

fn read_all(
    reader: impl Read,
    encoding: Encoding,
    bytes_max: usize,
) -> Result<Vec<u8>, RequestError> {
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut out = Vec::new();
    // One byte more than allowed tells too much from just enough; the buffer grows with what is there.
    let read = reader.take(most.saturating_add(1)).read_to_end(&mut out);
    match read {
        Ok(n_bytes) if n_bytes > bytes_max => Err(too_large(bytes_max)),
        Ok(_) => Ok(out),
        Err(error) => Err(damaged(encoding, &error)),
    }
}

/// Appends `bytes` compressed.
///
/// # Errors
/// None are known: the compressor writes to memory.
pub fn compress(encoding: Encoding, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let level = flate2::Compression::fast();
    match encoding {
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(out, level);
            encoder.write_all(bytes)?;
            encoder.finish()?;
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(out, level);
            encoder.write_all(bytes)?;
            encoder.finish()?;
        }
        Encoding::Brotli => {
            let parameters = BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                ..BrotliEncoderParams::default()
            };
            let mut reader = bytes;
            brotli::BrotliCompress(&mut reader, out, &parameters)?;
        }
        Encoding::Zstd => compress_zstd(bytes, out, CompressionLevel::Fastest),
    }
    Ok(())
}

/// Returns the refusal of a message beyond its bound.
pub(crate) fn too_large(bytes_max: usize) -> RequestError {
    let message = format!("the message is larger than {bytes_max} bytes");
    RequestError::new(Code::ResourceExhausted, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_encoding_is_chosen() {
        let cases = [
            ("", None),
            ("identity", None),
            ("gzip", Some(Encoding::Gzip)),
            ("GZIP;q=0.5", Some(Encoding::Gzip)),
            ("gzip;q=0.5, br;q=0.9, zstd;q=0.8", Some(Encoding::Brotli)),
            ("deflate, gzip", Some(Encoding::Gzip)),
            ("gzip;q=0", None),
            ("*", Some(Encoding::Gzip)),
            ("gzip;q=0, *;q=0.1", Some(Encoding::Brotli)),
            ("identity, gzip;q=0.5", None),
            ("gzip;q=x", None),
            ("compress", None),
        ];
        for (accept, expected) in cases {
            assert_eq!(Encoding::preferred(accept), expected, "{accept}");
        }
    }

    #[test]
    fn what_is_compressed_expands_within_its_bound() {
        let bytes = b"0.25,0.75,".repeat(1_000);
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
            let mut small = Vec::new();
            compress(encoding, &bytes, &mut small).unwrap();
            assert!(
                small.len() < bytes.len() / 10,
                "{encoding:?}: {}",
                small.len()
            );
            assert_eq!(
                expand(encoding, &small, bytes.len()).unwrap(),
                bytes,
                "{encoding:?}"
            );
            let error = expand(encoding, &small, bytes.len() - 1).unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted, "{encoding:?}");
            let error = expand(encoding, &small[..small.len() / 2], bytes.len()).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{encoding:?}");
            assert!(
                expand(encoding, b"no such data", 100).is_err(),
                "{encoding:?}"
            );
        }
    }

    /// Made by `gzip`, `zlib.compress`, `brotli` and `zstd` of others (Python's gzip 3.11, brotli 1.2, zstandard 0.25).
    #[test]
    fn what_others_compressed_expands() {
        let cases: [(Encoding, &[u8]); 4] = [
            (Encoding::Gzip, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\x57\xc8\x40\x90\x5c\x00\x3b\x7c\x8a\xdf\x12\x00\x00\x00"),
            (Encoding::Deflate, b"\x78\x9c\xcb\x48\xcd\xc9\xc9\x57\xc8\x40\x90\x5c\x00\x40\xb5\x06\x87"),
            (Encoding::Brotli, b"\x8b\x08\x80\x68\x65\x6c\x6c\x6f\x20\x68\x65\x6c\x6c\x6f\x20\x68\x65\x6c\x6c\x6f\x0a\x03"),
            (Encoding::Zstd, b"\x28\xb5\x2f\xfd\x24\x12\x6d\x00\x00\x38\x68\x65\x6c\x6c\x6f\x20\x0a\x01\x00\x31\x4a\x11\xa3\xaa\x74\xce"),
        ];
        for (encoding, bytes) in cases {
            assert_eq!(
                expand(encoding, bytes, 100).unwrap(),
                b"hello hello hello\n",
                "{encoding:?}"
            );
        }
    }
}
