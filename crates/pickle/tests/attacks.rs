//! One test for each known malicious technique: what the reader says to it, and that it says it cheaply.
#![expect(
    clippy::unwrap_used,
    reason = "a file that cannot be made should fail loudly"
)]

#[path = "attacks/assembler.rs"]
mod assembler;

use std::io::Write;

use assembler::Assembler;
use coracle_pickle::{
    ClassTable, Error, ErrorKind, GlobalForm, Graph, KnownGlobal, Limits, Node, read, read_npy,
};

static TABLE: &[KnownGlobal] = &[
    KnownGlobal {
        module: "sklearn.base",
        name: "Estimator",
        canonical: "sklearn.base.Estimator",
        form: GlobalForm::Record,
    },
    KnownGlobal {
        module: "sklearn.tree._tree",
        name: "Tree",
        canonical: "sklearn.tree._tree.Tree",
        form: GlobalForm::Constructor,
    },
    KnownGlobal {
        module: "numpy",
        name: "mean",
        canonical: "numpy.mean",
        form: GlobalForm::Value,
    },
];

fn load(bytes: &[u8]) -> Result<Graph, Error> {
    read(bytes, &ClassTable::new(TABLE), &Limits::default())
}

fn asm() -> Assembler {
    Assembler::new(4)
}

