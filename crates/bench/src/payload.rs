//! Requests as bytes, made before the load begins.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::{BenchError, Target};

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// Head and body as they go over the wire.
    Http1(Bytes),
    /// A head, and a framed message.
    Http2 { head: Box<Request<()>>, body: Bytes },
}

/// What all requests have in common: where they go, and what headers the user wants.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    scheme: &'static str,
    authority: String,
    headers: HeaderMap,
}

const USER_AGENT: &str = concat!("coracle-bench/", env!("CARGO_PKG_VERSION"));

impl Envelope {
    /// Checks the user's headers.
    ///
    /// # Errors
    /// [`BenchError::Target`] naming the header.
    pub(crate) fn new(target: &Target, headers: &[(String, String)]) -> Result<Self, BenchError> {
        let mut checked = HeaderMap::new();
        for (name, value) in headers {
            let fault = || {
                BenchError::Target(format!(
                    "header {name:?}: not a header of HTTP; write NAME: VALUE"
                ))
            };
            let header = HeaderName::try_from(name.as_str()).map_err(|_not_a_name| fault())?;
            let value = HeaderValue::from_str(value).map_err(|_not_a_value| fault())?;
            checked.append(header, value);
        }
        Ok(Self {
            scheme: if target.is_tls { "https" } else { "http" },
            authority: target.authority(),
            headers: checked,
        })
    }

    /// Returns a request of HTTP/1.1; the user's headers take the place of ours.
    pub(crate) fn http1(
        &self,
        method: &Method,
        path: &str,
        ours: &[(&str, &str)],
        body: &[u8],
    ) -> Payload {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        let mut header = |name: &str, value: &[u8]| {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        };
        let fixed = [
            ("host", self.authority.as_str()),
            ("user-agent", USER_AGENT),
        ];
        for (name, value) in fixed.iter().chain(ours) {
            if !self.headers.contains_key(*name) {
                header(name, value.as_bytes());
            }
        }
        for (name, value) in &self.headers {
            header(name.as_str(), value.as_bytes());
        }
        if method != Method::GET {
            header("content-length", body.len().to_string().as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        Payload::Http1(Bytes::from(bytes))
    }

    /// Returns a call of gRPC with a framed message.
    ///
    /// # Errors
    /// [`BenchError::Target`] if the server's address is none of a URI.
    pub(crate) fn grpc(&self, path: &str, message: Vec<u8>) -> Result<Payload, BenchError> {
        let host = self.headers.get("host").and_then(|host| host.to_str().ok());
        let authority = host.unwrap_or(&self.authority);
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(authority)
            .path_and_query(path)
            .build();
        let uri = uri.map_err(|error| BenchError::Target(format!("{authority}{path}: {error}")))?;
        let mut head = Request::new(());
        *head.method_mut() = Method::POST;
        *head.uri_mut() = uri;
        *head.version_mut() = http::Version::HTTP_2;
        let headers = head.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("user-agent", HeaderValue::from_static(USER_AGENT));
        for (name, value) in self.headers.iter().filter(|(name, _)| *name != "host") {
            headers.append(name, value.clone());
        }
        Ok(Payload::Http2 {
            head: Box::new(head),
            body: Bytes::from(message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_headers_take_the_place_of_ours() {
        let target = Target::parse("http://127.0.0.1:8080/v1/models/m").unwrap();
        let headers = [("Host", "m.example.com"), ("authorization", "Bearer x")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let envelope = Envelope::new(&target, &headers).unwrap();
        let ours = [("content-type", "application/json")];
        let Payload::Http1(bytes) = envelope.http1(&Method::POST, "/p", &ours, b"{}") else {
            panic!("not HTTP/1.1");
        };
        let expected = format!(
            "POST /p HTTP/1.1\r\nuser-agent: {USER_AGENT}\r\ncontent-type: application/json\r\nhost: m.example.com\r\nauthorization: Bearer x\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[test]
    fn a_header_that_would_break_the_request_is_refused() {
        let target = Target::parse("http://h/").unwrap();
        for (name, value) in [("a b", "x"), ("a", "x\r\ny: z")] {
            let headers = [(name.to_owned(), value.to_owned())];
            assert!(Envelope::new(&target, &headers).is_err(), "{name}");
        }
    }
}
