//! Storage URIs, read into what they name. Reaches for nothing: no file, no network.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::error::{StorageError, StorageErrorKind};

const BLOB_HOST_SUFFIX: &str = ".blob.core.windows.net";
const FILE_SHARE_HOST_SUFFIX: &str = ".file.core.windows.net";

/// What a storage URI names. Object prefixes carry no slash at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Local {
        path: PathBuf,
    },
    Pvc {
        claim: String,
        path: PathBuf,
    },
    S3 {
        bucket: String,
        prefix: String,
    },
    Gs {
        bucket: String,
        prefix: String,
    },
    Azure {
        account: String,
        container: String,
        prefix: String,
    },
    Http {
        url: Url,
    },
    HuggingFace {
        owner: String,
        model: String,
        revision: String,
    },
}

/// Checks that `uri` is of a form that [`Storage::fetch`](crate::Storage::fetch) takes.
///
/// # Errors
/// [`StorageErrorKind::UnsupportedUri`], with KServe's text.
pub fn check_uri(uri: &str) -> Result<(), StorageError> {
    Location::parse(uri).map(|_location| ())
}

impl Location {
    pub(crate) fn parse(uri: &str) -> Result<Self, StorageError> {
        if uri.starts_with('/') {
            return local(uri, uri);
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Err(unsupported(uri));
        };
        match scheme {
            "file" => local(uri, rest),
            "pvc" => pvc(uri, rest),
            "s3" => {
                bucket_and_prefix(uri, rest).map(|(bucket, prefix)| Self::S3 { bucket, prefix })
            }
            "gs" => {
                bucket_and_prefix(uri, rest).map(|(bucket, prefix)| Self::Gs { bucket, prefix })
            }
            "http" | "https" => web(uri),
            "hf" => hugging_face(uri, rest),
            _ => Err(unsupported(uri)),
        }
    }
}

impl fmt::Display for Location {
    /// Writes the URI without user names, passwords and query strings, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path } => write!(f, "file://{}", path.display()),
            Self::Pvc { claim, path } => write!(f, "pvc://{claim}/{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Gs { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
            Self::Azure {
                account,
                container,
                prefix,
            } => write!(
                f,
                "https://{account}{BLOB_HOST_SUFFIX}/{container}/{prefix}"
            ),
            Self::Http { url } => f.write_str(&without_secrets(url)),
            Self::HuggingFace {
                owner,
                model,
                revision,
            } => write!(f, "hf://{owner}/{model}:{revision}"),
        }
    }
}

/// Returns the URL without what may be secret in it.
pub(crate) fn without_secrets(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}"));
    format!(
        "{}://{}{}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        port.unwrap_or_default(),
        url.path()
    )
}

fn local(uri: &str, path: &str) -> Result<Location, StorageError> {
    if !path.starts_with('/') {
        return Err(refused(
            uri,
            "a file:// URI takes an absolute path: file:///models/iris",
        ));
    }
    Ok(Location::Local {
        path: PathBuf::from(path),
    })
}

fn pvc(uri: &str, rest: &str) -> Result<Location, StorageError> {
    let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
    if claim.is_empty() || claim.starts_with('.') {
        return Err(refused(
            uri,
            "write pvc://CLAIM/PATH with the claim's name first",
        ));
    }
    let path = Path::new(path.trim_start_matches('/'));
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !is_plain {
        return Err(refused(
            uri,
            "the path must stay in the volume: remove `..`",
        ));
    }
    Ok(Location::Pvc {
        claim: claim.to_owned(),
        path: path.components().collect(),
    })
}

fn bucket_and_prefix(uri: &str, rest: &str) -> Result<(String, String), StorageError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = bucket
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if bucket.is_empty() || bucket.starts_with('.') || !is_plain {
        return Err(refused(
            uri,
            "write SCHEME://BUCKET/PATH with a bucket of letters, digits, `-`, `_` and `.`",
        ));
    }
    Ok((bucket.to_owned(), prefix.trim_matches('/').to_owned()))
}

fn web(uri: &str) -> Result<Location, StorageError> {
    let url = Url::parse(uri).map_err(|source| refused(uri, "no sound URL").with_source(source))?;
    let host = url.host_str().unwrap_or_default();
    if host.ends_with(FILE_SHARE_HOST_SUFFIX) || url.path().ends_with(".git") {
        return Err(unsupported(&without_secrets(&url)));
    }
    // A query is a shared access signature: good for one plain download, not for a listing.
    let account = host
        .strip_suffix(BLOB_HOST_SUFFIX)
        .filter(|_| url.scheme() == "https" && url.query().is_none());
    if let Some(account) = account {
        let path = url.path().trim_matches('/');
        let (container, prefix) = path.split_once('/').unwrap_or((path, ""));
        if container.is_empty() || prefix.is_empty() {
            return Err(refused(
                uri,
                "write https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH",
            ));
        }
        return Ok(Location::Azure {
            account: account.to_owned(),
            container: container.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
        });
    }
    Ok(Location::Http { url })
}

