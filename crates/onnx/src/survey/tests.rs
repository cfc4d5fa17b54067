//! What the survey finds in made graphs: hidden graphs, costs, and whether rows could mix.

use coracle_model::LoadErrorKind;

use super::*;

/// Appends a field of bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let tag = u64::from(number) << 3 | 2;
    let mut bytes = Vec::new();
    for mut value in [tag, u64::try_from(content.len()).unwrap()] {
        while value > 0x7f {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
    }
    bytes.extend(content);
    bytes
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str], attribute: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in inputs {
        bytes.extend(field(1, name.as_bytes()));
    }
    for name in outputs {
        bytes.extend(field(2, name.as_bytes()));
    }
    bytes.extend(field(4, operator.as_bytes()));
    if !attribute.is_empty() {
        bytes.extend(field(5, attribute));
    }
    field(1, &bytes)
}

/// An initialiser in another file.
fn external(name: &str, location: &str) -> Vec<u8> {
    let place = [field(1, b"location"), field(2, location.as_bytes())].concat();
    let tensor = [field(8, name.as_bytes()), field(13, &place), vec![0x70, 1]];
    field(5, &tensor.concat())
}

fn input(name: &str, shape: Option<&[u8]>) -> Vec<u8> {
    let tensor = [
        vec![8, 1],
        shape.map_or(Vec::new(), |shape| field(2, shape)),
    ];
    let value = [
        field(1, name.as_bytes()),
        field(2, &field(1, &tensor.concat())),
    ];
    field(11, &value.concat())
}

fn of(graph: &[Vec<u8>]) -> Result<Survey, LoadError> {
    survey(&[vec![8, 9], field(7, &graph.concat())].concat())
}

#[test]
fn files_of_the_outermost_graph_are_listed_and_others_refused() {
    let found = of(&[external("w", "a.bin"), external("v", "b/c.bin")]).unwrap();
    let wanted = ["a.bin", "b/c.bin"].map(str::to_owned);
    assert_eq!(found.locations, BTreeSet::from(wanted));
    let hidden = external("w", "../secret");
    let (_, tensor) = hidden.split_at(2);
    let places = [
        // A graph in a node, a tensor of a node, a sparse one, and a function's node.
        field(7, &node("If", &[], &[], &field(6, &hidden))),
        field(7, &node("Constant", &[], &["c"], &field(5, tensor))),
        field(7, &field(15, &field(1, tensor))),
        field(
            25,
            &field(7, &node("Constant", &[], &[], &field(5, tensor))[2..]),
        ),
        field(20, &field(1, &hidden)),
    ];
    for place in places {
        let error = survey(&[vec![8, 9], place.clone()].concat()).unwrap_err();
        assert_eq!(
            error.kind(),
            LoadErrorKind::Unsupported,
            "{place:?}: {error}"
        );
    }
    // 2^32 + 1, of which readers of 32 bits see 1.
    let odd = [field(8, b"w"), vec![0x70, 0x81, 0x80, 0x80, 0x80, 0x10]].concat();
    let error = of(&[field(5, &odd)]).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Malformed, "{error}");
}

#[test]
fn operators_are_found_wherever_they_are() {
    let inner = node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"], &[]);
    let found = of(&[node("If", &["c"], &["y"], &field(6, &inner))]).unwrap();
    assert_eq!(found.control_flow.as_deref(), Some("If"));
    assert!(found.mixes_rows.is_some());
    let function = field(25, &field(7, &inner[2..]));
    let found = survey(&[vec![8, 9], function].concat()).unwrap();
    assert_eq!(found.mixes_rows.as_deref(), Some("DynamicQuantizeLinear"));
    let plain = of(&[node("Relu", &["x"], &["y"], &[])]).unwrap();
    assert_eq!(plain, Survey::default());
}

#[test]
fn rows_are_apart_where_scales_are_fixed() {
    let scale = || field(5, &field(8, b"s"));
    let fixed = node("QuantizeLinear", &["x", "s"], &["q"], &[]);
    assert_eq!(of(&[fixed.clone(), scale()]).unwrap().mixes_rows, None);
    let constant = node("Constant", &[], &["s"], &[]);
    assert_eq!(of(&[fixed.clone(), constant]).unwrap().mixes_rows, None);
    let computed = node("ReduceMax", &["x"], &["s"], &[]);
    let cases: [&[Vec<u8>]; 4] = [
        std::slice::from_ref(&fixed),
        &[fixed.clone(), computed.clone()],
        &[fixed.clone(), scale(), computed],
        &[node("QLinearSigmoid", &["x", "s"], &["y"], &[]), scale()],
    ];
    for case in cases {
        assert!(of(case).unwrap().mixes_rows.is_some(), "{case:?}");
    }
    let names = ["x", "s", "s", "w", "s", "s", "s", "s", "b"];
    let product = node("QLinearConv", &names, &["y"], &[]);
    assert_eq!(of(&[product, scale()]).unwrap().mixes_rows, None);
}

#[test]
fn sizes_that_are_no_constants_are_found() {
    let expand = node("Expand", &["x", "s"], &["y"], &[]);
    let fixed = of(&[expand.clone(), field(5, &field(8, b"s"))]).unwrap();
    assert_eq!(fixed.sized_by_values, None);
    let asked = of(&[expand.clone(), input("s", Some(&[]))]).unwrap();
    assert_eq!(asked.sized_by_values.as_deref(), Some("Expand"));
    let computed = of(&[node("Shape", &["x"], &["s"], &[]), expand]).unwrap();
    assert_eq!(computed.sized_by_values.as_deref(), Some("Expand"));
    // What is made larger may be anything.
    let resized = node("Resize", &["x", "", "s"], &["y"], &[]);
    let fixed = of(&[resized, field(5, &field(8, b"s"))]).unwrap();
    assert_eq!(fixed.sized_by_values, None);
}

