//! Times in-process predictions of a model of one column of texts: `time_texts MODEL TEXT_FILE`.
//!
//! The file's lines are the texts. Prints the median time per text, asked one at a time and all at once.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::error::Error;
use std::hint::black_box;
use std::path::Path;

use coracle_base::{Clock, SystemClock};
use coracle_formats::{LoadOptions, load};
use coracle_tensor::{ByteStrings, Tensor, Values};

/// How often each measurement is taken.
const SAMPLES: usize = 51;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(texts)) = (arguments.next(), arguments.next()) else {
        return Err("usage: time_texts MODEL TEXT_FILE".into());
    };
    let clock = SystemClock::new();
    let model = load(Path::new(&model), &LoadOptions::default(), &clock)?.model;
    let texts = std::fs::read_to_string(texts)?;
    let column = |lines: &[&str]| {
        let lines: ByteStrings = lines.iter().collect();
        [Tensor::from_values(Values::Bytes(lines))]
    };
    let lines: Vec<&str> = texts.lines().collect();
    let outputs = model.signature().default_outputs.clone();
    for n_rows in [1, lines.len()] {
        let tables: Vec<_> = lines.chunks(n_rows).map(column).collect();
        let mut samples = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let before = clock.monotonic();
            for table in &tables {
                black_box(model.run(black_box(table), &outputs)?);
            }
            let elapsed = clock.monotonic() - before;
            samples.push(elapsed.as_secs_f64() * 1e6 / lines.len() as f64);
        }
        samples.sort_by(f64::total_cmp);
        println!("{n_rows} at once: {:.2} us per text", samples[SAMPLES / 2]);
    }
    Ok(())
}
