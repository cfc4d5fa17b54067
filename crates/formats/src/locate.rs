//! Finding the model file: KServe's rules for its scikit-learn, XGBoost and LightGBM servers; and the versions of a model in
//! numbered directories, as TensorFlow Serving and Triton have them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use coracle_model::{LoadError, LoadErrorKind};

use crate::{beside, kind, mlflow};

/// The endings of model files.
const EXTENSIONS: [&str; 8] = [
    "joblib", "pkl", "pickle", "skops", "bst", "ubj", "cbm", "onnx",
];

/// Endings that other files have too: such a file counts if it begins as a model does.
const SHARED_EXTENSIONS: [&str; 7] = ["json", "txt", "model", "deprecated", "xgb", "lgb", "lgbm"];

/// The endings, for messages.
const ENDINGS: &str = "*.joblib, *.pkl, *.pickle, *.skops, *.bst, *.ubj, *.cbm, *.onnx, or a *.json, *.txt, *.model, *.xgb or *.lgb that holds a model, or an MLmodel";

/// What a directory of TensorFlow's is known by.
const SAVED_MODEL: &str = "saved_model.pb";

/// How much of a file is looked at to tell what it is.
const HEAD_BYTES: u64 = 4096;

/// A model's name and file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// The name: of the directory that holds the file.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// A model's name and where its versions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelVersions {
    /// The name: of the directory that holds the file, or the numbered directories.
    pub name: String,
    /// The places of its versions, for [`locate`]: numbered directories, or one file as version 1. What is in a numbered
    /// directory is not looked at yet.
    pub versions: BTreeMap<u64, PathBuf>,
}

/// The version of a model that has no numbered directories.
const VERSION_ONLY: u64 = 1;

/// Returns the model file at `path`: the file itself, or the one model file at the top of a directory, or `model.onnx` where all
/// others are variants of it (`model_quantized.onnx`); of an MLflow
/// model the `MLmodel` file; of a directory with a tokeniser and no model file `onnx/model.onnx`; of a directory with numbered
/// directories that of the newest one.
///
/// # Errors
/// Kind `NotFound` if nothing is at `path` or no model file is in it, `Ambiguous` if there
/// are several, `Unreadable` if the directory cannot be listed.
pub fn locate(path: &Path) -> Result<PathBuf, LoadError> {
    let error = match locate_unnumbered(path) {
        Err(error) if error.kind() == LoadErrorKind::NotFound && path.is_dir() => error,
        found => return found,
    };
    match numbered(path)?.last_key_value() {
        Some((_, newest)) => locate_unnumbered(newest),
        None => Err(error),
    }
}

/// Returns the versions of the models at `path`: of itself, or of every sub-directory that holds a model file or numbered
/// directories and is not hidden, by name; and what is wrong with other sub-directories.
///
/// # Errors
/// As [`locate`] and `NotFound` if a directory holds neither of these; but what is in numbered directories is not looked at.
pub fn locate_versions(path: &Path) -> Result<(Vec<ModelVersions>, Vec<LoadError>), LoadError> {
    let (models, errors) = scan(path, versions_at)?;
    let models = models.into_iter();
    let models = models.map(|(name, versions)| ModelVersions { name, versions });
    Ok((models.collect(), errors))
}

/// Returns the places of the versions of the model at `path`, as in [`ModelVersions`].
///
/// # Errors
/// As [`locate`], but what is in numbered directories is not looked at.
pub fn versions_at(path: &Path) -> Result<BTreeMap<u64, PathBuf>, LoadError> {
    match locate_unnumbered(path) {
        Ok(file) => Ok(BTreeMap::from([(VERSION_ONLY, file)])),
        Err(error) if error.kind() == LoadErrorKind::NotFound && path.is_dir() => {
            let versions = numbered(path)?;
            if versions.is_empty() {
                Err(error)
            } else {
                Ok(versions)
            }
        }
        Err(error) => Err(error),
    }
}

/// Returns the numbered directories in a directory, by their numbers. A name of digits is a number, zeros before it too.
fn numbered(directory: &Path) -> Result<BTreeMap<u64, PathBuf>, LoadError> {
    let mut versions = BTreeMap::new();
    for path in list(directory)?.into_iter().filter(|path| path.is_dir()) {
        let Some(version) = version_number(&file_name(&path)) else {
            continue;
        };
        if let Some(other) = versions.insert(version, path.clone()) {
            let message = format!(
                "{}: version {version} is there twice: {} and {}",
                directory.display(),
                file_name(&other),
                file_name(&path)
            );
            return Err(LoadError::new(LoadErrorKind::Ambiguous, message));
        }
    }
    Ok(versions)
}

/// Returns the version whose directory has this name; the wire has room for 63 bits.
fn version_number(name: &str) -> Option<u64> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let number = name.parse().ok().filter(|_| is_number)?;
    i64::try_from(number).is_ok().then_some(number)
}

