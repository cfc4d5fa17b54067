//! The server's own certificate authority: proves the server to clients, and clients to the server.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use crate::{AccessError, User, files};

/// How long the authority's own certificate lasts.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// How far clocks of clients may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A certificate authority with its key.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    // Keys do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate with its key, both as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// The key.
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Authority {
    /// Returns the authority in `directory` (`ca.crt`, `ca.key`), which is made if there is none; `now` is since 1970.
    ///
    /// # Errors
    /// If the files cannot be read, written or understood.
    pub fn open(directory: &Path, now: Duration) -> Result<Self, AccessError> {
        let (certificate_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        let files = (files::read(&certificate_path)?, files::read(&key_path)?);
        let (certificate_pem, key) = match files {
            (Some(certificate), Some(key)) => {
                let key =
                    KeyPair::from_pem(&key).map_err(|error| files::malformed(&key_path, error))?;
                (certificate, key)
            }
            (None, None) => {
                let failed = |error| files::malformed(&certificate_path, error);
                let key = KeyPair::generate().map_err(failed)?;
                let mut params = authority_params();
                (params.not_before, params.not_after) = validity(now, AUTHORITY_LIFETIME);
                let certificate = params.self_signed(&key).map_err(failed)?;
                files::write(&key_path, &key.serialize_pem())?;
                files::write(&certificate_path, &certificate.pem())?;
                (certificate.pem(), key)
            }
            (Some(_), None) => {
                return Err(files::malformed(
                    &certificate_path,
                    "ca.key is missing beside it",
                ));
            }
            (None, Some(_)) => {
                return Err(files::malformed(&key_path, "ca.crt is missing beside it"));
            }
        };
        Ok(Self {
            certificate_pem,
            issuer: Issuer::new(authority_params(), key),
        })
    }

    /// Returns the authority's certificate, which clients trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns a certificate for a server under these names and addresses, valid for `lifetime` from `now` (since 1970).
    ///
    /// # Errors
    /// If a name is none.
    pub fn issue_server(
        &self,
        names: &[String],
        now: Duration,
        lifetime: Duration,
    ) -> Result<Issued, AccessError> {
        let mut params = CertificateParams::default();
        for name in names {
            let name = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_no_address) => {
                    let dns = name.as_str().try_into();
                    SanType::DnsName(dns.map_err(|error| cannot_issue(name, error))?)
                }
            };
            params.subject_alt_names.push(name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let first = names.first().map_or("coracle", String::as_str);
        self.issue(params, (first, &[]), now, lifetime)
    }

    /// Returns a certificate that proves its holder to be `user`: the common name is the user's, the organizations are
    /// the groups, as on Kubernetes.
    ///
    /// # Errors
    /// If the name cannot stand in a certificate.
    pub fn issue_client(
        &self,
        user: &User,
        now: Duration,
        lifetime: Duration,
    ) -> Result<Issued, AccessError> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, (&user.name, &user.groups), now, lifetime)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        (name, groups): (&str, &[String]),
        now: Duration,
        lifetime: Duration,
    ) -> Result<Issued, AccessError> {
        params.distinguished_name = DistinguishedName::new();
        // One organization for each group: rcgen keeps one value a type, so that groups are joined.
        if !groups.is_empty() {
            let joined = groups.join(GROUP_SEPARATOR);
            params
                .distinguished_name
                .push(DnType::OrganizationName, joined);
        }
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(now, lifetime);
        let failed = |error| cannot_issue(name, error);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// What stands between the groups of a certificate of ours.
pub(crate) const GROUP_SEPARATOR: &str = ",";

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "coracle-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn validity(now: Duration, lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let at = |time: Duration| OffsetDateTime::UNIX_EPOCH.saturating_add(clamped(time));
    (
        at(now.saturating_sub(CLOCK_SKEW)),
        at(now.saturating_add(lifetime)),
    )
}

fn clamped(time: Duration) -> time::Duration {
    time::Duration::try_from(time).unwrap_or(time::Duration::MAX)
}

fn cannot_issue(name: &str, reason: impl ToString) -> AccessError {
    AccessError {
        action: "cannot issue a certificate for",
        path: name.to_owned(),
        reason: reason.to_string(),
    }
}
