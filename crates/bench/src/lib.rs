//! A load tool for model servers: what they answer, how fast, and how much load they bear.
//!
//! Works against any server that speaks KServe's V1, the Open Inference Protocol (V2, with JSON or binary tensors) or its gRPC.
//! Start at [`run`]: a [`Plan`] in, a [`Report`] out, on threads of its own. The parts that decide are pure: [`Arrivals`],
//! [`slo::Search`], [`data`].
//!
//! A request's latency is counted from the time it was to be sent, not from when it could be: a server that stalls cannot make the load
//! wait and so hide how long callers would have waited (coordinated omission).
#![forbid(unsafe_code)]

mod connection;
pub mod data;
mod error;
mod http1;
mod http2;
mod load;
mod pacer;
mod payload;
mod plan;
pub mod plot;
mod progress;
mod record;
mod report;
mod run;
mod schedule;
mod server;
pub mod slo;
mod target;
mod tls;

pub use error::BenchError;
#[doc(hidden)]
pub use http1::read_answer;
pub use plan::{Level, Plan, Sweep, parse_sweep};
pub use progress::Progress;
pub use record::{FailureKind, Failures, Measured, Slot};
pub use report::{Report, Run, SloAnswer};
pub use run::run;
pub use schedule::{Arrivals, Rng};
pub use server::{ServerShare, TensorMetadata};
pub use target::{Protocol, Target};
pub use tls::TlsOptions;
