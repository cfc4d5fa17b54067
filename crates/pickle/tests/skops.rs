//! skops files: what each kind of description becomes, and forged archives and schemas, which are refused.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

#[path = "skops/archive.rs"]
mod archive;

use archive::{Member, archive};
use coracle_pickle::{
    ClassTable, Error, ErrorKind, GlobalForm, Graph, KnownGlobal, Limits, Node, NodeId, read_skops,
};
use serde_json::{Value, json};

static SAMPLE: &[KnownGlobal] = &[
    KnownGlobal {
        module: "sample",
        name: "Point",
        canonical: "sample.Point",
        form: GlobalForm::Record,
    },
    KnownGlobal {
        module: "sample",
        name: "log",
        canonical: "sample.log",
        form: GlobalForm::Value,
    },
    KnownGlobal {
        module: "functools",
        name: "partial",
        canonical: "functools.partial",
        form: GlobalForm::Constructor,
    },
];

/// An array of the doubles 1 and 2.
fn npy() -> Vec<u8> {
    let header = format!(
        "{:<69}\n",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"
    );
    let items = [1_f64, 2.0].map(f64::to_le_bytes).concat();
    [b"\x93NUMPY\x01\x00\x46\x00", header.as_bytes(), &items].concat()
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.inflated_bytes_free = 1 << 20;
    limits
}

/// Returns a description.
fn node(loader: &str, class: &str, parts: &Value) -> Value {
    let (module, name) = class.rsplit_once('.').unwrap();
    let mut node = json!({"__loader__": loader, "__module__": module, "__class__": name});
    for (key, value) in parts.as_object().unwrap() {
        node[key] = value.clone();
    }
    node
}

fn plain(content: &str) -> Value {
    node(
        "JsonNode",
        "builtins.str",
        &json!({"content": content, "is_json": true}),
    )
}

fn sequence(loader: &str, class: &str, items: &[Value]) -> Value {
    node(loader, class, &json!({ "content": items }))
}

fn dict(entries: &[(&str, &str, Value)]) -> Value {
    let types: Vec<Value> = entries
        .iter()
        .map(|(kind, _, _)| node("TypeNode", kind, &json!({})))
        .collect();
    let mut content = serde_json::Map::new();
    for (_, key, value) in entries {
        content.insert((*key).to_owned(), value.clone());
    }
    let types = sequence("ListNode", "builtins.list", &types);
    node(
        "DictNode",
        "builtins.dict",
        &json!({"key_types": types, "content": content}),
    )
}

fn array(file: &str) -> Value {
    node(
        "NdArrayNode",
        "numpy.ndarray",
        &json!({"type": "numpy", "file": file}),
    )
}

/// Returns the members of a file with this root.
fn members(mut root: Value, files: &[(&str, &[u8])]) -> Vec<Member> {
    root["protocol"] = json!(2);
    root["_skops_version"] = json!("0.16.0");
    let files = files
        .iter()
        .map(|(name, data)| ((*name).to_owned(), data.to_vec()));
    let schema = ("schema.json".to_owned(), root.to_string().into_bytes());
    files.chain(std::iter::once(schema)).collect()
}

fn read(bytes: &[u8]) -> Result<Graph, Error> {
    read_skops(bytes, &ClassTable::new(SAMPLE), &limits())
}

