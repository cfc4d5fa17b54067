//! The compression that joblib puts around a pickle: found by the first bytes, undone under a bound.
//!
//! A file may inflate to [`Limits::inflated_bytes_free`] whatever its size, beyond that at most
//! [`Limits::inflation_ratio_max`] bytes for each of its own, and never past
//! [`Limits::inflated_bytes_max`]. Decompression stops at the first byte over the bound.

use std::borrow::Cow;
use std::io::{self, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::{GzDecoder, ZlibDecoder};
use lz4_flex::frame::FrameDecoder;
use lzma_rust2::{LzmaReader, XzReader};

use crate::{Container, Error, Limits};

/// The most memory that an lzma dictionary may take, in KiB; xz's highest preset needs 64 MiB.
const DICTIONARY_KIB_MAX: u32 = 160 << 10;

/// How much more is inflated in one step.
const STEP_BYTES: usize = 1 << 16;

/// joblib's `ZF`, then the inflated length in hexadecimal, filled up with spaces.
const ZFILE_HEADER_BYTES: usize = 21;

/// Says what a file's first bytes are, as joblib does.
pub(crate) fn detect(bytes: &[u8]) -> Container {
    const MAGICS: [(&[u8], Container); 7] = [
        (&[0x1f, 0x8b], Container::Gzip),
        (b"BZ", Container::Bzip2),
        (&[0xfd, b'7', b'z', b'X', b'Z'], Container::Xz),
        (&[0x5d, 0x00], Container::Lzma),
        (&[0x04, 0x22, 0x4d, 0x18], Container::Lz4),
        (b"ZF", Container::ZFile),
        (&[0x78], Container::Zlib),
    ];
    MAGICS
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
        .map_or(Container::Raw, |(_, container)| *container)
}

/// Returns the pickle inside: the bytes themselves if they are not compressed.
pub(crate) fn inflate<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<(Container, Cow<'a, [u8]>), Error> {
    if bytes.len() > limits.file_bytes_max {
        return Err(Error::limit(
            "the file's size in bytes",
            limits.file_bytes_max,
        ));
    }
    let container = detect(bytes);
    let mut rest = bytes;
    let inflated = match container {
        Container::Raw => return Ok((container, Cow::Borrowed(bytes))),
        Container::Zlib => bounded(container, ZlibDecoder::new(&mut rest), bytes, limits)?,
        Container::Gzip => bounded(container, GzDecoder::new(&mut rest), bytes, limits)?,
        Container::Bzip2 => bounded(container, BzDecoder::new(&mut rest), bytes, limits)?,
        Container::Xz => {
            let reader = XzReader::new_mem_limit(&mut rest, false, DICTIONARY_KIB_MAX);
            bounded(container, reader, bytes, limits)?
        }
        Container::Lzma => {
            let reader = LzmaReader::new_mem_limit(&mut rest, DICTIONARY_KIB_MAX, None)
                .map_err(|source| Error::decompression(container, source))?;
            bounded(container, reader, bytes, limits)?
        }
        Container::Lz4 => lz4_frame(&mut rest, bytes, limits)?,
        Container::ZFile => return zfile(bytes, limits).map(|data| (container, Cow::Owned(data))),
    };
    // The lzma reader reads ahead, so nothing can be said of what follows its end.
    if container != Container::Lzma {
        refuse_trailing(container, rest, bytes.len())?;
    }
    Ok((container, Cow::Owned(inflated)))
}

fn bounded(
    container: Container,
    mut reader: impl Read,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Vec<u8>, Error> {
    let by_ratio = bytes.len().saturating_mul(limits.inflation_ratio_max);
    let bound = by_ratio
        .max(limits.inflated_bytes_free)
        .min(limits.inflated_bytes_max);
    let mut inflated = Vec::new();
    let mut step = vec![0; STEP_BYTES];
    loop {
        let n_read = match reader.read(&mut step) {
            Ok(0) => return Ok(inflated),
            Ok(n_read) => n_read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::decompression(container, source)),
        };
        if inflated.len().saturating_add(n_read) > bound {
            return Err(Error::limit("the decompressed size in bytes", bound));
        }
        inflated.extend_from_slice(step.get(..n_read).unwrap_or_default());
    }
}

/// Undoes one LZ4 frame. The decoder takes the end of the file for the end of the frame, even where the
/// frame's own end is missing, so whether it ran into it is asked here.
fn lz4_frame(rest: &mut &[u8], bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    let mut source = EndWitness {
        rest,
        saw_end: false,
    };
    let inflated = bounded(
        Container::Lz4,
        FrameDecoder::new(&mut source),
        bytes,
        limits,
    )?;
    if source.saw_end {
        return Err(Error::malformed(
            "an lz4 frame without its end",
            bytes.len(),
        ));
    }
    Ok(inflated)
}

/// Bytes that remember whether more were asked for than they have.
struct EndWitness<'r, 'a> {
    rest: &'r mut &'a [u8],
    saw_end: bool,
}

impl Read for EndWitness<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.saw_end |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}

fn refuse_trailing(container: Container, rest: &[u8], length: usize) -> Result<(), Error> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(Error::malformed(
        format!("bytes after the end of the {container} data"),
        length.saturating_sub(rest.len()),
    ))
}

fn zfile(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    let (header, after) = bytes
        .split_at_checked(ZFILE_HEADER_BYTES)
        .ok_or_else(|| Error::truncated("the zfile header", 0, 21, bytes.len()))?;
    let declared = header
        .get(2..)
        .and_then(|text| str::from_utf8(text).ok())
        .and_then(|text| text.trim().strip_prefix("0x"))
        .and_then(|digits| usize::from_str_radix(digits.trim_end_matches('L'), 16).ok())
        .ok_or_else(|| Error::malformed("a zfile header without a length", 0))?;
    // joblib 0.8 on Python 2 wrote one space more.
    let mut rest = after.strip_prefix(b" ").unwrap_or(after);
    let reader = ZlibDecoder::new(&mut rest);
    let inflated = bounded(Container::ZFile, reader, bytes, limits)?;
    refuse_trailing(Container::ZFile, rest, bytes.len())?;
    if inflated.len() != declared {
        let problem = format!(
            "a zfile header that declares {declared} bytes before data of {}",
            inflated.len()
        );
        return Err(Error::malformed(problem, 0));
    }
    Ok(inflated)
}
