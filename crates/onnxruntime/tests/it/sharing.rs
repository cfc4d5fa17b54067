//! Large graphs: several sessions, and the weights once.

use std::thread;

use coracle_model::{ExternalFile, Model};
use coracle_tensor::{Tensor, Values};

use crate::Runtime;

const N_IN: usize = 1_024;
const N_OUT: usize = 9_000;

/// Returns a field that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    bytes.extend(varint(content.len()));
    bytes.extend(content);
    bytes
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// Returns what an input or output is: a matrix of FP32 with rows as wanted.
fn matrix(name: &str, n_columns: usize) -> Vec<u8> {
    let columns = field(1, &[&[1 << 3][..], &varint(n_columns)].concat());
    let rows = field(1, &field(2, b"batch"));
    let shape = field(2, &[rows, columns].concat());
    let kind = field(2, &field(1, &[&[1 << 3, 1][..], &shape].concat()));
    [field(1, name.as_bytes()), kind].concat()
}

fn weight(row: usize, column: usize) -> f32 {
    f32::from(u8::try_from((row * 7 + column * 13) % 32).unwrap())
}

/// Returns `y = x w` with 37 MB of weights, of a graph with a name; so much `more` is each weight.
fn product(name: &str, more: f32) -> Vec<u8> {
    graph(name, more, &node_of_product())
}

fn node_of_product() -> Vec<u8> {
    let node = [
        field(1, b"x"),
        field(1, b"w"),
        field(2, b"y"),
        field(4, b"MatMul"),
    ];
    field(1, &node.concat())
}

/// Returns a graph of these fields beside the weights `w`, of `x` and `y`.
fn graph(name: &str, more: f32, fields: &[u8]) -> Vec<u8> {
    graph_of(name, &field(9, &raw_weights(more)), fields)
}

fn raw_weights(more: f32) -> Vec<u8> {
    let places = (0..N_IN).flat_map(|row| (0..N_OUT).map(move |column| (row, column)));
    let raw = places.flat_map(|(row, column)| (weight(row, column) + more).to_le_bytes());
    raw.collect()
}

/// Returns a graph whose weights are where a field of theirs says.
fn graph_of(name: &str, place: &[u8], fields: &[u8]) -> Vec<u8> {
    let sizes = [N_IN, N_OUT].map(|size| [vec![1 << 3], varint(size)].concat());
    let weights = [
        sizes.concat(),
        vec![2 << 3, 1],
        field(8, b"w"),
        place.to_vec(),
    ];
    let graph = [
        fields.to_vec(),
        field(2, name.as_bytes()),
        field(5, &weights.concat()),
        field(11, &matrix("x", N_IN)),
        field(12, &matrix("y", N_OUT)),
    ];
    let opset = field(8, &[2 << 3, 17]);
    [vec![1 << 3, 8], opset, field(7, &graph.concat())].concat()
}

/// Returns what [`product`] does, with its weights in another file.
fn product_outside(name: &str, more: f32) -> (Vec<u8>, Vec<ExternalFile>) {
    let location = field(13, &[field(1, b"location"), field(2, b"w.bin")].concat());
    let place = [location, vec![14 << 3, 1]].concat();
    let file = ExternalFile {
        location: "w.bin".to_owned(),
        bytes: raw_weights(more).into(),
    };
    (graph_of(name, &place, &node_of_product()), vec![file])
}

pub(crate) fn large_graphs_answer_several_calls_with_the_same_weights(runtime: &Runtime) {
    let file = product("product", 0.0);
    answers_several_calls(runtime.load(&file).unwrap().as_ref());
}

pub(crate) fn large_graphs_answer_several_calls_with_weights_of_another_file(runtime: &Runtime) {
    let (file, weights) = product_outside("product", 0.0);
    let model = runtime.load_beside(&file, weights, &[]).unwrap();
    answers_several_calls(model.as_ref());
}

