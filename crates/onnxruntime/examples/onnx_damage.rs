//! Damages ONNX files and gives them to ONNX Runtime: `onnx_damage LIBRARY N FILE...`.
//!
//! Of each file `N` variants are made, always the same: cut short, bits turned, bytes replaced. Each is loaded twice: as the server
//! does, behind our own reader, and by the engine directly; what loads is run. A variant that ends the process ends this program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load_bytes};
use coracle_model::{Component, Description, GraphEngine, GraphFile, LoadError, Model};
use coracle_onnx::synthetic_inputs;
use coracle_onnxruntime::{OnnxRuntime, Places};

/// The generator of Marsaglia's `xorshift64`.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % n.max(1)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(library), Some(n)) = (arguments.next(), arguments.next()) else {
        eprintln!("onnx_damage LIBRARY N FILE...");
        std::process::exit(2);
    };
    let n: usize = n.parse().unwrap_or(200);
    let places = Places {
        given: Some(PathBuf::from(library)),
        ..Places::default()
    };
    let engine = std::sync::Arc::new(OnnxRuntime::new(places, 1));
    let options = LoadOptions {
        graph_engine: Some(engine.clone()),
        ..LoadOptions::default()
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (seed, path) in arguments.enumerate() {
        let whole = std::fs::read(&path).unwrap_or_default();
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed as u64);
        for index in 0..n {
            let damaged = damage(&whole, index, &mut random);
            let served = load_bytes(&damaged, &options, &SystemClock::new());
            *counts
                .entry(format!(
                    "as served: {}",
                    outcome(served.map(|loaded| loaded.model))
                ))
                .or_default() += 1;
            let loaded = engine.load(GraphFile {
                bytes: &damaged,
                external: Vec::new(),
                description: description(),
                settings: BTreeMap::new(),
            });
            *counts
                .entry(format!("engine alone: {}", outcome(loaded)))
                .or_default() += 1;
        }
    }
    for (what, n) in counts {
        eprintln!("{what}: {n}");
    }
}

fn damage(whole: &[u8], index: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    // Structure lies at the start and at the end, names and shapes among it.
    let reach = match random.below(2) {
        0 => bytes.len(),
        _ => bytes.len().min(400),
    };
    match index % 4 {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            for _ in 0..=random.below(16) {
                let place = random.below(reach);
                bytes[place] ^= 1 << random.below(8);
            }
        }
        2 => {
            let place = random.below(reach);
            bytes[place] = [0, 0x7f, 0x80, 0xff][random.below(4)];
        }
        _ => {
            let place = random.below(reach);
            let n = random.below(9);
            let end = bytes.len().min(place + n);
            bytes.drain(place..end);
        }
    }
    bytes
}

fn outcome(loaded: Result<Box<dyn Model>, LoadError>) -> String {
    let model = match loaded {
        Ok(model) => model,
        Err(error) => return format!("refused, {:?}", error.kind()),
    };
    let outputs: Vec<usize> = (0..model.signature().outputs.len()).collect();
    match synthetic_inputs(&model.signature().inputs) {
        Some(inputs) => match model.run(&inputs, &outputs) {
            Ok(_) => "ran".to_owned(),
            Err(error) => format!("failed when run, {:?}", error.kind()),
        },
        None => "loaded".to_owned(),
    }
}

fn description() -> Description {
    Description {
        format: String::new(),
        library: String::new(),
        library_version: None,
        root: Component::default(),
    }
}
