//! What tells whether files have changed without reading them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use coracle_formats::{TritonConfig, files_beside};

/// The most files and directories that are looked at.
const FILES_MAX: usize = 1_000;
/// The same where nothing may be overlooked, before and after a model is loaded.
const ALL_FILES_MAX: usize = 100_000;
/// How far below a directory files are looked at: an MLflow model keeps its data one below.
const DEPTH_MAX: usize = 3;

/// The paths, sizes and times of a file, or of the files in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    files: Vec<(PathBuf, u64, Option<SystemTime>)>,
}

impl Fingerprint {
    /// Looks at the model at `place`, a file or a directory, and at what lies beside it: its configuration, and what is done with
    /// its texts.
    pub(crate) fn of_model(place: &Path) -> Self {
        Self::of_model_within(place, FILES_MAX)
    }

    fn of_model_within(place: &Path, n_max: usize) -> Self {
        let mut print = Self::within(place, n_max);
        let config = TritonConfig::path_beside(place);
        for beside in files_beside(place).iter().chain([&config]) {
            print.files.extend(Self::within(beside, n_max).files);
        }
        print
    }

    /// Looks at the model's file at `path` and at all that it may lead to: an `MLmodel` and a graph name other files in their
    /// directory. `None` where there are more files than are looked at.
    pub(crate) fn of_all(path: &Path) -> Option<Self> {
        Self::of_all_within(path, ALL_FILES_MAX)
    }

    fn of_all_within(path: &Path, n_max: usize) -> Option<Self> {
        let mut print = Self::of_model_within(path, n_max);
        let leads_on = path.file_name().is_some_and(|name| name == "MLmodel")
            || path
                .extension()
                .is_some_and(|extension| extension == "onnx");
        if let Some(directory) = path.parent().filter(|_| leads_on) {
            print.files.extend(Self::within(directory, n_max).files);
        }
        (print.files.len() < n_max).then_some(print)
    }

    /// Looks at `place`; what cannot be looked at is as if it were not there.
    #[cfg(test)]
    fn of(place: &Path) -> Self {
        Self::within(place, FILES_MAX)
    }

    /// Returns what no more than `n_max` files and directories of a place look like.
    fn within(place: &Path, n_max: usize) -> Self {
        let mut files = Vec::new();
        let mut ahead = vec![(place.to_path_buf(), 0)];
        while let Some((path, depth)) = ahead.pop()
            && files.len() < n_max
        {
            // Through links, as the model is read.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            if metadata.is_dir() && depth < DEPTH_MAX {
                let entries = fs::read_dir(&path).into_iter().flatten();
                let entries = entries.filter_map(Result::ok);
                ahead.extend(entries.map(|entry| (entry.path(), depth + 1)));
            }
            files.push((path, metadata.len(), metadata.modified().ok()));
        }
        files.sort();
        Self { files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_file_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut seen = vec![Fingerprint::of(directory.path())];
        let mut look = |what: &str| {
            let print = Fingerprint::of(directory.path());
            assert_eq!(print, Fingerprint::of(directory.path()));
            assert!(!seen.contains(&print), "{what}");
            seen.push(print);
        };
        fs::write(path("MLmodel"), b"1").unwrap();
        look("a new file");
        fs::create_dir(path("data")).unwrap();
        look("a new directory");
        fs::write(path("data/model"), b"1").unwrap();
        look("a file below");
        fs::write(path("data/model"), b"12").unwrap();
        look("a file below that grows");
        let file = fs::File::options()
            .append(true)
            .open(path("MLmodel"))
            .unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        look("a file of the same size");
        fs::remove_file(path("data/model")).unwrap();
        look("a file that is gone");
        // What is beside a graph is part of its model.
        let graph = path("model.onnx");
        let before = Fingerprint::of_model(&graph);
        fs::write(path("tokenizer.json"), b"{}").unwrap();
        let with_tokens = Fingerprint::of_model(&graph);
        fs::write(path("config.json"), b"{}").unwrap();
        assert!(before != with_tokens && with_tokens != Fingerprint::of_model(&graph));
        assert_eq!(Fingerprint::of(&path("nowhere")), Fingerprint::default());
        // What a file leads to lies beside it.
        for leading in ["model.onnx", "MLmodel"] {
            fs::write(path(leading), "x").unwrap();
            let before = Fingerprint::of_all(&path(leading)).unwrap();
            assert_eq!(Fingerprint::of_all(&path(leading)).unwrap(), before);
            fs::write(path(&format!("{leading}.weights")), "12").unwrap();
            assert_ne!(Fingerprint::of_all(&path(leading)).unwrap(), before);
        }
        assert_ne!(Fingerprint::of(&path("MLmodel")), Fingerprint::default());
    }

    #[test]
    fn changes_among_many_files_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("model.onnx"), "x").unwrap();
        for file in 0..1_500 {
            fs::write(path(&format!("weights.{file}")), "1").unwrap();
        }
        let print = || Fingerprint::of_all(&path("model.onnx")).unwrap();
        let before = print();
        for file in [0, 700, 1_499] {
            let last = print();
            fs::write(path(&format!("weights.{file}")), "12").unwrap();
            assert_ne!(print(), last, "{file}");
        }
        assert_ne!(print(), before);
        assert!(Fingerprint::of_all_within(&path("model.onnx"), 1_000).is_none());
    }
}
