//! Expands bytes in every compression, within a bound; what was compressed comes back.
#![no_main]

use coracle_protocol::compression::{Encoding, compress, expand};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 10_000;

fuzz_target!(|data: &[u8]| {
    for encoding in Encoding::ALL {
        if let Ok(expanded) = expand(encoding, data, BYTES_MAX) {
            assert!(expanded.len() <= BYTES_MAX);
        }
        let mut out = Vec::new();
        compress(encoding, data, &mut out).expect("memory takes all of it");
        let expanded = expand(encoding, &out, data.len()).expect("what was compressed expands");
        assert_eq!(expanded, data);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        std::hint::black_box(Encoding::preferred(text));
    }
});
