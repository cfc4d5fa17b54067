//! Desired state: an embedded Kubernetes-style API, the store of its objects, and the controllers that act on them.
#![forbid(unsafe_code)]

pub mod annotations;
mod controller;
mod failure;
pub mod hinge;
mod images;
mod manifests;
mod object;
mod prometheus;
mod rest;
mod selector;
mod server;
mod store;
mod usage;

pub use controller::rollouts::QueryBoard;
pub use controller::scaling::Decisions;
pub use controller::{Controller, ControllerConfig, Programs, Readiness};
pub use failure::Failure;
pub use images::Images;
pub use manifests::Manifest;
pub use prometheus::{ask as ask_prometheus, read_answer as read_prometheus_answer};
pub use rest::{Answer, Api, ApiReply, ApiRequest, Credentials, FollowedLog, Watch};
pub use server::{ApiServer, Tls};
pub use store::{Change, ChangeKind, Expired, Key, Store, StoreError, Stored, Write};
pub use usage::{LoadQueue, Usage, UsageCell, UsageReport};
