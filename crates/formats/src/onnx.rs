//! ONNX files: gives the graph reader its kernels of trees, and the tensors that lie in other files.

mod trees;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_model::{
    ExternalFile, GraphEngine, GraphFile, LoadError, LoadErrorKind, Model, needs_a_device,
};
use coracle_pickle::Limits;

use crate::mlflow;

pub(crate) use coracle_onnx::is_onnx;

/// Loads a graph; tensors in other files may lie in `directory` and below it only.
///
/// A sound graph that our kernels do not run goes to `engine`, and so does one that multiplies by many weights, where that is there or where
/// `settings` demand a device that our kernels do not run on.
///
/// # Errors
/// As [`coracle_onnx::load`]; kind `Refused` for a file outside of the directory, `NotFound` or `Unreadable` where it cannot be
/// read, and `Unsupported` where the model came without a directory.
pub(crate) fn load(
    bytes: &[u8],
    directory: Option<&Path>,
    engine: Option<&dyn GraphEngine>,
    settings: &BTreeMap<String, String>,
) -> Result<Box<dyn Model>, LoadError> {
    let external = |location: &str, offset: u64, length: Option<u64>| {
        let path = path_of(directory, location)?;
        read_part(&path, offset, length)
    };
    let refusal = match coracle_onnx::load(bytes, &external, &trees::Kernels) {
        Ok(model) => {
            let demanded = needs_a_device(settings);
            let is_there = |engine: &&dyn GraphEngine| demanded || engine.look().is_ok();
            let engine = engine.filter(|engine| is_dense(bytes) && is_there(engine));
            let why = || ("not Coracle's own kernels", FASTER.to_owned());
            let there =
                engine.map(|engine| load_on(bytes, directory, (engine, settings), Some(why())));
            return match there {
                Some(Ok(there)) => Ok(there),
                Some(Err(error)) if demanded => Err(error),
                // What the engine does not run, our kernels do.
                _ => Ok(Box::new(model)),
            };
        }
        Err(refusal) => refusal,
    };
    // Another engine is no reason to run a file that is not sound.
    let Some(engine) = engine.filter(|_| refusal.kind() == LoadErrorKind::Unsupported) else {
        return Err(refusal);
    };
    let why = ("not Coracle's own kernels", refusal.to_string());
    load_on(bytes, directory, (engine, settings), Some(why))
        .map_err(|error| LoadError::new(error.kind(), format!("{refusal}; {error}")))
}

/// A graph of neither trees nor other classical operators in a file of this many bytes is one of products of matrices.
const DENSE_FILE_BYTES: usize = 128 << 10;
const FASTER: &str = "which run the graph, too, but multiply by that many weights more slowly";

/// Tells whether a graph mostly multiplies by weights, which takes our kernels longer than an engine that is made for it.
fn is_dense(bytes: &[u8]) -> bool {
    coracle_onnx::survey(bytes).is_ok_and(|survey| {
        let is_large = bytes.len() >= DENSE_FILE_BYTES || !survey.locations.is_empty();
        survey.multiplies && !survey.is_classical && is_large
    })
}

/// Reads a graph, whose external data lie in `directory`, for an engine; `why` says why it is for that.
///
/// # Errors
/// Kinds `Malformed`, `LimitExceeded` and `Refused` for unsound files; those of the engine.
pub(crate) fn load_on(
    bytes: &[u8],
    directory: Option<&Path>,
    (engine, settings): (&dyn GraphEngine, &BTreeMap<String, String>),
    why: Option<(&str, String)>,
) -> Result<Box<dyn Model>, LoadError> {
    engine.look()?;
    let survey = coracle_onnx::survey(bytes)?;
    // What is looked at is what the engine gets, whatever becomes of the files.
    let locations = survey.locations.into_iter();
    let external = locations.map(|location| {
        let bytes = read_whole(&path_of(directory, &location)?)?;
        Ok(ExternalFile { location, bytes })
    });
    let external = external.collect::<Result<Vec<_>, LoadError>>()?;
    let mut description = coracle_onnx::describe(bytes, &|location, offset, length| {
        let file = external.iter().find(|file| file.location == location);
        let bytes = file.map(|file| file.bytes.as_ref()).unwrap_or_default();
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let part = range(size, offset, length).map_err(|error| error.at(location))?;
        Ok(bytes.get(part).unwrap_or_default().to_vec())
    })?;
    let why = why.map(|(name, value)| (name.to_owned(), value));
    description.root.facts.splice(0..0, why);
    let file = GraphFile {
        bytes,
        external,
        description,
        settings: settings.clone(),
    };
    engine.load(file)
}

