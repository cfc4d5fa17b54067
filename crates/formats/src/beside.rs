//! The files beside an ONNX graph that say what its tokens are: as Hugging Face, Optimum and sentence-transformers lay them out.

use std::fs;
use std::path::{Component, Path, PathBuf};

use coracle_model::{FilesBeside, LoadError, LoadErrorKind, Model, TextEngine};

/// The tokeniser's file.
const TOKENIZER: &str = "tokenizer.json";
/// The files of settings beside it.
const SETTINGS: [&str; 13] = [
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "2_Normalize/config.json",
    "3_Dense/config.json",
    "3_Dense/model.safetensors",
    "3_Normalize/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
];
/// What Hugging Face's exporters say of any model.
const CONFIG: &str = "config.json";
/// The directory in which exporters put graphs, below that of the files that belong to them.
const GRAPHS: &str = "onnx";
/// The file that is taken of several: others are variants of it, such as `model_quantized.onnx`.
const GRAPH: &str = "model.onnx";
/// What the names of these begin and end with.
const VARIANT: (&str, &str) = ("model_", ".onnx");

/// Returns the graph below a directory with files that belong to it, a tokeniser's or the configuration of a model of pictures or sounds.
pub(crate) fn graph_below(directory: &Path) -> Option<PathBuf> {
    let graph = directory.join(GRAPHS).join(GRAPH);
    let mut belonging = [TOKENIZER, CONFIG].into_iter();
    let belongs = belonging.any(|name| directory.join(name).is_file());
    (belongs && graph.is_file()).then_some(graph)
}

/// Returns the one of several model files that the others are variants of, if they all are.
pub(crate) fn graph_among(files: &[PathBuf]) -> Option<&PathBuf> {
    let is_graph = |file: &PathBuf| file.file_name().is_some_and(|name| name == GRAPH);
    let (graphs, others): (Vec<&PathBuf>, Vec<&PathBuf>) =
        files.iter().partition(|file| is_graph(file));
    match graphs.as_slice() {
        [graph] if others.iter().all(|other| is_variant(other)) => Some(graph),
        _ => None,
    }
}

fn is_variant(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(VARIANT.0) && name.ends_with(VARIANT.1))
}

/// Returns the names of the variants beside a graph `model.onnx`, which is served where a directory is named: `model_quantized.onnx`
/// and the like, as exporters write them.
#[must_use]
pub fn variants(path: &Path) -> Vec<String> {
    let is_graph = path.file_name().is_some_and(|name| name == GRAPH);
    let directory = path.parent().filter(|_| is_graph);
    let entries = directory.and_then(|directory| fs::read_dir(directory).ok());
    let files = entries.into_iter().flatten().filter_map(Result::ok);
    let files = files.map(|entry| entry.path());
    let names = files.filter(|file| is_variant(file)).filter_map(|file| {
        let name = file.file_name()?.to_str()?;
        Some(name.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Returns the directory of the tokeniser of the graph at `path`: beside it, or above the directory `onnx` that it lies in.
pub(crate) fn directory_of(path: &Path) -> Option<PathBuf> {
    let directory = path.parent()?;
    if directory.join(TOKENIZER).is_file() {
        return Some(directory.to_path_buf());
    }
    let is_below = directory.file_name().is_some_and(|name| name == GRAPHS);
    let above = directory.parent().filter(|_| is_below)?;
    above.join(TOKENIZER).is_file().then(|| above.to_path_buf())
}

/// Returns the files beside the graph at `path` that change what is done with texts, whether or not they are there; none where
/// no tokeniser's is.
#[must_use]
pub fn files_beside(path: &Path) -> Vec<PathBuf> {
    let directory = directory_of(path);
    let files = directory.iter().flat_map(|directory| {
        let names = SETTINGS.iter().chain([&TOKENIZER]);
        names.map(|name| directory.join(name))
    });
    files.collect()
}

/// Returns how large the tokeniser's file beside a graph is.
pub(crate) fn tokenizer_bytes(path: &Path) -> u64 {
    let file = directory_of(path).map(|directory| directory.join(TOKENIZER));
    let metadata = file.and_then(|file| fs::metadata(file).ok());
    metadata.map_or(0, |metadata| metadata.len())
}

/// Makes a model of texts of a graph beside whose file a tokeniser's lies.
///
/// # Errors
/// Those of the engine, after the directory.
pub(crate) fn around(
    graph: Box<dyn Model>,
    path: &Path,
    engine: &dyn TextEngine,
) -> Result<Box<dyn Model>, LoadError> {
    let Some(directory) = directory_of(path) else {
        return Ok(graph);
    };
    let files = Files {
        directory: &directory,
    };
    engine
        .around(graph, &files)
        .map_err(|error| error.at(directory.display()))
}

struct Files<'d> {
    directory: &'d Path,
}

impl FilesBeside for Files<'_> {
    fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, LoadError> {
        let relative = Path::new(path);
        let mut parts = relative.components();
        if !parts.all(|part| matches!(part, Component::Normal(_))) {
            let message = format!("file {path:?} is outside the model's directory");
            return Err(LoadError::new(LoadErrorKind::Refused, message));
        }
        // Links are followed: caches of downloads are made of them.
        let file = self.directory.join(relative);
        let unreadable = |error: std::io::Error| {
            let message = format!("{path}: cannot read the file");
            LoadError::new(LoadErrorKind::Unreadable, message).with_source(error)
        };
        let metadata = match fs::metadata(&file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        // A pipe would never end.
        if !metadata.is_file() {
            let message = format!("{path}: no file");
            return Err(LoadError::new(LoadErrorKind::Refused, message));
        }
        if usize::try_from(metadata.len()).map_or(true, |size| size > bytes_max) {
            let message = format!(
                "{path}: {} bytes, at most {bytes_max} are read",
                metadata.len()
            );
            return Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
        }
        fs::read(&file).map(Some).map_err(unreadable)
    }
}
