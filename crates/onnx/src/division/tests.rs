//! Divisions in files that are put together by hand.

use super::*;

fn value(name: &str, datatype: u64) -> Vec<u8> {
    let (mut tensor, mut kind, mut value) = (Vec::new(), Vec::new(), Vec::new());
    push_int(&mut tensor, 1, datatype);
    push(&mut kind, 1, &tensor);
    push(&mut value, 1, name.as_bytes());
    push(&mut value, 2, &kind);
    value
}

fn weight(name: &str, datatype: u64, raw: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    push_int(&mut tensor, 2, datatype);
    push(&mut tensor, 8, name.as_bytes());
    push(&mut tensor, 9, raw);
    tensor
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<&[u8]> = inputs.iter().map(|name| name.as_bytes()).collect();
    node_of(operator, &inputs, output.as_bytes())
}

/// Inputs `x` and `y` of a datatype, `f` of floats, and weights of 5 and -1.
fn graph(datatype: u64, nodes: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = Vec::new();
    for node in nodes {
        push(&mut graph, NODE, node);
    }
    for (name, number) in [("five", 5_i64), ("minus", -1)] {
        let tensor = weight(name, INT64, &number.to_le_bytes());
        push(&mut graph, INITIALIZER, &tensor);
    }
    for value in [value("x", datatype), value("y", datatype), value("f", 1)] {
        push(&mut graph, 11, &value);
    }
    graph
}

fn file(graph: &[u8]) -> Vec<u8> {
    let mut file = vec![8, 9];
    push(&mut file, GRAPH, graph);
    // Version 17 of `ai.onnx`.
    push(&mut file, VERSIONS_OF_FILE, &[0x10, 17]);
    file
}

fn operators(bytes: &[u8]) -> Vec<String> {
    let (mut found, mut reader) = (Vec::new(), Reader::new(bytes));
    while let Some((number, field)) = reader.next().unwrap() {
        if number != GRAPH {
            continue;
        }
        let mut reader = field.message().unwrap();
        while let Some((number, field)) = reader.next().unwrap() {
            if number == NODE {
                let node = read_node(field.bytes().unwrap()).unwrap();
                found.push(String::from_utf8(node.operator.to_vec()).unwrap());
            }
        }
    }
    found
}

#[test]
fn divisions_of_integers_by_what_may_be_minus_one_are_rewritten() {
    let signed = [
        "Constant", "Equal", "Constant", "Constant", "Cast", "Mul", "Sub", "Mul", "Mul", "Div",
    ];
    for datatype in [INT32, INT64] {
        let whole = file(&graph(datatype, &[node("Div", &["x", "y"], "q")]));
        assert_eq!(operators(&with_safe_divisions(&whole).unwrap()), signed);
    }
    let by_weight = file(&graph(INT64, &[node("Div", &["x", "minus"], "q")]));
    assert_eq!(operators(&with_safe_divisions(&by_weight).unwrap()), signed);
    // A weight of another datatype may be a -1 once it is cast.
    let cast = [node("Cast", &["w"], "c"), node("Div", &["x", "c"], "q")];
    let mut whole = graph(INT64, &cast);
    let float = weight("w", 1, &(-1.0_f32).to_le_bytes());
    push(&mut whole, INITIALIZER, &float);
    assert_eq!(
        operators(&with_safe_divisions(&file(&whole)).unwrap())[1..],
        signed
    );
    // Through what keeps a datatype.
    let behind = [node("Abs", &["x"], "a"), node("Div", &["a", "y"], "q")];
    let whole = file(&graph(INT64, &behind));
    assert_eq!(
        operators(&with_safe_divisions(&whole).unwrap())[1..],
        signed
    );
}