#[track_caller]
fn refused(bytes: &[u8], kind: ErrorKind) -> Error {
    let error = load(bytes).expect_err("the file is refused");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

#[track_caller]
fn refuses_names(bytes: &[u8], message: &str) -> Error {
    let error = refused(bytes, ErrorKind::UnknownGlobal);
    assert_eq!(error.to_string(), message);
    error
}

#[track_caller]
fn refused_with(bytes: &[u8], kind: ErrorKind, message: &str) {
    assert_eq!(refused(bytes, kind).to_string(), message);
}

#[test]
fn reduce_of_a_foreign_callable_is_refused_by_name() {
    let callables = [
        ("posix", "system"),
        ("os", "system"),
        ("nt", "system"),
        ("os", "popen"),
        ("subprocess", "Popen"),
        ("subprocess", "check_output"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "compile"),
        ("builtins", "open"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("__builtin__", "eval"),
        ("__builtin__", "apply"),
        ("operator", "attrgetter"),
        ("operator", "methodcaller"),
        ("functools", "partial"),
        ("functools", "reduce"),
        ("importlib", "import_module"),
        ("runpy", "_run_code"),
        ("pty", "spawn"),
        ("ctypes", "CDLL"),
        ("types", "CodeType"),
        ("types", "FunctionType"),
        ("cloudpickle.cloudpickle", "_make_function"),
        ("dill._dill", "_create_function"),
        ("pickle", "loads"),
        ("_pickle", "loads"),
        ("joblib", "load"),
        ("joblib.numpy_pickle", "load"),
        ("numpy", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("pandas", "read_pickle"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.f2py.crackfortran", "getlincoef"),
        ("bdb", "Bdb"),
        ("code", "InteractiveInterpreter"),
        ("webbrowser", "open"),
        ("builtins", "type"),
        ("builtins", "map"),
        ("builtins", "super"),
        ("", ""),
    ];
    for (module, name) in callables {
        let by_global = asm()
            .global(module, name)
            .str("true")
            .op("TUPLE1")
            .op("REDUCE")
            .stop();
        let message = format!("refuses to load '{module}.{name}' (not a known data type)");
        refuses_names(&by_global, &message);
        let by_stack = asm()
            .str(module)
            .str(name)
            .op("STACK_GLOBAL")
            .str("true")
            .op("TUPLE1")
            .op("REDUCE")
            .stop();
        refuses_names(&by_stack, &message);
    }
}

#[test]
fn every_unknown_name_is_listed_with_its_place() {
    let file = asm()
        .op("EMPTY_DICT")
        .op("MARK")
        .str("steps")
        .op("EMPTY_LIST")
        .op("MARK")
        .global("posix", "system")
        .str("id")
        .op("TUPLE1")
        .op("REDUCE")
        .global("sklearn.base", "Estimator")
        .op("EMPTY_TUPLE")
        .op("NEWOBJ")
        .op("EMPTY_DICT")
        .str("tokenizer")
        .global("builtins", "eval")
        .op("SETITEM")
        .op("BUILD")
        .op("APPENDS")
        .op("SETITEMS")
        .stop();
    let error = refuses_names(
        &file,
        "refuses to load 'posix.system', 'builtins.eval' (not known data types)",
    );
    let places: Vec<&str> = error.unknown_globals().iter().map(|g| &*g.place).collect();
    assert_eq!(
        places,
        [r#"root["steps"][0]"#, r#"root["steps"][1].tokenizer"#]
    );
}

#[test]
fn a_foreign_callable_off_the_result_is_still_refused() {
    // The value is made and thrown away: Python would have run it.
    let file = asm()
        .global("os", "system")
        .str("id")
        .op("TUPLE1")
        .op("REDUCE")
        .op("POP")
        .int(1)
        .stop();
    let error = refuses_names(&file, "refuses to load 'os.system' (not a known data type)");
    assert_eq!(error.unknown_globals()[0].place, "byte 2");
}

#[test]
fn chains_of_foreign_calls_make_nothing() {
    // getattr(__import__("os"), "system")("id"), then state, items and entries for its result.
    let file = asm()
        .global("builtins", "getattr")
        .global("builtins", "__import__")
        .str("os")
        .op("TUPLE1")
        .op("REDUCE")
        .str("system")
        .op("TUPLE2")
        .op("REDUCE")
        .str("id")
        .op("TUPLE1")
        .op("REDUCE")
        .op("EMPTY_DICT")
        .op("BUILD")
        .int(1)
        .op("APPEND")
        .int(1)
        .int(2)
        .op("SETITEM")
        .op("MARK")
        .int(1)
        .op("ADDITEMS")
        .op("EMPTY_TUPLE")
        .op("NEWOBJ")
        .op("EMPTY_TUPLE")
        .op("EMPTY_DICT")
        .op("NEWOBJ_EX")
        .stop();
    refuses_names(
        &file,
        "refuses to load 'builtins.getattr', 'builtins.__import__' (not known data types)",
    );
}

#[test]
fn dodges_of_reduce_are_refused() {
    let newobj = asm()
        .global("os", "system")
        .str("id")
        .op("TUPLE1")
        .op("NEWOBJ")
        .stop();
    refuses_names(
        &newobj,
        "refuses to load 'os.system' (not a known data type)",
    );
    let newobj_ex = asm()
        .global("os", "system")
        .str("id")
        .op("TUPLE1")
        .op("EMPTY_DICT")
        .str("key")
        .int(1)
        .op("SETITEM")
        .op("NEWOBJ_EX")
        .stop();
    refuses_names(
        &newobj_ex,
        "refuses to load 'os.system' (not a known data type)",
    );
    refused_with(
        b"(S'id'\nios\nsystem\n.",
        ErrorKind::Unsupported,
        "the opcode INST at byte 7 is not supported",
    );
    refused_with(
        &Assembler::new(1).op("MARK").int(1).op("OBJ").stop(),
        ErrorKind::Unsupported,
        "the opcode OBJ at byte 5 is not supported",
    );
    refuses_names(
        b"(cos\nsystem\nS'id'\no.",
        "refuses to load 'os.system' (not a known data type)",
    );
    let reconstructor = asm()
        .global("copyreg", "_reconstructor")
        .global("os", "system")
        .global("builtins", "object")
        .op("NONE")
        .op("TUPLE3")
        .op("REDUCE")
        .stop();
    refuses_names(
        &reconstructor,
        "refuses to load 'os.system' (not a known data type)",
    );
}

#[test]
fn registry_codes_persistent_ids_and_buffers_are_refused() {
    for (code, name) in [
        (&b"\x82\x01."[..], "EXT1"),
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"Pid\n.", "PERSID"),
        (b"Q.", "BINPERSID"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"\x98.", "READONLY_BUFFER"),
    ] {
        let message = format!("the opcode {name} at byte 0 is not supported");
        refused_with(code, ErrorKind::Unsupported, &message);
    }
    refused_with(
        b"\xff.",
        ErrorKind::Malformed,
        "the unknown opcode 0xff at byte 0",
    );
    refused_with(
        b"\x80\x06N.",
        ErrorKind::Unsupported,
        "pickle protocol 6 at byte 0 is not supported",
    );
}

#[test]
fn dotted_names_reach_nothing() {
    for (module, name, shown) in [
        (
            "sklearn.base",
            "Estimator.fit.__globals__",
            "sklearn.base.Estimator.fit.__globals__",
        ),
        ("sklearn.utils", "os.system", "sklearn.utils.os.system"),
        ("sklearn", "base.Estimator", "sklearn.base.Estimator"),
        ("numpy", "ndarray.tofile", "numpy.ndarray.tofile"),
        ("numpy", "f2py.os.system", "numpy.f2py.os.system"),
        (
            "collections",
            "OrderedDict.fromkeys",
            "collections.OrderedDict.fromkeys",
        ),
    ] {
        let file = asm()
            .str(module)
            .str(name)
            .op("STACK_GLOBAL")
            .op("EMPTY_TUPLE")
            .op("REDUCE")
            .stop();
        refuses_names(
            &file,
            &format!("refuses to load '{shown}' (not a known data type)"),
        );
    }
}

#[test]
fn names_are_shown_without_control_characters_and_cut() {
    let file = asm()
        .str("os\x1b[2J\n")
        .str("system")
        .op("STACK_GLOBAL")
        .stop();
    refuses_names(
        &file,
        r"refuses to load 'os\u{1b}[2J\n.system' (not a known data type)",
    );
    let file = asm()
        .str(&"a".repeat(100_000))
        .str("b")
        .op("STACK_GLOBAL")
        .stop();
    let error = refused(&file, ErrorKind::UnknownGlobal);
    assert!(error.to_string().len() < 300);
    assert!(error.unknown_globals()[0].name.len() <= 200);
}

#[test]
fn known_names_are_used_only_as_they_are_known() {
    let value_called = asm()
        .global("numpy", "mean")
        .op("EMPTY_TUPLE")
        .op("REDUCE")
        .stop();
    refused_with(
        &value_called,
        ErrorKind::Unsupported,
        "calling 'numpy.mean' at byte 15 is not supported",
    );
    let type_called = asm()
        .global("builtins", "str")
        .op("EMPTY_TUPLE")
        .op("REDUCE")
        .stop();
    refused(&type_called, ErrorKind::Unsupported);
    let instance = asm()
        .global("sklearn.tree._tree", "Tree")
        .op("EMPTY_TUPLE")
        .op("NEWOBJ")
        .stop();
    refused(&instance, ErrorKind::Unsupported);
    let number_called = asm().int(1).op("EMPTY_TUPLE").op("REDUCE").stop();
    refused(&number_called, ErrorKind::Malformed);
    let not_a_tuple = asm()
        .global("builtins", "list")
        .op("EMPTY_LIST")
        .op("REDUCE")
        .stop();
    refused(&not_a_tuple, ErrorKind::Malformed);
}

#[test]
fn an_estimator_that_carries_a_foreign_callable_is_refused() {
    let file = asm()
        .global("sklearn.base", "Estimator")
        .op("EMPTY_TUPLE")
        .op("NEWOBJ")
        .op("EMPTY_DICT")
        .str("func")
        .global("builtins", "exec")
        .op("SETITEM")
        .op("BUILD")
        .stop();
    let error = refuses_names(
        &file,
        "refuses to load 'builtins.exec' (not a known data type)",
    );
    assert_eq!(error.unknown_globals()[0].place, "root.func");
}

#[test]
fn attributes_cannot_change_what_an_object_is() {
    let with_key = |key: fn(Assembler) -> Assembler| {
        let object = asm()
            .global("sklearn.base", "Estimator")
            .op("EMPTY_TUPLE")
            .op("NEWOBJ")
            .op("EMPTY_DICT");
        key(object).int(1).op("SETITEM").op("BUILD").stop()
    };
    assert!(load(&with_key(|asm| asm.str("max_depth"))).is_ok());
    refused(&with_key(|asm| asm.str("__class__")), ErrorKind::Malformed);
    refused(
        &with_key(|asm| asm.raw(b"U\x09__class__")),
        ErrorKind::Malformed,
    );
    refused(&with_key(|asm| asm.int(7)), ErrorKind::Malformed);
    // A dict that gets the key only after the object took it as its state.
    let late = asm()
        .op("EMPTY_DICT")
        .op("MEMOIZE")
        .global("sklearn.base", "Estimator")
        .op("EMPTY_TUPLE")
        .op("NEWOBJ")
        .raw(b"h\x00")
        .op("BUILD")
        .raw(b"h\x00")
        .str("__class__")
        .int(1)
        .op("SETITEM")
        .op("POP")
        .op("TUPLE2")
        .stop();
    refused(&late, ErrorKind::Malformed);
}

#[test]
fn stop_takes_exactly_one_value_and_the_end_of_the_file() {
    for (bytes, message) in [
        (
            &b"."[..],
            "STOP with other than one value on the stack at byte 0",
        ),
        (
            b"NN.",
            "STOP with other than one value on the stack at byte 2",
        ),
        (
            b"(N.",
            "STOP with other than one value on the stack at byte 2",
        ),
        (
            b"N(.",
            "STOP with other than one value on the stack at byte 2",
        ),
        (b"N.N.", "bytes after the end of the pickle at byte 2"),
        (b"N.\n", "bytes after the end of the pickle at byte 2"),
        (
            b"\x80\x04\x95\x03\0\0\0\0\0\0\0N.",
            "a frame at byte 11 needs 3 bytes, 2 are left",
        ),
        (
            b"\x80\x04\x95\x03\0\0\0\0\0\0\0N.N",
            "STOP inside a frame at byte 12",
        ),
    ] {
        refused_with(bytes, ErrorKind::Malformed, message);
    }
    // What follows STOP is not read, so it cannot be named; the file is refused all the same.
    refused(b"N.cos\nsystem\n(S'id'\ntR.", ErrorKind::Malformed);
}

#[test]
fn a_broken_tail_does_not_hide_what_came_before() {
    let mut file = asm()
        .global("os", "system")
        .str("id")
        .op("TUPLE1")
        .op("REDUCE")
        .bytes();
    for tail in [&b""[..], b"\xff", b"R", b"0", b"X\xff\xff\xff\xff"] {
        let length = file.len();
        file.extend_from_slice(tail);
        refuses_names(&file, "refuses to load 'os.system' (not a known data type)");
        file.truncate(length);
    }
}

#[test]
fn marks_cannot_be_reached_below() {
    // POP of a mark alone is sound.
    assert!(load(b"N(0.").is_ok());
    for bytes in [
        &b"N(\x85."[..],
        b"](N(a.",
        b"t.",
        b"e.",
        b"0.",
        b"2.",
        b"1.",
        b"N(2.",
        b"N(q\x00.",
        b"](Nu.",
        b"}(Nu.",
        b"}(NNe.",
        b"Na.",
        b"N}b.",
    ] {
        let error = load(bytes).expect_err("the file is refused");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{bytes:?}: {error}");
    }
}

#[test]
fn memo_numbers_cost_nothing() {
    // 2^32 - 1 as a number, and 2^63 in text.
    let graph = load(b"\x80\x02Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.").unwrap();
    assert_eq!(graph.node(graph.root()), &Node::None);
    let graph = load(b"Np9223372036854775808\n0g9223372036854775808\n.").unwrap();
    assert_eq!(graph.node(graph.root()), &Node::None);
    refused(b"h\x00.", ErrorKind::Malformed);
    refused(b"Np-1\n.", ErrorKind::Malformed);
    let mut limits = Limits::default();
    limits.memo_entries_max = 3;
    let file = [&b"\x80\x04N"[..], &[0x94; 4], b"."].concat();
    let error = read(&file, &ClassTable::default(), &limits).expect_err("too many entries");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

#[test]
fn memo_order_does_not_matter() {
    let file = asm()
        .int(5)
        .raw(b"q\x05")
        .int(0)
        .raw(b"q\x00")
        .int(1)
        .raw(b"q\x01")
        .op("POP")
        .op("POP")
        .op("POP")
        .raw(b"h\x05h\x01h\x00\x87.")
        .bytes();
    let graph = load(&file).unwrap();
    let items: Vec<_> = graph
        .list(graph.root())
        .unwrap()
        .iter()
        .map(|id| graph.int(*id))
        .collect();
    assert_eq!(items, [Some(5), Some(1), Some(0)]);
}

#[test]
fn laughs_stay_small() {
    // Each list holds the one before a hundred times: 100^50 strings on paper.
    let mut laughs = asm().op("EMPTY_LIST").str("lol").op("APPEND").op("MEMOIZE");
    for level in 0..50_u8 {
        laughs = laughs.op("EMPTY_LIST").op("MARK");
        for _ in 0..100 {
            laughs = laughs.raw(&[b'h', level]);
        }
        laughs = laughs.op("APPENDS").op("MEMOIZE");
    }
    for _ in 0..50 {
        laughs = laughs.op("TUPLE2");
    }
    let file = laughs.stop();
    let graph = load(&file).unwrap();
    assert!(graph.len() < 200);
    // The same with DUP and tuples.
    let mut dups = asm().str("lol");
    for _ in 0..10_000 {
        dups = dups.op("DUP").op("TUPLE2");
    }
    assert!(load(&dups.stop()).unwrap().len() < 20_000);
}

#[test]
fn copies_of_shared_values_are_bounded() {
    // 1 MiB of bytes, copied into 400 arrays by 20 bytes each.
    let mut file = asm()
        .bytes8(&vec![0; 1 << 20])
        .op("MEMOIZE")
        .dtype("u1")
        .op("MEMOIZE")
        .op("TUPLE2")
        .global("numpy", "mean")
        .op("POP");
    for _ in 0..400 {
        file = file
            .op("EMPTY_LIST")
            .op("POP")
            .global("numpy.core.numeric", "_frombuffer")
            .op("MARK")
            .raw(b"h\x00h\x01")
            .raw(b"J\x00\x00\x10\x00")
            .op("TUPLE1")
            .str("C")
            .op("TUPLE")
            .op("REDUCE")
            .op("POP");
    }
    refused(&file.stop(), ErrorKind::LimitExceeded);
    // A list of a million, made into many sets.
    let mut file = asm().op("EMPTY_LIST").op("MARK");
    for _ in 0..1_000_000 {
        file = file.op("NONE");
    }
    file = file.op("APPENDS").op("TUPLE1").op("MEMOIZE");
    for _ in 0..40 {
        file = file
            .global("builtins", "set")
            .raw(b"h\x00")
            .op("REDUCE")
            .op("POP");
    }
    refused(&file.stop(), ErrorKind::LimitExceeded);
}

#[test]
fn fields_of_shared_dtypes_are_bounded() {
    let mut names = asm().op("MARK");
    for index in 0..20_000 {
        names = names.str(&format!("f{index}"));
    }
    // Field descriptions are missing, but names alone are charged before they are looked at.
    let mut file = names.op("TUPLE").op("MEMOIZE");
    for _ in 0..20 {
        file = file
            .global("numpy", "dtype")
            .str("V8")
            .op("TUPLE1")
            .op("REDUCE")
            .op("MARK")
            .int(3)
            .str("|")
            .op("NONE")
            .raw(b"h\x00")
            .op("EMPTY_DICT")
            .int(8)
            .int(1)
            .int(16)
            .op("TUPLE")
            .op("BUILD");
    }
    let error = load(&file.stop()).expect_err("refused");
    assert!(matches!(
        error.kind(),
        ErrorKind::LimitExceeded | ErrorKind::Malformed
    ));
}

#[test]
fn deep_nesting_neither_recurses_nor_overflows() {
    const DEPTH: usize = 1_000_000;
    let lists = [vec![b']'; DEPTH], vec![b'a'; DEPTH - 1], b".".to_vec()].concat();
    let graph = load(&lists).unwrap();
    assert_eq!(graph.list(graph.root()).unwrap().len(), 1);
    drop(graph);
    let tuples = [b"N".to_vec(), vec![0x85; DEPTH], b".".to_vec()].concat();
    drop(load(&tuples).unwrap());
    let marks = [vec![b'('; DEPTH], vec![b't'; DEPTH], b".".to_vec()].concat();
    drop(load(&marks).unwrap());
    // And where the depth ends in an unknown name, whose place is written.
    let unknown = [b"cos\nsystem\n".to_vec(), vec![0x85; DEPTH], b".".to_vec()].concat();
    let error = refused(&unknown, ErrorKind::UnknownGlobal);
    assert!(error.unknown_globals()[0].place.len() < 100);
}

#[test]
fn the_stack_is_bounded() {
    let mut limits = Limits::default();
    limits.stack_depth_max = 1000;
    for opcode in [b'N', b'(', b']'] {
        let file = [vec![opcode; 2000], b".".to_vec()].concat();
        let error = read(&file, &ClassTable::default(), &limits).expect_err("too deep");
        assert_eq!(
            error.to_string(),
            "the stack's depth would exceed the limit of 1000"
        );
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }
}

#[test]
fn opcodes_nodes_and_file_size_are_bounded() {
    let file = [vec![b']'; 2000], b".".to_vec()].concat();
    let refuse = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = read(&file, &ClassTable::default(), &limits).expect_err("over a limit");
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        error.to_string()
    };
    assert_eq!(
        refuse(|limits| limits.opcodes_max = 100),
        "the opcodes would exceed the limit of 100"
    );
    assert_eq!(
        refuse(|limits| limits.nodes_max = 100),
        "the number of nodes would exceed the limit of 100"
    );
    assert_eq!(
        refuse(|limits| limits.file_bytes_max = 100),
        "the file's size in bytes would exceed the limit of 100"
    );
}

#[test]
fn declared_lengths_are_checked_against_what_is_there() {
    for bytes in [
        &b"X\xff\xff\xff\x7f."[..],
        b"B\xff\xff\xff\xff.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x3f.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x96\x00\x00\x00\x00\x00\x00\x00\x40.",
        b"\x8b\xff\xff\xff\x7f.",
        b"\x8b\xff\xff\xff\xff.",
        b"T\xff\xff\xff\xff.",
        b"T\xff\xff\xff\x7f.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"C\x05abc.",
        b"I1",
        b"S'abc\n.",
        b"I12x\n.",
        b"Fone\n.",
    ] {
        let error = load(bytes).expect_err("the file is refused");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{bytes:?}: {error}");
    }
    // A number of many digits would cost quadratic time.
    let digits = [b"I".to_vec(), vec![b'9'; 100_000], b"\n.".to_vec()].concat();
    refused(&digits, ErrorKind::Malformed);
}

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

/// `n` bytes of a pickled list of zeros, written through each compressor.
fn bombs(n: usize) -> Vec<(&'static str, Vec<u8>)> {
    let zeros = vec![b'N'; n];
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&zeros).unwrap();
    let zlib = zlib.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&zeros).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    bzip2.write_all(&zeros).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&zeros).unwrap();
    let options = lzma_rust2::LzmaOptions::with_preset(6);
    let mut lzma = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
    lzma.write_all(&zeros).unwrap();
    let xz_options = lzma_rust2::XzOptions::with_preset(6);
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), xz_options).unwrap();
    xz.write_all(&zeros).unwrap();
    let zfile = [
        format!("ZF{:<19}", format!("{n:#x}")).into_bytes(),
        zlib.clone(),
    ]
    .concat();
    vec![
        ("zlib", zlib),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("lz4", lz4.finish().unwrap()),
        ("lzma", lzma.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zfile", zfile),
    ]
}

