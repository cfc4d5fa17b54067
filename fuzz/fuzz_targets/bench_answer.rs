//! Reads bytes as a server's answer, as the load tool does, whole and in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// A head that is longer is refused only while it is not complete.
const HEAD_BYTES_MAX: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > HEAD_BYTES_MAX {
        return;
    }
    let whole = coracle_bench::read_answer(bytes, usize::MAX);
    // However the network cuts it, an answer is the same.
    for n_bytes in [1, 7] {
        assert_eq!(coracle_bench::read_answer(bytes, n_bytes), whole);
    }
});
