//! Failures of the API, as Kubernetes' `Status` objects.

use coracle_access::{Action, User};
use coracle_api::Kind;
use coracle_api::structural::Cause;
use serde_json::{Value, json};

/// A request that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The HTTP status.
    pub status: u16,
    /// The reason in one word.
    pub reason: &'static str,
    /// What was wrong.
    pub message: String,
    /// What the failure is about.
    pub details: Option<Value>,
}

impl Failure {
    fn new(status: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = Some(json!({"name": name, "group": kind.group, "kind": kind.plural}));
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(404, "NotFound", message).about(kind, name)
    }

    /// There is nothing at the path at all.
    pub(crate) fn no_resource() -> Self {
        let mut failure = Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        failure.details = Some(json!({}));
        failure
    }

    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(409, "AlreadyExists", message).about(kind, name)
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            kind.resource()
        );
        Self::new(409, "Conflict", message).about(kind, name)
    }

    pub(crate) fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// Another manager owns fields that an apply would change.
    pub(crate) fn apply_conflict(message: String, causes: Vec<(String, String)>) -> Self {
        let mut failure = Self::new(409, "Conflict", message);
        let causes: Vec<Value> = causes
            .into_iter()
            .map(|(message, field)| json!({"reason": "FieldManagerConflict", "message": message, "field": field}))
            .collect();
        failure.details = Some(json!({"causes": causes}));
        failure
    }

    pub(crate) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let texts: Vec<String> = causes.iter().map(Cause::to_string).collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let message = format!("{} \"{name}\" is invalid: {text}", kind.qualified_kind());
        let mut failure = Self::new(422, "Invalid", message);
        let causes: Vec<Value> = causes
            .iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        failure.details =
            Some(json!({"name": name, "group": kind.group, "kind": kind.kind, "causes": causes}));
        failure
    }

    /// An admission rule said no.
    pub(crate) fn denied(webhook: &str, why: &str) -> Self {
        let message = format!("admission webhook \"{webhook}\" denied the request: {why}");
        Self::forbidden(message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    /// A user who may not do something.
    pub(crate) fn not_allowed(user: &User, action: &Action<'_>) -> Self {
        let resource = match action.subresource {
            "" => action.resource.to_owned(),
            subresource => format!("{}/{subresource}", action.resource),
        };
        let qualified = match action.group {
            "" => action.resource.to_owned(),
            group => format!("{}.{group}", action.resource),
        };
        let object = match action.name {
            "" => String::new(),
            name => format!(" \"{name}\""),
        };
        let scope = match action.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let mut failure = Self::forbidden(format!(
            "{qualified}{object} is forbidden: User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}",
            user.name, action.verb, action.group
        ));
        failure.details =
            Some(json!({"name": action.name, "group": action.group, "kind": action.resource}));
        failure
    }

    pub(crate) fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(405, "MethodNotAllowed", message)
    }

    pub(crate) fn not_acceptable() -> Self {
        Self::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/json;as=Table;v=v1;g=meta.k8s.io",
        )
    }

    pub(crate) fn unsupported_media_type(allowed: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {allowed}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let message = format!("Request entity too large: limit is {bytes_max}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub(crate) fn expired() -> Self {
        let message = "The resourceVersion for the provided watch is too old.";
        Self::new(410, "Expired", message)
    }

    pub(crate) fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let mut failure = Self::new(504, "Timeout", message);
        failure.details = Some(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1
        }));
        failure
    }

    pub(crate) fn unprocessable(reason_field: &str, message: &str) -> Self {
        let mut failure = Self::new(422, "Invalid", message);
        failure.details = Some(json!({
            "causes": [{"reason": "FieldValueForbidden", "message": message, "field": reason_field}]
        }));
        failure
    }

    /// A JSON patch that does not fit the object: no field is to blame, so that there are no causes.
    pub(crate) fn unfit_patch(why: &str) -> Self {
        let message =
            format!("the server rejected our request due to an error in our request: {why}");
        Self::new(422, "Invalid", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {}", message.into()),
        )
    }

    /// Returns the `Status` object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
