//! MLflow model directories: `MLmodel` says which flavours there are, and where each keeps its file.
//!
//! The blocks `flavors`, `signature` and `saved_input_example_info` are read, by a reader of the YAML that MLflow writes:
//! mappings by indentation, plain or quoted scalars. The file of the model is then read as any other, and never from outside
//! the directory; `signature` says what names and types change about it.

mod block;
mod cast;
mod signature;

use std::fs;
use std::path::{Component, Path, PathBuf};

use coracle_model::{LoadError, LoadErrorKind, Method};

use crate::document::quoted;

pub(crate) use signature::Signature;

/// The file that makes a directory an MLflow model.
pub(crate) const FILE_NAME: &str = "MLmodel";

/// The most bytes of an `MLmodel` file: signatures of wide tables are long.
const BYTES_MAX: u64 = 64 << 20;

/// The flavours that are served, and the keys that name their file, most specific first.
const SERVED: [(&str, &[&str]); 5] = [
    ("sklearn", &["pickled_model", "model_path"]),
    ("xgboost", &["data"]),
    ("lightgbm", &["data"]),
    ("catboost", &["data"]),
    ("onnx", &["data"]),
];

/// Where a model's file is, and what reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) path: PathBuf,
    pub(crate) flavour: &'static str,
    /// The class that answers, where the flavour names one, such as `xgboost.sklearn.XGBClassifier`.
    pub(crate) class: Option<String>,
    /// The name of the method that MLflow asks of an estimator (`pyfunc_predict_fn`), where that is another than `predict`.
    pub(crate) method: Option<String>,
    /// The JSON of what the model's inputs are, where it has a signature.
    pub(crate) inputs: Option<String>,
}

/// A flavour with its keys.
#[derive(Debug, PartialEq, Eq)]
struct Flavour<'t> {
    name: &'t str,
    entries: Vec<(&'t str, String)>,
}

impl Flavour<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self.entries.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads an `MLmodel` file and finds the model beside it.
///
/// # Errors
/// Kind `Unsupported` if no flavour is served, naming those there are; `Refused` if the file lies outside the
/// directory; `Malformed` if the flavour names none; `NotFound` or `Unreadable` if it cannot be read.
pub(crate) fn resolve(path: &Path) -> Result<Resolved, LoadError> {
    let text = read(path)?;
    let flavours = flavours(&text);
    let (flavour, class, file) = choose(&flavours).map_err(|error| error.at(path.display()))?;
    let python = flavours.iter().find(|f| f.name == "python_function");
    let method = python.and_then(|python| python.get("predict_fn"));
    let method = method.filter(|name| flavour == "sklearn" && *name != Method::Predict.as_str());
    let directory = path.parent().unwrap_or(Path::new("."));
    let file = inside(directory, &file).map_err(|error| error.at(path.display()))?;
    Ok(Resolved {
        path: file,
        flavour,
        class,
        method: method.map(str::to_owned),
        inputs: block::entry(&text, "signature", "inputs"),
    })
}

/// Returns the file that holds the example of an input that was saved with the model at `path`, if that is one of MLflow's
/// and has one.
///
/// # Errors
/// As those of loading the model, and kind `Unsupported` for examples that are sparse matrices.
pub fn mlflow_example(path: &Path) -> Result<Option<PathBuf>, LoadError> {
    const BLOCK: &str = "saved_input_example_info";
    if path.file_name().is_none_or(|name| name != FILE_NAME) {
        return Ok(None);
    }
    let text = read(path)?;
    let Some(file) = block::entry(&text, BLOCK, "artifact_path") else {
        return Ok(None);
    };
    let kind = block::entry(&text, BLOCK, "type").unwrap_or_default();
    if kind.starts_with("sparse_matrix") {
        let message = format!("examples of type {} are not supported", quoted(&kind));
        return Err(LoadError::new(LoadErrorKind::Unsupported, message).at(path.display()));
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    let file = inside(directory, &file).map_err(|error| error.at(path.display()))?;
    Ok(Some(file))
}

/// Reads an `MLmodel` file.
fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => LoadErrorKind::NotFound,
            _ => LoadErrorKind::Unreadable,
        };
        LoadError::new(kind, format!("{}: cannot read the file", path.display())).with_source(error)
    };
    if fs::metadata(path).map_err(unreadable)?.len() > BYTES_MAX {
        let message = format!("{}: larger than {BYTES_MAX} bytes", path.display());
        return Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
    }
    fs::read_to_string(path).map_err(unreadable)
}

