//! Texts for graphs that take tokens: tokenised before, pooled or classified after.
//!
//! A directory as Hugging Face, Optimum and sentence-transformers write it holds a graph, a tokeniser (`tokenizer.json`) and what is
//! to be done before and after. [`TextSteps`] is where to start: it implements [`coracle_model::TextEngine`]. `settings` reads the
//! files, `tokens` tokenises, `trust` looks at what its file asks for, `padded` lays tokens out for the graph, `pooling`, `dense`, `classes` and `entities` make answers of what it gives, and
//! `text_model` puts them together. It opens no file itself and runs no graph.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

mod classes;
mod dense;
mod entities;
mod padded;
mod pooling;
mod settings;
mod steps;
mod task;
mod text_model;
mod texts;
mod tokens;
mod trust;

pub use steps::{TOKENIZER_FILE, TextSteps};
