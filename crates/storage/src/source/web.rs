//! One file behind an HTTP URL, and the HTTP client that other sources share.

use std::ops::Range;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use reqwest::header::{
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, LOCATION,
    RANGE,
};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::{Body, RemoteFile, Source, plain_etag};
use crate::config::{Credentials, StorageLimits};
use crate::error::StorageError;
use crate::location::without_secrets;
use crate::remote::{Provider, Remote};

const REDIRECTS_MAX: usize = 10;

/// Gets URLs of one place. The headers, which may be secrets, go to the origin they are for and to no
/// other that a redirect names.
pub(crate) struct WebClient {
    client: Client,
    headers: HeaderMap,
    origin: url::Origin,
    pub(crate) remote: Remote,
}

impl WebClient {
    pub(super) fn try_new(
        origin: &Url,
        headers: HeaderMap,
        remote: Remote,
        limits: &StorageLimits,
    ) -> Result<Self, StorageError> {
        Self::through(origin, headers, remote, limits, (None, None))
    }

    /// As [`try_new`](Self::try_new), and trusts the authorities in `pem` beside the system's; all requests go through `proxy` if there is
    /// one, else through what the environment names.
    pub(crate) fn through(
        origin: &Url,
        headers: HeaderMap,
        remote: Remote,
        limits: &StorageLimits,
        (pem, proxy): (Option<&[u8]>, Option<&str>),
    ) -> Result<Self, StorageError> {
        let proxy = proxy.map(reqwest::Proxy::all).transpose();
        let proxy = proxy.map_err(|error| remote.unusable_options(error.without_url()))?;
        let authorities = pem.map(reqwest::Certificate::from_pem_bundle);
        let authorities = authorities
            .transpose()
            .map_err(|error| remote.unusable_options(error.without_url()))?
            .unwrap_or_default();
        let builder = || {
            let builder = Client::builder()
                .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(limits.request_timeout)
                .read_timeout(limits.request_timeout)
                .tls_certs_merge(authorities.clone());
            match &proxy {
                Some(proxy) => builder.proxy(proxy.clone()),
                None => builder,
            }
        };
        let client = match builder().build() {
            // An image may have no certificates to trust; plain HTTP needs none.
            Err(_no_certificates) if origin.scheme() == "http" => {
                builder().tls_certs_only([]).build()
            }
            outcome => outcome,
        };
        let client = client.map_err(|error| remote.not_served(error.without_url()))?;
        Ok(Self {
            client,
            headers,
            origin: origin.origin(),
            remote,
        })
    }

    /// Gets a URL, following redirects; any status but success is an error.
    pub(crate) async fn get(
        &self,
        url: &Url,
        range: Option<&Range<u64>>,
    ) -> Result<Response, StorageError> {
        let mut url = url.clone();
        for _ in 0..REDIRECTS_MAX {
            let mut request = self.client.get(url.clone());
            if url.origin() == self.origin {
                request = request.headers(self.headers.clone());
            }
            if let Some(range) = range {
                let last = range.end.saturating_sub(1);
                request = request.header(RANGE, format!("bytes={}-{last}", range.start));
            }
            let response = request
                .send()
                .await
                .map_err(|error| self.transport(error))?;
            if !response.status().is_redirection() {
                return self.check_status(response);
            }
            let location = response.headers().get(LOCATION);
            let location = location.and_then(|location| location.to_str().ok());
            url = redirected(&url, location).map_err(|problem| {
                let status = response.status();
                self.remote.not_served(format!("status {status} {problem}"))
            })?;
        }
        Err(self
            .remote
            .not_served(format!("more than {REDIRECTS_MAX} redirects")))
    }

