//! From a file to a model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use coracle_model::{
    Description, Estimator, GraphEngine, LoadError, LoadErrorKind, Method, Model, NameRules,
    Restated, TextEngine,
};
use coracle_pickle::{ErrorKind, FileInfo, Graph, Limits};

use crate::kind::{self, FileKind};
use crate::xgboost::{Converted, Ensemble};
use crate::{beside, catboost, document, lightgbm, mlflow, onnx, sklearn, tabular, xgboost};

/// What may be chosen when a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The method that answers requests which ask for none; by default the estimator's first.
    pub default_method: Option<Method>,
    /// The object to serve of a pickle, joblib or skops file that holds several: a key of its dict, or a place in its tuple.
    pub object: Option<String>,
    /// What runs the ONNX graphs that our own kernels do not; without, they are refused.
    pub graph_engine: Option<Arc<dyn GraphEngine>>,
    /// How graphs are to be run by that engine, in its own words.
    pub engine_settings: BTreeMap<String, String>,
    /// What makes models of texts of ONNX graphs beside which a tokeniser's file lies; without, they take tokens.
    pub text_engine: Option<Arc<dyn TextEngine>>,
}

/// A loaded model and how long its loading took.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: Box<dyn Model>,
    /// The time each phase took.
    pub phases: Phases,
}

/// The time that loading took, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Reading the file's bytes.
    pub read: Duration,
    /// Parsing them.
    pub parse: Duration,
    /// Checking the model and building its kernels.
    pub build: Duration,
}

impl Phases {
    /// Returns the sum of all phases.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.read
            .saturating_add(self.parse)
            .saturating_add(self.build)
    }
}

/// Loads the model file at `path`.
///
/// # Errors
/// As [`load_bytes`], and `Unreadable` or `NotFound` if the file cannot be read. Every message starts with
/// the file's path.
pub fn load(path: &Path, options: &LoadOptions, clock: &dyn Clock) -> Result<Loaded, LoadError> {
    if path
        .file_name()
        .is_some_and(|name| name == mlflow::FILE_NAME)
    {
        return load_mlflow(path, options, clock);
    }
    load_file(path, options, Source::default(), clock)
}

/// Loads the model that an `MLmodel` file describes.
fn load_mlflow(path: &Path, options: &LoadOptions, clock: &dyn Clock) -> Result<Loaded, LoadError> {
    let resolved = mlflow::resolve(path)?;
    // A booster's own file knows nothing of the estimator that it was saved from.
    let has_class = ["xgboost", "catboost"].contains(&resolved.flavour);
    let class = resolved.class.filter(|_| has_class);
    let mut options = options.clone();
    if let (None, Some(name)) = (options.default_method, &resolved.method) {
        let method = mlflow::method(name).map_err(|error| error.at(path.display()))?;
        options.default_method = Some(method);
    }
    let source = Source {
        class: class.as_deref(),
        inputs: resolved.inputs.as_deref(),
        is_mlflows: true,
        path: None,
    };
    load_file(&resolved.path, &options, source, clock)
}

/// Loads the ONNX graph at `path` on an engine, whether or not our own kernels run it; `None` if it is no ONNX graph.
///
/// # Errors
/// As [`load`].
pub fn load_graph_on(
    path: &Path,
    engine: &dyn GraphEngine,
    settings: &BTreeMap<String, String>,
) -> Result<Option<Box<dyn Model>>, LoadError> {
    let is_description = path
        .file_name()
        .is_some_and(|name| name == mlflow::FILE_NAME);
    let resolved = match is_description {
        true => mlflow::resolve(path)?.path,
        false => path.to_path_buf(),
    };
    let bytes = read_file(&resolved)?;
    if kind::of(&bytes) != FileKind::Onnx {
        return Ok(None);
    }
    onnx::load_on(&bytes, resolved.parent(), (engine, settings), None)
        .map(Some)
        .map_err(|error| error.at(resolved.display()))
}

