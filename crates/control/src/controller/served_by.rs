//! What a predictor is served by: a model that is read here, or a program.

use coracle_api::inference_service::{ModelSpec, PredictorSpec};
use coracle_serving::{MODEL_PATH, ProcessSpec, RevisionSource};
use serde_json::Value;

use super::containers::{self, Around, NotRunnable};
use super::credentials;
use super::runtimes::{self, Candidate};
use super::sources::{self, Source};
use crate::images::Images;
use crate::object;
use crate::store::Store;

/// Which programs may run here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// Whether whoever may write InferenceServices may run programs as this server's user.
    pub are_allowed: bool,
    /// What runs in place of images.
    pub images: Images,
}

/// Why a service cannot be served at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self {
            reason: "InvalidPredictorSpec",
            message,
        }
    }
}

impl From<NotRunnable> for Refusal {
    fn from(why: NotRunnable) -> Self {
        Self {
            reason: why.reason,
            message: why.message,
        }
    }
}

/// What bears on the choice besides the predictor.
#[derive(Clone, Copy)]
pub(super) struct Finder<'a> {
    pub(super) store: &'a Store,
    pub(super) service: &'a Value,
    pub(super) runtimes: &'a [Candidate],
    pub(super) programs: &'a Programs,
}

fn read(template: &Value) -> PredictorSpec {
    serde_json::from_value(template.clone()).unwrap_or_default()
}

impl<'a> Finder<'a> {
    /// Returns the runtime that serves a template; `None` for a predictor with containers of its own.
    pub(super) fn runtime(self, template: &Value) -> Result<Option<&'a Candidate>, Refusal> {
        match read(template).model.as_deref() {
            Some(model) => self.choose(model).map(Some),
            None => Ok(None),
        }
    }

    fn choose(self, model: &ModelSpec) -> Result<&'a Candidate, Refusal> {
        let namespace = object::namespace(self.service);
        let runtime = runtimes::choose(self.runtimes, namespace, model);
        runtime.map_err(|no_runtime| Refusal {
            reason: no_runtime.reason,
            message: no_runtime.message,
        })
    }

    /// Returns what serves a revision of this template.
    pub(super) fn source(
        self,
        template: &Value,
        revision: &str,
    ) -> Result<RevisionSource, Refusal> {
        let predictor = read(template);
        let around = Around {
            store: self.store,
            service: self.service,
            revision,
            images: &self.programs.images,
        };
        let Some(model) = predictor.model.as_deref() else {
            let (spec, uri) = containers::custom(&predictor, around)?;
            let files = match (uri, &predictor.storage_uris) {
                (None, None) => Source::default(),
                (None, Some(_)) => self.files(template, &predictor)?,
                (Some(_), Some(_)) => {
                    let message = "Setting both STORAGE_URI and StorageURIs is not supported.";
                    return Err(message.to_owned().into());
                }
                (Some(uri), None) => self.place(uri, template)?,
            };
            return self.program(spec, files);
        };
        let runtime = self.choose(model)?;
        if runtime.in_process {
            return Ok(RevisionSource {
                format: model.model_format.name.clone(),
                environment: environment(model),
                ..from_files(self.files(template, &predictor)?)
            });
        }
        let spec = containers::of_runtime(runtime.spec(), (&predictor, model), around);
        let spec = spec.map_err(|why| Refusal {
            message: format!("runtime {}: {}", runtime.name, why.message),
            reason: why.reason,
        })?;
        let source = &model.source;
        let has_files = source.storage.is_some()
            || source.storage_uri.is_some()
            || predictor.storage_uris.is_some();
        // A program may know where its files are by itself.
        let files = match has_files {
            true => self.files(template, &predictor)?,
            false => Source::default(),
        };
        self.program(spec, files)
    }

    /// As [`Finder::source`], for a revision that was accepted before: what cannot be served any more fails to load.
    pub(super) fn source_again(self, template: &Value, revision: &str) -> RevisionSource {
        self.source(template, revision).unwrap_or_else(|_refused| {
            let predictor = read(template);
            let model = predictor.model.as_deref();
            RevisionSource {
                format: model
                    .map(|model| model.model_format.name.clone())
                    .unwrap_or_default(),
                environment: model.map(environment).unwrap_or_default(),
                process: model.is_none().then(Box::<ProcessSpec>::default),
                ..RevisionSource::default()
            }
        })
    }

    fn files(self, template: &Value, predictor: &PredictorSpec) -> Result<Source, Refusal> {
        Ok(sources::find(
            self.store,
            self.service,
            (template, predictor),
        )?)
    }

    /// Returns one place with the credentials of the service.
    fn place(self, uri: String, template: &Value) -> Result<Source, Refusal> {
        let mut credentials = credentials::find(self.store, self.service, template)?;
        credentials.add_ca_bundle(self.store, object::namespace(self.service))?;
        Ok(Source {
            uri,
            places: Vec::new(),
            credentials,
        })
    }

    fn program(self, spec: ProcessSpec, files: Source) -> Result<RevisionSource, Refusal> {
        if !self.programs.are_allowed {
            return Err(Refusal {
                reason: "ProgramsNotAllowed",
                message: "it is served by a program, and this server runs none: start coracle up with --run-programs; whoever may write InferenceServices may then run anything as its user".to_owned(),
            });
        }
        let is_outside = |path: &str| {
            let rest = path.strip_prefix(MODEL_PATH);
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(place) = files
            .places
            .iter()
            .find(|place| is_outside(&place.mount_path))
        {
            return Err(format!(
                "a program finds its files below {MODEL_PATH} here, not at {}",
                place.mount_path
            )
            .into());
        }
        Ok(RevisionSource {
            process: Some(Box::new(spec)),
            ..from_files(files)
        })
    }
}

fn from_files(files: Source) -> RevisionSource {
    RevisionSource {
        uri: files.uri,
        places: files.places,
        secret_data: files.credentials.data,
        secret_annotations: files.credentials.annotations,
        ..RevisionSource::default()
    }
}

/// Returns the environment that the container of a model is given in the manifest.
fn environment(model: &ModelSpec) -> std::collections::BTreeMap<String, String> {
    let variables = model.container.env.iter().flatten();
    variables
        .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
        .collect()
}
