//! Large graphs: several sessions, and the weights once.

use std::thread;

use coracle_model::Model;
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
    let node = [
        field(1, b"x"),
        field(1, b"w"),
        field(2, b"y"),
        field(4, b"MatMul"),
    ];
    graph(name, more, &[field(1, &node.concat())].concat())
}

/// Returns a graph of these fields beside the weights `w`, of `x` and `y`.
fn graph(name: &str, more: f32, fields: &[u8]) -> Vec<u8> {
    let places = (0..N_IN).flat_map(|row| (0..N_OUT).map(move |column| (row, column)));
    let raw = places.flat_map(|(row, column)| (weight(row, column) + more).to_le_bytes());
    let sizes = [N_IN, N_OUT].map(|size| [vec![1 << 3], varint(size)].concat());
    let weights = [
        sizes.concat(),
        vec![2 << 3, 1],
        field(8, b"w"),
        field(9, &raw.collect::<Vec<u8>>()),
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

pub(crate) fn large_graphs_answer_several_calls_with_the_same_weights(runtime: &Runtime) {
    let file = product("product", 0.0);
    let model = runtime.load(&file).unwrap();
    // The weights and, packed, once more; not so for each session.
    let charged = model.memory_bytes();
    assert!(charged < file.len() * 5 / 2, "{charged} of {}", file.len());
    // Rows with one number: what comes is a row of the weights.
    let model = model.as_ref();
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
    let load = |file: &[u8]| {
        let before = resident_bytes();
        let model = runtime.load(file).unwrap();
        (model, resident_bytes().saturating_sub(before))
    };
    let n_bytes = N_IN * N_OUT * 4;
    let files = [product("1", 1.0), product("2", 1.0), product("3", 2.0)];
    let (first, _) = load(&files[0]);
    let (second, grown) = load(&files[1]);
    assert!(grown < n_bytes / 2, "{grown} bytes for the same {n_bytes}");
    let (other, grown) = load(&files[2]);
    assert!(grown > n_bytes / 2, "{grown} bytes for other {n_bytes}");
    assert_eq!(ask(second.as_ref(), 2.0), row(2.0, 1.0));
    // The weights stay while anybody has them.
    drop(first);
    assert_eq!(ask(second.as_ref(), 4.0), row(4.0, 1.0));
    assert_eq!(ask(other.as_ref(), 4.0), row(4.0, 2.0));
}
