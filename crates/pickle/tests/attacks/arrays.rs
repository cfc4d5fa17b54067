//! Forged arrays: shapes, lengths, dtypes, pointers, joblib wrappers, `.npy` headers.

use coracle_pickle::{ErrorKind, Limits, read_npy};

use super::assembler::Assembler;
use super::{asm, load, refused, refuses_names};

/// A file of one array: `shape` and `data` as the machine reads them.
fn array_file(dtype: &str, shape: Assembler, data: &[u8]) -> Vec<u8> {
    asm()
        .global("numpy.core.multiarray", "_reconstruct")
        .global("numpy", "ndarray")
        .int(0)
        .op("TUPLE1")
        .raw(b"C\x01b")
        .op("TUPLE3")
        .op("REDUCE")
        .op("MARK")
        .int(1)
        .raw(&shape.body())
        .dtype(dtype)
        .op("NEWFALSE")
        .bytes8(data)
        .op("TUPLE")
        .op("BUILD")
        .stop()
}

#[test]
fn array_headers_are_checked() {
    let shape = |lengths: &[i64]| {
        let mut asm = asm().op("MARK");
        for length in lengths {
            asm = asm.long(*length);
        }
        asm.op("TUPLE")
    };
    let graph = load(&array_file("f8", shape(&[2]), &[0; 16])).unwrap();
    assert_eq!(
        graph.array(graph.root()).unwrap().to_f64s().unwrap(),
        [0.0, 0.0]
    );
    for (dtype, lengths, n_bytes) in [
        ("f8", &[3][..], 16),
        ("f8", &[1], 16),
        ("f8", &[-2], 16),
        ("f8", &[-1, -2], 16),
        ("f8", &[1 << 62], 16),
        ("f8", &[1 << 61], 0),
        ("f8", &[1 << 32, 1 << 32], 0),
        ("f8", &[1 << 62, 1 << 62, 0], 0),
        ("f8", &[i64::MAX], 16),
        ("U0", &[1 << 60], 0),
        ("V0", &[1 << 60], 0),
        ("S0", &[5], 0),
        ("U4611686018427387904", &[1], 16),
        ("O8", &[2], 16),
        ("f8", &[1; 65], 8),
    ] {
        let error = load(&array_file(dtype, shape(lengths), &vec![0x41; n_bytes]))
            .expect_err("the array is refused");
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::Malformed | ErrorKind::Unsupported),
            "{dtype} {lengths:?}: {error}"
        );
    }
    let error = refused(
        &array_file("O8", shape(&[2]), &[0x41; 16]),
        ErrorKind::Malformed,
    );
    assert!(
        error
            .to_string()
            .starts_with("an array of objects made of bytes"),
        "{error}"
    );
}

#[test]
fn forged_pointers_get_in_by_no_door() {
    // numpy.core.multiarray.scalar(dtype('O8'), bytes) and _frombuffer of objects.
    let scalar = asm()
        .global("numpy.core.multiarray", "scalar")
        .dtype("O8")
        .bytes8(&[0x41; 8])
        .op("TUPLE2")
        .op("REDUCE")
        .stop();
    refused(&scalar, ErrorKind::Malformed);
    let buffer = asm()
        .global("numpy.core.numeric", "_frombuffer")
        .op("MARK")
        .bytes8(&[0x41; 8])
        .dtype("O8")
        .int(1)
        .op("TUPLE1")
        .str("C")
        .op("TUPLE")
        .op("REDUCE")
        .stop();
    refused(&buffer, ErrorKind::Malformed);
}

