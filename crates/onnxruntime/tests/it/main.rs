//! Graphs through the real library. Where there is none, each test is named as not run.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

mod bounds;
mod damage;
mod fixture;
mod graphs;
mod settings;
mod sharing;
mod texts;

use std::path::PathBuf;
use std::sync::Arc;

use coracle_model::{ExternalFile, GraphEngine, GraphFile, LoadError, LoadErrorKind, Model};
use coracle_onnxruntime::{OnnxRuntime, Places};

/// The engine over the library that the environment names.
struct Runtime(Arc<OnnxRuntime>);

impl Runtime {
    fn of(engine: OnnxRuntime) -> Self {
        Self(Arc::new(engine))
    }

    fn engine(&self) -> OnnxRuntime {
        self.0.as_ref().clone()
    }

    /// Gives a graph to the engine whether or not our own kernels run it, after the reading that comes first.
    fn load(&self, bytes: &[u8]) -> Result<Box<dyn Model>, LoadError> {
        self.load_with(bytes, &[])
    }

    /// As [`Runtime::load`], with settings.
    fn load_with(
        &self,
        bytes: &[u8],
        settings: &[(&str, &str)],
    ) -> Result<Box<dyn Model>, LoadError> {
        self.load_beside(bytes, Vec::new(), settings)
    }

    /// As [`Runtime::load_with`], with files of weights beside the graph's.
    fn load_beside(
        &self,
        bytes: &[u8],
        files: Vec<ExternalFile>,
        settings: &[(&str, &str)],
    ) -> Result<Box<dyn Model>, LoadError> {
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let external = |location: &str, _: u64, _: Option<u64>| {
            let file = files.iter().find(|file| file.location == location);
            let bytes = file.map(|file| file.bytes.to_vec());
            bytes.ok_or_else(|| LoadError::new(LoadErrorKind::Unsupported, "external data"))
        };
        let description = coracle_onnx::describe(bytes, &external)?;
        self.0.load(GraphFile {
            bytes,
            external: files,
            description,
            settings: settings.collect(),
        })
    }
}

