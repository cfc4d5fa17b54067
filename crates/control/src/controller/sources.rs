//! Where a predictor's files are, and with which credentials: `storageUri`, `storageUris`, and `storage` with a key of
//! the secret `storage-config`, in KServe's words.

use std::collections::BTreeMap;

use coracle_api::inference_service::{PredictorSpec, StorageSpec};
use coracle_serving::SourcePlace;
use serde_json::{Value, json};

use super::credentials::{self, Credentials, STORAGE_SECRET_NAME};
use crate::object;
use crate::store::Store;

/// Where files are, and what opens the way to them.
#[derive(Default)]
pub(crate) struct Source {
    /// The URI; of several places, all their URIs, for people to read.
    pub(crate) uri: String,
    /// The places, where there are several.
    pub(crate) places: Vec<SourcePlace>,
    pub(crate) credentials: Credentials,
}

/// KServe's secret of places by key.
const STORAGE_CONFIG: &str = "storage-config";
/// The key that is used where none is named; `default_TYPE` where the parameters name a type.
const DEFAULT_KEY: &str = "default";
const MODEL_PATH: &str = "/mnt/models";

/// Returns where the files of a service's predictor are; `template` is the predictor as it is written.
///
/// # Errors
/// What is missing or wrong, for the status.
pub(crate) fn find(
    store: &Store,
    service: &Value,
    (template, predictor): (&Value, &PredictorSpec),
) -> Result<Source, String> {
    let source = predictor.source().map(|(_, source)| source);
    let uri = source.and_then(|source| source.storage_uri.as_deref());
    let uri = uri.filter(|uri| !uri.is_empty());
    if let Some(storage) = source.and_then(|source| source.storage.as_ref()) {
        return by_key(store, service, storage, uri);
    }
    let (uri, places) =
        match (uri, predictor.storage_uris.as_deref()) {
            (Some(uri), _) => (uri.to_owned(), Vec::new()),
            (None, Some([place])) => (place.uri.clone(), Vec::new()),
            (None, Some(list)) if !list.is_empty() => {
                let uris: Vec<&str> = list.iter().map(|place| place.uri.as_str()).collect();
                let places = list.iter().map(|place| SourcePlace {
                    uri: place.uri.clone(),
                    mount_path: place.mount_path.clone().unwrap_or(MODEL_PATH.to_owned()),
                });
                (uris.join(", "), places.collect())
            }
            _ => return Err(
                "no storageUri: spec.predictor.model.storageUri says where the model's files are"
                    .to_owned(),
            ),
        };
    let mut credentials = credentials::find(store, service, template)?;
    credentials.add_ca_bundle(store, object::namespace(service))?;
    Ok(Source {
        uri,
        places,
        credentials,
    })
}

/// Reads a place by key: what the secret says under it, with the parameters in front.
fn by_key(
    store: &Store,
    service: &Value,
    storage: &StorageSpec,
    uri: Option<&str>,
) -> Result<Source, String> {
    if uri.is_some() && storage.path.is_some() {
        return Err("must provide only one of storageUri and storage.path".to_owned());
    }
    let namespace = object::namespace(service);
    let place = Place::read(store, service, storage)?;
    let uri = match (uri, storage.path.as_deref()) {
        (Some(uri), _) => uri.to_owned(),
        (None, Some(path)) => place.uri(path.trim_start_matches('/'))?,
        (None, None) => {
            return Err(
                "no storage.path: it says where in the bucket the model's files are".to_owned(),
            );
        }
    };
    let mut credentials = place.credentials();
    credentials.add_ca_bundle(store, namespace)?;
    Ok(Source {
        uri,
        places: Vec::new(),
        credentials,
    })
}

/// A place of `storage-config`: its type and settings.
struct Place {
    kind: String,
    settings: BTreeMap<String, String>,
}

/// The types of places that are served.
const KINDS: [&str; 6] = ["s3", "gs", "azure", "http", "https", "pvc"];

