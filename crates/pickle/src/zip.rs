//! Zip archives, as far as skops and numpy write them: members stored or deflated, found by exact name.
//!
//! Nothing is unpacked to disk. The directory is checked as a whole before a member is read: names are unique,
//! members do not overlap each other or the directory, each local header agrees with the directory. What a member
//! inflates to is charged to an [`Allowance`] before it is inflated, and must be what the directory declares.
//! Encrypted members, other compressions, archives of several parts, with a comment or with bytes before the
//! first member are refused.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use crate::cursor::Cursor;
use crate::{Error, Limits};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_ENTRY: u32 = 0x0201_4b50;
const DIRECTORY_END: u32 = 0x0605_4b50;
const LARGE_DIRECTORY_END: u32 = 0x0606_4b50;
const LARGE_DIRECTORY_LOCATOR: u32 = 0x0706_4b50;
const DIRECTORY_END_BYTES: usize = 22;
const LARGE_DIRECTORY_END_BYTES: usize = 56;
const LOCATOR_BYTES: usize = 20;
/// What every entry of a directory takes at least.
const DIRECTORY_ENTRY_BYTES: usize = 46;
/// The extra field that holds sizes past 32 bits.
const LARGE_SIZES: u16 = 1;
/// Bits of the flags: encryption, patches, strong encryption, masked headers.
const FLAGS_REFUSED: u16 = 0x2061;

/// What an archive and those within it may still inflate to.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) used: usize,
    bound: usize,
}

impl Allowance {
    /// Allows what `limits` allow for a file of `file_bytes`.
    pub(crate) fn new(file_bytes: usize, limits: &Limits) -> Self {
        let by_ratio = file_bytes.saturating_mul(limits.inflation_ratio_max);
        let bound = by_ratio
            .max(limits.inflated_bytes_free)
            .min(limits.inflated_bytes_max);
        Self { used: 0, bound }
    }

    fn take(&mut self, n_bytes: usize) -> Result<(), Error> {
        self.used = self.used.saturating_add(n_bytes);
        if self.used > self.bound {
            return Err(Error::limit("the decompressed size in bytes", self.bound));
        }
        Ok(())
    }
}

/// An archive whose directory was read and checked.
#[derive(Debug)]
pub(crate) struct Archive<'a> {
    members: HashMap<&'a str, Member<'a>>,
}

#[derive(Debug)]
struct Member<'a> {
    data: &'a [u8],
    offset: usize,
    is_deflated: bool,
    checksum: u32,
    size: usize,
}

/// One entry of the directory.
#[derive(Debug)]
struct Entry<'a> {
    name: &'a str,
    flags: u16,
    method: u16,
    checksum: u32,
    compressed: u64,
    size: u64,
    offset: u64,
}

/// Where the directory lies.
#[derive(Debug)]
struct Directory {
    n_entries: usize,
    start: usize,
    end: usize,
}

impl<'a> Archive<'a> {
    /// Reads and checks the directory.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let directory = Directory::find(bytes)?;
        let listed = bytes.get(directory.start..directory.end);
        let mut cursor = Cursor::new(listed.unwrap_or_default());
        let mut members = HashMap::new();
        let mut extents = Vec::new();
        for _ in 0..directory.n_entries {
            let entry = Entry::read(&mut cursor, directory.start)?;
            let (member, extent) = entry.member(bytes, directory.start)?;
            extents.push(extent);
            if members.insert(entry.name, member).is_some() {
                let problem = format!("two members named '{}'", entry.name.escape_debug());
                return Err(Error::malformed(problem, directory.start));
            }
        }
        if cursor.remaining() > 0 {
            return Err(Error::malformed(
                "bytes after the directory's last entry",
                directory.start,
            ));
        }
        check_extents(extents)?;
        Ok(Self { members })
    }

    /// Returns a member's bytes.
    pub(crate) fn member(
        &self,
        name: &str,
        allowance: &mut Allowance,
    ) -> Result<Cow<'a, [u8]>, Error> {
        let Some(member) = self.members.get(name) else {
            let problem = format!("a member that is missing ('{}')", name.escape_debug());
            return Err(Error::malformed(problem, 0));
        };
        allowance.take(member.size)?;
        let bytes = member.inflate()?;
        let mut crc = Crc::new();
        crc.update(&bytes);
        if crc.sum() != member.checksum {
            let problem = format!("a wrong checksum of '{}'", name.escape_debug());
            return Err(Error::malformed(problem, member.offset));
        }
        Ok(bytes)
    }
}

/// Members must follow each other from the first byte on, without sharing any.
fn check_extents(mut extents: Vec<(usize, usize)>) -> Result<(), Error> {
    extents.sort_unstable();
    let mut end = 0;
    for (start, next) in extents {
        if start < end {
            return Err(Error::malformed("members that overlap", start));
        }
        if end == 0 && start > 0 {
            return Err(Error::malformed("bytes before the first member", 0));
        }
        end = next;
    }
    Ok(())
}

