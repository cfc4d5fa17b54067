//! The secret with the credentials for a predictor's files: KServe's wiring.

mod rclone;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use coracle_api::kind::{CONFIG_MAP, SECRET, SERVICE_ACCOUNT};
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
pub(crate) const STORAGE_SECRET_NAME: &str = "serving.kserve.io/storageSecretName";

/// Finds the credentials of a service: the secret its annotation names, else those of its service account.
///
/// # Errors
/// If the secret or the account that is named is not there.
pub(crate) fn find(
    store: &Store,
    service: &Value,
    template: &Value,
) -> Result<Credentials, String> {
    let namespace = object::namespace(service);
    let mut credentials = Credentials::default();
    if let Some(name) = object::text(service, "annotations", STORAGE_SECRET_NAME) {
        let named_by = format!("annotation {STORAGE_SECRET_NAME}");
        credentials.add(store, (namespace, name), &named_by)?;
        return Ok(credentials);
    }
    let named = template.get("serviceAccountName").and_then(Value::as_str);
    let named = named.filter(|name| !name.is_empty());
    let name = named.unwrap_or("default");
    let account = store.get(&Key::new(&SERVICE_ACCOUNT, namespace, name));
    let Some(account) = account else {
        // There is none in a namespace that is just being made, or was taken away by its user.
        return match named {
            Some(name) => Err(format!(
                "serviceaccount \"{name}\" not found in namespace {namespace}; spec.predictor.serviceAccountName names it"
            )),
            None => Ok(credentials),
        };
    };
    let secrets = account.object.get("secrets").and_then(Value::as_array);
    for secret in secrets.into_iter().flatten() {
        if let Some(secret) = secret.get("name").and_then(Value::as_str) {
            let named_by = format!("serviceaccount {name}");
            credentials.add(store, (namespace, secret), &named_by)?;
        }
    }
    Ok(credentials)
}

/// Names a ConfigMap with the authorities to believe, and the file of its data that they are in.
const CA_BUNDLE_CONFIG_MAP: &str = "serving.kserve.io/s3-cabundle-configmap";
const CA_BUNDLE_FILE: &str = "cabundle.crt";

/// Returns a secret's data, as text; what is no text is left out. None if there is no such secret.
pub(crate) fn data(store: &Store, namespace: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let secret = store.get(&Key::new(&SECRET, namespace, name))?;
    let data = secret.object.get("data").and_then(Value::as_object);
    let texts = data.into_iter().flatten().filter_map(|(key, value)| {
        let bytes = BASE64_STANDARD.decode(value.as_str()?).ok()?;
        Some((key.clone(), String::from_utf8(bytes).ok()?))
    });
    Some(texts.collect())
}

impl Credentials {
    /// Puts the authorities of the ConfigMap that the annotations name beside the data.
    ///
    /// # Errors
    /// If the ConfigMap or its file is not there.
    pub(crate) fn add_ca_bundle(&mut self, store: &Store, namespace: &str) -> Result<(), String> {
        let Some(name) = self.annotations.get(CA_BUNDLE_CONFIG_MAP) else {
            return Ok(());
        };
        let map = store.get(&Key::new(&CONFIG_MAP, namespace, name));
        let map = map.ok_or_else(|| {
            format!(
                "{CA_BUNDLE_CONFIG_MAP}: configmaps \"{name}\" not found in namespace {namespace}"
            )
        })?;
        let file = object::at(&map.object, &["data", CA_BUNDLE_FILE]).and_then(Value::as_str);
        let file = file.ok_or_else(|| {
            format!("{CA_BUNDLE_CONFIG_MAP}: configmap {name} has no {CA_BUNDLE_FILE}")
        })?;
        self.data.insert(CA_BUNDLE_FILE.to_owned(), file.to_owned());
        Ok(())
    }

    /// Adds a secret's data and annotations; what earlier secrets say stays.
    fn add(
        &mut self,
        store: &Store,
        (namespace, name): (&str, &str),
        named_by: &str,
    ) -> Result<(), String> {
        let Some(secret) = store.get(&Key::new(&SECRET, namespace, name)) else {
            return Err(format!(
                "secret \"{name}\" not found in namespace {namespace}; {named_by} names it"
            ));
        };
        for (key, value) in object::texts(&secret.object, "annotations") {
            self.annotations
                .entry(key.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        for (key, text) in data(store, namespace, name).unwrap_or_default() {
            self.data.entry(key).or_insert(text);
        }
        rclone::translate(self);
        Ok(())
    }
}
