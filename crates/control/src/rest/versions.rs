//! Kinds in older versions: objects are kept in the newest one, and taken and shown in the one that is asked for. Their fields are the same, so that only
//! what names the version is another.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::admission::unrecognized;
use super::body::{self, essence};
use super::path::ObjectsTarget;
use super::request::ApiRequest;
use super::{Answer, Api};
use crate::failure::Failure;

impl Api {
    /// Answers a request for objects in an older version.
    pub(super) fn answer_in_older(
        self: &Arc<Self>,
        request: &ApiRequest,
        (target, older): (&ObjectsTarget, &str),
    ) -> Result<Answer, Failure> {
        let (kept, older) = (target.kind.api_version(), target.kind.api_version_of(older));
        let mut request = request.clone();
        // The objects of older versions are no protocol buffers.
        let is_text = !essence(&request.content_type).ends_with("protobuf");
        if is_text && let Some(mut body) = body::read(&request)? {
            let is_object = matches!(request.method.as_str(), "POST" | "PUT");
            let said = body["apiVersion"].as_str().filter(|_| is_object);
            if let Some(other) = said.filter(|said| !said.is_empty() && *said != older) {
                return Err(unrecognized(target.kind, "apiVersion", (other, &older)));
            }
            rename(&mut body, &older, &kept);
            // It is YAML, too.
            request.body = body.to_string().into();
        }
        let answer = self.answer_objects(&request, target)?;
        Ok(match answer {
            Answer::Reply(mut reply) => {
                if let Ok(mut body) = serde_json::from_slice::<Value>(&reply.body) {
                    rename(&mut body, &kept, &older);
                    reply.body = body.to_string().into_bytes();
                }
                Answer::Reply(reply)
            }
            answer @ (Answer::Watch(_) | Answer::Log(_)) => answer,
        })
    }
}

/// Returns the `apiVersion` of what is asked for.
pub(super) fn api_version(target: &ObjectsTarget) -> String {
    let version = target.older.unwrap_or(target.kind.version);
    target.kind.api_version_of(version)
}

/// Returns an object as it is shown in the version that is asked for.
pub(super) fn shown<'a>(target: &ObjectsTarget, object: &'a Value) -> Cow<'a, Value> {
    if target.older.is_none() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    rename(
        &mut object,
        &target.kind.api_version(),
        &api_version(target),
    );
    Cow::Owned(object)
}

/// Names another version in an object, in those of a list or table, or in a patch.
fn rename(body: &mut Value, from: &str, to: &str) {
    if let Value::Array(operations) = body {
        let named = operations.iter_mut();
        for operation in named.filter(|one| one["path"] == "/apiVersion") {
            rename_text(operation.get_mut("value"), from, to);
        }
        return;
    }
    rename_object(body, from, to);
    for (list, inner) in [("items", ""), ("rows", "/object")] {
        let items = body.get_mut(list).and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            if let Some(object) = item.pointer_mut(inner) {
                rename_object(object, from, to);
            }
        }
    }
}

fn rename_object(object: &mut Value, from: &str, to: &str) {
    rename_text(object.get_mut("apiVersion"), from, to);
    let managed = object.pointer_mut("/metadata/managedFields");
    let managed = managed.and_then(Value::as_array_mut).into_iter().flatten();
    for fields in managed {
        rename_text(fields.get_mut("apiVersion"), from, to);
    }
}

fn rename_text(text: Option<&mut Value>, from: &str, to: &str) {
    if let Some(text) = text.filter(|text| **text == from) {
        *text = to.into();
    }
}
