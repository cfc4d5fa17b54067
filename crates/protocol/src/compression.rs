//! Compressed bodies and messages, with a bound on what they expand to.

use std::io::{self, Read, Write};

use coracle_base::Code;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::RequestError;

/// A compression, by its name in HTTP and gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// gzip.
    Gzip,
    /// zlib, which is called deflate.
    Deflate,
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
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
    }
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
        Err(error) => Err(RequestError::invalid(format!(
            "not {} data: {error}",
            encoding.name()
        ))),
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
    }
    Ok(())
}

/// Returns the refusal of a message beyond its bound.
pub(crate) fn too_large(bytes_max: usize) -> RequestError {
    let message = format!("the message is larger than {bytes_max} bytes");
    RequestError::new(Code::ResourceExhausted, message)
}
