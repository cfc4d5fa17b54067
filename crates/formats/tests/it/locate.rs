//! Finding model files.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_formats::{ModelFile, locate, locate_all};
use coracle_model::LoadErrorKind;

/// A directory that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, files: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(fs::remove_dir_all(&root));
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        fs::create_dir_all(&root).unwrap();
        Self(root)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn one_model_file_at_the_top_is_the_model() {
    let scratch = Scratch::new(
        "one",
        &[
            "iris/model.pkl",
            "iris/notes.txt",
            "iris/deeper/other.joblib",
        ],
    );
    let directory = scratch.0.join("iris");
    assert_eq!(locate(&directory).unwrap(), directory.join("model.pkl"));
    let file = directory.join("notes.txt");
    assert_eq!(locate(&file).unwrap(), file, "a file is taken at its word");
    let all = locate_all(&directory.join("model.pkl")).unwrap();
    assert_eq!(all[0].name, "iris");
}

#[test]
fn two_model_files_are_an_error_that_lists_them() {
    let scratch = Scratch::new("two", &["b.joblib", "a.pickle"]);
    let error = locate(&scratch.0).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Ambiguous);
    assert!(
        error
            .to_string()
            .ends_with("2 model files, exactly one is allowed: a.pickle, b.joblib"),
        "{error}"
    );
    assert!(locate_all(&scratch.0).is_err());
}

#[test]
fn nothing_found_says_what_was_looked_for() {
    let scratch = Scratch::new("none", &["readme.md"]);
    for path in [scratch.0.clone(), scratch.0.join("missing")] {
        assert_eq!(locate(&path).unwrap_err().kind(), LoadErrorKind::NotFound);
        assert_eq!(
            locate_all(&path).unwrap_err().kind(),
            LoadErrorKind::NotFound
        );
    }
    let message = locate_all(&scratch.0).unwrap_err().to_string();
    assert!(message.contains("*.joblib, *.pkl, *.pickle"), "{message}");
}

#[test]
fn a_json_file_counts_if_it_holds_a_model() {
    let scratch = Scratch::new("json", &["model-settings.json", "input_example.json"]);
    assert_eq!(
        locate(&scratch.0).unwrap_err().kind(),
        LoadErrorKind::NotFound
    );
    let model = scratch.0.join("model.json");
    fs::write(&model, b"{ \"learner\": {}}").unwrap();
    assert_eq!(locate(&scratch.0).unwrap(), model);
    fs::write(scratch.0.join("model.bst"), b"x").unwrap();
    assert_eq!(
        locate(&scratch.0).unwrap_err().kind(),
        LoadErrorKind::Ambiguous
    );
}

#[test]
fn a_directory_of_model_directories_gives_each_by_name() {
    let scratch = Scratch::new(
        "many",
        &["wine/m.pkl", "iris/model.joblib", "docs/readme.md"],
    );
    let expected =
        [("iris", "iris/model.joblib"), ("wine", "wine/m.pkl")].map(|(name, path)| ModelFile {
            name: name.to_owned(),
            path: scratch.0.join(path),
        });
    assert_eq!(locate_all(&scratch.0).unwrap(), expected);
}
