//! What the system is told of this process's memory: which of it is free, so that a model that was let go of costs nothing; and which is used
//! as a whole, so that a large model is read through few entries of the processor's address tables.

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
/// So much is moved at a time: others who ask the system for memory meanwhile wait for that.
#[cfg(target_os = "linux")]
const STEP_BYTES: usize = 32 << 20;

/// A piece of memory: where it begins, and its length in bytes.
#[cfg(target_os = "linux")]
type Piece = (usize, usize);

/// Puts memory that is in small pages and used as a whole into large ones (2 MiB, usually), after a model of `n_bytes` was loaded, if that
/// is a large one. A run that reads all of a model's weights takes the less time the fewer pages there are. It is called after
/// [`give_back`], lest what is free be moved.
///
/// Nothing is done where the system does so by itself, or is told not to (`/sys/kernel/mm/transparent_hugepage/enabled`), nor before
/// Linux 6.1. The memory is not marked for later: what is given back of it then stays so.
#[cfg(target_os = "linux")]
pub(crate) fn use_large_pages(n_bytes: usize) {
    let is_left_to_us = || {
        let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        modes.is_ok_and(|modes| modes.contains("[madvise]"))
    };
    if n_bytes < LARGE_BYTES || !is_left_to_us() {
        return;
    }
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (address, length) in in_small_pages(&maps) {
        for begin in (0..length).step_by(STEP_BYTES) {
            // Where there are no large pages left, those who load after this one need not look for some in vain.
            let done = put_together(address + begin, STEP_BYTES.min(length - begin));
            if done.is_err_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory) {
                return;
            }
        }
    }
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

/// Returns the pieces of memory in a text like `/proc/self/smaps` that are large, private, of no file, nearly all used, and mostly in small pages.
#[cfg(target_os = "linux")]
fn in_small_pages(maps: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece: Option<Piece> = None;
    let mut used = 0;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else {
            continue;
        };
        let kib = || second.and_then(|number| number.parse::<usize>().ok());
        match first {
            "Rss:" => used = kib().unwrap_or(0).saturating_mul(1 << 10),
            "AnonHugePages:" => {
                let in_large = kib().unwrap_or(0).saturating_mul(1 << 10);
                let is_it =
                    |(_, length): &Piece| used >= length - length / 64 && in_large <= used / 2;
                pieces.extend(piece.take().filter(is_it));
            }
            _ if first.ends_with(':') => {}
            range => {
                // Offset, device, inode, and the name of a file or of what it is for.
                let name = words.nth(3).unwrap_or_default();
                let is_memory = name.is_empty() || name == "[heap]" || name.starts_with("[anon");
                let is_writable = second.is_some_and(|rights| rights.starts_with("rw-p"));
                piece = (is_memory && is_writable)
                    .then(|| range_of(range))
                    .flatten();
                used = 0;
            }
        }
    }
    pieces
}

/// Reads `first-end`, hexadecimal; `None` if that is not large.
#[cfg(target_os = "linux")]
fn range_of(text: &str) -> Option<Piece> {
    let (first, end) = text.split_once('-')?;
    let first = usize::from_str_radix(first, 16).ok()?;
    let length = usize::from_str_radix(end, 16).ok()?.checked_sub(first)?;
    (length >= LARGE_BYTES / 2).then_some((first, length))
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
    use super::*;

    #[test]
    fn memory_in_small_pages_is_found_where_it_is_large_and_used() {
        let map = |head: &str, rss: usize, huge: usize| {
            format!(
                "{head}\nSize:  99 kB\nKernelPageSize:  4 kB\nRss:  {rss} kB\nAnonymous: {rss} kB\nAnonHugePages:  {huge} kB\nVmFlags: rd wr mr\n"
            )
        };
        let weights = "7f0000000000-7f0001000000 rw-p 00000000 00:00 0";
        let found = |head: &str, rss, huge| in_small_pages(&map(head, rss, huge));
        let there = vec![(0x7f00_0000_0000, 16 << 20)];
        assert_eq!(found(weights, 16_384, 0), there);
        assert_eq!(found(&format!("{weights} [heap]"), 16_128, 0), there);
        assert_eq!(
            found(&format!("{weights} [anon:weights]"), 16_384, 8_192),
            there
        );
        // It is in large ones already; more than a 64th is not used; it is a file's, or nobody may write to it; it is small.
        for (head, rss, huge) in [
            (weights, 16_384, 8_194),
            (weights, 16_127, 0),
            (
                "7f0000000000-7f0001000000 rw-p 00000000 fe:00 7 /models/m.bin",
                16_384,
                0,
            ),
            ("7f0000000000-7f0001000000 rw-s 00000000 00:00 0", 16_384, 0),
            ("7f0000000000-7f0001000000 r--p 00000000 00:00 0", 16_384, 0),
            ("7f0000000000-7f0000300000 rw-p 00000000 00:00 0", 16_384, 0),
            (
                "7f0000000000-7f0001000000 rw-p 00000000 00:00 0 [stack]",
                16_384,
                0,
            ),
            ("7f0001000000-7f0000000000 rw-p 00000000 00:00 0", 16_384, 0),
            ("no-range rw-p 00000000 00:00 0", 16_384, 0),
            ("", 16_384, 0),
        ] {
            assert_eq!(found(head, rss, huge), [], "{head} {rss} {huge}");
        }
        let two =
            map("7f0000000000-7f0000300000 rw-p 0 00:00 0", 16_384, 0) + &map(weights, 16_384, 0);
        assert_eq!(in_small_pages(&two), there);
        assert_eq!(in_small_pages("Rss: x kB\nAnonHugePages:\n"), []);
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