const TESTS: [(&str, fn(&Runtime)); 46] = [
    ("truth_values_are_two", bounds::truth_values_are_two),
    (
        "quotients_beyond_an_integer_end_nobody",
        bounds::quotients_beyond_an_integer_end_nobody,
    ),
    (
        "quotients_of_undeclared_datatypes_end_nobody",
        bounds::quotients_of_undeclared_datatypes_end_nobody,
    ),
    ("loads_end_in_time", bounds::loads_end_in_time),
    (
        "locales_with_letters_of_their_own_are_kept",
        bounds::locales_with_letters_of_their_own_are_kept,
    ),
    (
        "what_cannot_be_served_is_refused",
        bounds::what_cannot_be_served_is_refused,
    ),
    (
        "rows_that_are_quantized_together_are_not_batched",
        bounds::rows_that_are_quantized_together_are_not_batched,
    ),
    (
        "what_the_runtime_misreads_does_not_reach_it",
        bounds::what_the_runtime_misreads_does_not_reach_it,
    ),
    ("runs_end_in_time", bounds::runs_end_in_time),
    (
        "calls_that_meet_without_time_are_late",
        bounds::calls_that_meet_without_time_are_late,
    ),
    (
        "calls_that_meet_a_run_without_end_are_answered",
        bounds::calls_that_meet_a_run_without_end_are_answered,
    ),
    (
        "runs_that_nobody_waits_for_end",
        bounds::runs_that_nobody_waits_for_end,
    ),
    (
        "graphs_of_any_time_say_so",
        bounds::graphs_of_any_time_say_so,
    ),
    (
        "answers_are_no_larger_than_ours",
        bounds::answers_are_no_larger_than_ours,
    ),
    (
        "a_graph_that_never_ran_is_at_fault_itself",
        bounds::a_graph_that_never_ran_is_at_fault_itself,
    ),
    (
        "weights_in_other_files_are_what_was_read",
        bounds::weights_in_other_files_are_what_was_read,
    ),
    (
        "neural_graphs_answer_as_in_python",
        graphs::neural_graphs_answer_as_in_python,
    ),
    (
        "operators_answer_as_in_python",
        graphs::operators_answer_as_in_python,
    ),
    ("maps_answer_as_in_python", graphs::maps_answer_as_in_python),
    (
        "what_is_no_json_is_refused_with_what_belongs_there",
        graphs::what_is_no_json_is_refused_with_what_belongs_there,
    ),
    (
        "what_is_never_missing_is_not_left_out",
        graphs::what_is_never_missing_is_not_left_out,
    ),
    (
        "nodes_answer_as_onnx_says",
        graphs::nodes_answer_as_onnx_says,
    ),
    (
        "integers_of_four_bits_are_no_others",
        graphs::integers_of_four_bits_are_no_others,
    ),
    ("sequences_are_json", graphs::sequences_are_json),
    ("maps_are_json", graphs::maps_are_json),
    (
        "inputs_of_any_rank_are_served",
        graphs::inputs_of_any_rank_are_served,
    ),
    (
        "graphs_answer_alike_whatever_is_set",
        settings::graphs_answer_alike_whatever_is_set,
    ),
    (
        "providers_that_are_not_there_are_told",
        settings::providers_that_are_not_there_are_told,
    ),
    (
        "small_graphs_have_the_threads_that_are_quicker",
        settings::small_graphs_have_the_threads_that_are_quicker,
    ),
    (
        "exported_models_answer_as_in_python",
        graphs::exported_models_answer_as_in_python,
    ),
    (
        "what_does_not_fit_is_refused_with_both_sides",
        graphs::what_does_not_fit_is_refused_with_both_sides,
    ),
    (
        "calls_from_many_threads_get_their_own_answers",
        graphs::calls_from_many_threads_get_their_own_answers,
    ),
    (
        "large_graphs_answer_several_calls_with_the_same_weights",
        sharing::large_graphs_answer_several_calls_with_the_same_weights,
    ),
    (
        "graphs_with_the_same_weights_hold_them_once",
        sharing::graphs_with_the_same_weights_hold_them_once,
    ),
    (
        "large_graphs_answer_several_calls_with_weights_of_another_file",
        sharing::large_graphs_answer_several_calls_with_weights_of_another_file,
    ),
    (
        "graphs_with_the_same_weights_in_other_files_hold_them_once",
        sharing::graphs_with_the_same_weights_in_other_files_hold_them_once,
    ),
    (
        "weights_that_are_named_often_stay_outside",
        sharing::weights_that_are_named_often_stay_outside,
    ),
    (
        "constants_that_the_runtime_turns_round_are_its_own",
        sharing::constants_that_the_runtime_turns_round_are_its_own,
    ),
    (
        "floats_of_eight_bits_are_no_others",
        graphs::floats_of_eight_bits_are_no_others,
    ),
    (
        "damaged_divisions_end_nobody",
        damage::damaged_divisions_end_nobody,
    ),
    (
        "damaged_graphs_are_errors",
        damage::damaged_graphs_are_errors,
    ),
    (
        "texts_answer_as_in_python",
        texts::texts_answer_as_in_python,
    ),
    (
        "classifiers_take_pairs_where_that_is_said",
        texts::classifiers_take_pairs_where_that_is_said,
    ),
    (
        "directories_that_contradict_themselves_are_refused",
        texts::directories_that_contradict_themselves_are_refused,
    ),
    (
        "other_graphs_keep_their_tokens",
        texts::other_graphs_keep_their_tokens,
    ),
    (
        "texts_that_are_none_are_told",
        texts::texts_that_are_none_are_told,
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments
        .iter()
        .find(|argument| !argument.starts_with("--"));
    let tests = TESTS.iter().filter(|(name, _)| match wanted {
        Some(wanted) => name.contains(wanted.as_str()),
        None => true,
    });
    let tests: Vec<&(&str, fn(&Runtime))> = tests.collect();
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| eprintln!("{name}: test"));
        return;
    }
    let Some(library) = std::env::var_os("ORT_DYLIB_PATH") else {
        for (name, _) in tests {
            eprintln!("not run: {name} (ORT_DYLIB_PATH names no library of ONNX Runtime)");
        }
        return;
    };
    // Whoever names a library and a test that is none would take nothing for a success.
    assert!(!tests.is_empty(), "no test has {wanted:?} in its name");
    let places = Places {
        given: Some(PathBuf::from(library)),
        ..Places::default()
    };
    let runtime = Runtime::of(OnnxRuntime::new(places, 2));
    for (name, test) in tests {
        test(&runtime);
        eprintln!("test {name} ... ok");
    }
}
