//! Reads bytes as what Prometheus answers a rollout's question.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(number) = coracle_control::read_prometheus_answer(200, bytes) {
        assert!(number.is_finite());
    }
    // A failure is none, whatever it says.
    assert!(coracle_control::read_prometheus_answer(500, bytes).is_err());
});