fn answers_several_calls(model: &dyn Model) {
    // The weights and, packed, once more; not so for each session.
    let (charged, n_bytes) = (model.memory_bytes(), N_IN * N_OUT * 4);
    assert!(charged < n_bytes * 5 / 2, "{charged} of {n_bytes}");
    // Rows with one number: what comes is a row of the weights.
    thread::scope(|scope| {
        for row in 0..8 {
            scope.spawn(move || {
                let mut values = vec![0.0; N_IN];
                values[row * 100] = 2.0;
                let x = Tensor::try_new(vec![1, N_IN], Values::F32(values.into())).unwrap();
                let expected: Vec<f32> = (0..N_OUT)
                    .map(|column| 2.0 * weight(row * 100, column))
                    .collect();
                for _ in 0..5 {
                    let answer = model.run(std::slice::from_ref(&x), &[0]).unwrap();
                    assert_eq!(answer[0].values(), &Values::F32(expected.clone().into()));
                }
            });
        }
    });
}

/// `y = (x w)^T + c, transposed`: the runtime turns `c` round instead of the product, and must not be given it as it was.
pub(crate) fn constants_that_the_runtime_turns_round_are_its_own(runtime: &Runtime) {
    let node = |operator: &str, inputs: &[&str], output: &str, attributes: &[u8]| {
        let inputs = inputs.iter().flat_map(|input| field(1, input.as_bytes()));
        let mut node: Vec<u8> = inputs.collect();
        node.extend(field(2, output.as_bytes()));
        node.extend(field(4, operator.as_bytes()));
        node.extend(attributes);
        field(1, &node)
    };
    // `perm = [1, 0]`, as integers.
    let swapped = [field(1, b"perm"), field(8, &[1, 0]), vec![0xa0, 1, 7]].concat();
    let swapped = field(5, &swapped);
    let constant = |row: usize, column: usize| weight(row, column + 5) + 0.5;
    let places = (0..N_OUT).flat_map(|row| (0..2).map(move |column| (row, column)));
    let raw = places.flat_map(|(row, column)| constant(row, column).to_le_bytes());
    let sizes = [N_OUT, 2].map(|size| [vec![1 << 3], varint(size)].concat());
    let constant_field = [
        sizes.concat(),
        vec![2 << 3, 1],
        field(8, b"c"),
        field(9, &raw.collect::<Vec<u8>>()),
    ];
    let fields = [
        node("MatMul", &["x", "w"], "p", &[]),
        node("Transpose", &["p"], "t", &swapped),
        node("Add", &["t", "c"], "u", &[]),
        node("Transpose", &["u"], "y", &swapped),
        field(5, &constant_field.concat()),
    ];
    let model = runtime
        .load(&graph("turned", 0.0, &fields.concat()))
        .unwrap();
    let mut values = vec![0.0; 2 * N_IN];
    values[3] = 2.0;
    values[N_IN + 4] = 4.0;
    let x = Tensor::try_new(vec![2, N_IN], Values::F32(values.into())).unwrap();
    let rows = [(0, 2.0, 3), (1, 4.0, 4)];
    let expected = rows.into_iter().flat_map(|(row, factor, from)| {
        (0..N_OUT).map(move |column| factor * weight(from, column) + constant(column, row))
    });
    let answer = model.run(&[x], &[0]).unwrap();
    assert_eq!(answer[0].values(), &Values::F32(expected.collect()));
}

