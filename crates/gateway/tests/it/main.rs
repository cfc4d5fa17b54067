//! The server over loopback: every route, every refusal, slow clients, shutdown.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

mod agreement;
mod batching;
mod bulkhead;
mod cache;
mod chaos;
mod client;
mod coming;
mod experiments;
mod experiments_of_programs;
mod fallback;
mod fixture;
mod flow;
mod forward;
mod forward_grpc;
mod gone;
mod grpc;
mod guarded;
mod headers;
mod hedge;
mod last_good;
mod lifecycle;
mod limits;
mod mlflow;
mod model_config;
mod observe;
mod ports;
mod refusals;
mod routes;
mod run_time;
mod seldon;
mod shadow;
mod tfs;
mod tfs_grpc;
mod trials;
mod under_load;
mod upstream;
mod upstream_grpc;
mod versions;
mod whole;
mod zero_copy;
