//! How much a model's files are, before any of it is in memory.

use std::fs;
use std::path::Path;

use crate::{beside, mlflow, onnx};

/// Larger files are not looked into: those whose tensors lie elsewhere are small.
const LOOKED_INTO_MAX: u64 = 64 << 20;

/// Returns the bytes that loading the model file at `path` will read, as far as can be told: of the file, or of the one that
/// an `MLmodel` file names, of those that an ONNX file names, and of the tokeniser's beside it. What cannot be read counts
/// nothing; loading says why.
#[must_use]
pub fn bytes_to_read(path: &Path) -> u64 {
    let is_description = path
        .file_name()
        .is_some_and(|name| name == mlflow::FILE_NAME);
    let resolved = is_description.then(|| mlflow::resolve(path).ok()).flatten();
    let path = resolved.as_ref().map_or(path, |resolved| &resolved.path);
    let size = size_of(path);
    let is_onnx = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    if !is_onnx {
        return size;
    }
    let may_name_others = size <= LOOKED_INTO_MAX;
    let bytes = may_name_others.then(|| fs::read(path).ok()).flatten();
    let others = bytes.map(|bytes| onnx::external_files(&bytes, path.parent()));
    let others = others.unwrap_or_default();
    let others = others.iter().map(|path| size_of(path));
    let size = size.saturating_add(beside::tokenizer_bytes(path));
    others.fold(size, u64::saturating_add)
}

fn size_of(path: &Path) -> u64 {
    let metadata = fs::metadata(path).ok();
    let file = metadata.filter(fs::Metadata::is_file);
    file.map_or(0, |file| file.len())
}
