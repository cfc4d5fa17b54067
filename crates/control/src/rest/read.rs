//! Reading: one object, lists.

use coracle_api::Access;
use serde_json::{Value, json};

use super::path::ObjectsTarget;
use super::request::{ApiReply, ApiRequest, Shape};
use super::table;
use super::{Api, now};
use crate::failure::Failure;
use crate::selector::Selector;
use crate::store::Key;

/// The fields of events that lists can be selected by.
const EVENT_FIELDS: [&str; 8] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "reason",
    "type",
    "source",
];

/// The fields of other built-in kinds.
const OTHER_FIELDS: [&str; 3] = ["type", "status.phase", "spec.nodeName"];

/// Reads the selectors of a list, a watch, or the deletion of a collection.
pub(crate) fn selector(request: &ApiRequest, target: &ObjectsTarget) -> Result<Selector, Failure> {
    let fields: &[&str] = match target.kind.plural {
        "events" => &EVENT_FIELDS,
        "secrets" | "namespaces" | "pods" => &OTHER_FIELDS,
        _ => &[],
    };
    Selector::parse(
        request.parameter("labelSelector").as_deref(),
        request.parameter("fieldSelector").as_deref(),
        fields,
    )
}

/// Returns an object in the form the client asked for.
pub(crate) fn shaped(
    api: &Api,
    request: &ApiRequest,
    target: &ObjectsTarget,
    status: u16,
    object: &Value,
) -> Result<ApiReply, Failure> {
    Ok(match request.shape()? {
        Shape::Table => {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            let table = table::render(
                target.kind,
                std::iter::once(object),
                &metadata,
                now(api),
                true,
            );
            ApiReply::json(status, &table)
        }
        Shape::Metadata => ApiReply::json(status, &table::metadata_only(object)),
        Shape::Object | Shape::Discovery => ApiReply::json(status, object),
    })
}

impl Api {
    pub(crate) fn get(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        name: &str,
    ) -> Result<ApiReply, Failure> {
        match target.subresource.as_deref() {
            None | Some("status") => {}
            Some(_other) => return Err(Failure::no_resource()),
        }
        let key = Key::new(
            target.kind,
            target.namespace.as_deref().unwrap_or_default(),
            name,
        );
        let stored = match target.kind.access {
            Access::Measured => {
                let mut measured = self.pod_metrics(target.namespace.as_deref()).into_iter();
                measured.find(|stored| stored.key == key)
            }
            _ => self.store.get(&key),
        };
        let stored = stored.ok_or_else(|| Failure::not_found(target.kind, name))?;
        shaped(self, request, target, 200, &stored.object)
    }

    pub(crate) fn list(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
    ) -> Result<ApiReply, Failure> {
        let selector = selector(request, target)?;
        self.check_version(request)?;
        let limit = request.number("limit")?.filter(|&limit| limit > 0);
        let namespace = target.namespace.as_deref();
        let (objects, version) = match target.kind.access {
            Access::Measured => (self.pod_metrics(namespace), self.store.version()),
            _ => self.store.list(target.kind, namespace),
        };
        let start = match request
            .parameter("continue")
            .filter(|token| !token.is_empty())
        {
            Some(token) => Some(decode_continue(&token).ok_or_else(|| {
                Failure::bad_request(
                    "continue key is not valid: it is not one that this server gave",
                )
            })?),
            None => None,
        };
        let after = |key: &Key| {
            start.as_ref().is_none_or(|(namespace, name)| {
                (key.namespace(), key.name()) > (namespace.as_str(), name.as_str())
            })
        };
        let mut chosen: Vec<_> = objects
            .iter()
            .filter(|stored| after(&stored.key) && selector.matches(&stored.object))
            .collect();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok())
            && chosen.len() > limit
        {
            let remaining = chosen.len() - limit;
            chosen.truncate(limit);
            if let Some(last) = chosen.last() {
                metadata["continue"] =
                    encode_continue(last.key.namespace(), last.key.name()).into();
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        let chosen = chosen.into_iter().map(|stored| &stored.object);
        let kind = target.kind;
        Ok(match request.shape()? {
            Shape::Table => ApiReply::json(
                200,
                &table::render(kind, chosen, &metadata, now(self), true),
            ),
            Shape::Metadata => {
                let items: Vec<Value> = chosen.map(table::metadata_only).collect();
                ApiReply::json(
                    200,
                    &json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items}),
                )
            }
            Shape::Object | Shape::Discovery => {
                // The items are rendered one after another: a list can be large.
                let mut body = format!(
                    "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
                    kind.kind,
                    kind.api_version()
                );
                for (index, object) in chosen.enumerate() {
                    if index > 0 {
                        body.push(',');
                    }
                    body.push_str(&object.to_string());
                }
                body.push_str("]}");
                ApiReply::rendered(body)
            }
        })
    }

    /// Refuses a version that is no number, or has not been written yet.
    pub(crate) fn check_version(&self, request: &ApiRequest) -> Result<Option<u64>, Failure> {
        let Some(text) = request
            .parameter("resourceVersion")
            .filter(|text| !text.is_empty())
        else {
            return Ok(None);
        };
        let wanted: u64 = text.parse().map_err(|_not_a_number| {
            Failure::bad_request(format!(
                "invalid resource version {text:?}: it is not a number"
            ))
        })?;
        let current = self.store.version();
        if wanted > current {
            return Err(Failure::too_large_resource_version(wanted, current));
        }
        Ok(Some(wanted))
    }
}

/// A token says after which object the next page starts.
fn encode_continue(namespace: &str, name: &str) -> String {
    let text = format!("{namespace}/{name}");
    text.bytes().fold(String::new(), |mut token, byte| {
        token.push_str(&format!("{byte:02x}"));
        token
    })
}

fn decode_continue(token: &str) -> Option<(String, String)> {
    let digits: Vec<u8> = token.bytes().collect();
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let text = String::from_utf8(bytes?).ok()?;
    let (namespace, name) = text.split_once('/')?;
    Some((namespace.to_owned(), name.to_owned()))
}
