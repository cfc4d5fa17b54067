//! Names a remote place in messages, in KServe's words, each with what to do next.

use std::error::Error;

use crate::error::{StorageError, StorageErrorKind};

/// Who stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    S3,
    Gcs,
    Azure,
    Http,
    HuggingFace,
    PythonIndex,
}

impl Provider {
    fn name(self) -> &'static str {
        match self {
            Self::S3 => "S3",
            Self::Gcs => "GCS",
            Self::Azure => "Azure",
            Self::Http => "HTTP",
            Self::HuggingFace => "HuggingFace",
            Self::PythonIndex => "Package index",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::S3 => "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the secret",
            Self::Gcs => "Set gcloud-application-credentials.json in the secret",
            Self::Azure => {
                "Set AZURE_STORAGE_ACCESS_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and \
                 AZURE_TENANT_ID, in the secret"
            }
            Self::Http => "Set https-host and headers in the secret",
            Self::PythonIndex => {
                "Put a user and a password into the URL of --index-url or PIP_INDEX_URL"
            }
            Self::HuggingFace => "Check the model's name, and set HF_TOKEN in the secret",
        }
    }
}

/// A remote place, as messages name it.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) provider: Provider,
    /// The URI without secrets.
    pub(crate) shown: String,
    /// Scheme, host and port.
    pub(crate) endpoint: String,
    pub(crate) is_anonymous: bool,
}

type Cause = Box<dyn Error + Send + Sync>;

impl Remote {
    pub(crate) fn authentication_failed(&self, cause: impl Into<Cause>) -> StorageError {
        let Self {
            provider, shown, ..
        } = self;
        StorageError::new(
            StorageErrorKind::AuthenticationFailed,
            format!(
                "{} authentication failed. {} for '{shown}'.",
                provider.name(),
                provider.remedy()
            ),
        )
        .with_source(cause)
    }

    pub(crate) fn access_denied(&self, cause: impl Into<Cause>) -> StorageError {
        let next = if self.is_anonymous {
            format!("No credentials were given. {}.", self.provider.remedy())
        } else {
            "Grant the credentials in the secret the right to list and read it.".to_owned()
        };
        StorageError::new(
            StorageErrorKind::AccessDenied,
            format!(
                "Access denied to {} resource '{}'. {next}",
                self.provider.name(),
                self.shown
            ),
        )
        .with_source(cause)
    }

    pub(crate) fn not_found(&self, cause: impl Into<Cause>) -> StorageError {
        StorageError::new(
            StorageErrorKind::NotFound,
            format!(
                "{} resource '{}' not found.",
                self.provider.name(),
                self.shown
            ),
        )
        .with_source(cause)
    }

    /// No connection came about; the next attempt may succeed.
    pub(crate) fn not_connected(&self, cause: impl Into<Cause>) -> StorageError {
        StorageError::new(
            StorageErrorKind::Unreachable,
            format!(
                "Failed to connect to {} endpoint '{}'. Check the endpoint's host, port, scheme and certificate.",
                self.provider.name(),
                self.endpoint
            ),
        )
        .with_source(cause)
        .passing()
    }

    /// The endpoint answered with a failure of its own, or the answer broke off.
    pub(crate) fn not_served(&self, cause: impl Into<Cause>) -> StorageError {
        StorageError::new(
            StorageErrorKind::Unreachable,
            format!(
                "{} endpoint '{}' did not serve '{}'.",
                self.provider.name(),
                self.endpoint,
                self.shown
            ),
        )
        .with_source(cause)
    }

    /// The credentials or options cannot be used at all.
    pub(crate) fn unusable_options(&self, cause: impl Into<Cause>) -> StorageError {
        StorageError::new(
            StorageErrorKind::AuthenticationFailed,
            format!(
                "{} access to '{}' cannot be set up from the secret's data and annotations.",
                self.provider.name(),
                self.shown
            ),
        )
        .with_source(cause)
    }

    /// The authorities that are to be believed cannot be read.
    pub(crate) fn no_ca_bundle(&self, name: &str) -> StorageError {
        StorageError::new(
            StorageErrorKind::AuthenticationFailed,
            format!(
                "Failed to find ca bundle file({name}) for '{}': it must be there and hold PEM certificates.",
                self.shown
            ),
        )
    }

    pub(crate) fn damaged(&self, file: &str, problem: &str) -> StorageError {
        StorageError::new(
            StorageErrorKind::Damaged,
            format!("file '{file}' of '{}' {problem}", self.shown),
        )
    }
}
