//! What a graph may do to others: to their answers, their time and their memory.

use std::time::Duration;

use coracle_base::{Code, SystemClock};
use coracle_formats::{LoadOptions, load};
use coracle_model::{LoadErrorKind, Model, RunErrorKind, RunTime, Wanted};
use coracle_tensor::{Tensor, Values};

use crate::graphs::{DIFFERENCE_MAX, neural};
use crate::{Runtime, fixture};

fn loaded(runtime: &Runtime, name: &str) -> Box<dyn Model> {
    let model = runtime.load(&neural(name).model);
    model.unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn rows_that_are_quantized_together_are_not_batched(runtime: &Runtime) {
    // Each is right alone; together the small ones would be answered with another's range.
    for row in 0..3 {
        let name = format!("quantized by the range of its rows, row {row} alone");
        let model = loaded(runtime, &name);
        let checked = neural(&name).check(model.as_ref(), DIFFERENCE_MAX);
        checked.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!model.rows_are_independent(), "{name}");
    }
    // No operator tells of it, and answers that are all alike prove nothing.
    for name in ["quantized by hand", "the same for all rows"] {
        assert!(!loaded(runtime, name).rows_are_independent(), "{name}");
    }
    for name in [
        "perceptron with layer normalization",
        "attention over tokens",
        "a table of weights",
    ] {
        assert!(loaded(runtime, name).rows_are_independent(), "{name}");
    }
}

pub(crate) fn runs_end_in_time(runtime: &Runtime) {
    let case = neural("a loop of as many steps as wanted");
    let model = runtime.load(&case.model).unwrap();
    let x = case.inputs["x"].clone();
    let steps = Tensor::try_new(vec![1], Values::I64(vec![1 << 60].into())).unwrap();
    let inputs = [x, steps];
    let error = model
        .run_within(&inputs, &[0], Duration::from_millis(20))
        .unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::OutOfTime, "{error}");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    // The session goes on, and a call that has no time waits for none.
    case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
    let error = model.run_within(&inputs, &[0], Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::OutOfTime, "{error}");
    case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
}

pub(crate) fn calls_that_meet_without_time_are_late(runtime: &Runtime) {
    let case = neural("a loop of as many steps as wanted");
    let model = runtime.load(&case.model).unwrap();
    let steps = Tensor::try_new(vec![1], Values::I64(vec![1 << 60].into())).unwrap();
    let inputs = [case.inputs["x"].clone(), steps];
    let calls = [Wanted::default()];
    std::thread::scope(|scope| {
        let running = scope.spawn(|| model.run_for(&inputs, &[0], Duration::from_secs(60), &calls));
        // They meet a run that goes on, so that a session is to be made for them, which they have no time for either.
        for _ in 0..1_000 {
            let error = model.run_within(&inputs, &[0], Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), RunErrorKind::OutOfTime, "{error}");
            std::thread::yield_now();
        }
        calls[0].leave();
        assert_eq!(
            running.join().unwrap().unwrap_err().kind(),
            RunErrorKind::Unwanted
        );
    });
    case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
}

pub(crate) fn calls_that_meet_a_run_without_end_are_answered(runtime: &Runtime) {
    let case = neural("a loop of as many steps as wanted");
    let model = runtime.load(&case.model).unwrap();
    let steps = Tensor::try_new(vec![1], Values::I64(vec![1 << 60].into())).unwrap();
    let inputs = [case.inputs["x"].clone(), steps];
    let calls = [Wanted::default()];
    std::thread::scope(|scope| {
        let running =
            scope.spawn(|| model.run_for(&inputs, &[0], Duration::from_secs(3_600), &calls));
        // The session that was there is in use to the end: these are answered by one that is made beside.
        for _ in 0..20 {
            case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
        }
        calls[0].leave();
        let error = running.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::Unwanted);
    });
}

pub(crate) fn runs_that_nobody_waits_for_end(runtime: &Runtime) {
    let case = neural("a loop of as many steps as wanted");
    let model = runtime.load(&case.model).unwrap();
    let steps = Tensor::try_new(vec![1], Values::I64(vec![1 << 60].into())).unwrap();
    let inputs = [case.inputs["x"].clone(), steps];
    let calls = [Wanted::default(), Wanted::default()];
    let run = || model.run_for(&inputs, &[0], Duration::from_secs(3_600), &calls);
    // Whether it has begun or not: the one that is left is the one that counts.
    calls[0].leave();
    let error = std::thread::scope(|scope| {
        let running = scope.spawn(run);
        calls[1].leave();
        running.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), RunErrorKind::Unwanted, "{error}");
    assert_eq!(run().unwrap_err().kind(), RunErrorKind::Unwanted);
    case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
}

