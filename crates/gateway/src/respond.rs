//! Answers: status, headers, body.

use bytes::Bytes;
use coracle_base::{Code, Printable};
use coracle_protocol::compression::Encoding;
use coracle_protocol::{error_body, http_status};
use coracle_serving::Exposition;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY,
};
use hyper::{Response, StatusCode};

use crate::body::ReplyBody;
use crate::codec::{Encoded, StandIn};
use crate::encoding;
use crate::experiment::VariantMark;

/// The header that carries a request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header that says that an answer was kept from an earlier request.
pub(crate) const CACHE: HeaderName = HeaderName::from_static("x-coracle-cache");
pub(crate) const CACHE_HIT: HeaderValue = HeaderValue::from_static("hit");

/// The header that says that an answer is not the model's, and what it is.
pub(crate) const FALLBACK: HeaderName = HeaderName::from_static("x-coracle-fallback");

/// The header that says how much of a body is JSON, where raw tensor data follows it.
pub(crate) const JSON_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PAGE: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const ONE_SECOND: HeaderValue = HeaderValue::from_static("1");

/// An answer before it gets its request id.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    kind: Kind,
    encoding: Option<Encoding>,
    from_cache: bool,
    stood_in: Option<StandIn>,
    /// The variant of an experiment that answered.
    variant: Option<Box<VariantMark>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Metrics(Exposition),
    /// A page for people.
    Page,
    /// So many bytes of JSON, then raw tensor data.
    Binary(usize),
    /// Says which methods there are.
    NotAllowed(&'static str),
    /// Says that a retry may succeed.
    RetryLater,
    /// Ends the connection, whose request was not read to its end.
    Close,
}

impl Reply {
    /// Returns a JSON answer.
    pub(crate) fn json(body: Vec<u8>) -> Self {
        Self::with_status(StatusCode::OK, body)
    }

    /// Returns the answer to an inference.
    pub(crate) fn encoded(encoded: Encoded) -> Self {
        let reply = Self {
            from_cache: encoded.from_cache,
            stood_in: encoded.fallback.map(|fallback| fallback.by),
            ..Self::json(encoded.body)
        };
        match encoded.json_length {
            None => reply,
            Some(json_length) => Self {
                kind: Kind::Binary(json_length),
                ..reply
            },
        }
    }

    /// Returns a JSON answer whose body is appended by `render`.
    pub(crate) fn rendered(render: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut body = Vec::with_capacity(128);
        render(&mut body);
        Self::json(body)
    }

    /// Returns a JSON answer of any status.
    pub(crate) fn with_status(status: StatusCode, body: Vec<u8>) -> Self {
        Self {
            status,
            body,
            kind: Kind::Json,
            encoding: None,
            from_cache: false,
            stood_in: None,
            variant: None,
        }
    }

    /// Returns the answer with the variant that gave it.
    pub(crate) fn with_variant(self, variant: Option<Box<VariantMark>>) -> Self {
        Self { variant, ..self }
    }

    /// Returns the answer with its body compressed.
    pub(crate) fn with_encoding(self, body: Vec<u8>, encoding: Encoding) -> Self {
        Self {
            body,
            encoding: Some(encoding),
            ..self
        }
    }

    /// Returns a failure in the words of another server; what else it says (that a retry may succeed, that the connection ends) stays.
    pub(crate) fn in_words_of(self, words: fn(u16, &str) -> Vec<u8>) -> Self {
        let error: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let message = error.as_ref().and_then(|error| error["error"].as_str());
        let body = words(self.status.as_u16(), message.unwrap_or_default());
        Self { body, ..self }
    }

    /// Returns the metrics.
    pub(crate) fn metrics(text: String, exposition: Exposition) -> Self {
        Self {
            kind: Kind::Metrics(exposition),
            ..Self::json(text.into_bytes())
        }
    }

    /// Returns a page.
    pub(crate) fn page(text: String) -> Self {
        Self {
            kind: Kind::Page,
            ..Self::json(text.into_bytes())
        }
    }

