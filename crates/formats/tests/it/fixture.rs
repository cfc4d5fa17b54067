//! The fixtures: files of fourteen releases with the answers of the release that wrote them.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};
use coracle_model::{LoadError, Model};
use coracle_tensor::{Tensor, Values};
use serde_json::Value;

/// The releases there must be fixtures of.
pub(crate) const RELEASES: [&str; 10] = [
    "1.0.2", "1.1.3", "1.2.2", "1.3.2", "1.4.2", "1.5.2", "1.6.1", "1.7.2", "1.8.0", "1.9.1",
];

/// Older releases that there must be fixtures of.
pub(crate) const OLDER_RELEASES: [&str; 4] = ["0.18.2", "0.20.4", "0.22.2.post1", "0.24.2"];

/// A fixture: a model file and what is known of it.
pub(crate) struct Fixture {
    pub(crate) path: PathBuf,
    pub(crate) document: Value,
}

/// Returns `fixtures/sklearn`.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sklearn")
}

/// Returns the fixtures in a directory of [`root`], by name.
pub(crate) fn read(directory: &str) -> Vec<Fixture> {
    let directory = root().join(directory);
    let mut documents: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    documents.sort();
    let fixtures = documents.into_iter().map(|path| {
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let file = document["file"].as_str().unwrap();
        Fixture {
            path: path.with_file_name(file),
            document,
        }
    });
    fixtures.collect()
}

impl Fixture {
    /// Returns the release and the file's name, for messages.
    pub(crate) fn label(&self) -> String {
        format!(
            "{} {} ({})",
            self.document["sklearn"].as_str().unwrap(),
            self.path.file_name().unwrap().to_string_lossy(),
            self.document["written_by"].as_str().unwrap()
        )
    }

    pub(crate) fn load(&self) -> Result<Box<dyn Model>, LoadError> {
        load(&self.path, &LoadOptions::default(), &SystemClock::new()).map(|loaded| loaded.model)
    }

    /// Returns the input rows as one table.
    pub(crate) fn table(&self) -> Tensor {
        let rows = self.document["x"].as_array().unwrap();
        let n_columns = rows[0].as_array().unwrap().len();
        let values: Vec<f64> = rows
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .map(number)
            .collect();
        Tensor::try_new(vec![rows.len(), n_columns], Values::F64(values.into())).unwrap()
    }
}

/// Reads a number: NaN is `null`, infinities are texts; truth values are 0 and 1.
pub(crate) fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Null => f64::NAN,
        Value::String(text) => text.parse().unwrap(),
        value => value.as_f64().unwrap(),
    }
}