pub(crate) fn graphs_of_any_time_say_so(runtime: &Runtime) {
    let cases = [
        ("perceptron with layer normalization", RunTime::Unknown),
        ("a loop of as many steps as wanted", RunTime::Any),
        ("a branch on a scalar", RunTime::Any),
        ("convolution of any size", RunTime::Any),
        ("as large as wanted", RunTime::Any),
        ("convolution of a fixed size", RunTime::Unknown),
    ];
    for (name, expected) in cases {
        assert_eq!(loaded(runtime, name).run_time(), expected, "{name}");
    }
}

/// Puts more fields into the graph of a file: field 7, before which the files of the fixtures have short ones alone.
fn with_in_graph(model: &[u8], more: &[u8]) -> Vec<u8> {
    let varint = |bytes: &[u8]| {
        let n = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let bits = bytes[..n].iter().rev();
        (
            n,
            bits.fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)),
        )
    };
    let mut place = 0;
    while model[place] != 0x3a {
        let (n, value) = varint(&model[place + 1..]);
        place += 1 + n + if model[place] & 7 == 2 { value } else { 0 };
    }
    let (n, size) = varint(&model[place + 1..]);
    let end = place + 1 + n + size;
    let mut bytes = model[..=place].to_vec();
    let mut left = size + more.len();
    while left > 0x7f {
        bytes.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes.extend(&model[end - size..end]);
    bytes.extend(more);
    bytes.extend(&model[end..]);
    bytes
}

pub(crate) fn loads_end_in_time(runtime: &Runtime) {
    let case = neural("a loop of as many steps as wanted");
    // The number of steps is given by the file, as one 64-bit integer: 2^60.
    let mut steps = b"\x2a\x11\x08\x01\x10\x07\x42\x01m\x4a\x08".to_vec();
    steps.extend((1_i64 << 60).to_le_bytes());
    let model = with_in_graph(&case.model, &steps);
    let engine = runtime.engine().with_load_time(Duration::from_millis(50));
    let error = Runtime::of(engine).load(&model).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("did not end"), "{error}");
}

pub(crate) fn truth_values_are_two(runtime: &Runtime) {
    // An initialiser of four truth values of which two are none, and the output that gives it.
    let value = b"\x2a\x0d\x08\x04\x10\x09\x42\x01t\x4a\x04\x00\x01\x02\xff";
    let output = b"\x62\x0f\x0a\x01t\x12\x0a\x0a\x08\x08\x09\x12\x04\x0a\x02\x08\x04";
    let case = neural("as large as wanted");
    let model = with_in_graph(&case.model, &[&value[..], &output[..]].concat());
    let model = runtime.load(&model).unwrap();
    let inputs = ["x", "shape"].map(|name| case.inputs[name].clone());
    let values = model.run(&inputs, &[1]).unwrap();
    let expected = Values::Bool(vec![false, true, true, true]);
    assert_eq!(values[0].values(), &expected);
}

pub(crate) fn locales_with_letters_of_their_own_are_kept(runtime: &Runtime) {
    let cases = fixture::lines("operators.jsonl");
    let case = cases
        .iter()
        .find(|case| case.name == "StringNormalizer UPPER");
    let mut model = case.unwrap().model.clone();
    let (portable, turkish) = (b"C.UTF-8", b"tr_TR.8");
    let place = model.windows(7).position(|window| window == portable);
    model[place.unwrap()..][..7].copy_from_slice(turkish);
    // No system has it, and no other is taken for it.
    let error = runtime.load(&model).unwrap_err();
    assert!(error.to_string().contains("tr_TR.8"), "{error}");
}

pub(crate) fn what_cannot_be_served_is_refused(runtime: &Runtime) {
    // All sizes are fixed, and no run goes well: nothing can be taken of nothing.
    let mut model = neural("as large as wanted").model;
    let mut replace = |old: &[u8], new: &[u8]| {
        let place = model.windows(old.len()).position(|window| window == old);
        model[place.unwrap()..][..old.len()].copy_from_slice(new);
    };
    replace(b"Expand", b"Gather");
    replace(
        b"\x08\x01\x12\x04\x0a\x02\x08\x01",
        b"\x08\x01\x12\x04\x0a\x02\x08\x00",
    );
    let error = runtime.load(&model).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("made-up values"), "{error}");
}

