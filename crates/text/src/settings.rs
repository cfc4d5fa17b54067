//! The files beside a graph and its tokeniser: how long texts may be, how they are filled up, what becomes of the graph's tensors.
//!
//! Only what changes an answer is read; a value that asks for what is not done here is an error.

use std::collections::BTreeMap;

use coracle_model::{FilesBeside, LoadError, LoadErrorKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Number;

use crate::dense::Dense;
use crate::tokens::Head;

/// The largest file of settings: those of tokenisers list their added tokens.
const FILE_BYTES_MAX: usize = 16 << 20;
/// The most modules of a model.
const MODULES_MAX: usize = 16;
/// The most Dense modules of a model, and of bytes of weights in all of them.
const DENSE_MAX: usize = 8;
const DENSE_BYTES_MAX: usize = 256 << 20;
/// The most classes.
const LABELS_MAX: usize = 1 << 20;

/// The kinds of models whose places begin after the number of the token that fills up.
const PLACES_AFTER_FILLER: [&str; 9] = [
    "camembert",
    "data2vec-text",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
];

/// A side of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Side {
    /// Before the first token.
    #[serde(rename = "Left", alias = "left")]
    Left,
    /// After the last token.
    #[serde(rename = "Right", alias = "right")]
    Right,
}

/// How long texts may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most tokens; a text of more is cut short. `None` where no file says so.
    pub(crate) n_tokens_max: Option<usize>,
    /// Where texts are cut short.
    pub(crate) cut_side: Side,
}

/// How short texts are filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Where.
    pub(crate) side: Side,
    /// The token.
    pub(crate) id: u32,
    /// Its type.
    pub(crate) type_id: u32,
}

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pooling {
    /// The first token's.
    Cls,
    /// The largest of each number.
    Max,
    /// The mean.
    Mean,
    /// The sum over the root of how many there are.
    MeanSqrtLenTokens,
    /// The mean, in which the n-th token counts n times.
    Weightedmean,
    /// The last token's.
    Lasttoken,
}

impl Pooling {
    /// Returns sentence-transformers' name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::MeanSqrtLenTokens => "mean_sqrt_len_tokens",
            Self::Weightedmean => "weightedmean",
            Self::Lasttoken => "lasttoken",
        }
    }
}

/// What sentence-transformers does with the vectors of tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sentence {
    /// One after the other.
    pub(crate) poolings: Vec<Pooling>,
    /// What the result is multiplied with.
    pub(crate) dense: Vec<Dense>,
    /// Whether the result is divided by its length.
    pub(crate) is_normalized: bool,
}

/// What makes scores of a classifier's logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// One class is right.
    Softmax,
    /// Several may be, or there is one score.
    Sigmoid,
    /// They are numbers themselves.
    None,
}

/// What is known of a classifier's classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Classes {
    /// The names, if a file has them.
    pub(crate) labels: Option<Vec<String>>,
    /// `None` where it follows from how many classes there are.
    pub(crate) problem: Option<Problem>,
    /// What sentence-transformers does to the logits of a cross-encoder, where its files say so; it heeds no kind of problem.
    pub(crate) activation: Option<Activation>,
    /// Whether the files are those of a cross-encoder.
    pub(crate) is_cross_encoder: bool,
}

/// The kind of question that a classifier answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Problem {
    /// Which number.
    #[serde(rename = "regression")]
    Regression,
    /// Which one of the classes.
    #[serde(rename = "single_label_classification")]
    SingleLabel,
    /// Which of the classes.
    #[serde(rename = "multi_label_classification")]
    MultiLabel,
}

/// All that the files say.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) fill_side: Side,
    /// The token that fills up: by name, as the files have it, and by number where they do.
    pub(crate) filler: (Option<String>, Option<u32>),
    pub(crate) filler_type: u32,
    /// The token that stands for what is not known.
    pub(crate) unknown: Option<String>,
    pub(crate) is_lowercased: bool,
    /// What is put before every text.
    pub(crate) prefix: String,
    /// `None` where the directory is not sentence-transformers'.
    pub(crate) sentence: Option<Sentence>,
    pub(crate) classes: Classes,
    pub(crate) architectures: Vec<String>,
    /// Whether the files are those of a cross-encoder.
    pub(crate) takes_pairs: bool,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    model_max_length: Option<Number>,
    #[serde(default)]
    padding_side: Option<Side>,
    #[serde(default)]
    truncation_side: Option<Side>,
    #[serde(default)]
    pad_token: Option<Token>,
    #[serde(default)]
    unk_token: Option<Token>,
}

/// A token by name, or with how it is found in texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Name(String),
    Added { content: String },
}

impl Token {
    fn into_name(self) -> String {
        match self {
            Self::Name(name) | Self::Added { content: name } => name,
        }
    }
}