/// Writes a small graph without cycles.
fn shown(graph: &Graph, id: NodeId) -> String {
    let all = |ids: &[NodeId]| -> Vec<String> { ids.iter().map(|id| shown(graph, *id)).collect() };
    let entries = |entries: &[(NodeId, NodeId)]| -> Vec<String> {
        let entry =
            |(key, value): &(NodeId, NodeId)| shown(graph, *key) + ": " + &shown(graph, *value);
        entries.iter().map(entry).collect()
    };
    match graph.node(id) {
        Node::List(items) => format!("[{}]", all(items).join(", ")),
        Node::Tuple(items) => format!("({})", all(items).join(", ")),
        Node::Set(items) => format!("set({})", all(items).join(", ")),
        Node::Slice(bounds) => format!("slice({})", all(bounds).join(", ")),
        Node::Dict(pairs) => format!("{{{}}}", entries(pairs).join(", ")),
        Node::Object(object) => {
            let state = object.state.map(|id| shown(graph, id)).unwrap_or_default();
            let inner = [entries(object.entries()), all(object.elements())].concat();
            format!(
                "{}({}){state}{}",
                object.class,
                all(&object.args).join(", "),
                inner.join(", ")
            )
        }
        Node::Array(array) => match array.objects() {
            Some(objects) => format!("objects{:?}{:?}", array.shape(), all(objects)),
            None => format!("array{:?}{:?}", array.shape(), array.to_f64s().unwrap()),
        },
        other => format!("{other:?}"),
    }
}

/// Says that each root becomes what is shown.
fn check(cases: &[(Value, &str)]) {
    for (root, expected) in cases {
        let files: [(&str, &[u8]); 2] = [("a.npy", &npy()), ("b.bin", &[1, 2])];
        let bytes = archive(&members(root.clone(), &files));
        let graph = read(&bytes).unwrap_or_else(|error| panic!("{error}: {root}"));
        assert_eq!(shown(&graph, graph.root()), *expected, "{root}");
        assert_eq!(graph.info().skops.as_deref(), Some("0.16.0"));
    }
}

#[test]
fn plain_values_and_containers_become_those_of_pickles() {
    let one = plain("1");
    let state = dict(&[
        ("numpy.int64", "7", plain("NaN")),
        ("builtins.str", "a", plain("-2.5")),
    ]);
    let main = dict(&[("builtins.str", "a", one.clone())]);
    let default = json!({"content": {"main": main, "default_factory": plain("null")}});
    let slice = json!({"content": {"start": 1, "stop": null, "step": -1}});
    let list = sequence("ListNode", "builtins.list", &[one.clone(), plain("null")]);
    let set = sequence("SetNode", "builtins.set", std::slice::from_ref(&one));
    let tuple = sequence("TupleNode", "builtins.tuple", std::slice::from_ref(&one));
    check(&[
        (plain("\"\\u00e9\""), "Str(\"\u{e9}\")"),
        (plain("true"), "Bool(true)"),
        (
            plain("9223372036854775808"),
            "BigInt([0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0])",
        ),
        (list, "[Int(1), None]"),
        (set, "set(Int(1))"),
        (tuple, "(Int(1))"),
        (state, "{Int(7): Float(NaN), Str(\"a\"): Float(-2.5)}"),
        (
            node("DefaultDictNode", "collections.defaultdict", &default),
            "{Str(\"a\"): Int(1)}",
        ),
        (
            node("SliceNode", "builtins.slice", &slice),
            "slice(Int(1), None, Int(-1))",
        ),
    ]);
}

#[test]
fn instances_become_records() {
    let one = plain("1");
    let args = sequence("TupleNode", "builtins.tuple", std::slice::from_ref(&one));
    let attributes = dict(&[("builtins.str", "a", one.clone())]);
    let point = |loader: &str, parts: Value| node(loader, "sample.Point", &parts);
    let reduced = json!({"__reduce__": {"args": args}, "content": attributes});
    let named = sequence("TupleNode", "sample.Point", std::slice::from_ref(&one));
    check(&[
        (named, "sample.Point(Int(1))"),
        (
            point("ObjectNode", json!({ "content": attributes })),
            "sample.Point(){Str(\"a\"): Int(1)}",
        ),
        (point("ObjectNode", json!({})), "sample.Point()"),
        (
            point("TreeNode", reduced),
            "sample.Point(Int(1)){Str(\"a\"): Int(1)}",
        ),
        (
            point("ConstructorFromReduceNode", json!({ "content": args })),
            "sample.Point(Int(1))",
        ),
    ]);
}

