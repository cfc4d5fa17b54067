//! Opcodes, stack, memo and lengths that no pickler writes.

use coracle_pickle::{ClassTable, ErrorKind, Limits, Node, read};

use super::assembler::Assembler;
use super::{asm, load, refused, refused_with};

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
