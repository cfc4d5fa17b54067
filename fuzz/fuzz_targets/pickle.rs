//! Reads bytes as a pickle, joblib, skops or `.npy` file and looks at everything that comes out.
#![no_main]

use std::sync::LazyLock;

use coracle_pickle::{
    ClassTable, GlobalForm, Graph, KnownGlobal, Limits, NodeId, read, read_npy, read_skops,
};
use libfuzzer_sys::fuzz_target;

const fn sample(name: &'static str, form: GlobalForm) -> KnownGlobal {
    KnownGlobal {
        module: "sample",
        name,
        canonical: name,
        form,
    }
}

/// The classes of `crates/pickle/tests/make_corpus.py`, so that its files are good seeds.
static SAMPLE: &[KnownGlobal] = &[
    sample("Point", GlobalForm::Record),
    sample("Pair", GlobalForm::Record),
    sample("Bag", GlobalForm::Record),
    sample("Row", GlobalForm::Record),
    sample("Made", GlobalForm::Constructor),
    sample("known", GlobalForm::Value),
    KnownGlobal {
        canonical: "sample.Still",
        ..sample("Still", GlobalForm::Inert)
    },
];

static TABLE: LazyLock<ClassTable> = LazyLock::new(|| ClassTable::new(SAMPLE));

fuzz_target!(|bytes: &[u8]| {
    // Small bounds keep one input fast, and find amplification sooner.
    let mut limits = Limits::default();
    limits.inflated_bytes_free = 1 << 20;
    if bytes.starts_with(b"\x93NUMPY") {
        drop(read_npy(bytes, &limits));
    }
    if let Ok(graph) = read_skops(bytes, &TABLE, &limits) {
        look_at_all(&graph);
    }
    if let Ok(graph) = read(bytes, &TABLE, &limits) {
        look_at_all(&graph);
    }
});

fn look_at_all(graph: &Graph) {
    let mut open = vec![graph.root()];
    let mut seen = vec![false; graph.len()];
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        look_at(graph, id);
        open.extend_from_slice(graph.list(id).unwrap_or_default());
        for (key, value) in graph.dict(id).unwrap_or_default() {
            open.extend([*key, *value]);
        }
        if let Some(object) = graph.object(id) {
            open.extend(object.args.iter().chain(&object.state));
            open.extend(object.elements());
            open.extend(object.entries().iter().map(|(_, value)| *value));
        }
        open.extend_from_slice(
            graph
                .array(id)
                .and_then(|a| a.objects())
                .unwrap_or_default(),
        );
    }
}

fn look_at(graph: &Graph, id: NodeId) {
    let _values = (
        graph.int(id),
        graph.float(id),
        graph.bool(id),
        graph.string(id),
    );
    let _attribute = graph.attr(id, "data");
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
            assert!(array.field(&field.name).is_some());
        }
    }
    if let Ok(Some(matrix)) = graph.sparse(id) {
        assert_eq!(matrix.row_starts.len(), matrix.n_rows + 1);
        assert_eq!(matrix.row_starts.last(), Some(&matrix.values.len()));
        assert!(
            matrix
                .columns
                .iter()
                .all(|column| *column < matrix.n_columns)
        );
    }
}
