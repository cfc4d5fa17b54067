//! Neural graphs on `rten`, a runtime written in Rust: an engine for builds without any shared library.
//!
//! Empty without the feature `engine`. `Rten` is where to start: it implements [`coracle_model::GraphEngine`]. The runtime knows four
//! datatypes and part of ONNX, and answers some graphs wrongly without saying so: `fitness` refuses those before it sees them, `graph`
//! loads and runs the others, `tensors` converts.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
#![cfg(feature = "engine")]

mod engine;
mod fitness;
mod graph;
mod tensors;

pub use engine::Rten;
