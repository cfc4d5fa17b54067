//! The tokenisers of `fixtures/text`, whole and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use coracle_model::FilesBeside;

use super::*;
use crate::settings::Settings;

/// A directory of fixtures in memory.
pub(crate) struct Files(pub(crate) BTreeMap<String, Vec<u8>>);

impl FilesBeside for Files {
    fn read(&self, path: &str, _bytes_max: usize) -> Result<Option<Vec<u8>>, LoadError> {
        Ok(self.0.get(path).cloned())
    }
}

/// Returns the directories of fixtures by name.
pub(crate) fn fixtures() -> BTreeMap<String, Files> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/text");
    let directories = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let directories = directories.filter(|path| path.is_dir()).map(|directory| {
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let mut files = BTreeMap::new();
        let mut ahead = vec![PathBuf::new()];
        while let Some(part) = ahead.pop() {
            for entry in fs::read_dir(directory.join(&part)).unwrap() {
                let relative = part.join(entry.unwrap().file_name());
                let path = directory.join(&relative);
                match path.is_dir() {
                    true => ahead.push(relative),
                    false => drop(files.insert(
                        relative.to_str().unwrap().to_owned(),
                        fs::read(path).unwrap(),
                    )),
                }
            }
        }
        (name, Files(files))
    });
    directories.collect()
}

#[test]
fn texts_have_the_tokens_that_transformers_gives_them() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 13);
    for (name, files) in fixtures {
        let bytes = &files.0["tokenizer.json"];
        let settings = Settings::read(&files, Head::read(bytes).unwrap()).unwrap();
        let tokens = Tokens::read(bytes, &settings.limits, settings.takes_pairs).unwrap();
        let expected: Value = serde_json::from_slice(&files.0["expected.json"]).unwrap();
        let texts = expected["texts"].as_array().unwrap();
        let mut n_cut = 0;
        let all_ids = expected["ids"].as_array().unwrap();
        for (index, (text, ids)) in texts.iter().zip(all_ids).enumerate() {
            let text = text.as_str().unwrap();
            let mut prepared = format!("{}{text}", settings.prefix);
            if settings.is_lowercased {
                prepared = prepared.to_lowercase();
            }
            let pair = expected["pairs"].get(index).and_then(Value::as_str);
            let found = match pair {
                Some(pair) => tokens.encode_pair(&prepared, pair, 0).unwrap(),
                None => tokens.encode(&prepared, 0).unwrap(),
            };
            let wanted: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
            assert_eq!(found.ids, wanted, "{name}: {text:?}");
            let types = match expected["type_ids"].get(index) {
                Some(types) => serde_json::from_value(types.clone()).unwrap(),
                None => vec![0; wanted.len()],
            };
            assert_eq!(found.type_ids, types, "{name}: {text:?}");
            n_cut += usize::from(Some(wanted.len()) == settings.limits.n_tokens_max);
        }
        assert!(n_cut > 0, "{name}: no text was cut short");
    }
}

#[test]
fn brackets_in_texts_are_not_counted() {
    let cases = [
        ("", 0),
        (r#"{"a": [1, {"b": 2}]}"#, 3),
        (r#"{"[[[\"[[": "{{"}"#, 1),
        (r#"[] [[]] "["#, 2),
        (r#"["\\", [[]]]"#, 3),
    ];
    for (text, wanted) in cases {
        assert_eq!(depth(text.as_bytes()), wanted, "{text}");
    }
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let error = Head::read(deep.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::LimitExceeded);
    let random = r#"{"model": {"type": "BPE", "dropout": 0.1}}"#;
    let error = Head::read(random.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Unsupported);
}