fn load_file(
    path: &Path,
    options: &LoadOptions,
    source: Source<'_>,
    clock: &dyn Clock,
) -> Result<Loaded, LoadError> {
    let started = clock.monotonic();
    let bytes = read_file(path)?;
    let read = clock.monotonic().saturating_sub(started);
    let source = Source {
        path: Some(path),
        ..source
    };
    let mut loaded =
        load_as(&bytes, options, source, clock).map_err(|error| error.at(path.display()))?;
    loaded.phases.read = read;
    Ok(loaded)
}

/// Reads a whole file, if it is not too large.
fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => LoadErrorKind::NotFound,
            _ => LoadErrorKind::Unreadable,
        };
        LoadError::new(kind, format!("{}: cannot read the file", path.display())).with_source(error)
    };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    let limit = Limits::default().file_bytes_max;
    if usize::try_from(size).map_or(true, |size| size > limit) {
        let message = format!("{}: {size} bytes, at most {limit} are read", path.display());
        return Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
    }
    fs::read(path).map_err(unreadable)
}

/// Loads a model from the bytes of a file.
///
/// # Errors
/// Kind `Refused` if the bytes name anything outside the closed list of data types, `Malformed` if they
/// contradict themselves, `LimitExceeded` if they exceed a bound, `Unsupported` if they hold a class, release
/// or parameter that Coracle does not serve.
pub fn load_bytes(
    bytes: &[u8],
    options: &LoadOptions,
    clock: &dyn Clock,
) -> Result<Loaded, LoadError> {
    load_as(bytes, options, Source::default(), clock)
}

/// What is known of a file beside its bytes.
#[derive(Clone, Copy, Default)]
struct Source<'s> {
    /// The class of the estimator, where something else names it.
    class: Option<&'s str>,
    /// The JSON of the inputs of its signature, where it is MLflow's. A graph has datatypes and names of its own, but for columns.
    inputs: Option<&'s str>,
    /// Whether it is of a directory of MLflow's.
    is_mlflows: bool,
    /// Where the file lies; others of the model may lie beside it.
    path: Option<&'s Path>,
}

/// Loads a model from bytes.
fn load_as(
    bytes: &[u8],
    options: &LoadOptions,
    source: Source<'_>,
    clock: &dyn Clock,
) -> Result<Loaded, LoadError> {
    let started = clock.monotonic();
    if bytes.is_empty() {
        return Err(LoadError::new(
            LoadErrorKind::Malformed,
            "the file is empty",
        ));
    }
    if kind::of(bytes) == FileKind::Onnx {
        return load_onnx(bytes, options, source, clock);
    }
    let (mut content, parsed) =
        read_content(bytes, source.class, options.object.as_deref(), clock)?;
    let mut rules = NameRules {
        underscores_may_be_blanks: changes_blanks(&content.description),
        ..NameRules::default()
    };
    if rules.underscores_may_be_blanks {
        // What wraps an estimator of 4.6 that was fitted on an array took them for the user's.
        let names = content.feature_names.take();
        content.feature_names = names.filter(|names| !lightgbm::are_made_up(names));
    }
    let mut input_name = None;
    if let Some(inputs) = source.inputs {
        let signature = read_signature(inputs)?;
        let names = content.feature_names.take();
        let described = &mut content.description;
        (content.estimator, content.feature_names) =
            signature.apply(content.estimator, (names, rules), described)?;
        rules.mlflow_names_columns = signature.names_columns();
        input_name = signature.input_name().map(str::to_owned);
    }
    let names = tabular::Names {
        input: input_name,
        features: content.feature_names,
        rules,
    };
    let model = tabular::model(
        content.estimator,
        names,
        options.default_method,
        content.description,
    )?;
    Ok(Loaded {
        model,
        phases: Phases {
            read: Duration::ZERO,
            parse: parsed.saturating_sub(started),
            build: clock.monotonic().saturating_sub(parsed),
        },
    })
}

fn read_signature(inputs: &str) -> Result<mlflow::Signature, LoadError> {
    mlflow::Signature::parse(inputs).map_err(|error| error.at("signature"))
}