#[test]
fn decompression_bombs_stop_early() {
    let mut limits = Limits::default();
    limits.inflated_bytes_free = 1 << 16;
    for (name, bomb) in bombs(4 << 20) {
        assert!(bomb.len() < 20_000, "{name}");
        let error = read(&bomb, &ClassTable::default(), &limits).expect_err("a bomb");
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{name}: {error}");
    }
    // The bound that holds whatever the ratio.
    let mut limits = Limits::default();
    limits.inflated_bytes_max = 1000;
    for (name, bomb) in bombs(2000) {
        let error = read(&bomb, &ClassTable::default(), &limits).expect_err("a bomb");
        assert_eq!(
            error.to_string(),
            "the decompressed size in bytes would exceed the limit of 1000",
            "{name}"
        );
    }
}

#[test]
fn dictionaries_of_lzma_are_bounded() {
    let (_, mut lzma) = bombs(2000).swap_remove(4);
    // The header's dictionary size: 3 GiB.
    lzma[1..5].copy_from_slice(&0xc000_0000_u32.to_le_bytes());
    assert!(load(&lzma).is_err());
}

#[test]
fn compressed_files_end_where_their_data_ends() {
    for (name, mut file) in bombs(1) {
        assert_eq!(
            load(&file).expect_err("no STOP").kind(),
            ErrorKind::Malformed
        );
        file.push(b'x');
        let error = load(&file).expect_err("trailing bytes");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
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
