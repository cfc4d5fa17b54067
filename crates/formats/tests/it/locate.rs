//! Finding model files.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_formats::{ModelFile, ModelVersions, locate, locate_all, locate_versions, variants};
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
        error.to_string().ends_with(
            "2 model files, exactly one is allowed (or name the one to serve): a.pickle, b.joblib"
        ),
        "{error}"
    );
    assert!(locate_all(&scratch.0).is_err());
}

#[test]
fn a_graph_goes_before_its_variants() {
    let files = [
        "optimum/model.onnx",
        "optimum/model_quantized.onnx",
        "optimum/model.onnx_data",
        "js/tokenizer.json",
        "js/onnx/model.onnx",
        "js/onnx/model_fp16.onnx",
        "js/onnx/model_q4.onnx",
        "two/model.onnx",
        "two/model_O2.onnx",
        "two/other.onnx",
        "none/model_fp16.onnx",
        "none/model_q4.onnx",
        "parts/decoder_model.onnx",
        "parts/encoder_model.onnx",
    ];
    let scratch = Scratch::new("variants", &files);
    for (place, variants_of_it) in [
        ("optimum", vec!["model_quantized.onnx"]),
        ("js/onnx", vec!["model_fp16.onnx", "model_q4.onnx"]),
    ] {
        let graph = scratch.0.join(place).join("model.onnx");
        assert_eq!(locate(&scratch.0.join(place)).unwrap(), graph);
        assert_eq!(variants(&graph), variants_of_it);
        // Who names another one gets it.
        let named = scratch.0.join(place).join(variants_of_it[0]);
        assert_eq!(locate(&named).unwrap(), named);
        assert!(variants(&named).is_empty());
    }
    let graph = scratch.0.join("js/onnx/model.onnx");
    assert_eq!(locate(&scratch.0.join("js")).unwrap(), graph);
    for place in ["two", "none", "parts"] {
        let error = locate(&scratch.0.join(place)).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Ambiguous, "{place}: {error}");
    }
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
fn a_saved_model_is_called_by_its_name() {
    let files = [
        "mnist/1/saved_model.pb",
        "exported/saved_model.pb",
        "exported/model.onnx",
    ];
    let scratch = Scratch::new("saved", &files);
    let error = locate(&scratch.0.join("mnist")).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::NotFound);
    let message = error.to_string();
    assert!(
        message.contains("mnist/1: a TensorFlow SavedModel") && message.contains("tf2onnx"),
        "{message}"
    );
    let exported = scratch.0.join("exported");
    assert_eq!(locate(&exported).unwrap(), exported.join("model.onnx"));
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
        &[
            "wine/m.pkl",
            "iris/model.joblib",
            "docs/readme.md",
            ".old/m.pkl",
        ],
    );
    let expected =
        [("iris", "iris/model.joblib"), ("wine", "wine/m.pkl")].map(|(name, path)| ModelFile {
            name: name.to_owned(),
            path: scratch.0.join(path),
        });
    assert_eq!(locate_all(&scratch.0).unwrap(), expected);
}

#[test]
fn numbered_directories_are_the_versions_of_a_model() {
    let files = [
        "iris/2/model.pkl",
        "iris/10/model.pkl",
        "iris/0000011/readme.md",
        "iris/v3/model.pkl",
        "iris/99999999999999999999/model.pkl",
        "iris/config.pbtxt",
        "wine/m.pkl",
        "docs/readme.md",
        ".coming/1/model.pkl",
    ];
    let scratch = Scratch::new("versions", &files);
    let iris = scratch.0.join("iris");
    let model = |name: &str, versions: &[(u64, &str)]| ModelVersions {
        name: name.to_owned(),
        versions: versions
            .iter()
            .map(|(version, path)| (*version, scratch.0.join(path)))
            .collect(),
    };
    let numbered = [(2, "iris/2"), (10, "iris/10"), (11, "iris/0000011")];
    let expected = model("iris", &numbered);
    let (all, errors) = locate_versions(&scratch.0).unwrap();
    assert!(errors.is_empty());
    assert_eq!(all, [expected.clone(), model("wine", &[(1, "wine/m.pkl")])]);
    assert_eq!(locate_versions(&iris).unwrap().0, [expected]);
    // The newest one is what a directory is, loadable or not.
    let error = locate(&iris).unwrap_err();
    assert!(
        error.to_string().contains("0000011: no model file"),
        "{error}"
    );
    fs::remove_dir_all(iris.join("0000011")).unwrap();
    assert_eq!(locate(&iris).unwrap(), iris.join("10/model.pkl"));
    let all = locate_all(&iris).unwrap();
    assert_eq!((all.len(), all[0].name.as_str()), (1, "iris"));
    // A file beside them is the model.
    fs::write(iris.join("model.joblib"), b"x").unwrap();
    let only = model("iris", &[(1, "iris/model.joblib")]);
    assert_eq!(locate_versions(&iris).unwrap().0, [only]);
}

#[test]
fn a_version_that_is_there_twice_is_an_error() {
    let files = ["m/1/model.pkl", "m/01/model.pkl", "other/m.pkl"];
    let scratch = Scratch::new("twice", &files);
    let (models, errors) = locate_versions(&scratch.0).unwrap();
    assert_eq!((models.len(), models[0].name.as_str()), (1, "other"));
    let error = &errors[0];
    assert_eq!(error.kind(), LoadErrorKind::Ambiguous);
    let told = error.to_string();
    assert!(
        told.ends_with("version 1 is there twice: 01 and 1"),
        "{told}"
    );
}

#[test]
fn a_graph_below_its_tokeniser_is_the_directorys_model() {
    let files = [
        "minilm/tokenizer.json",
        "minilm/config.json",
        "minilm/model.safetensors",
        "minilm/onnx/model.onnx",
        "minilm/onnx/model_quantized.onnx",
        "numbered/7/tokenizer.json",
        "numbered/7/onnx/model.onnx",
        "tokens/onnx/model.onnx",
        "own/tokenizer.json",
        "own/model.onnx",
        "own/onnx/model.onnx",
        "pictures/config.json",
        "pictures/preprocessor_config.json",
        "pictures/onnx/model.onnx",
        "pictures/onnx/model_uint8.onnx",
    ];
    let scratch = Scratch::new("texts", &files);
    let cases = [
        ("pictures", "pictures/onnx/model.onnx"),
        ("minilm", "minilm/onnx/model.onnx"),
        ("numbered", "numbered/7/onnx/model.onnx"),
        ("own", "own/model.onnx"),
    ];
    for (directory, file) in cases {
        let found = locate(&scratch.0.join(directory)).unwrap();
        assert_eq!(found, scratch.0.join(file));
    }
    let (models, errors) = locate_versions(&scratch.0).unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["minilm", "numbered", "own", "pictures"]);
    let error = locate(&scratch.0.join("tokens")).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::NotFound);
    let beside = |file: &str| coracle_formats::files_beside(&scratch.0.join(file));
    let tokenizer = scratch.0.join("minilm/tokenizer.json");
    assert!(beside("minilm/onnx/model.onnx").contains(&tokenizer));
    assert!(beside("tokens/onnx/model.onnx").is_empty());
}
