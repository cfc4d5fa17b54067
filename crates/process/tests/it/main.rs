//! Real programs under real guards: whatever they do, the state says it, and nothing of them is left.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

mod fixture;
mod fleet;
mod grpc_probes;
mod life;
mod orphans;
mod probes;
