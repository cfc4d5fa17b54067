//! What keeps a load from being run at all. Requests that fail are counted, not errors.

use coracle_base::Code;
use thiserror::Error;

/// Why no load was run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The target is not understood.
    #[error("{0}")]
    Target(String),
    /// The data cannot become requests.
    #[error("{0}")]
    Data(String),
    /// The load that is asked for is not understood.
    #[error("{0}")]
    Load(String),
    /// Nothing answers.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// Where it was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The server has no such model.
    #[error("{0}")]
    ModelNotFound(String),
    /// The first request failed.
    #[error("the first request was answered with {status}: {message}")]
    Refused {
        /// The status as it was.
        status: String,
        /// The server's words.
        message: String,
    },
    /// Certificates cannot be read or used.
    #[error("{0}")]
    Tls(String),
    /// This machine gives no thread, timer or socket.
    #[error("cannot start the load: {0}")]
    Machine(#[source] std::io::Error),
}

impl BenchError {
    /// Returns the failure in Coracle's closed list.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Target(_) | Self::Data(_) | Self::Load(_) | Self::Tls(_) => Code::InvalidArgument,
            Self::Unreachable { .. } => Code::Unavailable,
            Self::ModelNotFound(_) => Code::NotFound,
            Self::Refused { .. } => Code::FailedPrecondition,
            Self::Machine(_) => Code::ResourceExhausted,
        }
    }
}
