//! TLS for listeners: the server's certificate, and clients that may prove themselves by theirs.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::{CN, O};
use x509_cert::der::{Decode as _, Tag, Tagged as _};

use crate::User;
use crate::authority::GROUP_SEPARATOR;

/// The certificate and key of a server, as PEM.
#[derive(Clone, Copy)]
pub struct ServerIdentity<'a> {
    /// The certificate, followed by those that lead to one that clients trust.
    pub certificate_pem: &'a str,
    /// The key.
    pub key_pem: &'a str,
}

impl std::fmt::Debug for ServerIdentity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIdentity").finish_non_exhaustive()
    }
}

/// Certificates or keys that cannot be used.
#[derive(Debug, Error)]
#[error("{what}: {reason}")]
pub struct TlsError {
    what: &'static str,
    reason: String,
}

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> TlsError {
    move |reason| TlsError {
        what,
        reason: reason.to_string(),
    }
}

/// Returns TLS for a listener; clients may bring a certificate of an authority in `client_authorities_pem`, and need not.
///
/// # Errors
/// If a certificate or key is none, or they do not belong together.
pub fn server_config(
    identity: ServerIdentity<'_>,
    client_authorities_pem: &str,
) -> Result<Arc<ServerConfig>, TlsError> {
    let own = certificates(identity.certificate_pem, "the server's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
        .map_err(|error| failed("the server's key")(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(client_authorities_pem, "the clients' authority")? {
        roots
            .add(certificate)
            .map_err(|error| failed("the clients' authority")(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed("the clients' authority")(&error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("TLS")(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own, key)
        .map_err(|error| failed("the server's certificate and key")(&error))?;
    Ok(Arc::new(config))
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let list = read.map_err(|error| failed(what)(&error))?;
    if list.is_empty() {
        return Err(failed(what)(&"the PEM text holds no certificate"));
    }
    Ok(list)
}

/// Returns whom a certificate names that TLS has verified; `None` if it names nobody.
#[must_use]
pub fn user_of_certificate(der: &[u8]) -> Option<User> {
    let certificate = Certificate::from_der(der).ok()?;
    let (mut name, mut groups) = (None, Vec::new());
    for attribute in certificate.tbs_certificate().subject().iter() {
        let value = match attribute.value.tag() {
            Tag::Utf8String => {
                let text = attribute.value.decode_as::<Utf8StringRef<'_>>().ok()?;
                text.as_str().to_owned()
            }
            Tag::PrintableString => {
                let text = attribute.value.decode_as::<PrintableStringRef<'_>>().ok()?;
                text.as_str().to_owned()
            }
            _ => continue,
        };
        match attribute.oid {
            CN => name = Some(value),
            O => groups.extend(value.split(GROUP_SEPARATOR).map(str::to_owned)),
            _ => {}
        }
    }
    let name = name.filter(|name| !name.is_empty())?;
    Some(User::authenticated(&name, &groups))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Authority;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

    fn der(pem: &str) -> Vec<u8> {
        CertificateDer::from_pem_slice(pem.as_bytes())
            .unwrap()
            .to_vec()
    }

    #[test]
    fn an_authority_stays_and_its_certificates_name_users() {
        let directory = tempfile::tempdir().unwrap();
        let first = Authority::open(directory.path(), NOW).unwrap();
        let again = Authority::open(directory.path(), NOW).unwrap();
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        let user = User::authenticated("alice", &["devs".to_owned(), "ops".to_owned()]);
        let issued = again.issue_client(&user, NOW, YEAR).unwrap();
        assert_eq!(
            user_of_certificate(&der(&issued.certificate_pem)),
            Some(user)
        );
        assert_eq!(user_of_certificate(b"nothing"), None);
    }

    #[test]
    fn listeners_take_what_the_authority_issues() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), NOW).unwrap();
        let names = [
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        let issued = authority.issue_server(&names, NOW, YEAR).unwrap();
        let identity = ServerIdentity {
            certificate_pem: &issued.certificate_pem,
            key_pem: &issued.key_pem,
        };
        server_config(identity, authority.certificate_pem()).unwrap();
        assert!(server_config(identity, "").is_err());
        let other = authority.issue_server(&names, NOW, YEAR).unwrap();
        let mixed = ServerIdentity {
            key_pem: &other.key_pem,
            ..identity
        };
        let error = server_config(mixed, authority.certificate_pem()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the server's certificate and key"),
            "{error}"
        );
    }
}
