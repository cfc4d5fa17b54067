//! Models of texts over a graph that is a function of ours: what may share a run, times, and damaged files.
#![expect(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "numbers of tokens, and a generator that is meant to wrap"
)]

use std::sync::Mutex;
use std::time::Duration;

use coracle_base::ManualClock;
use coracle_model::{
    Component, Description, RunError, RunErrorKind, RunTime, Signature, TensorSpec,
};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};

use super::*;
use crate::tokens::tests::{Files, fixtures};

/// A graph whose vector of a token is its number, and that of all tokens of its row which the mask shows.
#[derive(Debug)]
struct Graph {
    signature: Signature,
    description: Description,
    rows_are_independent: bool,
    /// Looks at what is filled up, too.
    ignores_mask: bool,
    /// How many logits it gives for each token instead of vectors.
    n_logits: Option<usize>,
    /// How many numbers it gives for each text instead.
    n_pooled: Option<usize>,
    /// The shapes of its runs.
    runs: Arc<Mutex<Vec<Vec<usize>>>>,
    clock: Arc<ManualClock>,
}

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    }
}

impl Graph {
    fn new(inputs: &[&str]) -> Self {
        let inputs = inputs
            .iter()
            .map(|name| spec(name, DType::I64, &[None, None]));
        let output = spec("last_hidden_state", DType::F32, &[None, None, Some(2)]);
        Self {
            signature: Signature {
                inputs: inputs.collect(),
                outputs: vec![output],
                default_outputs: vec![0],
                keyed_outputs: Vec::new(),
                keyed_inputs: Vec::new(),
                unranked_inputs: Vec::new(),
                name_rules: Default::default(),
                columns: None,
            },
            description: Description {
                root: Component::default(),
                ..Description::default()
            },
            rows_are_independent: true,
            ignores_mask: false,
            n_logits: None,
            n_pooled: None,
            runs: Arc::default(),
            clock: Arc::new(ManualClock::new()),
        }
    }

    fn around(self, files: &Files) -> Result<Box<dyn Model>, LoadError> {
        let steps = TextSteps::new(self.clock.clone());
        steps.around(Box::new(self), files)
    }
}

impl Model for Graph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        self.runs.lock().unwrap().push(inputs[0].shape().to_vec());
        self.clock.advance(Duration::from_secs(1));
        let ids = inputs[0].values().to_f64s().unwrap();
        let width = inputs[0].shape()[1];
        if let Some(n_pooled) = self.n_pooled {
            let shape = vec![inputs[0].shape()[0], n_pooled];
            let values = Values::F32(vec![1.0; shape.iter().product()].into());
            return Ok(vec![Tensor::try_new(shape, values).unwrap()]);
        }
        if let Some(n_logits) = self.n_logits {
            let shape = vec![inputs[0].shape()[0], width, n_logits];
            let values = Values::F32(vec![0.0; shape.iter().product()].into());
            return Ok(vec![Tensor::try_new(shape, values).unwrap()]);
        }
        let mask = match (self.ignores_mask, inputs.get(1)) {
            (false, Some(mask)) => mask.values().to_f64s().unwrap().into_owned(),
            _ => vec![1.0; ids.len()],
        };
        let mut hidden: Vec<f32> = Vec::new();
        for (ids, mask) in ids.chunks(width).zip(mask.chunks(width)) {
            let shown: f64 = ids
                .iter()
                .zip(mask)
                .map(|(id, shown)| (id + 1.0) * shown)
                .sum();
            hidden.extend(ids.iter().flat_map(|&id| [id as f32, shown as f32]));
        }
        let shape = vec![inputs[0].shape()[0], width, 2];
        Ok(vec![
            Tensor::try_new(shape, Values::F32(hidden.into())).unwrap(),
        ])
    }

    fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    fn run_time(&self) -> RunTime {
        RunTime::Unknown
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        10
    }
}

fn texts(texts: &[&str]) -> Tensor {
    Tensor::from_values(Values::Bytes(texts.iter().collect::<ByteStrings>()))
}

const WITH_MASK: [&str; 2] = ["input_ids", "attention_mask"];

fn plain() -> Files {
    fixtures().remove("plain").unwrap()
}