#[test]
fn names_become_names_and_members_arrays() {
    let log = node("FunctionNode", "sample.log", &json!({}));
    let old = json!({"content": {"module_path": "sample", "function": "log"}});
    let empty = sequence("TupleNode", "builtins.tuple", &[]);
    let content =
        json!({"func": log, "args": empty, "kwds": dict(&[]), "namespace": plain("null")});
    let list = |item: &str| sequence("ListNode", "builtins.list", &[plain(item)]);
    let shape = sequence("TupleNode", "builtins.tuple", &[plain("2"), plain("1")]);
    let objects = json!({"type": "json", "shape": shape, "content": [list("\"a\""), list("null")]});
    check(&[
        (
            node("TypeNode", "numpy.float64", &json!({})),
            "Global(\"numpy.float64\")",
        ),
        (
            node("FunctionNode", "builtins.function", &old),
            "Global(\"sample.log\")",
        ),
        (
            node(
                "PartialNode",
                "functools.partial",
                &json!({ "content": content }),
            ),
            "functools.partial(Global(\"sample.log\"))(Global(\"sample.log\"), (), {}, None)",
        ),
        (array("a.npy"), "array[2][1.0, 2.0]"),
        (
            node("NdArrayNode", "numpy.ndarray", &objects),
            "objects[2, 1][\"Str(\\\"a\\\")\", \"None\"]",
        ),
        (
            node("BytesNode", "builtins.bytes", &json!({"file": "b.bin"})),
            "Bytes([1, 2])",
        ),
    ]);
}

#[test]
fn objects_are_shared_by_identity_and_members_are_read_once() {
    let mut point = node("ObjectNode", "sample.Point", &json!({}));
    point["__id__"] = json!(7);
    let cached =
        json!({"__loader__": "CachedNode", "__module__": null, "__class__": null, "__id__": 7});
    // The reference comes first, but the description is found all the same.
    let items = [cached, point.clone(), point, array("a.npy"), array("a.npy")];
    let root = sequence("ListNode", "builtins.list", &items);
    let graph = read(&archive(&members(root, &[("a.npy", &npy())]))).unwrap();
    let items = graph.list(graph.root()).unwrap();
    assert_eq!([items[0], items[0]], [items[1], items[2]]);
    assert_eq!(items[3], items[4]);
    assert!(graph.object(items[0]).is_some() && graph.array(items[3]).is_some());
}