pub(crate) fn answers_are_no_larger_than_ours(runtime: &Runtime) {
    let model = loaded(runtime, "as large as wanted");
    let ask = |n: i64| {
        let x = Tensor::try_new(vec![1], Values::F32(vec![1.0].into())).unwrap();
        let shape = Tensor::try_new(vec![1], Values::I64(vec![n].into())).unwrap();
        model.run(&[x, shape], &[0])
    };
    assert_eq!(ask(9).unwrap()[0].shape(), [9]);
    let error = ask((1 << 26) + 1).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains("[67108865]"), "{error}");
}

pub(crate) fn a_graph_that_never_ran_is_at_fault_itself(runtime: &Runtime) {
    let case = neural("a shape that few numbers of rows have");
    let model = runtime.load(&case.model).unwrap();
    // Nothing that was made up suits it, which whoever serves it is told.
    let warnings: Vec<&str> = model.description().warnings().collect();
    let is_told = |warning: &&str| warning.contains("not tried out") && warning.contains("Reshape");
    assert!(
        warnings.len() == 1 && warnings.iter().all(is_told),
        "{warnings:?}"
    );
    let row = Tensor::try_new(vec![1, 2], Values::F32(vec![1.0, 2.0].into())).unwrap();
    let ask = || {
        let error = model.run(std::slice::from_ref(&row), &[0]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("Reshape"), "{message}");
        assert!(
            !message.contains(".h:") && !message.contains("::"),
            "{message}"
        );
        error.code()
    };
    assert_eq!(ask(), Code::Internal);
    case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
    assert_eq!(ask(), Code::InvalidArgument);
}

/// Moves the weights of `a table of weights` into a file, in protobuf's own words.
fn with_weights_outside(model: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (n_weights, name) = (6 * 4 * 4, b"table");
    // The initialiser ends with its name and the raw bytes: fields 8 and 9.
    let head = [&[0x42, 5], &name[..], &[0x4a, n_weights]].concat();
    let place = model.windows(head.len()).position(|window| window == head);
    let raw = place.unwrap() + head.len();
    let end = raw + usize::from(n_weights);
    let location = b"\x0a\x08location\x12\x05w.bin";
    // Of the same length, so that no message around it changes: a field that nobody knows fills it up.
    let mut field = vec![0x42, 5];
    field.extend(name);
    field.extend([0x6a, u8::try_from(location.len()).unwrap()]);
    field.extend(location);
    field.extend([0x70, 1]);
    let left = end - (raw - head.len()) - field.len() - 3;
    field.extend([0xfa, 0x07, u8::try_from(left).unwrap()]);
    field.resize(field.len() + left, 0);
    let mut moved = model[..raw - head.len()].to_vec();
    moved.extend(field);
    moved.extend(&model[end..]);
    assert_eq!(moved.len(), model.len());
    (moved, model[raw..end].to_vec())
}

pub(crate) fn weights_in_other_files_are_what_was_read(runtime: &Runtime) {
    let case = neural("a table of weights");
    let (model, weights) = with_weights_outside(&case.model);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("w.bin");
    std::fs::write(&file, &weights).unwrap();
    let path = directory.path().join("model.onnx");
    std::fs::write(&path, model).unwrap();
    let options = LoadOptions {
        graph_engine: Some(runtime.0.clone()),
        ..LoadOptions::default()
    };
    let loaded = load(&path, &options, &SystemClock::new()).unwrap().model;
    // Whatever becomes of the file, the process and the answers stay.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(0)
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // More calls than sessions, so that further ones are made.
            scope.spawn(|| {
                (0..50).for_each(|_| case.check(loaded.as_ref(), DIFFERENCE_MAX).unwrap())
            });
        }
    });
    std::fs::write(&file, &weights[..8]).unwrap();
    load(&path, &options, &SystemClock::new()).unwrap_err();
}

/// A tree with one class, which a string names: releases up to 1.32 at least read a second one, and end the process.
const ONE_CLASS: &str = "\
    08083abb030a80030a017812016c120170221654726565456e73656d626c65436c61737369666965722a150a0b626173655f76616c7565733d000080\
    3fa001062a100a09636c6173735f6964734000a001072a140a0d636c6173735f6e6f64656964734000a001072a140a0d636c6173735f747265656964\
    734000a001072a170a0d636c6173735f776569676874733d0000803fa001062a1e0a13636c6173736c6162656c735f737472696e67734a046f6e6c79\
    a001082a190a126e6f6465735f66616c73656e6f64656964734000a001072a170a106e6f6465735f666561747572656964734000a001072a160a0b6e\
    6f6465735f6d6f6465734a044c454146a001082a140a0d6e6f6465735f6e6f64656964734000a001072a140a0d6e6f6465735f747265656964734000\
    a001072a180a116e6f6465735f747275656e6f64656964734000a001072a160a0c6e6f6465735f76616c7565733d00000000a001062a190a0e706f73\
    745f7472616e73666f726d22044e4f4e45a001033a0a61692e6f6e6e782e6d6c1201675a110a0178120c0a0a080112060a000a020801620d0a016c12\
    080a06080812020a0062110a0170120c0a0a080112060a000a02080142040a001011420e0a0a61692e6f6e6e782e6d6c1003";