#[test]
fn dtypes_are_checked() {
    let dtype = |code: &str, order: &str, size: i64| {
        asm()
            .global("numpy", "dtype")
            .str(code)
            .op("NEWFALSE")
            .op("NEWTRUE")
            .op("TUPLE3")
            .op("REDUCE")
            .op("MARK")
            .int(3)
            .str(order)
            .op("NONE")
            .op("NONE")
            .op("NONE")
            .long(size)
            .long(-1)
            .int(0)
            .op("TUPLE")
            .op("BUILD")
            .stop()
    };
    assert!(load(&dtype("f8", "<", -1)).is_ok());
    assert!(load(&dtype("U3", "<", 12)).is_ok());
    for (code, order, size) in [
        ("f8", "<", 4),
        ("f8", "<", -8),
        ("f8", "?", -1),
        ("U3", "<", 13),
        ("U3", "<", -12),
        ("zz", "<", -1),
        ("f3", "<", -1),
        ("", "<", -1),
    ] {
        assert!(
            load(&dtype(code, order, size)).is_err(),
            "{code} {order} {size}"
        );
    }
}

#[test]
fn joblib_arrays_are_checked() {
    let wrapper = |nested: &[u8], data: &[u8], n_items: i64, dtype: &str| {
        Assembler::new(3)
            .global("joblib.numpy_pickle", "NumpyArrayWrapper")
            .op("EMPTY_TUPLE")
            .op("NEWOBJ")
            .op("EMPTY_DICT")
            .op("MARK")
            .str("subclass")
            .global("numpy", "ndarray")
            .str("shape")
            .long(n_items)
            .op("TUPLE1")
            .str("order")
            .str("C")
            .str("dtype")
            .dtype(dtype)
            .str("allow_mmap")
            .op("NEWTRUE")
            .op("SETITEMS")
            .op("BUILD")
            .raw(nested)
            .raw(data)
            .stop()
    };
    let graph = load(&wrapper(b"", &1.5_f64.to_le_bytes(), 1, "f8")).unwrap();
    assert_eq!(graph.array(graph.root()).unwrap().to_f64s().unwrap(), [1.5]);
    refused(&wrapper(b"", &[0; 8], 1 << 40, "f8"), ErrorKind::Malformed);
    refused(&wrapper(b"", &[0; 8], 1 << 62, "f8"), ErrorKind::Malformed);
    refused(&wrapper(b"", &[0; 8], -1, "f8"), ErrorKind::Malformed);
    // A payload in the pickle of an object array.
    let payload = asm()
        .global("os", "system")
        .str("id")
        .op("TUPLE1")
        .op("REDUCE")
        .stop();
    refuses_names(
        &wrapper(&payload, b"", 1, "O8"),
        "refuses to load 'os.system' (not a known data type)",
    );
    // Something other than an array, and a joblib array again.
    refused(&wrapper(b"N.", b"", 1, "O8"), ErrorKind::Malformed);
    let again = wrapper(b"", &[0; 8], 1, "f8");
    let error = refused(&wrapper(&again, b"", 1, "O8"), ErrorKind::Malformed);
    assert!(
        error
            .to_string()
            .starts_with("a joblib array inside a nested pickle"),
        "{error}"
    );
}

#[test]
fn arrays_in_files_of_their_own_are_refused() {
    for module in ["joblib.numpy_pickle", "joblib.numpy_pickle_compat"] {
        let file = asm()
            .global(module, "NDArrayWrapper")
            .op("EMPTY_TUPLE")
            .op("NEWOBJ")
            .stop();
        refused(&file, ErrorKind::Unsupported);
    }
}

#[test]
fn npy_headers_are_checked() {
    let npy = |header: &str, data: &[u8]| {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), data].concat()
    };
    let good = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n";
    let array = read_npy(&npy(good, &[0; 8]), &Limits::default()).unwrap();
    assert_eq!(array.to_f64s().unwrap(), [0.0]);
    for header in [
        "",
        "{",
        "{}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<f8'), ('b', '>U0')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', [('b', '<f8')])], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<f4', (2,))], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} + __import__('os')",
        "{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f8', 'shape': (1,)}",
    ] {
        assert!(
            read_npy(&npy(header, &[0; 8]), &Limits::default()).is_err(),
            "{header}"
        );
    }
    let whole = npy(good, &[0; 8]);
    for length in 0..whole.len() {
        assert!(read_npy(&whole[..length], &Limits::default()).is_err());
    }
}