#[test]
fn datatypes_are_known_behind_products_branches_and_out_of_order() {
    let rewritten = |nodes: &[Vec<u8>]| {
        let whole = file(&graph(INT64, nodes));
        let safe = with_safe_divisions(&whole).unwrap();
        safe.windows(5).any(|window| window == b"Equal")
    };
    assert!(rewritten(&[
        node("MatMul", &["x", "five"], "a"),
        node("MatMul", &["y", "five"], "b"),
        node("Div", &["a", "b"], "q"),
    ]));
    // Runtimes sort nodes.
    assert!(rewritten(&[
        node("Div", &["c", "d"], "q"),
        node("Identity", &["a"], "c"),
        node("Identity", &["b"], "d"),
        node("Abs", &["x"], "a"),
        node("Abs", &["y"], "b"),
    ]));
    for (operator, outputs) in [("If", &["z"][..]), ("Loop", &["more", "z"])] {
        let mut inner = Vec::new();
        for name in outputs {
            push(&mut inner, OUTPUT, &value(name, INT64));
        }
        let (mut attribute, mut branches) = (Vec::new(), node(operator, &["c"], "chosen"));
        push(&mut attribute, INNER_GRAPH, &inner);
        push(&mut branches, ATTRIBUTE, &attribute);
        let by_chosen = node("Div", &["chosen", "chosen"], "q");
        assert!(rewritten(&[branches, by_chosen]), "{operator}");
    }
    // Nodes that wait for each other are no graph; they end nothing here, and nothing is known of them.
    assert!(rewritten(&[
        node("Identity", &["b"], "a"),
        node("Identity", &["a"], "b"),
        node("Div", &["a", "b"], "q"),
    ]));
}

#[test]
fn a_name_within_a_node_hides_the_one_around_it() {
    let rewritten = |inner: &[u8]| {
        let (mut attribute, mut outer) = (Vec::new(), node("If", &["c"], "z"));
        push(&mut attribute, INNER_GRAPH, inner);
        push(&mut outer, ATTRIBUTE, &attribute);
        let whole = file(&graph(INT64, &[outer]));
        let safe = with_safe_divisions(&whole).unwrap();
        safe.windows(5).any(|window| window == b"Equal")
    };
    let mut inner = Vec::new();
    push(&mut inner, NODE, &node("Div", &["x", "five"], "q"));
    assert!(!rewritten(&inner));
    // A weight of -1 by the name of the one around it; and one of 5 that is an input, too, which a loop gives.
    let mut with_weight = inner.clone();
    let minus = weight("five", INT64, &(-1_i64).to_le_bytes());
    push(&mut with_weight, INITIALIZER, &minus);
    assert!(rewritten(&with_weight));
    let mut with_input = inner;
    let five = weight("five", INT64, &5_i64.to_le_bytes());
    push(&mut with_input, INITIALIZER, &five);
    push(&mut with_input, 11, &value("five", INT64));
    assert!(rewritten(&with_input));
}

#[test]
fn what_no_processor_traps_stays_as_it_is() {
    let sizes = [
        node("Shape", &["f"], "sizes"),
        node("Gather", &["sizes", "five"], "size"),
        node("Div", &["x", "size"], "q"),
    ];
    let floats = [node("Div", &["f", "f"], "q")];
    let by_reals = [
        node("Mystery", &["x"], "z"),
        node("Sigmoid", &["z"], "s"),
        node("Div", &["s", "s"], "q"),
    ];
    let by_weight = [node("Div", &["x", "five"], "q")];
    for nodes in [&sizes[..], &floats, &by_reals, &by_weight] {
        let whole = file(&graph(INT64, nodes));
        let same = with_safe_divisions(&whole).unwrap();
        assert!(matches!(same, Cow::Borrowed(_)), "{:?}", operators(&whole));
    }
    let short = file(&graph(5, &[node("Div", &["x", "y"], "q")]));
    assert!(matches!(
        with_safe_divisions(&short).unwrap(),
        Cow::Borrowed(_)
    ));
}

/// 3 and 6148914691236517205 are no -1, and their product is.
#[test]
fn products_of_weights_may_be_minus_one() {
    for product in ["Mul", "ReduceProd"] {
        let nodes = [
            node(product, &["five", "five"], "p"),
            node("Div", &["x", "p"], "q"),
        ];
        let whole = file(&graph(INT64, &nodes));
        let safe = with_safe_divisions(&whole).unwrap();
        assert!(matches!(safe, Cow::Owned(_)), "{product}");
    }
}