pub(crate) fn what_the_runtime_misreads_does_not_reach_it(runtime: &Runtime) {
    let digits = ONE_CLASS.as_bytes().chunks_exact(2);
    let bytes = digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
    let error = runtime.load(&bytes.collect::<Vec<u8>>()).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Unsupported);
    assert!(error.to_string().contains("one class"), "{error}");
    // Columns of several inputs without rows end the process, too.
    let cases = fixture::lines("operators.jsonl");
    let case = cases
        .iter()
        .find(|case| case.name == "FeatureVectorizer")
        .unwrap();
    let error = runtime.load(&case.model).unwrap_err();
    assert!(error.to_string().contains("several inputs"), "{error}");
}

/// Appends a field of bytes.
fn push(message: &mut Vec<u8>, number: u8, content: &[u8]) {
    message.extend([number << 3 | 2, u8::try_from(content.len()).unwrap()]);
    message.extend(content);
}

/// A graph that divides its inputs, vectors of integers of ONNX's datatype.
fn division(datatype: u8) -> Vec<u8> {
    let mut graph = Vec::new();
    let mut node = Vec::new();
    for name in [b"x", b"y"] {
        push(&mut node, 1, name);
    }
    push(&mut node, 2, b"q");
    push(&mut node, 4, b"Div");
    push(&mut graph, 1, &node);
    push(&mut graph, 2, b"g");
    for (field, name) in [(11, b"x"), (11, b"y"), (12, b"q")] {
        let (mut size, mut shape) = (Vec::new(), Vec::new());
        push(&mut size, 2, b"n");
        push(&mut shape, 1, &size);
        let (mut tensor, mut kind, mut value) = (vec![8, datatype], Vec::new(), Vec::new());
        push(&mut tensor, 2, &shape);
        push(&mut kind, 1, &tensor);
        push(&mut value, 1, name);
        push(&mut value, 2, &kind);
        push(&mut graph, field, &value);
    }
    let mut file = vec![8, 9];
    push(&mut file, 7, &graph);
    push(&mut file, 8, &[16, 17]);
    file
}

/// ONNX Runtime ends with its process where the least integer is divided by -1.
pub(crate) fn quotients_of_undeclared_datatypes_end_nobody(runtime: &Runtime) {
    let cases = fixture::lines("divisions.jsonl");
    assert_eq!(cases.len(), 13);
    for case in cases {
        let model = runtime.load(&case.model);
        let model = model.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let checked = case.check(model.as_ref(), 0.0);
        checked.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
}

pub(crate) fn quotients_beyond_an_integer_end_nobody(runtime: &Runtime) {
    let (x, y) = (
        [i64::MIN, i64::MIN, 7, -7, -7, i64::MAX, 0],
        [-1, 2, -2, 2, -1, -1, 5],
    );
    let expected: Vec<i64> = x.iter().zip(y).map(|(x, y)| x.wrapping_div(y)).collect();
    let run = |model: &dyn Model, x: Values, y: Values| {
        let [x, y] = [x, y].map(|values| Tensor::try_new(vec![7], values).unwrap());
        model.run(&[x, y], &[0]).unwrap().remove(0)
    };
    let model = runtime.load(&division(7)).unwrap();
    let found = run(
        model.as_ref(),
        Values::I64(x.to_vec().into()),
        Values::I64(y.to_vec().into()),
    );
    assert_eq!(found.values(), &Values::I64(expected.into()));
    // By zero the runtime refuses.
    let by_zero = [7, 0].map(|number| Tensor::from_values(Values::I64(vec![number; 7].into())));
    let error = model.run(&by_zero, &[0]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let narrow = |numbers: &[i64]| -> Vec<i32> {
        let numbers = numbers.iter();
        numbers
            .map(|&number| number.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
            .collect()
    };
    let (x, y) = (narrow(&x), narrow(&y));
    let expected: Vec<i32> = x.iter().zip(&y).map(|(x, y)| x.wrapping_div(*y)).collect();
    let model = runtime.load(&division(6)).unwrap();
    let found = run(model.as_ref(), Values::I32(x.into()), Values::I32(y.into()));
    assert_eq!(found.values(), &Values::I32(expected.into()));
}
