//! What is rewritten in made graphs, and what is not.

use super::*;

fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, content) in fields {
        push(&mut bytes, *number, content);
    }
    bytes
}

/// A value that is a tensor of a datatype, of one dimension.
fn tensor(name: &str, data_type: u64) -> Vec<u8> {
    let mut kind = Vec::new();
    push_number(&mut kind, 1, data_type);
    push(&mut kind, 2, &message(&[(1, b"")]));
    message(&[
        (VALUE_NAME, name.as_bytes()),
        (VALUE_TYPE, &message(&[(1, &kind)])),
    ])
}

/// A value that is a sequence.
fn sequence(name: &str) -> Vec<u8> {
    message(&[
        (VALUE_NAME, name.as_bytes()),
        (VALUE_TYPE, &message(&[(4, b"")])),
    ])
}

fn zip_map(from: &str, to: &str) -> Vec<u8> {
    let mut classes = message(&[(1, b"classlabels_strings"), (9, b"a"), (9, b"b")]);
    push_number(&mut classes, 20, 8);
    message(&[
        (1, from.as_bytes()),
        (2, to.as_bytes()),
        (4, b"ZipMap"),
        (5, &classes),
        (7, b"ai.onnx.ml"),
    ])
}

fn file(graph: &[(u64, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![8, 9];
    push(&mut bytes, GRAPH, &message(graph));
    bytes
}

#[test]
fn narrow_values_are_cast_on_their_way_in_and_out() {
    let (x, y) = (tensor("x", 17), tensor("y", 22));
    let node = message(&[(1, b"x"), (2, b"y"), (4, b"Cast")]);
    let before = file(&[(NODE, &node), (INPUT, &x), (OUTPUT, &y)]);
    let served = as_served(&before).unwrap();
    let after = file(&[
        (NODE, &narrowing("served:11x", "x", Narrow::E4M3Fn)),
        (NODE, &node),
        (
            INPUT,
            &retyped(&tensor("served:11x", 1), "served:11x", 1).unwrap(),
        ),
        (
            OUTPUT,
            &retyped(&tensor("served:12y", 3), "served:12y", 3).unwrap(),
        ),
        (NODE, &widening("y", "served:12y", 3)),
    ]);
    assert_eq!(served.bytes.as_ref(), after);
    let outlets = served.outlets.unwrap();
    assert_eq!(outlets.inputs[0].name, "x");
    assert_eq!(outlets.inputs[0].place, "served:11x");
    let reals = Range::Reals {
        greatest: 448.0,
        has_infinities: false,
    };
    assert_eq!(outlets.inputs[0].range, Some(reals));
    assert_eq!(outlets.outputs[0].name, "y");
    assert_eq!(outlets.outputs[0].range, Some(Range::Integers(-8, 7)));
}

#[test]
fn maps_are_the_tables_that_they_are_made_of() {
    let (x, label) = (tensor("x", 1), tensor("label", 7));
    let other = message(&[(1, b"x"), (2, b"p"), (4, b"Softmax")]);
    let map = zip_map("p", "maps");
    let before = file(&[
        (NODE, &other),
        (NODE, &map),
        (INPUT, &x),
        (OUTPUT, &label),
        (OUTPUT, &sequence("maps")),
    ]);
    let served = as_served(&before).unwrap();
    let after = file(&[
        (NODE, &other),
        (INPUT, &x),
        (OUTPUT, &label),
        (OUTPUT, &table("p")),
    ]);
    assert_eq!(served.bytes.as_ref(), after);
    let outlets = served.outlets.unwrap();
    let columns = outlets.outputs[1].columns.as_deref();
    assert_eq!(columns, Some(["a".to_owned(), "b".to_owned()].as_slice()));
    assert_eq!(
        (
            outlets.outputs[1].name.as_str(),
            outlets.outputs[1].place.as_str()
        ),
        ("maps", "p")
    );
    // The table is an output already, before or behind its maps.
    let p = tensor("p", 1);
    let maps = sequence("maps");
    for outputs in [[&p, &maps], [&maps, &p]] {
        let [first, second] = outputs;
        let before = file(&[(NODE, &map), (INPUT, &x), (OUTPUT, first), (OUTPUT, second)]);
        let served = as_served(&before).unwrap();
        assert_eq!(served.bytes.as_ref(), file(&[(INPUT, &x), (OUTPUT, &p)]));
        assert_eq!(served.outlets.unwrap().outputs.len(), 2);
    }
}

#[test]
fn everything_else_is_as_it_was() {
    let (x, y) = (tensor("x", 1), tensor("y", 1));
    let maps = sequence("maps");
    let map = zip_map("p", "maps");
    let taker = message(&[(1, b"maps"), (2, b"y"), (4, b"SequenceAt")]);
    let foreign = message(&[(1, b"p"), (2, b"maps"), (4, b"ZipMap"), (7, b"other")]);
    let weights = message(&[(TENSOR_NAME, b"w")]);
    let w = tensor("w", 17);
    for graph in [
        vec![(INPUT, x.as_slice()), (OUTPUT, &y)],
        // Who takes the maps needs them.
        vec![(NODE, &map), (NODE, &taker), (OUTPUT, &maps)],
        vec![(NODE, &foreign), (OUTPUT, &maps)],
        // An initialiser is no input.
        vec![(INITIALIZER, &weights), (INPUT, &w), (OUTPUT, &y)],
    ] {
        let before = file(&graph);
        let served = as_served(&before).unwrap();
        assert!(matches!(served.bytes, Cow::Borrowed(_)));
        assert_eq!(served.outlets, None);
    }
}

#[test]
fn names_are_new() {
    let mut taken = tensor("served:11x", 1);
    let x = tensor("x", 17);
    let before = file(&[(INPUT, &x), (INPUT, &taken)]);
    let outlets = as_served(&before).unwrap().outlets.unwrap();
    assert_eq!(outlets.inputs[0].place, "_served::11x");
    // A file may have them all.
    let mut name = "served:".to_owned();
    for _ in 0..NAMES_TRIED_MAX {
        taken = tensor(&format!("{name}{}", String::from_utf8_lossy(&taken)), 1);
        name = format!("_{name}:");
    }
    let before = file(&[(INPUT, &x), (INPUT, &taken)]);
    assert!(as_served(&before).is_err());
}

#[test]
fn damaged_files_are_errors_or_files() {
    let x = tensor("x", 17);
    let map = zip_map("p", "maps");
    let before = file(&[(NODE, &map), (INPUT, &x), (OUTPUT, &sequence("maps"))]);
    for end in 0..before.len() {
        drop(as_served(&before[..end]));
        for bit in 0..8 {
            let mut damaged = before.clone();
            damaged[end] ^= 1 << bit;
            drop(as_served(&damaged));
        }
    }
    let nameless = message(&[(1, b"p"), (2, b"maps"), (4, b"ZipMap"), (7, b"ai.onnx.ml")]);
    let before = file(&[(NODE, &nameless), (OUTPUT, &sequence("maps"))]);
    assert!(
        as_served(&before)
            .unwrap_err()
            .to_string()
            .contains("classlabels")
    );
}