#[derive(Default, Deserialize)]
struct SpecialTokens {
    #[serde(default)]
    pad_token: Option<Token>,
    #[serde(default)]
    unk_token: Option<Token>,
}

#[derive(Default, Deserialize)]
struct ModelConfig {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    max_position_embeddings: Option<Number>,
    #[serde(default)]
    pad_token_id: Option<Number>,
    #[serde(default)]
    id2label: Option<BTreeMap<String, String>>,
    #[serde(default)]
    problem_type: Option<String>,
    #[serde(default)]
    sentence_transformers: Option<CrossEncoder>,
    #[serde(default)]
    sbert_ce_default_activation_function: Option<String>,
}

/// What sentence-transformers notes of a cross-encoder, in new files and in old ones.
#[derive(Default, Deserialize)]
struct CrossEncoder {
    #[serde(default)]
    activation_fn: Option<String>,
}

#[derive(Default, Deserialize)]
struct SentenceConfig {
    #[serde(default)]
    max_seq_length: Option<Number>,
    #[serde(default)]
    do_lower_case: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: Option<BTreeMap<String, String>>,
    #[serde(default)]
    default_prompt_name: Option<String>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    class: String,
}

#[derive(Default, Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode: Option<OneOrMore>,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
    #[serde(default)]
    include_prompt: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Pooling),
    More(Vec<Pooling>),
}

#[derive(Default, Deserialize)]
struct NormalizeConfig {
    #[serde(default)]
    module_input_name: Option<String>,
}

impl Settings {
    /// Reads the files; `head` is of the tokeniser's.
    ///
    /// # Errors
    /// Kind `Malformed` for a file that is not what it should be, `Unsupported` where one asks for what is not done here.
    pub(crate) fn read(files: &dyn FilesBeside, head: Head) -> Result<Self, LoadError> {
        let tokenizer: TokenizerConfig = file(files, "tokenizer_config.json")?;
        let special: SpecialTokens = file(files, "special_tokens_map.json")?;
        let config: ModelConfig = file(files, "config.json")?;
        let sentence_config: SentenceConfig = file(files, "sentence_bert_config.json")?;
        let prefix = prefix(files)?;
        let limits = Limits {
            n_tokens_max: n_tokens_max(&sentence_config, &tokenizer, &config, &head)?,
            cut_side: tokenizer
                .truncation_side
                .or_else(|| head.truncation.as_ref()?.direction)
                .unwrap_or(Side::Right),
        };
        let padding = head.padding;
        let fill_side = tokenizer.padding_side;
        let fill_side = fill_side.or_else(|| padding.as_ref()?.direction);
        let names = tokenizer.pad_token.or(special.pad_token);
        let pad_id = config.pad_token_id.as_ref().and_then(Number::as_u64);
        let pad_id = pad_id.and_then(|id| u32::try_from(id).ok());
        let filler_type = padding.as_ref().map_or(0, |padding| padding.pad_type_id);
        let filler = match padding {
            Some(padding) => (
                names.map(Token::into_name).or(padding.pad_token),
                Some(padding.pad_id),
            ),
            None => (names.map(Token::into_name), pad_id),
        };
        let activation = cross_encoder(&config)?;
        Ok(Self {
            limits,
            fill_side: fill_side.unwrap_or(Side::Right),
            filler,
            filler_type,
            unknown: tokenizer
                .unk_token
                .or(special.unk_token)
                .map(Token::into_name),
            is_lowercased: sentence_config.do_lower_case.unwrap_or(false),
            sentence: sentence(files, !prefix.is_empty())?,
            prefix,
            takes_pairs: activation.is_some(),
            classes: Classes {
                is_cross_encoder: activation.is_some(),
                activation: activation.flatten(),
                labels: config.id2label.map(labels).transpose()?,
                problem: config.problem_type.as_deref().map(problem).transpose()?,
            },
            architectures: config.architectures.unwrap_or_default(),
        })
    }
}

/// Reads a file of settings; one that is not there says nothing.
fn file<T: DeserializeOwned + Default>(
    files: &dyn FilesBeside,
    name: &str,
) -> Result<T, LoadError> {
    Ok(optional(files, name)?.unwrap_or_default())
}

fn optional<T: DeserializeOwned>(
    files: &dyn FilesBeside,
    name: &str,
) -> Result<Option<T>, LoadError> {
    let Some(bytes) = files.read(name, FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        let text: String = error.to_string().chars().take(300).collect();
        LoadError::new(LoadErrorKind::Malformed, text).at(name)
    })?;
    Ok(Some(value))
}

