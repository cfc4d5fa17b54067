//! Finding the model file: KServe's rules for its scikit-learn, XGBoost and LightGBM servers.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use coracle_model::{LoadError, LoadErrorKind};

use crate::{kind, mlflow};

/// The endings of model files.
const EXTENSIONS: [&str; 6] = ["joblib", "pkl", "pickle", "bst", "ubj", "cbm"];

/// Endings that other files have too: such a file counts if it begins as a model does.
const SHARED_EXTENSIONS: [&str; 7] = ["json", "txt", "model", "deprecated", "xgb", "lgb", "lgbm"];

/// The endings, for messages.
const ENDINGS: &str = "*.joblib, *.pkl, *.pickle, *.bst, *.ubj, *.cbm, or a *.json, *.txt, *.model, *.xgb or *.lgb that holds a model, or an MLmodel";

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

/// Returns the model file at `path`: the file itself, or the one model file at the top of a directory; of an MLflow
/// model the `MLmodel` file.
///
/// # Errors
/// Kind `NotFound` if nothing is at `path` or no model file is in it, `Ambiguous` if there
/// are several, `Unreadable` if the directory cannot be listed.
pub fn locate(path: &Path) -> Result<PathBuf, LoadError> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let description = path.join(mlflow::FILE_NAME);
    if description.is_file() {
        return Ok(description);
    }
    let mut found = model_files(path)?;
    match (found.pop(), found.is_empty()) {
        (Some(file), true) => Ok(file),
        (Some(last), false) => {
            found.push(last);
            let names: Vec<String> = found.iter().map(|file| file_name(file)).collect();
            let message = format!(
                "{}: {} model files, exactly one is allowed: {}",
                path.display(),
                names.len(),
                names.join(", ")
            );
            Err(LoadError::new(LoadErrorKind::Ambiguous, message))
        }
        (None, _) => {
            let message = format!(
                "{}: no model file; looked for one {ENDINGS} at the top level",
                path.display()
            );
            Err(LoadError::new(LoadErrorKind::NotFound, message))
        }
    }
}

/// Returns the models at `path`: itself, or every sub-directory that holds a model file, by name.
///
/// # Errors
/// As [`locate`]; `NotFound` too if a directory holds neither a model file nor a model directory; `Ambiguous`
/// if a sub-directory holds several model files.
pub fn locate_all(path: &Path) -> Result<Vec<ModelFile>, LoadError> {
    let error = match locate(path) {
        Ok(file) => {
            let name = model_name(&file);
            return Ok(vec![ModelFile { name, path: file }]);
        }
        Err(error) if error.kind() == LoadErrorKind::NotFound && path.is_dir() => error,
        Err(error) => return Err(error),
    };
    let mut models = Vec::new();
    for directory in list(path)?.into_iter().filter(|entry| entry.is_dir()) {
        match locate(&directory) {
            Ok(file) => models.push(ModelFile {
                name: file_name(&directory),
                path: file,
            }),
            Err(error) if error.kind() == LoadErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if models.is_empty() {
        let message = format!("{error}, nor in any sub-directory");
        return Err(LoadError::new(LoadErrorKind::NotFound, message));
    }
    Ok(models)
}

/// Returns the name a model file is served under: its directory's, or its own stem where that has none.
fn model_name(file: &Path) -> String {
    let absolute = fs::canonicalize(file).unwrap_or_else(|_gone| file.to_path_buf());
    let directory = absolute.parent().and_then(Path::file_name);
    let name = directory.or_else(|| absolute.file_stem());
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
