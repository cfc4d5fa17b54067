//! Reads files that real Python wrote and compares them with what that Python said they hold.
//! `make_corpus.py` tells how the files were made.
#![expect(
    clippy::unwrap_used,
    reason = "a test file that cannot be read should fail loudly"
)]

use std::fs;
use std::path::{Path, PathBuf};

use coracle_pickle::{
    Array, ClassTable, DTypeKind, GlobalForm, Graph, KnownGlobal, Limits, Node, NodeId, read,
    read_npy,
};
use serde_json::Value;

const fn sample(name: &'static str, canonical: &'static str, form: GlobalForm) -> KnownGlobal {
    KnownGlobal {
        module: "sample",
        name,
        canonical,
        form,
    }
}

static SAMPLE: &[KnownGlobal] = &[
    sample("Point", "sample.Point", GlobalForm::Record),
    sample("Pair", "sample.Pair", GlobalForm::Record),
    sample("Bag", "sample.Bag", GlobalForm::Record),
    sample("Row", "sample.Row", GlobalForm::Record),
    sample("Made", "sample.Made", GlobalForm::Constructor),
    sample("known", "sample.known", GlobalForm::Value),
];

/// Compares a node with a description; the error names where they part.
struct Check<'g> {
    graph: &'g Graph,
    file: &'g str,
}

impl Check<'_> {
    fn node(&self, id: NodeId, expected: &Value, place: &str) {
        let kind = expected[0].as_str().unwrap();
        let node = self.graph.node(id);
        let fail = || panic!("{} {place}: {node:?} is not {expected}", self.file);
        match (kind, node) {
            ("none", Node::None) => {}
            ("bool", Node::Bool(value)) => assert_eq!(expected[1], *value, "{place}"),
            ("int", Node::Int(value)) => assert_eq!(expected[1], value.to_string(), "{place}"),
            ("int", Node::BigInt(bytes)) => {
                assert_eq!(expected[1], decimal(bytes), "{place}");
            }
            ("float", Node::Float(value)) => {
                assert_eq!(expected[1], value.to_bits().to_string(), "{place}");
            }
            ("str", Node::Str(text)) => assert_eq!(expected[1], **text, "{} {place}", self.file),
            ("bytes", Node::Bytes(bytes)) => {
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                assert_eq!(expected[1], text, "{place}");
            }
            // Python 2 has no bytes; its bytearray comes by way of text.
            ("list", Node::List(items))
            | ("tuple", Node::Tuple(items))
            | ("set", Node::Set(items)) => self.nodes(items, &expected[1], place),
            ("slice", Node::Slice(parts)) => self.nodes(parts, &expected[1], place),
            ("dict", Node::Dict(entries)) => self.entries(entries, &expected[1], place),
            ("array" | "records", Node::Array(array)) => self.array(array, expected, place),
            ("dtype", Node::DType(dtype)) => {
                assert_eq!(expected[2], dtype.item_size, "{place}");
                assert_eq!(expected[1], letter(dtype.kind), "{place}");
            }
            ("global", Node::Global(name)) => assert_eq!(expected[1], *name, "{place}"),
            ("object", Node::Object(object)) => assert_eq!(expected[1], object.class, "{place}"),
            ("instance", Node::Object(object)) => {
                assert_eq!(expected[1], object.class, "{place}");
                let attributes = object.state.map(|state| self.graph.dict(state).unwrap());
                self.entries(attributes.unwrap_or_default(), &expected[2], place);
                self.entries(object.entries(), &expected[3], place);
                self.nodes(object.elements(), &expected[4], place);
            }
            ("stateful", Node::Object(object)) => {
                assert_eq!(expected[1], object.class, "{place}");
                self.node(object.state.unwrap(), &expected[2], place);
            }
            ("made", Node::Object(object)) => {
                assert_eq!(expected[1], object.class, "{place}");
                self.nodes(&object.args, &expected[2], place);
                self.node(object.state.unwrap(), &expected[3], place);
            }
            ("sparse", Node::Object(_)) => self.sparse(id, expected, place),
            _ => fail(),
        }
    }

    fn nodes(&self, ids: &[NodeId], expected: &Value, place: &str) {
        let expected = expected.as_array().unwrap();
        assert_eq!(ids.len(), expected.len(), "{} {place}", self.file);
        for (index, (id, expected)) in ids.iter().zip(expected).enumerate() {
            self.node(*id, expected, &format!("{place}[{index}]"));
        }
    }

    fn entries(&self, entries: &[(NodeId, NodeId)], expected: &Value, place: &str) {
        let expected = expected.as_array().unwrap();
        assert_eq!(entries.len(), expected.len(), "{} {place}", self.file);
        for ((key, value), expected) in entries.iter().zip(expected) {
            self.node(*key, &expected[0], &format!("{place} key"));
            let name = expected[0][1].as_str().unwrap_or("?");
            self.node(*value, &expected[1], &format!("{place}.{name}"));
        }
    }

    fn array(&self, array: &Array, expected: &Value, place: &str) {
        let place = format!("{} {place}", self.file);
        if expected[0] == "records" {
            assert_eq!(expected[1], Value::from(array.shape()), "{place}");
            let fields = expected[2].as_array().unwrap();
            assert_eq!(array.dtype().fields.len(), fields.len(), "{place}");
            for field in fields {
                let column = array.field(field[0].as_str().unwrap()).unwrap();
                self.array(&column, &field[1], &place);
            }
            return;
        }
        assert_eq!(expected[1], letter(array.dtype().kind), "{place}");
        assert_eq!(expected[2], array.dtype().item_size, "{place}");
        assert_eq!(expected[3], Value::from(array.shape()), "{place}");
        let values = &expected[4];
        if let Some(objects) = array.objects() {
            self.nodes(objects, values, &place);
            return;
        }
        let strings = |items: Vec<String>| Value::from(items);
        let got = match array.dtype().kind {
            DTypeKind::Float => strings(
                array
                    .to_f64s()
                    .unwrap()
                    .iter()
                    .map(|value| value.to_bits().to_string())
                    .collect(),
            ),
            DTypeKind::Int | DTypeKind::UInt => match array.to_i64s() {
                Some(values) => strings(values.iter().map(i64::to_string).collect()),
                None => strings(words(array).iter().map(u64::to_string).collect()),
            },
            DTypeKind::Bool => Value::from(array.to_bools().unwrap()),
            DTypeKind::Unicode | DTypeKind::ByteString => strings(array.to_strings().unwrap()),
            DTypeKind::DateTime => strings(words(array).iter().map(u64::to_string).collect()),
            DTypeKind::Complex => complex(array),
            kind => panic!("{place}: {kind:?}"),
        };
        assert_eq!(&got, values, "{place}");
    }

    fn sparse(&self, id: NodeId, expected: &Value, place: &str) {
        let matrix = self.graph.sparse(id).unwrap().unwrap();
        assert_eq!(expected[1][0], matrix.n_rows, "{place}");
        assert_eq!(expected[1][1], matrix.n_columns, "{place}");
        let mut dense = vec![0.0; matrix.n_rows * matrix.n_columns];
        for row in 0..matrix.n_rows {
            for entry in matrix.row_starts[row]..matrix.row_starts[row + 1] {
                dense[row * matrix.n_columns + matrix.columns[entry]] += matrix.values[entry];
            }
        }
        let dense: Vec<String> = dense
            .iter()
            .map(|v: &f64| v.to_bits().to_string())
            .collect();
        assert_eq!(expected[2], Value::from(dense), "{} {place}", self.file);
    }
}

