//! ONNX files: gives the graph reader its kernels of trees, and the tensors that lie in other files.

mod trees;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_model::{GraphEngine, GraphFile, LoadError, LoadErrorKind, Model};
use coracle_pickle::Limits;

use crate::mlflow;

pub(crate) use coracle_onnx::is_onnx;

/// Loads a graph; tensors in other files may lie in `directory` and below it only.
///
/// A sound graph that our kernels do not run goes to `engine`.
///
/// # Errors
/// As [`coracle_onnx::load`]; kind `Refused` for a file outside of the directory, `NotFound` or `Unreadable` where it cannot be
/// read, and `Unsupported` where the model came without a directory.
pub(crate) fn load(
    bytes: &[u8],
    directory: Option<&Path>,
    engine: Option<&dyn GraphEngine>,
) -> Result<Box<dyn Model>, LoadError> {
    let external_bytes = AtomicUsize::new(0);
    let external = |location: &str, offset: u64, length: Option<u64>| {
        let directory = directory.ok_or_else(|| {
            let message = "external data, but the model did not come from a directory";
            LoadError::new(LoadErrorKind::Unsupported, message)
        })?;
        let part = read_part(directory, location, offset, length)?;
        external_bytes.fetch_add(part.len(), Ordering::Relaxed);
        Ok(part)
    };
    let refusal = match coracle_onnx::load(bytes, &external, &trees::Kernels) {
        Ok(model) => return Ok(Box::new(model)),
        Err(refusal) => refusal,
    };
    // Another engine is no reason to run a file that is not sound.
    let Some(engine) = engine.filter(|_| refusal.kind() == LoadErrorKind::Unsupported) else {
        return Err(refusal);
    };
    external_bytes.store(0, Ordering::Relaxed);
    let mut description = coracle_onnx::describe(bytes, &external)?;
    let why = ("not Coracle's own kernels", refusal.to_string());
    description.root.facts.insert(0, (why.0.to_owned(), why.1));
    let file = GraphFile {
        bytes,
        directory,
        external_bytes: external_bytes.load(Ordering::Relaxed),
        description,
    };
    engine
        .load(file)
        .map_err(|error| LoadError::new(error.kind(), format!("{refusal}; {error}")))
}

/// Reads a part of a file beside the model.
fn read_part(
    directory: &Path,
    location: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<Vec<u8>, LoadError> {
    let path = mlflow::inside(directory, location)?;
    let unreadable = |error: std::io::Error| {
        let message = format!("{}: cannot read the external data", path.display());
        LoadError::new(LoadErrorKind::Unreadable, message).with_source(error)
    };
    let metadata = fs::metadata(&path).map_err(unreadable)?;
    // A pipe would never end.
    if !metadata.is_file() {
        let message = format!("{}: external data is no file", path.display());
        return Err(LoadError::new(LoadErrorKind::Refused, message));
    }
    let left = metadata.len().checked_sub(offset);
    let wanted = length.or(left).filter(|wanted| left >= Some(*wanted));
    let limit = Limits::default().file_bytes_max;
    let wanted = wanted
        .and_then(|wanted| usize::try_from(wanted).ok())
        .filter(|&wanted| wanted <= limit);
    let wanted = wanted.ok_or_else(|| {
        let message = format!(
            "{}: {length:?} bytes from {offset} on, the file has {} (at most {limit} are read)",
            path.display(),
            metadata.len()
        );
        LoadError::new(LoadErrorKind::Malformed, message)
    })?;
    let mut file = File::open(&path).map_err(unreadable)?;
    file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
    let mut bytes = vec![0; wanted];
    file.read_exact(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
