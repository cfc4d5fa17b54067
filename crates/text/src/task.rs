//! What a graph of tokens is for: vectors of texts, or classes.

use coracle_model::{Signature, TensorSpec};
use coracle_tensor::DType;

use crate::dense::Dense;
use crate::settings::{Pooling, Sentence, Settings};

/// What becomes of which output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Task {
    /// Vectors of tokens, which are pooled.
    Tokens { output: usize, sentence: Sentence },
    /// Vectors of texts, which the graph has pooled; what is multiplied with them here is what it has not been already.
    Pooled {
        output: usize,
        dense: Vec<Dense>,
        is_normalized: bool,
    },
    /// Logits of classes.
    Classes { output: usize },
    /// Logits of classes of each token.
    Words { output: usize },
}

impl Task {
    /// Returns what is multiplied with vectors here.
    pub(crate) fn dense(&self) -> &[Dense] {
        match self {
            Self::Tokens { sentence, .. } => &sentence.dense,
            Self::Pooled { dense, .. } => dense,
            Self::Classes { .. } | Self::Words { .. } => &[],
        }
    }

    pub(crate) fn output(&self) -> usize {
        match self {
            Self::Tokens { output, .. }
            | Self::Pooled { output, .. }
            | Self::Classes { output }
            | Self::Words { output } => *output,
        }
    }

    /// Tells what a graph is for by its outputs and the files beside it.
    ///
    /// # Errors
    /// Says why it is for none of what is done here.
    pub(crate) fn of(signature: &Signature, settings: &Settings) -> Result<Self, String> {
        let outputs = &signature.outputs;
        let named = |name: &str, n_dims: usize| {
            outputs
                .iter()
                .position(|output| output.name == name && is_real(output, n_dims))
        };
        let pooled = named("sentence_embedding", 2);
        let tokens = named("last_hidden_state", 3).or_else(|| named("token_embeddings", 3));
        let mut tables = outputs.iter().enumerate();
        let only_table = tables.find(|(_, output)| is_real(output, 3));
        let tokens = tokens.or(only_table
            .map(|(place, _)| place)
            .filter(|_| outputs.len() == 1));
        if let Some(sentence) = &settings.sentence {
            let is_told = tokens.is_some() || !keeps_width(&sentence.dense);
            return match (pooled, tokens) {
                // Optimum's exports, which give the tokens too, are of the whole model.
                (Some(_), _) if !is_told => Err(
                    "its Dense modules give as many numbers as they take, so nobody knows whether sentence_embedding went through them"
                        .to_owned(),
                ),
                (Some(output), _) => Ok(Self::Pooled {
                    output,
                    dense: sentence.dense.clone(),
                    is_normalized: sentence.is_normalized,
                }),
                (None, Some(output)) => Ok(Self::Tokens {
                    output,
                    sentence: sentence.clone(),
                }),
                (None, None) => Err(format!(
                    "modules.json is there, but none of the outputs ({}) is last_hidden_state, token_embeddings or sentence_embedding",
                    signature.output_names()
                )),
            };
        }
        let classifies = |name: &String| name.ends_with("ForSequenceClassification");
        let is_classifier = match settings.architectures.is_empty() {
            true => outputs.len() == 1,
            false => settings.architectures.iter().any(classifies),
        };
        match named("logits", 2) {
            Some(output) if is_classifier => return Ok(Self::Classes { output }),
            _ => {}
        }
        let of_tokens = |name: &String| name.ends_with("ForTokenClassification");
        if let Some(output) = named("logits", 3)
            && settings.architectures.iter().any(of_tokens)
        {
            return Ok(Self::Words { output });
        }
        let is_headless = |output: &TensorSpec| output.name != "logits";
        match (pooled, tokens) {
            (Some(output), _) => Ok(Self::Pooled {
                output,
                dense: Vec::new(),
                is_normalized: false,
            }),
            // As sentence-transformers does with a model that has no modules of its.
            (None, Some(output)) if outputs.get(output).is_some_and(is_headless) => {
                Ok(Self::Tokens {
                    output,
                    sentence: Sentence {
                        poolings: vec![Pooling::Mean],
                        dense: Vec::new(),
                        is_normalized: false,
                    },
                })
            }
            _ => Err(of_something_else(signature, settings)),
        }
    }
}

/// Tells whether modules give as many numbers as they take.
fn keeps_width(dense: &[Dense]) -> bool {
    let (first, last) = (dense.first(), dense.last());
    first.is_some() && first.map(Dense::n_in) == last.map(Dense::n_out)
}

fn of_something_else(signature: &Signature, settings: &Settings) -> String {
    format!(
        "sentence embedding and the classification of sequences and tokens are done; this is {} with {}",
        match settings.architectures.as_slice() {
            [] => "a graph",
            [name, ..] => name.as_str(),
        },
        signature.output_names()
    )
}

fn is_real(output: &TensorSpec, n_dims: usize) -> bool {
    let is_float = matches!(
        output.dtype,
        DType::F32 | DType::F16 | DType::BF16 | DType::F64
    );
    is_float && output.shape.len() == n_dims
}