    fn check_status(&self, response: Response) -> Result<Response, StorageError> {
        let status = response.status();
        let cause = format!("status {status}");
        match status {
            _ if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(self.remote.authentication_failed(cause))
            }
            StatusCode::FORBIDDEN => Err(self.remote.access_denied(cause)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(self.remote.not_found(cause)),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(self.remote.not_served(cause).passing())
            }
            _ if status.is_server_error() => Err(self.remote.not_served(cause).passing()),
            _ => Err(self.remote.not_served(cause)),
        }
    }

    pub(crate) fn transport(&self, error: reqwest::Error) -> StorageError {
        let is_connect = error.is_connect();
        // The URL may hold a secret.
        let error = error.without_url();
        if is_connect {
            self.remote.not_connected(error)
        } else {
            self.remote.not_served(error).passing()
        }
    }

    /// Turns a response into the bytes from an offset on.
    pub(super) fn body(&self, response: Response) -> Body {
        let (start, total) = match content_range(&response) {
            Some((start, total)) => (start, total),
            None => (0, response.content_length()),
        };
        let etag = etag(&response);
        let remote = self.remote.clone();
        Body {
            start,
            etag,
            total,
            stream: response
                .bytes_stream()
                .map_err(move |error| remote.not_served(error.without_url()).passing())
                .boxed(),
        }
    }
}

/// Returns where a redirect leads; what began over HTTPS stays there, or anyone on the way could answer.
fn redirected(from: &Url, location: Option<&str>) -> Result<Url, &'static str> {
    let next = location.and_then(|location| from.join(location).ok());
    match next.as_ref().map(|next| (from.scheme(), next.scheme())) {
        Some(("https", "http")) => Err("redirects from https to http, which is not followed"),
        Some((_, "http" | "https")) => next.ok_or("without a location"),
        _ => Err("without a sound location"),
    }
}

/// The file behind one URL.
pub(super) struct HttpSource {
    web: WebClient,
    url: Url,
}

impl HttpSource {
    pub(super) fn try_new(
        url: &Url,
        credentials: &Credentials,
        limits: &StorageLimits,
    ) -> Result<Self, StorageError> {
        let mut remote = Remote {
            provider: Provider::Http,
            shown: without_secrets(url),
            endpoint: url.origin().ascii_serialization(),
            is_anonymous: true,
        };
        let headers = secret_headers(url, credentials, &remote)?;
        remote.is_anonymous = headers.is_empty();
        Ok(Self {
            web: WebClient::try_new(url, headers, remote, limits)?,
            url: url.clone(),
        })
    }

    async fn look(&self) -> Result<Vec<RemoteFile>, StorageError> {
        // One byte is asked for and not the headers alone: signed URLs are good for GET only.
        let response = self.web.get(&self.url, Some(&(0..1))).await?;
        let name = self.file_name();
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if content_type.starts_with("text/html") {
            let problem = "came as a web page (text/html) and not as a file; check the URL, and whether \
                           it asks for a sign-in";
            return Err(self.web.remote.damaged(&name, problem));
        }
        let bytes = match content_range(&response) {
            Some((_start, total)) => total,
            None => response.content_length(),
        };
        if bytes == Some(0) {
            return Ok(Vec::new());
        }
        Ok(vec![RemoteFile {
            relative: PathBuf::from(name),
            key: String::new(),
            bytes,
            etag: etag(&response),
            sha256: None,
        }])
    }

    fn file_name(&self) -> String {
        let last = self
            .url
            .path_segments()
            .and_then(|mut segments| segments.next_back())
            .unwrap_or_default();
        let name = percent_encoding::percent_decode_str(last)
            .decode_utf8_lossy()
            .replace(['/', '\\', '\0'], "_");
        match name.as_str() {
            "" | "." | ".." => "model".to_owned(),
            _ => name,
        }
    }
}

impl Source for HttpSource {
    fn remote(&self) -> &Remote {
        &self.web.remote
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<RemoteFile>, StorageError>> {
        self.look().boxed()
    }

    fn read<'a>(
        &'a self,
        _file: &'a RemoteFile,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StorageError>> {
        async move {
            let response = self.web.get(&self.url, range.as_ref()).await?;
            Ok(self.web.body(response))
        }
        .boxed()
    }
}

