//! From KServe's credentials to a client of S3, GCS or Azure.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path as ObjectPath;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
};

use super::objects::{self, ObjectSource};
use crate::config::{Credentials, StorageLimits};
use crate::error::StorageError;
use crate::location::Location;
use crate::remote::{Provider, Remote};

const DEFAULT_REGION: &str = "us-east-1";
/// Where the authorities of KServe's ConfigMap are among a secret's data.
const CA_BUNDLE: &str = "cabundle.crt";

/// Opens the store that `location` names; none for a location that is in no object store.
pub(crate) fn open(
    location: &Location,
    credentials: &Credentials,
    limits: &StorageLimits,
) -> Option<Result<ObjectSource, StorageError>> {
    let (opened, prefix) = match location {
        Location::S3 { bucket, prefix } => (
            open_s3(location, bucket, credentials, limits),
            ObjectPath::parse(prefix),
        ),
        Location::Gs { bucket, prefix } => (
            open_gs(location, bucket, credentials, limits),
            ObjectPath::parse(prefix),
        ),
        Location::Azure {
            account,
            container,
            prefix,
        } => (
            open_azure(location, (account, container), credentials, limits),
            ObjectPath::from_url_path(prefix),
        ),
        _ => return None,
    };
    Some(opened.and_then(|(store, remote)| {
        let prefix = prefix.map_err(|error| objects::explain(&remote, error.into()))?;
        Ok(ObjectSource {
            store,
            prefix,
            remote,
            files_max: limits.files_max,
        })
    }))
}

type Opened = Result<(Arc<dyn ObjectStore>, Remote), StorageError>;

fn open_s3(
    location: &Location,
    bucket: &str,
    credentials: &Credentials,
    limits: &StorageLimits,
) -> Opened {
    let region = credentials
        .s3_annotation("region")
        .or_else(|| credentials.first(&["AWS_DEFAULT_REGION", "AWS_REGION"]))
        .unwrap_or(DEFAULT_REGION);
    let endpoint = credentials
        .s3_annotation("endpoint")
        .map(|endpoint| s3_endpoint(endpoint, credentials));
    let key_id = credentials.first(&["AWS_ACCESS_KEY_ID"]);
    let secret = credentials.first(&["AWS_SECRET_ACCESS_KEY"]);
    let is_anonymous = (key_id.is_none() && secret.is_none())
        || credentials
            .s3_annotation("useanoncredential")
            .is_some_and(is_yes);
    let remote = Remote {
        provider: Provider::S3,
        shown: location.to_string(),
        endpoint: endpoint
            .clone()
            .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com")),
        is_anonymous,
    };
    let verifies_tls = !credentials.s3_annotation("verifyssl").is_some_and(is_no);
    let is_virtual = credentials
        .s3_annotation("usevirtualbucket")
        .is_some_and(is_yes);
    let mut options = client_options(&remote.endpoint, limits, verifies_tls);
    if verifies_tls {
        for certificate in ca_bundle(credentials, &remote)? {
            options = options.with_root_certificate(certificate);
        }
    }
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_virtual_hosted_style_request(is_virtual)
        .with_skip_signature(is_anonymous)
        .with_retry(no_retry())
        .with_client_options(options);
    if let Some(endpoint) = endpoint {
        // The client takes the endpoint of virtual hosted requests with the bucket in it.
        let with_bucket = endpoint.replacen("://", &format!("://{bucket}."), 1);
        builder = builder.with_endpoint(if is_virtual { with_bucket } else { endpoint });
    }
    if !is_anonymous {
        if let Some(key_id) = key_id {
            builder = builder.with_access_key_id(key_id);
        }
        if let Some(secret) = secret {
            builder = builder.with_secret_access_key(secret);
        }
        if let Some(token) = credentials.first(&["AWS_SESSION_TOKEN"]) {
            builder = builder.with_token(token);
        }
    }
    let store = builder
        .build()
        .map_err(|error| remote.unusable_options(error))?;
    Ok((Arc::new(store), remote))
}

/// Returns the authorities that are believed besides the system's: those of KServe's ConfigMap, which whoever calls
/// puts beside the secret's data, or of the file that the annotation names.
fn ca_bundle(credentials: &Credentials, remote: &Remote) -> Result<Vec<Certificate>, StorageError> {
    let read;
    let (name, pem) = match (
        credentials.first(&[CA_BUNDLE]),
        credentials.s3_annotation("cabundle"),
    ) {
        (Some(pem), _) => (CA_BUNDLE, pem),
        (None, Some(path)) => {
            read = std::fs::read_to_string(path)
                .map_err(|source| remote.no_ca_bundle(path).with_source(source))?;
            (path, read.as_str())
        }
        (None, None) => return Ok(Vec::new()),
    };
    let certificates = Certificate::from_pem_bundle(pem.as_bytes())
        .map_err(|source| remote.no_ca_bundle(name).with_source(source))?;
    if certificates.is_empty() {
        return Err(remote.no_ca_bundle(name));
    }
    Ok(certificates)
}