#[test]
fn graphs_within_nodes_know_the_values_around_them() {
    let mut inner = Vec::new();
    push(&mut inner, NODE, &node("Div", &["x", "y"], "q"));
    let (mut attribute, mut outer) = (Vec::new(), node("If", &["c"], "z"));
    push(&mut attribute, INNER_GRAPH, &inner);
    push(&mut outer, ATTRIBUTE, &attribute);
    let whole = file(&graph(INT64, &[outer]));
    let safe = with_safe_divisions(&whole).unwrap();
    assert!(safe.windows(5).any(|window| window == b"Equal"));
    let mut deep = inner;
    for _ in 0..DEPTH_MAX {
        let (mut attribute, mut node, mut graph) = (Vec::new(), Vec::new(), Vec::new());
        push(&mut attribute, INNER_GRAPH, &deep);
        push(&mut node, ATTRIBUTE, &attribute);
        push(&mut graph, NODE, &node);
        deep = graph;
    }
    assert!(with_safe_divisions(&file(&deep)).is_err());
}

/// The type of a graph's output is optional where the graph lies in a node.
#[test]
fn datatypes_follow_through_graphs_that_declare_none() {
    let undeclared = |name: &str| {
        let mut value = Vec::new();
        push(&mut value, 1, name.as_bytes());
        value
    };
    let branch = |taken: &str, output: &str| {
        let (mut inner, mut attribute) = (Vec::new(), Vec::new());
        push(&mut inner, NODE, &node("Identity", &[taken], output));
        push(&mut inner, OUTPUT, &undeclared(output));
        push(&mut attribute, INNER_GRAPH, &inner);
        attribute
    };
    let divided = |datatype: u64| {
        let mut choice = node("If", &["c"], "z");
        push(&mut choice, ATTRIBUTE, &branch("x", "t"));
        push(&mut choice, ATTRIBUTE, &branch("y", "e"));
        let whole = file(&graph(datatype, &[choice, node("Div", &["z", "z"], "q")]));
        operators(&with_safe_divisions(&whole).unwrap())
    };
    const UINT64: u64 = 13;
    assert_eq!(divided(UINT64), ["If", "Div"]);
    assert!(!divided(INT64).contains(&"CastLike".to_owned()));
    assert!(divided(INT64).contains(&"Equal".to_owned()));
}

#[test]
fn what_may_be_anything_is_divided_so_that_reals_stay_what_they_are() {
    let unknown = [node("Mystery", &["x"], "z"), node("Div", &["z", "z"], "q")];
    let whole = file(&graph(INT64, &unknown));
    let safe = with_safe_divisions(&whole).unwrap();
    let expected = [
        "Mystery", "Constant", "Cast", "Cast", "Equal", "Constant", "Constant", "Cast", "Mul",
        "Sub", "CastLike", "Mul", "Mul", "Div",
    ];
    assert_eq!(operators(&safe), expected);
    // Older versions have no `CastLike`, and then no `Where`.
    let of_version = |version| {
        let mut old = vec![8, 3];
        push(&mut old, GRAPH, &graph(INT64, &unknown));
        push(&mut old, VERSIONS_OF_FILE, &[0x10, version]);
        with_safe_divisions(&old).map(|safe| operators(&safe))
    };
    let expected = [
        "Mystery", "Constant", "Cast", "Cast", "Equal", "Sign", "Mul", "Where", "Mul", "Where",
        "Div",
    ];
    for version in [9, 14] {
        assert_eq!(of_version(version).unwrap(), expected);
    }
    let error = of_version(8).unwrap_err();
    assert!(error.to_string().contains("'q': a division"), "{error}");
    assert!(error.to_string().contains("it is of 8"), "{error}");
}

/// A function of two inputs and an output.
fn function(name: &str, nodes: &[Vec<u8>]) -> Vec<u8> {
    let mut function = Vec::new();
    push(&mut function, 1, name.as_bytes());
    push(&mut function, 10, b"local");
    for input in ["p", "q"] {
        push(&mut function, 4, input.as_bytes());
    }
    push(&mut function, 5, b"r");
    for node in nodes {
        push(&mut function, FUNCTION_NODE, node);
    }
    push(&mut function, VERSIONS_OF_FUNCTION, &[0x10, 17]);
    function
}

