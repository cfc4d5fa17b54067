//! Who calls, and what they may do: users proven by certificates and tokens, and the roles that bindings give them.
//!
//! Owns no socket and no store: listeners bring certificates and headers, the API brings bindings. Start at [`User`],
//! then [`Authority`], [`TokenKeys`] and [`is_allowed`].
#![forbid(unsafe_code)]

mod authority;
mod files;
mod roles;
mod tls;
mod token;
mod user;

pub use authority::{Authority, Issued};
pub use roles::{Action, Binding, Role, Rule, Subject, is_allowed, rules_for};
pub use tls::{ServerIdentity, TlsError, server_config, user_of_certificate};
pub use token::{Claims, TokenError, TokenKeys, TokenStore};
pub use user::User;

/// A file of keys or certificates that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {reason}")]
pub struct AccessError {
    /// What was tried, such as `cannot read`.
    pub(crate) action: &'static str,
    /// The file.
    pub(crate) path: String,
    /// What went wrong.
    pub(crate) reason: String,
}