#[test]
fn texts_share_runs_as_far_as_the_graph_lets_them() {
    type Change = fn(&mut Graph);
    let short_long_short = ["a", "the river the river", "boat"];
    let cases: [(&str, Change, usize); 4] = [
        ("any", |_graph| {}, 1),
        (
            "a graph that sees what is filled up",
            |graph| graph.ignores_mask = true,
            2,
        ),
        (
            "a graph without a mask",
            |graph| drop(graph.signature.inputs.pop()),
            2,
        ),
        (
            "rows that depend on each other",
            |graph| graph.rows_are_independent = false,
            3,
        ),
    ];
    let mut answers = Vec::new();
    for (name, change, n_runs) in cases {
        let mut graph = Graph::new(&WITH_MASK);
        change(&mut graph);
        let runs = Arc::clone(&graph.runs);
        let model = graph.around(&plain()).unwrap();
        runs.lock().unwrap().clear();
        answers.push(model.run(&[texts(&short_long_short)], &[0]).unwrap());
        let found = runs.lock().unwrap().clone();
        assert_eq!(found.len(), n_runs, "{name}: {found:?}");
        let n_texts: usize = found.iter().map(|shape| shape[0]).sum();
        assert_eq!(n_texts, 3, "{name}");
    }
    // Whatever shares a run, the answers are those of each text alone.
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

#[test]
fn graphs_of_one_text_and_of_one_length_get_that() {
    let mut graph = Graph::new(&WITH_MASK);
    for input in &mut graph.signature.inputs {
        input.shape = vec![Some(1), Some(12)];
    }
    let runs = Arc::clone(&graph.runs);
    let model = graph.around(&plain()).unwrap();
    model
        .run(&[texts(&["a", &"the river ".repeat(40)])], &[0])
        .unwrap();
    let found = runs.lock().unwrap().clone();
    assert!(found.iter().all(|shape| *shape == [1, 12]), "{found:?}");
    let fact = |name: &str| {
        let facts = &model.description().root.facts;
        let found = facts.iter().find(|(fact, _)| fact == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    assert_eq!(fact("texts"), "of 12 tokens, cut on the right");
    let mut graph = Graph::new(&WITH_MASK);
    graph.signature.inputs[0].shape = vec![Some(4), None];
    let model = graph.around(&plain()).unwrap();
    assert_eq!(model.signature().inputs.len(), 2);
}

#[test]
fn calls_end_in_their_time() {
    let mut graph = Graph::new(&WITH_MASK);
    graph.rows_are_independent = false;
    let model = graph.around(&plain()).unwrap();
    let five = texts(&["a", "b", "c", "d", "e"]);
    // A run of this graph takes a second.
    let run = |seconds| {
        model.run_within(
            std::slice::from_ref(&five),
            &[0],
            Duration::from_secs(seconds),
        )
    };
    assert_eq!(run(3).unwrap_err().kind(), RunErrorKind::OutOfTime);
    assert!(run(5).is_ok());
}

/// Modules of a model whose only Dense takes three numbers and gives three.
fn square() -> Files {
    let head = br#"{"linear.weight":{"dtype":"F32","shape":[3,3],"data_offsets":[0,36]}}"#;
    let weights = [&(head.len() as u64).to_le_bytes()[..], head, &[0; 36]].concat();
    let modules = ["Transformer", "Pooling", "Dense"].map(|name| {
        format!(r#"{{"path": "{name}", "type": "sentence_transformers.models.{name}"}}"#)
    });
    let config = r#"{"in_features": 3, "out_features": 3, "bias": false, "activation_function": "Identity"}"#;
    let mut files = plain();
    let mut put = |name: &str, bytes: Vec<u8>| drop(files.0.insert(name.to_owned(), bytes));
    put("modules.json", format!("[{}]", modules.join(",")).into());
    put(
        "Pooling/config.json",
        br#"{"pooling_mode": "mean"}"#.to_vec(),
    );
    put("Dense/config.json", config.into());
    put("Dense/model.safetensors", weights);
    files
}

#[test]
fn vectors_of_which_nobody_knows_what_was_done_to_them_are_not_taken() {
    let pooled = spec("sentence_embedding", DType::F32, &[None, Some(3)]);
    let mut graph = Graph::new(&WITH_MASK);
    graph.signature.outputs = vec![pooled.clone()];
    let model = graph.around(&square()).unwrap();
    assert_eq!(model.signature().inputs.len(), 2, "the tokens");
    let facts = &model.description().root.facts;
    assert!(
        facts[0].1.contains("as many numbers as they take"),
        "{facts:?}"
    );
    // A graph that gives the tokens' vectors, too, is of the whole model, as Optimum writes it.
    let mut graph = Graph::new(&WITH_MASK);
    graph.signature.outputs.push(pooled);
    graph.n_pooled = Some(3);
    let model = graph.around(&square()).unwrap();
    assert_eq!(model.signature().inputs[0].name, "text");
    let answer = model.run(&[texts(&["a"])], &[0]).unwrap();
    assert_eq!(answer[0].values(), &Values::F32(vec![1.0; 3].into()));
}

#[test]
fn entities_are_looked_for_in_so_many_tokens_and_no_more() {
    let n_labels = 1 << 17;
    let mut graph = Graph::new(&WITH_MASK);
    graph.n_logits = Some(n_labels);
    graph.signature.outputs = vec![spec("logits", DType::F32, &[None, None, None])];
    let runs = Arc::clone(&graph.runs);
    let mut files = plain();
    let config = r#"{"architectures": ["BertForTokenClassification"]}"#;
    files.0.insert("config.json".to_owned(), config.into());
    let model = graph.around(&files).unwrap();
    assert_eq!(model.signature().outputs[0].name, "entities");
    runs.lock().unwrap().clear();
    // 2^26 scores are those of 512 tokens.
    let texts_of = |n: usize| texts(&vec!["the river the river"; n]);
    let n_tokens = |n: usize| {
        runs.lock().unwrap().clear();
        model.run(&[texts_of(n)], &[0]).map(|_answer| {
            let runs = runs.lock().unwrap();
            runs.iter().map(|shape| shape[0] * shape[1]).sum::<usize>()
        })
    };
    let of_one = n_tokens(1).unwrap();
    let error = n_tokens(512 / of_one + 1).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::TooLarge);
    let last = format!(
        "more than 512 tokens up to text {}; send fewer",
        512 / of_one
    );
    assert!(error.to_string().contains(&last), "{error}");
    assert!(runs.lock().unwrap().is_empty(), "it ran nevertheless");
}

#[test]
fn graphs_that_take_something_else_stay_as_they_are() {
    let unknown = Graph::new(&["input_ids", "attention_mask", "pixel_values"]);
    let model = unknown.around(&plain()).unwrap();
    let facts = &model.description().root.facts;
    assert_eq!(facts[0].1, "not taken: the graph takes pixel_values too");
    let numbers = Graph::new(&["x"]);
    let model = numbers.around(&plain()).unwrap();
    assert!(model.description().root.facts.is_empty());
    let mut without = plain();
    without.0.remove("tokenizer.json");
    let model = Graph::new(&WITH_MASK).around(&without).unwrap();
    assert_eq!(model.signature().inputs.len(), 2);
}

/// A small generator of reproducible numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }
}

/// Pieces of tokenisers' files, to put where they do not belong.
const PIECES: [&str; 14] = [
    "null",
    "[]",
    "{}",
    "\"\"",
    "-1",
    "4294967296",
    "1e999",
    "true",
    "\"Sequence\"",
    "\"Regex\"",
    "\"Unigram\"",
    "\"BPE\"",
    "\"WordPiece\"",
    "{\"type\": \"FixedLength\", \"length\": 0}",
];

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(6) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            for _ in 0..=random.below(4) {
                let place = random.below(bytes.len());
                bytes[place] ^= 1 << random.below(8);
            }
        }
        // Exchanges a value after a colon or comma: the file stays JSON more often than not.
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']');
            let places: Vec<usize> = (0..bytes.len())
                .filter(|&at| matches!(bytes[at], b':' | b','))
                .collect();
            let start = places[random.below(places.len())] + 1;
            let rest = bytes[start..].iter().position(ends);
            let end = start + rest.unwrap_or(0);
            let piece = PIECES[random.below(PIECES.len())].as_bytes();
            bytes.splice(start..end, piece.iter().copied());
        }
    }
}