/// Chooses the flavour to serve, with its class and the file it names.
fn choose(flavours: &[Flavour<'_>]) -> Result<(&'static str, Option<String>, String), LoadError> {
    for (name, keys) in SERVED {
        let Some(flavour) = flavours.iter().find(|flavour| flavour.name == name) else {
            continue;
        };
        let file = keys.iter().find_map(|key| flavour.get(key));
        let file = file.ok_or_else(|| {
            let message = format!(
                "flavour '{name}' names no file ('{}' is missing)",
                keys.join("' or '")
            );
            LoadError::new(LoadErrorKind::Malformed, message)
        })?;
        let class = ["model_class", "model_type"].iter();
        let class = class.filter_map(|key| flavour.get(key)).next();
        let class = class.map(str::to_owned);
        return Ok((name, class, file.to_owned()));
    }
    let names: Vec<String> = flavours
        .iter()
        .map(|flavour| quoted(flavour.name))
        .collect();
    let message = match names.as_slice() {
        [] => "no flavours are listed".to_owned(),
        names => format!(
            "flavours {} are not supported; sklearn, xgboost, lightgbm, catboost and onnx are",
            names.join(", ")
        ),
    };
    Err(LoadError::new(LoadErrorKind::Unsupported, message))
}

/// Returns the method that `pyfunc` asks, by its name.
///
/// # Errors
/// Kind `Unsupported` for names of no method that is served.
pub(crate) fn method(name: &str) -> Result<Method, LoadError> {
    let mut known = Method::ALL.into_iter();
    known.find(|method| method.as_str() == name).ok_or_else(|| {
        let known = Method::ALL.map(Method::as_str).join(", ");
        let name = quoted(name);
        let message = format!("'predict_fn' is {name}, which is not supported; {known} are");
        LoadError::new(LoadErrorKind::Unsupported, message)
    })
}

/// Returns the path of `file` in `directory`, which it may not leave, links included.
pub(crate) fn inside(directory: &Path, file: &str) -> Result<PathBuf, LoadError> {
    let escapes = || {
        let message = format!("file {} is outside the model's directory", quoted(file));
        LoadError::new(LoadErrorKind::Refused, message)
    };
    let relative = Path::new(file);
    let mut components = relative.components();
    if !components.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(escapes());
    }
    let path = directory.join(relative);
    let not_found = |error: std::io::Error| {
        let message = format!("file {} cannot be found", quoted(file));
        LoadError::new(LoadErrorKind::NotFound, message).with_source(error)
    };
    let real = fs::canonicalize(&path).map_err(not_found)?;
    let real_directory = fs::canonicalize(directory).map_err(not_found)?;
    if !real.starts_with(real_directory) {
        return Err(escapes());
    }
    Ok(path)
}

/// Reads the `flavors` block.
fn flavours(text: &str) -> Vec<Flavour<'_>> {
    let mut lines = text
        .lines()
        .skip_while(|line| line.trim_end() != "flavors:");
    lines.next();
    let mut found: Vec<Flavour<'_>> = Vec::new();
    let mut outer = None;
    let mut inner = None;
    for line in lines {
        let content = line.trim_start_matches(' ');
        let indent = line.len().saturating_sub(content.len());
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if indent == 0 {
            break;
        }
        let Some((key, value)) = content.split_once(':') else {
            continue;
        };
        if indent == *outer.get_or_insert(indent) {
            inner = None;
            found.push(Flavour {
                name: key,
                entries: Vec::new(),
            });
        } else if let Some(flavour) = found.last_mut()
            && indent == *inner.get_or_insert(indent)
        {
            let value = scalar(value.trim());
            flavour.entries.extend(value.map(|value| (key, value)));
        }
    }
    found
}

/// Reads a plain or quoted scalar; `None` for nothing, `null`, and anything that is no scalar.
fn scalar(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    match quote {
        '\'' => Some(
            text.strip_prefix('\'')?
                .strip_suffix('\'')?
                .replace("''", "'"),
        ),
        '"' => unescaped(text.strip_prefix('"')?.strip_suffix('"')?),
        '{' | '[' | '&' | '*' | '!' | '|' | '>' => None,
        _ if text == "null" || text == "~" => None,
        _ => Some(text.to_owned()),
    }
}

/// Returns what stands between double quotes; `None` for escapes that MLflow does not write.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        let n_digits = match characters.next()? {
            same @ ('"' | '\\' | '/' | ' ') => {
                plain.push(same);
                continue;
            }
            'n' => {
                plain.push('\n');
                continue;
            }
            't' => {
                plain.push('\t');
                continue;
            }
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let digits: String = characters.by_ref().take(n_digits).collect();
        plain.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "artifact_path: model
flavors:
  python_function:
    data: model.ubj
    env:
      data: conda.yaml
    loader_module: mlflow.xgboost
  xgboost:
    code: null
    data: 'mo''del.ubj'
    model_class: xgboost.sklearn.XGBClassifier
signature:
  inputs: '[]'
";

    #[test]
    fn a_served_flavour_is_chosen() {
        let flavours = flavours(TEXT);
        let class = Some("xgboost.sklearn.XGBClassifier".to_owned());
        let expected = ("xgboost", class, "mo'del.ubj".to_owned());
        assert_eq!(choose(&flavours).unwrap(), expected);
    }

    #[test]
    fn what_is_not_served_is_named() {
        let cases = [
            (
                "flavors:\n  python_function:\n    a: b\n  keras:\n    data: model\n",
                "flavours 'python_function', 'keras' are not supported; sklearn, xgboost, lightgbm, catboost and onnx are",
            ),
            (
                "flavors:\n  xgboost:\n    code: x\n",
                "flavour 'xgboost' names no file ('data' is missing)",
            ),
            ("time: 3\n", "no flavours are listed"),
            ("flavors: {xgboost: {data: x}}\n", "no flavours are listed"),
        ];
        for (text, message) in cases {
            assert_eq!(choose(&flavours(text)).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn files_outside_the_directory_are_refused() {
        for file in ["../model.pkl", "/etc/passwd", "a/../../b"] {
            let error = inside(Path::new("."), file).unwrap_err();
            assert_eq!(error.kind(), LoadErrorKind::Refused, "{file}");
        }
        assert_eq!(
            inside(Path::new("."), "missing").unwrap_err().kind(),
            LoadErrorKind::NotFound
        );
        assert!(inside(Path::new("."), "Cargo.toml").is_ok());
    }
}