fn call(name: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut call = node(name, inputs, output);
    push(&mut call, 7, b"local");
    call
}

/// Returns how a file with functions divides in these.
fn divided_in_functions(nodes: &[Vec<u8>], functions: &[Vec<u8>]) -> &'static str {
    let mut whole = file(&graph(INT64, nodes));
    for function in functions {
        push(&mut whole, FUNCTION, function);
    }
    let safe = with_safe_divisions(&whole).unwrap();
    let has = |name: &[u8]| safe.windows(name.len()).any(|window| window == name);
    match (has(b"CastLike"), has(b"Equal")) {
        (true, _) => "whatever they are",
        (false, true) => "integers",
        (false, false) => "as it was",
    }
}

#[test]
fn functions_divide_what_their_calls_give_them() {
    let divide = || function("Divide", &[node("Div", &["p", "q"], "r")]);
    let twice = || function("Twice", &[call("Divide", &["p", "q"], "r")]);
    let reals = call("Divide", &["f", "f"], "a");
    let integers = call("Divide", &["x", "y"], "b");
    let cases: [(&[Vec<u8>], &str); 6] = [
        (std::slice::from_ref(&reals), "as it was"),
        (std::slice::from_ref(&integers), "integers"),
        (&[reals.clone(), integers.clone()], "whatever they are"),
        (&[call("Twice", &["f", "f"], "c")], "as it was"),
        (&[call("Twice", &["x", "y"], "c")], "integers"),
        // What nobody calls.
        (&[], "whatever they are"),
    ];
    for (nodes, expected) in cases {
        let functions = [divide(), twice()];
        assert_eq!(divided_in_functions(nodes, &functions), expected);
        // In whatever order.
        let functions = [twice(), divide()];
        assert_eq!(divided_in_functions(nodes, &functions), expected);
    }
    // What a function gives is known, too.
    let behind = [reals, node("Div", &["a", "f"], "z")];
    assert_eq!(divided_in_functions(&behind, &[divide()]), "as it was");
    let behind = [integers, node("Div", &["b", "b"], "z")];
    let same = function("Divide", &[node("Identity", &["p"], "r")]);
    assert_eq!(divided_in_functions(&behind, &[same]), "integers");
    // Calls in graphs within nodes count.
    let mut inner = Vec::new();
    push(&mut inner, NODE, &call("Divide", &["x", "y"], "t"));
    let (mut attribute, mut branch) = (Vec::new(), node("If", &["c"], "z"));
    push(&mut attribute, INNER_GRAPH, &inner);
    push(&mut branch, ATTRIBUTE, &attribute);
    assert_eq!(divided_in_functions(&[branch], &[divide()]), "integers");
}

#[test]
fn functions_without_end_are_of_any_datatype() {
    // One that calls itself twice, and a chain in which each calls the next one twice.
    let twice = |name: &str, next: &str| {
        let nodes = [
            call(next, &["p", "q"], "r"),
            call(next, &["q", "p"], "s"),
            node("Div", &["p", "q"], "t"),
        ];
        function(name, &nodes)
    };
    let start = [call("F0", &["f", "f"], "z")];
    let endless = [twice("F0", "F0")];
    assert_eq!(divided_in_functions(&start, &endless), "whatever they are");
    let chain: Vec<Vec<u8>> = (0..60)
        .map(|place| twice(&format!("F{place}"), &format!("F{}", place + 1)))
        .collect();
    assert_eq!(divided_in_functions(&start, &chain), "as it was");
}

#[test]
fn tables_are_in_order() {
    let tables: [&[&str]; 4] = [
        &KEEP_DATATYPE,
        &NO_INTEGERS,
        &NO_INTEGERS_ML,
        &NO_INTEGERS_MICROSOFT,
    ];
    for table in tables {
        assert!(table.is_sorted(), "{table:?}");
    }
    // Nothing both keeps integers and gives none.
    assert!(KEEP_DATATYPE.iter().all(|name| !NO_INTEGERS.contains(name)));
}