impl Place {
    fn read(store: &Store, service: &Value, storage: &StorageSpec) -> Result<Self, String> {
        let name = object::text(service, "annotations", STORAGE_SECRET_NAME);
        let name = name.unwrap_or(STORAGE_CONFIG);
        let namespace = object::namespace(service);
        let parameters = storage.parameters.clone().unwrap_or_default();
        let secret = credentials::data(store, namespace, name);
        let named = storage.key.as_deref().filter(|key| !key.is_empty());
        let key = match (named, parameters.get("type")) {
            (Some(key), _) => key.to_owned(),
            (None, None) => DEFAULT_KEY.to_owned(),
            (None, Some(kind)) => format!("{DEFAULT_KEY}_{kind}"),
        };
        let text = match (&secret, named) {
            (None, Some(_)) => {
                return Err(format!(
                    "can't read storage secret {name}: secrets \"{name}\" not found"
                ));
            }
            (Some(secret), Some(_)) if !secret.contains_key(&key) => {
                return Err(format!(
                    "specified storage key {key} not found in storage secret {name}"
                ));
            }
            // Without a name it is no fault that there is none: the parameters may say it all.
            (secret, _) => secret.as_ref().and_then(|secret| secret.get(&key)),
        };
        let mut settings = match text {
            Some(text) => settings(text).map_err(|problem| {
                format!("invalid json encountered in key {key} of storage secret {name}: {problem}")
            })?,
            None => BTreeMap::new(),
        };
        settings.extend(parameters);
        let kind = match settings.get("type").map(String::as_str) {
            None | Some("") => return Err("unable to determine storage type".to_owned()),
            Some("gcs") => "gs".to_owned(),
            Some(kind) => kind.to_owned(),
        };
        if !KINDS.contains(&kind.as_str()) {
            return Err(format!(
                "storage type must be one of [{}]. storage type [{kind}] is not supported",
                KINDS.join(", ")
            ));
        }
        Ok(Self { kind, settings })
    }

    fn text(&self, name: &str) -> Option<&str> {
        let text = self.settings.get(name).map(String::as_str);
        text.filter(|text| !text.is_empty())
    }

    fn uri(&self, path: &str) -> Result<String, String> {
        let kind = &self.kind;
        let need = |name: &str| {
            self.text(name).ok_or_else(|| {
                format!("format [{kind}] requires a {name} but one wasn't found in storage data or parameters")
            })
        };
        Ok(match kind.as_str() {
            "s3" | "gs" => format!("{kind}://{}/{path}", need("bucket")?),
            "pvc" => format!("pvc://{}/{path}", need("name")?),
            "azure" => format!(
                "https://{}.blob.core.windows.net/{}/{path}",
                need("account_name")?,
                need("container")?
            ),
            _ => format!("{}/{path}", need("url")?.trim_end_matches('/')),
        })
    }

    /// Returns the settings under the names that they have in secrets of their own.
    fn credentials(&self) -> Credentials {
        const DATA: [(&str, &str); 9] = [
            ("access_key_id", "AWS_ACCESS_KEY_ID"),
            ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
            ("session_token", "AWS_SESSION_TOKEN"),
            ("certificate", "cabundle.crt"),
            ("access_key", "AZURE_STORAGE_ACCESS_KEY"),
            ("client_id", "AZURE_CLIENT_ID"),
            ("client_secret", "AZURE_CLIENT_SECRET"),
            ("tenant_id", "AZURE_TENANT_ID"),
            ("headers", "headers"),
        ];
        const ANNOTATIONS: [(&str, &str); 6] = [
            ("endpoint_url", "s3-endpoint"),
            ("region", "s3-region"),
            ("verify_ssl", "s3-verifyssl"),
            ("anonymous", "s3-useanoncredential"),
            ("ca_bundle", "s3-cabundle"),
            ("cabundle_configmap", "s3-cabundle-configmap"),
        ];
        let mut credentials = Credentials::default();
        for (setting, name) in DATA {
            if let Some(text) = self.text(setting) {
                credentials.data.insert(name.to_owned(), text.to_owned());
            }
        }
        for (setting, name) in ANNOTATIONS {
            if let Some(text) = self.text(setting) {
                let name = format!("serving.kserve.io/{name}");
                credentials.annotations.insert(name, text.to_owned());
            }
        }
        if self.kind == "gs" && self.text("private_key").is_some() {
            let key = json!({
                "type": "service_account",
                "private_key": self.text("private_key"),
                "private_key_id": self.text("private_key_id").unwrap_or_default(),
                "client_email": self.text("client_email").unwrap_or_default(),
                "token_uri": self.text("token_uri").unwrap_or("https://oauth2.googleapis.com/token"),
            });
            let name = "gcloud-application-credentials.json".to_owned();
            credentials.data.insert(name, key.to_string());
        }
        credentials
    }
}

/// Reads an entry of the secret: an object of texts; numbers and truth values count as what they are written as.
fn settings(text: &str) -> Result<BTreeMap<String, String>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(fields) = value else {
        return Err("it is no object".to_owned());
    };
    let texts = fields.into_iter().filter_map(|(name, value)| match value {
        Value::String(text) => Some((name, text)),
        Value::Bool(_) | Value::Number(_) => Some((name, value.to_string())),
        _ => None,
    });
    Ok(texts.collect())
}

#[cfg(test)]
mod tests;