fn locate_unnumbered(path: &Path) -> Result<PathBuf, LoadError> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let description = path.join(mlflow::FILE_NAME);
    if description.is_file() {
        return Ok(description);
    }
    let mut found = model_files(path)?;
    let is_saved_model = path.join(SAVED_MODEL).is_file();
    match (found.pop(), found.is_empty()) {
        (Some(file), true) => Ok(file),
        (Some(last), false) => {
            found.push(last);
            if let Some(graph) = beside::graph_among(&found) {
                return Ok(graph.clone());
            }
            let names: Vec<String> = found.iter().map(|file| file_name(file)).collect();
            let message = format!(
                "{}: {} model files, exactly one is allowed (or name the one to serve): {}",
                path.display(),
                names.len(),
                names.join(", ")
            );
            Err(LoadError::new(LoadErrorKind::Ambiguous, message))
        }
        (None, _) => beside::graph_below(path).ok_or_else(|| {
            let path = path.display();
            let message = match is_saved_model {
                true => format!(
                    "{path}: a TensorFlow SavedModel, which is not read here; its export to ONNX is (python -m tf2onnx.convert --saved-model DIRECTORY --output model.onnx)"
                ),
                false => format!(
                    "{path}: no model file; looked for one {ENDINGS} at the top level, and for onnx/model.onnx below a tokenizer.json or config.json"
                ),
            };
            LoadError::new(LoadErrorKind::NotFound, message)
        }),
    }
}

/// Returns the models at `path`: itself, or every sub-directory that holds a model file and is not hidden, by name.
///
/// # Errors
/// As [`locate`]; `NotFound` too if a directory holds neither a model file nor a model directory; `Ambiguous`
/// if a sub-directory holds several model files.
pub fn locate_all(path: &Path) -> Result<Vec<ModelFile>, LoadError> {
    let models = all(path, locate)?.into_iter();
    Ok(models
        .map(|(name, path)| ModelFile { name, path })
        .collect())
}

/// Returns what `find` finds at `path`, or in its sub-directories, by name.
fn all<T>(
    path: &Path,
    find: impl Fn(&Path) -> Result<T, LoadError>,
) -> Result<Vec<(String, T)>, LoadError> {
    let (models, mut errors) = scan(path, find)?;
    if errors.is_empty() {
        Ok(models)
    } else {
        Err(errors.swap_remove(0))
    }
}

/// Models by name, and what is wrong with other directories beside theirs.
type Scanned<T> = (Vec<(String, T)>, Vec<LoadError>);

fn scan<T>(
    path: &Path,
    find: impl Fn(&Path) -> Result<T, LoadError>,
) -> Result<Scanned<T>, LoadError> {
    let error = match find(path) {
        Ok(found) => return Ok((vec![(model_name(path), found)], Vec::new())),
        Err(error) if error.kind() == LoadErrorKind::NotFound && path.is_dir() => error,
        Err(error) => return Err(error),
    };
    let (mut models, mut errors) = (Vec::new(), Vec::new());
    // What is being copied is often kept in a hidden directory, as Kubernetes does.
    let is_shown = |entry: &PathBuf| entry.is_dir() && !file_name(entry).starts_with('.');
    for directory in list(path)?.into_iter().filter(is_shown) {
        match find(&directory) {
            Ok(found) => models.push((file_name(&directory), found)),
            Err(error) if error.kind() == LoadErrorKind::NotFound => {}
            Err(error) => errors.push(error),
        }
    }
    if models.is_empty() && errors.is_empty() {
        let message = format!("{error}, nor in any sub-directory");
        return Err(LoadError::new(LoadErrorKind::NotFound, message));
    }
    Ok((models, errors))
}

/// Returns the name that the model at `path` is served under: the directory's, or the file's own stem where that has none.
fn model_name(path: &Path) -> String {
    let absolute = fs::canonicalize(path).unwrap_or_else(|_gone| path.to_path_buf());
    let directory = match absolute.is_dir() {
        true => Some(absolute.as_path()),
        false => absolute.parent(),
    };
    let name = directory.and_then(Path::file_name);
    let name = name.or_else(|| absolute.file_stem());
    name.map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn model_files(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    if !directory.exists() {
        let message = format!("{}: no such file or directory", directory.display());
        return Err(LoadError::new(LoadErrorKind::NotFound, message));
    }
    let is_model = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| {
            EXTENSIONS.contains(&extension)
                || SHARED_EXTENSIONS.contains(&extension) && begins_as_model(path)
        }) && path.is_file()
    };
    Ok(list(directory)?.into_iter().filter(is_model).collect())
}

fn begins_as_model(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.is_ok() && kind::begins_as_model(&head)
}

/// Lists a directory, sorted by name.
fn list(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |error: std::io::Error| {
        let message = format!("{}: cannot list the directory", directory.display());
        LoadError::new(LoadErrorKind::Unreadable, message).with_source(error)
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
