//! Where requests go: a server, a model, and the protocol to ask it in.

use std::fmt;

use crate::BenchError;

/// How a model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// KServe's V1 over REST.
    V1,
    /// The Open Inference Protocol over REST, with JSON data.
    V2,
    /// The same with raw bytes after the JSON.
    V2Binary,
    /// The same over gRPC.
    Grpc,
}

impl Protocol {
    /// Returns its name, as `--protocol` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V2Binary => "v2-binary",
            Self::Grpc => "grpc",
        }
    }

    /// Tells whether requests go over gRPC.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        self == Self::Grpc
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A model on a server, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What comes before `/v1` or `/v2` in paths; empty or with a leading slash.
    pub prefix: String,
    /// The model; empty if none was named.
    pub model: String,
    /// The version; empty for the server's choice.
    pub version: String,
    /// What comes after the path, such as `method=predict_proba`; empty for nothing.
    pub query: String,
    /// How the model is asked; `None` if the URL does not tell.
    pub protocol: Option<Protocol>,
}

impl Target {
    /// Reads a URL: of a server (`http://127.0.0.1:8080`), of a model (`.../v1/models/iris`, `.../v2/models/iris/versions/3`), or of
    /// its method (`...:predict`, `.../infer`); `grpc://` and `grpcs://` stand for gRPC.
    ///
    /// # Errors
    /// [`BenchError::Target`] with what was expected.
    pub fn parse(url: &str) -> Result<Self, BenchError> {
        let fault = |what: &str| {
            BenchError::Target(format!(
                "{url:?}: {what}; write such as http://127.0.0.1:8080/v1/models/iris"
            ))
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (is_tls, mut protocol) = match scheme {
            "http" => (false, None),
            "https" => (true, None),
            "grpc" => (false, Some(Protocol::Grpc)),
            "grpcs" => (true, Some(Protocol::Grpc)),
            _ => return Err(fault("the scheme is not http, https, grpc or grpcs")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (host, port) = split_authority(authority, if is_tls { 443 } else { 80 })
            .ok_or_else(|| fault("no host and port"))?;
        let path = path.trim_end_matches('/');
        let (prefix, model, version) = if protocol.is_some() {
            (
                String::new(),
                path.trim_start_matches('/').to_owned(),
                String::new(),
            )
        } else {
            let place = ModelPath::find(path).ok_or_else(|| {
                fault("the path is not that of a model (/v1/models/NAME or /v2/models/NAME)")
            })?;
            protocol = place.protocol;
            (place.prefix, place.model, place.version)
        };
        Ok(Self {
            is_tls,
            host,
            port,
            prefix,
            model,
            version,
            query: query.to_owned(),
            protocol,
        })
    }

    /// Returns how the model is asked: V2 unless something else was said.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol.unwrap_or(Protocol::V2)
    }

    /// Returns the server's address as in URLs.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Returns the server's URL.
    #[must_use]
    pub fn base_url(&self) -> String {
        let scheme = match (self.protocol().is_grpc(), self.is_tls) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "grpc",
            (true, true) => "grpcs",
        };
        format!("{scheme}://{}{}", self.authority(), self.prefix)
    }

    /// Returns the path of the model's method, with the query.
    #[must_use]
    pub fn path(&self) -> String {
        let Self { prefix, model, .. } = self;
        let version = match self.version.as_str() {
            "" => String::new(),
            version => format!("/versions/{version}"),
        };
        let query = match self.query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        match self.protocol() {
            Protocol::V1 => format!("{prefix}/v1/models/{model}{version}:predict{query}"),
            Protocol::V2 | Protocol::V2Binary => {
                format!("{prefix}/v2/models/{model}{version}/infer{query}")
            }
            Protocol::Grpc => "/inference.GRPCInferenceService/ModelInfer".to_owned(),
        }
    }
}

/// Returns host and port.
fn split_authority(authority: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        (host, port.strip_prefix(':'))
    } else if let Some((host, port)) = authority.rsplit_once(':') {
        (host, Some(port))
    } else {
        (authority, None)
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => default_port,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// What a path says.
struct ModelPath {
    prefix: String,
    model: String,
    version: String,
    protocol: Option<Protocol>,
}

impl ModelPath {
    fn find(path: &str) -> Option<Self> {
        for (marker, protocol) in [("/v1/models/", Protocol::V1), ("/v2/models/", Protocol::V2)] {
            let Some((prefix, rest)) = path.split_once(marker) else {
                continue;
            };
            let rest = rest.strip_suffix(":predict").unwrap_or(rest);
            let rest = rest.strip_suffix("/infer").unwrap_or(rest);
            let (model, version) = rest.split_once("/versions/").unwrap_or((rest, ""));
            let is_name = |text: &str| !text.contains('/');
            return (!model.is_empty() && is_name(model) && is_name(version)).then(|| Self {
                prefix: prefix.to_owned(),
                model: model.to_owned(),
                version: version.to_owned(),
                protocol: Some(protocol),
            });
        }
        let (prefix, protocol) = match path {
            "/v1" | "/v1/models" => ("", Some(Protocol::V1)),
            "/v2" | "/v2/models" => ("", Some(Protocol::V2)),
            other => (other, None),
        };
        Some(Self {
            prefix: prefix.to_owned(),
            model: String::new(),
            version: String::new(),
            protocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_server_model_and_protocol() {
        let cases = [
            (
                "http://127.0.0.1:8080/v1/models/iris",
                "127.0.0.1:8080",
                "/v1/models/iris:predict",
            ),
            (
                "127.0.0.1:8080/v1/models/iris:predict",
                "127.0.0.1:8080",
                "/v1/models/iris:predict",
            ),
            (
                "http://[::1]:9/v2/models/a/versions/3/infer?x=1",
                "[::1]:9",
                "/v2/models/a/versions/3/infer?x=1",
            ),
            (
                "https://h/serving/ns/v2/models/m",
                "h:443",
                "/serving/ns/v2/models/m/infer",
            ),
            (
                "grpc://h:8001/m",
                "h:8001",
                "/inference.GRPCInferenceService/ModelInfer",
            ),
        ];
        for (url, authority, path) in cases {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.authority().as_str(), target.path().as_str()),
                (authority, path),
                "{url}"
            );
        }
        let server = Target::parse("http://h:8080/").unwrap();
        assert_eq!((server.model.as_str(), server.protocol), ("", None));
    }

    #[test]
    fn what_is_no_url_of_a_model_is_refused() {
        for url in [
            "ftp://h/v1/models/m",
            "http://",
            "http://h:port/",
            "http://h/v1/models/a/b",
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains("write such as"), "{error}");
        }
    }
}
