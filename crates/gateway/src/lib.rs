//! The HTTP server: listener, limits, routes, access log, metrics endpoint, shutdown.
//!
//! [`Server::bind`] takes the address, [`Server::run`] serves until told to stop. One event loop per worker; one
//! accept loop hands connections to them in turn. A request goes through `connection` (limits), `route`
//! (what is asked), `infer` (decode, run, encode) and back; `respond` makes the answers.
#![forbid(unsafe_code)]

mod codec;
mod connection;
mod infer;
mod limits;
mod log;
mod respond;
mod route;
mod scope;
mod server;

pub use limits::Limits;
pub use log::{AccessLog, Log, LogFormat, LogWriter};
pub use server::{BindError, Server, ServerConfig, ShutdownReport};
