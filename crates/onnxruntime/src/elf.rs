//! Whether a file is a whole shared library of this machine's kind, before the system's loader is let at it.
//!
//! The loader maps what the headers promise; a file that was cut short would end the process at the first access.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;

/// Says what is wrong with a file; `None` where nothing is seen.
pub(crate) fn unfit(path: &Path) -> Option<String> {
    // A pipe would never end; it is not opened.
    match fs::metadata(path) {
        Err(error) => return Some(format!("cannot be read: {error}")),
        Ok(metadata) if !metadata.is_file() => return Some("is not a file".to_owned()),
        Ok(metadata) if metadata.len() < 64 => return Some("is no shared library".to_owned()),
        Ok(_) => {}
    }
    if !cfg!(target_os = "linux") {
        return None;
    }
    match look(path) {
        Ok(problem) => problem,
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}

fn look(path: &Path) -> std::io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut header = [0_u8; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let is_library = header.starts_with(b"\x7fELF\x02\x01") && number(&header, 16, 2) == Some(3);
    if !is_library {
        return Ok(Some("is no 64-bit shared library".to_owned()));
    }
    let machine = number(&header, 18, 2);
    let wanted = match std::env::consts::ARCH {
        "x86_64" => Some(62),
        "aarch64" => Some(183),
        _ => None,
    };
    if wanted.is_some() && wanted != machine {
        let message = format!("is for another kind of processor (ELF machine {machine:?})");
        return Ok(Some(message));
    }
    let cut = || Some("is cut short".to_owned());
    let (start, n) = (number(&header, 32, 8), number(&header, 56, 2));
    let (Some(start), Some(n)) = (start, n.and_then(|n| usize::try_from(n).ok())) else {
        return Ok(cut());
    };
    if start > size {
        return Ok(cut());
    }
    file.seek(SeekFrom::Start(start))?;
    // At most 65,535 of them.
    let mut segments = vec![0; n.saturating_mul(SEGMENT_BYTES)];
    if file.read_exact(&mut segments).is_err() {
        return Ok(cut());
    }
    let is_whole = segments.chunks_exact(SEGMENT_BYTES).all(|segment| {
        let end = number(segment, 8, 8)
            .zip(number(segment, 32, 8))
            .and_then(|(offset, length)| offset.checked_add(length));
        // Only segments of kind 1 are mapped.
        number(segment, 0, 4) != Some(1) || end.is_some_and(|end| end <= size)
    });
    Ok(if is_whole { None } else { cut() })
}

/// Reads a little-endian number of up to 8 bytes.
fn number(bytes: &[u8], place: usize, length: usize) -> Option<u64> {
    let mut whole = [0_u8; 8];
    let found = bytes.get(place..place.checked_add(length)?)?;
    whole.get_mut(..length)?.copy_from_slice(found);
    Some(u64::from_le_bytes(whole))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// A library of one segment, in `size` bytes of which the segment takes all.
    fn library(size: u64) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(HEADER_BYTES, 0);
        bytes[16] = 3;
        bytes[18] = if cfg!(target_arch = "aarch64") {
            183
        } else {
            62
        };
        bytes[32] = 64;
        bytes[56] = 1;
        let mut segment = vec![0; SEGMENT_BYTES];
        segment[0] = 1;
        segment[32..40].copy_from_slice(&size.to_le_bytes());
        bytes.extend(segment);
        bytes
    }

    fn check(bytes: &[u8]) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lib.so");
        fs::write(&path, bytes).unwrap();
        unfit(&path)
    }

    #[test]
    fn a_whole_library_is_fit_and_a_cut_one_is_not() {
        let mut whole = library(200);
        whole.resize(200, 0);
        assert_eq!(check(&whole), None);
        for size in 0..200 {
            assert!(check(&whole[..size]).is_some(), "{size}");
        }
        let mut endless = library(u64::MAX);
        endless.resize(200, 0);
        assert_eq!(check(&endless).as_deref(), Some("is cut short"));
    }

    #[test]
    fn what_is_no_library_of_this_machine_is_told() {
        assert!(check(&[b'a'; 100]).unwrap().contains("no 64-bit shared"));
        let mut foreign = library(100);
        foreign[18] = 20;
        assert!(check(&foreign).unwrap().contains("another kind"));
        assert!(unfit(Path::new("/")).unwrap().contains("not a file"));
        assert!(
            unfit(Path::new("/none"))
                .unwrap()
                .contains("cannot be read")
        );
    }
}
