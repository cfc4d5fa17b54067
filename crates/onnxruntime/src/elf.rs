//! What the headers of a shared library say: whether it is whole and of this machine's kind, before the system's loader is let at it, and
//! which libraries it needs.
//!
//! The loader maps what the headers promise; a file that was cut short would end the process at the first access.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
/// The kind of segments that are mapped, and of the one that says what is linked.
const MAPPED: u64 = 1;
const LINKING: u64 = 2;
const LINKING_ENTRY_BYTES: usize = 16;
const LINKING_BYTES_MAX: u64 = 1 << 20;
/// The entries of what is linked: a library that is needed, where names lie, and how many bytes of them.
const NEEDED: u64 = 1;
const NAMES: u64 = 5;
const NAMES_LENGTH: u64 = 10;
/// A library of many templates has names of many megabytes.
const NAMES_BYTES_MAX: u64 = 256 << 20;
const NEEDED_MAX: usize = 256;

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
    let is_whole = segments(&mut file, &header)?.is_some_and(|segments| {
        segments.iter().all(|segment| {
            let end = segment.offset.checked_add(segment.length);
            segment.kind != MAPPED || end.is_some_and(|end| end <= size)
        })
    });
    Ok((!is_whole).then(|| "is cut short".to_owned()))
}

/// A part of a library.
struct Segment {
    kind: u64,
    /// Where it is in the file.
    offset: u64,
    /// Where it is in memory, beside where the library is.
    address: u64,
    /// How long it is in the file.
    length: u64,
}

/// Reads what a library is made of; `None` if its file ends before.
fn segments(file: &mut File, header: &[u8]) -> std::io::Result<Option<Vec<Segment>>> {
    let size = file.metadata()?.len();
    let (start, n) = (number(header, 32, 8), number(header, 56, 2));
    let (Some(start), Some(n)) = (start, n.and_then(|n| usize::try_from(n).ok())) else {
        return Ok(None);
    };
    if start > size {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(start))?;
    // At most 65,535 of them.
    let mut bytes = vec![0; n.saturating_mul(SEGMENT_BYTES)];
    if file.read_exact(&mut bytes).is_err() {
        return Ok(None);
    }
    let segments = bytes.chunks_exact(SEGMENT_BYTES).map(|segment| {
        Some(Segment {
            kind: number(segment, 0, 4)?,
            offset: number(segment, 8, 8)?,
            address: number(segment, 16, 8)?,
            length: number(segment, 32, 8)?,
        })
    });
    Ok(segments.collect())
}

/// Returns the names of the libraries that a library needs, in its order; none where that cannot be told.
pub(crate) fn needed(path: &Path) -> Vec<String> {
    let needed = File::open(path).and_then(|mut file| read_needed(&mut file));
    needed.ok().flatten().unwrap_or_default()
}

fn read_needed(file: &mut File) -> std::io::Result<Option<Vec<String>>> {
    let mut header = [0_u8; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let Some(segments) = segments(file, &header)? else {
        return Ok(None);
    };
    let Some(linking) = segments.iter().find(|segment| segment.kind == LINKING) else {
        return Ok(None);
    };
    let table = part(file, linking.offset, linking.length, LINKING_BYTES_MAX)?;
    let entries = table.chunks_exact(LINKING_ENTRY_BYTES);
    let entries = entries.filter_map(|entry| Some((number(entry, 0, 8)?, number(entry, 8, 8)?)));
    let entries: Vec<(u64, u64)> = entries.take_while(|(tag, _)| *tag != 0).collect();
    let value = |wanted: u64| {
        let found = entries.iter().find(|(tag, _)| *tag == wanted);
        found.map(|(_, value)| *value)
    };
    // Names lie where they are in memory, within a segment of the file.
    let place = value(NAMES).and_then(|address| {
        segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            let is_here = segment.kind == MAPPED && within < segment.length;
            is_here.then(|| segment.offset.checked_add(within))?
        })
    });
    let (Some(place), Some(length)) = (place, value(NAMES_LENGTH)) else {
        return Ok(None);
    };
    let names = part(file, place, length, NAMES_BYTES_MAX)?;
    let needed = entries.iter().filter(|(tag, _)| *tag == NEEDED);
    let needed = needed.take(NEEDED_MAX).filter_map(|(_, from)| {
        let name = names.get(usize::try_from(*from).ok()?..)?;
        let name = name.split(|byte| *byte == 0).next()?;
        let name = str::from_utf8(name).ok()?;
        let is_name = (1..=255).contains(&name.len()) && !name.contains('/');
        is_name.then(|| name.to_owned())
    });
    Ok(Some(needed.collect()))
}

/// Reads a part of a file, up to so many bytes of it.
fn part(file: &mut File, start: u64, length: u64, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length.min(bytes_max)).read_to_end(&mut bytes)?;
    Ok(bytes)
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

    /// A library whose only segments are itself and what it links: `libone.so.1` and `libtwo.so`.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        reason = "places in a small file"
    )]
    fn linked() -> Vec<u8> {
        let names = b"\0libone.so.1\0libtwo.so\0a/b\0";
        let mut bytes = library(0);
        bytes[56] = 2;
        let segment = |kind: u64, offset: u64, address: u64, length: u64| {
            let fields = [kind, offset, address, 0, length, length, 0];
            fields.map(u64::to_le_bytes).concat()
        };
        bytes.truncate(HEADER_BYTES);
        let (at, n_entries) = (HEADER_BYTES as u64 + 2 * 56, 7);
        let names_at = at + n_entries * 16;
        let size = names_at + names.len() as u64;
        bytes.extend(segment(MAPPED, 0, 0x1000, size));
        bytes.extend(segment(LINKING, at, 0x1000 + at, n_entries * 16));
        for (tag, value) in [
            (NEEDED, 1),
            (NEEDED, 13),
            (NEEDED, 23),
            (NEEDED, 1 << 40),
            (NAMES, 0x1000 + names_at),
            (NAMES_LENGTH, names.len() as u64),
            (0, 0),
        ] {
            bytes.extend([tag, value].map(u64::to_le_bytes).concat());
        }
        bytes.extend(names);
        bytes
    }

    fn needed_by(bytes: &[u8]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lib.so");
        fs::write(&path, bytes).unwrap();
        needed(&path)
    }

    #[test]
    fn what_a_library_needs_is_named() {
        let whole = linked();
        assert_eq!(check(&whole), None);
        assert_eq!(needed_by(&whole), ["libone.so.1", "libtwo.so"]);
        for size in 0..whole.len() {
            needed_by(&whole[..size]);
        }
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            for value in [0, 0x7f, 0xff] {
                damaged[place] = value;
                assert!(needed_by(&damaged).len() <= 4);
            }
        }
        // The system's own: whatever this test is linked with, the C library is among it.
        let this = std::env::current_exe().unwrap();
        assert!(needed(&this).iter().any(|name| name.starts_with("libc.")));
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
