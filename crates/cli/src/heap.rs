//! Gives memory that is free back to the system, so that a model that was let go of costs nothing.

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

/// Other allocators return what is free by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}

/// Other allocators have settings of their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_compact() {}