fn hugging_face(uri: &str, rest: &str) -> Result<Location, StorageError> {
    let problem = "write hf://OWNER/MODEL or hf://OWNER/MODEL:REVISION";
    let (name, revision) = match rest.split_once(':') {
        Some((name, revision)) => (name, revision),
        None => (rest, "main"),
    };
    let (owner, model) = name.split_once('/').ok_or_else(|| refused(uri, problem))?;
    let is_name = |text: &str, others: &[u8]| {
        !text.is_empty()
            && !text.split('/').any(|part| matches!(part, "" | "." | ".."))
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    if !is_name(owner, b"-_.") || !is_name(model, b"-_.") || !is_name(revision, b"-_./") {
        return Err(refused(uri, problem));
    }
    Ok(Location::HuggingFace {
        owner: owner.to_owned(),
        model: model.to_owned(),
        revision: revision.to_owned(),
    })
}

fn unsupported(uri: &str) -> StorageError {
    StorageError::new(
        StorageErrorKind::UnsupportedUri,
        format!(
            "StorageURI not supported: storageUri, must be one of: [gs://, s3://, pvc://, file://, \
             https://, http://, hf://] or match https://{{}}.blob.core.windows.net/{{}}/{{}} or be an \
             absolute local path. StorageUri [{}] is not supported",
            cut(uri)
        ),
    )
}

fn refused(uri: &str, problem: &str) -> StorageError {
    StorageError::new(
        StorageErrorKind::UnsupportedUri,
        format!(
            "StorageURI not supported: StorageUri [{}]: {problem}",
            cut(uri)
        ),
    )
}

/// Cuts off what may be secret in a URI that is not parsed yet: the query, and all before an `@`.
fn cut(uri: &str) -> String {
    let uri = uri.split_once('?').map_or(uri, |(path, _query)| path);
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let secret_end = rest[..authority_end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[secret_end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_uris() {
        let cases: [(&str, &str); 22] = [
            ("/m/iris", "file:///m/iris"),
            ("file:///m/iris.bst", "file:///m/iris.bst"),
            ("pvc://claim", "pvc://claim/"),
            ("pvc://claim/a/./b", "pvc://claim/a/b"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("s3://bucket", "s3://bucket/"),
            (
                "gs://kfserving-examples/models/x",
                "gs://kfserving-examples/models/x",
            ),
            (
                "https://acc.blob.core.windows.net/box/a/b/",
                "https://acc.blob.core.windows.net/box/a/b",
            ),
            // A shared access signature is a plain download, and no part of what is shown.
            (
                "https://acc.blob.core.windows.net/box/a.tar?sig=x",
                "https://acc.blob.core.windows.net/box/a.tar",
            ),
            ("https://u:p@h:8443/m.onnx?token=x", "https://h:8443/m.onnx"),
            ("http://h/m.tar.gz", "http://h/m.tar.gz"),
            ("hf://owner/model", "hf://owner/model:main"),
            ("hf://owner/model:refs/pr/1", "hf://owner/model:refs/pr/1"),
            ("", ""),
            ("models/iris", ""),
            ("ftp://h/m", ""),
            ("oci://h/m", ""),
            ("https://h/x.git", ""),
            ("https://acc.file.core.windows.net/a/b", ""),
            ("S3://bucket/a", ""),
            ("hdfs://h/m", ""),
            ("ftp://u:p@h/m?x", ""),
        ];
        for (uri, expected) in cases {
            let shown = Location::parse(uri).map(|location| location.to_string());
            match shown {
                Ok(shown) => assert_eq!(shown, expected, "{uri}"),
                Err(error) => {
                    assert_eq!("", expected, "{uri}: {error}");
                    assert_eq!(error.kind(), StorageErrorKind::UnsupportedUri);
                    let text = error.to_string();
                    assert!(
                        text.starts_with(
                            "StorageURI not supported: storageUri, must be one of: [gs://, s3://,"
                        ),
                        "{text}"
                    );
                    assert!(!text.contains("u:p"), "{text}");
                    assert!(text.ends_with(&format!("StorageUri [{}] is not supported", cut(uri))));
                }
            }
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_known_scheme() {
        let cases: [(&str, &str); 11] = [
            ("pvc://claim/../x", "remove `..`"),
            ("pvc:///x", "claim's name first"),
            ("pvc://../x", "claim's name first"),
            ("file://relative/x", "absolute path"),
            ("s3:///x", "BUCKET"),
            ("s3://u:p@b/x", "BUCKET"),
            ("https://", "no sound URL"),
            ("https://acc.blob.core.windows.net/box", "CONTAINER/PATH"),
            ("hf://model", "OWNER/MODEL"),
            ("hf://a/b/c", "OWNER/MODEL"),
            ("hf://a/b:../x", "OWNER/MODEL"),
        ];
        for (uri, expected) in cases {
            let error = check_uri(uri).expect_err(uri);
            assert_eq!(error.kind(), StorageErrorKind::UnsupportedUri, "{uri}");
            assert!(error.to_string().contains(expected), "{uri}: {error}");
            assert!(!error.to_string().contains("u:p@"), "{error}");
        }
    }
}
