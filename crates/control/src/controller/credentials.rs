//! The secret with the credentials for a predictor's files: KServe's wiring.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use coracle_api::kind::{SECRET, SERVICE_ACCOUNT};
use serde_json::Value;

use crate::object;
use crate::store::{Key, Store};

/// What secrets say: data and annotations, several secrets together.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) data: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An annotation that names the secret directly.
const SECRET_NAME: &str = "serving.kserve.io/storageSecretName";

/// Finds the credentials of a service: the secret its annotation names, else those of its service account.
pub(crate) fn find(store: &Store, service: &Value, template: &Value) -> Credentials {
    let namespace = object::namespace(service);
    let mut credentials = Credentials::default();
    if let Some(name) = object::text(service, "annotations", SECRET_NAME) {
        credentials.add(store, namespace, name);
        return credentials;
    }
    let account = template
        .get("serviceAccountName")
        .and_then(Value::as_str)
        .unwrap_or("default");
    let account = store.get(&Key::new(&SERVICE_ACCOUNT, namespace, account));
    let secrets = account
        .as_ref()
        .and_then(|account| account.object.get("secrets"))
        .and_then(Value::as_array);
    for secret in secrets.into_iter().flatten() {
        if let Some(name) = secret.get("name").and_then(Value::as_str) {
            credentials.add(store, namespace, name);
        }
    }
    credentials
}

impl Credentials {
    /// Adds a secret's data and annotations; what earlier secrets say stays.
    fn add(&mut self, store: &Store, namespace: &str, name: &str) {
        let Some(secret) = store.get(&Key::new(&SECRET, namespace, name)) else {
            return;
        };
        for (key, value) in object::texts(&secret.object, "annotations") {
            self.annotations
                .entry(key.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        let data = secret.object.get("data").and_then(Value::as_object);
        for (key, value) in data.into_iter().flatten() {
            let bytes = value
                .as_str()
                .and_then(|text| BASE64_STANDARD.decode(text).ok());
            if let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                self.data.entry(key.clone()).or_insert(text);
            }
        }
    }
}