impl Directory {
    fn find(bytes: &[u8]) -> Result<Self, Error> {
        let start = bytes.len().saturating_sub(DIRECTORY_END_BYTES);
        let mut cursor = Cursor::new(bytes.get(start..).unwrap_or_default());
        let what = "the end of the directory";
        if number::<4>(&mut cursor, what)? != u64::from(DIRECTORY_END) {
            return Err(Error::malformed(
                "a zip archive without the end of its directory",
                start,
            ));
        }
        let disks = number::<4>(&mut cursor, what)?;
        let (here, total) = (
            number::<2>(&mut cursor, what)?,
            number::<2>(&mut cursor, what)?,
        );
        let (size, offset) = (
            number::<4>(&mut cursor, what)?,
            number::<4>(&mut cursor, what)?,
        );
        let found = match Self::find_large(bytes, start)? {
            Some(found) => found,
            None if disks != 0 || here != total => {
                return Err(Error::unsupported("a zip archive of several parts", start));
            }
            None => (total, size, offset, start),
        };
        Self::checked(found)
    }

    /// Reads the directory's end of a large archive, if there is one before the usual end.
    fn find_large(bytes: &[u8], end: usize) -> Result<Option<(u64, u64, u64, usize)>, Error> {
        let Some(start) = end.checked_sub(LOCATOR_BYTES) else {
            return Ok(None);
        };
        let what = "the end of the large directory";
        let mut cursor = Cursor::new(bytes.get(start..end).unwrap_or_default());
        if number::<4>(&mut cursor, what)? != u64::from(LARGE_DIRECTORY_LOCATOR) {
            return Ok(None);
        }
        let wrong = || Error::malformed("a large directory whose end is elsewhere", start);
        cursor.take(4, what)?;
        let declared = number::<8>(&mut cursor, what)?;
        let record = start
            .checked_sub(LARGE_DIRECTORY_END_BYTES)
            .ok_or_else(wrong)?;
        let mut cursor = Cursor::new(bytes.get(record..start).unwrap_or_default());
        let signature = number::<4>(&mut cursor, what)?;
        if signature != u64::from(LARGE_DIRECTORY_END) || usize::try_from(declared) != Ok(record) {
            return Err(wrong());
        }
        cursor.take(12, what)?;
        let disks = number::<8>(&mut cursor, what)?;
        let (here, total) = (
            number::<8>(&mut cursor, what)?,
            number::<8>(&mut cursor, what)?,
        );
        if disks != 0 || here != total {
            return Err(Error::unsupported("a zip archive of several parts", record));
        }
        let (size, offset) = (
            number::<8>(&mut cursor, what)?,
            number::<8>(&mut cursor, what)?,
        );
        Ok(Some((total, size, offset, record)))
    }

    /// The directory must end where its end begins, and have room for its entries.
    fn checked((n_entries, size, start, end): (u64, u64, u64, usize)) -> Result<Self, Error> {
        let wrong = || Error::malformed("a directory that does not fit the archive", end);
        let size = usize::try_from(size).map_err(|_too_large| wrong())?;
        let start = usize::try_from(start).map_err(|_too_large| wrong())?;
        let n_entries = usize::try_from(n_entries).map_err(|_too_large| wrong())?;
        let has_room = n_entries
            .checked_mul(DIRECTORY_ENTRY_BYTES)
            .is_some_and(|least| least <= size);
        if start.checked_add(size) != Some(end) || !has_room {
            return Err(wrong());
        }
        Ok(Self {
            n_entries,
            start,
            end,
        })
    }
}

impl<'a> Entry<'a> {
    fn read(cursor: &mut Cursor<'a>, base: usize) -> Result<Self, Error> {
        let what = "an entry of the directory";
        let position = base.saturating_add(cursor.position());
        if number::<4>(cursor, what)? != u64::from(DIRECTORY_ENTRY) {
            return Err(Error::malformed("no entry of the directory", position));
        }
        cursor.take(4, what)?;
        let flags = u16::from_le_bytes(cursor.array(what)?);
        let method = u16::from_le_bytes(cursor.array(what)?);
        cursor.take(4, what)?;
        let checksum = u32::from_le_bytes(cursor.array(what)?);
        let (compressed, size) = (number::<4>(cursor, what)?, number::<4>(cursor, what)?);
        let lengths = [
            number::<2>(cursor, what)?,
            number::<2>(cursor, what)?,
            number::<2>(cursor, what)?,
        ];
        cursor.take(8, what)?;
        let offset = number::<4>(cursor, what)?;
        let [name, extra, comment] = lengths;
        let name = cursor.take_declared(name, what)?;
        let extra = cursor.take_declared(extra, what)?;
        cursor.take_declared(comment, what)?;
        let name = str::from_utf8(name)
            .map_err(|_invalid| Error::malformed("a member's name that is not text", position))?;
        let mut entry = Self {
            name,
            flags,
            method,
            checksum,
            compressed,
            size,
            offset,
        };
        entry.read_extra(extra)?;
        Ok(entry)
    }

