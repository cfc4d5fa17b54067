//! Reads bytes as a `config.pbtxt` and compares what it says with models of every kind of signature.
#![no_main]

use coracle_formats::TritonConfig;
use coracle_fuzz::signatures;
use coracle_model::Description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let config = match TritonConfig::from_bytes(bytes) {
        Ok(config) => config,
        Err(error) => {
            assert!(
                error.to_string().starts_with("line "),
                "errors have a place"
            );
            return;
        }
    };
    for signature in signatures() {
        drop(config.check("m", &signature, &Description::default()));
    }
});