/// The pages of this process that are in memory, in bytes.
fn resident_bytes() -> usize {
    let counts = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = counts.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// Revisions whose graphs differ and whose weights do not hold these once.
pub(crate) fn graphs_with_the_same_weights_hold_them_once(runtime: &Runtime) {
    hold_weights_once(&|name, more| runtime.load(&product(name, more)).unwrap());
}

pub(crate) fn graphs_with_the_same_weights_in_other_files_hold_them_once(runtime: &Runtime) {
    let load = |name: &str, more| {
        let (file, weights) = product_outside(name, more);
        runtime.load_beside(&file, weights, &[]).unwrap()
    };
    hold_weights_once(&load);
    // One inside and one outside are the same, too.
    let inside = runtime.load(&product("inside", 3.0)).unwrap();
    let outside = load("outside", 3.0);
    assert_eq!(held(inside.as_ref()), held(outside.as_ref()));
}

/// The numbers of what a model holds with others, and its bytes.
fn held(model: &dyn Model) -> Vec<(u64, usize)> {
    let held = model.shared_memory().iter();
    held.map(|held| (held.id(), held.bytes())).collect()
}

/// Weights that are named more often than can be sensible are not taken into the graph's file.
pub(crate) fn weights_that_are_named_often_stay_outside(runtime: &Runtime) {
    let place = || {
        let location = field(13, &[field(1, b"location"), field(2, b"w.bin")].concat());
        [location, vec![14 << 3, 1]].concat()
    };
    let (_, files) = product_outside("often", 0.0);
    let sizes = [N_IN, N_OUT].map(|size| [vec![1 << 3], varint(size)].concat());
    let other = |name: &[u8]| {
        let tensor = [sizes.concat(), vec![2 << 3, 1], field(8, name), place()];
        field(5, &tensor.concat())
    };
    let fields = [node_of_product(), other(b"v"), other(b"u")].concat();
    let model = runtime.load_beside(&graph_of("often", &place(), &fields), files, &[]);
    let model = model.unwrap();
    assert!(held(model.as_ref()).is_empty());
    let mut values = vec![0.0; N_IN];
    values[5] = 1.0;
    let x = Tensor::try_new(vec![1, N_IN], Values::F32(values.into())).unwrap();
    let expected = (0..N_OUT).map(|column| weight(5, column));
    let answer = model.run(&[x], &[0]).unwrap();
    assert_eq!(answer[0].values(), &Values::F32(expected.collect()));
}

fn hold_weights_once(load: &dyn Fn(&str, f32) -> Box<dyn Model>) {
    let x = |n: f32| {
        let mut values = vec![0.0; N_IN];
        values[700] = n;
        Tensor::try_new(vec![1, N_IN], Values::F32(values.into())).unwrap()
    };
    let row = |factor: f32, more: f32| {
        let row: Vec<f32> = (0..N_OUT)
            .map(|column| factor * (weight(700, column) + more))
            .collect();
        Values::F32(row.into())
    };
    let ask = |model: &dyn Model, factor: f32| {
        let answer = model.run(&[x(factor)], &[0]).unwrap();
        answer[0].values().clone()
    };
    let load = |name: &str, more: f32| {
        let before = resident_bytes();
        let model = load(name, more);
        (model, resident_bytes().saturating_sub(before))
    };
    let n_bytes = N_IN * N_OUT * 4;
    let (first, _) = load("1", 1.0);
    let (second, grown) = load("2", 1.0);
    assert!(grown < n_bytes / 2, "{grown} bytes for the same {n_bytes}");
    let (other, grown) = load("3", 2.0);
    assert!(grown > n_bytes / 2, "{grown} bytes for other {n_bytes}");
    // What is held once is told, so that it is charged once: the weights, and these packed.
    assert_eq!(held(first.as_ref()), held(second.as_ref()));
    let bytes: Vec<usize> = held(first.as_ref())
        .iter()
        .map(|(_, bytes)| *bytes)
        .collect();
    assert_eq!(bytes, [n_bytes, n_bytes]);
    let are_others = |(one, two): (&(u64, usize), &(u64, usize))| one.0 != two.0;
    let (first_held, other_held) = (held(first.as_ref()), held(other.as_ref()));
    assert!(first_held.iter().zip(&other_held).all(are_others));
    let own = first.memory_bytes() - 2 * n_bytes;
    assert!(own < n_bytes / 4, "{own} bytes beside {n_bytes}");
    assert_eq!(ask(second.as_ref(), 2.0), row(2.0, 1.0));
    // The weights stay while anybody has them.
    drop(first);
    assert_eq!(ask(second.as_ref(), 4.0), row(4.0, 1.0));
    assert_eq!(ask(other.as_ref(), 4.0), row(4.0, 2.0));
}
