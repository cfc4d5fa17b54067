//! Models of the Hugging Face hub: one listing with sizes and digests, files by revision.

use std::ops::Range;
use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::web::WebClient;
use super::{Body, RemoteFile, Source};
use crate::config::{Credentials, StorageLimits};
use crate::error::{StorageError, StorageErrorKind};
use crate::remote::{Provider, Remote};

const HUB: &str = "https://huggingface.co";

/// The most bytes that a listing may take.
const LISTING_BYTES_MAX: usize = 64 << 20;

/// Which model, and which state of it.
pub(super) struct ModelRevision<'a> {
    pub(super) owner: &'a str,
    pub(super) model: &'a str,
    pub(super) revision: &'a str,
}

/// The files of a model at one revision.
pub(super) struct HuggingFaceSource {
    web: WebClient,
    hub: Url,
    model: [String; 2],
    revision: String,
}

/// What the hub answers about a model, as far as it matters here.
#[derive(Deserialize)]
struct ModelInfo {
    /// The commit that the revision stands for.
    #[serde(default)]
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, rename = "blobId")]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    #[serde(default)]
    sha256: Option<String>,
}

impl HuggingFaceSource {
    pub(super) fn try_new(
        model: &ModelRevision<'_>,
        credentials: &Credentials,
        limits: &StorageLimits,
    ) -> Result<Self, StorageError> {
        let ModelRevision {
            owner,
            model,
            revision,
        } = model;
        let endpoint = credentials.first(&["HF_ENDPOINT"]).unwrap_or(HUB);
        let token = credentials.first(&["HF_TOKEN"]);
        let mut remote = Remote {
            provider: Provider::HuggingFace,
            shown: format!("hf://{owner}/{model}:{revision}"),
            endpoint: HUB.to_owned(),
            is_anonymous: token.is_none(),
        };
        let hub = Url::parse(endpoint)
            .ok()
            .filter(|hub| ["http", "https"].contains(&hub.scheme()))
            .ok_or_else(|| remote.unusable_options("HF_ENDPOINT is no http or https URL"))?;
        remote.endpoint = crate::location::without_secrets(&hub)
            .trim_end_matches('/')
            .to_owned();
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_text| remote.unusable_options("HF_TOKEN is no plain token"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self {
            web: WebClient::try_new(&hub, headers, remote, limits)?,
            hub,
            model: [(*owner).to_owned(), (*model).to_owned()],
            revision: (*revision).to_owned(),
        })
    }

    /// Returns a URL of the hub with each part escaped.
    fn url<'a>(&'a self, parts: impl IntoIterator<Item = &'a str>) -> Result<Url, StorageError> {
        let mut url = self.hub.clone();
        url.path_segments_mut()
            .map_err(|()| self.web.remote.unusable_options("HF_ENDPOINT has no path"))?
            .pop_if_empty()
            .extend(parts);
        Ok(url)
    }

    async fn look(&self) -> Result<Vec<RemoteFile>, StorageError> {
        let [owner, model] = &self.model;
        let mut url = self.url(["api", "models", owner, model, "revision", &self.revision])?;
        // Asks for sizes and digests too.
        url.set_query(Some("blobs=true"));
        let mut response = self.web.get(&url, None).await?;
        let mut text = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| self.web.transport(error))?
        {
            text.extend_from_slice(&part);
            if text.len() > LISTING_BYTES_MAX {
                return Err(self.web.remote.not_served("the listing has no end"));
            }
        }
        let info: ModelInfo =
            serde_json::from_slice(&text).map_err(|error| self.web.remote.not_served(error))?;
        let revision = info.sha.unwrap_or_else(|| self.revision.clone());
        let mut files = Vec::with_capacity(info.siblings.len());
        for sibling in info.siblings {
            if sibling.size != Some(0) {
                files.push(self.file(sibling, &revision)?);
            }
        }
        files.sort_by(|a, b| a.relative.cmp(&b.relative));
        Ok(files)
    }

    fn file(&self, sibling: Sibling, revision: &str) -> Result<RemoteFile, StorageError> {
        let [owner, model] = &self.model;
        let name = &sibling.rfilename;
        let is_plain = !name.contains(['\\', '\0'])
            && !name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !is_plain {
            return Err(StorageError::new(
                StorageErrorKind::Damaged,
                format!(
                    "the listing of '{}' names `{}`, which is no path below it",
                    self.web.remote.shown,
                    name.escape_debug()
                ),
            ));
        }
        let parts = [owner, model, "resolve", revision];
        let url = self.url(parts.into_iter().chain(name.split('/')))?;
        let sha256 = sibling.lfs.and_then(|large| large.sha256);
        Ok(RemoteFile {
            relative: PathBuf::from(name),
            key: url.to_string(),
            bytes: sibling.size,
            etag: sha256.clone().or(sibling.blob_id),
            sha256,
        })
    }

    async fn read_range(
        &self,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<Body, StorageError> {
        let url = Url::parse(&file.key).map_err(|error| self.web.remote.not_served(error))?;
        let response = self.web.get(&url, range.as_ref()).await?;
        Ok(Body {
            // Files come from other servers, which tag them in their own ways. The commit in the URL
            // says which content it is.
            etag: None,
            ..self.web.body(response)
        })
    }
}

impl Source for HuggingFaceSource {
    fn remote(&self) -> &Remote {
        &self.web.remote
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<RemoteFile>, StorageError>> {
        self.look().boxed()
    }

    fn read<'a>(
        &'a self,
        file: &'a RemoteFile,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StorageError>> {
        self.read_range(file, range).boxed()
    }
}