/// Returns how many tokens a text may have, as sentence-transformers and transformers find it.
///
/// # Errors
/// Kind `Malformed` for a length of none.
fn n_tokens_max(
    sentence: &SentenceConfig,
    tokenizer: &TokenizerConfig,
    config: &ModelConfig,
    head: &Head,
) -> Result<Option<usize>, LoadError> {
    let size = |number: Option<&Number>| -> Option<usize> {
        let number = number.and_then(Number::as_u64)?;
        usize::try_from(number).ok()
    };
    let places = size(config.max_position_embeddings.as_ref());
    let kind = config.model_type.as_deref().unwrap_or_default();
    let begin = match PLACES_AFTER_FILLER.contains(&kind) {
        true => size(config.pad_token_id.as_ref()).map_or(2, |pad| pad.saturating_add(1)),
        false => 0,
    };
    let places = places.map(|places| places.saturating_sub(begin));
    let own = size(sentence.max_seq_length.as_ref());
    let own = own.or_else(|| size(tokenizer.model_max_length.as_ref()));
    let least = own.into_iter().chain(places).min();
    let of_head = || size(Some(&Number::from(head.truncation.as_ref()?.max_length)));
    let found = least.or_else(of_head);
    if found == Some(0) {
        let message = "the files leave texts no tokens at all";
        return Err(LoadError::new(LoadErrorKind::Malformed, message));
    }
    Ok(found)
}

/// Returns what sentence-transformers does to a cross-encoder's logits: `None` if the files are not those of one, and nothing in
/// particular if they do not say it.
fn cross_encoder(config: &ModelConfig) -> Result<Option<Option<Activation>>, LoadError> {
    let new = config.sentence_transformers.as_ref();
    let name = new.and_then(|new| new.activation_fn.as_deref());
    let name = name.or(config.sbert_ce_default_activation_function.as_deref());
    let Some(name) = name else {
        return Ok(new.map(|_unsaid| None));
    };
    let known = match name.rsplit('.').next().unwrap_or_default() {
        "Identity" => Activation::None,
        "Sigmoid" => Activation::Sigmoid,
        "Softmax" => Activation::Softmax,
        _ => {
            let name: String = name.chars().take(80).collect();
            let message = format!(
                "the activation function {name:?} is not done; Identity, Sigmoid and Softmax are"
            );
            return Err(LoadError::new(LoadErrorKind::Unsupported, message).at("config.json"));
        }
    };
    Ok(Some(Some(known)))
}

/// Returns what sentence-transformers puts before every text.
fn prefix(files: &dyn FilesBeside) -> Result<String, LoadError> {
    const NAME: &str = "config_sentence_transformers.json";
    let prompts: Prompts = file(files, NAME)?;
    let Some(name) = prompts.default_prompt_name else {
        return Ok(String::new());
    };
    let prompt = prompts
        .prompts
        .and_then(|mut prompts| prompts.remove(&name));
    prompt.ok_or_else(|| {
        let message = format!("default_prompt_name {name:?} is none of the prompts");
        LoadError::new(LoadErrorKind::Malformed, message).at(NAME)
    })
}

/// Reads the steps of sentence-transformers: pooling, and perhaps normalisation.
fn sentence(files: &dyn FilesBeside, has_prefix: bool) -> Result<Option<Sentence>, LoadError> {
    const NAME: &str = "modules.json";
    let Some(modules) = optional::<Vec<Module>>(files, NAME)? else {
        return Ok(None);
    };
    let unsupported =
        |message: String| LoadError::new(LoadErrorKind::Unsupported, message).at(NAME);
    // Each has files of its own.
    if modules.len() > MODULES_MAX {
        let n = modules.len();
        return Err(unsupported(format!(
            "{n} modules, at most {MODULES_MAX} are read"
        )));
    }
    let mut poolings: Option<Vec<Pooling>> = None;
    let mut dense: Vec<Dense> = Vec::new();
    let mut is_normalized = false;
    for (place, module) in modules.iter().enumerate() {
        let class = module.class.rsplit('.').next().unwrap_or_default();
        match class {
            "Transformer" if place == 0 => {}
            "Pooling" if place == 1 => {
                poolings = Some(read_pooling(files, &module.path, has_prefix)?);
            }
            "Dense" if poolings.is_some() && !is_normalized => {
                // Each reads a file: what does not follow from the one before it, or is too much, is no reason to read more.
                let next = Dense::read(files, &module.path)?;
                append(&mut dense, next).map_err(unsupported)?;
            }
            "Normalize" if poolings.is_some() => {
                let config: NormalizeConfig = file(files, &beside(&module.path))?;
                let input = config.module_input_name.as_deref();
                if !matches!(input, None | Some("sentence_embedding")) {
                    return Err(unsupported(format!("module {place} normalises {input:?}")));
                }
                is_normalized = true;
            }
            class => {
                return Err(unsupported(format!(
                    "module {place} is {class:?}; Transformer, Pooling, Dense and Normalize are done, in this order"
                )));
            }
        }
    }
    match poolings {
        Some(poolings) => Ok(Some(Sentence {
            poolings,
            dense,
            is_normalized,
        })),
        None => Err(unsupported("no module pools".to_owned())),
    }
}

