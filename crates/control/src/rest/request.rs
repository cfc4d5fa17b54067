//! A request to the API, and its answer.

use bytes::Bytes;
use coracle_access::User;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::failure::Failure;

/// A request to the API, read whole.
#[derive(Clone, Debug, Default)]
pub struct ApiRequest {
    /// Who asks; nobody by default.
    pub user: User,
    /// The method, such as `GET`.
    pub method: String,
    /// The path, still percent-encoded.
    pub path: String,
    /// The query, still percent-encoded.
    pub query: String,
    /// The header `Accept`.
    pub accept: String,
    /// The header `Content-Type`.
    pub content_type: String,
    /// The header `User-Agent`.
    pub user_agent: String,
    /// The header `If-None-Match`.
    pub if_none_match: String,
    /// The body.
    pub body: Bytes,
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct ApiReply {
    /// The HTTP status.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// The header `ETag`, if there is one.
    pub etag: Option<String>,
    /// Texts for headers `Warning`.
    pub warnings: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

const JSON: &str = "application/json";

impl ApiReply {
    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            etag: None,
            warnings: Vec::new(),
            body: text.as_bytes().to_vec(),
        }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            content_type: JSON,
            etag: None,
            warnings: Vec::new(),
            body: value.to_string().into_bytes(),
        }
    }

    /// An answer that is JSON already.
    pub(crate) fn rendered(json: String) -> Self {
        Self {
            content_type: JSON,
            ..Self::text(200, &json)
        }
    }

    pub(crate) fn failure(failure: &Failure) -> Self {
        Self::json(failure.status, &failure.to_json())
    }
}

impl ApiRequest {
    /// Returns the value of a parameter of the query, decoded; the last one if there are several.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.rfind(|(key, _)| *key == name)?;
        let value = value.replace('+', " ");
        Some(percent_decode_str(&value).decode_utf8_lossy().into_owned())
    }

    /// Returns whether a parameter says yes, in any of the ways clients write it.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self
            .parameter(name)
            .unwrap_or_default()
            .to_ascii_lowercase();
        matches!(value.as_str(), "true" | "1" | "t")
    }

    /// Returns a parameter that is a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        match self.parameter(name) {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_not_a_number| {
                Failure::bad_request(format!(
                    "parameter {name}: invalid value {text:?}: not a number"
                ))
            }),
        }
    }

    /// Returns whether nothing is to be written.
    pub(crate) fn is_dry_run(&self) -> Result<bool, Failure> {
        match self.parameter("dryRun").as_deref() {
            None | Some("") => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Failure::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }

    /// Returns the name under which fields are owned: the parameter, or the client's name.
    pub(crate) fn field_manager(&self) -> String {
        let named = self
            .parameter("fieldManager")
            .filter(|name| !name.is_empty());
        named.unwrap_or_else(|| {
            let agent = self.user_agent.split('/').next().unwrap_or_default();
            if agent.is_empty() {
                "unknown".to_owned()
            } else {
                agent.to_owned()
            }
        })
    }

    /// Returns what the client can read: whether a table is preferred, or only the metadata.
    pub(crate) fn shape(&self) -> Result<Shape, Failure> {
        if self.accept.trim().is_empty() {
            return Ok(Shape::Object);
        }
        for media_type in self.accept.split(',') {
            let mut parts = media_type.split(';').map(str::trim);
            let essence = parts.next().unwrap_or_default();
            if !matches!(essence, "application/json" | "application/*" | "*/*") {
                continue;
            }
            let shape = parts.find_map(|part| part.strip_prefix("as="));
            return Ok(match shape {
                Some("Table") => Shape::Table,
                Some(shape) if shape.starts_with("PartialObjectMetadata") => Shape::Metadata,
                Some("APIGroupDiscoveryList") => Shape::Discovery,
                _ => Shape::Object,
            });
        }
        // Answers in JSON are read by clients that would rather have another form.
        if self.accept.contains("protobuf")
            || self.accept.contains("yaml")
            || self.accept.contains("text/")
        {
            return Ok(Shape::Object);
        }
        Err(Failure::not_acceptable())
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Objects as they are.
    Object,
    /// A printed list.
    Table,
    /// The metadata only.
    Metadata,
    /// Discovery in one answer.
    Discovery,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_leniently() {
        let request = ApiRequest {
            query: "&limit=500&watch=True&labelSelector=a%3Db%2Cc+d&x".to_owned(),
            ..ApiRequest::default()
        };
        assert_eq!(request.number("limit").unwrap(), Some(500));
        assert!(request.flag("watch") && !request.flag("x"));
        assert_eq!(
            request.parameter("labelSelector").as_deref(),
            Some("a=b,c d")
        );
        assert_eq!(request.parameter("y"), None);
    }

    #[test]
    fn shapes_follow_the_first_media_type_that_can_be_made() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let cases = [
            ("", Shape::Object),
            (table, Shape::Table),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Shape::Object,
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Shape::Metadata,
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Shape::Discovery,
            ),
            ("*/*", Shape::Object),
        ];
        for (accept, expected) in cases {
            let request = ApiRequest {
                accept: accept.to_owned(),
                ..ApiRequest::default()
            };
            assert_eq!(request.shape().unwrap(), expected, "{accept}");
        }
        let request = ApiRequest {
            accept: "image/png".to_owned(),
            ..ApiRequest::default()
        };
        assert_eq!(request.shape().unwrap_err().status, 406);
    }
}
