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

/// A piece of memory: where it begins, and its length in bytes.
#[cfg(target_os = "linux")]
type Piece = (usize, usize);

/// Lets the system hold in large pages (2 MiB, usually) what is held in small ones and is used as a whole, after a model of `n_bytes` was
/// loaded, if that is a large one. A run that reads all of a model's weights takes the less time the fewer pages there are.
///
/// Nothing is done where the system does so by itself, or is told not to (`/sys/kernel/mm/transparent_hugepage/enabled`).
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "a function of the C library that this process runs on"
)]
pub(crate) fn use_large_pages(n_bytes: usize) {
    /// `MADV_HUGEPAGE` and `MADV_COLLAPSE` of mman.h; systems before Linux 6.1 do not know the second, and do it by and by.
    const ADVICE: [std::ffi::c_int; 2] = [14, 25];
    unsafe extern "C" {
        fn madvise(
            address: *mut std::ffi::c_void,
            length: usize,
            advice: std::ffi::c_int,
        ) -> std::ffi::c_int;
    }
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
        for advice in ADVICE {
            let address = std::ptr::without_provenance_mut(address);
            // SAFETY: madvise with these two takes any range, whoever uses it or has given it back meanwhile: they change the pages that
            // memory is held in, and neither what it holds nor where it is.
            let _is_done = unsafe { madvise(address, length, advice) };
        }
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
                    |(_, length): &Piece| used >= length - length / 8 && in_large <= used / 2;
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
        assert_eq!(found(&format!("{weights} [heap]"), 14_336, 0), there);
        assert_eq!(
            found(&format!("{weights} [anon:weights]"), 16_384, 8_192),
            there
        );
        // It is in large ones already; an eighth is not used; it is a file's, or nobody may write to it; it is small.
        for (head, rss, huge) in [
            (weights, 16_384, 8_194),
            (weights, 14_335, 0),
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

    /// What the memory holds stays what it was.
    #[test]
    fn a_large_piece_of_memory_is_told_of_and_stays_what_it_was() {
        let numbers: Vec<u64> = (0..4 << 20).collect();
        let first = numbers.as_ptr().addr();
        let maps = || std::fs::read_to_string("/proc/self/smaps").unwrap();
        let holds = |(at, length): &Piece| (*at..at + length).contains(&first);
        let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        let is_ours = modes.is_ok_and(|modes| modes.contains("[madvise]"));
        let was_small = in_small_pages(&maps()).iter().any(holds);
        use_large_pages(32 << 20);
        assert!(numbers.iter().copied().eq(0..4 << 20));
        if is_ours && was_small {
            let line = maps()
                .lines()
                .any(|line| line.starts_with("VmFlags:") && line.contains(" hg"));
            assert!(line, "no piece of memory is marked");
        }
    }
}