/// Loads a graph, which is a model by itself.
fn load_onnx(
    bytes: &[u8],
    options: &LoadOptions,
    source: Source<'_>,
    clock: &dyn Clock,
) -> Result<Loaded, LoadError> {
    if let Some(method) = options.default_method {
        let message = format!(
            "the model is an ONNX graph, which has no method '{}'; name outputs instead",
            method.as_str()
        );
        return Err(LoadError::new(LoadErrorKind::Unsupported, message));
    }
    let started = clock.monotonic();
    let directory = source.path.and_then(Path::parent);
    let mut model = onnx::load(
        bytes,
        directory,
        options.graph_engine.as_deref(),
        &options.engine_settings,
    )?;
    if let (Some(engine), Some(path)) = (options.text_engine.as_deref(), source.path) {
        model = beside::around(model, path, engine)?;
    }
    if source.is_mlflows {
        let mut signature = model.signature().clone();
        signature.name_rules.mlflow_names_outputs = true;
        if let Some(inputs) = source.inputs {
            read_signature(inputs)?.name_columns(&mut signature);
        }
        model = Box::new(Restated::signed(model, signature));
    }
    Ok(Loaded {
        model,
        phases: Phases {
            build: clock.monotonic().saturating_sub(started),
            ..Phases::default()
        },
    })
}

/// Reads a file of any kind but ONNX; tells when it was parsed too.
fn read_content(
    bytes: &[u8],
    class: Option<&str>,
    object: Option<&str>,
    clock: &dyn Clock,
) -> Result<(Content, Duration), LoadError> {
    let parsed;
    let kind = kind::of(bytes);
    if let Some(object) = object.filter(|_| !matches!(kind, FileKind::Pickle | FileKind::Zip)) {
        let message = format!("there is no object {object:?}: the file holds one model");
        return Err(LoadError::new(LoadErrorKind::Unsupported, message));
    }
    let content = match kind {
        FileKind::Pickle => {
            let graph = sklearn::read(bytes)
                .map_err(|error| from_pickle(error, "pickle or joblib file"))?;
            parsed = clock.monotonic();
            from_sklearn(&graph, object)?
        }
        FileKind::Zip => {
            let graph =
                sklearn::read_skops(bytes).map_err(|error| from_pickle(error, "skops file"))?;
            parsed = clock.monotonic();
            from_sklearn(&graph, object)?
        }
        FileKind::LightgbmText => {
            let text = str::from_utf8(bytes).map_err(|error| {
                let message = "not a sound LightGBM model: the text is not UTF-8";
                LoadError::new(LoadErrorKind::Malformed, message).with_source(error)
            })?;
            let ensemble = lightgbm::Ensemble::parse(text)?;
            parsed = clock.monotonic();
            from_booster(
                "LightGBM",
                "LightGBM text",
                lightgbm::boosted(&ensemble, None)?,
            )
        }
        FileKind::Onnx => {
            let message = "an ONNX graph is no estimator";
            return Err(LoadError::new(LoadErrorKind::Unsupported, message));
        }
        FileKind::CatboostBinary => {
            let ensemble = catboost::Ensemble::parse_binary(bytes)?;
            parsed = clock.monotonic();
            from_booster("CatBoost", "CatBoost binary", of_catboost(ensemble, class)?)
        }
        FileKind::XgboostBinary => {
            let ensemble = Ensemble::parse_legacy(bytes)?;
            parsed = clock.monotonic();
            from_booster(
                "XGBoost",
                "XGBoost binary",
                xgboost::of_class(&ensemble, class)?,
            )
        }
        kind @ (FileKind::Json | FileKind::Ubjson) => {
            let (document, format) = match kind {
                FileKind::Json => (document::parse_json(bytes)?, "XGBoost JSON"),
                _ => (document::parse_ubjson(bytes)?, "XGBoost UBJSON"),
            };
            let root = document::Entry::root(&document);
            if catboost::is_document(&root) {
                let ensemble = catboost::Ensemble::read_document(&root)?;
                parsed = clock.monotonic();
                from_booster("CatBoost", "CatBoost JSON", of_catboost(ensemble, class)?)
            } else {
                let ensemble = Ensemble::read(&root)?;
                parsed = clock.monotonic();
                from_booster("XGBoost", format, xgboost::of_class(&ensemble, class)?)
            }
        }
    };
    Ok((content, parsed))
}

