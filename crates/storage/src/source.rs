//! What a remote store offers: a listing with entity tags, and ranges of bytes.

mod hugging_face;
mod objects;
mod stores;
mod web;

pub(crate) use web::WebClient;

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::config::{Credentials, StorageLimits};
use crate::digest;
use crate::error::StorageError;
use crate::location::Location;
use crate::remote::Remote;

/// A file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Where it goes below the artifact's root; plain components only.
    pub(crate) relative: PathBuf,
    /// What the source calls it.
    pub(crate) key: String,
    /// Its size, where the store tells.
    pub(crate) bytes: Option<u64>,
    /// What changes when the content does; without quotes.
    pub(crate) etag: Option<String>,
    /// The SHA-256 that the store promises.
    pub(crate) sha256: Option<String>,
}

/// Bytes on their way.
pub(crate) struct Body {
    /// The offset of the first byte; a store that knows no ranges begins at zero.
    pub(crate) start: u64,
    /// The entity tag of what is being read.
    pub(crate) etag: Option<String>,
    /// The size of the whole file.
    pub(crate) total: Option<u64>,
    pub(crate) stream: BoxStream<'static, Result<Bytes, StorageError>>,
}

/// One place in a remote store. Tries everything once; whether a failure may pass is in the error.
pub(crate) trait Source: Send + Sync {
    /// How messages name it.
    fn remote(&self) -> &Remote;

    /// Lists the files that have content; empty where there are none.
    fn list(&self) -> BoxFuture<'_, Result<Vec<RemoteFile>, StorageError>>;

    /// Reads a range of a file; `None` is the whole file, of unknown size.
    fn read<'a>(
        &'a self,
        file: &'a RemoteFile,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StorageError>>;
}

/// Returns what changes when any file does; none if a file has no entity tag.
pub(crate) fn fingerprint(files: &[RemoteFile]) -> Option<String> {
    let mut texts = Vec::with_capacity(files.len() * 3);
    for file in files {
        texts.push(file.key.clone());
        texts.push(format!("{:?}", file.bytes));
        texts.push(file.etag.clone()?);
    }
    Some(digest::hash_texts(texts.iter().map(String::as_str)))
}

/// Strips what stores write around an entity tag in some answers and not in others.
pub(crate) fn plain_etag(etag: &str) -> String {
    let etag = etag.trim();
    etag.strip_prefix("W/")
        .unwrap_or(etag)
        .trim_matches('"')
        .to_owned()
}

/// Opens the store that `location` names; none for a location on this machine.
pub(crate) fn open(
    location: &Location,
    credentials: &Credentials,
    limits: &StorageLimits,
) -> Option<Result<Box<dyn Source>, StorageError>> {
    if let Some(opened) = stores::open(location, credentials, limits) {
        return Some(opened.map(|source| -> Box<dyn Source> { Box::new(source) }));
    }
    match location {
        Location::Http { url } => Some(
            web::HttpSource::try_new(url, credentials, limits)
                .map(|source| -> Box<dyn Source> { Box::new(source) }),
        ),
        Location::HuggingFace {
            owner,
            model,
            revision,
        } => {
            let model = hugging_face::ModelRevision {
                owner,
                model,
                revision,
            };
            Some(
                hugging_face::HuggingFaceSource::try_new(&model, credentials, limits)
                    .map(|source| -> Box<dyn Source> { Box::new(source) }),
            )
        }
        _ => None,
    }
}
