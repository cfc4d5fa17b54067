//! Loads bytes as a model file and runs what comes of it.
#![no_main]

use coracle_base::ManualClock;
use coracle_formats::{LoadOptions, load_bytes};
use coracle_tensor::{Tensor, Values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(loaded) = load_bytes(bytes, &LoadOptions::default(), &ManualClock::new()) else {
        return;
    };
    let signature = loaded.model.signature();
    let Some(n_columns) = signature.inputs[0].n_columns().filter(|&n| n < 10_000) else {
        return;
    };
    let values = Values::F64(vec![0.5; 3 * n_columns].into());
    let table = Tensor::try_new(vec![3, n_columns], values).expect("the shape fits");
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    drop(loaded.model.run(&[table], &outputs));
});
