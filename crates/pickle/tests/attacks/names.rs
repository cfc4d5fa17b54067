//! Names outside the closed list, by every opcode that can use one.

use coracle_pickle::ErrorKind;

use super::assembler::Assembler;
use super::{asm, refused, refused_with, refuses_names};

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
