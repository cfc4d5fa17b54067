//! Damaged files: an error or a model, never a panic.

use std::fs;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load_bytes};
use coracle_tensor::{DType, Tensor, Values};

use crate::archive::{archive, members};
use crate::{boosted, fixture, skops};

/// A small generator of reproducible numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }
}

/// Loads `bytes` and, if a model comes of them, runs it.
fn exercise(bytes: &[u8]) {
    let Ok(loaded) = load_bytes(bytes, &LoadOptions::default(), &SystemClock::new()) else {
        return;
    };
    let signature = loaded.model.signature();
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    let takes_texts = signature.columns.is_some() || !signature.keyed_inputs.is_empty();
    if takes_texts && signature.inputs.len() <= 1_000 {
        let inputs = signature.inputs.iter().map(|input| {
            Tensor::from_values(match input.dtype {
                DType::Bytes => Values::Bytes(["", "S", "caf\u{e9} free"].into_iter().collect()),
                _ => Values::F64(vec![0.5, 1.0, f64::NAN].into()),
            })
        });
        let inputs: Vec<Tensor> = inputs.collect();
        drop(loaded.model.run(&inputs, &outputs));
        return;
    }
    let Some(n_columns) = signature.inputs[0].n_columns().filter(|&n| n <= 10_000) else {
        return;
    };
    let table = Tensor::try_new(
        vec![3, n_columns],
        Values::F64(vec![0.5; 3 * n_columns].into()),
    )
    .unwrap();
    drop(loaded.model.run(&[table], &outputs));
}

#[test]
fn truncated_and_bit_flipped_files_never_panic() {
    let mut random = Random(7);
    let mut n_files = 0;
    for release in ["0.18.2", "0.20.4", "1.0.2", "1.5.2", "1.9.1"] {
        // Uncompressed files, since damage behind a checksum goes no further than the checksum.
        let numeric = fixture::read(&format!("numeric/{release}"));
        let columns = match release {
            "1.5.2" => "columns/1.4.2".to_owned(),
            release => format!("columns/{release}"),
        };
        let fixtures = fixture::read(release).into_iter().chain(numeric);
        let fixtures = fixtures.chain(fixture::read(&columns));
        let fixtures = fixtures.chain(fixture::read(&format!("hashed/{release}")));
        let fixtures = fixtures.filter(|fixture| {
            let writer = fixture.document["written_by"].as_str().unwrap();
            writer == "joblib raw" || writer == "joblib" || writer.starts_with("pickle")
        });
        for fixture in fixtures {
            let bytes = fs::read(&fixture.path).unwrap();
            n_files += 1;
            damage(&bytes, &mut random);
        }
    }
    assert!(n_files > 50, "{n_files}");
}

/// Cuts a file short and flips bits in it.
fn damage(bytes: &[u8], random: &mut Random) {
    for _ in 0..4 {
        exercise(&bytes[..random.below(bytes.len())]);
    }
    for _ in 0..24 {
        let mut damaged = bytes.to_vec();
        for _ in 0..=random.below(3) {
            let position = random.below(damaged.len());
            damaged[position] ^= 1 << random.below(8);
        }
        exercise(&damaged);
    }
}

#[test]
fn damaged_files_of_boosted_trees_never_panic() {
    let mut random = Random(11);
    for library in boosted::LIBRARIES {
        for release in [library.releases.first(), library.releases.last()]
            .into_iter()
            .flatten()
        {
            for (path, document) in boosted::documents(&boosted::root(library.name).join(release)) {
                let writer = document["written_by"].as_str().unwrap();
                if !writer.contains("zlib") {
                    damage(&fs::read(&path).unwrap(), &mut random);
                }
            }
        }
    }
}

/// Damages one member of an archive and puts it together again, with sound checksums.
fn damage_members(bytes: &[u8], random: &mut Random) {
    let members = members(bytes);
    for _ in 0..24 {
        let mut damaged = members.clone();
        // The schema says what everything is, so it is damaged most.
        let index = match random.below(3) {
            0 => random.below(damaged.len()),
            _ => damaged.len() - 1,
        };
        let (name, data) = &mut damaged[index];
        match name.as_str() {
            "schema.json" => *data = exchange_words(data, random),
            _ => {
                let position = random.below(data.len());
                data[position] ^= 1 << random.below(8);
            }
        }
        exercise(&archive(&damaged));
    }
}

/// Puts quoted words of a JSON text in the place of others.
fn exchange_words(text: &[u8], random: &mut Random) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let mut words: Vec<&str> = text.split('"').collect();
    for _ in 0..=random.below(3) {
        let (from, to) = (random.below(words.len()), random.below(words.len()));
        // Between quotes lie words; beside them what separates the words.
        if from % 2 == to % 2 {
            words[to] = words[from];
        }
    }
    words.join("\"").into_bytes()
}

#[test]
fn damaged_skops_files_never_panic() {
    let mut random = Random(13);
    for family in ["trees", "numeric", "columns", "wrapped/columns"] {
        for fixture in skops::fixtures(family).into_iter().step_by(6) {
            let bytes = fs::read(&fixture.path).unwrap();
            damage(&bytes, &mut random);
            damage_members(&bytes, &mut random);
        }
    }
}

#[test]
fn damaged_rows_of_any_length_are_errors_or_answers() {
    let mut random = Random(13);
    let parts = [
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\\u",
        "\\ud800",
        "null",
        "1e999",
        "[[\"a\",1]]",
    ];
    let (mut n_answers, mut n_errors) = (0, 0);
    for fixture in fixture::read("hashed/1.9.1") {
        let model = fixture.load().unwrap();
        for row in fixture.document["x"].as_array().unwrap() {
            let text = row.to_string();
            for _ in 0..40 {
                let mut bytes = text.clone().into_bytes();
                for _ in 0..=random.below(2) {
                    let position = random.below(bytes.len().max(1));
                    match random.below(3) {
                        0 => bytes.truncate(position),
                        1 => drop(
                            bytes
                                .get_mut(position)
                                .map(|byte| *byte ^= 1 << random.below(8)),
                        ),
                        _ => {
                            drop(bytes.splice(
                                position..position,
                                parts[random.below(parts.len())].bytes(),
                            ))
                        }
                    }
                }
                let texts = Values::Bytes([bytes.as_slice()].into_iter().collect());
                match model.run(&[Tensor::from_values(texts)], &[0]) {
                    Ok(_) => n_answers += 1,
                    Err(error) => {
                        n_errors += 1;
                        assert!(error.to_string().contains("row 0"), "{error}");
                    }
                }
            }
        }
    }
    assert!(
        n_answers > 100 && n_errors > 1_000,
        "{n_answers}, {n_errors}"
    );
}
