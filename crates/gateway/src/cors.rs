//! Which web pages may ask: cross-origin resource sharing, off unless it is set.

use bytes::Bytes;
use coracle_base::Code;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::body::ReplyBody;
use crate::infer::Failure;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, inference-header-content-length, retry-after, traceparent",
);
/// How long a browser may keep the answer, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsPolicy {
    /// As browsers send them, such as `https://example.com`; `*` for all.
    pub origins: Vec<String>,
}

impl CorsPolicy {
    /// Returns the origin of a request, if its pages may ask.
    pub(crate) fn allowed<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let mut allowed = self.origins.iter();
        allowed
            .any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
            .then_some(origin)
    }

    /// Refuses a change that a page asks for which may not ask.
    ///
    /// A page of another site can make a browser send such a request; no program sends this header.
    ///
    /// # Errors
    /// Code `FailedPrecondition`.
    pub(crate) fn check_change(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if headers.contains_key(ORIGIN) && self.allowed(headers).is_none() {
            let message = "web pages may not change what the server does";
            return Err(Failure::new(Code::FailedPrecondition, message));
        }
        Ok(())
    }

    /// Answers a browser's question whether a page may send a request.
    pub(crate) fn preflight(&self, head: &Parts) -> Option<Response<ReplyBody>> {
        if head.method != Method::OPTIONS
            || !head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        self.allowed(&head.headers)?;
        let mut response = Response::new(ReplyBody::full(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if let Some(asked) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        self.mark(&head.headers, &mut response);
        Some(response)
    }

    /// Tells a browser that a page may read this answer.
    pub(crate) fn mark(&self, asked: &HeaderMap, response: &mut Response<ReplyBody>) {
        if self.origins.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = self.allowed(asked) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}
