//! Resource types: which kinds of objects there are, their schemas, defaults, rules and states.
//!
//! Knows no store, no socket and no clock. Start at [`Kind`] and [`schema::definitions`].
#![forbid(unsafe_code)]

mod columns;
pub mod defaulting;
pub mod experiment;
pub mod inference_service;
pub mod kind;
pub mod quantity;
pub mod rollout;
pub mod schema;
pub mod seldon;
pub mod seldon_experiment;
pub mod serving_runtime;
pub mod status;
pub mod structural;
pub mod validation;

pub use kind::{Access, Column, ColumnValue, KINDS, Kind, Origin, Subresource};