#[test]
fn damaged_files_are_errors_or_models_that_answer() {
    const N_VARIANTS: usize = 3_000;
    let fixtures: Vec<Files> = fixtures().into_values().collect();
    let mut random = Random(31);
    let (mut n_refused, mut n_loaded, mut n_failed) = (0, 0, 0);
    for index in 0..N_VARIANTS {
        let mut files = Files(fixtures[index % fixtures.len()].0.clone());
        let names: Vec<String> = files
            .0
            .keys()
            .filter(|name| name.ends_with(".json"))
            .cloned()
            .collect();
        let name = match index % 3 {
            0 => names[random.below(names.len())].clone(),
            _ => "tokenizer.json".to_owned(),
        };
        damage(files.0.get_mut(&name).unwrap(), &mut random);
        match Graph::new(&WITH_MASK).around(&files) {
            Ok(model) => {
                n_loaded += 1;
                let texts = texts(&["the river", "", "\u{1F6A3} \u{FDFA}é ", &"ab ".repeat(50)]);
                if let Err(error) = model.run(&[texts], &[0]) {
                    n_failed += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
            Err(error) => {
                n_refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    eprintln!(
        "{n_refused} of {N_VARIANTS} variants refused, {n_loaded} loaded, of which {n_failed} did not answer"
    );
    assert!(n_refused > N_VARIANTS / 4, "{n_refused} refused");
    assert!(n_loaded > N_VARIANTS / 10, "{n_loaded} loaded");
}
