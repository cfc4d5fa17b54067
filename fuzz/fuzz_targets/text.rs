//! Reads bytes as a tokeniser's file, or as one of the settings beside a whole one, and runs texts through what comes of it.
#![no_main]

use std::collections::BTreeMap;

use coracle_base::ManualClock;
use coracle_model::{Description, FilesBeside, LoadError, Model, RunError, Signature, TensorSpec, TextEngine};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use coracle_text::TextSteps;
use libfuzzer_sys::fuzz_target;

/// A graph that gives each token its number.
#[derive(Debug)]
struct Graph {
    signature: Signature,
    description: Description,
}

impl Model for Graph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let ids = inputs[0].values().to_f64s().expect("integers");
        let mut shape = inputs[0].shape().to_vec();
        shape.push(1);
        let hidden = ids.iter().map(|&id| id as f32).collect();
        Ok(vec![Tensor::try_new(shape, Values::F32(hidden)).expect("one number per token")])
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

fn graph() -> Graph {
    let spec = |name: &str, dtype, shape: &[Option<usize>]| TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    Graph {
        signature: Signature {
            inputs: ["input_ids", "attention_mask"]
                .map(|name| spec(name, DType::I64, &[None, None]))
                .to_vec(),
            outputs: vec![spec("last_hidden_state", DType::F32, &[None, None, Some(1)])],
            default_outputs: vec![0],
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            columns: None,
        },
        description: Description::default(),
    }
}

const TOKENIZER: &[u8] = include_bytes!("../../fixtures/text/sentence_mean/tokenizer.json");
/// Modules with a Dense, for who reads its files.
const MODULES: &[u8] = br#"[{"path": "", "type": "m.Transformer"}, {"path": "1_Pooling", "type": "m.Pooling"}, {"path": "2_Dense", "type": "m.Dense"}]"#;
const POOLING: &[u8] = b"{}";
const DENSE: &[u8] = br#"{"in_features": 1, "out_features": 2}"#;
const NAMES: [&str; 9] = [
    "tokenizer.json",
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
];

struct Files<'b>(BTreeMap<&'static str, &'b [u8]>);

impl FilesBeside for Files<'_> {
    fn read(&self, path: &str, _bytes_max: usize) -> Result<Option<Vec<u8>>, LoadError> {
        Ok(self.0.get(path).map(|bytes| bytes.to_vec()))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    let mut files = BTreeMap::from([("tokenizer.json", TOKENIZER)]);
    if name.starts_with("2_Dense") {
        let others = [("modules.json", MODULES), ("1_Pooling/config.json", POOLING), ("2_Dense/config.json", DENSE)];
        files.extend(others);
    }
    files.insert(name, bytes);
    let files = Files(files);
    let steps = TextSteps::new(std::sync::Arc::new(ManualClock::new()));
    let Ok(model) = steps.around(Box::new(graph()), &files) else {
        return;
    };
    if model.signature().inputs.len() != 1 {
        return;
    }
    let texts: ByteStrings = ["", "the river", "\u{1F6A3} \u{FDFA}e\u{301}  ab"].into_iter().collect();
    drop(model.run(&[Tensor::from_values(Values::Bytes(texts))], &[0]));
});
