//! The server of HTTP/1.1, HTTP/2 and gRPC on one port: listener, limits, routes, access log, metrics endpoint, shutdown.
//!
//! [`Server::bind`] takes the address, [`Server::run`] serves until told to stop. One event loop per worker; one
//! accept loop hands connections to them in turn. A request goes through `connection` (limits), `route`
//! (what is asked), `infer` (decode, run, encode) and back; `respond` makes the answers.
#![forbid(unsafe_code)]

mod alone;
mod arriving;
mod body;
mod busy_poll;
mod cached;
mod chaos;
mod codec;
mod connection;
mod cors;
mod encoding;
mod experiment;
mod extensions;
mod forward;
mod gather;
mod grpc;
mod hold;

mod fallback;
mod flow;
mod infer;
mod joint;
mod limits;
mod log;
mod metrics;
mod model_control;
mod models;
mod outgoing;
mod outlets;
mod patience;
mod payload;
mod pooled;
mod preface;
mod request_id;
mod respond;
mod route;
mod scope;
mod seldon;
mod server;
mod shadow;
mod shared_memory;
mod spans;
mod terms;
mod trace;
mod transport;
mod warning;
mod whole;

pub use coracle_protocol::facts::IndexEntry;
pub use cors::CorsPolicy;
pub use experiment::EXPERIMENT_LINES;
pub use fallback::fits_outputs;
pub use flow::fits_flow;
pub use limits::Limits;
pub use log::{AccessLog, Log, LogFormat, LogWriter};
pub use model_control::{ControlError, ModelControl};
pub use outlets::OutletConfig;
pub use payload::{PayloadConfig, PayloadTarget};
pub use server::{BindError, Server, ServerConfig, ShutdownReport};
pub use spans::{Sampling, TraceConfig};
