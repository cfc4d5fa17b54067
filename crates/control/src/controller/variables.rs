//! The environment of a container: values, and what they come from.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use coracle_api::kind::{CONFIG_MAP, Kind, SECRET};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource};
use serde_json::Value;

use crate::object;
use crate::store::{Key, Store};

/// Where values come from.
pub(super) struct Sources<'a> {
    pub(super) store: &'a Store,
    pub(super) service: &'a Value,
}

impl Sources<'_> {
    /// Returns the container's variables, those of `envFrom` first, as Kubernetes orders them.
    pub(super) fn environment(
        &self,
        container: &Container,
    ) -> Result<Vec<(String, String)>, String> {
        let mut environment = Vec::new();
        for from in container.env_from.iter().flatten() {
            let prefix = from.prefix.as_deref().unwrap_or_default();
            let (kind, name, is_optional) = match (&from.config_map_ref, &from.secret_ref) {
                (Some(map), _) => (&CONFIG_MAP, &map.name, map.optional),
                (None, Some(secret)) => (&SECRET, &secret.name, secret.optional),
                (None, None) => continue,
            };
            match self.data(kind, name) {
                Some(data) => environment.extend(
                    data.into_iter()
                        .map(|(key, value)| (format!("{prefix}{key}"), value)),
                ),
                None if is_optional == Some(true) => {}
                None => return Err(format!("envFrom: {} {name} does not exist", kind.singular)),
            }
        }
        for variable in container.env.iter().flatten() {
            if let Some(value) = self.value(variable)? {
                environment.push((variable.name.clone(), value));
            }
        }
        Ok(environment)
    }

    /// Returns a variable's value; `None` if it comes from something optional that is not there.
    fn value(&self, variable: &EnvVar) -> Result<Option<String>, String> {
        let Some(source) = &variable.value_from else {
            return Ok(Some(variable.value.clone().unwrap_or_default()));
        };
        let name = &variable.name;
        let (kind, object, key, is_optional) = match source {
            EnvVarSource {
                secret_key_ref: Some(key),
                ..
            } => (&SECRET, &key.name, &key.key, key.optional),
            EnvVarSource {
                config_map_key_ref: Some(key),
                ..
            } => (&CONFIG_MAP, &key.name, &key.key, key.optional),
            EnvVarSource {
                field_ref: Some(field),
                ..
            } => return self.field(name, &field.field_path).map(Some),
            _ => {
                return Err(format!(
                    "env {name}: this kind of valueFrom is not read; there are secretKeyRef, configMapKeyRef and fieldRef"
                ));
            }
        };
        let data = self.data(kind, object);
        let found = data
            .into_iter()
            .flatten()
            .find_map(|(own, value)| (own == *key).then_some(value));
        match found {
            None if is_optional != Some(true) => Err(format!(
                "env {name}: {} {object} with the key {key} does not exist",
                kind.singular
            )),
            found => Ok(found),
        }
    }

    fn field(&self, name: &str, path: &str) -> Result<String, String> {
        let own = |field: &str, prefix: &str| {
            let key = path.strip_prefix(prefix)?.strip_suffix("']")?;
            Some(
                object::text(self.service, field, key)
                    .unwrap_or_default()
                    .to_owned(),
            )
        };
        match path {
            "metadata.namespace" => Ok(object::namespace(self.service).to_owned()),
            "status.podIP" | "status.hostIP" => Ok("127.0.0.1".to_owned()),
            "spec.nodeName" => Ok("localhost".to_owned()),
            _ => own("labels", "metadata.labels['")
                .or_else(|| own("annotations", "metadata.annotations['"))
                .ok_or_else(|| format!("env {name}: the field {path} is not known here")),
        }
    }

    /// Returns the data of a secret or a config map.
    fn data(&self, kind: &Kind, name: &str) -> Option<Vec<(String, String)>> {
        let namespace = object::namespace(self.service);
        let stored = self.store.get(&Key::new(kind, namespace, name))?;
        let data = stored.object.get("data").and_then(Value::as_object);
        let is_secret = kind.kind == SECRET.kind;
        let pairs = data.into_iter().flatten().filter_map(|(key, value)| {
            let text = value.as_str()?;
            let text = match is_secret {
                true => String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?,
                false => text.to_owned(),
            };
            Some((key.clone(), text))
        });
        Some(pairs.collect())
    }
}
