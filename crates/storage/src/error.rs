//! Why a storage URI did not become a directory.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use coracle_base::Code;

/// Says what kind of failure a [`StorageError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The URI is of no form that is supported.
    UnsupportedUri,
    /// Nothing is stored there, or the claim has no directory.
    NotFound,
    /// The store knows the caller and refuses.
    AccessDenied,
    /// The store does not accept the credentials, or they cannot be read.
    AuthenticationFailed,
    /// The store did not answer, or not usefully, within the attempts allowed.
    Unreachable,
    /// A bound of [`StorageLimits`](crate::StorageLimits) was reached.
    TooLarge,
    /// An archive holds something that may not be unpacked.
    UnsafeArchive,
    /// The bytes are not those that were promised.
    Damaged,
    /// The local file system refused.
    Local,
}

/// Why a storage URI did not become a directory. [`kind`](Self::kind) is for programs, `Display` for
/// people; the cause, where there is one, is the `source`.
///
/// Messages name URIs without user names, passwords and query strings, and never a credential.
pub struct StorageError {
    detail: Box<Detail>,
}

#[derive(Debug)]
struct Detail {
    kind: StorageErrorKind,
    message: String,
    is_passing: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StorageError {
    pub(crate) fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        Self {
            detail: Box::new(Detail {
                kind,
                message: message.into(),
                is_passing: false,
                source: None,
            }),
        }
    }

    pub(crate) fn local(doing: &str, path: &Path, source: io::Error) -> Self {
        let message = format!("cannot {doing} `{}`", path.display());
        Self::new(StorageErrorKind::Local, message).with_source(source)
    }

    /// Says why something that is to be served cannot be read.
    pub(crate) fn unreadable(path: &Path, source: io::Error) -> Self {
        let shown = path.display();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::new(
                StorageErrorKind::NotFound,
                format!("no file or directory at `{shown}`"),
            ),
            io::ErrorKind::PermissionDenied => Self::new(
                StorageErrorKind::AccessDenied,
                format!("`{shown}` may not be read by this process; change its owner or mode"),
            )
            .with_source(source),
            _ => Self::local("read", path, source),
        }
    }

    pub(crate) fn interrupted(source: tokio::task::JoinError) -> Self {
        Self::new(
            StorageErrorKind::Local,
            "file work ended early: the process is stopping or the work panicked",
        )
        .with_source(source)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.detail.source = Some(source.into());
        self
    }

    /// Marks a failure that the same request may not meet again.
    pub(crate) fn passing(mut self) -> Self {
        self.detail.is_passing = true;
        self
    }

    pub(crate) fn is_passing(&self) -> bool {
        self.detail.is_passing
    }

    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> StorageErrorKind {
        self.detail.kind
    }

    /// Returns the code that protocols map to a status.
    #[must_use]
    pub fn code(&self) -> Code {
        match self.detail.kind {
            StorageErrorKind::UnsupportedUri | StorageErrorKind::UnsafeArchive => {
                Code::InvalidArgument
            }
            StorageErrorKind::NotFound => Code::NotFound,
            StorageErrorKind::AccessDenied
            | StorageErrorKind::AuthenticationFailed
            | StorageErrorKind::Damaged => Code::FailedPrecondition,
            StorageErrorKind::Unreachable => Code::Unavailable,
            StorageErrorKind::TooLarge => Code::ResourceExhausted,
            StorageErrorKind::Local => Code::Internal,
        }
    }
}

impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageError")
            .field("kind", &self.detail.kind)
            .field("message", &self.detail.message)
            .field("source", &self.detail.source)
            .finish()
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail.message)
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.detail.source.as_deref()?;
        Some(source)
    }
}