fn letter(kind: DTypeKind) -> &'static str {
    match kind {
        DTypeKind::Bool => "b",
        DTypeKind::Int => "i",
        DTypeKind::UInt => "u",
        DTypeKind::Float => "f",
        DTypeKind::Complex => "c",
        DTypeKind::Unicode => "U",
        DTypeKind::ByteString => "S",
        DTypeKind::Object => "O",
        DTypeKind::DateTime => "M",
        DTypeKind::TimeDelta => "m",
        _ => "V",
    }
}

fn words(array: &Array) -> Vec<u64> {
    let (words, rest) = array.bytes().as_chunks::<8>();
    assert!(rest.is_empty());
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

fn complex(array: &Array) -> Value {
    let half = array.dtype().item_size / 2;
    let bits = |bytes: &[u8]| match half {
        4 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())).to_bits(),
        _ => u64::from_le_bytes(bytes.try_into().unwrap()),
    };
    let parts: Vec<String> = array
        .bytes()
        .chunks_exact(half)
        .map(|part| bits(part).to_string())
        .collect();
    Value::from(parts.chunks(2).map(<[String]>::to_vec).collect::<Vec<_>>())
}

/// Writes little-endian two's complement in decimal, by schoolbook division.
fn decimal(bytes: &[u8]) -> String {
    let is_negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    let mut magnitude = bytes.to_vec();
    if is_negative {
        let mut carry = 1;
        for byte in &mut magnitude {
            let sum = u16::from(!*byte) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0;
        for byte in magnitude.iter_mut().rev() {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 10).unwrap();
            rest = value % 10;
        }
        digits.push(char::from_digit(rest, 10).unwrap());
    }
    if is_negative {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

fn directories() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut directories: Vec<PathBuf> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    directories.sort();
    directories
}

fn check_directory(directory: &Path) {
    let text = fs::read_to_string(directory.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let table = ClassTable::new(SAMPLE);
    let limits = Limits::default();
    for (file, number) in expected[0].as_object().unwrap() {
        let description = &expected[1][usize::try_from(number.as_u64().unwrap()).unwrap()];
        let bytes = fs::read(directory.join(file)).unwrap();
        let label = format!("{}/{file}", directory.display());
        if file.ends_with(".npy") {
            let array = read_npy(&bytes, &limits).unwrap_or_else(|e| panic!("{label}: {e}"));
            let nothing = read(b"N.", &table, &limits).unwrap();
            let check = Check {
                graph: &nothing,
                file: &label,
            };
            check.array(&array, description, "");
            continue;
        }
        let graph = read(&bytes, &table, &limits).unwrap_or_else(|e| panic!("{label}: {e} {e:?}"));
        assert_eq!(graph.info().joblib, file.ends_with(".joblib"), "{label}");
        let method = file.split('.').nth(1).unwrap();
        let container = match method {
            "bz2" => "bzip2",
            "zlib" | "gzip" | "lzma" | "xz" | "lz4" | "zfile" => method,
            _ => "raw",
        };
        assert_eq!(graph.info().container.as_str(), container, "{label}");
        if let Some(protocol) = method
            .strip_prefix(['p', 'c'])
            .and_then(|p| p.parse::<u8>().ok())
        {
            // Protocols 0 and 1 do not say so.
            let said = if protocol < 2 { 0 } else { protocol };
            assert_eq!(graph.info().protocol, said, "{label}");
        }
        let check = Check {
            graph: &graph,
            file: &label,
        };
        if description == "recursive" {
            check_recursive(&graph);
        } else {
            check.node(graph.root(), description, "root");
        }
    }
}

/// `recursive_value` of the script.
fn check_recursive(graph: &Graph) {
    let parts = graph.list(graph.root()).unwrap();
    let outer = graph.list(parts[0]).unwrap();
    assert_eq!(graph.int(outer[1]), Some(1));
    assert_eq!(graph.list(outer[0]).unwrap(), [parts[0]]);
    assert_eq!(graph.dict_get(parts[1], "me"), Some(parts[1]));
    assert_eq!(graph.object(parts[2]).unwrap().class, "sample.Point");
    assert_eq!(graph.attr(parts[2], "owner"), Some(parts[2]));
}

#[test]
fn reads_what_python_says_it_wrote() {
    let directories = directories();
    assert!(!directories.is_empty());
    for directory in directories {
        check_directory(&directory);
    }
}

#[test]
fn shared_objects_stay_one_node() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus/python3.11-joblib1.6/plain.p4.pkl");
    let bytes = fs::read(path).unwrap();
    let graph = read(&bytes, &ClassTable::new(SAMPLE), &Limits::default()).unwrap();
    let shared = graph
        .list(graph.dict_get(graph.root(), "shared").unwrap())
        .unwrap();
    assert_eq!(shared[0], shared[1]);
    assert_eq!(graph.list(shared[2]).unwrap(), [shared[0], shared[0]]);
}

/// Files without frames may be edited: older releases differ from these only in the names of modules.
#[test]
fn older_module_names_are_the_same_types() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for (file, new, old) in [
        (
            "python3.6-joblib0.11/arrays.p2.joblib",
            "cjoblib.numpy_pickle\n",
            "csklearn.externals.joblib.numpy_pickle\n",
        ),
        (
            "python3.9-joblib1.1/arrays.p2.joblib",
            "cscipy.sparse._csr\n",
            "cscipy.sparse.csr\n",
        ),
        (
            "python3.11-joblib1.6/arrays.p2.pkl",
            "cnumpy._core.multiarray\n",
            "cnumpy.core.multiarray\n",
        ),
    ] {
        let path = corpus.join(file);
        let expected = fs::read_to_string(path.parent().unwrap().join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = expected[0][name].as_u64().unwrap();
        let description = &expected[1][usize::try_from(number).unwrap()];
        let bytes = replace(&fs::read(&path).unwrap(), new.as_bytes(), old.as_bytes());
        let graph = read(&bytes, &ClassTable::new(SAMPLE), &Limits::default()).unwrap();
        let check = Check {
            graph: &graph,
            file,
        };
        check.node(graph.root(), description, "root");
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = bytes;
    let mut count = 0;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to);
        rest = &rest[at + from.len()..];
        count += 1;
    }
    assert!(count > 0);
    replaced.extend_from_slice(rest);
    replaced
}