fn open_gs(
    location: &Location,
    bucket: &str,
    credentials: &Credentials,
    limits: &StorageLimits,
) -> Opened {
    let emulator = credentials
        .first(&["STORAGE_EMULATOR_HOST"])
        .map(|host| with_scheme(host, "http"));
    let key = credentials.first(&["gcloud-application-credentials.json"]);
    let remote = Remote {
        provider: Provider::Gcs,
        shown: location.to_string(),
        endpoint: emulator
            .clone()
            .unwrap_or_else(|| "https://storage.googleapis.com".to_owned()),
        is_anonymous: key.is_none(),
    };
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(no_retry())
        .with_client_options(client_options(&remote.endpoint, limits, true));
    if let Some(emulator) = &emulator {
        builder = builder.with_base_url(emulator);
    }
    builder = match key {
        Some(key) => builder.with_service_account_key(key),
        // Credentials must be given even so, or the client looks for some in the home directory.
        None => builder.with_skip_signature(true).with_credentials(Arc::new(
            StaticCredentialProvider::new(GcpCredential {
                bearer: String::new(),
            }),
        )),
    };
    let store = builder
        .build()
        .map_err(|error| remote.unusable_options(error))?;
    Ok((Arc::new(store), remote))
}

fn open_azure(
    location: &Location,
    (account, container): (&str, &str),
    credentials: &Credentials,
    limits: &StorageLimits,
) -> Opened {
    let endpoint = credentials
        .first(&["AZURE_STORAGE_ENDPOINT"])
        .map(|endpoint| with_scheme(endpoint, "https"));
    let access_key = credentials.first(&["AZURE_STORAGE_ACCESS_KEY"]);
    let client_id = credentials.first(&["AZURE_CLIENT_ID", "AZ_CLIENT_ID"]);
    let client_secret = credentials.first(&["AZURE_CLIENT_SECRET", "AZ_CLIENT_SECRET"]);
    let tenant_id = credentials.first(&["AZURE_TENANT_ID", "AZ_TENANT_ID"]);
    let remote = Remote {
        provider: Provider::Azure,
        shown: location.to_string(),
        endpoint: endpoint
            .clone()
            .unwrap_or_else(|| format!("https://{account}.blob.core.windows.net")),
        is_anonymous: access_key.is_none() && client_id.is_none(),
    };
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(container)
        .with_skip_signature(remote.is_anonymous)
        .with_retry(no_retry())
        .with_client_options(client_options(&remote.endpoint, limits, true));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    match (access_key, client_id, client_secret, tenant_id) {
        (Some(key), ..) => builder = builder.with_access_key(key),
        (None, Some(id), Some(secret), Some(tenant)) => {
            builder = builder.with_client_secret_authorization(id, secret, tenant);
        }
        (None, Some(_), ..) => {
            return Err(remote.unusable_options(
                "AZURE_CLIENT_ID needs AZURE_CLIENT_SECRET and AZURE_TENANT_ID beside it",
            ));
        }
        (None, None, ..) => {}
    }
    let store = builder
        .build()
        .map_err(|error| remote.unusable_options(error))?;
    Ok((Arc::new(store), remote))
}

/// Returns the endpoint as a URL: KServe writes `host:port`, with the scheme in `s3-usehttps`.
fn s3_endpoint(endpoint: &str, credentials: &Credentials) -> String {
    let scheme = match credentials.s3_annotation("usehttps") {
        Some(text) if is_no(text) => "http",
        _ => "https",
    };
    with_scheme(endpoint, scheme)
}

fn with_scheme(endpoint: &str, scheme: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("{scheme}://{endpoint}")
    }
}

fn is_yes(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

fn is_no(text: &str) -> bool {
    text == "0" || text.eq_ignore_ascii_case("false")
}

fn client_options(endpoint: &str, limits: &StorageLimits, verifies_tls: bool) -> ClientOptions {
    let is_plain = endpoint.starts_with("http://");
    ClientOptions::new()
        .with_allow_http(is_plain)
        // Certificates are not looked for where none is used: an image may have none.
        .with_no_system_certificates(is_plain)
        .with_allow_invalid_certificates(!verifies_tls)
        .with_connect_timeout(limits.request_timeout)
        .with_timeout(limits.request_timeout)
}

/// Attempts are counted in one place, ours.
fn no_retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        ..RetryConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_annotations() {
        let cases = [
            ("minio:9000", None, "https://minio:9000"),
            ("minio:9000", Some("1"), "https://minio:9000"),
            ("minio:9000", Some("0"), "http://minio:9000"),
            ("http://minio:9000/", Some("1"), "http://minio:9000"),
        ];
        for (endpoint, use_https, expected) in cases {
            let mut credentials = Credentials::default();
            if let Some(text) = use_https {
                credentials
                    .annotations
                    .insert("serving.kserve.io/s3-usehttps".to_owned(), text.to_owned());
            }
            assert_eq!(s3_endpoint(endpoint, &credentials), expected, "{endpoint}");
        }
    }

    #[test]
    fn broken_credentials_are_named_without_their_values() {
        crate::storage::install_tls();
        let location = Location::parse("gs://bucket/x").unwrap();
        let mut credentials = Credentials::default();
        credentials.data.insert(
            "gcloud-application-credentials.json".to_owned(),
            "{\"private_key\":\"hush\"}".to_owned(),
        );
        let opened = open(&location, &credentials, &StorageLimits::default()).unwrap();
        let error = opened.err().unwrap();
        assert!(error.to_string().contains("gs://bucket/x"), "{error}");
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
}