    /// Returns the answer to a failure.
    pub(crate) fn failure(code: Code, message: &str) -> Self {
        let status =
            StatusCode::from_u16(http_status(code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = match code {
            Code::ResourceExhausted | Code::Unavailable => Kind::RetryLater,
            _ => Kind::Json,
        };
        Self {
            kind,
            ..Self::with_status(status, error_body(message))
        }
    }

    /// Returns an error of the HTTP layer itself.
    pub(crate) fn error(status: StatusCode, message: &str) -> Self {
        Self::with_status(status, error_body(message))
    }

    /// Tells kubectl in its own words that Kubernetes is elsewhere: without a kubeconfig it asks port 8080.
    pub(crate) fn kubernetes_elsewhere() -> Self {
        // A `Status` for kubectl, and an error as all others for everybody else.
        const BODY: &str = r#"{"error":"this port answers predictions, not kubectl; use the kubeconfig that `coracle up` names: export KUBECONFIG=~/.coracle/kubeconfig","kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"this port answers predictions, not kubectl; use the kubeconfig that `coracle up` names: export KUBECONFIG=~/.coracle/kubeconfig","reason":"NotFound","code":404}"#;
        Self::with_status(StatusCode::NOT_FOUND, BODY.as_bytes().to_vec())
    }

    /// As [`Reply::error`], and ends the connection, because the rest of the request was not read.
    pub(crate) fn error_and_close(status: StatusCode, message: &str) -> Self {
        Self {
            kind: Kind::Close,
            ..Self::error(status, message)
        }
    }

    /// Returns that the path is there, for other methods.
    pub(crate) fn not_allowed(allow: &'static str, message: &str) -> Self {
        Self {
            kind: Kind::NotAllowed(allow),
            ..Self::error(StatusCode::METHOD_NOT_ALLOWED, message)
        }
    }

    /// Returns the content type of an answer that needs no headers beside it and its id but, perhaps, the length of its JSON.
    pub(crate) fn plain_type(&self) -> Option<(HeaderValue, Option<usize>)> {
        let is_marked = self.from_cache || self.stood_in.is_some() || self.variant.is_some();
        if self.encoding.is_some() || is_marked {
            return None;
        }
        match self.kind {
            Kind::Json => Some((JSON, None)),
            Kind::Binary(json_length) => Some((BINARY, Some(json_length))),
            _ => None,
        }
    }

    /// Returns the HTTP response.
    pub(crate) fn into_response(self, request_id: HeaderValue) -> Response<ReplyBody> {
        let mut response = Response::new(ReplyBody::full(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            match self.kind {
                Kind::Metrics(Exposition::Prometheus) => METRICS,
                Kind::Metrics(Exposition::OpenMetrics) => OPEN_METRICS,
                Kind::Binary(_) => BINARY,
                Kind::Page => PAGE,
                _ => JSON,
            },
        );
        headers.insert(REQUEST_ID, request_id);
        if self.from_cache {
            headers.insert(CACHE, CACHE_HIT);
        }
        if let Some(stood_in) = self.stood_in {
            headers.insert(FALLBACK, HeaderValue::from_static(stood_in.name()));
        }
        if let Some(variant) = &self.variant {
            variant.put(headers);
        }
        if let Some(encoding) = self.encoding {
            headers.insert(CONTENT_ENCODING, encoding::header(encoding));
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        match self.kind {
            Kind::Json | Kind::Metrics(_) | Kind::Page => {}
            Kind::Binary(json_length) => {
                drop(headers.insert(JSON_LENGTH, HeaderValue::from(json_length)));
            }
            Kind::NotAllowed(allow) => drop(headers.insert(ALLOW, HeaderValue::from_static(allow))),
            Kind::RetryLater => drop(headers.insert(RETRY_AFTER, ONE_SECOND)),
            Kind::Close => drop(headers.insert(CONNECTION, CLOSE)),
        }
        response
    }
}

/// Returns a text as it stands in a page: no markup, and nothing that a terminal would obey where the page is read in one.
pub(crate) fn escaped(text: &str) -> String {
    let text = Printable(text).to_string();
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_neither_markup_nor_control_characters_of_others() {
        let text = "a<b>&\"\u{1b}[31m\u{9b}2J\u{202e}\u{7f}";
        let expected = r"a&lt;b&gt;&amp;&quot;\u001b[31m\u009b2J\u202e\u007f";
        assert_eq!(escaped(text), expected);
    }
}
