//! The part of S3 that a download needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use coracle_storage::Credentials;

use crate::server::{Reply, Request, Server};

/// Objects by key, with how often they were written.
#[derive(Clone, Default)]
pub(crate) struct Bucket {
    objects: Arc<Mutex<BTreeMap<String, (u32, Vec<u8>)>>>,
}

impl Bucket {
    pub(crate) fn with(objects: &[(&str, &[u8])]) -> Self {
        let bucket = Self::default();
        for (key, content) in objects {
            bucket.put(key, content);
        }
        bucket
    }

    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        let mut objects = self.objects.lock().unwrap();
        let version = objects.get(key).map_or(1, |(version, _)| version + 1);
        objects.insert(key.to_owned(), (version, content.to_vec()));
    }

    pub(crate) async fn serve(&self) -> Server {
        let bucket = self.clone();
        Server::start(move |request| bucket.answer(request)).await
    }

    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let path = percent_encoding::percent_decode_str(request.path())
            .decode_utf8()
            .unwrap();
        let key = path
            .strip_prefix("/bucket")
            .unwrap()
            .trim_start_matches('/');
        if key.is_empty() {
            return Reply::new(200, self.list(request));
        }
        match self.objects.lock().unwrap().get(key) {
            Some((version, content)) => Reply::file(request, content, &format!("{key}-{version}")),
            None => Reply::new(404, "<Error><Code>NoSuchKey</Code></Error>"),
        }
    }

    /// Lists two objects a page.
    fn list(&self, request: &Request) -> String {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.target.split_once('?').unwrap().1.as_bytes())
                .into_owned()
                .collect();
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let after = query.get("continuation-token").cloned().unwrap_or_default();
        let objects = self.objects.lock().unwrap();
        let found: Vec<_> = objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && **key > after)
            .collect();
        let mut text = String::from("<ListBucketResult>");
        for (key, (version, content)) in found.iter().take(2) {
            text.push_str(&format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{key}-{version}&quot;</ETag><Size>{}</Size></Contents>",
                content.len()
            ));
        }
        if found.len() > 2 {
            text.push_str(&format!(
                "<NextContinuationToken>{}</NextContinuationToken>",
                found[1].0
            ));
        }
        text.push_str("</ListBucketResult>");
        text
    }
}

/// What a secret for this bucket holds.
pub(crate) fn credentials(server: &Server) -> Credentials {
    credentials_at(server.address)
}

pub(crate) fn credentials_at(address: SocketAddr) -> Credentials {
    Credentials {
        data: [
            ("AWS_ACCESS_KEY_ID".to_owned(), "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned()),
        ]
        .into(),
        annotations: [
            (
                "serving.kserve.io/s3-endpoint".to_owned(),
                address.to_string(),
            ),
            ("serving.kserve.io/s3-usehttps".to_owned(), "0".to_owned()),
        ]
        .into(),
    }
}
