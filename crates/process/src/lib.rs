//! Runs replicas as operating-system processes: starts, probes, restarts with Kubernetes' back-off, stops, and leaves
//! no process behind, whichever way this one ends.
//!
//! Knows neither the wire formats nor the control plane. What a replica runs and what is known of it are serving's plain
//! data ([`ProcessSpec`](coracle_serving::ProcessSpec), [`ProcessState`](coracle_serving::ProcessState)). Start at
//! [`Replica`], then [`guard`]: every program runs under a guard process, which outlives the server by as long as it
//! takes to end the program.
#![forbid(unsafe_code)]

mod back_off;
mod cgroup;
mod expand;
mod fleet;
pub mod guard;
mod guarded;
pub mod leftovers;
mod log;
mod probe;
mod proc_table;
mod supervisor;

pub use back_off::BackOffPace;
pub use cgroup::Cgroups;
pub use fleet::{Fleet, FleetConfig};
pub use guarded::GuardCommand;
pub use log::{LogSink, Stream};
pub use proc_table::{Usage, usage};
pub use supervisor::{Launch, Replica};
