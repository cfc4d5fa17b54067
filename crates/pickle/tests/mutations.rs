//! Damages real files in every way that is cheap to try. Whatever comes out, it comes out as a value or an
//! error, soon, and never as a panic. The seeds are fixed, so a failure repeats; `fuzz/` goes further.
#![expect(
    clippy::unwrap_used,
    reason = "a test file that cannot be read should fail loudly"
)]

use std::fs;
use std::path::{Path, PathBuf};

use coracle_pickle::{
    ClassTable, Error, GlobalForm, Graph, KnownGlobal, Limits, NodeId, read, read_npy,
};

static SAMPLE: &[KnownGlobal] = &[
    KnownGlobal {
        module: "sample",
        name: "Point",
        canonical: "sample.Point",
        form: GlobalForm::Record,
    },
    KnownGlobal {
        module: "sample",
        name: "Made",
        canonical: "sample.Made",
        form: GlobalForm::Constructor,
    },
];

/// A linear congruential generator; enough to pick places and bytes.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next(256)).unwrap()
    }
}

fn corpus(names: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files = Vec::new();
    for directory in fs::read_dir(root).unwrap() {
        for file in fs::read_dir(directory.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if names.iter().any(|part| name.contains(part)) {
                files.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Small bounds, so that damage which asks for much is refused quickly.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.inflated_bytes_free = 1 << 20;
    limits
}

/// Reads, and looks at everything that was read.
fn try_read(bytes: &[u8]) -> Result<Graph, Error> {
    let graph = read(bytes, &ClassTable::new(SAMPLE), &limits())?;
    let mut open = vec![graph.root()];
    let mut seen = vec![false; graph.len()];
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        look_at(&graph, id);
        open.extend_from_slice(graph.list(id).unwrap_or_default());
        for (key, value) in graph.dict(id).unwrap_or_default() {
            open.extend([*key, *value]);
        }
        if let Some(object) = graph.object(id) {
            open.extend(object.args.iter().chain(&object.state));
        }
        open.extend_from_slice(
            graph
                .array(id)
                .and_then(|a| a.objects())
                .unwrap_or_default(),
        );
    }
    Ok(graph)
}

fn look_at(graph: &Graph, id: NodeId) {
    let _values = (
        graph.int(id),
        graph.float(id),
        graph.bool(id),
        graph.string(id),
    );
    if let Some(array) = graph.array(id) {
        let _items = (
            array.to_f64s(),
            array.to_i64s(),
            array.to_strings(),
            array.to_bools(),
        );
        let expected = array.len() * array.dtype().item_size;
        assert!(array.objects().is_some() || array.bytes().len() == expected);
        for field in &array.dtype().fields {
            assert_eq!(array.field(&field.name).unwrap().shape(), array.shape());
        }
    }
    if let Ok(Some(matrix)) = graph.sparse(id) {
        assert_eq!(matrix.row_starts.len(), matrix.n_rows + 1);
        assert!(
            matrix
                .columns
                .iter()
                .all(|column| *column < matrix.n_columns)
        );
    }
}

#[test]
fn files_cut_anywhere_are_refused() {
    for (path, bytes) in corpus(&[
        "arrays.p5.joblib",
        "arrays.p2.pkl",
        "plain.p0",
        "plain.p4",
        "small.",
    ]) {
        for length in (0..bytes.len()).step_by(if bytes.len() > 4000 { 23 } else { 1 }) {
            assert!(
                try_read(&bytes[..length]).is_err(),
                "{} cut at {length}",
                path.display()
            );
        }
    }
}

#[test]
fn every_flipped_bit_gives_a_value_or_an_error() {
    for (_, bytes) in corpus(&["small.zlib", "texts.zfile"]) {
        let mut damaged = bytes.clone();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                damaged[index] ^= 1 << bit;
                drop(try_read(&damaged));
                damaged[index] = bytes[index];
            }
        }
    }
}

/// One bit of each byte: these decompressors clear megabytes before they begin.
#[test]
fn a_flipped_bit_in_every_byte_gives_a_value_or_an_error() {
    for (_, bytes) in corpus(&["small.xz", "small.lzma", "small.bz2", "small.lz4"]) {
        let mut damaged = bytes.clone();
        for index in 0..bytes.len() {
            damaged[index] ^= 1 << (index % 8);
            drop(try_read(&damaged));
            damaged[index] = bytes[index];
        }
    }
}

#[test]
fn every_flipped_bit_of_a_npy_file_gives_a_value_or_an_error() {
    for (_, bytes) in corpus(&["record.npy", "f8_fortran.npy", "texts.npy"]) {
        let mut damaged = bytes.clone();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                damaged[index] ^= 1 << bit;
                drop(read_npy(&damaged, &limits()));
                damaged[index] = bytes[index];
            }
            assert!(read_npy(&bytes[..index], &limits()).is_err());
        }
    }
}

#[test]
fn damaged_files_give_a_value_or_an_error() {
    let files = corpus(&["arrays.", "plain.", "small.gzip"]);
    let mut random = Random(20_261_123);
    for (_, bytes) in &files {
        for _ in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.next(4) {
                damage(&mut damaged, &mut random);
            }
            drop(try_read(&damaged));
        }
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.next(bytes.len());
    let length = random.next(20).min(bytes.len() - at);
    match random.next(6) {
        0 => bytes[at] = random.byte(),
        1 => bytes.insert(at, random.byte()),
        2 => drop(bytes.drain(at..at + length)),
        3 => {
            let copied = bytes[at..at + length].to_vec();
            let to = random.next(bytes.len());
            bytes.splice(to..to, copied);
        }
        // Lengths and numbers at their extremes.
        4 => bytes[at..at + length].fill(if random.next(2) == 0 { 0xff } else { 0x7f }),
        _ => {
            // An opcode that changes what follows.
            let opcodes = b"(.012FIJKLMNRSTUVXabcd}eghjlpqrstu)G\x81\x85\x86\x87\x8a\x8b\x8c\x8d\x8e\x90\x91\x92\x93\x94\x95\x96";
            bytes[at] = opcodes[random.next(opcodes.len())];
        }
    }
}
