//! Neural graphs on `rten`, a runtime written in Rust: an engine for builds without any shared library.
//!
//! Empty without the feature `engine` (but for the tests of what is refused). `Rten` is where to start: it implements [`coracle_model::GraphEngine`]. The runtime knows four
//! datatypes and part of ONNX, and answers some graphs wrongly without saying so: `fitness` refuses those before it sees them, `graph`
//! loads and runs the others, `tensors` converts.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

#[cfg(feature = "engine")]
mod engine;
// What is refused is tested in builds without the runtime, too.
#[cfg(any(test, feature = "engine"))]
mod fitness;
#[cfg(feature = "engine")]
mod graph;
#[cfg(feature = "engine")]
mod tensors;

#[cfg(feature = "engine")]
pub use engine::Rten;
