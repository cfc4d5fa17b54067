//! ONNX Runtime as an engine of graphs: found, checked and loaded when the first graph needs it.
//!
//! Nothing is linked: the library is a file that may be there or not ([`Places`]). [`OnnxRuntime`] is where to start: it
//! implements [`coracle_model::GraphEngine`]. `library` finds and loads the file, `session` runs a graph, `watchdog` ends runs in time, `tensors` converts.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

mod elf;
mod engine;
mod library;
mod messages;
mod needs;
mod outlets;
mod pool;
mod providers;
mod rows;
mod session;
mod settings;
mod setup;
mod shared_weights;
mod source;
mod structured;
mod tensors;
mod threads;
mod watchdog;

pub use engine::OnnxRuntime;
pub use library::{FILE_NAME, Found, Inspected, Places, inspect, too_old};
pub use settings::Settings;
