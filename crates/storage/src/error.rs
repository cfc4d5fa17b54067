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

    /// Returns the message with what lies at the bottom of it, on one line, for people.
    ///
    /// Of the causes only the last is told: the ones between say where in which library it was met, often several times.
    #[must_use]
    pub fn explained(&self) -> String {
        let message = &self.detail.message;
        let mut last: Option<&(dyn Error + 'static)> = None;
        let mut cause = self.source();
        while let Some(error) = cause {
            last = Some(error);
            cause = error.source();
        }
        match last.map(|last| in_short(&last.to_string())) {
            Some(cause) if !cause.is_empty() && !message.contains(&cause) => {
                format!("{message} ({cause})")
            }
            _ => message.clone(),
        }
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

/// The most characters of a cause.
const CAUSE_MAX: usize = 300;

/// Returns what a cause says on one line; of the XML that stores answer, its code and message.
fn in_short(cause: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = cause.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(text.trim())
    };
    let text = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code.to_owned(),
        _ => cause.to_owned(),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(CAUSE_MAX).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("request failed: {source}")]
    struct Outer {
        source: Inner,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Inner(String);

    fn explained(cause: &str) -> String {
        let source = Inner(cause.to_owned());
        StorageError::new(StorageErrorKind::NotFound, "it is not there.")
            .with_source(Outer { source })
            .explained()
    }

    #[test]
    fn people_are_told_the_last_cause_once() {
        assert_eq!(
            explained("connection refused"),
            "it is not there. (connection refused)"
        );
        assert_eq!(
            explained(
                "404 Not Found: <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code><Message>The bucket\n does not exist</Message><HostId>x</HostId></Error>"
            ),
            "it is not there. (NoSuchBucket: The bucket does not exist)"
        );
        assert_eq!(explained("it is not there."), "it is not there.");
        let none = StorageError::new(StorageErrorKind::NotFound, "gone");
        assert_eq!(none.explained(), "gone");
        assert!(explained(&"x".repeat(5_000)).len() < 400);
    }
}
