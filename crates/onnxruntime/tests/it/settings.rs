//! How graphs are run: settings, execution providers, threads.

use coracle_model::{LoadErrorKind, Model};

use crate::Runtime;
use crate::graphs::{DIFFERENCE_MAX, neural};

fn fact(model: &dyn Model, name: &str) -> Option<String> {
    let mut facts = model.description().root.facts.iter();
    let fact = facts.find(|(known, _)| known == name);
    fact.map(|(_, value)| value.clone())
}

pub(crate) fn graphs_answer_alike_whatever_is_set(runtime: &Runtime) {
    let settings: [(&[(&str, &str)], &str, &str); 8] = [
        (&[("providers", "cpu")], "providers", "cpu"),
        (
            &[("intra_op_thread_count", "1")],
            "threads",
            "1 within an operator",
        ),
        (
            &[("intra_op_thread_count", "3")],
            "threads",
            "3 within an operator",
        ),
        (
            &[("execution_mode", "1"), ("inter_op_thread_count", "3")],
            "threads",
            "2 within an operator, 3 for operators side by side",
        ),
        (
            &[("graph_optimization_level", "disabled")],
            "optimisations",
            "none",
        ),
        (
            &[("graph_optimization_level", "basic")],
            "optimisations",
            "basic",
        ),
        (&[("enable_mem_arena", "false")], "memory arena", "none"),
        (
            &[
                ("enable_mem_pattern", "0"),
                ("graph_optimization_level", "extended"),
            ],
            "optimisations",
            "extended",
        ),
    ];
    for name in ["convolution of any size", "attention over tokens"] {
        let case = neural(name);
        for (settings, key, value) in settings {
            let model = runtime.load_with(&case.model, settings).unwrap();
            assert_eq!(fact(model.as_ref(), key).as_deref(), Some(value));
            case.check(model.as_ref(), DIFFERENCE_MAX)
                .unwrap_or_else(|error| panic!("{name}, {settings:?}: {error}"));
        }
    }
    let model = &neural("convolution of any size").model;
    let refusal = runtime
        .load_with(model, &[("intra_op_threads", "1")])
        .unwrap_err();
    assert_eq!(refusal.kind(), LoadErrorKind::Unsupported);
    let refusal = refusal.to_string();
    assert!(refusal.contains("'intra_op_threads'") && refusal.contains("intra_op_thread_count"));
}

/// The library that tests run with is that of the package for processors.
pub(crate) fn providers_that_are_not_there_are_told(runtime: &Runtime) {
    let case = neural("convolution of any size");
    for name in ["cuda", "tensorrt", "openvino"] {
        let refusal = runtime.load_with(&case.model, &[("providers", name)]);
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.kind(), LoadErrorKind::Unsupported);
        let refusal = refusal.to_string();
        assert!(
            refusal.contains(&format!("no execution provider {name}; it has cpu")),
            "{refusal}"
        );
        let list = format!("{name}?,cpu");
        let model = runtime.load_with(&case.model, &[("providers", &list)]);
        let model = model.unwrap();
        let warnings: Vec<&str> = model.description().warnings().collect();
        assert!(
            matches!(warnings.as_slice(), [one] if one.contains(name)),
            "{warnings:?}"
        );
        assert_eq!(fact(model.as_ref(), "providers").as_deref(), Some("cpu"));
        case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
    }
}

pub(crate) fn small_graphs_have_the_threads_that_are_quicker(runtime: &Runtime) {
    // Which are quicker is not for a test to say, nor whether a busy machine is quick enough to ask; that answers stay, is.
    let case = neural("convolution of a fixed size");
    let model = runtime.load(&case.model).unwrap();
    let words = fact(model.as_ref(), "threads");
    assert!(
        words.is_none_or(|words| words.contains(": a run took ")),
        "what was chosen is said with what was measured"
    );
    case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
    // Where sizes are open, or threads are said, nothing is measured.
    let open = neural("convolution of any size");
    let model = runtime.load(&open.model).unwrap();
    assert_eq!(fact(model.as_ref(), "threads"), None);
    let settings = [("intra_op_thread_count", "2")];
    let model = runtime.load_with(&case.model, &settings).unwrap();
    let words = fact(model.as_ref(), "threads").unwrap();
    assert_eq!(words, "2 within an operator");
}