#[test]
fn unknown_names_are_refused_together_with_their_places() {
    let foreign = node(
        "ObjectNode",
        "private.Scorer",
        &json!({"content": dict(&[("private.Key", "a", plain("1"))])}),
    );
    let method = node(
        "MethodNode",
        "private.Inner",
        &json!({"content": {"func": "score", "obj": node("ObjectNode", "private.Inner", &json!({}))}}),
    );
    let other = node(
        "OperatorFuncNode",
        "operator.itemgetter",
        &json!({"attrs": plain("1")}),
    );
    let state = dict(&[
        ("builtins.str", "a", foreign),
        ("builtins.str", "b", method),
        ("builtins.str", "c", other),
    ]);
    let root = node("ObjectNode", "sample.Point", &json!({ "content": state }));
    let error = read(&archive(&members(root, &[]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownGlobal);
    let mut found: Vec<(&str, &str)> = error
        .unknown_globals()
        .iter()
        .map(|unknown| (unknown.name.as_str(), unknown.place.as_str()))
        .filter(|(_, place)| !place.starts_with("byte "))
        .collect();
    found.sort_unstable();
    let expected = [
        ("operator.itemgetter", "root.c"),
        ("private.Inner.score", "root.b"),
        ("private.Scorer", "root.a"),
    ];
    assert_eq!(found, expected);
    let all: Vec<&str> = error
        .unknown_globals()
        .iter()
        .map(|u| u.name.as_str())
        .collect();
    assert!(
        all.contains(&"private.Key") && all.contains(&"private.Inner"),
        "{all:?}"
    );
}

/// Says that each root is refused, with a message that has the part.
fn check_refused(cases: &[(Value, &str)]) {
    for (root, expected) in cases {
        let files: [(&str, &[u8]); 2] = [("a.npy", &npy()), ("b.bin", &[1, 2])];
        let error = read(&archive(&members(root.clone(), &files))).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(expected),
            "{message:?}, expected {expected:?}"
        );
    }
}

#[test]
fn forged_containers_and_values_are_refused() {
    let one = || plain("1");
    let point = |content: Value| node("ObjectNode", "sample.Point", &json!({ "content": content }));
    let mut too_few = dict(&[("builtins.str", "a", one())]);
    too_few["content"]["b"] = one();
    check_refused(&[
        (too_few, "a dict whose keys are not those of its entries"),
        (
            point(dict(&[("builtins.int", "1", one())])),
            "an object with an impossible attribute",
        ),
        (
            point(dict(&[("builtins.str", "__class__", one())])),
            "an object with an impossible attribute",
        ),
        (
            dict(&[("builtins.int", "x", one())]),
            "'key_types' is of the wrong kind",
        ),
        (
            dict(&[("builtins.tuple", "x", one())]),
            "a dict with keys of 'builtins.tuple'",
        ),
        (plain("[1]"), "a plain value of this kind"),
        (plain("1 2"), "something after the end of the JSON text"),
    ]);
}

#[test]
fn forged_objects_and_arrays_are_refused() {
    let none = json!({});
    let cached = json!({"__loader__": "CachedNode", "__id__": 5});
    let file = |name: &str| json!({"type": "numpy", "file": name});
    let shape = sequence("TupleNode", "builtins.tuple", &[plain("3")]);
    let objects = json!({"type": "json", "shape": shape, "content": [plain("1")]});
    let csr = json!({"type": "scipy", "file": "b.bin"});
    check_refused(&[
        (
            json!({"__loader__": "ObjectNode"}),
            "a description without '__module__'",
        ),
        (node("NewNode", "sample.Point", &none), "the kind 'NewNode'"),
        (cached, "a reference to an object that is not described"),
        (
            node("ObjectNode", "sample.log", &none),
            "an instance of 'sample.log'",
        ),
        (
            node("ObjectNode", "builtins.dict", &none),
            "an instance of 'builtins.dict'",
        ),
        (array("../a.npy"), "a member that is missing ('../a.npy')"),
        (array("b.bin"), "the npy magic"),
        (
            node("NdArrayNode", "numpy.float64", &file("a.npy")),
            "'file' is of the wrong kind",
        ),
        (
            node("NdArrayNode", "numpy.ndarray", &objects),
            "'shape' is of the wrong kind",
        ),
        (
            node("SparseMatrixNode", "scipy.sparse._csr.csr_matrix", &csr),
            "the end of the directory",
        ),
    ]);
}

#[test]
fn other_protocols_are_refused() {
    let cases = [
        (json!(3), ErrorKind::Unsupported),
        (json!(-1), ErrorKind::Unsupported),
        (json!("2"), ErrorKind::Malformed),
    ];
    for (protocol, kind) in cases {
        let schema = json!({"protocol": protocol, "_skops_version": "0.16.0"}).to_string();
        let bytes = archive(&[("schema.json".to_owned(), schema.into_bytes())]);
        assert_eq!(read(&bytes).unwrap_err().kind(), kind);
    }
}

#[test]
fn depth_costs_no_stack() {
    let mut schema = String::from(
        "{\"protocol\": 2, \"_skops_version\": \"0\", \"__loader__\": \"ListNode\", \"__module__\": \"builtins\", \"__class__\": \"list\", \"content\": [",
    );
    let list = "{\"__loader__\": \"ListNode\", \"__module__\": \"builtins\", \"__class__\": \"list\", \"content\": [";
    schema += &list.repeat(50_000);
    schema += &"]}".repeat(50_001);
    let mut limits = Limits::default();
    limits.inflated_bytes_free = 1 << 30;
    let bytes = archive(&[("schema.json".to_owned(), schema.into_bytes())]);
    let graph = read_skops(&bytes, &ClassTable::new(SAMPLE), &limits).unwrap();
    assert_eq!(graph.len(), 50_001);
}

/// Returns a sound file, and where its directory begins.
fn sound() -> (Vec<u8>, usize) {
    let members = members(array("a.npy"), &[("a.npy", &npy())]);
    let bytes = archive(&members);
    assert_eq!(archive::members(&bytes), members);
    let directory = bytes
        .windows(4)
        .position(|four| four == b"PK\x01\x02")
        .unwrap();
    (bytes, directory)
}

#[test]
fn forged_archives_are_refused() {
    let (bytes, directory) = sound();
    assert!(read(&bytes).is_ok());
    let end = bytes.len() - 22;
    let (flags, method, sizes) = (directory + 8, directory + 10, directory + 20);
    let cases: [(&[(usize, u8)], &str); 13] = [
        (
            &[(flags, 1), (6, 1)],
            "an encrypted zip archive (member 'a.npy')",
        ),
        (&[(method, 12), (8, 12)], "a compression other than deflate"),
        (&[(end + 4, 1)], "a zip archive of several parts"),
        (&[(end + 8, 1)], "a zip archive of several parts"),
        (
            &[(end + 8, 1), (end + 10, 1)],
            "bytes after the directory's last entry",
        ),
        (
            &[(end + 8, 9), (end + 10, 9)],
            "a directory that does not fit the archive",
        ),
        (
            &[(end + 16, 0)],
            "a directory that does not fit the archive",
        ),
        (&[(end, 0)], "without the end of its directory"),
        (&[(0, 0)], "a member ('a.npy') that is misplaced"),
        (&[(30, b'b')], "a member ('a.npy') that is misplaced"),
        (&[(sizes + 4, 1)], "a member ('a.npy') that is misplaced"),
        (&[(sizes + 1, 9), (sizes + 5, 9)], "a member at byte"),
        (&[(40, 0)], "a wrong checksum of 'a.npy'"),
    ];
    for (changes, expected) in cases {
        let mut forged = bytes.clone();
        for (at, byte) in changes {
            forged[*at] = *byte;
        }
        let message = read(&forged).unwrap_err().to_string();
        assert!(
            message.contains(expected),
            "{message:?}, expected {expected:?}"
        );
    }
}

#[test]
fn members_neither_repeat_nor_overlap_nor_hide() {
    let twice = members(array("a.npy"), &[("a.npy", &npy()), ("a.npy", &npy())]);
    let message = read(&archive(&twice)).unwrap_err().to_string();
    assert!(message.contains("two members named 'a.npy'"), "{message}");
    // Both entries of the directory lead to the first member.
    let same = members(array("a.npy"), &[("a.npy", &npy()), ("b.npy", &npy())]);
    let mut bytes = archive(&same);
    let entries: Vec<usize> = (0..bytes.len() - 4)
        .filter(|at| &bytes[*at..at + 4] == b"PK\x01\x02")
        .collect();
    bytes[entries[1] + 46] = b'a';
    let offset: [u8; 4] = bytes[entries[0] + 42..entries[0] + 46].try_into().unwrap();
    bytes[entries[1] + 42..entries[1] + 46].copy_from_slice(&offset);
    assert!(read(&bytes).is_err());
    // Bytes before the first member, all offsets moved.
    let (mut bytes, directory) = sound();
    bytes.insert(0, 0);
    let end = bytes.len() - 22;
    bytes[end + 16] = u8::try_from((directory + 1) & 0xff).unwrap();
    assert!(read(&bytes).is_err());
}

#[test]
fn what_an_archive_inflates_to_is_bounded_and_every_cut_is_refused() {
    let mut limits = Limits::default();
    limits.inflated_bytes_free = 16;
    limits.inflation_ratio_max = 0;
    let (bytes, _) = sound();
    let error = read_skops(&bytes, &ClassTable::new(SAMPLE), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
}
