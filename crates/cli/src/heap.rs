//! What the system is told of this process's memory: which of it is free, so that a model that was let go of costs nothing; and which is used
//! as a whole, so that a large model is read through few entries of the processor's address tables.

#[cfg(target_os = "linux")]
use std::io::{Read, Seek, SeekFrom};

/// Returns what the C library's allocator holds without need. A model that is loaded leaves much of that behind: the file, the
/// object graph. Takes milliseconds on a large heap, so it is called where models come and go, not where requests are.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "a function of the C library that this process runs on"
)]
pub(crate) fn give_back() {
    unsafe extern "C" {
        // SAFETY: glibc's malloc_trim takes a number of bytes to keep, may be called at any time from any thread, and
        // touches nothing that is in use.
        safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    let _something_was_returned = malloc_trim(0);
}

/// Lets the C library's allocator lay out what models take so that it can be given back: in few heaps, not in one of each thread that
/// loads, and large pieces by themselves. Costs a little where threads allocate at once, and is for a bounded memory only.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "a function of the C library that this process runs on"
)]
pub(crate) fn keep_compact() {
    /// `M_ARENA_MAX` and `M_MMAP_THRESHOLD` of malloc.h.
    const SETTINGS: [(std::ffi::c_int, std::ffi::c_int); 2] = [(-8, 2), (-3, 256 << 10)];
    unsafe extern "C" {
        // SAFETY: glibc's mallopt takes two numbers, may be called at any time from any thread, and ignores what it does not know.
        safe fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
    }
    for (parameter, value) in SETTINGS {
        let _is_known = mallopt(parameter, value);
    }
}

/// Models that take less leave the memory as it is: the processor keeps thousands of addresses of pages.
#[cfg(target_os = "linux")]
const LARGE_BYTES: usize = 8 << 20;
/// The size of a large page, where a small one has [`SMALL_PAGE_BYTES`]; where they have others, nothing is done.
#[cfg(target_os = "linux")]
const LARGE_PAGE_BYTES: usize = 2 << 20;
#[cfg(target_os = "linux")]
const SMALL_PAGE_BYTES: usize = 4 << 10;
/// So much is moved at a time: others who ask the system for memory meanwhile wait for that.
#[cfg(target_os = "linux")]
const STEP_BYTES: usize = 32 << 20;

/// A piece of memory: where it begins, and its length in bytes.
#[cfg(target_os = "linux")]
type Piece = (usize, usize);

/// Puts memory all of which is used into large pages, after a model of `n_bytes` was loaded, if that is a large one. A run that reads all of
/// a model's weights takes the less time the fewer pages there are. It is called after [`give_back`], lest what is free be moved.
///
/// Nothing is done where the system does so by itself, or is told not to (`/sys/kernel/mm/transparent_hugepage/enabled`), nor before
/// Linux 6.1. The memory is not marked for later: what is given back of it then stays so.
#[cfg(target_os = "linux")]
pub(crate) fn use_large_pages(n_bytes: usize) {
    const RULES: &str = "/sys/kernel/mm/transparent_hugepage";
    let rule = |name: &str| std::fs::read_to_string(format!("{RULES}/{name}")).unwrap_or_default();
    let is_left_to_us = || {
        rule("enabled").contains("[madvise]")
            && rule("hpage_pmd_size").trim() == LARGE_PAGE_BYTES.to_string()
    };
    if n_bytes < LARGE_BYTES || !is_left_to_us() {
        return;
    }
    let maps = std::fs::read_to_string("/proc/self/maps");
    let (Ok(maps), Ok(mut pages)) = (maps, std::fs::File::open("/proc/self/pagemap")) else {
        return;
    };
    for piece in anonymous(&maps) {
        for (address, length) in used(piece, &mut pages) {
            for begin in (0..length).step_by(STEP_BYTES) {
                // Where there are no large pages left, those who load after this one need not look for some in vain.
                let done = put_together(address + begin, STEP_BYTES.min(length - begin));
                if done.is_err_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory) {
                    return;
                }
            }
        }
    }
}

/// Returns the pieces in a text like `/proc/self/maps` that are private and of no file, each as far as it is of whole large pages.
#[cfg(target_os = "linux")]
fn anonymous(maps: &str) -> impl Iterator<Item = Piece> {
    maps.lines().filter_map(|line| {
        // Range, rights, offset, device, inode, and the name of a file or of what it is for.
        let mut words = line.split_ascii_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        let name = words.nth(3).unwrap_or_default();
        let is_memory = name.is_empty() || name == "[heap]" || name.starts_with("[anon");
        let (begin, end) = range.split_once('-')?;
        let begin = usize::from_str_radix(begin, 16).ok()?;
        let begin = begin.checked_next_multiple_of(LARGE_PAGE_BYTES)?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let length = end.checked_sub(begin)?;
        let length = length - length % LARGE_PAGE_BYTES;
        (is_memory && rights.starts_with("rw-p") && length > 0).then_some((begin, length))
    })
}

