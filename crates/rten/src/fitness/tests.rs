//! What is refused: each line of the table, what is just not, and the page that lists it.

use std::fmt::Write as _;
use std::path::Path;

use coracle_model::TensorSpec;

use super::*;

/// A graph of one node, of a version that no refusal is for.
fn of(operator: &str) -> Outline {
    let spec = |name: &str, dtype| TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: vec![None],
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let node = OutlineNode {
        operator: operator.to_owned(),
        inputs: vec!["x".to_owned()],
        ..OutlineNode::default()
    };
    Outline {
        opsets: [(String::new(), 20)].into(),
        nodes: vec![node],
        inputs: vec![spec("mask", DType::I64), spec("x", DType::F32)],
        ..Outline::default()
    }
}

fn cast(input: &str, to: i64) -> Outline {
    let mut graph = of("Cast");
    graph.nodes[0].inputs = vec![input.to_owned()];
    graph.nodes[0].integers.insert("to".to_owned(), to);
    graph
}

#[test]
fn a_datatype_without_a_number_is_for_no_cast() {
    let refusal = Refusal {
        operator: "Cast",
        when: When::To(DType::F32),
        why: "",
    };
    let graph = of("Cast");
    assert!(!refusal.is_of(&graph.nodes[0], &graph));
}

/// Returns a graph that a refusal is for, and one that it is just not for.
fn beside(refusal: &Refusal) -> (Outline, Option<Outline>) {
    let operator = refusal.operator;
    match refusal.when {
        When::Always => (of(operator), None),
        When::Before(version) => {
            let at = |version: i64| {
                let mut graph = of(operator);
                graph.opsets.insert(String::new(), version);
                graph
            };
            (at(version.checked_sub(1).unwrap()), Some(at(version)))
        }
        When::Text(name, value) => {
            let with = |value: &str| {
                let mut graph = of(operator);
                graph.nodes[0]
                    .texts
                    .insert(name.to_owned(), value.to_owned());
                graph
            };
            (with(value), Some(with("linear")))
        }
        When::To(dtype) => {
            let to = onnx_number(dtype).unwrap();
            (cast("mask", to), Some(cast("mask", 1)))
        }
        When::ToFromFractions(dtype) => {
            let to = onnx_number(dtype).unwrap();
            (cast("computed", to), Some(cast("mask", to)))
        }
    }
}

#[test]
fn each_refusal_is_for_its_graph_and_no_other() {
    for refusal in &REFUSALS {
        let (refused, taken) = beside(refusal);
        let error = check(&refused).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Unsupported);
        let error = error.to_string();
        let operator = format!("operator '{}'", refusal.operator);
        assert!(
            error.contains(&operator) && error.contains(refusal.why),
            "{error}"
        );
        if let Some(taken) = taken {
            check(&taken).unwrap_or_else(|error| panic!("{refusal:?}: {error}"));
        }
    }
}

#[test]
fn what_is_no_operator_is_refused_too() {
    check(&of("Relu")).unwrap();
    check(&cast("x", 1)).unwrap();
    let mut wide = of("Add");
    wide.wide_integers.insert("x".to_owned());
    let mut functions = of("Relu");
    functions.has_functions = true;
    let mut doubles = of("Relu");
    doubles.dtypes.insert(DType::F64);
    let mut texts = of("Relu");
    texts.inputs[0].dtype = DType::Bytes;
    let mut large = of("Relu");
    large
        .nodes
        .resize(NODES_MAX.checked_add(1).unwrap(), OutlineNode::default());
    for (graph, expected) in [
        (wide, "'x' has integers that 32 bits do not hold"),
        (functions, "functions within the file"),
        (doubles, "tensors of FP64"),
        (texts, "'mask' is of BYTES"),
        (large, "16385 nodes, at most 16384"),
    ] {
        let error = check(&graph).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // The end of a range may be anything.
    let mut range = of("Slice");
    range.wide_integers.insert("x".to_owned());
    check(&range).unwrap();
}

#[test]
fn the_page_lists_what_is_refused() {
    let mut table = String::from("| operator | refused | since |\n|---|---|---|\n");
    for Refusal {
        operator,
        when,
        why,
    } in &REFUSALS
    {
        writeln!(table, "| `{operator}` | {when} | {why} |").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, after) = page.split_once("<!-- rten: begin -->\n").unwrap();
    let (listed, _) = after.split_once("<!-- rten: end -->").unwrap();
    assert!(
        listed == table,
        "docs/formats.md should have this table:\n{table}"
    );
}
