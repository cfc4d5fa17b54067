//! Objects in S3, GCS and Azure, through one interface.

use std::error::Error as StdError;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{Body, RemoteFile, Source, plain_etag};
use crate::error::{StorageError, StorageErrorKind};
use crate::remote::Remote;

/// What stores write into a refusal that is about the credentials and not about the object.
const CREDENTIAL_PROBLEMS: [&str; 8] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "invalid_grant",
    "AADSTS",
];

/// Statuses with which a store says that it is the store's fault.
const PASSING_STATUSES: [&str; 4] = [
    "status code: 5",
    "status code: 429",
    "status code: 408",
    "error response: <?xml", // S3 may begin an answer with 200 and end it with an error
];

/// The objects under one prefix.
pub(crate) struct ObjectSource {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: ObjectPath,
    pub(crate) remote: Remote,
    /// A listing stops after one more than this.
    pub(crate) files_max: usize,
}

impl ObjectSource {
    async fn list_all(&self) -> Result<Vec<RemoteFile>, StorageError> {
        if let Some(file) = self.exact_object().await? {
            return Ok(vec![file]);
        }
        let mut listing = self.store.list(Some(&self.prefix));
        let mut files = Vec::new();
        while let Some(meta) = listing.next().await {
            let meta = meta.map_err(|error| explain(&self.remote, error))?;
            if meta.size > 0 {
                files.push(self.file(meta));
            }
            if files.len() > self.files_max {
                break;
            }
        }
        files.sort_by(|a, b| a.relative.cmp(&b.relative));
        Ok(files)
    }

    /// Returns the object that is called exactly like the prefix.
    async fn exact_object(&self) -> Result<Option<RemoteFile>, StorageError> {
        if self.prefix.is_root() {
            return Ok(None);
        }
        match self.store.head(&self.prefix).await {
            Ok(meta) if meta.size > 0 => Ok(Some(self.file(meta))),
            Ok(_empty) => Ok(None),
            // Who may not list is told 403 and not 404; and the answer to HEAD carries no reason.
            Err(
                object_store::Error::NotFound { .. }
                | object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. },
            ) => Ok(None),
            Err(error) => Err(explain(&self.remote, error)),
        }
    }

    fn file(&self, meta: ObjectMeta) -> RemoteFile {
        let below: PathBuf = meta
            .location
            .prefix_match(&self.prefix)
            .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect())
            .unwrap_or_default();
        let relative = if below.as_os_str().is_empty() {
            PathBuf::from(meta.location.filename().unwrap_or("model"))
        } else {
            below
        };
        RemoteFile {
            relative,
            key: meta.location.to_string(),
            bytes: Some(meta.size),
            etag: meta.e_tag.as_deref().map(plain_etag),
            sha256: None,
        }
    }

    async fn read_range(
        &self,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<Body, StorageError> {
        let location =
            ObjectPath::parse(&file.key).map_err(|error| explain(&self.remote, error.into()))?;
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let found = self
            .store
            .get_opts(&location, options)
            .await
            .map_err(|error| explain(&self.remote, error))?;
        let remote = self.remote.clone();
        Ok(Body {
            start: found.range.start,
            etag: found.meta.e_tag.as_deref().map(plain_etag),
            total: Some(found.meta.size),
            stream: found
                .into_stream()
                .map_err(move |error| explain(&remote, error).passing())
                .boxed(),
        })
    }
}

impl Source for ObjectSource {
    fn remote(&self) -> &Remote {
        &self.remote
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<RemoteFile>, StorageError>> {
        self.list_all().boxed()
    }

    fn read<'a>(
        &'a self,
        file: &'a RemoteFile,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StorageError>> {
        self.read_range(file, range).boxed()
    }
}

/// Turns a store's error into ours.
///
/// The client library gives a status only for some failures and keeps its own error types private, so
/// the rest is told apart by its text; a text that changes makes a message less exact, not wrong.
pub(crate) fn explain(remote: &Remote, error: object_store::Error) -> StorageError {
    let text = error.to_string();
    if CREDENTIAL_PROBLEMS
        .iter()
        .any(|problem| text.contains(problem))
    {
        return remote.authentication_failed(error);
    }
    // Listings are refused with the status in the text alone.
    let has_status = |status: &str| text.contains(&format!("status code: {status}"));
    match &error {
        object_store::Error::InvalidPath { .. } => {
            return StorageError::new(
                StorageErrorKind::UnsupportedUri,
                format!(
                    "'{}' holds a key that is no path (`//`, `.` or `..` in it); rename the object",
                    remote.shown
                ),
            )
            .with_source(error);
        }
        object_store::Error::Unauthenticated { .. } => return remote.authentication_failed(error),
        object_store::Error::PermissionDenied { .. } => return remote.access_denied(error),
        object_store::Error::NotFound { .. } => return remote.not_found(error),
        _ if has_status("401") => return remote.authentication_failed(error),
        _ if has_status("403") => return remote.access_denied(error),
        _ if has_status("404") => return remote.not_found(error),
        _ => {}
    }
    let is_transport = match transport_kind(&error) {
        Some(HttpErrorKind::Connect) => return remote.not_connected(error),
        kind => kind.is_some(),
    };
    let is_passing = is_transport || PASSING_STATUSES.iter().any(|status| text.contains(status));
    let explained = remote.not_served(error);
    if is_passing {
        explained.passing()
    } else {
        explained
    }
}

/// Returns how the transport failed, where it was the transport.
fn transport_kind(error: &object_store::Error) -> Option<HttpErrorKind> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(link) = cause {
        if let Some(transport) = link.downcast_ref::<HttpError>() {
            return Some(transport.kind());
        }
        cause = link.source();
    }
    None
}
