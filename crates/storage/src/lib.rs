//! A storage URI to a verified local directory.
//!
//! [`Storage::fetch`] takes a URI and credentials and returns a directory whose files are all there and
//! whose digest names them. Knows no Kubernetes: whoever calls brings secrets and volume directories.
#![forbid(unsafe_code)]

mod archive;
mod assembly;
mod attempts;
mod cache;
mod config;
mod digest;
mod download;
mod error;
mod leases;
mod local;
mod location;
mod locks;
mod python_index;
mod remote;
mod source;
mod storage;

pub use config::{
    Artifact, ArtifactRequest, Assembly, Credentials, PlacedRequest, Progress, StorageConfig,
    StorageLimits,
};
pub use error::{StorageError, StorageErrorKind};
pub use leases::Lease;
pub use location::check_uri;
pub use python_index::{IndexAccess, Member, PythonIndex, Wheel};
pub use storage::Storage;