/// Adds a module to those before it.
///
/// # Errors
/// Says so if it takes another number of numbers than the one before it gives, and if there are too many of them.
pub(crate) fn append(dense: &mut Vec<Dense>, next: Dense) -> Result<(), String> {
    if let Some(last) = dense.last()
        && last.n_out() != next.n_in()
    {
        let (given, taken) = (last.n_out(), next.n_in());
        return Err(format!(
            "a Dense takes {taken} numbers of the {given} before it"
        ));
    }
    dense.push(next);
    let n_bytes = dense.iter().map(Dense::memory_bytes);
    let n_bytes = n_bytes.fold(0_usize, usize::saturating_add);
    if dense.len() > DENSE_MAX || n_bytes > DENSE_BYTES_MAX {
        return Err(format!(
            "there are {} Dense of {n_bytes} bytes of weights; {DENSE_MAX} of {DENSE_BYTES_MAX} in all are read",
            dense.len()
        ));
    }
    Ok(())
}

fn beside(directory: &str) -> String {
    match directory {
        "" => "config.json".to_owned(),
        directory => format!("{directory}/config.json"),
    }
}

fn read_pooling(
    files: &dyn FilesBeside,
    directory: &str,
    has_prefix: bool,
) -> Result<Vec<Pooling>, LoadError> {
    let name = beside(directory);
    let config: PoolingConfig = optional(files, &name)?.ok_or_else(|| {
        let message = "the file is not there, though modules.json names its directory";
        LoadError::new(LoadErrorKind::NotFound, message).at(&name)
    })?;
    if has_prefix && config.include_prompt == Some(false) {
        let message = "include_prompt is false: a prompt's tokens are not left out here";
        return Err(LoadError::new(LoadErrorKind::Unsupported, message).at(&name));
    }
    let found = match config.pooling_mode {
        Some(OneOrMore::One(one)) => vec![one],
        Some(OneOrMore::More(more)) => more,
        None => {
            let flags = [
                (config.pooling_mode_cls_token, Pooling::Cls),
                (config.pooling_mode_max_tokens, Pooling::Max),
                (config.pooling_mode_mean_tokens, Pooling::Mean),
                (
                    config.pooling_mode_mean_sqrt_len_tokens,
                    Pooling::MeanSqrtLenTokens,
                ),
                (
                    config.pooling_mode_weightedmean_tokens,
                    Pooling::Weightedmean,
                ),
                (config.pooling_mode_lasttoken, Pooling::Lasttoken),
            ];
            let set = flags.into_iter().filter(|(is_set, _)| *is_set);
            let set: Vec<Pooling> = set.map(|(_, pooling)| pooling).collect();
            match set.is_empty() {
                true => vec![Pooling::Mean],
                false => set,
            }
        }
    };
    if found.is_empty() || found.len() > 6 {
        let message = format!("{} ways to pool; one to six are done", found.len());
        return Err(LoadError::new(LoadErrorKind::Malformed, message).at(&name));
    }
    Ok(found)
}

/// Returns the names of classes in the order of their numbers, which are 0, 1, 2 and so on.
fn labels(by_number: BTreeMap<String, String>) -> Result<Vec<String>, LoadError> {
    let malformed =
        |message: String| LoadError::new(LoadErrorKind::Malformed, message).at("config.json");
    let n = by_number.len();
    if n == 0 || n > LABELS_MAX {
        return Err(malformed(format!(
            "id2label has {n} labels; 1 to {LABELS_MAX} are taken"
        )));
    }
    let mut labels: Vec<Option<String>> = vec![None; n];
    for (number, label) in by_number {
        let place = number.parse::<usize>().ok();
        let place = place.and_then(|place| labels.get_mut(place));
        match place.filter(|place| place.is_none()) {
            Some(place) => *place = Some(label),
            None => {
                return Err(malformed(format!(
                    "id2label has {n} labels, and number {number:?} is none of 0 to {}, or comes twice",
                    n.saturating_sub(1)
                )));
            }
        }
    }
    Ok(labels.into_iter().flatten().collect())
}

fn problem(name: &str) -> Result<Problem, LoadError> {
    let known = serde_json::from_value(serde_json::Value::from(name));
    known.map_err(|_unknown| {
        let message = format!(
            "problem_type {name:?} is none of regression, single_label_classification, multi_label_classification"
        );
        LoadError::new(LoadErrorKind::Unsupported, message).at("config.json")
    })
}
