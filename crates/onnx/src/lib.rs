//! ONNX files: a bounded reader of their own format, and an evaluator of the graphs that exporters of classical models
//! write (`ai.onnx.ml` and the operators around it).
//!
//! [`load`] is where to start: `file` reads bytes, `compile` makes a `plan` of operators (`ops`), [`OnnxModel`] runs it.
//! Kernels of trees come from outside ([`TreeKernels`]), and so do tensors in other files ([`External`]): nothing here
//! opens a file. What cannot be run is an error at load that names the node and its operator.

#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod attributes;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod compile;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod division;
mod empty_sequence;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod ensemble;
mod error;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod file;
mod inputs;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod inside;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod json;
mod labels;
mod locale;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod made_up;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod model;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod narrow;
mod ops;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod outlets;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod outline;
mod plan;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod rewrite;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod scan;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod survey;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod tensor_file;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod weights;
#[deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]
mod wire;

pub use division::with_safe_divisions;
pub use empty_sequence::{EMPTY_SEQUENCE_NAME, empty_sequence_file};
pub use ensemble::{EnsembleNode, EnsembleTree, Test, TreeEnsemble, TreeKernels};
pub use file::is_onnx;
pub use inputs::{
    checked as checked_input, checked_of_any_rank, map_by_map, synthetic as synthetic_inputs,
};
pub use inside::with_weights_inside;
pub use json::{is_null, items_of_json, map_of_json, tensor_of_json};
pub use locale::with_portable_locale;
pub use made_up::MadeUp;
pub use model::{OnnxModel, columns, describe, load};
pub use narrow::Range;
pub use ops::values::ELEMENTS_MAX;
pub use outlets::{Outlets, Served, ServedOutlet, as_served};
pub use outline::{Outline, OutlineNode, outline};
pub use survey::{Survey, survey};
pub use tensor_file::{External, read_tensor_file};
pub use weights::large_weights;