/// Reads the headers of KServe's secret, which are for the host it names.
fn secret_headers(
    url: &Url,
    credentials: &Credentials,
    remote: &Remote,
) -> Result<HeaderMap, StorageError> {
    let mut headers = HeaderMap::new();
    let is_for_host = credentials
        .first(&["https-host"])
        .is_none_or(|host| is_host_of(host, url));
    let Some(text) = credentials.first(&["headers"]).filter(|_| is_for_host) else {
        return Ok(headers);
    };
    let given: std::collections::BTreeMap<String, String> = serde_json::from_str(text)
        // The parser's own words may quote a secret.
        .map_err(|error| {
            remote.unusable_options(format!(
                "headers is no JSON object of strings: line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
    for (name, value) in given {
        let bad = |what: &str| remote.unusable_options(format!("headers: {what} of `{name}`"));
        let header = HeaderName::try_from(name.as_str()).map_err(|_text| bad("the name"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_text| bad("the value"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

fn is_host_of(host: &str, url: &Url) -> bool {
    let host = host.split_once("://").map_or(host, |(_scheme, rest)| rest);
    let host = host.trim_end_matches('/');
    let own = url.host_str().unwrap_or_default();
    let with_port = url.port().map(|port| format!("{own}:{port}"));
    host.eq_ignore_ascii_case(own)
        || with_port.is_some_and(|with_port| host.eq_ignore_ascii_case(&with_port))
}

fn etag(response: &Response) -> Option<String> {
    let headers = response.headers();
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    text(&ETAG)
        .map(plain_etag)
        .or_else(|| text(&LAST_MODIFIED).map(str::to_owned))
}

/// Reads `bytes 0-99/1000` into the first offset and the size of the whole.
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _end) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_of(uri: &str, credentials: &Credentials) -> Result<HttpSource, StorageError> {
        crate::storage::install_tls();
        let url = Url::parse(uri).unwrap();
        HttpSource::try_new(&url, credentials, &StorageLimits::default())
    }

    fn credentials(host: &str, headers: &str) -> Credentials {
        Credentials {
            data: [
                ("https-host".to_owned(), host.to_owned()),
                ("headers".to_owned(), headers.to_owned()),
            ]
            .into(),
            ..Credentials::default()
        }
    }

    #[test]
    fn file_names_are_plain() {
        let cases = [
            ("http://127.0.0.1/a/m.bst?x=1", "m.bst"),
            ("http://127.0.0.1/a%20b.tgz", "a b.tgz"),
            ("http://127.0.0.1/a/..%2F..%2Fx", ".._.._x"),
            ("http://127.0.0.1/", "model"),
        ];
        for (uri, expected) in cases {
            let source = source_of(uri, &Credentials::default()).unwrap();
            assert_eq!(source.file_name(), expected, "{uri}");
        }
    }

    #[test]
    fn redirects_keep_to_https() {
        let next = |from: &str, location: Option<&str>| {
            let from = Url::parse(from).unwrap();
            redirected(&from, location).map(|next| next.to_string())
        };
        for (from, location, expected) in [
            ("https://a/b/c", "d", "https://a/b/d"),
            ("https://a/b/c", "https://e/f", "https://e/f"),
            ("https://a/b/c", "//e/f", "https://e/f"),
            ("http://a/b/c", "http://e/f", "http://e/f"),
            ("http://a/b/c", "https://e/f", "https://e/f"),
        ] {
            assert_eq!(next(from, Some(location)), Ok(expected.to_owned()));
        }
        for location in ["http://a/b/d", "HTTP://e/f"] {
            assert!(next("https://a/b/c", Some(location)).is_err(), "{location}");
        }
        for location in [None, Some("ftp://a/b"), Some("file:///etc/passwd")] {
            assert!(next("http://a/b", location).is_err(), "{location:?}");
        }
    }

    #[test]
    fn headers_are_for_their_host_alone() {
        let headers = r#"{"X-Api-Key": "hush"}"#;
        for (host, n_headers) in [
            ("127.0.0.1", 1),
            ("https://127.0.0.1:81/", 1),
            ("127.0.0.1:80", 0),
            ("h", 0),
        ] {
            let source = source_of("http://127.0.0.1:81/x", &credentials(host, headers)).unwrap();
            assert_eq!(source.web.headers.len(), n_headers, "{host}");
        }
        let broken = source_of("http://h/x", &credentials("h", "{\"a\": hush}"));
        let error = broken.err().unwrap();
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
}