#[test]
fn inputs_without_a_shape_are_named() {
    let found = of(&[
        input("x", None),
        input("scalar", Some(&[])),
        input("w", None),
        field(5, &field(8, b"w")),
    ]);
    assert_eq!(found.unwrap().shapeless, BTreeSet::from(["x".to_owned()]));
}

#[test]
fn damaged_and_deep_files_are_errors() {
    let mut graph = node("Relu", &[], &[], &[]);
    for _ in 0..DEPTH_MAX {
        graph = node("If", &[], &[], &field(6, &graph));
    }
    assert_eq!(
        of(&[graph]).unwrap_err().kind(),
        LoadErrorKind::LimitExceeded
    );
    let whole = [vec![8, 9], field(7, &external("w", "a.bin"))].concat();
    for size in 3..whole.len() {
        assert!(survey(&whole[..size]).is_err(), "{size}");
    }
}

#[test]
fn optional_inputs_are_left_out_only_where_operators_expect_it() {
    // An optional tensor of FP32.
    let optional = |name: &str| {
        let tensor = field(1, &[8, 1]);
        let kind = field(9, &field(1, &tensor));
        field(11, &[field(1, name.as_bytes()), field(2, &kind)].concat())
    };
    let output = |name: &str| field(12, &field(1, name.as_bytes()));
    let inner = field(1, &node("OptionalGetElement", &["o"], &["t"], &[])[2..]);
    let expected = [
        optional("o"),
        node("OptionalHasElement", &["o"], &["c"], &[]),
        node("If", &["c"], &["y"], &field(6, &inner)),
        output("y"),
    ];
    assert_eq!(of(&expected).unwrap().never_missing, BTreeSet::new());
    let only = BTreeSet::from(["o".to_owned()]);
    let looked_at = [optional("o"), node("Identity", &["o"], &["y"], &[])];
    assert_eq!(of(&looked_at).unwrap().never_missing, only);
    let given = [optional("o"), output("o")];
    assert_eq!(of(&given).unwrap().never_missing, only);
    let inner = field(1, &node("Identity", &["o"], &["t"], &[])[2..]);
    let hidden = [
        optional("o"),
        node("OptionalHasElement", &["o"], &["c"], &[]),
        node("If", &["c"], &["y"], &field(6, &inner)),
    ];
    assert_eq!(of(&hidden).unwrap().never_missing, only);
    let inner = field(12, &field(1, b"o"));
    let hidden = [optional("o"), node("If", &["c"], &["y"], &field(6, &inner))];
    assert_eq!(of(&hidden).unwrap().never_missing, only);
}

#[test]
fn what_the_runtime_reads_beyond_its_end_is_found() {
    let classes = |names: &[&[u8]]| {
        let names = names.iter().map(|name| field(9, name)).collect::<Vec<_>>();
        [field(1, b"classlabels_strings"), names.concat()].concat()
    };
    let trees = |names: &[&[u8]]| {
        node(
            "TreeEnsembleClassifier",
            &["x"],
            &["l", "p"],
            &classes(names),
        )
    };
    assert_eq!(of(&[trees(&[b"a", b"b"])]).unwrap().misread, None);
    let one = trees(&[b"a"]);
    let found = of(std::slice::from_ref(&one)).unwrap().misread.unwrap();
    assert!(found.starts_with("TreeEnsembleClassifier"), "{found}");
    let hidden = node("If", &["c"], &["y"], &field(6, &one));
    assert_eq!(of(&[hidden]).unwrap().misread, Some(found));
    let joined = |inputs: &[&str]| {
        of(&[node("FeatureVectorizer", inputs, &["y"], &[])])
            .unwrap()
            .misread
    };
    assert_eq!(joined(&["x"]), None);
    assert!(joined(&["x", "x"]).is_some());
    // Slices are told apart where there is one always.
    let unique = |shape: Option<&[u8]>, attribute: &[u8], name: &str| {
        let node = node("Unique", &[name], &["y"], attribute);
        of(&[input("x", shape), node]).unwrap().misread
    };
    let size = |n: u8| field(1, &[1 << 3, n]);
    let any = field(1, &field(2, b"n"));
    let axis = field(1, b"axis");
    assert_eq!(unique(Some(&[size(2), size(3)].concat()), &axis, "x"), None);
    assert_eq!(unique(Some(&any), &[], "x"), None);
    for shape in [
        None,
        Some(any.as_slice()),
        Some(&[size(2), any.clone()].concat()),
        Some(&size(0)),
    ] {
        assert!(unique(shape, &axis, "x").is_some(), "{shape:?}");
    }
    assert!(unique(Some(&size(2)), &axis, "other").is_some());
    // A function's input is what the function is given, though an input of the graph has its name.
    let graph = field(7, &input("x", Some(&size(2))));
    let inner = node("Unique", &["x"], &["y"], &axis);
    let function = field(25, &[field(4, b"x"), field(7, &inner[2..])].concat());
    let found = survey(&[vec![8, 9], graph, function].concat()).unwrap();
    assert!(found.misread.is_some());
}