/// Returns what of a piece is used as a whole, by `pages`, which has eight bytes of each small page as `/proc/self/pagemap` does.
#[cfg(target_os = "linux")]
fn used((begin, length): Piece, pages: &mut (impl Read + Seek)) -> Vec<Piece> {
    const ENTRY_BYTES: usize = 8;
    /// An entry's last byte has this bit where the page is in memory.
    const IS_THERE: u8 = 0x80;
    let mut found: Vec<Piece> = Vec::new();
    let mut entries = vec![0; LARGE_PAGE_BYTES / SMALL_PAGE_BYTES * ENTRY_BYTES];
    let first = u64::try_from(begin / SMALL_PAGE_BYTES * ENTRY_BYTES).unwrap_or(u64::MAX);
    if pages.seek(SeekFrom::Start(first)).is_err() {
        return found;
    }
    for at in (begin..begin + length).step_by(LARGE_PAGE_BYTES) {
        if pages.read_exact(&mut entries).is_err() {
            break;
        }
        let mut last_bytes = entries.iter().skip(ENTRY_BYTES - 1).step_by(ENTRY_BYTES);
        if !last_bytes.all(|byte| byte & IS_THERE != 0) {
            continue;
        }
        match found.last_mut() {
            Some((before, n_bytes)) if *before + *n_bytes == at => *n_bytes += LARGE_PAGE_BYTES,
            _ => found.push((at, LARGE_PAGE_BYTES)),
        }
    }
    found
}

/// Puts a piece of memory into large pages; an error is the system's.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "a function of the C library that this process runs on"
)]
fn put_together(address: usize, length: usize) -> std::io::Result<()> {
    /// `MADV_COLLAPSE` of mman.h.
    const COLLAPSE: std::ffi::c_int = 25;
    unsafe extern "C" {
        fn madvise(
            address: *mut std::ffi::c_void,
            length: usize,
            advice: std::ffi::c_int,
        ) -> std::ffi::c_int;
    }
    let address = std::ptr::without_provenance_mut(address);
    // SAFETY: with this advice, madvise takes any range, whoever uses it or has given it back meanwhile: it changes the pages that memory
    // is held in, and neither what it holds nor where it is.
    match unsafe { madvise(address, length, COLLAPSE) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Other systems choose their pages themselves.
#[cfg(not(target_os = "linux"))]
pub(crate) fn use_large_pages(_n_bytes: usize) {}

/// Other allocators return what is free by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}

/// Other allocators have settings of their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_compact() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn memory_of_no_file_is_found_in_whole_large_pages() {
        let found = |line: &str| Vec::from_iter(anonymous(line));
        let range = "7f0000000000-7f0001000000";
        let whole = vec![(0x7f00_0000_0000, 16 << 20)];
        for name in ["", " [heap]", " [anon:weights]"] {
            assert_eq!(
                found(&format!("{range} rw-p 00000000 00:00 0{name}")),
                whole
            );
        }
        let rest = "7effffff1000-7f00010ff000 rw-p 00000000 00:00 0";
        assert_eq!(found(rest), whole);
        for line in [
            "7f0000000000-7f0001000000 rw-p 00000000 fe:00 7 /models/m.bin",
            "7f0000000000-7f0001000000 rw-s 00000000 00:00 0",
            "7f0000000000-7f0001000000 r--p 00000000 00:00 0",
            "7f0000000000-7f0001000000 rw-p 00000000 00:00 0 [stack]",
            "7f0000000000-7f00001ff000 rw-p 00000000 00:00 0",
            "7f0001000000-7f0000000000 rw-p 00000000 00:00 0",
            "ffffffffffffffff-ffffffffffffffff rw-p 00000000 00:00 0",
            "no-range rw-p 00000000 00:00 0",
            "",
        ] {
            assert_eq!(found(line), [], "{line}");
        }
    }

    #[test]
    fn what_is_used_as_a_whole_is_told_by_its_pages() {
        let mut pages = vec![0_u8; 5 * 4_096];
        for entry in pages.chunks_exact_mut(8) {
            entry[7] = 0x81;
        }
        let of = |pages: &[u8]| used((LARGE_PAGE_BYTES, 4 << 21), &mut Cursor::new(pages));
        assert_eq!(of(&pages), [(2 << 20, 8 << 20)]);
        // One page of the third piece is not there.
        pages[3 * 4_096 + 8 * 300 + 7] = 0x01;
        assert_eq!(of(&pages), [(2 << 20, 4 << 20), (8 << 20, 2 << 20)]);
        // Nothing is known of the last.
        assert_eq!(of(&pages[..4 * 4_096 + 9]), [(2 << 20, 4 << 20)]);
        assert_eq!(of(&[]), []);
    }

    /// Returns the bytes of the memory around an address that are in large pages.
    fn in_large_pages(address: usize) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let mut is_around = false;
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            let first = words.next().unwrap_or_default();
            if let Some((begin, end)) = first.split_once('-') {
                let [begin, end] = [begin, end].map(|text| usize::from_str_radix(text, 16).ok());
                is_around = begin <= Some(address) && Some(address) < end;
            } else if is_around && first == "AnonHugePages:" {
                let kib = words.next().and_then(|number| number.parse::<usize>().ok());
                return kib.unwrap_or(0) << 10;
            }
        }
        0
    }

    /// What the memory holds stays what it was, wherever it is then.
    #[test]
    fn memory_that_is_used_as_a_whole_is_put_into_large_pages() {
        let numbers: Vec<u64> = (0..4 << 20).collect();
        let middle = numbers[2 << 20..].as_ptr().addr();
        let before = in_large_pages(middle);
        use_large_pages(LARGE_BYTES - 1);
        assert_eq!(in_large_pages(middle), before);
        use_large_pages(32 << 20);
        assert!(numbers.iter().copied().eq(0..4 << 20));
        // Systems that know how, and have no other rule.
        let probe = vec![1_u8; 8 << 20];
        let begin = probe.as_ptr().addr().next_multiple_of(2 << 20);
        let is_known = put_together(begin, 4 << 20).is_ok();
        let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        if is_known && modes.is_ok_and(|modes| modes.contains("[madvise]")) {
            assert!(in_large_pages(middle) > 16 << 20);
        }
    }
}
