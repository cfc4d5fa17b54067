//! `getattr` names methods of inert instances, and does nothing else.

use coracle_pickle::Node;

use super::assembler::Assembler;
use super::{asm, load, refuses_names};

/// Python's `getattr(NEWOBJ of the class, "_entropy")`, as the pickle of a bound method has it.
fn method_of(file: Assembler, module: &str, name: &str) -> Assembler {
    file.global("builtins", "getattr")
        .global(module, name)
        .op("EMPTY_TUPLE")
        .op("NEWOBJ")
        .str("_entropy")
        .op("TUPLE2")
        .op("REDUCE")
}

#[test]
fn a_method_of_an_inert_instance_is_a_record_of_the_two() {
    let file = method_of(asm(), "scipy.stats", "randint_gen").stop();
    let graph = load(&file).unwrap();
    let method = graph.object(graph.root()).unwrap();
    assert_eq!(method.class, "builtins.getattr");
    assert_eq!(method.state, None);
    let [instance, name] = method.args[..] else {
        panic!("two arguments: {method:?}");
    };
    let class = graph.object(instance).map(|instance| instance.class);
    assert_eq!(class, Some("scipy.stats.randint_gen"));
    assert_eq!(graph.node(name), &Node::Str("_entropy".into()));
}

#[test]
fn a_method_of_anything_else_is_refused() {
    let message = "refuses to load 'builtins.getattr' (not a known data type)";
    // An instance of a class that models are made of.
    let record = method_of(asm(), "sklearn.base", "Estimator").stop();
    refuses_names(&record, message);
    let of = |file: Assembler| file.op("TUPLE2").op("REDUCE").stop();
    let getattr = || asm().global("builtins", "getattr");
    let inert = || {
        getattr()
            .global("scipy.stats", "randint_gen")
            .op("EMPTY_TUPLE")
            .op("NEWOBJ")
    };
    // The class itself, a function, a module's name, a list, the method of such a method.
    refuses_names(
        &of(getattr().global("scipy.stats", "randint_gen").str("mro")),
        message,
    );
    refuses_names(&of(getattr().global("numpy", "mean").str("f")), message);
    refuses_names(&of(getattr().str("os").str("system")), message);
    refuses_names(&of(getattr().op("EMPTY_LIST").str("append")), message);
    let nested = method_of(getattr(), "scipy.stats", "randint_gen").str("__globals__");
    refuses_names(&of(nested), message);
    // A name that is no text, and too few or too many arguments.
    refuses_names(&of(inert().int(1)), message);
    refuses_names(&inert().op("TUPLE1").op("REDUCE").stop(), message);
    refuses_names(
        &inert().str("a").op("NONE").op("TUPLE3").op("REDUCE").stop(),
        message,
    );
}

#[test]
fn what_a_getattr_gave_cannot_be_called() {
    let file = method_of(asm(), "scipy.stats", "randint_gen")
        .str("id")
        .op("TUPLE1")
        .op("REDUCE")
        .stop();
    let error = load(&file).expect_err("the file is refused");
    let text = error.to_string();
    assert!(
        text.starts_with("a call of something that is no function"),
        "{text}"
    );
}

#[test]
fn getattr_itself_is_no_value() {
    let message = "refuses to load 'builtins.getattr' (not a known data type)";
    refuses_names(&asm().global("builtins", "getattr").stop(), message);
    refuses_names(&asm().global("__builtin__", "getattr").stop(), message);
    // Thrown away unused, as the class of an instance, as a factory.
    let unused = asm().global("builtins", "getattr").op("POP").int(1).stop();
    refuses_names(&unused, message);
    let instance = asm()
        .global("builtins", "getattr")
        .op("EMPTY_TUPLE")
        .op("NEWOBJ")
        .stop();
    refuses_names(&instance, message);
    let factory = asm()
        .global("collections", "defaultdict")
        .global("builtins", "getattr")
        .op("TUPLE1")
        .op("REDUCE")
        .stop();
    refuses_names(&factory, message);
    // Used as is allowed, and kept as well: the place says where.
    let kept = asm()
        .op("EMPTY_DICT")
        .op("MARK")
        .str("func")
        .global("builtins", "getattr")
        .op("MEMOIZE")
        .str("method");
    let kept = kept
        .raw(b"h\x00")
        .global("scipy.stats", "randint_gen")
        .op("EMPTY_TUPLE")
        .op("NEWOBJ")
        .str("_entropy")
        .op("TUPLE2")
        .op("REDUCE")
        .op("SETITEMS")
        .stop();
    let error = refuses_names(&kept, message);
    assert_eq!(error.unknown_globals()[0].place, r#"root["func"]"#);
}