/// Converts a model of CatBoost's as its class answers, where something names that.
fn of_catboost(ensemble: catboost::Ensemble, class: Option<&str>) -> Result<Converted, LoadError> {
    match class {
        Some(catboost::BASE) => catboost::base(ensemble),
        Some(catboost::CLASSIFIER) => catboost::classifier(ensemble),
        _ => catboost::boosted(ensemble),
    }
}

/// What a file holds, in whatever form.
struct Content {
    estimator: Box<dyn Estimator>,
    feature_names: Option<Vec<String>>,
    description: Description,
}

/// Tells whether the names of a model's columns are LightGBM's, which writes underscores for blanks.
fn changes_blanks(description: &Description) -> bool {
    let mut ahead = vec![&description.root];
    while let Some(part) = ahead.pop() {
        if part.class.starts_with("LGBM") {
            return true;
        }
        match part.class.as_str() {
            // Later steps do not see the user's columns.
            "Pipeline" => ahead.extend(part.children.first()),
            _ => ahead.extend(&part.children),
        }
    }
    description.library == "LightGBM"
}

fn from_sklearn(graph: &Graph, object: Option<&str>) -> Result<Content, LoadError> {
    let fitted = sklearn::convert(graph, object)?;
    Ok(Content {
        estimator: fitted.estimator,
        feature_names: fitted.feature_names,
        description: Description {
            format: describe_file(graph.info()),
            library: fitted.library.to_owned(),
            library_version: fitted.version,
            root: fitted.component,
        },
    })
}

fn from_booster(library: &str, format: &str, converted: Converted) -> Content {
    Content {
        estimator: converted.estimator,
        feature_names: converted.feature_names,
        description: Description {
            format: format.to_owned(),
            library: library.to_owned(),
            library_version: converted.version,
            root: converted.component,
        },
    }
}

fn from_pickle(error: coracle_pickle::Error, file: &str) -> LoadError {
    let kind = match error.kind() {
        ErrorKind::UnknownGlobal => LoadErrorKind::Refused,
        ErrorKind::LimitExceeded => LoadErrorKind::LimitExceeded,
        ErrorKind::Unsupported => LoadErrorKind::Unsupported,
        _ => LoadErrorKind::Malformed,
    };
    let message = match kind {
        LoadErrorKind::Malformed => format!("not a sound {file}: {error}"),
        LoadErrorKind::Refused => refusal(&error),
        _ => error.to_string(),
    };
    LoadError::new(kind, message)
}

/// Names what is not known, and where it sits within the object that was saved.
fn refusal(error: &coracle_pickle::Error) -> String {
    let globals = error.unknown_globals();
    let named = globals.iter().map(|global| {
        let within = global.place.strip_prefix("root").unwrap_or_default();
        match within.strip_prefix('.').unwrap_or(within) {
            "" if global.place.starts_with("...") => {
                format!("'{}' at {}", global.name, global.place)
            }
            "" => format!("'{}'", global.name),
            place => format!("'{}' at {place}", global.name),
        }
    });
    let named = named.collect::<Vec<String>>().join(", ");
    match globals.len() {
        1 => format!("refuses to load {named} (not a known data type)"),
        _ => format!("refuses to load {named} (not known data types)"),
    }
}

fn describe_file(info: &FileInfo) -> String {
    if let Some(release) = &info.skops {
        return format!("skops {release}, protocol {}", info.protocol);
    }
    let writer = if info.joblib { "joblib" } else { "pickle" };
    format!(
        "{writer} ({}), pickle protocol {}",
        info.container, info.protocol
    )
}