    /// Replaces sizes that 32 bits do not hold.
    fn read_extra(&mut self, extra: &[u8]) -> Result<(), Error> {
        let mut cursor = Cursor::new(extra);
        let what = "an extra field of the directory";
        while cursor.remaining() > 0 {
            let id = u16::from_le_bytes(cursor.array(what)?);
            let length = number::<2>(&mut cursor, what)?;
            let field = cursor.take_declared(length, what)?;
            if id != LARGE_SIZES {
                continue;
            }
            let mut field = Cursor::new(field);
            for value in [&mut self.size, &mut self.compressed, &mut self.offset] {
                if *value == u64::from(u32::MAX) {
                    *value = number::<8>(&mut field, what)?;
                }
            }
        }
        Ok(())
    }

    /// Finds the member's data by its local header; returns its extent too.
    fn member(
        &self,
        bytes: &'a [u8],
        directory: usize,
    ) -> Result<(Member<'a>, (usize, usize)), Error> {
        let refused = |what: &str| {
            let what = format!("{what} (member '{}')", self.name.escape_debug());
            Err(Error::unsupported(what, 0))
        };
        if self.flags & FLAGS_REFUSED != 0 {
            return refused("an encrypted zip archive");
        }
        if !matches!(self.method, 0 | 8) {
            return refused("a compression other than deflate");
        }
        let misplaced = || {
            let problem = format!(
                "a member ('{}') that is misplaced",
                self.name.escape_debug()
            );
            Error::malformed(problem, 0)
        };
        let start = usize::try_from(self.offset).map_err(|_too_large| misplaced())?;
        let compressed = usize::try_from(self.compressed).map_err(|_too_large| misplaced())?;
        let size = usize::try_from(self.size).map_err(|_too_large| misplaced())?;
        let what = "a member";
        let mut cursor = Cursor::new(bytes.get(start..directory).ok_or_else(misplaced)?);
        let signature = number::<4>(&mut cursor, what)?;
        cursor.take(2, what)?;
        let flags = u16::from_le_bytes(cursor.array(what)?);
        let method = u16::from_le_bytes(cursor.array(what)?);
        cursor.take(16, what)?;
        let (name, extra) = (
            number::<2>(&mut cursor, what)?,
            number::<2>(&mut cursor, what)?,
        );
        let name = cursor.take_declared(name, what)?;
        cursor.take_declared(extra, what)?;
        let agrees = signature == u64::from(LOCAL_HEADER)
            && flags == self.flags
            && method == self.method
            && name == self.name.as_bytes()
            && (method == 8 || compressed == size);
        if !agrees {
            return Err(misplaced());
        }
        let offset = start.saturating_add(cursor.position());
        let data = cursor.take(compressed, what)?;
        let extent = (start, start.saturating_add(cursor.position()));
        let member = Member {
            data,
            offset,
            is_deflated: method == 8,
            checksum: self.checksum,
            size,
        };
        Ok((member, extent))
    }
}

impl<'a> Member<'a> {
    fn inflate(&self) -> Result<Cow<'a, [u8]>, Error> {
        if !self.is_deflated {
            return Ok(Cow::Borrowed(self.data));
        }
        let mut rest = self.data;
        let mut inflated = Vec::new();
        // One byte more than declared tells a member that is larger.
        let bound = u64::try_from(self.size).unwrap_or(u64::MAX);
        let mut reader = DeflateDecoder::new(&mut rest).take(bound.saturating_add(1));
        reader.read_to_end(&mut inflated).map_err(|source| {
            let problem = format!("deflated data that cannot be inflated ({source})");
            Error::malformed(problem, self.offset)
        })?;
        if inflated.len() != self.size || !rest.is_empty() {
            return Err(Error::malformed(
                "a member of another size than declared",
                self.offset,
            ));
        }
        Ok(Cow::Owned(inflated))
    }
}

/// Reads a little-endian number of `N` bytes.
fn number<const N: usize>(cursor: &mut Cursor<'_>, what: &'static str) -> Result<u64, Error> {
    let bytes: [u8; N] = cursor.array(what)?;
    let mut wide = [0; 8];
    for (place, byte) in wide.iter_mut().zip(bytes) {
        *place = byte;
    }
    Ok(u64::from_le_bytes(wide))
}
