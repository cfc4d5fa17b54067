//! Small files that ask for much: memory, depth, copies.

use coracle_pickle::{ClassTable, ErrorKind, Limits, read};

use super::{asm, load, refused};

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
fn every_way_to_copy_shared_bytes_is_charged() {
    let shared = || asm().bytes8(&vec![0; 1 << 20]).op("TUPLE1").op("MEMOIZE");
    for name in ["bytes", "bytearray"] {
        let mut file = shared();
        for _ in 0..100 {
            file = file
                .global("builtins", name)
                .raw(b"h\x00")
                .op("REDUCE")
                .op("POP");
        }
        refused(&file.stop(), ErrorKind::LimitExceeded);
    }
    let mut file = asm()
        .str(&"x".repeat(1 << 20))
        .str("latin1")
        .op("TUPLE2")
        .op("MEMOIZE");
    for _ in 0..100 {
        file = file
            .global("_codecs", "encode")
            .raw(b"h\x00")
            .op("REDUCE")
            .op("POP");
    }
    refused(&file.stop(), ErrorKind::LimitExceeded);
    // One long name, looked up again and again.
    let mut file = asm().str(&"x".repeat(1 << 20)).op("MEMOIZE");
    for _ in 0..100 {
        file = file.raw(b"h\x00h\x00").op("STACK_GLOBAL").op("POP");
    }
    refused(&file.stop(), ErrorKind::UnknownGlobal);
}

#[test]
fn fields_may_not_overlap_or_be_empty() {
    let record = |codes: &[&str], offsets: &[u8], size: u8| {
        let mut names = asm().op("MARK");
        let mut fields = asm().op("EMPTY_DICT");
        for (index, (code, offset)) in codes.iter().zip(offsets).enumerate() {
            let name = format!("f{index}");
            names = names.str(&name);
            fields = fields
                .str(&name)
                .dtype(code)
                .int(*offset)
                .op("TUPLE2")
                .op("SETITEM");
        }
        let code = format!("V{size}");
        asm()
            .global("numpy", "dtype")
            .str(&code)
            .op("TUPLE1")
            .op("REDUCE")
            .op("MARK")
            .int(3)
            .str("|")
            .op("NONE")
            .raw(&names.op("TUPLE").body())
            .raw(&fields.body())
            .int(size)
            .int(1)
            .int(16)
            .op("TUPLE")
            .op("BUILD")
            .stop()
    };
    assert!(load(&record(&["f8", "u1"], &[0, 8], 9)).is_ok());
    assert!(load(&record(&["f8", "u1"], &[1, 0], 9)).is_ok());
    for (codes, offsets, size) in [
        (&["f8", "f8"][..], &[0, 0][..], 8),
        (&["f8"], &[1], 8),
        (&["f8"], &[255], 8),
        (&["S0"], &[0], 8),
        (&["O8"], &[0], 8),
    ] {
        assert!(
            load(&record(codes, offsets, size)).is_err(),
            "{codes:?} {offsets:?}"
        );
    }
}

#[test]
fn one_state_for_many_objects_is_looked_at_once() {
    let mut file = asm().op("EMPTY_DICT").op("MEMOIZE").op("MARK");
    for _ in 0..20_000 {
        file = file.str("key").int(1);
    }
    file = file.op("SETITEMS").op("EMPTY_LIST").op("MARK");
    for _ in 0..20_000 {
        file = file
            .global("sklearn.base", "Estimator")
            .op("EMPTY_TUPLE")
            .op("NEWOBJ")
            .raw(b"h\x00")
            .op("BUILD");
    }
    // 400 million looks would take minutes here.
    let graph = load(&file.op("APPENDS").op("TUPLE2").stop()).expect("a sound file");
    assert!(graph.len() > 40_000);
}
