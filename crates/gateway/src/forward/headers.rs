//! Which headers are passed on.

use std::time::Duration;

use coracle_protocol::grpc::format_timeout;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;

use crate::grpc::GRPC_TIMEOUT;
use crate::respond::REQUEST_ID;

/// Headers that are about one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes what is about the connection: the known headers and those that `Connection` names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Returns the headers of the request to the process.
pub(super) fn to_process(head: &Parts, request_id: &HeaderValue) -> HeaderMap {
    let mut headers = head.headers.clone();
    remove_hop_by_hop(&mut headers);
    // The gateway has answered it.
    headers.remove(EXPECT);
    headers.insert(REQUEST_ID, request_id.clone());
    // HTTP/2 has the host in its target.
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if !headers.contains_key(HOST) {
        let host = authority.and_then(|host| HeaderValue::from_str(host).ok());
        headers.insert(HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
    }
    if let (Some(host), false) = (
        headers.get(HOST).cloned(),
        headers.contains_key(&FORWARDED_HOST),
    ) {
        headers.insert(FORWARDED_HOST, host);
    }
    if !headers.contains_key(&FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    headers
}

/// Makes headers those of a request in HTTP/2; returns its host.
pub(super) fn to_http2(headers: &mut HeaderMap) -> HeaderValue {
    headers
        .remove(HOST)
        .unwrap_or(HeaderValue::from_static("localhost"))
}

/// Makes headers those of a gRPC request whose caller waits for so long.
pub(super) fn to_grpc(headers: &mut HeaderMap, timeout: Option<Duration>) {
    // A message that was written anew has another length; frames say theirs.
    headers.remove(CONTENT_LENGTH);
    // What tells gRPC's servers that trailers get through.
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let timeout = timeout.and_then(|timeout| HeaderValue::try_from(format_timeout(timeout)).ok());
    if let Some(timeout) = timeout {
        headers.insert(GRPC_TIMEOUT, timeout);
    }
}

/// Makes the process's headers those of the answer.
pub(super) fn from_process(headers: &mut HeaderMap, request_id: HeaderValue) {
    remove_hop_by_hop(headers);
    headers.insert(REQUEST_ID, request_id);
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    #[test]
    fn what_is_about_the_connection_stays_behind() {
        let (head, ()) = Request::builder()
            .header("host", "iris.ml.example.com")
            .header("connection", "close, X-Mine")
            .header("x-mine", "1")
            .header("te", "trailers")
            .header("transfer-encoding", "chunked")
            .header("traceparent", "00-a-b-01")
            .header("authorization", "Bearer t")
            .header("x-request-id", "theirs")
            .body(())
            .unwrap()
            .into_parts();
        let headers = to_process(&head, &HeaderValue::from_static("ours"));
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "authorization",
                "host",
                "traceparent",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-request-id"
            ]
        );
        assert_eq!(headers["x-request-id"], "ours");
        assert_eq!(headers["x-forwarded-host"], "iris.ml.example.com");
        let mut answer = HeaderMap::new();
        answer.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        answer.insert("server", HeaderValue::from_static("uvicorn"));
        from_process(&mut answer, HeaderValue::from_static("ours"));
        assert_eq!(answer.len(), 2);
    }
}
