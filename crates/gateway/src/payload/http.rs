//! Payloads as CloudEvents over HTTP, in binary mode: the attributes are headers, the data is the body.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::event::Event;
use super::receivers::{Queued, Report};
use crate::outgoing;

/// The events that are sent to one receiver at a time.
const POSTS_MAX: usize = 8;

/// Returns a URL without what may be a secret: user, password and query.
pub(super) fn without_secrets(url: &str) -> String {
    let (url, _query) = url.split_once('?').unwrap_or((url, ""));
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

/// Sends events until no more can come.
pub(super) async fn run(url: String, mut events: mpsc::UnboundedReceiver<Queued>, report: Report) {
    let client = match outgoing::client() {
        Ok(client) => client,
        Err(why) => {
            while events.recv().await.is_some() {
                report.ended(Err(why.clone()));
            }
            return;
        }
    };
    let mut posts = JoinSet::new();
    loop {
        tokio::select! {
            queued = events.recv(), if posts.len() < POSTS_MAX => {
                let Some(queued) = queued else { break };
                let (client, url, report) = (client.clone(), url.clone(), report.clone());
                posts.spawn(async move {
                    let headers = headers(&queued.event);
                    let data = queued.event.data.clone();
                    report.ended(outgoing::post(&client, &url, &headers, data).await);
                });
            }
            Some(_ended) = posts.join_next() => {}
        }
    }
    while posts.join_next().await.is_some() {}
}

/// Returns the headers of an event.
fn headers(event: &Event) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in event.attributes() {
        let name = HeaderName::try_from(format!("ce-{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(encoded(&value))) {
            headers.insert(name, value);
        }
    }
    if let Ok(content_type) = HeaderValue::try_from(event.content_type()) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers
}

/// Encodes what a header cannot hold. Spaces and quotes are left as they are, as KServe leaves them: its receivers read
/// JSON from these headers.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
            byte => text.push(char::from(byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::PayloadTarget;
    use super::super::event::tests::event;
    use super::*;

    #[test]
    fn attributes_are_headers() {
        let target = PayloadTarget::Url(String::new());
        let event = event(&Arc::default(), target, ("application/json", b"{}"));
        let headers = headers(&event);
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-type", "org.kubeflow.serving.inference.response"),
            ("ce-inferenceservicename", "iris"),
            ("ce-namespace", "ml"),
            ("ce-component", "predictor"),
            ("ce-metadata", "{\"X-Who\":[\"me\"]}"),
            ("ce-statuscode", "200"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(headers.get(name).unwrap(), value, "{name}");
        }
        assert_eq!(encoded("a b\"100%\u{e9}\n"), "a b\"100%25%C3%A9%0A");
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = "https://user:word@host:1/path?token=t";
        assert_eq!(without_secrets(url), "https://host:1/path");
        assert_eq!(without_secrets("http://host"), "http://host/");
    }
}