/// Returns the files beside an ONNX file that it names, as far as they may be read.
pub(crate) fn external_files(bytes: &[u8], directory: Option<&Path>) -> Vec<PathBuf> {
    let locations = coracle_onnx::survey(bytes).map(|survey| survey.locations);
    let locations = locations.unwrap_or_default().into_iter();
    let paths = locations.filter_map(|location| path_of(directory, &location).ok());
    paths.collect()
}

/// Returns where a file of tensors lies.
fn path_of(directory: Option<&Path>, location: &str) -> Result<PathBuf, LoadError> {
    let directory = directory.ok_or_else(|| {
        let message = "external data, but the model did not come from a directory";
        LoadError::new(LoadErrorKind::Unsupported, message)
    })?;
    mlflow::inside(directory, location)
}

/// Opens a file of tensors, and returns its size.
fn open(path: &Path) -> Result<(File, u64), LoadError> {
    let unreadable = |error| unreadable(path, error);
    // A pipe would never end; it is not opened.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let message = format!("{}: external data is no file", path.display());
        return Err(LoadError::new(LoadErrorKind::Refused, message));
    }
    let file = File::open(path).map_err(unreadable)?;
    Ok((file, metadata.len()))
}

fn unreadable(path: &Path, error: std::io::Error) -> LoadError {
    let message = format!("{}: cannot read the external data", path.display());
    LoadError::new(LoadErrorKind::Unreadable, message).with_source(error)
}

/// Returns the place of `length` bytes (all, if `None`) from `offset` on in a file of `size` bytes.
fn range(size: u64, offset: u64, length: Option<u64>) -> Result<Range<usize>, LoadError> {
    let limit = Limits::default().file_bytes_max;
    let left = size.checked_sub(offset);
    let wanted = length.or(left).filter(|wanted| left >= Some(*wanted));
    let wanted =
        wanted.filter(|&wanted| usize::try_from(wanted).is_ok_and(|wanted| wanted <= limit));
    let place = wanted.and_then(|wanted| {
        let start = usize::try_from(offset).ok()?;
        let end = usize::try_from(offset.checked_add(wanted)?).ok()?;
        Some(start..end)
    });
    place.ok_or_else(|| {
        let length = length.map_or_else(|| "all".to_owned(), |length| length.to_string());
        let message = format!(
            "{length} bytes from {offset} on, the file has {size} (at most {limit} are read)"
        );
        LoadError::new(LoadErrorKind::Malformed, message)
    })
}

/// Reads a file of tensors.
fn read_whole(path: &Path) -> Result<Arc<[u8]>, LoadError> {
    let (mut file, size) = open(path)?;
    let part = range(size, 0, None).map_err(|error| error.at(path.display()))?;
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, part.len()).collect();
    if let Some(buffer) = Arc::get_mut(&mut bytes) {
        file.read_exact(buffer)
            .map_err(|error| unreadable(path, error))?;
    }
    Ok(bytes)
}

/// Reads a part of a file beside the model.
fn read_part(path: &Path, offset: u64, length: Option<u64>) -> Result<Vec<u8>, LoadError> {
    let (mut file, size) = open(path)?;
    let part = range(size, offset, length).map_err(|error| error.at(path.display()))?;
    let unreadable = |error| unreadable(path, error);
    file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
    let mut bytes = vec![0; part.len()];
    file.read_exact(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
